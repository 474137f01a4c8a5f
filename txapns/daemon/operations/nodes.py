"""What an operator should know of the nodes that share a database: who is gone, and in what they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from txapns.daemon.store.cluster import NodeStatus

__all__ = ["CLOCK", "node_concerns"]

#: By how many seconds a node's clock may differ from the database's; dates in outcomes and provider tokens are its own.
CLOCK = 1.0


def node_concerns(nodes: Sequence[NodeStatus]) -> Iterator[str]:
    """
    Find what is wrong with nodes, or among them.

    :param nodes: all that are known.
    :returns: a line for each concern, for a person.
    """
    alive = [node for node in nodes if node.alive]
    for node in nodes:
        if not node.alive:
            yield f"node {node.name} is gone: it was last heard of {node.heartbeat:.0f} s ago"
        elif abs(node.clock_offset) > CLOCK:
            side = "ahead of" if node.clock_offset > 0 else "behind"
            yield f"the clock of node {node.name} is {abs(node.clock_offset):.1f} s {side} the database's"
    for what, found in (
        ("configurations", {node.name: node.digest for node in alive}),
        ("versions", {node.name: node.version for node in alive}),
    ):
        groups: dict[str, list[str]] = {}
        for name, value in found.items():
            groups.setdefault(value, []).append(name)
        if len(groups) > 1:
            yield f"the nodes have different {what}: " + "; ".join(map(", ".join, groups.values()))
