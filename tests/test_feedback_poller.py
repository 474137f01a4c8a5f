"""Tests for :mod:`txapns.feedback_poller`: the feedback service, read once a day."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from tests.test_feedback import FEEDBACK, FeedbackCase, after, some
from txapns import FeedbackPoller
from txapns.feedback import DeadToken

DAY = 86_400.0


class Callback:
    """
    What a poller calls.

    :param answers: what to do at each call: return this, or raise it.
    """

    def __init__(self, *answers: object) -> None:
        self.given: list[list[DeadToken]] = []
        self._answers = list(answers)

    def __call__(self, dead: list[DeadToken]) -> object:
        """Keep what is given."""
        self.given.append(dead)
        answer = self._answers.pop(0) if self._answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


class PollerTests(FeedbackCase):
    """The service that reads once a day."""

    def start(self, callback: Callable[[list[DeadToken]], object], interval: float = DAY) -> FeedbackPoller:
        """Start a poller."""
        poller = FeedbackPoller(self.client, callback, interval, clock=self.simulator.reactor)  # type: ignore[arg-type]
        poller.startService()
        self.simulator.flush()
        return poller

    def stop(self, poller: FeedbackPoller) -> None:
        """Stop it."""
        self.simulator.result(poller.stopService())
        self.assertFalse(poller.running)
        self.assert_idle()

    def test_days(self) -> None:
        """It asks at once and each day, and calls only when there is something."""
        callback = Callback()
        first = self.kill(some(2))
        poller = self.start(callback)
        self.assertEqual(callback.given, [first])
        self.simulator.advance(DAY - 1)
        self.assertEqual(self.simulator.reactor.attempts, 1)
        self.simulator.advance(DAY)
        self.assertEqual((self.simulator.reactor.attempts, len(callback.given)), (2, 1))
        second = self.kill(some(2, start=2))
        self.simulator.advance(DAY)
        self.assertEqual(callback.given, [first, second])
        self.stop(poller)
        self.simulator.advance(2 * DAY)
        self.assertEqual(self.simulator.reactor.attempts, 3)

    def test_no_overlap(self) -> None:
        """It waits for the callback, be its answer a Deferred or a coroutine, before it asks again."""

        async def wait(deferred: Deferred[None]) -> None:
            await deferred

        for wrap in (lambda deferred: deferred, wait):
            self.setUp()
            self.kill(some(1))
            working: Deferred[None] = Deferred()
            poller = self.start(Callback(wrap(working)), interval=100.0)
            self.simulator.advance(250)
            self.assertEqual(self.simulator.reactor.attempts, 1)
            working.callback(None)
            self.simulator.advance(50)
            self.assertEqual(self.simulator.reactor.attempts, 2)
            self.stop(poller)

    def test_callback_fails(self) -> None:
        """What a callback failed with, at once or later, is offered again, before what is new, until it succeeds."""
        later: Deferred[None] = Deferred()
        callback = Callback(KeyError("at once"), later)
        first = self.kill(some(2))
        poller = self.start(callback, interval=100.0)
        self.simulator.advance(100)
        later.errback(KeyError("later"))
        second = self.kill(some(1, start=2))
        self.simulator.advance(100)
        self.simulator.advance(100)
        self.assertEqual(callback.given, [first, first, first + second])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)
        self.stop(poller)

    def test_callback_changes_its_list(self) -> None:
        """A callback may do with the list what it likes, and is offered it whole again if it then fails."""
        dead = self.kill(some(2))
        given: list[list[DeadToken]] = []

        def empty(pairs: list[DeadToken]) -> None:
            given.append(list(pairs))
            pairs.clear()
            raise KeyError

        poller = self.start(empty, interval=100.0)
        self.simulator.advance(100)
        self.assertEqual(given, [dead, dead])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)
        self.stop(poller)

    def test_reading_fails(self) -> None:
        """A list that cannot be read is logged, and asked for again the next time."""
        dead = self.kill(some(1))
        server = self.simulator.reactor.servers.pop(FEEDBACK)
        callback = Callback()
        with capturedLogs() as events:
            poller = self.start(callback, interval=100.0)
            self.simulator.advance(1)
        [event] = [event for event in events if event["log_namespace"] == "txapns.feedback_poller"]
        reason = "nothing listens at 127.0.0.1:2196; check host and port"
        self.assertEqual((event["log_level"].name, event["reason"]), ("warn", reason))
        self.simulator.reactor.servers[FEEDBACK] = server
        self.simulator.advance(100)
        self.assertEqual(callback.given, [dead])
        self.stop(poller)

    def test_offered_again_though_reading_fails(self) -> None:
        """What is owed to the callback is offered also when nothing new can be read."""
        dead = self.kill(some(1))
        callback = Callback(KeyError())
        poller = self.start(callback, interval=100.0)
        del self.simulator.reactor.servers[FEEDBACK]
        self.simulator.advance(101)
        self.assertEqual(callback.given, [dead, dead])
        self.flushLoggedErrors(KeyError)
        self.stop(poller)

    def test_stop_while_it_reads(self) -> None:
        """Stopping ends the reading, and what was read is handed over when the service is started again."""
        dead = self.kill(some(3))
        self.simulator.feedback_fault = after(2, lambda server, _: server.stall())
        callback = Callback()
        poller = self.start(callback)
        stopping = poller.stopService()
        self.simulator.flush()
        self.successResultOf(stopping)
        self.assert_idle()
        self.assertEqual(callback.given, [])
        self.simulator.feedback_fault = None
        poller.startService()
        self.simulator.flush()
        self.assertEqual(callback.given, [dead])
        self.stop(poller)

    def test_stop_while_the_callback_works(self) -> None:
        """Stopping waits for the callback, and does not disturb it."""
        self.kill(some(1))
        working: Deferred[None] = Deferred()
        poller = self.start(Callback(working))
        stopping = poller.stopService()
        self.simulator.advance(100)
        self.assertNoResult(stopping)
        self.assertNoResult(working)
        working.callback(None)
        self.successResultOf(stopping)
        self.assert_idle()

    def test_closed_client(self) -> None:
        """A poller whose client is closed says so in the log, and stops as ever."""
        self.simulator.result(self.client.close())
        with capturedLogs() as events:
            poller = self.start(Callback())
        self.assertIn("the client is closed", [event.get("reason") for event in events])
        self.stop(poller)

    def test_interval(self) -> None:
        """An interval is a positive number."""
        for interval in (0, -1, float("inf"), float("nan")):
            self.assertRaises(ValueError, self.start, Callback(), interval)
