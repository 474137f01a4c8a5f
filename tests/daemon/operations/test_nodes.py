"""Tests for :mod:`txapns.daemon.operations.nodes`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.admin_world import node_status
from txapns.daemon.operations.nodes import node_concerns

__all__ = ["NodeConcernsTests"]


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

    def test_gone(self) -> None:
        """A node that is gone is told; it is no concern what it was like."""
        gone = node_status("b", alive=False, heartbeat=99.6, digest="beef", version="0", clock_offset=9.0)
        self.assertEqual(
            list(node_concerns([node_status("a"), gone])), ["node b is gone: it was last heard of 100 s ago"]
        )
