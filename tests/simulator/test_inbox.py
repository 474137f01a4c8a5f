"""Tests for :mod:`txapns.simulator.inbox`."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.simulator.peers import DEVICE
from txapns._network.clocks import wall_clock
from txapns.simulator.inbox import Inbox, Reception
from txapns.wire.requests import Request

__all__ = ["KeptTests", "SecretTests"]


class KeptTests(SynchronousTestCase):
    """What an inbox keeps."""

    def setUp(self) -> None:
        """Make one that keeps ten."""
        self.inbox = Inbox(wall_clock(Clock()), keep=10)

    def note(self, count: int) -> None:
        """Record notifications."""
        for _ in range(count):
            self.inbox.note("http2", b"a", b"{}", {}, None)

    def test_latest(self) -> None:
        """The latest are kept, and few others; all are counted, and numbered on."""
        self.note(1_000)
        kept = [each.id for each in self.inbox.received]
        self.assertEqual((kept[-1], kept), (1_000, list(range(kept[0], 1_001))))
        self.assertTrue(10 <= len(kept) < 210 + 1, len(kept))
        self.assertEqual(self.inbox.counters()["received"], 1_000)

    def test_after(self) -> None:
        """What came after a number is found, whether that is still kept or not."""
        self.note(500)
        self.assertEqual([each.id for each in self.inbox.after(498)], [499, 500])
        self.assertEqual([len(self.inbox.after(each)) for each in (500, 9_999)], [0, 0])
        self.assertEqual(self.inbox.after(0), self.inbox.received)
        self.inbox.clear()
        self.note(2)
        self.assertEqual([each.id for each in self.inbox.after(0)], [501, 502])

    def test_nothing(self) -> None:
        """An inbox that keeps nothing counts."""
        inbox = Inbox(wall_clock(Clock()), keep=0)
        inbox.note("http2", b"a", b"{}", {}, "BadTopic", 400)
        self.assertEqual((inbox.received, inbox.counters()["rejected"]), ([], {"BadTopic": 1}))


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
