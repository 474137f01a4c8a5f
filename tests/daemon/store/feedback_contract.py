"""What every feedback log does."""

from __future__ import annotations

from zope.interface.verify import verifyObject

from tests.daemon.store.contract import ID, PAYLOAD, START, StoreContract, message
from txapns.daemon.interfaces import IFeedbackLog
from txapns.daemon.values import Message, State

__all__ = ["FeedbackLogContract"]


class FeedbackLogContract(StoreContract):
    """The tests of a feedback log."""

    def test_interface(self) -> None:
        """It has all methods of the interface."""
        verifyObject(IFeedbackLog, self.world.log)

    def die(self, tokens: int = 1, app: str = "chess", start: int = 0, timestamp: float | None = 5.0) -> None:
        """Settle notifications whose tokens are dead."""
        self.accept(tokens, app, start)
        self.settle(self.lease(app=app), State.REJECTED, 410, "Unregistered", timestamp)

    def test_dead_tokens(self) -> None:
        """Each dead token is noted with app, reason and time, and a reader goes on from its position."""
        self.die(2)
        self.die(1, "news", 7, None)
        found = self.read("after", None, 0, 10)
        self.case.assertEqual(
            [(each.app, each.token[-1], each.reason) for each in found],
            [("chess", 0, "Unregistered"), ("chess", 1, "Unregistered"), ("news", 7, "Unregistered")],
        )
        self.case.assertEqual([each.timestamp for each in found[:2]], [5.0, 5.0])
        self.case.assertApproximates(found[2].timestamp, self.date, 0.05)
        self.case.assertApproximates(found[0].noted_at, START, 0.5)
        self.case.assertEqual(self.read("after", None, found[0].cursor, 1), found[1:2])
        self.case.assertEqual(self.read("after", "news", 0, 10), found[2:])

    def test_other_refusals(self) -> None:
        """Other rejections are not noted."""
        self.accept(1)
        self.settle(self.lease(), State.REJECTED, 400, "BadDeviceToken")
        self.case.assertEqual(self.read("after", None, 0, 10), [])

    def test_broadcast(self) -> None:
        """A broadcast has no token that could be dead, whatever is answered to it."""
        headers = {"apns-channel-id": "AbCd"}
        self.do("accept", [Message("chess", PAYLOAD, headers, [b""], [ID]), message(self.world)])
        self.settle(self.lease(), State.REJECTED, 410, "Unregistered", 5.0)
        self.case.assertEqual([each.token for each in self.read("after", None, 0, 10)], [bytes(32)])

    def test_noted_once(self) -> None:
        """A token is noted once for each time at which it died."""
        for timestamp in (5.0, 5.0, 6.0):
            self.die(timestamp=timestamp)
        self.case.assertEqual([each.timestamp for each in self.read("after", None, 0, 10)], [5.0, 6.0])

    def test_readers(self) -> None:
        """The log keeps each reader's position for each app; until it is confirmed, the same entries come again."""
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
        """The entries that a reader has not confirmed can be counted, up to a limit."""
        self.die(3)
        self.die(1, "news")
        self.read("confirm", "chess", "webhook", self.read("take", "chess", "webhook", 1)[0].cursor)
        behind = [self.read("behind", app, "webhook", 100) for app in ("chess", "news", "go", None)]
        self.case.assertEqual(behind, [2, 1, 0, 4])
        self.case.assertEqual([self.read("behind", app, "webhook", 1) for app in ("chess", None)], [1, 1])

    def test_known(self) -> None:
        """Tokens can be looked up; the latest entry counts."""
        self.die(2)
        self.die(1, timestamp=6.0)
        tokens = [n.to_bytes(32, "big") for n in range(3)]
        found = self.read("known", "chess", tokens)
        self.case.assertEqual({token[-1]: dead.timestamp for token, dead in found.items()}, {0: 6.0, 1: 5.0})
        self.case.assertEqual([self.read("known", "news", tokens), self.read("known", "chess", [])], [{}, {}])

    def test_forgotten(self) -> None:
        """Dead tokens are forgotten, and their cursors are not used again."""
        self.die(3)
        last = self.read("after", None, 0, 10)[-1].cursor
        self.world.clock.advance(100)
        while self.ask("prune", self.date - 50, 10):
            pass
        self.case.assertEqual(self.read("after", None, 0, 10), [])
        self.die(1)
        [dead] = self.read("after", None, 0, 10)
        self.case.assertGreater(dead.cursor, last)

    def test_forgotten_after_clock_set(self) -> None:
        """Entries dated a year ahead, while the clock was wrong, do not hold up later ones."""
        self.world.clock.ahead += 31_536_000.0
        ahead = self.accept(5)
        self.settle(self.lease(), State.REJECTED, 410, "Unregistered", 5.0)
        self.world.clock.ahead -= 31_536_000.0
        later = self.accept(5, start=5)
        self.settle(self.lease(), State.REJECTED, 410, "Unregistered", 5.0)
        self.world.clock.advance(100)
        while self.ask("prune", self.date - 50, 2):
            pass
        for _ in range(5):
            self.ask("prune", self.date - 50, 2)
        kept = [each for each in ahead + later if self.ask("latest", each) is not None]
        self.case.assertEqual(kept, ahead)
        self.case.assertEqual([each.token[-1] for each in self.read("after", None, 0, 99)], list(range(5)))

    def test_subscribed(self) -> None:
        """A listener is called with the app once tokens are noted, and not after it has left."""
        noted: list[tuple[str, int]] = []

        def listener(app: str) -> None:
            self.world.log.after(app, 0, 10).addCallback(lambda found: noted.append((app, len(found))))

        leave = self.world.log.subscribe(listener)
        self.die(2)
        self.accept(1, "news")
        self.settle(self.lease(app="news"), State.ACCEPTED, 200)
        self.case.assertEqual(noted, [("chess", 2)])
        leave()
        self.die(1, "news")
        self.case.assertEqual(noted, [("chess", 2)])

    def test_listener_raises(self) -> None:
        """An exception in a listener is logged, and affects neither the others nor the settlement."""
        noted: list[str] = []

        def raises(app: str) -> None:
            raise ZeroDivisionError(app)

        for listener in (raises, noted.append):
            self.world.log.subscribe(listener)
        self.die(1)
        self.case.assertEqual((noted, self.lease()), (["chess"], []))
        self.case.assertEqual(len(self.case.flushLoggedErrors(ZeroDivisionError)), 1)
