"""What an operator should know of the nodes that share a database: who is gone, and in what they differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns._network.alarm import Alarm
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.config.sections import AppDescription
from txapns.daemon.errors import RequestRefused, Unavailable
from txapns.daemon.interfaces import IApps
from txapns.daemon.store.cluster import ICluster, NodeStatus

__all__ = ["CLOCK", "NodeWatch", "configuration_digest", "node_concerns"]

#: By how many seconds a node's clock may differ from the database's; dates in outcomes and provider tokens are its own.
CLOCK = 1.0

_log = Logger()

_INTERVAL = 30.0  # seconds from one look to the next
_DIFFERENT = "the nodes have different {what}: {groups}"


def node_concerns(nodes: Sequence[NodeStatus]) -> Iterator[str]:
    """
    Find what is wrong with nodes, or among them.

    :param nodes: all that are known.
    :returns: a line for each concern, for a person.
    """
    for node in nodes:
        if not node.alive:
            yield f"node {node.name} is gone: it was last heard of {node.heartbeat:.0f} s ago"
        elif abs(node.clock_offset) > CLOCK:
            side = "ahead of" if node.clock_offset > 0 else "behind"
            yield f"the clock of node {node.name} is {abs(node.clock_offset):.1f} s {side} the database's"
    for what, groups in _differences(nodes).items():
        yield _DIFFERENT.format(what=what, groups=groups)


def _differences(nodes: Sequence[NodeStatus]) -> dict[str, str]:
    """Find in what living nodes differ, and which of them agree, for a person."""
    alive = [node for node in nodes if node.alive]
    different = {}
    for what, found in (
        ("configurations", {node.name: node.digest for node in alive if node.digest}),
        ("versions", {node.name: node.version for node in alive}),
    ):
        groups: dict[str, list[str]] = {}
        for name, value in found.items():
            groups.setdefault(value, []).append(name)
        if len(groups) > 1:
            different[what] = "; ".join(map(", ".join, groups.values()))
    return different


class NodeWatch:
    """
    Logs in what the nodes that share a database differ, once for each difference, and when it is over.

    Nodes are upgraded and reload their configurations one after the other. So what is logged was found twice.
    """

    def __init__(self, clock: IReactorTime, cluster: ICluster) -> None:
        self._cluster = cluster
        self._alarm = Alarm(clock, self._look)
        self._running = False
        self._found: dict[str, str] = {}
        self._told: dict[str, str] = {}

    def start(self) -> None:
        """Look from time to time, if there may be other nodes."""
        self._running = self._cluster.shared
        self._looked(None)

    def stop(self) -> None:
        """Look no longer."""
        self._running = False
        self._alarm.cancel()

    def _look(self) -> None:
        self._cluster.nodes().addCallbacks(self._compare, _not_read).addBoth(self._looked)

    def _looked(self, result: object) -> None:
        if self._running:
            self._alarm.set(_INTERVAL)

    def _compare(self, nodes: Sequence[NodeStatus]) -> None:
        before, self._found = self._found, _differences(nodes)
        for what, groups in self._found.items():
            if before.get(what) == groups and self._told.get(what) != groups:
                self._told[what] = groups
                _log.warn(_DIFFERENT, what=what, groups=groups)
        for what in self._told.keys() - self._found.keys():
            del self._told[what]
            _log.info("the nodes no longer have different {what}", what=what)


def _not_read(failure: Failure) -> None:
    """Leave it to the next look."""
    if failure.check(Unavailable) is None:
        _log.failure("the nodes could not be compared", failure)


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
