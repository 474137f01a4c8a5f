"""
What every queue does, whatever it is made of.

A test case for one derives from :class:`QueueContract`, a Hypothesis test from :class:`QueueMachine`, and says how to
make it. The date is :data:`START` when it begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.daemon.fakes import DatedClock
from txapns._network.clocks import wall_clock
from txapns.daemon.errors import KeyConflict, Unavailable
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.interfaces import IFeedbackLog, IQueue
from txapns.daemon.values import Depth, Idempotency, Leased, Message, Outcome, Receipt, Settlement, State

__all__ = ["LONGEST", "START", "QueueContract", "QueueMachine", "World", "result"]

START = 1_700_000_000.0
LONGEST = 10.0  # for how many seconds something is put off over a restart
HEADERS = {"apns-topic": "com.example.chess", "apns-push-type": "alert"}
PAYLOAD = b'{"aps":{"alert":"Hello \xc3\xbc"}}'


class World(Protocol):
    """A queue and what is around it."""

    clock: DatedClock
    queue: Any
    log: Any

    def restart(self) -> None:
        """Stop everything, and make it anew from what is stored."""

    def stop(self) -> None:
        """Stop everything."""


def result(clock: Clock, deferred: Deferred[Any]) -> Any:
    """Let a little time pass until there is a result; returns or raises it."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    for _ in range(5):
        if not found:
            clock.advance(0.002)
    assert found, "nothing came of it"
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return found[0]


def message(world: World, count: int = 1, app: str = "chess", start: int = 0) -> Message:
    """Make a message for so many devices."""
    tokens = [(start + n).to_bytes(32, "big") for n in range(count)]
    return Message(app, PAYLOAD, HEADERS, tokens, Identifiers(wall_clock(world.clock)).take(count))


