"""What every queue does with notifications of which there is a newer one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tests.daemon.store.contract import StoreContract, message
from txapns.daemon.values import Receipt, Settlement, State

__all__ = ["SupersedingContract"]


class SupersedingContract(StoreContract):
    """The tests of it."""

    def setUp(self) -> None:
        """Note what is told."""
        super().setUp()
        self.told: list[tuple[Mapping[str, int], list[int]]] = []
        self.watch()

    def watch(self) -> None:
        """Listen."""

        def listen(counts: Mapping[str, int], numbers: Sequence[int]) -> None:
            self.told.append((dict(counts), sorted(numbers)))

        self.world.queue.subscribe(listen)

    def newer(self, count: int = 1, collapse_id: str | None = "score", start: int = 0, **more: Any) -> Receipt:
        """Accept one message, and return its receipt."""
        sent = message(self.world, count, more.pop("app", "chess"), start)
        [receipt] = self.do("accept", [msgspec.structs.replace(sent, collapse_id=collapse_id, **more)])
        assert isinstance(receipt, Receipt)
        return receipt

    def states(self, receipt: Receipt) -> list[State]:
        """The states of the notifications of a message."""
        return [each.state for each in self.ask("outcomes", receipt.numbers)]

    def waiting(self) -> int:
        """How many wait."""
        return int(self.world.queue.waiting("chess").count)

    def test_waiting(self) -> None:
        """What waits for the same devices is superseded, in the same moment, and never leased."""
        first, other = self.newer(5), self.newer(2, start=10)
        date = self.date
        second = self.newer(3, start=1)
        self.case.assertEqual(
            self.states(first), [State.WAITING, *[State.SUPERSEDED] * 3, State.WAITING], self.ask("outcomes", [1])
        )
        found = self.ask("outcomes", list(first.numbers)[1:2])
        self.case.assertEqual([(each.status, each.reason, each.attempts) for each in found], [(0, "", 0)])
        self.case.assertApproximates(found[0].settled_at, date, 0.05)
        self.case.assertEqual(self.told, [({"chess": 3}, list(first.numbers)[1:4])])
        self.case.assertEqual(self.waiting(), 7)
        self.world.restart()
        self.case.assertEqual(self.waiting(), 7)
        leased = [each.number for each in self.lease()]
        expected = [first.numbers[0], first.numbers[4], *other.numbers, *second.numbers]
        self.case.assertEqual(leased, expected)
        entries = self.ask("listed", "chess", State.SUPERSEDED, 10)
        self.case.assertEqual([each.outcome.number for each in entries], list(first.numbers)[1:4])

    def test_others(self) -> None:
        """Another app, another collapse id, another device, or none: nothing is superseded."""
        receipts = [
            self.newer(),
            self.newer(app="news"),
            self.newer(collapse_id="move"),
            self.newer(start=1),
            self.newer(collapse_id=None),
            self.newer(collapse_id=None),
        ]
        self.case.assertEqual([self.states(each) for each in receipts], [[State.WAITING]] * 6)
        self.case.assertEqual(self.told, [])

    def test_one_request(self) -> None:
        """Of the same device in one request the last one stays, and the receipts tell of it."""
        first, second, third = message(self.world, 3), message(self.world, 2), message(self.world, 2, start=5)
        second = msgspec.structs.replace(second, tokens=[second.tokens[0]] * 2)
        sent = [msgspec.structs.replace(each, collapse_id="score") for each in (first, second, third)]
        receipts = self.do("accept", sent)
        states = [self.states(each) for each in receipts]
        waiting, superseded = State.WAITING, State.SUPERSEDED
        self.case.assertEqual(states, [[superseded, waiting, waiting], [superseded, waiting], [waiting, waiting]])
        self.case.assertEqual([each.superseded for each in receipts], [True, True, False])
        self.case.assertEqual(self.waiting(), 5)

    def test_together(self) -> None:
        """The same holds of requests that arrive together, whoever waits for the one superseded."""
        sent = [msgspec.structs.replace(message(self.world, 2), collapse_id="score") for _ in range(3)]
        accepting = [self.world.queue.accept([each]) for each in sent]
        self.world.clock.advance(0.002)
        found: list[Any] = []
        for each in accepting:
            each.addCallback(found.extend)
        self.world.clock.advance(0.002)
        self.case.assertEqual([each.superseded for each in found], [True, True, False])
        self.case.assertEqual([self.states(each)[0] for each in found], [State.SUPERSEDED] * 2 + [State.WAITING])
        self.case.assertEqual((self.waiting(), len(self.told)), (2, 1))

    def test_large(self) -> None:
        """What is small does not become the older one because it need not wait for what is large."""
        large, small = [
            msgspec.structs.replace(message(self.world), payload=b" " * size + b"{}", collapse_id="score")
            for size in (2**17, 0)
        ]
        rest = msgspec.structs.replace(message(self.world, start=1), payload=large.payload)
        found: list[Any] = []

        def go_on(_: object) -> None:
            for each in (large, small):
                self.world.queue.accept([each]).addCallback(found.extend)

        self.do("accept", [rest])
        self.world.queue.accept([rest]).addCallback(go_on)
        for _ in range(10):
            self.world.clock.advance(0.002)
        self.case.assertEqual([each.superseded for each in found], [True, False])
        self.case.assertEqual([self.states(each) for each in found], [[State.SUPERSEDED], [State.WAITING]])

    def test_leased(self) -> None:
        """What is leased is left alone: its answer counts, whatever that is."""
        first = self.newer(3)
        accepted, rejected, dead = self.lease()
        self.newer(3)
        self.case.assertEqual((self.states(first), self.told), ([State.WAITING] * 3, []))
        self.settle([accepted], State.ACCEPTED, 200)
        self.settle([rejected], State.REJECTED, 410, "Unregistered")
        self.settle([dead], State.DEAD, 503, "Shutdown")
        self.case.assertEqual(self.states(first), [State.ACCEPTED, State.REJECTED, State.DEAD])

    def test_given_back(self) -> None:
        """What was leased then is superseded when it comes back: given back, or tried again, or after its lease."""
        first = self.newer(4)
        _, released, retried, kept = self.lease(seconds=20.0)[:4]
        second = self.newer(4)
        self.settle(self.lease(), State.ACCEPTED, 200)
        self.settle([kept], State.ACCEPTED, 200)
        self.do("release", [released.number])
        self.settle([retried], State.WAITING, 503, "Shutdown", None, self.now + 500.0)
        [told] = self.ask("outcomes", [retried.number])
        self.case.assertEqual((told.state, told.status, told.reason), (State.SUPERSEDED, 503, "Shutdown"))
        self.case.assertEqual(self.lease(), [])
        self.world.clock.advance(10.0)
        self.case.assertEqual(self.lease(), [])
        self.world.clock.advance(20.0)
        self.case.assertEqual(self.lease(), [])
        self.case.assertEqual(self.states(first), [*[State.SUPERSEDED] * 3, State.ACCEPTED])
        self.case.assertEqual(self.states(second), [State.ACCEPTED] * 4)
        self.case.assertEqual(sorted(n for _, numbers in self.told for n in numbers), list(first.numbers)[:3])
        self.case.assertEqual(self.waiting(), 0)

    def test_restart(self) -> None:
        """The same holds after a restart, and what is leased with it is sent."""
        first = self.newer(2)
        self.lease()
        second = self.newer(1)
        self.world.restart()
        self.watch()
        self.case.assertEqual([each.number for each in self.lease()], [first.numbers[1], *second.numbers])
        self.case.assertEqual(self.states(first), [State.SUPERSEDED, State.WAITING])
        self.case.assertEqual(self.told, [({"chess": 1}, [first.numbers[0]])])

    def test_dead_letter(self) -> None:
        """A dead letter stays one; if there is a newer one, it is superseded when it is retried."""
        first = self.newer(2)
        self.settle(self.lease(), State.DEAD, 503, "Shutdown")
        second = self.newer(1)
        self.settle(self.lease(), State.ACCEPTED, 200)
        self.case.assertEqual(self.states(first), [State.DEAD] * 2)
        self.case.assertEqual(self.ask("retry", "chess", 10), 2)
        self.case.assertEqual([each.number for each in self.lease()], [first.numbers[1]])
        self.case.assertEqual(self.states(first), [State.SUPERSEDED, State.WAITING])
        self.case.assertEqual(self.states(second), [State.ACCEPTED])

    def test_retried(self) -> None:
        """What waits for another attempt is superseded, and so is a dead letter that was retried before."""
        first = self.newer(2)
        retried, dead = self.lease()
        self.settle([retried], State.WAITING, 503, "Shutdown", None, self.now + 100.0)
        self.settle([dead], State.DEAD, 503, "Shutdown")
        self.ask("retry", "chess", 10)
        second = self.newer(2)
        found = self.ask("outcomes", first.numbers)
        self.case.assertEqual(
            [(each.state, each.attempts) for each in found], [(State.SUPERSEDED, 1), (State.SUPERSEDED, 0)]
        )
        self.case.assertEqual([each.number for each in self.lease()], list(second.numbers))

    def test_not_before(self) -> None:
        """A newer one supersedes what waits, whichever of them is due first."""
        first = self.newer(1, not_before=self.date + 50.0)
        second = self.newer(1)
        third = self.newer(1, not_before=self.date + 100.0)
        self.case.assertEqual(
            [self.states(each) for each in (first, second, third)],
            [[State.SUPERSEDED], [State.SUPERSEDED], [State.WAITING]],
        )
        self.case.assertEqual(self.lease(), [])
        self.world.clock.advance(101.0)
        self.case.assertEqual([each.number for each in self.lease()], list(third.numbers))

    def test_late_settlement(self) -> None:
        """A settlement of what is superseded by then is ignored, and nothing is counted twice."""
        first = self.newer(1)
        leased = self.lease(seconds=5.0)
        self.world.clock.advance(6.0)
        self.newer(1)
        self.case.assertEqual(self.states(first), [State.SUPERSEDED])
        self.settle(leased, State.ACCEPTED, 200)
        self.case.assertEqual((self.states(first), self.waiting()), ([State.SUPERSEDED], 1))

    def test_settled_late(self) -> None:
        """What came back superseded, and is settled otherwise by then, is not told as superseded."""
        first = self.newer(2)
        accepted, retried = self.lease(seconds=5.0)
        self.newer(2)
        self.world.clock.advance(6.0)
        late = [Settlement(accepted.number, State.ACCEPTED, 200)]
        late.append(Settlement(retried.number, State.WAITING, 503, "Shutdown", None, self.now + 500.0))
        settling = self.world.queue.settle(late)  # gathered, and stored together with what the lease finds
        self.case.assertEqual(len(self.lease()), 2)
        self.result(settling)
        self.case.assertEqual(self.states(first), [State.ACCEPTED, State.SUPERSEDED])
        self.case.assertEqual(self.told, [({"chess": 1}, [retried.number])])
        self.case.assertEqual(self.waiting(), 2)

    def test_many(self) -> None:
        """A request for thousands supersedes thousands, of tokens with different lengths."""
        tokens = [n.to_bytes(2, "big") * (16 if n % 7 else 50) for n in range(3_000)]
        first, second = self.newer(3_000, tokens=tokens), self.newer(3_000, tokens=tokens)
        self.case.assertEqual((self.waiting(), len(self.told[0][1])), (3_000, 3_000))
        self.case.assertEqual([each.number for each in self.lease(10_000)], list(second.numbers))
        self.do("settle", [Settlement(number, State.ACCEPTED, 200) for number in first.numbers])
        self.case.assertEqual(set(self.states(first)), {State.SUPERSEDED})

    def test_same_device(self) -> None:
        """A request that has one device thousands of times is for that device once, and so is the one after it."""
        tokens = [b"\xaa" * 32] * 3_000
        first, second = self.newer(3_000, tokens=tokens), self.newer(3_000, tokens=tokens)
        self.case.assertEqual((self.waiting(), [len(numbers) for _, numbers in self.told]), (1, [2_999, 3_000]))
        self.case.assertEqual(set(self.states(first)), {State.SUPERSEDED})
        self.case.assertEqual([each.number for each in self.lease(10)], [second.numbers[-1]])

    def test_hash(self) -> None:
        """A collapse id may be any text."""
        for text in ("", "\0", "ü" * 1000, "\ud800", "a"):
            first, second = self.newer(collapse_id=text), self.newer(collapse_id=text)
            self.case.assertEqual(self.states(first) + self.states(second), [State.SUPERSEDED, State.WAITING])
