"""The seam between the daemon and its database."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from txapns.daemon.interfaces import IFeedbackLog, IOutcomeFeed, IOutcomeLog, IQueue, ITokenEnvironments
from txapns.daemon.store.apps import IAppStore, IAppTable
from txapns.daemon.store.cluster import ICluster
from txapns.daemon.store.keys import IKeyStore, IKeyTable
from txapns.daemon.store.workers import IWorker

__all__ = ["IStore", "IVisitedStore", "Tables"]


class IVisitedStore(Interface):
    """
    As much of a store as a process needs that neither accepts nor sends.

    Each of its attributes has one duty. They are ready between :meth:`start` and :meth:`stop`.
    """

    outcomes: IOutcomeLog = Attribute("What became of notifications.")
    apps: IAppStore = Attribute("The apps that commands and callers add.")

    def start() -> Deferred[None]:
        """Open the store; :class:`DatabaseError` if it cannot be used, and nothing is left open."""

    def stop() -> Deferred[None]:
        """Finish the work submitted so far, and close the store. Later requests fail with :class:`Unavailable`."""


class IStore(IVisitedStore):
    """Everything that the daemon keeps, in one database."""

    queue: IQueue = Attribute("Accepted notifications that are not settled.")
    feedback: IFeedbackLog = Attribute("The dead tokens.")
    outcome_feed: IOutcomeFeed = Attribute("What became of notifications, for those who read on.")
    tokens: ITokenEnvironments = Attribute("Which environment device tokens are of, for apps with two sides.")
    keys: IKeyStore = Attribute("The API keys.")
    cluster: ICluster = Attribute("The nodes that share the store.")
    trouble: str = Attribute("Why nothing new can be stored now, as text for an operator; empty if it can.")
    warnings: Sequence[str] = Attribute("What endangers what is stored, as texts for an operator.")

    def worker(name: str) -> IWorker:
        """Make a worker for other slow work."""

    def size() -> Deferred[int]:
        """Tell how many octets the database takes on its disk."""

    def probe() -> Deferred[str]:
        """Try a small write to see whether new data can be stored now; returns what ``trouble`` says after it."""


@attrs.frozen
class Tables:
    """What processes other than the daemon's read and change in a store, within one transaction."""

    apps: IAppTable
    keys: IKeyTable