class QueueContract:
    """The tests. Whoever derives from it is a test case, too."""

    def make_world(self) -> World:
        """Make a queue with nothing in it, and start it."""
        raise NotImplementedError

    def setUp(self) -> None:
        """Make one."""
        self.world = self.make_world()

    def tearDown(self) -> None:
        """Stop it."""
        self.world.stop()

    def do(self, name: str, *arguments: Any) -> Any:
        """Call a method of the queue, and wait for what comes of it."""
        return result(self.world.clock, getattr(self.world.queue, name)(*arguments))

    def read(self, name: str, *arguments: Any) -> Any:
        """Call a method of the feedback log, and wait for what comes of it."""
        return result(self.world.clock, getattr(self.world.log, name)(*arguments))

    def accept(self, count: int = 1, app: str = "chess", start: int = 0) -> list[str]:
        """Accept one message; returns its ids."""
        [receipt] = self.do("accept", [message(self.world, count, app, start)])
        return list(receipt.apns_ids)

    def lease(self, count: int = 100, app: str = "chess", seconds: float = 60.0) -> list[Leased]:
        """Lease for some time."""
        return list(self.do("lease", app, count, self.now + seconds))

    def outcome(self, apns_id: str) -> Outcome:
        """Find what is known of a notification."""
        found = self.do("outcome", apns_id)
        assert isinstance(found, Outcome)
        return found

    def settle(self, leased: Sequence[Leased], state: State, *arguments: Any) -> None:
        """Settle all these alike."""
        self.do("settle", [Settlement(each.number, state, *arguments) for each in leased])

    @property
    def case(self) -> SynchronousTestCase:
        """This, as the test case that it is."""
        assert isinstance(self, SynchronousTestCase)
        return self

    @property
    def now(self) -> float:
        """The time, by the clock that measures."""
        return float(self.world.clock.seconds())

    @property
    def date(self) -> float:
        """The time, by the clock on the wall."""
        return self.world.clock.now()

    def test_interfaces(self) -> None:
        """They have all that is asked for."""
        verifyObject(IQueue, self.world.queue)
        verifyObject(IFeedbackLog, self.world.log)

    # Accepting

    def test_accepted_and_leased(self) -> None:
        """What was accepted comes out as it was, in order, with its ids, and with one content for one message."""
        first, second = message(self.world, 3), Message("chess", b'{"n":2}', {}, [b"\xff" * 100, b"\x00"], [ID, OTHER])
        accepted_at = self.date
        receipts = self.do("accept", [first, second])
        self.case.assertEqual([each.apns_ids for each in receipts], [list(first.apns_ids), [ID, OTHER]])
        self.case.assertEqual({each.earlier for each in receipts}, {False})
        leased = self.lease()
        self.case.assertEqual([each.apns_id for each in leased], [*first.apns_ids, ID, OTHER])
        self.case.assertEqual([each.number for each in leased], [*receipts[0].numbers, *receipts[1].numbers])
        self.case.assertEqual([each.token for each in leased], [*first.tokens, *second.tokens])
        self.case.assertEqual({each.attempts for each in leased}, {0})
        for each in leased:
            self.case.assertAlmostEqual(each.accepted_at, accepted_at, 2)
        contents = [each.content for each in leased]
        self.case.assertEqual([len({id(each) for each in contents}), contents[0] is contents[2]], [2, True])
        self.case.assertEqual((contents[0].app, contents[0].payload, contents[0].headers), ("chess", PAYLOAD, HEADERS))
        self.case.assertEqual((contents[4].payload, contents[4].headers), (b'{"n":2}', {}))

    def test_many(self) -> None:
        """A message may be for thousands of devices with tokens of different lengths."""
        tokens = [bytes([n % 251]) * (32 if n % 1700 else 64) for n in range(5_000)]
        ids = Identifiers(wall_clock(self.world.clock)).take(5_000)
        self.do("accept", [Message("chess", PAYLOAD, HEADERS, tokens, ids)])
        leased = self.lease(10_000)
        self.case.assertEqual([each.token for each in leased], tokens)
        self.case.assertEqual([each.apns_id for each in leased], ids)

    def test_nothing_to_accept(self) -> None:
        """No message, and a message for nobody, are no harm, and have no ids."""
        nobody = Message("chess", PAYLOAD, HEADERS, [], [])
        self.case.assertEqual(self.do("accept", []), [])
        receipts = self.do("accept", [nobody, message(self.world), nobody])
        self.case.assertEqual([(len(each.numbers), len(each.apns_ids)) for each in receipts], [(0, 0), (1, 1), (0, 0)])
        self.case.assertEqual(len(self.lease()), 1)

    def test_no_uuid(self) -> None:
        """An id that is none is refused with its message, and the queue goes on."""
        for wrong in ("x", "0" * 36, ID + "0"):
            with self.case.assertRaises(ValueError):
                self.do("accept", [Message("chess", PAYLOAD, HEADERS, [b"1"], [wrong])])
        self.accept()
        self.case.assertEqual((len(self.lease()), self.world.queue.depth("chess")), (1, 1))

    def test_apps_are_apart(self) -> None:
        """Each app has a queue of its own."""
        for app in ("chess", "news", "chess"):
            self.accept(2, app)
        self.case.assertEqual([len(self.lease(app=app)) for app in ("news", "chess", "none")], [2, 4, 0])

    # Idempotency

    def test_same_request(self) -> None:
        """A request that comes again is not stored again, and has the numbers and ids of the first time."""
        key = Idempotency("caller", "key", b"digest")
        sent = [message(self.world, 2), message(self.world, 0), message(self.world, 1)]
        first = self.do("accept", sent, key)
        again = self.do("accept", [message(self.world, 2), message(self.world, 0), message(self.world, 1)], key)
        self.case.assertEqual([len(each.numbers) for each in again], [2, 0, 1])
        self.case.assertEqual(again, [attrs.evolve(each, earlier=True) for each in first])
        self.case.assertEqual((len(self.lease()), self.world.queue.depth("chess")), (3, 3))

    def test_same_request_at_once(self) -> None:
        """So it is when both come at the same time, and after a restart."""
        key = Idempotency("caller", "key", b"digest")
        both = [self.world.queue.accept([message(self.world, 2)], key) for _ in range(2)]
        first, second = (result(self.world.clock, each) for each in both)
        self.world.restart()
        third = self.do("accept", [message(self.world, 2)], key)
        self.case.assertEqual([second, third], [[attrs.evolve(each, earlier=True) for each in first]] * 2)
        self.case.assertEqual([each.number for each in self.lease()], list(first[0].numbers))

    def test_same_request_purged(self) -> None:
        """A request that comes again after its notifications were deleted is told of no others, after a restart too."""
        key = Idempotency("caller", "key", b"digest")
        [first] = self.do("accept", [message(self.world, 3)], key)
        self.do("purge", None, State.WAITING, 10)
        self.world.restart()
        [other] = self.do("accept", [message(self.world, 3)])
        self.case.assertFalse({*first.numbers} & {*other.numbers})
        [again] = self.do("accept", [message(self.world, 3)], key)
        self.case.assertEqual(list(again.numbers), list(first.numbers))
        self.case.assertEqual(self.do("outcomes", again.numbers), [])

    def test_other_request(self) -> None:
        """A key that comes with another request is a conflict, and nothing is stored; other callers have other keys."""
        self.do("accept", [message(self.world)], Idempotency("caller", "key", b"digest"))
        with self.case.assertRaises(KeyConflict):
            self.do("accept", [message(self.world)], Idempotency("caller", "key", b"other"))
        self.case.assertEqual(self.world.queue.depth("chess"), 1)
        self.do("accept", [message(self.world)], Idempotency("somebody else", "key", b"other"))
        self.case.assertEqual((len(self.lease()), self.world.queue.depth("chess")), (2, 2))

    # Leases

    def test_leased_once(self) -> None:
        """While one has a lease nobody else gets it, also not when both ask at the same time."""
        self.accept(10)
        both = [self.world.queue.lease("chess", 6, self.now + 60) for _ in range(2)]
        first, second = (result(self.world.clock, each) for each in both)
        self.case.assertEqual([len(first), len(second)], [6, 4])
        self.case.assertEqual(len({each.number for each in [*first, *second]}), 10)
        self.case.assertEqual(self.lease(), [])

    def test_lease_ends(self) -> None:
        """When its time is over, the notification is leased again, before what was accepted later."""
        ids = self.accept(2)
        self.lease(2, seconds=10)
        later = self.accept(1)
        self.world.clock.advance(11)
        self.case.assertEqual([each.apns_id for each in self.lease()], ids + later)

    def test_renewed(self) -> None:
        """A lease can be made longer, and shorter; what has none gets none by it."""
        ids = self.accept(2)
        first, second = self.lease(2, seconds=10)
        third = self.accept(1)
        self.do("renew", [first.number, 10**6, second.number + 1], self.now + 100)
        self.world.clock.advance(11)
        self.case.assertEqual([each.apns_id for each in self.lease(seconds=1000)], [ids[1], *third])
        self.do("renew", [first.number, second.number], self.now + 1)
        self.world.clock.advance(2)
        self.case.assertEqual([each.apns_id for each in self.lease()], ids)

    def test_released(self) -> None:
        """What is given back is leased again, in its place, and no attempt is counted."""
        ids = self.accept(4)
        leased = self.lease(3)
        self.do("release", [leased[1].number, leased[0].number, 10**6])
        again = self.lease(3)
        self.case.assertEqual([each.apns_id for each in again], [ids[0], ids[1], ids[3]])
        self.case.assertEqual({each.attempts for each in again}, {0})
        self.settle(again[:1], State.WAITING)
        self.case.assertEqual([(each.apns_id, each.attempts) for each in self.lease()], [(ids[0], 0)])

    def test_reclaimed(self) -> None:
        """All leases can be ended at once."""
        self.accept(2, "chess")
        self.accept(3, "news")
        self.lease(app="chess")
        self.lease(app="news")
        self.do("reclaim")
        self.case.assertEqual([len(self.lease(app=app)) for app in ("chess", "news")], [2, 3])

    def test_restart(self) -> None:
        """After a restart everything that is not settled is there, and free."""
        ids = self.accept(3)
        leased = self.lease(2)
        self.settle(leased[:1], State.ACCEPTED, 200)
        self.world.restart()
        self.case.assertEqual(self.world.queue.depth("chess"), 2)
        self.case.assertEqual([each.apns_id for each in self.lease()], ids[1:])
        self.case.assertEqual(self.outcome(ids[0]).state, State.ACCEPTED)

    def test_clock_set(self) -> None:
        """Setting the clock makes nothing wait, ends no lease, and changes the dates of what comes afterwards."""
        for step in (3_600.0, -7_200.0, 86_400.0):
            ids = self.accept(2)
            [put_off] = self.lease(1)
            self.settle([put_off], State.WAITING, 503, "Shutdown", None, self.now + 5)
            self.world.clock.ahead += step
            self.case.assertAlmostEqual(self.do("next_due", "chess"), self.now, 1)
            ids += self.accept(1)
            self.case.assertEqual([each.apns_id for each in self.lease()], ids[1:])
            self.world.clock.ahead -= step / 2
            self.case.assertEqual(self.lease(), [])
            self.case.assertAlmostEqual(self.outcome(ids[2]).accepted_at, self.date + step / 2, 1)
            [entry] = [
                each for each in self.do("listed", "chess", State.WAITING, 9) if each.outcome.number == put_off.number
            ]
            self.case.assertAlmostEqual(entry.due, self.date + 5, 1)
            self.world.clock.advance(5.1)
            [again] = self.lease()
            self.case.assertEqual((again.apns_id, again.attempts), (ids[0], 1))
            self.do("purge", None, State.WAITING, 100)
            self.world.clock.advance(100)
            self.do("purge", None, State.WAITING, 100)

    def test_since(self) -> None:
        """How long ago something was accepted is told, however the clock was set meanwhile."""
        accepted: list[float] = []
        for step in (3_600.0, -86_400.0, 0.0):
            accepted.append(self.now)
            self.accept(1)
            self.world.clock.ahead += step
            self.world.clock.advance(10)
        for since, each in zip(accepted, self.lease(), strict=True):
            self.case.assertAlmostEqual(each.since, since, 1)

    def test_restart_after_clock_set(self) -> None:
        """After a start with another date all that was not tried yet is due at once, and the rest before long."""
        for step in (-3_600.0, -1e9, 3_600.0):
            ids = self.accept(2)
            self.settle(self.lease(1), State.WAITING, 503, "Shutdown", None, self.now + 5)
            self.world.clock.ahead += step
            self.world.restart()
            self.case.assertIn(ids[1], [each.apns_id for each in self.lease(seconds=0)])
            self.world.clock.advance(LONGEST + 0.1)
            self.case.assertEqual({each.apns_id for each in self.lease(seconds=0)}, set(ids))
            self.world.clock.advance(100)
            self.do("purge", None, State.WAITING, 100)

    # Settling

    def test_outcomes(self) -> None:
        """The outcome of each is told, and it does not come again."""
        accepted_at = self.date
        ids = self.accept(5)
        leased = self.lease(4)
        self.world.clock.advance(1)
        self.do(
            "settle",
            [
                Settlement(leased[0].number, State.ACCEPTED, 200),
                Settlement(leased[1].number, State.REJECTED, 400, "BadDeviceToken"),
                Settlement(leased[2].number, State.EXPIRED),
                Settlement(leased[3].number, State.DEAD, 503, "Shutdown"),
            ],
        )
        found = [self.outcome(each) for each in ids]
        self.case.assertEqual(
            [(each.apns_id, each.app, each.state, each.status, each.reason, each.attempts) for each in found],
            [
                (ids[0], "chess", State.ACCEPTED, 200, "", 1),
                (ids[1], "chess", State.REJECTED, 400, "BadDeviceToken", 1),
                (ids[2], "chess", State.EXPIRED, 0, "", 0),
                (ids[3], "chess", State.DEAD, 503, "Shutdown", 1),
                (ids[4], "chess", State.WAITING, 0, "", 0),
            ],
        )
        for each in found:
            self.case.assertAlmostEqual(each.accepted_at, accepted_at, 1)
        self.case.assertAlmostEqual(found[0].settled_at or 0.0, accepted_at + 1, 1)
        self.case.assertIsNone(found[4].settled_at)
        self.world.clock.advance(1000)
        self.case.assertEqual([each.apns_id for each in self.lease()], ids[4:])
        self.case.assertEqual(self.world.queue.depth("chess"), 1)

    def test_unknown(self) -> None:
        """Of what was never accepted nothing is known, also when it is no id at all."""
        self.case.assertEqual([self.do("outcome", each) for each in (ID, "", "what?")], [None] * 3)

    def test_id_used_twice(self) -> None:
        """Of those with one id the latest is told of; one of another app than those that are named is none."""
        for app in ("chess", "chess", "news"):
            self.do("accept", [Message(app, PAYLOAD, {}, [b"1"], [ID])])
        self.case.assertEqual(self.outcome(ID).app, "news")
        found = [self.do("outcome", ID, apps) for apps in ([], ["chess"], ["chess", "news"], ["go"], ["go", "chess"])]
        self.case.assertEqual([each and each.app for each in found], [None, "chess", "news", None, "chess"])
        self.settle(self.lease(1), State.ACCEPTED, 200)
        self.case.assertEqual(self.do("outcome", ID, ["chess"]).state, State.WAITING)
        self.settle(self.lease(1), State.REJECTED, 400, "BadTopic")
        self.case.assertEqual(self.do("outcome", ID, ["chess"]).state, State.REJECTED)

    def test_one_id_for_all(self) -> None:
        """Notifications with one id, of one message, of two and of a later one, are each what became of itself."""
        groups = [[b"1", b"2"], [b"3"]]
        receipts = self.do("accept", [Message("chess", PAYLOAD, {}, tokens, [ID] * len(tokens)) for tokens in groups])
        receipts += self.do("accept", [Message("chess", PAYLOAD, {}, [b"4"], [ID])])
        numbers = [number for receipt in receipts for number in receipt.numbers]
        self.case.assertEqual(len(set(numbers)), 4)
        leased = self.lease()
        self.case.assertEqual([(each.number, each.token) for each in leased], list(zip(numbers, TOKENS, strict=True)))
        states = [State.REJECTED, State.ACCEPTED, State.DEAD, State.EXPIRED]
        self.do("settle", [Settlement(number, state) for number, state in zip(numbers, states, strict=True)])
        found = {each.number: (each.state, each.apns_id) for each in self.do("outcomes", [*numbers, 10**6])}
        self.case.assertEqual(found, {n: (state, ID) for n, state in zip(numbers, states, strict=True)})

    def test_numbers_are_new(self) -> None:
        """The number of what was deleted is not given again, after a restart either."""
        numbers = []
        for _ in range(3):
            [receipt] = self.do("accept", [message(self.world, 2)])
            numbers += receipt.numbers
            self.do("purge", None, State.WAITING, 10)
            self.world.restart()
        self.case.assertEqual(len(set(numbers)), 6)

    def test_another_attempt(self) -> None:
        """A notification for another attempt comes when it is due, after what was due before, and counts attempts."""
        ids = self.accept(2)
        self.settle(self.lease(1), State.WAITING, 503, "Shutdown", None, self.now + 5)
        later = self.accept(1)
        self.case.assertEqual(self.world.queue.depth("chess"), 3)
        told = self.outcome(ids[0])
        self.case.assertEqual((told.state, told.status, told.reason), (State.WAITING, 503, "Shutdown"))
        self.case.assertEqual([each.apns_id for each in self.lease()], [ids[1], *later])
        self.world.clock.advance(4.9)
        self.case.assertEqual(self.lease(), [])
        self.world.clock.advance(0.2)
        [again] = self.lease()
        self.case.assertEqual((again.apns_id, again.attempts), (ids[0], 1))
        self.settle([again], State.WAITING, 0, "", None, self.now)
        self.case.assertEqual([each.attempts for each in self.lease()], [2])

    def test_first_outcome_stays(self) -> None:
        """What is settled stays so, and what is not there is passed over, in one call and in several."""
        ids = self.accept(2)
        leased = self.lease()
        self.do(
            "settle",
            [
                Settlement(leased[0].number, State.ACCEPTED, 200),
                Settlement(leased[0].number, State.REJECTED, 410, "Unregistered"),
                Settlement(leased[0].number, State.WAITING, due=self.now),
                Settlement(10**6, State.ACCEPTED, 200),
                Settlement(leased[1].number, State.WAITING, 429, "TooManyRequests", due=self.now),
                Settlement(leased[1].number, State.REJECTED, 400, "BadTopic"),
            ],
        )
        self.settle(leased, State.DEAD)
        self.settle(leased, State.WAITING, 0, "", None, self.now)
        self.settle(leased, State.WAITING)
        found = [self.outcome(each) for each in ids]
        self.case.assertEqual([each.state for each in found], [State.ACCEPTED, State.REJECTED])
        self.case.assertEqual((self.lease(), self.world.queue.depth("chess")), ([], 0))
        self.case.assertEqual(self.read("after", None, 0, 10), [])

    def test_settled_late(self) -> None:
        """An outcome that comes after the lease ended counts all the same."""
        [apns_id] = self.accept()
        leased = self.lease(seconds=1)
        self.world.clock.advance(2)
        self.settle(leased, State.ACCEPTED, 200)
        self.case.assertEqual((self.lease(), self.outcome(apns_id).state), ([], State.ACCEPTED))

    # What waits

    def test_depths(self) -> None:
        """It is told how much waits, how much of it is under way, and since when the first is due."""
        start = self.now
        self.accept(3, "chess")
        self.world.clock.advance(5)
        self.accept(2, "news")
        self.lease(1, "chess")
        self.settle(self.lease(app="news"), State.ACCEPTED, 200)
        chess, news = self.do("depths")
        self.case.assertEqual((chess.app, chess.waiting, chess.leased), ("chess", 3, 1))
        self.case.assertAlmostEqual(chess.oldest, start, 1)
        self.case.assertEqual(news, Depth("news", 0, 0, None))
        self.world.clock.advance(100)
        self.case.assertEqual(self.do("depths")[0].leased, 0)

    def test_depth_counts_at_once(self) -> None:
        """What is being stored counts already, so that a limit holds for all who ask at the same time."""
        deferred = self.world.queue.accept([message(self.world, 3)])
        self.case.assertEqual([self.world.queue.depth(app) for app in ("chess", "news")], [3, 0])
        result(self.world.clock, deferred)
        self.case.assertEqual(self.world.queue.depth("chess"), 3)

    def test_next_due(self) -> None:
        """It is told when there is something to lease; to ask then is not too early."""
        self.case.assertIsNone(self.do("next_due", "chess"))
        self.accept(1)
        self.case.assertLessEqual(self.do("next_due", "chess"), self.now)
        leased = self.lease()
        self.case.assertIsNone(self.do("next_due", "chess"))
        self.settle(leased, State.WAITING, 0, "", None, self.now + 7.1234567)
        due = self.do("next_due", "chess")
        self.case.assertAlmostEqual(due, self.now + 7.123, 1)
        self.world.clock.rightNow = due
        self.case.assertEqual(len(self.lease(seconds=5)), 1)
        self.world.clock.advance(6)
        self.case.assertLessEqual(self.do("next_due", "chess"), self.now)

    # An operator's work

    def test_listed(self) -> None:
        """Notifications are listed by state, in pages, for one app or all."""
        ids = self.accept(3, "chess") + self.accept(2, "news")
        for app in ("chess", "news"):
            self.settle(self.lease(2, app), State.DEAD, 500, "InternalServerError")
        found = self.do("listed", None, State.DEAD, 3)
        self.case.assertEqual([each.outcome.apns_id for each in found], [ids[0], ids[1], ids[3]])
        self.case.assertEqual(found[0].token, (0).to_bytes(32, "big"))
        rest = self.do("listed", None, State.DEAD, 3, found[-1].outcome.number)
        self.case.assertEqual([each.outcome for each in rest], [self.outcome(ids[4])])
        self.case.assertEqual(len(self.do("listed", "news", State.DEAD, 10)), 2)
        self.case.assertEqual([each.outcome.apns_id for each in self.do("listed", "chess", State.WAITING, 9)], ids[2:3])

    def test_retried(self) -> None:
        """Dead letters, and only they, can be tried again, as if they had just been accepted."""
        ids = self.accept(3)
        leased = self.lease()
        self.settle(leased[:2], State.DEAD)
        self.settle(leased[2:], State.REJECTED, 400, "BadTopic")
        self.case.assertEqual(self.do("retry", "news", 10), 0)
        self.case.assertEqual((self.do("retry", None, 1), self.world.queue.depth("chess")), (1, 1))
        self.case.assertEqual([(each.apns_id, each.attempts) for each in self.lease()], [(ids[0], 0)])
        self.case.assertEqual(self.do("retry", "chess", 10), 1)
        self.case.assertEqual([each.apns_id for each in self.lease()], ids[1:2])
        self.case.assertIsNone(self.outcome(ids[1]).settled_at)

    def test_purged(self) -> None:
        """Notifications can be deleted by state, but for those that are under way."""
        ids = self.accept(4, "chess") + self.accept(1, "news")
        self.lease(1)
        self.case.assertEqual(self.do("purge", "chess", State.WAITING, 2), 2)
        self.case.assertEqual([self.do("outcome", each) is None for each in ids], [False, True, True, False, False])
        self.case.assertEqual(self.do("purge", None, State.WAITING, 100), 2)
        self.case.assertEqual([self.world.queue.depth(app) for app in ("chess", "news")], [1, 0])
        self.world.clock.advance(100)
        self.case.assertEqual([each.apns_id for each in self.lease()], ids[:1])
        self.case.assertEqual(self.do("purge", None, State.DEAD, 100), 0)

    def test_pruned(self) -> None:
        """What has been final for long enough is forgotten, in steps, with the keys; what waits is not."""
        key = Idempotency("caller", "key", b"digest")
        old = self.do("accept", [message(self.world, 5)], key)[0].apns_ids
        self.settle(self.lease(4), State.ACCEPTED, 200)
        self.world.clock.advance(100)
        recent = self.accept(2)
        self.settle(self.lease(), State.ACCEPTED, 200)
        steps = 0
        while self.do("prune", self.date - 50, 2):
            steps += 1
        self.case.assertLess(steps, 10)
        kept = [each for each in old + recent if self.do("outcome", each) is not None]
        self.case.assertEqual(kept, old[4:] + recent)  # the fifth waited all the time, and was settled just now
        self.case.assertFalse(self.do("accept", [message(self.world, 1)], key)[0].earlier)
        self.world.clock.advance(1000)
        while self.do("prune", self.date - 50, 2):
            pass
        self.case.assertEqual([self.do("outcome", each) for each in old + recent], [None] * 7)
        [left] = self.lease()
        self.case.assertEqual((left.content.payload, left.token), (PAYLOAD, (0).to_bytes(32, "big")))

    # The feedback log

    def die(self, tokens: int = 1, app: str = "chess", start: int = 0, timestamp: float | None = 5.0) -> None:
        """Learn that tokens are dead."""
        self.accept(tokens, app, start)
        self.settle(self.lease(app=app), State.REJECTED, 410, "Unregistered", timestamp)

    def test_dead_tokens(self) -> None:
        """Each dead token is noted, with the app, reason and time, and told to whoever reads on from where it was."""
        self.die(2)
        self.die(1, "news", 7, None)
        found = self.read("after", None, 0, 10)
        self.case.assertEqual(
            [(each.app, each.token[-1], each.reason) for each in found],
            [("chess", 0, "Unregistered"), ("chess", 1, "Unregistered"), ("news", 7, "Unregistered")],
        )
        self.case.assertEqual([each.timestamp for each in found[:2]], [5.0, 5.0])
        self.case.assertAlmostEqual(found[2].timestamp, self.date, 1)
        self.case.assertAlmostEqual(found[0].noted_at, START, 0)
        self.case.assertEqual(self.read("after", None, found[0].cursor, 1), found[1:2])
        self.case.assertEqual(self.read("after", "news", 0, 10), found[2:])

    def test_other_refusals(self) -> None:
        """Only what Apple says of the device is noted."""
        self.accept(1)
        self.settle(self.lease(), State.REJECTED, 400, "BadDeviceToken")
        self.case.assertEqual(self.read("after", None, 0, 10), [])

    def test_noted_once(self) -> None:
        """A token is noted once for each time at which it died."""
        for timestamp in (5.0, 5.0, 6.0):
            self.die(timestamp=timestamp)
        self.case.assertEqual([each.timestamp for each in self.read("after", None, 0, 10)], [5.0, 6.0])

    def test_readers(self) -> None:
        """The log keeps the position of each reader for each app; until it is confirmed the same comes again."""
        self.die(3)
        self.die(1, "news")
        first = self.read("take", "chess", "webhook", 2)
        self.case.assertEqual((len(first), self.read("take", "chess", "webhook", 2)), (2, first))
        self.read("confirm", "chess", "webhook", first[1].cursor)
        self.read("confirm", "chess", "webhook", first[0].cursor)
        self.world.restart()
        self.case.assertEqual([each.token[-1] for each in self.read("take", "chess", "webhook", 9)], [2])
        self.case.assertEqual([len(self.read("take", app, "webhook", 9)) for app in ("news", None)], [1, 4])
        self.case.assertEqual(len(self.read("take", "chess", "pyapns", 9)), 3)

    def test_behind(self) -> None:
        """What a reader has not confirmed can be counted, up to some number."""
        self.die(3)
        self.die(1, "news")
        self.read("confirm", "chess", "webhook", self.read("take", "chess", "webhook", 1)[0].cursor)
        behind = [self.read("behind", app, "webhook", 100) for app in ("chess", "news", "go", None)]
        self.case.assertEqual(behind, [2, 1, 0, 4])
        self.case.assertEqual([self.read("behind", app, "webhook", 1) for app in ("chess", None)], [1, 1])

    def test_known(self) -> None:
        """Tokens can be looked up; the last time counts."""
        self.die(2)
        self.die(1, timestamp=6.0)
        tokens = [n.to_bytes(32, "big") for n in range(3)]
        found = self.read("known", "chess", tokens)
        self.case.assertEqual({token[-1]: dead.timestamp for token, dead in found.items()}, {0: 6.0, 1: 5.0})
        self.case.assertEqual([self.read("known", "news", tokens), self.read("known", "chess", [])], [{}, {}])

    def test_forgotten(self) -> None:
        """Dead tokens are forgotten, too, and their cursors are not used again."""
        self.die(3)
        last = self.read("after", None, 0, 10)[-1].cursor
        self.world.clock.advance(100)
        while self.do("prune", self.date - 50, 10):
            pass
        self.case.assertEqual(self.read("after", None, 0, 10), [])
        self.die(1)
        [dead] = self.read("after", None, 0, 10)
        self.case.assertGreater(dead.cursor, last)

    def test_forgotten_after_clock_set(self) -> None:
        """What was dated a year ahead, while the clock was wrong, does not keep what came after it."""
        self.world.clock.ahead += 31_536_000.0
        ahead = self.accept(5)
        self.settle(self.lease(), State.REJECTED, 410, "Unregistered", 5.0)
        self.world.clock.ahead -= 31_536_000.0
        later = self.accept(5, start=5)
        self.settle(self.lease(), State.REJECTED, 410, "Unregistered", 5.0)
        self.world.clock.advance(100)
        while self.do("prune", self.date - 50, 2):
            pass
        for _ in range(5):
            self.do("prune", self.date - 50, 2)
        kept = [each for each in ahead + later if self.do("outcome", each) is not None]
        self.case.assertEqual(kept, ahead)
        self.case.assertEqual([each.token[-1] for each in self.read("after", None, 0, 99)], list(range(5)))

    # The end

    def test_stopped(self) -> None:
        """What was asked for before the stop is done; what is asked for later is refused."""
        [first] = self.accept(1)
        accepting = self.world.queue.accept([message(self.world, 2)])
        reading = self.world.queue.outcome(first)
        stopped = self.world.queue.stop()
        refused = [
            self.world.queue.accept([message(self.world)]),
            self.world.queue.lease("chess", 1, self.now + 1),
            self.world.queue.settle([]),
            self.world.queue.outcome(first),
            self.world.queue.outcomes([1]),
            self.world.queue.retry(None, 1),
            self.world.queue.prune(0.0),
        ]
        for each in refused:
            with self.case.assertRaises(Unavailable):
                result(self.world.clock, each)
        result(self.world.clock, stopped)
        self.case.assertEqual(len(self.case.successResultOf(accepting)[0].numbers), 2)
        self.case.assertEqual(self.case.successResultOf(reading).apns_id, first)
        self.world.restart()
        self.case.assertEqual(len(self.lease()), 3)


