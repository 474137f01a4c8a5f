"""Tests for :mod:`txapns.daemon.sending.webhooks`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site

from tests.daemon.dispatch_world import START, DispatchWorld, token
from tests.daemon.fakes import Cluster
from tests.daemon.sending.test_webhook import OutcomeReceiver
from txapns.daemon.config.sections import WebhookSection
from txapns.daemon.errors import ConfigurationError
from txapns.daemon.sending.webhook import Webhook
from txapns.daemon.sending.webhooks import Webhooks
from txapns.daemon.store.cluster import ICluster
from txapns.daemon.store.sqlite import feedback_log as feedback

__all__ = ["WebhooksTests"]


class WebhooksTests(SynchronousTestCase):
    """Webhooks, and what becomes of them when the configuration changes."""

    def setUp(self) -> None:
        """Start two receivers, with three dead tokens, and use one webhook."""
        self.world = DispatchWorld()
        self.world.start()
        self.addCleanup(self.world.close)
        self.a, self.b = (self.receiver(port) for port in (1, 2))
        self.secret = Path(self.mktemp())
        self.secret.touch(0o600)
        self.secret.write_text("correct horse battery staple")
        self.note(3)
        self.webhooks = self.made(self.world.cluster)

    def receiver(self, port: int) -> OutcomeReceiver:
        """Start a receiver."""
        receiver = OutcomeReceiver(self.world.clock.seconds)
        self.world.clock.servers[port] = Site(receiver, reactor=self.world.clock)
        return receiver

    def made(self, cluster: ICluster) -> Webhooks:
        """Make webhooks of a node, and start them, with one for the first receiver."""
        webhooks = Webhooks(self.world.clock, self.world.log, self.world.feed, cluster)
        self.addCleanup(webhooks.stop)
        webhooks.use({"crm": self.section()})
        webhooks.start()
        return webhooks

    def section(self, port: int = 1, **fields: Any) -> WebhookSection:
        """Say in a configuration what is sent to a receiver."""
        return WebhookSection(url=f"http://127.0.0.1:{port}/", secret_file=self.secret, **fields)

    def note(self, count: int) -> None:
        """Note that some tokens are dead."""
        dead = [("chess", token(n), "Unregistered", START - self.world.clock.seconds()) for n in range(count)]
        self.world.result(self.world.database.write(lambda connection: feedback.note(connection, dead, START)))
        self.world.log.announce(["chess"])

    def use(self, **sections: WebhookSection) -> dict[str, Webhook]:
        """Use others, and let some time pass; returns them by name."""
        self.webhooks.check(sections)
        self.webhooks.use(sections)
        self.world.advance(0.1)
        return {each.state.name: each for each in self.webhooks}

    def cursors(self) -> tuple[list[int], list[int]]:
        """What came to each receiver."""
        self.world.advance(0.1)
        return self.a.cursors(), self.b.cursors()

    def test_unchanged(self) -> None:
        """One that is as it was goes on, with the request that is under way; another one is added."""
        self.a.answer = None
        self.world.advance(0.1)
        before = list(self.webhooks)
        found = self.use(crm=self.section(), web=self.section(2))
        self.assertEqual((list(found), found["crm"]), (["crm", "web"], before[0]))
        self.assertEqual(self.cursors(), ([1, 2, 3], [1, 2, 3]))
        self.a.held.pop().finish()
        self.a.answer = 200
        self.note(1)
        self.assertEqual(self.cursors(), ([1, 2, 3, 4], [1, 2, 3, 4]))
        self.assertEqual({each.state.sent for each in self.webhooks}, {4})

    def test_changed(self) -> None:
        """One with another address goes on there when the request that is under way has its answer, however often."""
        self.a.answer = None
        self.cursors()
        self.note(2)
        self.use(crm=self.section(3))
        self.use(crm=self.section(2))
        self.assertEqual(self.cursors(), ([1, 2, 3], []))
        self.a.held.pop().finish()
        self.assertEqual(self.cursors(), ([1, 2, 3], [4, 5]))
        self.use(crm=self.section(1))
        self.note(1)
        self.a.answer = 200
        self.assertEqual(self.cursors(), ([1, 2, 3, 6], [4, 5]))

    def test_not_confirmed(self) -> None:
        """What the first address does not confirm comes to the other one, at once."""
        self.a.answer = None
        self.cursors()
        self.use(crm=self.section(2))
        self.world.advance(9.0)
        self.assertEqual(self.cursors(), ([1, 2, 3], []))
        self.world.advance(1.0)
        self.assertEqual(self.cursors(), ([1, 2, 3], [1, 2, 3]))
        self.b.answer = 500
        self.note(1)
        self.cursors()
        self.use(crm=self.section(1))
        self.a.answer = 200
        self.assertEqual(self.cursors(), ([1, 2, 3, 4], [1, 2, 3, 4]))

    def test_events(self) -> None:
        """One that reports something else as well begins with what is kept of it, and repeats nothing."""
        self.cursors()
        self.world.feed.keep(["chess"])
        self.world.accept(tokens=[token(5), token(6)])
        self.world.drain()
        self.use(crm=self.section(events=("outcomes", "feedback")))
        self.assertEqual(self.a.kinds(), [("dead_tokens", 3), ("outcomes", 2)])

    def test_removed(self) -> None:
        """One that was removed ends its request and sends nothing more; if it comes back, it goes on where it was."""
        self.a.answer = None
        self.cursors()
        self.assertEqual(self.use(), {})
        self.a.held.pop().finish()
        self.a.answer = 200
        self.note(2)
        self.world.advance(1_000.0)
        self.assertEqual(self.cursors(), ([1, 2, 3], []))
        self.use(crm=self.section(batch=1))
        self.assertEqual(self.cursors(), ([1, 2, 3, 4, 5], []))

    def test_back_at_once(self) -> None:
        """One that was removed and comes back before its request has ended waits for that."""
        self.a.answer = None
        self.cursors()
        self.use()
        self.use(crm=self.section(2))
        self.note(1)
        self.assertEqual(self.cursors(), ([1, 2, 3], []))
        self.a.held.pop().finish()
        self.assertEqual(self.cursors(), ([1, 2, 3], [4]))

    def test_gave_up(self) -> None:
        """One that has given up begins again, although it is as it was."""
        section = self.section(give_up=60.0)
        self.a.answer = 500
        self.use(crm=section)
        self.world.advance(1_000.0)
        self.a.posts.clear()
        self.a.answer = 200
        self.note(1)
        self.assertEqual(self.cursors(), ([], []))
        self.use(crm=section)
        self.assertEqual(self.cursors(), ([1, 2, 3, 4], []))

    def test_duty(self) -> None:
        """A node that has a webhook no more leaves it to the others, and one that has changed it does not."""
        cluster = Cluster()
        self.webhooks = self.made(cluster)
        self.assertEqual(cluster.asked, {"webhook:crm"})
        self.use(crm=self.section(2))
        self.assertEqual(cluster.asked, {"webhook:crm"})
        self.use(web=self.section(2))
        self.assertEqual(cluster.asked, {"webhook:web"})

    def test_checked(self) -> None:
        """The secret of one that was added or changed must be there; one that is as it was is not looked at."""
        missing = Path(self.mktemp())
        other = WebhookSection(url="http://127.0.0.1:1/", secret_file=missing)
        with self.assertRaises(ConfigurationError) as caught:
            self.webhooks.check({"crm": other, "web": self.section(2), "new.er": other})
        self.assertEqual(
            str(caught.exception).splitlines(),
            [f"webhook.{name}.secret_file: {missing}: No such file or directory" for name in ("crm", '"new.er"')],
        )
        self.secret.unlink()
        self.webhooks.check({"crm": self.section()})

    def test_stopped(self) -> None:
        """When all stop, a request that is under way is broken off, and nothing begins any more."""
        self.a.answer = None
        self.cursors()
        self.use(crm=self.section(2), web=self.section(2))
        self.b.posts.clear()
        self.webhooks.stop()
        self.note(1)
        self.world.advance(1_000.0)
        self.assertEqual(self.cursors(), ([1, 2, 3], []))
