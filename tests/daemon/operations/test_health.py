"""Tests for :mod:`txapns.daemon.operations.health`."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.admin_world import AdminWorld, HealthStore, Nodes, node_status
from tests.daemon.dispatch_world import token
from txapns.daemon.operations.health import IDLE, AppOverview, HealthCheck, Overview
from txapns.daemon.store.cluster import SingleNode
from txapns.daemon.values import Depth, Pause
from txapns.simulator import Response

__all__ = ["ClusterTests", "HealthCheckTests", "ReadinessTests"]


class HealthCheckTests(SynchronousTestCase):
    """The daemon's health."""

    def setUp(self) -> None:
        """There is a daemon with one app."""
        self.world = AdminWorld()
        self.addCleanup(self.world.close)

    def look(self) -> Overview:
        """Check the health now."""
        self.world.advance(2.0)
        found = self.world.result(self.world.health.overview())
        assert isinstance(found, Overview)
        return found

    def app(self, name: str = "chess") -> AppOverview:
        """Return the health of an app."""
        return next(app for app in self.look().apps if app.name == name)

    def test_working(self) -> None:
        """An app without problems is working, whether or not it has sent anything."""
        app = self.app()
        self.assertEqual((app.condition, app.reason, app.waiting, app.oldest), ("working", "", 0, None))
        self.assertEqual(app.gateway, self.world.simulator.gateway())
        self.world.take([token(1)])
        self.world.drain()
        self.assertEqual((self.app().condition, self.app().state.accepted), ("working", 1))

    def test_kept(self) -> None:
        """Of an app that has nothing to tell, what is known is kept as long as nothing changes."""
        quiet = self.app()
        self.assertIs(quiet.state, IDLE)
        self.assertIs(self.app(), quiet)
        self.world.problems["chess"] = "its new certificate cannot be read"
        self.assertEqual(self.app().reason, "its new certificate cannot be read")
        self.world.problems.clear()
        self.assertEqual(self.app().reason, "")
        self.world.add_app("chess", topic="com.example.new")
        self.assertEqual(self.app().topic, "com.example.new")
        self.world.add_app("news")
        self.look()
        self.world.apps.remove("news")
        self.assertEqual([app.name for app in self.look().apps], ["chess"])
        self.world.take([token(1)])
        self.world.drain()
        self.assertEqual((self.app().state.accepted, self.app().condition), (1, "working"))

    def test_sides(self) -> None:
        """An app with two sides says which of them lets nothing through; the daemon is ready."""
        self.world.simulator.http2_fault = lambda server, request, response: Response(403, "BadCertificateEnvironment")
        _, side = self.world.add_sandbox()
        self.world.add_app("chess", sandbox=side)
        self.assertEqual([each.environment for each in self.app().sides], ["production", "sandbox"])
        self.world.take([token(1)])
        app = self.app()
        self.assertEqual((app.condition, app.reason[:12]), ("partial", "production: "))
        self.assertEqual([each.stopped for each in app.sides], [True, False])
        self.assertEqual([each.expires for each in app.sides], [app.expires] * 2)
        self.assertEqual((app.failing is None, app.again is None), (False, False))
        overview = self.look()
        self.assertEqual(
            (overview.faults, overview.concerns), ([], [f"app chess works on one side only: {app.reason}"])
        )

    def test_paused(self) -> None:
        """An app that is paused says by whom and since when; the daemon is ready."""
        apps = self.world.apps
        apps.put(attrs.evolve(apps.get("chess"), pause=Pause(1_700_000_000.0, "ann")))
        app = self.app()
        self.assertEqual((app.condition, app.reason), ("paused", "by ann since 2023-11-14 22:13 UTC"))
        overview = self.look()
        self.assertEqual((overview.faults, overview.concerns), ([], [f"app chess is paused: {app.reason}"]))

    def test_tripped(self) -> None:
        """An app whose credential is refused is tripped, with the reason and since when."""
        self.world.simulator.http2_fault = lambda server, request, response: Response(403, "BadCertificateEnvironment")
        self.world.take([token(1)])
        self.world.advance(5.0)
        app = self.app()
        self.assertEqual((app.condition, app.waiting), ("tripped", 1))
        self.assertIn("environment", app.reason)
        assert app.failing is not None
        self.assertTrue(4 < app.failing < 8)
        self.assertEqual(self.look().faults, ["no app can be used"])

    def test_connecting(self) -> None:
        """An app without a connection says so at once, with the last error, as long as it has something to send."""
        self.assertEqual(self.app().condition, "working")
        self.world.clock.servers.clear()
        self.world.take([token(1)])
        app = self.app()
        self.assertEqual((app.condition, app.state.in_flight, app.state.under_way), ("connecting", 0, 1))
        self.assertIn("nothing listens", app.reason)
        self.assertIn(f"app chess has no connection: {app.reason}", self.look().concerns)

    def test_open(self) -> None:
        """The circuit of an app whose gateway cannot be reached is open; its notifications are still accepted."""
        self.world.clock.servers.clear()
        self.world.take([token(1)])
        for _ in range(60):
            self.world.advance(1.0)
        app = self.app()
        self.assertEqual(app.condition, "open")
        assert app.again is not None
        self.assertTrue(0 <= app.again <= 60)
        self.assertEqual(self.look().faults, [])

    def test_problems(self) -> None:
        """An app that cannot be used is listed with the reason; one that keeps its old settings works."""
        self.world.problems.update(chess="the new certificate is invalid", news="there is no certificate")
        overview = self.look()
        found = [(app.name, app.condition, app.reason) for app in overview.apps]
        expected = [
            ("chess", "working", "the new certificate is invalid"),
            ("news", "unusable", "there is no certificate"),
        ]
        self.assertEqual((found, overview.faults), (expected, []))

    def test_gone(self) -> None:
        """A removed app is listed as long as it has notifications waiting."""
        self.world.simulator.http2_fault = lambda server, request, response: None
        self.world.take([token(1)])
        self.world.apps.remove("chess")
        self.assertEqual(
            [(app.name, app.condition, app.waiting) for app in self.look().apps], [("chess", "unusable", 1)]
        )

    def test_nothing(self) -> None:
        """Without apps the daemon is not ready."""
        self.world.apps.remove("chess")
        self.assertEqual(self.look().faults, ["there are no apps"])

    def test_database_cannot_be_read(self) -> None:
        """If the database cannot be read, everything else is still reported."""
        self.world.take([token(1)])
        self.world.result(self.world.database.stop())
        app = self.app()
        self.assertEqual((app.condition, app.oldest), ("working", None))
        self.assertIsNone(self.look().webhooks[0].backlog)

    def test_shared(self) -> None:
        """All who ask at the same time, or soon after each other, share one check."""
        asked: list[Deferred[list[Depth]]] = []

        def depths() -> Deferred[list[Depth]]:
            asked.append(Deferred())
            return asked[-1]

        self.world.queue.depths = depths  # type: ignore[method-assign]
        looks = [self.world.health.overview() for _ in range(5)]
        gone = looks.pop()
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        asked[0].callback([])
        self.world.advance(0.01)
        self.assertEqual({self.successResultOf(look).at for look in looks}, {self.world.clock.seconds() - 0.01})
        self.world.result(self.world.health.overview())
        self.assertEqual(len(asked), 1)
        self.world.advance(2.0)
        self.world.health.overview()
        self.assertEqual(len(asked), 2)

    def test_fails(self) -> None:
        """A check that fails does so for all who wait for it; the next one is made again."""

        def names() -> list[str]:
            raise ValueError("unlucky")

        working, self.world.apps.names = self.world.apps.names, names  # type: ignore[method-assign]
        self.world.advance(2.0)
        looks = [self.world.health.overview() for _ in range(3)]
        self.world.advance(0.1)
        for look in looks:
            self.failureResultOf(look, ValueError)
        self.world.apps.names = working  # type: ignore[method-assign]
        self.assertEqual(self.world.result(self.world.health.overview()).faults, [])


