"""What every outcome log does."""

from __future__ import annotations

from zope.interface.verify import verifyObject

from tests.daemon.store.contract import ID, PAYLOAD, TOKENS, StoreContract, message
from txapns.daemon.interfaces import IOutcomeLog
from txapns.daemon.values import Environment, Idempotency, Message, Settlement, State

__all__ = ["OutcomeLogContract"]


class OutcomeLogContract(StoreContract):
    """The tests of an outcome log."""

    def test_interface(self) -> None:
        """It has all methods of the interface."""
        verifyObject(IOutcomeLog, self.world.outcome_log)

    def test_outcomes(self) -> None:
        """Each outcome is recorded, and a settled notification is not leased again."""
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
            self.case.assertApproximates(each.accepted_at, accepted_at, 0.05)
        self.case.assertApproximates(found[0].settled_at or 0.0, accepted_at + 1, 0.05)
        self.case.assertIsNone(found[4].settled_at)
        self.world.clock.advance(1000)
        self.case.assertEqual([each.apns_id for each in self.lease()], ids[4:])
        self.case.assertEqual(self.world.queue.waiting("chess").count, 1)

    def test_environment(self) -> None:
        """The environment whose answer it is stays with the outcome; what is tried again has none, nor what waits."""
        ids = self.accept(5)
        leased = self.lease()
        for each, environment in zip(leased, (*Environment, Environment.SANDBOX, *Environment), strict=True):
            state = (State.ACCEPTED, State.REJECTED, State.DEAD, State.ACCEPTED, State.WAITING)[leased.index(each)]
            due = self.now if state is State.WAITING else None
            self.do("settle", [Settlement(each.number, state, 200, due=due, environment=environment)])
        found = [self.outcome(each).environment for each in ids]
        self.case.assertEqual(found, [*Environment, Environment.SANDBOX, Environment.PRODUCTION, None])
        self.case.assertEqual(self.ask("retry", "chess", 1), 1)
        self.case.assertEqual(self.outcome(ids[2]).environment, None)

    def test_uncounted(self) -> None:
        """An attempt that does not count is put off as one that does."""
        [apns_id] = self.accept()
        [leased] = self.lease()
        self.do("settle", [Settlement(leased.number, State.WAITING, due=self.now + 5, counted=False)])
        self.case.assertEqual((self.outcome(apns_id).attempts, self.lease()), (0, []))
        self.world.clock.advance(5.0)
        self.case.assertEqual([each.attempts for each in self.lease()], [0])

    def test_unique_id(self) -> None:
        """Apple's unique id is kept with the outcome, wherever that is shown, and over a restart."""
        ids = self.accept(3)
        first, second, third = self.lease()
        self.do(
            "settle",
            [
                Settlement(first.number, State.ACCEPTED, 200, unique_id="E77A-0"),
                Settlement(second.number, State.REJECTED, 400, "BadTopic", unique_id="E77A-1"),
                Settlement(third.number, State.ACCEPTED, 200),
            ],
        )
        self.world.restart()
        self.case.assertEqual([self.outcome(each).unique_id for each in ids], ["E77A-0", "E77A-1", ""])
        found = [self.ask("listed", "chess", state, 9)[0].outcome for state in (State.ACCEPTED, State.REJECTED)]
        self.case.assertEqual([(each.unique_id, each.status) for each in found], [("E77A-0", 200), ("E77A-1", 400)])

    def test_repeated_later(self) -> None:
        """An id that comes again, long after, is the latest notification's, of each app and of all."""
        for app in ("chess", "news", "chess", "mail"):
            self.do("accept", [Message(app, PAYLOAD, {}, TOKENS[:1], [ID])])
            self.accept(2)
            self.world.restart()  # the next numbers are much higher
        numbers = {
            apps: self.ask("latest", ID, apps).number for apps in (None, ("chess",), ("news",), ("news", "chess"))
        }
        self.case.assertEqual(numbers["news", "chess"], numbers["chess",])
        self.case.assertLess(numbers["news",], numbers["chess",])
        self.case.assertLess(numbers["chess",], numbers[None])
        self.case.assertEqual([self.ask("latest", ID, apps) for apps in ([], ["maps"])], [None, None])

    def test_unknown(self) -> None:
        """Nothing is known of an id that was never accepted, or is not an id at all."""
        self.case.assertEqual([self.ask("latest", each) for each in (ID, "", "what?")], [None] * 3)

    def test_id_used_twice(self) -> None:
        """The latest of those with the same id is found, among the named apps only."""
        for app in ("chess", "chess", "news"):
            self.do("accept", [Message(app, PAYLOAD, {}, [b"1"], [ID])])
        self.case.assertEqual(self.outcome(ID).app, "news")
        found = [self.ask("latest", ID, apps) for apps in ([], ["chess"], ["chess", "news"], ["go"], ["go", "chess"])]
        self.case.assertEqual([each and each.app for each in found], [None, "chess", "news", None, "chess"])
        self.settle(self.lease(1), State.ACCEPTED, 200)
        self.case.assertEqual(self.ask("latest", ID, ["chess"]).state, State.WAITING)
        self.settle(self.lease(1), State.REJECTED, 400, "BadTopic")
        self.case.assertEqual(self.ask("latest", ID, ["chess"]).state, State.REJECTED)

    def test_one_id_for_all(self) -> None:
        """Notifications with the same id, in one message or several, have outcomes of their own."""
        groups = [[b"1", b"2"], [b"3"]]
        receipts = self.do("accept", [Message("chess", PAYLOAD, {}, tokens, [ID] * len(tokens)) for tokens in groups])
        receipts += self.do("accept", [Message("chess", PAYLOAD, {}, [b"4"], [ID])])
        numbers = [number for receipt in receipts for number in receipt.numbers]
        self.case.assertEqual(len(set(numbers)), 4)
        leased = self.lease()
        self.case.assertEqual([(each.number, each.token) for each in leased], list(zip(numbers, TOKENS, strict=True)))
        states = [State.REJECTED, State.ACCEPTED, State.DEAD, State.EXPIRED]
        self.do("settle", [Settlement(number, state) for number, state in zip(numbers, states, strict=True)])
        found = {each.number: (each.state, each.apns_id) for each in self.ask("outcomes", [*numbers, 10**6])}
        self.case.assertEqual(found, {n: (state, ID) for n, state in zip(numbers, states, strict=True)})

    def test_listed(self) -> None:
        """Notifications of an app are listed by state, in pages."""
        ids = self.accept(2, "chess") + self.accept(2, "news") + self.accept(2, "chess")
        for app in ("chess", "news"):
            self.settle(self.lease(3, app), State.DEAD, 500, "InternalServerError")
        found = self.ask("listed", "chess", State.DEAD, 2)
        self.case.assertEqual([each.outcome.apns_id for each in found], ids[:2])
        self.case.assertEqual(found[0].token, (0).to_bytes(32, "big"))
        rest = self.ask("listed", "chess", State.DEAD, 2, found[-1].outcome.number)
        self.case.assertEqual([each.outcome for each in rest], [self.outcome(ids[4])])
        self.case.assertEqual(len(self.ask("listed", "news", State.DEAD, 10)), 2)
        waiting = self.ask("listed", "chess", State.WAITING, 9)
        self.case.assertEqual([each.outcome.apns_id for each in waiting], ids[5:])
        self.case.assertEqual(self.ask("listed", "mail", State.WAITING, 9), [])

    def test_failures(self) -> None:
        """The latest failures of an app, or of all, are those that failed last, whenever they were accepted."""
        ids = self.accept(5)
        others = self.accept(1, "news")
        leased = self.lease()
        results = [(3, State.REJECTED), (0, State.DEAD), (1, State.ACCEPTED), (2, State.EXPIRED)]
        for position, state in results:
            self.world.clock.advance(1)
            self.settle([leased[position]], state, 400 if state is State.REJECTED else 0, "BadDeviceToken")
        self.settle(self.lease(app="news"), State.REJECTED, 400, "BadTopic")
        found = self.ask("failures", "chess", 10)
        self.case.assertEqual([each.outcome.apns_id for each in found], [ids[2], ids[0], ids[3]])
        self.case.assertEqual((found[2].token, found[2].outcome.status), ((3).to_bytes(32, "big"), 400))
        self.case.assertEqual(self.ask("failures", "chess", 2), found[:2])
        self.case.assertEqual([each.outcome.apns_id for each in self.ask("failures", "news", 9)], others)
        self.case.assertEqual(self.ask("failures", "go", 9), [])
        self.world.clock.advance(1)
        [last] = self.accept(1, "go")
        self.settle(self.lease(app="go"), State.EXPIRED, 0, "")
        latest = [each.outcome.apns_id for each in self.ask("failures", None, 9)]
        self.case.assertEqual(
            (latest[0], sorted(latest[1:3]), latest[3:]), (last, sorted([ids[2], *others]), [ids[0], ids[3]])
        )
        self.case.assertEqual([each.outcome.apns_id for each in self.ask("failures", None, 1)], [last])
        self.ask("retry", "chess", 10)
        self.case.assertEqual(len(self.ask("failures", "chess", 9)), 2)

    def test_of_device(self) -> None:
        """What is known of a device of an app is all that failed, and of what did not, the latest."""
        tokens = [b"1", b"2", b"1", b"1", b"1"]
        [receipt] = self.do("accept", [Message("chess", PAYLOAD, {}, tokens, [ID] * len(tokens))])
        self.do("accept", [Message("news", PAYLOAD, {}, [b"1"], [ID])])
        leased = self.lease()
        self.settle(leased[:2], State.REJECTED, 400, "BadDeviceToken")
        self.settle(leased[2:3], State.ACCEPTED, 200)
        self.settle(leased[3:4], State.EXPIRED)

        def look(app: str, token: bytes, limit: int = 9) -> list[int]:
            return [each.outcome.number for each in self.ask("of_device", app, token, limit)]

        first, _, accepted, expired, waiting = receipt.numbers
        self.case.assertEqual(look("chess", b"1"), [waiting, expired, accepted, first])
        self.case.assertEqual(look("chess", b"1", 2), [waiting, expired])
        self.case.assertEqual((len(look("news", b"1")), look("news", b"2"), look("go", b"1")), (1, [], []))
        states = [each.outcome.state for each in self.ask("of_device", "chess", b"1", 9)]
        self.case.assertEqual(states, [State.WAITING, State.EXPIRED, State.ACCEPTED, State.REJECTED])

    def test_retried(self) -> None:
        """Dead letters, and only they, can be retried, as if they had just been accepted."""
        ids = self.accept(3)
        leased = self.lease()
        self.settle(leased[:2], State.DEAD)
        self.settle(leased[2:], State.REJECTED, 400, "BadTopic")
        self.case.assertEqual(self.ask("retry", "news", 10), 0)
        self.case.assertEqual((self.ask("retry", "chess", 1), self.world.queue.waiting("chess").count), (1, 1))
        self.case.assertEqual([(each.apns_id, each.attempts) for each in self.lease()], [(ids[0], 0)])
        self.case.assertEqual(self.ask("retry", "chess", 10), 1)
        self.case.assertEqual([each.apns_id for each in self.lease()], ids[1:2])
        self.case.assertIsNone(self.outcome(ids[1]).settled_at)

    def test_dead_letters(self) -> None:
        """They are counted for each app that has some."""
        self.accept(3)
        self.accept(1, "news")
        self.settle(self.lease(), State.DEAD)
        self.settle(self.lease(app="news"), State.REJECTED, 400, "BadTopic")
        self.case.assertEqual(self.ask("dead_letters"), {"chess": 3})
        self.ask("retry", "chess", 1)
        self.case.assertEqual(self.ask("dead_letters"), {"chess": 2})

    def test_purged(self) -> None:
        """Notifications can be deleted by state, except leased ones."""
        ids = self.accept(4, "chess") + self.accept(1, "news")
        self.lease(1)
        self.case.assertEqual(self.ask("purge", "chess", State.WAITING, 2), 2)
        self.case.assertEqual([self.ask("latest", each) is None for each in ids], [False, True, True, False, False])
        self.case.assertEqual([self.ask("purge", app, State.WAITING, 100) for app in ("chess", "news")], [1, 1])
        self.case.assertEqual([self.world.queue.waiting(app).count for app in ("chess", "news")], [1, 0])
        self.world.clock.advance(100)
        self.case.assertEqual([each.apns_id for each in self.lease()], ids[:1])
        self.case.assertEqual(self.ask("purge", "chess", State.DEAD, 100), 0)

    def test_pruned(self) -> None:
        """Old outcomes and keys are forgotten, in steps; waiting notifications are not."""
        key = Idempotency("caller", "key", b"digest")
        old = self.do("accept", [message(self.world, 5)], key)[0].apns_ids
        self.settle(self.lease(4), State.ACCEPTED, 200)
        self.world.clock.advance(100)
        recent = self.accept(2)
        self.settle(self.lease(), State.ACCEPTED, 200)
        steps = 0
        while self.ask("prune", self.date - 50, 2):
            steps += 1
        self.case.assertLess(steps, 10)
        kept = [each for each in old + recent if self.ask("latest", each) is not None]
        self.case.assertEqual(kept, old[4:] + recent)  # the fifth waited all the time, and was settled just now
        self.case.assertFalse(self.do("accept", [message(self.world, 1)], key)[0].earlier)
        self.world.clock.advance(1000)
        while self.ask("prune", self.date - 50, 2):
            pass
        self.case.assertEqual([self.ask("latest", each) for each in old + recent], [None] * 7)
        [left] = self.lease()
        self.case.assertEqual((left.payload, left.token), (PAYLOAD, (0).to_bytes(32, "big")))

    def test_seen(self) -> None:
        """An app was seen once something was accepted for it, even after a restart and if everything was deleted."""
        self.accept(1)
        self.ask("purge", "chess", State.WAITING, 10)
        for _ in range(2):
            self.case.assertEqual([self.ask("seen", app) for app in ("chess", "news")], [True, False])
            self.world.restart()
