"""Tests for :mod:`txapns.daemon.sending.breaker`."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.sending.breaker import RECENTLY, CircuitBreaker, Trouble
from txapns.daemon.store.cluster import Circuit

__all__ = ["CircuitBreakerTests"]

DOWN = Trouble("the gateway is down", trips=False)
REFUSED = Trouble("the credential is refused", trips=True)


class CircuitBreakerTests(SynchronousTestCase):
    """When something is sent, and when not."""

    def setUp(self) -> None:
        """Make a breaker without jitter, at a time other than 0."""
        self.clock = Clock()
        self.clock.advance(1_000.0)
        self.reports: list[Circuit | None] = []
        self.breaker = CircuitBreaker("chess", self.clock, lambda: 0.0, self.reports.append)

    def failed(self, trouble: Trouble) -> float:
        """Record that nothing got through; returns the pause from now on."""
        self.breaker.record(False, trouble)
        return self.breaker.until - self.clock.seconds()

    def failed_again(self, trouble: Trouble) -> float:
        """Do the same when the pause is over."""
        self.clock.advance(self.breaker.until - self.clock.seconds())
        return self.failed(trouble)

    def test_closed(self) -> None:
        """It begins closed, and stays so while it is not known that nothing gets through."""
        self.breaker.record(True, None)
        self.breaker.record(False, None)
        self.assertTrue(self.breaker.closed)
        self.assertEqual((self.breaker.tripped, self.breaker.reason, self.breaker.since), (False, "", None))
        self.assertLess(self.breaker.until, self.clock.seconds())

    def test_open(self) -> None:
        """Pauses grow from a second to a minute; the circuit is open since the first failure."""
        pauses = [self.failed(DOWN), *(self.failed_again(DOWN) for _ in range(7))]
        self.assertEqual(pauses, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0])
        self.assertEqual((self.breaker.closed, self.breaker.tripped), (False, False))
        self.assertEqual((self.breaker.reason, self.breaker.since), (DOWN.reason, 1_000.0))

    def test_tripped(self) -> None:
        """Pauses grow from ten seconds to a quarter of an hour, and the log says once why."""
        with capturedLogs() as events:
            pauses = [self.failed(REFUSED), *(self.failed_again(REFUSED) for _ in range(7))]
        self.assertEqual(pauses, [10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 900.0])
        self.assertTrue(self.breaker.tripped)
        self.assertEqual([(event["app"], event["reason"]) for event in events], [("chess", REFUSED.reason)])

    def test_same_trouble(self) -> None:
        """What was under way together counts once."""
        self.assertEqual([self.failed(DOWN) for _ in range(5)], [1.0] * 5)
        self.assertEqual(self.failed_again(DOWN), 2.0)

    def test_trips_while_open(self) -> None:
        """An open circuit is tripped at once; a tripped one does not become an open one before its pause is over."""
        self.failed(DOWN)
        self.clock.advance(0.5)
        self.assertEqual(self.failed(REFUSED), 10.0)
        self.assertEqual((self.breaker.tripped, self.breaker.since), (True, 1_000.5))
        self.assertEqual(self.failed(DOWN), 10.0)
        self.assertEqual(self.breaker.reason, REFUSED.reason)
        self.assertEqual(self.failed_again(DOWN), 2.0)
        self.assertFalse(self.breaker.tripped)

    def test_works(self) -> None:
        """One answer about a notification closes it, and the next pause is the first."""
        for trouble, pause in (DOWN, 1.0), (REFUSED, 10.0):
            self.failed(trouble)
            self.failed_again(trouble)
            self.breaker.record(True, None)
            self.assertTrue(self.breaker.closed)
            self.assertEqual(self.failed(trouble), pause)
            self.breaker.close()

    def test_log(self) -> None:
        """The log says in a line each that the circuit opens, trips, and that it works again, also after a change."""
        with capturedLogs() as events:
            self.failed(DOWN)
            self.failed_again(DOWN)
            self.failed(REFUSED)
            self.clock.advance(60.0)
            self.breaker.close()  # the app was changed
            self.breaker.record(True, None)
            self.breaker.record(True, None)
            self.failed(DOWN)
            self.breaker.close()
            self.failed(DOWN)
            self.breaker.record(True, None)
        self.assertEqual(
            [formatEvent(event) for event in events],
            [
                "the circuit of chess is open: the gateway is down",
                "chess is tripped: the credential is refused",
                "chess works again, after 61 s",
                "the circuit of chess is open: the gateway is down",
                "chess works again, after 0 s",
            ],
        )
        self.assertEqual({event["app"] for event in events}, {"chess"})

    def test_no_app(self) -> None:
        """Where there is no app it is tripped without a pause, since the first time that this was found."""
        self.breaker.trip("there is no app chess")
        self.clock.advance(5.0)
        self.breaker.trip("there is no app chess")
        self.assertEqual((self.breaker.tripped, self.breaker.since), (True, 1_000.0))
        self.assertEqual((self.breaker.until, self.breaker.reason), (1_000.0, "there is no app chess"))

    # The other nodes.

    def test_reported(self) -> None:
        """The other nodes are told when it opens, trips and closes, once each."""
        self.failed(DOWN)
        self.failed(DOWN)
        self.failed(REFUSED)
        self.breaker.record(True, None)
        self.breaker.record(True, None)
        opened = Circuit(DOWN.reason, False, 1_000.0, 1_001.0)
        tripped = Circuit(REFUSED.reason, True, 1_000.0, 1_010.0)
        self.assertEqual(self.reports, [opened, tripped, None])

    def test_not_reported(self) -> None:
        """The others are not told that there is no app here, or what they told themselves."""
        self.breaker.trip("there is no app chess")
        self.breaker.adopt(Circuit(DOWN.reason, False, 990.0, 1_005.0))
        self.breaker.adopt(None)
        self.assertEqual(self.reports, [])

    def test_adopted(self) -> None:
        """The pause of another node is this node's, too, and ends with its report."""
        for trouble in DOWN, REFUSED:
            self.breaker.adopt(Circuit(trouble.reason, trouble.trips, 990.0, 1_005.0))
            self.assertEqual((self.breaker.tripped, self.breaker.reason), (trouble.trips, trouble.reason))
            self.assertEqual((self.breaker.since, self.breaker.until), (990.0, 1_005.0))
            self.breaker.adopt(None)
            self.assertEqual((self.breaker.closed, self.breaker.limited), (True, False))

    def test_pauses_of_others(self) -> None:
        """A failure counts once for all: after the pause of another node, this node's next is the longer one."""
        self.breaker.adopt(Circuit(DOWN.reason, False, 1_000.0, 1_001.0))
        self.breaker.adopt(Circuit(DOWN.reason, False, 1_000.0, 1_001.2))
        self.assertEqual(self.failed_again(DOWN), 2.0)
        self.breaker.adopt(Circuit(DOWN.reason, False, 1_000.0, self.breaker.until))
        self.assertEqual(self.failed_again(DOWN), 4.0)

    def test_refuted(self) -> None:
        """Where something got through a moment ago, the circuit stays closed, and the others are told."""
        self.breaker.record(True, None)
        self.clock.advance(RECENTLY)
        self.breaker.adopt(Circuit(DOWN.reason, False, 1_000.0, 1_005.0))
        self.assertTrue(self.breaker.closed)
        self.assertEqual(self.reports, [None])
        self.clock.advance(0.1)
        self.breaker.adopt(Circuit(DOWN.reason, False, 1_000.0, 1_005.0))
        self.assertFalse(self.breaker.closed)

    def test_works_elsewhere(self) -> None:
        """A node that found the trouble itself sends a few when another says that it is over, and then knows."""
        self.failed(DOWN)
        self.failed_again(DOWN)
        self.breaker.adopt(None)
        self.assertEqual((self.breaker.closed, self.breaker.limited), (True, True))
        self.assertEqual(self.failed(DOWN), 4.0)
        self.breaker.adopt(None)
        self.breaker.record(True, None)
        self.assertEqual((self.breaker.closed, self.breaker.limited), (True, False))
        self.assertEqual(self.failed(DOWN), 1.0)
        self.breaker.adopt(None)
        self.breaker.adopt(Circuit(DOWN.reason, False, 1_000.0, self.clock.seconds() + 9.0))
        self.breaker.adopt(None)
        self.assertEqual((self.breaker.closed, self.breaker.limited), (True, True))
        self.breaker.close()
        self.assertFalse(self.breaker.limited)