class ReadinessTests(SynchronousTestCase):
    """Whether the daemon is ready."""

    def setUp(self) -> None:
        """There is a daemon whose probe of the database the test controls."""
        self.world = AdminWorld()
        self.addCleanup(self.world.close)
        self.probes = 0
        self.answer: Any = ""

    def probe(self) -> Deferred[str]:
        """Give the answer."""
        self.probes += 1
        return fail(self.answer) if isinstance(self.answer, Exception) else succeed(self.answer)

    def health(self) -> HealthCheck:
        """Make a health check with that probe."""
        self.world.store = HealthStore(
            self.world.queue, self.world.outcome_log, self.world.database, SingleNode(self.world.clock)
        )
        self.patch(HealthStore, "probe", lambda _: self.probe())
        world = self.world
        return HealthCheck(world.clock, world.store, world.apps, problems=dict, senders=world.dispatcher)

    def test_ready(self) -> None:
        """The daemon is ready; the database is probed, at most once a second."""
        health = self.health()
        for _ in range(3):
            readiness = self.world.result(health.readiness())
            self.assertEqual((readiness.ready, readiness.faults), (True, ()))
        self.assertEqual(self.probes, 1)
        self.world.advance(2.0)
        self.world.result(health.readiness())
        self.assertEqual(self.probes, 2)

    def test_trouble(self) -> None:
        """The daemon is not ready if the probe fails."""
        self.answer = "the disk is full"
        self.assertEqual(
            self.world.result(self.health().readiness()).faults, ("notifications cannot be stored: the disk is full",)
        )

    def test_trouble_known(self) -> None:
        """It is not ready as soon as a write fails, whatever the last probe found."""
        health = self.health()
        self.assertTrue(self.world.result(health.readiness()).ready)
        self.world.store.broken = "apns.db was removed"
        faults = self.world.result(health.readiness()).faults
        self.assertEqual(faults, ("notifications cannot be stored: apns.db was removed",))

    def test_fault(self) -> None:
        """It is not ready if the probe raises, which is logged."""
        self.answer = ValueError("oh")
        faults = self.world.result(self.health().readiness()).faults
        self.assertEqual(faults, ("notifications cannot be stored: the database does not answer",))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_stopping(self) -> None:
        """It is not ready as soon as it is stopping, whatever the last check found."""
        health = self.health()
        self.world.result(health.readiness())
        health.stopping = True
        self.assertEqual(self.successResultOf(health.readiness()).faults, ("the daemon is shutting down",))
        self.assertTrue(self.world.result(health.overview()).stopping)


