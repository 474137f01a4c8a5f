"""Tests for :mod:`txapns.simulator.inbox`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.simulator.peers import DEVICE
from txapns.simulator.inbox import Reception
from txapns.wire.requests import Request

__all__ = ["SecretTests"]


class SecretTests(SynchronousTestCase):
    """What may be logged."""

    def test_repr(self) -> None:
        """The repr of a request and of its record shows no device token, provider token or payload."""
        headers = {":path": f"/3/device/{DEVICE}", "authorization": "bearer secret"}
        request = Request(1, [(name.encode(), value.encode()) for name, value in headers.items()], b"secret")
        self.assertEqual(repr(request), "Request(stream=1, headers=<2 fields>, body=<6 bytes>)")
        reception = Reception("http2", bytes.fromhex(DEVICE), b"secret", headers, None)
        self.assertEqual(
            repr(reception),
            "Reception(protocol='http2', token=abab…abab, payload=<6 bytes>, headers=<2 fields>, reason=None)",
        )
