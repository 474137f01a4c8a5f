"""What every outcome feed does."""

from __future__ import annotations

from typing import Any

import attrs
from zope.interface.verify import verifyObject

from tests.daemon.store.contract import HEADERS, ID, OTHER, PAYLOAD, StoreContract, message
from txapns.daemon.interfaces import IOutcomeFeed
from txapns.daemon.values import CHANNEL, Environment, Message, RecordedOutcome, Settlement, State

__all__ = ["OutcomeFeedContract"]


class OutcomeFeedContract(StoreContract):
    """The tests of an outcome feed."""

    def setUp(self) -> None:
        """Record the outcomes of two apps."""
        super().setUp()
        self.world.feed.keep(["chess", "news"])

    def follow(self, name: str, *arguments: Any) -> Any:
        """Call a method of the outcome feed, and wait for the result."""
        return self.result(getattr(self.world.feed, name)(*arguments))

    def live(self, count: int = 1, app: str = "chess", start: int = 0, state: State = State.ACCEPTED) -> list[str]:
        """Accept notifications, and settle them in one transaction."""
        ids = self.accept(count, app, start)
        self.settle(self.lease(app=app), state, 200 if state is State.ACCEPTED else 400)
        return ids

    def cursors(self, app: str = "chess") -> list[int]:
        """List what an app's feed has."""
        return [each.cursor for each in self.follow("after", app, 0, 1_000)]

    def forget(self, before: float, most: int = 1_000, limit: int = 10_000) -> list[int]:
        """Forget all that can be forgotten, and tell how many were at a time."""
        steps = []
        while count := self.follow("prune", before, most, limit):
            steps.append(count)
        return steps

    def test_interface(self) -> None:
        """It has all methods of the interface."""
        verifyObject(IOutcomeFeed, self.world.feed)

    def test_recorded(self) -> None:
        """Each final state is recorded as it was stored, and what waits is not."""
        ids = self.accept(6)
        leased = self.lease(5)
        settlements = [
            Settlement(leased[0].number, State.ACCEPTED, 200, unique_id="E77A", environment=Environment.SANDBOX),
            Settlement(leased[1].number, State.REJECTED, 410, "Unregistered", 5.0),
            Settlement(leased[2].number, State.EXPIRED),
            Settlement(leased[3].number, State.DEAD, 503, "Shutdown"),
            Settlement(leased[4].number, State.WAITING, 503, "Shutdown", due=self.now + 5),
        ]
        self.do("settle", settlements)
        found = self.follow("after", "chess", 0, 10)
        self.case.assertEqual([each.outcome for each in found], [self.outcome(each) for each in ids[:4]])
        self.case.assertEqual([(each.cursor, each.token) for each in found], self.numbered(4))
        self.case.assertEqual([each.outcome.environment for each in found], [Environment.SANDBOX, None, None, None])
        self.case.assertEqual(self.follow("after", "chess", 2, 1), found[2:3])
        self.case.assertEqual([self.follow("after", app, 0, 10) for app in ("news", "go")], [[], []])

    def test_broadcasts(self) -> None:
        """The channel of a broadcast is recorded, and is still known when its message is forgotten."""
        headers = {**HEADERS, CHANNEL: "AbCd/+=="}
        first, second = (Message("chess", PAYLOAD, headers, [b""], [apns_id]) for apns_id in (ID, OTHER))
        self.do("accept", [first, message(self.world), second])
        leased = self.lease()
        self.settle(leased[:2], State.ACCEPTED, 200)
        self.settle(leased[2:], State.REJECTED, 400, "ChannelNotRegistered")
        found = self.follow("after", "chess", 0, 10)
        self.case.assertEqual([each.outcome.channel for each in found], ["AbCd/+==", None, "AbCd/+=="])
        self.case.assertEqual([each.outcome for each in found[::2]], [self.outcome(each) for each in (ID, OTHER)])
        self.ask("purge", "chess", State.REJECTED, 10)
        self.case.assertEqual(self.follow("take", None, "web", 10), found)

    def numbered(self, count: int) -> list[tuple[int, bytes]]:
        """The cursors and the tokens of the first notifications."""
        return [(n + 1, n.to_bytes(32, "big")) for n in range(count)]

    def test_once(self) -> None:
        """A final state is recorded once, however often it is settled, and a dead letter that is retried has two."""
        self.accept(3)
        leased = self.lease()
        for state in (State.DEAD, State.ACCEPTED, State.REJECTED):
            self.settle(leased[:2], state, 503)
        self.case.assertEqual(self.ask("retry", "chess", 1), 1)
        [again] = self.lease()
        self.settle([again, *leased[1:]], State.ACCEPTED, 200)
        found = [(each.outcome.number, each.outcome.state) for each in self.follow("after", "chess", 0, 10)]
        first, second, third = (each.number for each in leased)
        expected = [(first, State.DEAD), (second, State.DEAD), (first, State.ACCEPTED), (third, State.ACCEPTED)]
        self.case.assertEqual(found, expected)
        self.case.assertEqual(self.cursors(), [1, 2, 3, 4])

    def test_kept(self) -> None:
        """Only the outcomes of the apps that ask for it are recorded; what was recorded before stays."""
        self.live(2)
        self.world.feed.keep(["news"])
        self.live(2, start=5)
        self.live(1, "news")
        self.live(1, "go")
        self.case.assertEqual([self.cursors(app) for app in ("chess", "news", "go")], [[1, 2], [1], []])
        self.world.feed.keep(["chess"])
        self.live(1)
        self.live(1, "news")
        self.case.assertEqual([self.cursors(app) for app in ("chess", "news")], [[1, 2, 3], [1]])

    def test_together(self) -> None:
        """Outcomes of several apps that are settled in one transaction have the cursors of their apps."""
        for app in ("chess", "news", "go", "chess"):
            self.accept(2, app)
        leased = [each for app in ("news", "chess", "go") for each in self.lease(app=app)]
        pending = [
            self.world.queue.settle([Settlement(each.number, State.ACCEPTED, 200) for each in leased[n::2]])
            for n in range(2)
        ]
        for each in pending:
            self.result(each)
        self.case.assertEqual([self.cursors(app) for app in ("chess", "news", "go")], [[1, 2, 3, 4], [1, 2], []])

    def test_restarted(self) -> None:
        """The feed outlives a restart and the outcomes themselves, and goes on after the last cursor."""
        ids = self.live(3, state=State.REJECTED)
        self.follow("confirm", "web", {"chess": 1})
        before = self.follow("after", "chess", 0, 10)
        self.ask("purge", "chess", State.REJECTED, 100)
        self.case.assertIsNone(self.ask("latest", ids[0]))
        self.world.restart()
        self.world.feed.keep(["chess"])
        self.case.assertEqual(self.follow("after", "chess", 0, 10), before)
        self.live(1)
        self.case.assertEqual([each.cursor for each in self.follow("take", ["chess"], "web", 10)], [2, 3, 4])

    def test_readers(self) -> None:
        """The feed keeps each reader's position in each app; until it is confirmed, the same entries come again."""
        self.live(3)
        self.live(2, "news")

        def taken(apps: list[str] | None, reader: str = "web", limit: int = 10) -> list[tuple[str, int]]:
            return [(each.outcome.app, each.cursor) for each in self.follow("take", apps, reader, limit)]

        every = [("chess", 1), ("chess", 2), ("chess", 3), ("news", 1), ("news", 2)]
        self.case.assertEqual([taken(apps) for apps in (None, None, ["chess"], [])], [every, every, every[:3], []])
        self.follow("confirm", "web", {"chess": 2, "news": 1})
        self.follow("confirm", "web", {"chess": 1, "unknown": 1})
        self.world.restart()
        self.case.assertEqual(taken(None), [("chess", 3), ("news", 2)])
        self.case.assertEqual(taken(["news", "unknown"]), [("news", 2)])
        self.case.assertEqual(taken(None, "other"), every)
        self.follow("confirm", "web", {})

    def test_shared(self) -> None:
        """Where several apps have many entries, each has its share of those that are taken."""
        self.live(9)
        self.live(9, "news")
        self.case.assertEqual(
            [(each.outcome.app, each.cursor) for each in self.follow("take", None, "web", 4)],
            [("chess", 1), ("chess", 2), ("news", 1), ("news", 2)],
        )
        self.case.assertEqual(len(self.follow("take", None, "web", 1)), 2)

    def test_behind(self) -> None:
        """What a reader has not confirmed is counted, without what was forgotten."""
        self.live(3)
        self.live(2, "news")
        self.follow("confirm", "web", {"chess": 1})
        behind = [self.follow("behind", apps, "web") for apps in (None, ["chess"], ["news", "go"], [])]
        self.case.assertEqual(behind, [4, 2, 2, 0])
        self.forget(self.date - 50, most=1)
        self.case.assertEqual([self.follow("behind", apps, "web") for apps in (None, ["chess"])], [2, 1])
        self.follow("confirm", "web", {"chess": 9, "news": 2})
        self.case.assertEqual(self.follow("behind", None, "web"), 0)

    def test_old(self) -> None:
        """Old entries are forgotten, a part at a time; a reader goes on after them, and cursors are not used again."""
        self.live(5)
        self.world.clock.advance(100)
        self.live(2)
        self.live(1, "news")
        steps = self.forget(self.date - 50, limit=2)
        self.case.assertEqual((sum(steps), max(steps)), (5, 2))
        self.case.assertEqual([self.cursors(app) for app in ("chess", "news")], [[6, 7], [1]])
        self.case.assertEqual([each.cursor for each in self.follow("take", ["chess"], "web", 1)], [6])
        self.world.clock.advance(100)
        self.forget(self.date - 50)
        self.case.assertEqual((self.cursors(), self.follow("take", None, "web", 10)), ([], []))
        self.live(1)
        self.case.assertEqual(self.cursors(), [8])

    def test_too_many(self) -> None:
        """Of each app so many are kept at most, however young."""
        self.live(9)
        self.live(3, "news")
        self.case.assertEqual(self.forget(self.date - 50, most=4, limit=3), [3, 2])
        self.case.assertEqual([self.cursors(app) for app in ("chess", "news")], [[6, 7, 8, 9], [1, 2, 3]])

    def test_clock_set_back(self) -> None:
        """What comes before an old entry is as old, whatever the clock said."""
        self.live(1)
        self.world.clock.ahead += 1_000.0
        self.live(1)
        self.world.clock.ahead -= 1_000.0
        self.live(1)
        self.world.clock.advance(100)
        self.live(1)
        self.forget(self.date - 50)
        self.case.assertEqual(self.cursors(), [4])

    def test_subscribed(self) -> None:
        """A listener is called with the app once outcomes are recorded, and not after it has left."""
        told: list[tuple[str, int]] = []

        def listener(app: str) -> None:
            self.world.feed.after(app, 0, 10).addCallback(lambda found: told.append((app, len(found))))

        leave = self.world.feed.subscribe(listener)
        self.live(2)
        self.live(2, "go")
        self.case.assertEqual(told, [("chess", 2)])
        leave()
        self.live(1)
        self.case.assertEqual(told, [("chess", 2)])

    def test_secret(self) -> None:
        """No representation shows a whole token."""
        self.live(1)
        [found] = self.follow("after", "chess", 0, 10)
        token = b"\xab" * 32
        self.case.assertNotIn(token.hex(), repr(attrs.evolve(found, token=token)))
        self.case.assertIsInstance(found, RecordedOutcome)
