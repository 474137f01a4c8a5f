"""
The nodes: the daemons that share one store, and what they settle among themselves.

All nodes are equal. Each accepts notifications and sends what any of them accepted. A node lives as long as it renews
its entry in the store, and its leases end with it. So a node that cannot reach the store has to stop sending before the
others may begin to send what it had leased.

A *duty* is work that one node at a time does for all, such as a webhook. A *circuit* is what the nodes tell one another
of an app of which nothing gets through; see :mod:`txapns.daemon.sending.breaker`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import Attribute, Interface, implementer

import txapns
from txapns._network.clocks import wall_clock

__all__ = ["HALF_OPEN", "Circuit", "ICluster", "NodeStatus", "SingleNode"]

#: How many notifications of an app are in flight at a time while its circuit is half-open.
HALF_OPEN = 5


@attrs.frozen
class NodeStatus:
    """
    What is known of a node.

    :ivar version: which version of txapns it runs.
    :ivar digest: a digest of its configuration, as far as all nodes need the same one.
    :ivar since: the date when it joined.
    :ivar heartbeat: how many seconds ago it last renewed its life.
    :ivar clock_offset: by how many seconds its wall clock is ahead of the database's.
    :ivar in_flight: how many notifications it had in flight at that time.
    :ivar alive: whether it lives; otherwise it went without a farewell, and its leases have ended.
    :ivar own: whether it is the node that was asked.
    """

    name: str
    version: str
    digest: str
    since: float
    heartbeat: float
    clock_offset: float
    in_flight: int
    alive: bool
    own: bool


@attrs.frozen
class Circuit:
    """
    The circuit of an app, while it is not closed. Times are times of the reactor's clock.

    :ivar reason: why nothing gets through, for a person.
    :ivar trips: whether it is tripped, and lasts until somebody changes the app.
    :ivar since: since when it is open, or tripped.
    :ivar until: when the pause ends, and a few notifications may be tried.
    """

    reason: str
    trips: bool
    since: float
    until: float


class ICluster(Interface):
    """
    The nodes that share a store, as one of them sees them.

    It is ready between the store's :meth:`~txapns.daemon.store.store.IStore.start` and its
    :meth:`~txapns.daemon.store.store.IStore.stop`.
    """

    shared: bool = Attribute("Whether other nodes may use the same store.")
    node: str = Attribute("The name of this node.")
    alive: bool = Attribute("Whether this node may send. If not, its leases have ended, or are about to end.")
    trouble: str = Attribute("Why this node does not send, as text for an operator; empty if it does.")
    digest: str = Attribute("A digest of the configuration, for the other nodes. The daemon sets it.")
    in_flight: Callable[[], int] = Attribute("Counts what this node has in flight. The daemon sets it.")

    def nodes() -> Deferred[list[NodeStatus]]:
        """
        List the nodes, by name.

        :raises Unavailable: the database cannot be read now.
        """

    def owns(duty: str) -> bool:
        """
        Tell at once whether this node has a duty. Asking applies for it: the node gets it when no other node has it.
        """

    def resign(duty: str) -> None:
        """Leave a duty to the other nodes, and apply for it no longer, until :meth:`owns` is asked again."""

    def subscribe(listener: Callable[[], None]) -> Callable[[], None]:
        """
        Call a function whenever :attr:`alive`, or what :meth:`owns` says, has changed.

        :param listener: called in the reactor's thread.
        :returns: a function that ends the subscription.
        """

    def report(app: str, circuit: Circuit | None) -> None:
        """
        Tell the other nodes that the circuit of an app has opened, or tripped; ``None`` if it has closed.

        It is written as soon as the database allows. Until then a later report replaces it.
        """

    def watch(listener: Callable[[str, Circuit | None], None]) -> Callable[[], None]:
        """
        Call a function when the circuit of an app is not as this node has last reported or been told.

        :param listener: called in the reactor's thread with the app's name and its circuit, ``None`` if it has closed.
        :returns: a function that ends the subscription.
        """


@implementer(ICluster)
class SingleNode:
    """
    The only node of a store that cannot be shared. It lives as long as the process, and has all duties.

    :param clock: the reactor, or a ``Clock``.
    :param node: its name; by default, the host's.
    """

    shared = False
    alive = True
    trouble = ""

    def __init__(self, clock: IReactorTime, node: str = "") -> None:
        self.node = node or socket.gethostname()
        self.digest = ""
        self.in_flight: Callable[[], int] = lambda: 0
        self._since = wall_clock(clock).now()

    def nodes(self) -> Deferred[list[NodeStatus]]:
        """See :meth:`ICluster.nodes`."""
        version, in_flight = txapns.__version__, self.in_flight()
        return succeed([NodeStatus(self.node, version, self.digest, self._since, 0.0, 0.0, in_flight, True, True)])

    def owns(self, duty: str) -> bool:
        """See :meth:`ICluster.owns`; it has all duties."""
        return True

    def resign(self, duty: str) -> None:
        """See :meth:`ICluster.resign`; there is nobody to leave it to."""

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """See :meth:`ICluster.subscribe`; nothing changes."""
        return lambda: None

    def report(self, app: str, circuit: Circuit | None) -> None:
        """See :meth:`ICluster.report`; there is nobody to tell."""

    def watch(self, listener: Callable[[str, Circuit | None], None]) -> Callable[[], None]:
        """See :meth:`ICluster.watch`; nobody else reports."""
        return lambda: None
