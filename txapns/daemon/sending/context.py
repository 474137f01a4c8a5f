"""What the sender of an app is given, and what it reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import attrs
from twisted.internet.interfaces import IReactorTime

from txapns._network.clocks import IWallClock
from txapns.client import APNSClient
from txapns.daemon.interfaces import IApps, IQueue
from txapns.daemon.sending.budget import Budget
from txapns.daemon.sending.settling import Retries
from txapns.daemon.sending.sides import SidedClient
from txapns.daemon.sending.waiting import OutcomeWaiters
from txapns.daemon.store.cluster import ICluster
from txapns.daemon.values import App, Leased, Settlement

__all__ = ["AppState", "Client", "SenderContext", "Settled", "SideState"]

#: What sends an app's notifications.
Client: TypeAlias = APNSClient | SidedClient

#: Called once the outcomes of a chunk are stored, with the app's name, the notifications, the settlements of those that
#: were not just accepted, in any order, and the time, by the reactor's clock.
Settled: TypeAlias = Callable[[str, Sequence[Leased], Sequence[Settlement], float], None]


@attrs.frozen
class SideState:
    """
    A side of an app on which nothing gets through, with the fields of :class:`AppState`.

    :ivar environment: ``"production"`` or ``"sandbox"``.
    """

    environment: str
    tripped: bool
    reason: str
    since: float | None
    until: float


@attrs.frozen
class AppState:
    """
    What a sender knows of its app. What is counted is counted from the start.

    :ivar tripped: whether the circuit is tripped, and the app has to be changed.
    :ivar reason: why nothing gets through, for a person; empty if nothing is known to be wrong.
    :ivar since: since when, by the reactor's clock.
    :ivar until: when a few notifications are tried again, by the reactor's clock; ``None`` if nothing is wrong.
    :ivar in_flight: how many notifications a connection has sent that are not answered.
    :ivar under_way: how many are leased: those in flight, and those that wait for a connection or are being settled.
    :ivar connections: the state of each connection, as in :class:`~txapns.ClientStatus`.
    :ivar last_error: the last error of a connection, for a person; empty if there was none.
    :ivar sent: how many attempts were made.
    :ivar retried: how many attempts were put off until later.
    :ivar sides: the sides on which nothing gets through, of an app with two.
    """

    name: str
    tripped: bool = False
    reason: str = ""
    since: float | None = None
    until: float | None = None
    in_flight: int = 0
    under_way: int = 0
    connections: tuple[str, ...] = ()
    last_error: str = ""
    sent: int = 0
    accepted: int = 0
    rejected: int = 0
    retried: int = 0
    expired: int = 0
    dead: int = 0
    sides: tuple[SideState, ...] = ()


@attrs.frozen(eq=False)
class SenderContext:
    """
    What all senders share.

    :ivar sends: tells whether anything may be leased and sent now.
    """

    reactor: IReactorTime
    wall: IWallClock
    queue: IQueue
    apps: IApps
    cluster: ICluster
    outcomes: OutcomeWaiters
    budget: Budget
    retries: Retries
    lease: float
    settled: Settled
    connect: Callable[[App], Client]
    sends: Callable[[], bool]
