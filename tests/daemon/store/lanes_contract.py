"""What every queue does with lanes and callers."""

from __future__ import annotations

from collections import Counter

from tests.daemon.store.contract import StoreContract, message
from txapns.daemon.store.turns import SHARE
from txapns.daemon.values import Lane, State

__all__ = ["LanesContract"]


class LanesContract(StoreContract):
    """The tests of a queue whose notifications have lanes and callers."""

    def put(self, lane: Lane, count: int = 1, caller: str = "web", app: str = "chess") -> set[int]:
        """Accept notifications; returns their numbers."""
        [receipt] = self.do("accept", [message(self.world, count, app, lane=lane, caller=caller)])
        return set(receipt.numbers)

    def take(self, count: int = 100, only: Lane | None = None, most: int | None = None) -> list[int]:
        """Lease some; returns their numbers."""
        return [each.number for each in self.do("lease", "chess", count, self.now + 60, most, only)]

    def test_order(self) -> None:
        """A lease takes from one lane: what is urgent goes first, and bulk last, in the order of acceptance."""
        bulk, normal = self.put(Lane.BULK, 3), self.put(Lane.NORMAL, 2)
        urgent = self.put(Lane.URGENT, 2)
        self.put(Lane.URGENT, app="news")
        found = [self.take() for _ in range(4)]
        self.case.assertEqual(found, [sorted(urgent), sorted(normal), sorted(bulk), []])
        self.case.assertEqual(self.world.queue.waiting("chess").count, 7)

    def test_only(self) -> None:
        """A lease of one lane takes from no other."""
        bulk = self.put(Lane.BULK, 2)
        self.case.assertEqual(self.take(only=Lane.URGENT), [])
        urgent = self.put(Lane.URGENT, 3)
        self.case.assertEqual(set(self.take(2, only=Lane.URGENT)), set(sorted(urgent)[:2]))
        self.case.assertEqual(self.take(only=Lane.URGENT, most=2), [])
        self.case.assertEqual(set(self.take(only=Lane.BULK)), bulk)
        self.case.assertEqual(len(self.take(most=6)), 1)

    def test_share(self) -> None:
        """While all lanes have more, each gets at least one notification in five, or in six at the beginning."""
        lanes = {lane: self.put(lane, 60) for lane in Lane}
        turns = []
        for _ in range(3 * (SHARE + 1) + 1):
            found = self.take(4)
            self.case.assertEqual(len(found), 4)
            turns += [lane for lane in Lane if set(found) <= lanes[lane]]
        self.case.assertEqual(turns[: SHARE + 2], [Lane.URGENT] * SHARE + [Lane.NORMAL, Lane.BULK])
        self.case.assertEqual(Counter(turns), {Lane.URGENT: 10, Lane.NORMAL: 3, Lane.BULK: 3})

    def test_share_is_not_saved(self) -> None:
        """A lane that had nothing due is owed nothing."""
        urgent = self.put(Lane.URGENT, 40)
        for _ in range(2 * SHARE):
            self.take(4)
        self.put(Lane.BULK, 4)
        self.case.assertLessEqual(set(self.take(4)), urgent)

    def test_callers(self) -> None:
        """Callers with something due in a lane get equal parts, whoever came first; each in its order."""
        campaign = sorted(self.put(Lane.NORMAL, 50, "campaign"))
        shop, web = sorted(self.put(Lane.NORMAL, 3, "shop")), sorted(self.put(Lane.NORMAL, 30, "web"))
        found = self.take(9)
        self.case.assertEqual(sorted(found), sorted(campaign[:3] + shop + web[:3]))
        self.case.assertEqual(sorted(self.take(8)), sorted(campaign[3:7] + web[3:7]))
        self.case.assertEqual(sorted(self.take(7)), sorted(campaign[7:11] + web[7:10]))

    def test_turns(self) -> None:
        """If more callers have something due than may be leased, they take turns."""
        first = {min(self.put(Lane.BULK, 9, f"caller {n}")) for n in range(7)}
        rounds = [set(self.take(3)) for _ in range(3)]
        self.case.assertEqual([len(each) for each in rounds], [3, 3, 3])
        self.case.assertLessEqual(first, set.union(*rounds))

    def test_names(self) -> None:
        """A caller may have any name."""
        for name in ("", "Zoë 🎈", "a" * 1_000, "%s'\"\\"):
            numbers = self.put(Lane.URGENT, 1, name)
            self.case.assertEqual(set(self.take()), numbers)

    def test_kept(self) -> None:
        """A retry of any kind, and a restart, keep the lane and the caller."""
        lanes = [self.put(lane, 2, "web") for lane in (Lane.BULK, Lane.URGENT)]
        for state in (State.DEAD, State.WAITING):
            leased = [each for _ in range(2) for each in self.lease()]
            self.settle(leased, state)
            if state is State.DEAD:
                self.case.assertEqual(self.ask("retry", "chess", 10), 4)
            self.world.restart()
        self.put(Lane.BULK, 50, "shop")
        found = [set(self.take(4)) for _ in range(2)]
        self.case.assertEqual((found[0], len(found[1] & lanes[0])), (lanes[1], 2))

    def test_next_due(self) -> None:
        """The next due time is the earliest of all lanes and callers."""
        for n, lane in enumerate((Lane.NORMAL, Lane.URGENT, Lane.BULK)):
            self.put(lane, 1, f"caller {n}")
            self.settle(self.lease(1), State.WAITING, 0, "", None, self.now + 9 - n)
        self.case.assertApproximates(self.do("next_due", "chess"), self.now + 7, 0.5)
        self.case.assertEqual((self.do("due_apps"), self.take()), ([], []))
        [depth] = self.do("depths")
        self.case.assertApproximates(depth.oldest, self.now + 7, 0.5)
        self.world.clock.advance(8)
        self.case.assertEqual((self.do("due_apps"), len(self.take())), (["chess"], 1))

    def test_purged(self) -> None:
        """Purging takes from all lanes and callers."""
        for lane in Lane:
            self.put(lane, 2, f"caller {lane}")
        self.case.assertEqual(self.ask("purge", "chess", State.WAITING, 5), 5)
        self.case.assertEqual([len(self.take()), len(self.take())], [1, 0])

    def prune(self, before: float = 0.0) -> None:
        """Prune until there is nothing to do."""
        while self.ask("prune", before, 10):
            pass

    def test_forgotten(self) -> None:
        """Of callers that come and go nothing is left; what is leased or dead keeps its lane when it is retried."""
        for n in range(25):
            self.put(Lane.URGENT, 1, f"caller {n}")
            self.settle(self.lease(), State.ACCEPTED, 200)
        urgent, bulk = self.put(Lane.URGENT, 1, "dead"), self.put(Lane.BULK, 1, "leased")
        self.settle(self.lease(), State.DEAD)
        leased = self.lease()
        self.case.assertEqual(len(self.world.flows()), 27)
        self.prune()
        self.case.assertEqual(self.world.flows(), {"dead", "leased"})
        self.settle(leased, State.WAITING, 0, "", None, self.now)
        self.prune()
        self.case.assertEqual(self.ask("retry", "chess", 10), 1)
        self.prune()
        self.put(Lane.NORMAL)
        self.case.assertEqual([set(self.take()) for _ in range(3)][::2], [urgent, bulk])

    def test_forgotten_and_back(self) -> None:
        """A caller that comes back is served as before, and so is one that comes in its place."""
        for name in ("web", "web", "shop"):
            numbers = self.put(Lane.BULK, 3, name)
            leased = self.lease()
            self.case.assertEqual({each.number for each in leased}, numbers)
            self.settle(leased, State.ACCEPTED, 200)
            self.case.assertEqual(self.world.flows(), {name})
            self.prune()
            self.case.assertEqual(self.world.flows(), set())
            self.case.assertEqual(self.do("next_due", "chess"), None)
