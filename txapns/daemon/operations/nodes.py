"""What an operator should know of the nodes that share a database: who is gone, and in what they differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import msgspec

from txapns.daemon.config.configuration import Configuration
from txapns.daemon.config.sections import AppDescription
from txapns.daemon.errors import RequestRefused
from txapns.daemon.interfaces import IApps
from txapns.daemon.store.cluster import NodeStatus

__all__ = ["CLOCK", "configuration_digest", "node_concerns"]

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
        ("configurations", {node.name: node.digest for node in alive if node.digest}),
        ("versions", {node.name: node.version for node in alive}),
    ):
        groups: dict[str, list[str]] = {}
        for name, value in found.items():
            groups.setdefault(value, []).append(name)
        if len(groups) > 1:
            yield f"the nodes have different {what}: " + "; ".join(map(", ".join, groups.values()))


def configuration_digest(configuration: Configuration, apps: IApps) -> str:
    """
    Compute a digest of a configuration, as far as it should be the same on all nodes.

    That is what decides on a notification, whichever node accepts and sends it: the limits, the retries, the webhooks,
    and the apps in the file, with the fingerprints of their credentials. Addresses and names of files may differ.
    """
    webhooks = {
        name: (hook.url, hook.apps, hook.batch, hook.timeout, hook.give_up, hook.events)
        for name, hook in configuration.webhook.items()
    }
    described = {
        name: ([getattr(section, each) for each in AppDescription.__struct_fields__], _fingerprint(apps, name))
        for name, section in configuration.apps.items()
    }
    kept = configuration.database.retention, configuration.outcomes
    parts = [kept, configuration.limits, configuration.retries, webhooks, described]
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def _fingerprint(apps: IApps, name: str) -> str:
    try:
        return " ".join(each.fingerprint for each in apps.get(name).credentials.values())
    except RequestRefused:
        return ""  # it cannot be used now
