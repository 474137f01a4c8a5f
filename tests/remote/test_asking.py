"""Tests for :mod:`txapns.remote.asking`; how it is driven is in the tests of the clients."""

from __future__ import annotations

import math
from types import SimpleNamespace

import httpx
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txapns.errors import ConnectFailed, DaemonRefused, OutcomeUnknown
from txapns.remote import asking
from txapns.remote.asking import Attempt, Daemon, Request

__all__ = ["AskTests"]


class AskTests(SynchronousTestCase):
    """Requests to a daemon, which is not asked for real."""

    def setUp(self) -> None:
        """Have a clock that the test advances."""
        self.clock = Clock()
        self.clock.advance(1_000.0)
        self.patch(asking, "time", SimpleNamespace(monotonic=self.clock.seconds))

    def delay(self, retry_after: str) -> float:
        """Return how long a client waits after a daemon has asked it to wait."""
        steps = Daemon(["http://127.0.0.1"], "dinner", 1e6).ask(Request("GET", "/v1"))
        next(steps)
        delay = steps.send(httpx.Response(429, headers=[(b"Retry-After", retry_after.encode())]))
        assert isinstance(delay, float)
        return delay

    def test_retry_after(self) -> None:
        """The daemon says in how many seconds to ask again; what is not a number of digits says nothing."""
        self.assertEqual(self.delay("30"), 30.0)
        for text in ("²", "٣٠", "3_0", "soon", "-5"):
            self.assertLess(self.delay(text), 30.0, text)

    def attempt(self, patience: float, deadline: float = math.inf) -> Attempt:
        """Make the first attempt of a request that waits for outcomes."""
        made = next(Daemon(["http://127.0.0.1"], "dinner", patience).ask(Request("POST", "/v1", deadline=deadline)))
        assert isinstance(made, Attempt)
        return made

    def test_patience(self) -> None:
        """An answer is waited for as long as the caller is patient, and the daemon answers before that is over."""
        for patience, timeout, held in ((0.1, 5.0, 4), (20.0, 20.0, 16), (60.0, 60.0, 48), (1e6, 60.0, 48)):
            made = self.attempt(patience)
            self.assertEqual((made.timeout, made.held), (timeout, held), patience)

    def test_deadline(self) -> None:
        """Outcomes are waited for no longer than until the deadline, rounded up to a second."""
        for left, held in ((-5.0, 0), (2.5, 3), (1e6, 48)):
            self.assertEqual(self.attempt(60.0, self.clock.seconds() + left).held, held, left)

    def test_foreign(self) -> None:
        """What is not the daemon's answer is not taken for one, and what it was asked for is unknown if it is good."""
        for status, kind in ((200, OutcomeUnknown), (404, DaemonRefused), (301, DaemonRefused)):
            asking = Daemon(["http://any:secret@127.0.0.1"], "dinner", 1e6).ask(Request("POST", "/v1"))
            next(asking)
            with self.assertRaises(kind) as raised:
                asking.send(httpx.Response(status, content=b"<html>"))
            said = f"http://127.0.0.1 answers {status}, but not as the daemon does; is this its address?"
            self.assertEqual(str(raised.exception), said)

    def test_unreachable(self) -> None:
        """If nobody can be reached, the message names the last address, without a password in it."""
        asking = Daemon(["http://any:secret@127.0.0.1"], "dinner", -1.0).ask(Request("POST", "/v1"))
        next(asking)
        error = self.assertRaises(ConnectFailed, asking.throw, httpx.ConnectError("no"))
        self.assertEqual(str(error), "no connection to the daemon at http://127.0.0.1: ConnectError: no")

    def test_endless(self) -> None:
        """A number without end is not waited for."""
        with self.assertRaisesRegex(Exception, "429"):
            self.delay("9" * 400)
