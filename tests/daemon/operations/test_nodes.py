"""Tests for :mod:`txapns.daemon.operations.nodes`."""

from __future__ import annotations

from pathlib import Path

import attrs
from twisted.internet.defer import fail
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.admin_world import AdminWorld, Nodes, node_status
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.operations.nodes import NodeWatch, configuration_digest, node_concerns
from txapns.daemon.store.cluster import NodeStatus, SingleNode

__all__ = ["DigestTests", "NodeConcernsTests", "NodeWatchTests"]


class NodeConcernsTests(SynchronousTestCase):
    """What is told of the nodes."""

    def test_well(self) -> None:
        """Nodes that agree, and whose clocks are less than a second off, are no concern."""
        self.assertEqual(list(node_concerns([])), [])
        alike = [node_status("a", clock_offset=0.9), node_status("b", clock_offset=-0.9)]
        self.assertEqual(list(node_concerns(alike)), [])

    def test_clocks(self) -> None:
        """A clock that is more than a second off is told, with the side."""
        found = node_concerns([node_status("a", clock_offset=1.25), node_status("b", clock_offset=-61.0)])
        expected = ["the clock of node a is 1.2 s ahead of the database's"]
        self.assertEqual(list(found), [*expected, "the clock of node b is 61.0 s behind the database's"])

    def test_different(self) -> None:
        """Different configurations and versions are told, with the nodes that agree together."""
        nodes = [node_status("a"), node_status("b", digest="beef"), node_status("c", version="0.2")]
        expected = ["the nodes have different configurations: a, c; b", "the nodes have different versions: a, b; c"]
        self.assertEqual(list(node_concerns(nodes)), expected)

    def test_starting(self) -> None:
        """A node that has no digest yet differs from none."""
        self.assertEqual(list(node_concerns([node_status("a"), node_status("b", digest="")])), [])

    def test_gone(self) -> None:
        """A node that is gone is told; it is no concern what it was like."""
        gone = node_status("b", alive=False, heartbeat=99.6, digest="beef", version="0", clock_offset=9.0)
        self.assertEqual(
            list(node_concerns([node_status("a"), gone])), ["node b is gone: it was last heard of 100 s ago"]
        )


class NodeWatchTests(SynchronousTestCase):
    """What is logged of the nodes."""

    def setUp(self) -> None:
        """Two nodes agree."""
        self.clock = Clock()
        self.cluster = Nodes(self.clock, node_status("a", own=True), node_status("b"))
        self.watch = NodeWatch(self.clock, self.cluster)
        self.watch.start()
        self.addCleanup(self.watch.stop)

    def look(self, *nodes: NodeStatus) -> list[str]:
        """Let the watch look once; returns what it logs."""
        self.cluster.found = list(nodes) or None
        with capturedLogs() as events:
            self.clock.advance(30.0)
        return [formatEvent(event) for event in events]

    def test_differences(self) -> None:
        """A difference is logged once, when it was found twice, and once again when it is over."""
        a, b = node_status("a", own=True), node_status("b")
        other = attrs.evolve(b, digest="beef")
        different = ["the nodes have different configurations: a; b"]
        found = [self.look(*nodes) for nodes in ((a, b), (a, other), (a, other), (a, other), (a, b), (a, b))]
        over = ["the nodes no longer have different configurations"]
        self.assertEqual(found, [[], [], different, [], over, []])

    def test_reloaded(self) -> None:
        """Nodes that are reloaded one after the other say nothing."""
        a, b = node_status("a", own=True), node_status("b")
        self.assertEqual([self.look(a, attrs.evolve(b, digest="beef")), self.look(a, b), self.look(a, b)], [[], [], []])

    def test_unavailable(self) -> None:
        """While the nodes cannot be read, what was found stays."""
        a, other = node_status("a", own=True), node_status("b", version="0.2")
        self.look(a, other)
        self.assertEqual(self.look(), [])
        self.assertEqual(self.look(a, other), ["the nodes have different versions: a; b"])

    def test_fails(self) -> None:
        """What should never happen is logged, and the watch goes on."""
        self.patch(self.cluster, "nodes", lambda: fail(ValueError("unlucky")))
        self.clock.pump([30.0, 30.0])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_alone(self) -> None:
        """A node that shares its database with none looks at nothing."""
        clock = Clock()
        NodeWatch(clock, SingleNode(clock)).start()
        self.assertEqual(clock.getDelayedCalls(), [])


class DigestTests(SynchronousTestCase):
    """The digest of a configuration."""

    def setUp(self) -> None:
        """There is an app."""
        self.world = AdminWorld()
        self.addCleanup(self.world.close)

    def digest(self, text: str = "", directory: str = "/etc/txapns") -> str:
        """Compute the digest of a configuration that has the app."""
        app = "[apps.chess]\ncertificate = 'chess.pem'\n"
        configuration = Configuration.from_text(app + text, Path(directory))
        return configuration_digest(configuration, self.world.apps)

    def test_same(self) -> None:
        """What may differ between nodes is not in it: addresses, names, files."""
        others = (
            "[intake.native]\nlisten = 'tcp:port=9000:interface=127.0.0.1'",
            "[node]\nname = 'push-7'",
            "[database]\nurl = 'postgresql://other.example.com/push'",
            "[admin]\nlisten = []",
        )
        self.assertEqual({self.digest(), self.digest("", "/srv"), *map(self.digest, others)}, {self.digest()})

    def test_different(self) -> None:
        """What becomes of a notification is in it."""
        others = (
            "outcomes = true",
            "[limits]\nin_flight = 7",
            "[retries]\nattempts = 7",
            "[database]\nretention = 7.0",
            "[webhook.a]\nurl = 'https://example.com/'\nsecret_file = 'a'",
            "[apps.chess.limits]\nqueue = 7",
            "[apps.news]\ncertificate = 'news.pem'",
        )
        self.assertEqual(len({self.digest(), *map(self.digest, others)}), 1 + len(others))

    def test_credentials(self) -> None:
        """So are the credentials of apps in the configuration: another one is a difference, or none that works."""
        before = self.digest()
        app = self.world.apps.get("chess")
        self.world.add_app("chess", credential=self.world.simulator.provider_token())
        self.assertNotEqual(self.digest(), before)
        self.world.add_app("chess", credential=app.credential)
        self.assertEqual(self.digest(), before)
        self.world.add_app("news", credential=app.credential)
        self.assertEqual(self.digest(), before)  # an app in the database is the same on all nodes
        self.world.apps.remove("chess")
        self.assertNotEqual(self.digest(), before)
