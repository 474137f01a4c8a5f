"""Tests for :mod:`txapns.daemon.faces.apple.responses`, beside those of the face."""

from __future__ import annotations

import json

from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.errors import AppQueueFull, Malformed, TooLarge, Unavailable, UnknownApp
from txapns.daemon.faces.apple.responses import Response, response_to_failure, response_to_outcomes
from txapns.daemon.values import Outcome, State

__all__ = ["FailureTests", "OutcomeTests", "ResponseTests"]


def outcome(state: State, status: int = 0, reason: str = "") -> dict[int, Outcome]:
    """Make an outcome, by its number."""
    return {7: Outcome(7, "id", "chess", state, status, reason, None, 1, 0.0, 1.0)}


class ResponseTests(SynchronousTestCase):
    """How an answer is written."""

    def test_accepted(self) -> None:
        """Without a reason there is no body; without an id, a new one is made."""
        response = Response(200, unique_id="unique")
        self.assertEqual(response.body(), b"")
        fields = dict(response.fields("id"))
        self.assertEqual(fields, {b":status": b"200", b"apns-id": b"id", b"apns-unique-id": b"unique"})
        first, second = (dict(response.fields())[b"apns-id"] for _ in range(2))
        self.assertEqual((len(first), first == second), (36, False))

    def test_error(self) -> None:
        """A reason and a timestamp, in milliseconds, are JSON; a delay is at least one second."""
        response = Response(410, "Unregistered", 1_700_000_000.5)
        self.assertEqual(json.loads(response.body()), {"reason": "Unregistered", "timestamp": 1_700_000_000_500})
        fields = dict(Response(429, "TooManyRequests", retry_after=0.1).fields("id"))
        self.assertEqual((fields[b"content-type"], fields[b"retry-after"]), (b"application/json", b"1"))
        self.assertIn(b"accept-encoding", dict(Response(415, "UnsupportedMediaType").fields("id")))


class FailureTests(SynchronousTestCase):
    """The answer to a notification that could not be accepted."""

    def test_refusals(self) -> None:
        """Each refusal of the intake has one of Apple's answers."""
        cases = [
            (AppQueueFull("full", 5.0), Response(429, "TooManyRequests", retry_after=5.0)),
            (Unavailable("busy", 2.0), Response(503, "ServiceUnavailable", retry_after=2.0)),
            (TooLarge("large"), Response(413, "PayloadTooLarge")),
            (UnknownApp("removed"), Response(400, "TopicDisallowed")),
            (Malformed("not an object"), Response(400, "PayloadEmpty")),
        ]
        for error, expected in cases:
            self.assertEqual(response_to_failure(Failure(error)), expected)

    def test_internal_error(self) -> None:
        """Everything else is logged, and answered with 500."""
        with capturedLogs() as events:
            self.assertEqual(response_to_failure(Failure(ValueError("unlucky"))), Response(500, "InternalServerError"))
        self.assertEqual(len(events), 1)
        self.flushLoggedErrors(ValueError)


class OutcomeTests(SynchronousTestCase):
    """The answer after waiting for Apple's."""

    def test_each(self) -> None:
        """It is Apple's, or the nearest one that Apple has."""
        cases = [
            (outcome(State.ACCEPTED, 200), (200, "")),
            (outcome(State.REJECTED, 400, "BadDeviceToken"), (400, "BadDeviceToken")),
            (outcome(State.DEAD, 503, "ServiceUnavailable"), (503, "ServiceUnavailable")),
            (outcome(State.EXPIRED), (400, "BadExpirationDate")),
            (outcome(State.REJECTED), (400, "PayloadEmpty")),
            (outcome(State.SUPERSEDED), (200, "")),
            (outcome(State.DEAD), (503, "ServiceUnavailable")),
            ({}, (503, "ServiceUnavailable")),
        ]
        for found, expected in cases:
            response = response_to_outcomes(found)
            self.assertEqual((response.status, response.reason), expected)