class ClusterTests(SynchronousTestCase):
    """The health of a node among others."""

    def setUp(self) -> None:
        """There are two nodes."""
        self.world = AdminWorld(cluster=Nodes)
        self.addCleanup(self.world.close)
        self.nodes = self.world.store.cluster

    def look(self) -> Overview:
        """Check the health now."""
        self.world.advance(2.0)
        found = self.world.result(self.world.health.overview())
        assert isinstance(found, Overview)
        return found

    def test_nodes(self) -> None:
        """It knows the nodes and which it is itself; if the database cannot be read, only the latter."""
        found = self.look()
        self.assertEqual((found.node, [node.name for node in found.nodes]), ("push-1", ["push-1", "push-2"]))
        self.assertEqual((found.faults, found.concerns), ([], []))
        self.nodes.found = None
        self.assertEqual((self.look().node, self.look().nodes), ("push-1", ()))

    def test_alone(self) -> None:
        """A node whose database no other can use says nothing of nodes."""
        world = AdminWorld()
        self.addCleanup(world.close)
        found = world.result(world.health.overview())
        self.assertEqual((found.node, found.nodes), ("", ()))

    def test_member(self) -> None:
        """A node that does not send is not ready, as soon as that is so."""
        self.look()
        self.nodes.trouble = "the database is away"
        found = self.world.result(self.world.health.readiness())
        self.assertEqual((found.ready, found.node), (False, "push-1"))
        self.assertEqual(found.faults, ("node push-1 does not send: the database is away",))

    def test_concerns(self) -> None:
        """What is wrong with other nodes is told, but this one is ready."""
        self.nodes.found = [node_status("push-1", own=True), node_status("push-2", alive=False, heartbeat=50.0)]
        self.world.advance(2.0)
        found = self.world.result(self.world.health.readiness())
        self.assertEqual((found.ready, found.concerns), (True, ("node push-2 is gone: it was last heard of 50 s ago",)))

    def test_warnings(self) -> None:
        """What endangers what is stored is told, too."""
        self.world.store.warnings = ("fsync is off",)
        self.world.advance(2.0)
        found = self.world.result(self.world.health.readiness())
        self.assertEqual((found.ready, found.concerns), (True, ("fsync is off",)))
        self.assertIn("fsync is off", self.world.result(self.world.status.view()).state.faults)
