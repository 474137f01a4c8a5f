"""What is sent later, from the intake to Apple: at its date, at its rate, whatever the clocks say."""

from __future__ import annotations

from tests.daemon.dispatch_world import HEADERS, PAYLOAD, START, DispatcherCase, token
from txapns.daemon.intake import Intake
from txapns.daemon.values import Draft, Limits, State

__all__ = ["ScheduleTests"]


class ScheduleTests(DispatcherCase):
    """A dispatcher, and an intake that wakes it."""

    def setUp(self) -> None:
        """Make the intake."""
        super().setUp()
        world, dispatcher = self.world, self.world.dispatcher
        self.intake = Intake(world.apps, world.queue, world.ids, world.outcomes, dispatcher.wake, dispatcher.expect)

    def submit(
        self, count: int = 1, seconds: float | None = None, rate: int | None = None, **headers: str
    ) -> list[str]:
        """Submit a notification for some devices, and return the ids."""
        not_before = None if seconds is None else self.world.clock.seconds() + seconds
        fields = {f"apns-{name}": value for name, value in headers.items()}
        draft = Draft(PAYLOAD, {**HEADERS, **fields}, [token(n) for n in range(count)], (), not_before, rate)
        [receipt] = self.world.result(self.intake.accept("chess", [draft]))
        return list(receipt.apns_ids)

    def advance(self, seconds: float) -> None:
        """Let time pass in small steps."""
        end = self.world.clock.seconds() + seconds
        while self.world.clock.seconds() < end:
            self.world.advance(0.05 if seconds < 100 else 0.5)

    def sent(self) -> list[str]:
        """The ids that came to Apple, in order."""
        return [each.headers["apns-id"] for each in self.world.simulator.inbox.received]

    def test_not_before(self) -> None:
        """It is sent at its date and not before, even if something for a later date was accepted first."""
        third, second = self.submit(1, 20.0), self.submit(1, 10.0)
        first = self.submit()
        self.advance(9.5)
        self.assertEqual(self.sent(), first)
        self.advance(1.0)
        self.assertEqual(self.sent(), first + second)
        self.advance(9.0)
        self.assertEqual(self.sent(), first + second)
        self.advance(1.0)
        self.assertEqual(self.sent(), first + second + third)

    def test_rate(self) -> None:
        """A request is spread from its first device to its last."""
        ids = self.submit(20, rate=4)
        for second in range(1, 5):
            self.advance(1.0)
            self.assertIn(len(self.sent()), range(4 * second - 1, 4 * second + 2))
        self.advance(1.5)
        self.assertEqual(self.sent(), ids)

    def test_restart(self) -> None:
        """Another dispatcher with the same queue goes on with it."""
        ids = self.submit(10, 5.0, rate=2)
        self.advance(6.2)
        self.assertEqual(len(self.sent()), 3)
        self.world.crash()
        self.advance(2.0)
        self.assertIn(len(self.sent()), range(6, 9))
        self.advance(3.0)
        self.assertEqual(self.sent(), ids)

    def test_expires(self) -> None:
        """What expires before the turn of its last device is expired there."""
        expiration = str(int(self.world.clock.seconds()) + 3)
        ids = self.submit(5, rate=1, expiration=expiration)
        self.advance(6.0)
        self.assertEqual(self.states(ids), [State.ACCEPTED] * 3 + [State.EXPIRED] * 2)

    def test_clock_set(self) -> None:
        """When the wall clock is set, the dates count by it: forward within a second, and back without any haste."""
        first, second = self.submit(1, 1_000.0), self.submit(1, 2_000.0)
        self.world.simulator.wall.step(1_000.0)
        self.advance(1.5)
        self.assertEqual(self.sent(), first)
        self.world.simulator.wall.step(-500.0)
        self.advance(1_000.0)
        self.assertEqual(self.sent(), first)
        self.advance(500.0)
        self.assertEqual(self.sent(), first + second)

    def test_idle(self) -> None:
        """Nobody looks at the clocks while nothing waits."""
        self.submit(1, 5.0)
        self.advance(7.0)
        self.assertEqual([each for each in self.world.clock.getDelayedCalls() if each.time < START + 30.0], [])

    def test_rate_of_app(self) -> None:
        """An app with a rate sends no more a second, from all requests, and all of it in the end."""
        self.world.add_app("chess", limits=Limits(rate=20))
        ids = self.submit(30) + self.submit(30)
        for second in range(1, 4):
            self.advance(1.0)
            self.assertIn(len(self.sent()), range(20 * (second - 1), 20 * second + 15))
        self.advance(1.0)
        self.assertEqual(sorted(self.sent()), sorted(ids))
        self.world.add_app("chess", limits=Limits())
        self.submit(500)
        self.advance(0.5)
        self.assertEqual(len(self.sent()), 560)
