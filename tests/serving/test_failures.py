"""Tests for :mod:`txapns._serving.failures`, beside those of the connections."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txapns._serving.failures import FailureLog, described, openssl_reasons

__all__ = ["DescribedTests", "FailureLogTests"]


class FailureLogTests(SynchronousTestCase):
    """What is logged."""

    def test_many(self) -> None:
        """There are only so many lines in a second; the rest are counted."""
        clock = Clock()
        failures = FailureLog(clock, "a face")
        with capturedLogs() as events:
            for _ in range(100):
                failures.add("192.0.2.1:1000", "something")
            clock.advance(1.0)
            failures.add("192.0.2.1:1000", "something")
        line = "a face: the connection of 192.0.2.1:1000 failed: something"
        self.assertEqual([*map(formatEvent, events)], [line] * 10 + ["a face: 90 more connections failed", line])


class DescribedTests(SynchronousTestCase):
    """How a failure is described."""

    def test_place(self) -> None:
        """The place is the last one in our own code, and the description has one line of limited length."""
        try:
            FailureLog(None, "a face").add("", "")  # type: ignore[arg-type]
        except AttributeError:
            self.assertRegex(described(Failure()), r"^AttributeError: .* \(line \d+ of .*/failures\.py, add\)$")
        text = described(Failure(ValueError("one\ntwo" + "x" * 1_000)))
        self.assertEqual((text[:20], len(text)), ("ValueError: one twox", 312))

    def test_openssl(self) -> None:
        """OpenSSL's reasons are given, if it gives any."""
        reasons = [("SSL routines", "", "no shared cipher"), ("SSL routines", "", "bad record")]
        self.assertEqual(openssl_reasons(Failure(SSL.Error(reasons))), "no shared cipher; bad record")
        self.assertEqual(openssl_reasons(Failure(SSL.Error())), "the peer has gone")
