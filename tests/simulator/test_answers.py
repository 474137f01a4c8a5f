"""Tests for :mod:`txapns.simulator.answers`; what the server makes of them is in the tests of the control API."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from txapns.simulator.answers import PlannedAnswers

__all__ = ["PlannedAnswersTests"]

A = "aa" * 32
PUSH = {":path": f"/3/device/{A}", "apns-topic": "com.example.app", "apns-push-type": "alert"}


class PlannedAnswersTests(SynchronousTestCase):
    """Answers that are planned."""

    def setUp(self) -> None:
        """Make a list."""
        self.answers = PlannedAnswers(Random(1))

    def statuses(self, count: int, headers: dict[str, str]) -> list[int | None]:
        """Take as many answers."""
        taken = [self.answers.take(headers) for _ in range(count)]
        return [planned and planned.status for planned in taken]

    def test_conditions(self) -> None:
        """All conditions have to be met."""
        self.answers.add(token=A, topic="com.example.app", push_type="alert", status=400)
        self.assertEqual(self.statuses(1, {**PUSH, ":path": f"/3/device/{A.upper()}"}), [400])
        for change in ({":path": "/3/device/bb"}, {"apns-topic": "com.example"}, {"apns-push-type": "voip"}):
            self.assertEqual(self.statuses(1, {**PUSH, **change}), [None])
        self.assertEqual(self.statuses(1, {":path": "/1/apps/com.example.app/channels"}), [None])

    def test_order(self) -> None:
        """The earliest is given until it is used up; then the next."""
        first = self.answers.add(status=500, times=2)
        self.answers.add(status=503)
        self.assertEqual(self.statuses(4, PUSH), [500, 500, 503, 503])
        self.assertEqual((first.given, len(self.answers)), (2, 1))

    def test_broadcast(self) -> None:
        """A broadcast has the topic of its path."""
        self.answers.add(topic="com.example.app", status=400)
        self.assertEqual(self.statuses(1, {":path": "/4/broadcasts/apps/com.example.app"}), [400])

    def test_protocols(self) -> None:
        """A status is for its protocol alone, and what only ends a connection is not for a push by hand."""
        for facts, over in (
            ({"status": 500}, {"http2", "hand"}),
            ({"status": 500, "drop": True}, {"http2", "hand"}),
            ({"error_packet": 8}, {"binary"}),
            ({"error_packet": 8, "delay": 1.0}, {"binary"}),
            ({"status": 410, "error_packet": 8}, {"http2", "binary", "hand"}),
            ({"delay": 1.0}, {"http2", "binary", "hand"}),
            ({"drop": True}, {"http2", "binary"}),
            ({"goaway": True}, {"http2", "binary"}),
        ):
            self.answers.remove()
            planned = self.answers.add(**facts)
            found = {each for each in ("http2", "binary", "hand") if self.answers.take(PUSH, each) is planned}
            self.assertEqual((found, planned.given), (over, len(over)), facts)

    def test_chance(self) -> None:
        """Chance is the given source's."""
        self.answers.add(status=500, chance=0.25)
        given = self.statuses(1_000, PUSH).count(500)
        self.assertTrue(200 < given < 300, given)
