"""Tests for :mod:`txapns.daemon.sending.channels`."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.channels_world import ChannelsWorld
from txapns.daemon.errors import NotSupported, UnknownApp
from txapns.daemon.sending.channels import MOST
from txapns.daemon.values import Environment, Side
from txapns.errors import ClientClosed, QueueFull
from txapns.gateway import Gateway
from txapns.simulator import Simulator

__all__ = ["AppChannelsTests"]


class AppChannelsTests(SynchronousTestCase):
    """The channels of apps, at the simulator."""

    def setUp(self) -> None:
        """Start it."""
        self.world = ChannelsWorld(Path(self.mktemp()))
        self.channels = self.world.channels
        self.addCleanup(self.world.stop)

    def test_each_app(self) -> None:
        """Each app has its own channels, whatever its credential is."""
        self.world.simulator.topic = "com.example.news"  # which signing keys are for
        for app in ("chess", "news"):
            channel = self.world.result(self.channels.of(app).create())
            self.assertEqual(self.world.result(self.channels.of(app).list()), [channel.channel_id])

    def test_one_connection(self) -> None:
        """All requests of an app take one connection, which is closed when it has been idle."""
        for _ in range(3):
            self.world.result(self.channels.of("chess").list())
        [session] = self.world.simulator.sessions
        self.assertFalse(session.transport.disconnected)  # type: ignore[union-attr]
        self.world.reactor.advance(700.0)
        self.assertTrue(session.transport.disconnected)  # type: ignore[union-attr]
        self.assertEqual(self.world.result(self.channels.of("chess").list()), [])

    def test_rotated(self) -> None:
        """With another credential or gateway, the next request goes over another connection."""
        self.world.result(self.channels.of("chess").list())
        self.world.add("chess", self.world.provider_token, gateway=self.world.gateway())
        self.world.result(self.channels.of("chess").list())
        self.assertEqual(len(self.world.simulator.sessions), 2)

    def test_refused(self) -> None:
        """An app that does not exist, or that has no channels, is refused with the reason."""
        self.assertRaises(UnknownApp, self.channels.of, "golf")
        self.assertRaises(NotSupported, self.channels.of, "old")
        self.world.move("chess", Gateway.http2("127.0.0.1", 2197))
        self.assertRaises(NotSupported, self.channels.of, "chess")

    def test_sides(self) -> None:
        """An app with two sides has the channels of production, and those of the sandbox where that is named."""
        sandbox = Simulator(self.world.reactor, authority=self.world.authority, topic=self.world.simulator.topic)
        self.world.reactor.servers[2298] = sandbox.tls_factory("channels")
        app = self.world.apps.get("chess")
        self.world.add("chess", app.credential, gateway=app.gateway)
        self.assertRaises(NotSupported, self.channels.of, "chess", Environment.SANDBOX)
        side = Side(self.world.gateway(management_port=2298), app.credential)
        self.world.add("chess", app.credential, gateway=app.gateway, sandbox=side)
        made = self.world.result(self.channels.of("chess", Environment.SANDBOX).create())
        self.assertEqual(self.world.result(self.channels.of("chess", Environment.SANDBOX).list()), [made.channel_id])
        for environment in (None, Environment.PRODUCTION):
            self.assertEqual(self.world.result(self.channels.of("chess", environment).list()), [])

    def test_bounded(self) -> None:
        """While the server cannot be reached, so many requests of an app wait, and no more."""
        self.world.reactor.servers.clear()
        asked = [self.channels.of("chess").list() for _ in range(MOST + 1)]
        self.failureResultOf(asked.pop(), QueueFull)
        for each in asked:
            self.assertNoResult(each)
            each.addErrback(lambda failure: None)

    def test_stopped(self) -> None:
        """At the stop, requests under way are answered, and those that wait are told."""
        self.world.result(self.channels.of("chess").list())
        under_way, channels = self.channels.of("chess").list(), self.channels.of("chess")
        self.world.result(self.channels.stop())
        self.assertEqual(self.successResultOf(under_way), [])
        self.failureResultOf(channels.list(), ClientClosed)
