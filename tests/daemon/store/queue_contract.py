"""What every queue does."""

from __future__ import annotations

import msgspec
from zope.interface.verify import verifyObject

from tests.daemon.store.contract import HEADERS, ID, LONGEST, OTHER, PAYLOAD, StoreContract, message, result
from txapns._network.clocks import wall_clock
from txapns.daemon.errors import KeyConflict, Unavailable
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.interfaces import IQueue
from txapns.daemon.values import Depth, Idempotency, Message, Settlement, State

__all__ = ["QueueContract"]


class QueueContract(StoreContract):
    """The tests of a queue."""

    def test_interface(self) -> None:
        """It has all methods of the interface."""
        verifyObject(IQueue, self.world.queue)

    def test_accepted_and_leased(self) -> None:
        """Accepted notifications are leased unchanged, in order, with their ids; those of a message share a payload."""
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
            self.case.assertApproximates(each.accepted_at, accepted_at, 0.05)
        payloads, contents = [each.payload for each in leased], [each.content for each in leased]
        for shared in (payloads, contents):
            self.case.assertEqual([len({id(each) for each in shared}), shared[0] is shared[2]], [2, True])
        self.case.assertEqual((contents[0].app, payloads[0], contents[0].headers), ("chess", PAYLOAD, HEADERS))
        self.case.assertEqual((payloads[4], contents[4].headers), (b'{"n":2}', {}))

    def test_own_payloads(self) -> None:
        """A message may have a payload for each device, also where some of it is leased later, and from the disk."""
        own, like = [b'{"n":%d}' % n for n in range(5)], message(self.world, 5)
        [receipt] = self.do("accept", [Message("chess", b"", HEADERS, like.tokens, like.apns_ids, payloads=own)])
        parts = [self.lease(2), self.lease(1)]
        self.do("release", [each.number for part in parts for each in part])
        parts.append(self.lease())
        self.case.assertEqual([[each.payload for each in part] for part in parts], [own[:2], own[2:3], own])
        self.case.assertEqual([each.number for each in parts[2]], list(receipt.numbers))
        self.case.assertEqual(len({id(each.content) for each in parts[2]}), 1)

    def test_wrong_payloads(self) -> None:
        """There is one payload for each device, or for all of them."""
        self.case.assertRaises(ValueError, Message, "chess", b"", {}, [b"t"] * 2, [ID, ID], payloads=[PAYLOAD])

    def test_broadcasts(self) -> None:
        """A broadcast, whose token is empty, is kept like what goes to devices, alone and among others."""
        headers = {**HEADERS, "apns-channel-id": "AbCd/+=="}
        broadcast = Message("chess", PAYLOAD, headers, [b""], [ID])
        [alone] = self.do("accept", [broadcast])
        receipts = self.do("accept", [message(self.world), broadcast, message(self.world, start=1), broadcast])
        leased = self.lease()
        self.case.assertEqual([len(each.token) for each in leased], [0, 32, 0, 32, 0])
        numbers = [number for receipt in (alone, *receipts) for number in receipt.numbers]
        self.case.assertEqual([each.number for each in leased], numbers)
        self.case.assertEqual({each.content.channel for each in leased[::2]}, {"AbCd/+=="})
        self.case.assertEqual({each.content.channel for each in leased[1::2]}, {None})
        self.settle(leased[:1], State.WAITING, 429, "TooManyRequests", None, self.now)
        [again] = self.lease()
        self.case.assertEqual((again.token, again.content.channel, again.apns_id), (b"", "AbCd/+==", ID))
        self.settle([again], State.REJECTED, 400, "ChannelNotRegistered")
        [entry] = self.ask("listed", "chess", State.REJECTED, 10)
        self.case.assertEqual((entry.token, entry.outcome.reason), (b"", "ChannelNotRegistered"))
        self.case.assertEqual((entry.outcome.channel, entry.place), ("AbCd/+==", "AbCd/+=="))
        waiting = {each.token: each.outcome.channel for each in self.ask("listed", "chess", State.WAITING, 10)}
        self.case.assertEqual(sorted(waiting.values(), key=str), ["AbCd/+==", None, None])

    def test_many(self) -> None:
        """A message can be for thousands of devices, with tokens of different lengths."""
        tokens = [bytes([n % 251]) * (32 if n % 1700 else 64) for n in range(5_000)]
        ids = Identifiers(wall_clock(self.world.clock)).take(5_000)
        self.do("accept", [Message("chess", PAYLOAD, HEADERS, tokens, ids)])
        leased = self.lease(10_000)
        self.case.assertEqual([each.token for each in leased], tokens)
        self.case.assertEqual([each.apns_id for each in leased], ids)

    def test_payloads(self) -> None:
        """Of messages that differ only in their payloads each keeps its own, also of requests that are made at once."""
        take = Identifiers(wall_clock(self.world.clock)).take
        requests = [
            [Message("chess", b"%d" % (10 ** (n + size)), HEADERS, [b"%d" % n] * size, take(size)) for n in range(5)]
            for size in (1, 3, 3, 1, 1)
        ]
        storing = [self.world.queue.accept(messages) for messages in requests]
        receipts = [receipt for each in storing for receipt in result(self.world.clock, each)]
        messages = [message for each in requests for message in each]
        found = {each.number: each for each in self.lease(100)}
        self.case.assertEqual(len(found), 45)
        for given, receipt in zip(messages, receipts, strict=True):
            some = [found[number] for number in receipt.numbers]
            self.case.assertEqual({each.payload for each in some}, {given.payload})
            self.case.assertEqual([each.token for each in some], given.tokens)
            self.case.assertEqual([each.apns_id for each in some], receipt.apns_ids)
            self.case.assertEqual((receipt.apns_ids, len({id(each.payload) for each in some})), (given.apns_ids, 1))

    def test_before_the_disk(self) -> None:
        """What need not wait for the disk is in the queue, too, and on the disk when that is waited for."""
        for _ in range(2):
            [receipt] = self.do("accept", [message(self.world)], durable=False)
            self.assertEqual(self.do("on_disk"), None)
            self.case.assertEqual([each.number for each in self.lease()], list(receipt.numbers))

    def test_nothing_to_accept(self) -> None:
        """Accepting no message, or a message without devices, is harmless and returns no ids."""
        nobody = Message("chess", PAYLOAD, HEADERS, [], [])
        self.case.assertEqual(self.do("accept", []), [])
        receipts = self.do("accept", [nobody, message(self.world), nobody])
        self.case.assertEqual([(len(each.numbers), len(each.apns_ids)) for each in receipts], [(0, 0), (1, 1), (0, 0)])
        self.case.assertEqual(len(self.lease()), 1)

    def test_no_uuid(self) -> None:
        """An invalid id is refused with its message, and the queue goes on."""
        for wrong in ("x", "0" * 36, ID + "0"):
            with self.case.assertRaises(ValueError):
                self.do("accept", [Message("chess", PAYLOAD, HEADERS, [b"1"], [wrong])])
        self.accept()
        self.case.assertEqual((len(self.lease()), self.world.queue.waiting("chess").count), (1, 1))

    def test_no_uuid_among_others(self) -> None:
        """An invalid id is refused with its request, and those that are stored together with it are stored."""
        wrong = [ID[:-1], ID + "0"]  # together they are as long as two that are valid
        sent = [Message("chess", PAYLOAD, HEADERS, [b"1"], [each]) for each in (ID, *wrong, ID)]
        accepting = [self.world.queue.accept([each]) for each in sent]
        refused = [accepting[1], accepting[2]]
        for each in refused:
            with self.case.assertRaises(ValueError):
                self.result(each)
        self.case.assertEqual([len(self.result(each)) for each in (accepting[0], accepting[3])], [1, 1])
        self.case.assertEqual((len(self.lease()), self.world.queue.waiting("chess").count), (2, 2))

    def test_apps_are_apart(self) -> None:
        """Each app has a queue of its own."""
        for app in ("chess", "news", "chess"):
            self.accept(2, app)
        self.case.assertEqual([len(self.lease(app=app)) for app in ("news", "chess", "none")], [2, 4, 0])

    def test_same_request(self) -> None:
        """A repeated request is not stored again, and gets the numbers and ids of the first."""
        key = Idempotency("caller", "key", b"digest")
        sent = [message(self.world, 2), message(self.world, 0), message(self.world, 1)]
        first = self.do("accept", sent, key)
        again = self.do("accept", [message(self.world, 2), message(self.world, 0), message(self.world, 1)], key)
        self.case.assertEqual([len(each.numbers) for each in again], [2, 0, 1])
        self.case.assertEqual(again, [msgspec.structs.replace(each, earlier=True) for each in first])
        self.case.assertEqual((len(self.lease()), self.world.queue.waiting("chess").count), (3, 3))

    def test_same_request_at_once(self) -> None:
        """The same holds if both arrive at the same time, and after a restart."""
        key = Idempotency("caller", "key", b"digest")
        both = [self.world.queue.accept([message(self.world, 2)], key) for _ in range(2)]
        first, second = (result(self.world.clock, each) for each in both)
        self.world.restart()
        third = self.do("accept", [message(self.world, 2)], key)
        self.case.assertEqual([second, third], [[msgspec.structs.replace(each, earlier=True) for each in first]] * 2)
        self.case.assertEqual([each.number for each in self.lease()], list(first[0].numbers))

    def test_same_request_purged(self) -> None:
        """A request repeated after its notifications were deleted gets its old numbers, even after a restart."""
        key = Idempotency("caller", "key", b"digest")
        [first] = self.do("accept", [message(self.world, 3)], key)
        self.ask("purge", "chess", State.WAITING, 10)
        self.world.restart()
        [other] = self.do("accept", [message(self.world, 3)])
        self.case.assertFalse({*first.numbers} & {*other.numbers})
        [again] = self.do("accept", [message(self.world, 3)], key)
        self.case.assertEqual(list(again.numbers), list(first.numbers))
        self.case.assertEqual(self.ask("outcomes", again.numbers), [])

    def test_other_request(self) -> None:
        """A key with a different request is a conflict, and nothing is stored; each caller has its own keys."""
        self.do("accept", [message(self.world)], Idempotency("caller", "key", b"digest"))
        with self.case.assertRaises(KeyConflict):
            self.do("accept", [message(self.world)], Idempotency("caller", "key", b"other"))
        self.case.assertEqual(self.world.queue.waiting("chess").count, 1)
        self.do("accept", [message(self.world)], Idempotency("somebody else", "key", b"other"))
        self.case.assertEqual((len(self.lease()), self.world.queue.waiting("chess").count), (2, 2))

    def test_leased_once(self) -> None:
        """A leased notification is not leased again, even if two ask at the same time."""
        self.accept(10)
        both = [self.world.queue.lease("chess", 6, self.now + 60) for _ in range(2)]
        first, second = (result(self.world.clock, each) for each in both)
        self.case.assertEqual([len(first), len(second)], [6, 4])
        self.case.assertEqual(len({each.number for each in [*first, *second]}), 10)
        self.case.assertEqual(self.lease(), [])

    def test_leased_at_most(self) -> None:
        """No more are leased than may be leased at a time, and who leases learns of it; each app is counted alone."""
        self.accept(10)
        self.accept(3, "news")
        self.lease(3, "news")
        until = self.now + 60
        found = [self.do("lease", "chess", 4, until, 6) for _ in range(3)]
        self.case.assertEqual([len(each) for each in found], [4, 2, 0])
        self.case.assertEqual([each.full for each in found], [False, True, True])
        self.do("release", [each.number for each in found[0][:3]])
        self.case.assertEqual(len(self.do("lease", "chess", 10, until, 6)), 3)
        self.case.assertEqual(len(self.do("lease", "chess", 10, until, 5)), 0)
        self.case.assertEqual(len(self.do("lease", "chess", 10, until)), 4)
        self.world.clock.advance(61)
        self.case.assertEqual(len(self.do("lease", "chess", 10, self.now + 60, 6)), 6)

    def test_lease_ends(self) -> None:
        """When a lease ends, its notification is leased again, before later ones."""
        ids = self.accept(2)
        self.lease(2, seconds=10)
        later = self.accept(1)
        self.world.clock.advance(11)
        self.case.assertEqual([each.apns_id for each in self.lease()], ids + later)

    def test_renewed(self) -> None:
        """A lease can be made longer and shorter; a notification without one does not get one."""
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
        """A released notification is leased again, in its place, and no attempt is counted."""
        ids = self.accept(4)
        leased = self.lease(3)
        self.do("release", [leased[1].number, leased[0].number, 10**6])
        again = self.lease(3)
        self.case.assertEqual([each.apns_id for each in again], [ids[0], ids[1], ids[3]])
        self.case.assertEqual({each.attempts for each in again}, {0})
        self.settle(again[:1], State.WAITING)
        self.case.assertEqual([(each.apns_id, each.attempts) for each in self.lease()], [(ids[0], 0)])

    def test_restart(self) -> None:
        """After a restart, everything that is not settled is there, and not leased."""
        ids = self.accept(3)
        leased = self.lease(2)
        self.settle(leased[:1], State.ACCEPTED, 200)
        self.world.restart()
        self.case.assertEqual(self.world.queue.waiting("chess").count, 2)
        self.case.assertEqual([each.apns_id for each in self.lease()], ids[1:])
        self.case.assertEqual(self.outcome(ids[0]).state, State.ACCEPTED)

    def test_clock_set(self) -> None:
        """Setting the wall clock delays nothing and ends no lease; it changes only later dates."""
        for step in (3_600.0, -7_200.0, 86_400.0):
            ids = self.accept(2)
            [put_off] = self.lease(1)
            self.settle([put_off], State.WAITING, 503, "Shutdown", None, self.now + 5)
            self.world.clock.ahead += step
            self.case.assertApproximates(self.do("next_due", "chess"), self.now, 0.05)
            ids += self.accept(1)
            self.case.assertEqual([each.apns_id for each in self.lease()], ids[1:])
            self.world.clock.ahead -= step / 2
            self.case.assertEqual(self.lease(), [])
            self.case.assertApproximates(self.outcome(ids[2]).accepted_at, self.date + step / 2, 0.05)
            [entry] = [
                each for each in self.ask("listed", "chess", State.WAITING, 9) if each.outcome.number == put_off.number
            ]
            self.case.assertApproximates(entry.due, self.date + 5, 0.05)
            self.world.clock.advance(5.1)
            [again] = self.lease()
            self.case.assertEqual((again.apns_id, again.attempts), (ids[0], 1))
            self.ask("purge", "chess", State.WAITING, 100)
            self.world.clock.advance(100)
            self.ask("purge", "chess", State.WAITING, 100)

    def test_since(self) -> None:
        """It is known how long ago a notification was accepted, however the clock was set since."""
        accepted: list[float] = []
        for step in (3_600.0, -86_400.0, 0.0):
            accepted.append(self.now)
            self.accept(1)
            self.world.clock.ahead += step
            self.world.clock.advance(10)
        for since, each in zip(accepted, self.lease(), strict=True):
            self.case.assertApproximates(each.since, since, 0.05)

    def test_restart_after_clock_set(self) -> None:
        """After a start with another date, everything never tried is due at once, and the rest soon."""
        for step in (-3_600.0, -1e9, 3_600.0):
            ids = self.accept(2)
            self.settle(self.lease(1), State.WAITING, 503, "Shutdown", None, self.now + 5)
            self.world.clock.ahead += step
            self.world.restart()
            self.case.assertIn(ids[1], [each.apns_id for each in self.lease(seconds=0)])
            self.world.clock.advance(LONGEST + 0.1)
            self.case.assertEqual({each.apns_id for each in self.lease(seconds=0)}, set(ids))
            self.world.clock.advance(100)
            self.ask("purge", "chess", State.WAITING, 100)

    def test_numbers_are_new(self) -> None:
        """The number of a deleted notification is not used again, even after a restart."""
        numbers = []
        for _ in range(3):
            [receipt] = self.do("accept", [message(self.world, 2)])
            numbers += receipt.numbers
            self.ask("purge", "chess", State.WAITING, 10)
            self.world.restart()
        self.case.assertEqual(len(set(numbers)), 6)

    def test_another_attempt(self) -> None:
        """A retried notification is leased when it is due, after those due before, and its attempts are counted."""
        ids = self.accept(2)
        self.settle(self.lease(1), State.WAITING, 503, "Shutdown", None, self.now + 5)
        later = self.accept(1)
        self.case.assertEqual(self.world.queue.waiting("chess").count, 3)
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
        """The first final state stays, and unknown notifications are ignored, in one call and in several."""
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
        self.case.assertEqual((self.lease(), self.world.queue.waiting("chess").count), ([], 0))
        self.case.assertEqual(self.read("after", None, 0, 10), [])

    def test_accepted_by_apple(self) -> None:
        """What was only accepted is settled by its number, together with others that are rejected or tried again."""
        ids = self.accept(6)
        numbers = [each.number for each in self.lease()]
        others = [
            Settlement(numbers[3], State.REJECTED, 400, "BadTopic"),
            Settlement(numbers[4], State.WAITING, 500, due=self.now),
        ]
        self.world.clock.advance(1)
        self.do("settle", others, [*numbers[:3], 10**6])
        self.case.assertEqual(self.world.queue.waiting("chess").count, 2)
        found = [self.outcome(each) for each in ids]
        states = [*[State.ACCEPTED] * 3, State.REJECTED, State.WAITING, State.WAITING]
        self.case.assertEqual([each.state for each in found], states)
        self.case.assertEqual([each.status for each in found[:3]], [200] * 3)
        self.case.assertEqual([each.attempts for each in found], [1, 1, 1, 1, 1, 0])
        self.case.assertApproximates(found[0].settled_at or 0, self.date, 0.05)
        self.case.assertEqual([each.number for each in self.lease()], [numbers[4]])

    def test_first_final_state(self) -> None:
        """Of what is settled together, but differently, the first final state stays, and each is counted once."""
        ids = self.accept(5)
        first, second, third, fourth, fifth = [each.number for each in self.lease()]
        queue, settling = self.world.queue, []
        settling.append(queue.settle([Settlement(second, State.DEAD)], [first]))
        settling.append(queue.settle([Settlement(first, State.REJECTED, 400, "BadTopic")], [second, third]))
        settling.append(queue.settle([Settlement(fourth, State.WAITING, 500, due=self.now)], [third]))
        settling.append(queue.settle([Settlement(fifth, State.WAITING)], [fourth]))
        for each in settling:
            result(self.world.clock, each)
        found = [self.outcome(each).state for each in ids]
        accepted = State.ACCEPTED
        self.case.assertEqual(found, [accepted, State.DEAD, accepted, accepted, State.WAITING])
        self.case.assertEqual(queue.waiting("chess").count, 1)
        self.case.assertEqual([each.number for each in self.lease()], [fifth])

    def test_settled_late(self) -> None:
        """A settlement after the end of the lease still counts, once, and so does one without a lease."""
        ids = self.accept(3)
        leased = self.lease(2, seconds=1)
        self.world.clock.advance(2)
        self.settle(leased[:1], State.ACCEPTED, 200)
        for _ in range(2):
            self.do("settle", [], [leased[1].number, leased[1].number + 1])
        self.case.assertEqual((self.lease(), self.world.queue.waiting("chess").count), ([], 0))
        self.case.assertEqual([self.outcome(each).state for each in ids], [State.ACCEPTED] * 3)

    def test_put_back_late(self) -> None:
        """What is put back after the end of its lease is leased when it is due now, though it was due later."""
        self.accept(2)
        [first, _] = self.lease(2, seconds=1)
        self.world.clock.advance(2)
        for seconds, found in ((60, []), (0, [first.number])):
            self.settle([first], State.WAITING, 503, "Shutdown", None, self.now + seconds)
            self.case.assertEqual([each.number for each in self.lease(2) if each.number == first.number], found)

    def test_depths(self) -> None:
        """Depths tell how much waits, how much of it is leased, and since when the first is due."""
        start = self.now
        self.accept(3, "chess")
        self.world.clock.advance(5)
        self.accept(2, "news")
        self.lease(1, "chess")
        self.settle(self.lease(app="news"), State.ACCEPTED, 200)
        chess, news = self.do("depths")
        self.case.assertEqual((chess.app, chess.waiting, chess.leased), ("chess", 3, 1))
        self.case.assertApproximates(chess.oldest, start, 0.05)
        self.case.assertEqual(news, Depth("news", 0, 0, None))
        self.world.clock.advance(100)
        self.case.assertEqual(self.do("depths")[0].leased, 0)

    def test_depth_counts_at_once(self) -> None:
        """Notifications being stored count already, so that a limit holds for requests at the same time."""
        deferred = self.world.queue.accept([message(self.world, 3)])
        self.case.assertEqual([self.world.queue.waiting(app).count for app in ("chess", "news")], [3, 0])
        result(self.world.clock, deferred)
        self.case.assertEqual(self.world.queue.waiting("chess").count, 3)

    def test_next_due(self) -> None:
        """The next due time is known, and a lease at that time succeeds."""
        self.case.assertIsNone(self.do("next_due", "chess"))
        self.accept(1)
        self.case.assertLessEqual(self.do("next_due", "chess"), self.now)
        leased = self.lease()
        self.case.assertIsNone(self.do("next_due", "chess"))
        self.settle(leased, State.WAITING, 0, "", None, self.now + 7.1234567)
        due = self.do("next_due", "chess")
        self.case.assertApproximates(due, self.now + 7.123, 0.05)
        self.world.clock.rightNow = due
        self.case.assertEqual(len(self.lease(seconds=5)), 1)
        self.world.clock.advance(6)
        self.case.assertLessEqual(self.do("next_due", "chess"), self.now)

    def test_due_apps(self) -> None:
        """The apps of which something is due are known; one whose notifications are put off is not among them."""
        self.case.assertEqual(self.do("due_apps"), [])
        self.accept(2, "go")
        self.accept(2, "chess")
        self.case.assertEqual(self.do("due_apps"), ["chess", "go"])
        self.settle(self.lease(app="chess"), State.WAITING, 0, "", None, self.now + 7)
        self.settle(self.lease(1, app="go"), State.ACCEPTED)
        self.case.assertEqual(self.do("due_apps"), ["go"])
        self.settle(self.lease(app="go"), State.ACCEPTED)
        self.case.assertEqual(self.do("due_apps"), [])
        self.world.clock.advance(8)
        self.case.assertEqual(self.do("due_apps"), ["chess"])

    def test_stopped(self) -> None:
        """Requests before the stop are finished; later ones are refused."""
        [first] = self.accept(1)
        accepting = self.world.queue.accept([message(self.world, 2)])
        reading = self.world.outcome_log.latest(first)
        stopped = self.world.queue.stop()
        refused = [
            self.world.queue.accept([message(self.world)]),
            self.world.queue.lease("chess", 1, self.now + 1),
            self.world.queue.settle([]),
            self.world.outcome_log.latest(first),
            self.world.outcome_log.outcomes([1]),
            self.world.outcome_log.retry("chess", 1),
            self.world.outcome_log.prune(0.0),
        ]
        for each in refused:
            with self.case.assertRaises(Unavailable):
                result(self.world.clock, each)
        result(self.world.clock, stopped)
        self.case.assertEqual(len(self.case.successResultOf(accepting)[0].numbers), 2)
        self.case.assertEqual(self.case.successResultOf(reading).apns_id, first)
        self.world.restart()
        self.case.assertEqual(len(self.lease()), 3)
