"""What the queue and the outcome log on PostgreSQL hold in memory."""

from __future__ import annotations

import attrs

from txapns.daemon.store.postgresql.cluster_time import ClusterTime
from txapns.daemon.store.postgresql.counts import WaitingCounts
from txapns.daemon.store.postgresql.lease_book import LeaseBook
from txapns.daemon.store.postgresql.partitions import DAY

__all__ = ["QueueState"]


@attrs.define(eq=False)
class QueueState:
    """
    What they hold.

    :ivar incarnation: the node's, a UUID; it changes when the node joins again.
    :ivar day: how long the day of a partition is, in milliseconds.
    :ivar apps: the ids of apps, by name. They belong to the thread that accepts.
    :ivar leases: the leases of this node.
    :ivar waiting: how many notifications wait, by app's name.
    """

    time: ClusterTime
    incarnation: str = ""
    day: int = DAY
    apps: dict[str, int] = attrs.Factory(dict)
    leases: LeaseBook = attrs.Factory(LeaseBook)
    waiting: WaitingCounts = attrs.Factory(WaitingCounts)
    running: bool = False
