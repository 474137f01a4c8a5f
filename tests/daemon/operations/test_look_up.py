"""Tests for :mod:`txapns.daemon.operations.look_up`."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.template import Tag, flattenString

from tests.daemon.dispatch_world import DEAD, DispatchWorld, token
from txapns.daemon.operations.look_up import MOST, LookUp
from txapns.simulator import Response

__all__ = ["LookUpTests"]


class LookUpTests(SynchronousTestCase):
    """What is known of notifications and devices."""

    def setUp(self) -> None:
        """There is a daemon with two apps."""
        self.refusing = False
        self.world = DispatchWorld(delay=0.03)
        self.world.simulator.http2_fault = lambda server, request, response: (
            Response(400, "BadDeviceToken") if self.refusing else response
        )
        self.world.start()
        self.addCleanup(self.world.close)
        self.world.add_app("news")
        self.look_up = LookUp(self.world.outcome_log, self.world.log)

    def written(self, found: Tag) -> str:
        """Write what was found as HTML."""
        text = self.successResultOf(flattenString(None, found)).decode()
        self.assertNotIn(DEAD.hex(), text)
        return text

    def find(self, app: str, what: str) -> str:
        """Look something up."""
        return self.written(self.world.result(Deferred.fromCoroutine(self.look_up.find(app, what))))

    def failures(self, app: str = "chess") -> str:
        """Read the latest failures."""
        return self.written(self.world.result(Deferred.fromCoroutine(self.look_up.failures(app))))

    def test_found(self) -> None:
        """Notifications are found by their ids, and devices by their tokens, among those of the app."""
        sent, dead = self.world.accept(tokens=[token(1), DEAD])
        self.world.drain()
        waiting = self.world.accept(app="nobody")[0]
        [broadcast] = self.world.accept(app="nobody", tokens=[b""], channel_id="AbCd")
        for app, what, text in (
            ("chess", sent, "Accepted, accepted by the daemon at 2023-11-14"),
            ("chess", sent.upper(), "Accepted, accepted"),
            ("news", sent, "has no notification with this apns-id"),
            ("nobody", waiting, "Waiting, accepted by the daemon"),
            ("nobody", broadcast, "Channel: AbCd."),
            ("chess", DEAD.hex(), "is dead since "),
            ("chess", DEAD.hex(), dead),
            ("news", DEAD.hex(), "is not among the dead tokens"),
            ("news", DEAD.hex(), "None was found"),
            ("chess", token(1).hex(), "is not among the dead tokens"),
            ("chess", token(1).hex(), sent),
            ("chess", "", "neither an apns-id nor"),
            ("chess", "x" * 36, "neither an apns-id nor"),
            ("chess", "<b>", "neither an apns-id nor"),
        ):
            found = self.find(app, what)
            self.assertIn(text, found, what)
            self.assertNotIn("<b>", found)

    def test_device(self) -> None:
        """Of a device there are the latest notifications, whatever became of them, with what that means."""
        accepted = self.world.accept(tokens=[token(1)] * MOST)
        self.world.drain()
        self.refusing = True
        rejected = self.world.accept(tokens=[token(1)])
        self.world.drain()
        [expired] = self.world.accept(tokens=[token(1)], expiration="1600000000")
        self.world.drain()
        self.world.dispatcher.stop(0.0)
        [waiting] = self.world.accept(tokens=[token(1)])
        found = self.find("chess", token(1).hex())
        self.assertEqual(found.count("<tr"), MOST + 1)
        shown = [waiting, expired, *rejected, *reversed(accepted[3:])]
        self.assertEqual([found.index(each) for each in shown], sorted(found.index(each) for each in shown))
        for text in ("waiting", "is in flight", "expired", "rejected", "400 BadDeviceToken", "of all apps"):
            self.assertIn(text, found)

    def test_failures(self) -> None:
        """The latest failures of an app are listed, newest first; tokens are shortened."""
        self.assertIn("None that is not forgotten", self.failures())
        [first] = self.world.accept(tokens=[DEAD])
        self.world.drain()
        [second] = self.world.accept(tokens=[DEAD])
        self.world.drain()
        self.world.accept(tokens=[token(1)])
        self.world.drain()
        found = self.failures()
        self.assertEqual(found.count("dddd…dddd"), 2)
        self.assertLess(found.index(second), found.index(first))
        self.assertIn("no longer active for this topic", found)
        self.assertNotIn("410", self.failures("news"))

    def test_unavailable(self) -> None:
        """When the database cannot be read, the page says so in this place alone."""
        self.world.result(self.world.database.stop())
        self.assertIn("They cannot be read now", self.failures())
