"""What every queue does with notifications that are not sent before a date, or are sent at a rate."""

from __future__ import annotations

from typing import Any

import msgspec

from tests.daemon.store.contract import LONGEST, StoreContract, message
from txapns.daemon.values import State

__all__ = ["ScheduleContract"]


class ScheduleContract(StoreContract):
    """The tests of it."""

    def accept_later(self, count: int = 1, seconds: float | None = None, rate: int | None = None) -> list[str]:
        """Accept one message for later, and return its ids."""
        sent = message(self.world, count)
        not_before = None if seconds is None else self.date + seconds
        self.do("accept", [msgspec.structs.replace(sent, not_before=not_before, rate=rate)])
        return list(sent.apns_ids)

    def leased(self) -> list[str]:
        """Lease what is due, for good, and return the ids."""
        return [each.apns_id for each in self.lease(10_000, seconds=1e9)]

    def next_due(self) -> Any:
        """In how many seconds something is due."""
        return self.do("next_due", "chess") - self.now

    def test_not_before(self) -> None:
        """It counts as waiting, is due at its date and not before, and holds nothing up that is due now."""
        later = self.accept_later(2, 50.0)
        self.case.assertApproximates(self.next_due(), 50.0, 0.05)
        self.case.assertEqual(
            (self.leased(), self.do("due_apps"), self.world.queue.waiting("chess").count), ([], [], 2)
        )
        [depth] = self.do("depths")
        self.case.assertEqual((depth.waiting, depth.leased), (2, 0))
        self.case.assertApproximates(depth.oldest - self.now, 50.0, 0.05)
        [entry, _] = self.ask("listed", "chess", State.WAITING, 10)
        self.case.assertApproximates(entry.due, self.date + 50.0, 0.05)
        now = self.accept(1)
        self.case.assertEqual(self.leased(), now)
        self.world.clock.advance(49.9)
        self.case.assertEqual(self.leased(), [])
        self.world.clock.advance(0.2)
        self.case.assertEqual((self.do("due_apps"), self.leased()), (["chess"], later))

    def test_sooner(self) -> None:
        """What is accepted later for an earlier date is due before; what has a date in the past, at once."""
        third, second = self.accept_later(1, 50.0), self.accept_later(1, 20.0)
        first = self.accept_later(1, -3_600.0)
        self.case.assertEqual(self.leased(), first)
        self.case.assertApproximates(self.next_due(), 20.0, 0.05)
        self.world.clock.advance(30)
        self.case.assertEqual(self.leased(), second)
        self.world.clock.advance(30)
        self.case.assertEqual(self.leased(), third)

    def test_rate(self) -> None:
        """At a rate, each device of a request is due a moment after the other, whatever the messages and the tokens."""
        first, second = message(self.world, 3), message(self.world, 4)
        second = msgspec.structs.replace(second, tokens=[b"a" * 32, b"b" * 100, b"c" * 100, b"d"])
        for seconds, start in ((None, 0.0), (5.0, 5.0)):
            date = None if seconds is None else self.date + seconds
            sent = [msgspec.structs.replace(each, not_before=date, rate=2) for each in (first, second)]
            self.do("accept", sent)
            self.world.clock.advance(max(0.0, start - 0.01))
            found: list[str] = []
            for n in range(7):
                found += self.leased()
                self.case.assertLessEqual(len(found), n + 1)
                self.world.clock.advance(0.5)
            found += self.leased()
            self.case.assertEqual(found, [*first.apns_ids, *second.apns_ids])

    def test_rate_of_many(self) -> None:
        """A message for thousands of devices is spread evenly from the first to the last."""
        self.accept_later(3_500, rate=1_000)
        for _ in range(7):
            self.world.clock.advance(0.5)
            self.case.assertLessEqual(abs(len(self.leased()) - 500), 10)
        self.case.assertEqual(len(self.leased()), 0)

    def test_restart(self) -> None:
        """A date is kept over restarts, however far ahead, and so is the rest of what is sent at a rate."""
        later, paced = self.accept_later(1, 30 * 86_400.0), self.accept_later(6, rate=1)
        self.world.clock.advance(1.5)
        found = self.leased()
        self.world.restart()
        self.case.assertEqual(self.leased(), found[:2])
        for _ in range(10):
            self.world.clock.advance(0.5)
            found += self.leased()
        self.case.assertEqual(found, paced)
        self.world.restart()
        self.case.assertEqual(self.leased(), paced)
        self.case.assertLess(30 * 86_400.0 - self.next_due(), 10.0)
        self.world.clock.advance(30 * 86_400.0)
        self.case.assertEqual(self.lease(10_000)[-1].apns_id, later[0])

    def test_restart_after_clock_set(self) -> None:
        """After a start with another date, the date decides, in both directions."""
        ids = self.accept_later(1, 3_600.0)
        for step, due in ((1_800.0, 1_800.0), (-86_400.0, 88_200.0), (86_399.0, 1_801.0)):
            self.world.clock.ahead += step
            self.world.restart()
            self.case.assertEqual(self.leased(), [])
            self.case.assertApproximates(self.next_due(), due, 0.5)
        self.world.clock.ahead += 1_802.0
        self.world.restart()
        self.case.assertEqual(self.leased(), ids)

    def test_retried(self) -> None:
        """Once it was tried, it is as any other: a retry is due when that is due, and bounded at a start."""
        ids = self.accept_later(1, 5.0)
        self.world.clock.advance(5.1)
        self.settle(self.lease(), State.WAITING, 503, "Shutdown", None, self.now + 3_600.0)
        self.case.assertApproximates(self.next_due(), 3_600.0, 0.05)
        self.world.restart()
        self.world.clock.advance(LONGEST + 0.1)
        [again] = self.lease()
        self.case.assertEqual((again.apns_id, again.attempts), (ids[0], 1))
        self.settle([again], State.DEAD)
        self.case.assertEqual((self.ask("retry", "chess", 10), self.leased()), (1, ids))

    def test_rate_of_app(self) -> None:
        """No more are leased a second than the app may send, half a second's worth at once, and as many in the end."""
        self.accept(100)
        found: list[int] = []
        for turn in range(41):
            some = self.do("lease", "chess", 50, self.now + 1e6, None, None, 10)
            found += [each.number for each in some]
            self.case.assertLessEqual(len(found), 10 * (turn * 0.25 + 0.5) + 1)
            self.world.clock.advance(0.25)
        self.case.assertGreaterEqual(len(found), 98)

    def test_rate_of_app_with_clock_set(self) -> None:
        """To set the wall clock makes nothing wait that the rate allows, and allows nothing more."""
        self.accept(100)
        found = 0
        for turn, step in enumerate((0.0, -3_600.0, 7_200.0, -1.0, 0.5) * 8):
            self.world.clock.ahead += step
            found += len(self.do("lease", "chess", 50, self.now + 1e6, None, None, 10))
            self.case.assertLessEqual(found, 10 * (turn * 0.25 + 0.5) + 1)
            self.world.clock.advance(0.25)
        self.case.assertGreaterEqual(found, 95)

    def test_purged(self) -> None:
        """What waits for its date can be deleted."""
        self.accept_later(3, 50.0)
        self.case.assertEqual(self.ask("purge", "chess", State.WAITING, 10), 3)
        self.case.assertIsNone(self.do("next_due", "chess"))
