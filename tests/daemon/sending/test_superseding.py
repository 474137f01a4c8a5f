"""What newer notifications supersede, from the intake to Apple, and who waits for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tests.daemon.dispatch_world import HEADERS, PAYLOAD, DispatcherCase, token
from txapns.daemon.intake import Intake
from txapns.daemon.values import Draft, Outcome, Receipt, State
from txapns.simulator.http2 import Response

__all__ = ["SupersedingTests"]


class SupersedingTests(DispatcherCase):
    """A dispatcher, and an intake with callers that wait."""

    def setUp(self) -> None:
        """Make the intake, and tell those who wait as the daemon does."""
        super().setUp()
        world, dispatcher = self.world, self.world.dispatcher
        self.intake = Intake(world.apps, world.queue, world.ids, world.outcomes, dispatcher.wake, dispatcher.expect)
        self.counted: Counter[str] = Counter()

        def superseded(counts: Mapping[str, int], numbers: Sequence[int]) -> None:
            self.counted.update(counts)
            world.outcomes.superseded(numbers)

        world.queue.subscribe(superseded)

    def submit(self, *tokens: int, seconds: float | None = None, collapse_id: str = "score") -> list[Receipt]:
        """Submit a notification for some devices."""
        not_before = None if seconds is None else self.world.clock.seconds() + seconds
        headers = {**HEADERS, "apns-collapse-id": collapse_id}
        draft = Draft(PAYLOAD, headers, [token(n) for n in tokens], (), not_before)
        receipts: list[Receipt] = self.world.result(self.intake.accept("chess", [draft]))
        return receipts

    def wait(self, receipts: list[Receipt]) -> list[Any]:
        """Wait for outcomes; returns a list that gets the states."""
        found: list[Any] = []

        def ended(outcomes: Mapping[int, Outcome]) -> None:
            found.append([outcomes[number].state for number in receipts[0].numbers if number in outcomes])

        self.intake.wait(receipts, 30.0).addCallback(ended)
        return found

    def sent(self) -> list[str]:
        """The ids that came to Apple, in order."""
        return [each.headers["apns-id"] for each in self.world.simulator.inbox.received]

    def test_waited_for(self) -> None:
        """Who waits for what is superseded learns it at once."""
        first = self.wait(self.submit(1, 2, seconds=10.0))
        second = self.submit(1, 2, seconds=20.0)
        self.world.advance(0.1)
        self.assertEqual(first, [[State.SUPERSEDED] * 2])
        self.assertEqual(self.counted, {"chess": 2})
        for _ in range(50):
            self.world.advance(0.5)
        self.assertEqual(self.sent(), [each for receipt in second for each in receipt.apns_ids])

    def test_within_a_request(self) -> None:
        """Who waits for a request in which a device comes twice learns of both."""
        receipts = self.submit(1, 1)
        found = self.wait(receipts)
        for _ in range(20):
            self.world.advance(0.1)
        self.assertEqual(found, [[State.SUPERSEDED, State.ACCEPTED]])
        self.assertEqual(self.sent(), list(receipts[0].apns_ids)[1:])

    def test_in_flight(self) -> None:
        """What is in flight is left alone; if it has to be tried again, it is superseded instead."""
        refused = [Response(503, "ServiceUnavailable")]
        self.answer(lambda request: refused.pop() if refused else None)
        self.world.simulator.delay = 1.0
        first = self.submit(1)
        found = self.wait(first)
        self.world.advance(0.5)
        second = self.submit(1)
        for _ in range(200):
            self.world.advance(0.1)
        self.assertEqual(found, [[State.SUPERSEDED]])
        self.assertEqual(self.sent()[-1], second[0].apns_ids[0])
        self.assertEqual(Counter(self.sent())[first[0].apns_ids[0]], 1)
        self.assertEqual(self.states(list(second[0].apns_ids)), [State.ACCEPTED])

    def test_off(self) -> None:
        """An app for which it is off sends them all."""
        self.world.add_app("chess", supersede=False)
        receipts = [self.submit(1, seconds=seconds)[0] for seconds in (5.0, 5.0, 5.0)]
        for _ in range(60):
            self.world.advance(0.1)
        self.assertEqual(sorted(self.sent()), sorted(each.apns_ids[0] for each in receipts))