ID = "0f0e0d0c-0b0a-4909-8807-060504030201"
OTHER = "ffffffff-ffff-4fff-bfff-ffffffffffff"
TOKENS = [b"1", b"2", b"3", b"4"]


# The same against a model.


@attrs.define
class _Notification:
    """What the model knows of a notification."""

    number: int
    apns_id: str
    app: str
    due: float
    state: State = State.WAITING
    attempts: int = 0
    until: float | None = None  # of its lease


APPS = st.sampled_from(["chess", "news"])
COUNTS = st.integers(min_value=1, max_value=5)
# Whole seconds, so that neither a queue's resolution nor the moment in which something is stored makes a difference.
SECONDS = st.integers(min_value=1, max_value=20)


class QueueMachine(RuleBasedStateMachine):
    """
    Does anything in any order with a queue, and compares it with a simple model.

    Whoever derives from it says how to make the queue; the ``TestCase`` of that is the test.
    """

    def make_world(self) -> World:
        """Make a queue with nothing in it, and start it."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.world = self.make_world()
        self.world.clock.rightNow = 1_000.0
        self.all: list[_Notification] = []
        self.numbers = 0
        self.receipts: dict[str, list[Receipt]] = {}  # of requests with a key
        self.set = 0  # by how many seconds the clock on the wall was set since the last start

    def teardown(self) -> None:
        """Stop it."""
        self.world.stop()

    def do(self, name: str, *arguments: Any) -> Any:
        """Call a method, and turn the clock to where it was."""
        now = self.world.clock.seconds()
        found = result(self.world.clock, getattr(self.world.queue, name)(*arguments))
        self.world.clock.rightNow = now
        return found

    @property
    def now(self) -> float:
        """The time."""
        return float(self.world.clock.seconds())

    def free(self, app: str | None = None) -> list[_Notification]:
        """What could be leased but for the time at which it is due, in order."""
        found = [
            each
            for each in self.all
            if each.state is State.WAITING
            and app in (None, each.app)
            and (each.until is None or each.until <= self.now)
        ]
        return sorted(found, key=lambda each: (each.due, each.number))

    def by_number(self, numbers: Sequence[int]) -> list[_Notification]:
        """Find those of these numbers."""
        known = {each.number: each for each in self.all}
        return [known[number] for number in numbers]

    def some(self, data: st.DataObject) -> list[int]:
        """Choose some of all."""
        numbers = [each.number for each in self.all]
        return data.draw(st.lists(st.sampled_from(numbers), unique=True)) if numbers else []

    @rule(app=APPS, count=COUNTS, chosen=st.none() | st.sampled_from([ID, OTHER]))
    def accept(self, app: str, count: int, chosen: str | None) -> None:
        """Accept a message, for whose devices the caller chose one id or none."""
        sent = message(self.world, count, app)
        if chosen is not None:
            sent = attrs.evolve(sent, apns_ids=[chosen] * count)
        [receipt] = self.do("accept", [sent])
        self.note(receipt, sent)

    @rule(app=APPS, count=COUNTS, key=st.sampled_from(["a", "b"]))
    def accept_once(self, app: str, count: int, key: str) -> None:
        """Accept a request with a key; one that came before is told what it got then, whatever became of it."""
        sent = [message(self.world, count, app), message(self.world, 1, app)]
        receipts = self.do("accept", sent, Idempotency("caller", key, b"digest"))
        if key in self.receipts:
            assert receipts == self.receipts[key]
            return
        self.receipts[key] = [attrs.evolve(each, earlier=True) for each in receipts]
        for receipt, each in zip(receipts, sent, strict=True):
            self.note(receipt, each)

    def note(self, receipt: Receipt, sent: Message) -> None:
        """Take note of what was accepted: each has a number that grows."""
        assert receipt == Receipt(receipt.numbers, list(sent.apns_ids))
        for number, apns_id in zip(receipt.numbers, sent.apns_ids, strict=True):
            assert number > self.numbers
            self.numbers = number
            self.all.append(_Notification(number, apns_id, sent.app, self.now))

    @rule(app=APPS, count=COUNTS, seconds=SECONDS)
    def lease(self, app: str, count: int, seconds: int) -> None:
        """Exactly what the model says is leased, in its order."""
        due = [each for each in self.free(app) if each.due <= self.now][:count]
        leased = self.do("lease", app, count, self.now + seconds)
        assert [(each.number, each.apns_id, each.attempts) for each in leased] == [
            (each.number, each.apns_id, each.attempts) for each in due
        ]
        for each in due:
            each.until = self.now + seconds

    @rule(data=st.data(), state=st.sampled_from([state for state in State if state is not State.WAITING]))
    def settle(self, data: st.DataObject, state: State) -> None:
        """Settle some, whether they are leased or not."""
        numbers = self.some(data)
        self.do("settle", [Settlement(number, state, 200 if state is State.ACCEPTED else 400) for number in numbers])
        for each in self.by_number(numbers):
            if each.state is State.WAITING:
                each.state = state
                each.attempts += state is not State.EXPIRED
            each.until = None

    @rule(data=st.data(), seconds=st.integers(min_value=0, max_value=20))
    def put_back(self, data: st.DataObject, seconds: int) -> None:
        """Have another attempt made of some, now or later."""
        numbers = self.some(data)
        due = self.now + seconds
        self.do("settle", [Settlement(number, State.WAITING, 503, due=due) for number in numbers])
        for each in self.by_number(numbers):
            if each.state is State.WAITING:
                each.due, each.until = due, None
                each.attempts += 1

    @rule(data=st.data(), counted=st.booleans())
    def release(self, data: st.DataObject, counted: bool) -> None:
        """Give leases back, in one of the two ways."""
        numbers = self.some(data)
        if counted:
            self.do("settle", [Settlement(number, State.WAITING) for number in numbers])
        else:
            self.do("release", numbers)
        for each in self.by_number(numbers):
            each.until = None

    @rule(data=st.data(), seconds=SECONDS)
    def renew(self, data: st.DataObject, seconds: int) -> None:
        """Let some leases end later, or earlier."""
        numbers = self.some(data)
        self.do("renew", numbers, self.now + seconds)
        for each in self.by_number(numbers):
            if each.until is not None and each.until > self.now:
                each.until = self.now + seconds

    @rule()
    def reclaim(self) -> None:
        """End all leases."""
        self.do("reclaim")
        for each in self.all:
            each.until = None

    @rule(count=COUNTS, app=st.none() | APPS)
    def retry(self, count: int, app: str | None) -> None:
        """Try dead letters again."""
        dead = [each for each in self.all if each.state is State.DEAD and app in (None, each.app)][:count]
        assert self.do("retry", app, count) == len(dead)
        for each in dead:
            each.state, each.due, each.attempts, each.until = State.WAITING, self.now, 0, None

    @rule(count=COUNTS, app=st.none() | APPS, state=st.sampled_from(State))
    def purge(self, count: int, app: str | None, state: State) -> None:
        """Delete some."""
        chosen = self.free(app) if state is State.WAITING else [each for each in self.all if each.state is state]
        chosen = [each for each in sorted(chosen, key=lambda each: each.number) if app in (None, each.app)][:count]
        assert self.do("purge", app, state, count) == len(chosen)
        gone = {each.number for each in chosen}
        self.all = [each for each in self.all if each.number not in gone]

    @rule(seconds=SECONDS)
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.world.clock.rightNow += seconds

    @rule(seconds=st.integers(min_value=-100, max_value=100))
    def clock_set(self, seconds: int) -> None:
        """Set the clock on the wall, which changes nothing before the next start."""
        self.world.clock.ahead += seconds
        self.set += seconds

    @rule()
    def restart(self) -> None:
        """Begin again from what is stored. It takes a second, and what is bounded is so at some moment in that."""
        now = self.now
        self.world.restart()
        self.world.clock.rightNow = now + 1
        for each in self.all:
            bound = now + 0.5 + (LONGEST if each.attempts else 0)
            each.due, each.until = min(each.due - self.set, bound), None
        self.set = 0

    @rule(app=APPS)
    def next_due(self, app: str) -> None:
        """It is told when there is something to lease."""
        free = self.free(app)
        found = self.do("next_due", app)
        assert abs(found - free[0].due) < 1 if free else found is None

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def outcome(self, data: st.DataObject) -> None:
        """What is told of one is what became of it."""
        each = data.draw(st.sampled_from(self.all))
        [found] = self.do("outcomes", [each.number])
        assert (found.apns_id, found.app, found.state) == (each.apns_id, each.app, each.state)
        assert found.attempts == each.attempts

    @rule(apps=st.none() | st.lists(APPS, unique=True), chosen=st.sampled_from([ID, OTHER]))
    def latest(self, apps: list[str] | None, chosen: str) -> None:
        """Of those with one id, the latest is told of."""
        known = [each for each in self.all if each.apns_id == chosen and (apps is None or each.app in apps)]
        found = self.do("outcome", chosen, apps)
        assert (found and found.number) == (max(each.number for each in known) if known else None)

    @invariant()
    def depths_agree(self) -> None:
        """As many wait as in the model."""
        for app in ("chess", "news"):
            waiting = [each for each in self.all if each.app == app and each.state is State.WAITING]
            assert self.world.queue.depth(app) == len(waiting)
