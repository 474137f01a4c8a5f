"""Tests for :mod:`txapns.remote.asking`; how it is driven is in the tests of the clients."""

from __future__ import annotations

import httpx
from twisted.trial.unittest import SynchronousTestCase

from txapns.remote.asking import Daemon, Request

__all__ = ["AskTests"]


class AskTests(SynchronousTestCase):
    """Requests to a daemon, which is not asked for real."""

    def delay(self, retry_after: str) -> float:
        """Return how long a client waits after a daemon has asked it to wait."""
        asking = Daemon(["http://127.0.0.1"], "dinner", 1e6).ask(Request("GET", "/v1"))
        next(asking)
        delay = asking.send(httpx.Response(429, headers=[(b"Retry-After", retry_after.encode())]))
        assert isinstance(delay, float)
        return delay

    def test_retry_after(self) -> None:
        """The daemon says in how many seconds to ask again; what is not a number of digits says nothing."""
        self.assertEqual(self.delay("30"), 30.0)
        for text in ("²", "٣٠", "3_0", "soon", "-5"):
            self.assertLess(self.delay(text), 30.0, text)

    def test_endless(self) -> None:
        """A number without end is not waited for."""
        with self.assertRaisesRegex(Exception, "429"):
            self.delay("9" * 400)
