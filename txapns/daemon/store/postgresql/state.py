"""What the queue and the outcome log on PostgreSQL hold in memory."""

from __future__ import annotations

import attrs

from txapns.daemon.store.acceptance import FlowKey
from txapns.daemon.store.outcome_feed import Recording
from txapns.daemon.store.postgresql.cluster_time import ClusterTime
from txapns.daemon.store.postgresql.counts import WaitingCounts
from txapns.daemon.store.postgresql.lease_book import Found, LeaseBook
from txapns.daemon.store.postgresql.partitions import DAY

__all__ = ["QueueState"]


@attrs.define(eq=False)
class QueueState:
    """
    What they hold.

    :ivar incarnation: the node's, a UUID; it changes when the node joins again.
    :ivar day: how long the day of a partition is, in milliseconds.
    :ivar apps: the ids of apps, by name. They belong to the thread that accepts.
    :ivar flows: the ids of flows, likewise.
    :ivar leases: the leases of this node.
    :ivar waiting: how many notifications wait, by app's name.
    :ivar names: the names of apps of which something was leased, by id.
    :ivar recording: what they share with the outcome feed.
    """

    time: ClusterTime
    incarnation: str = ""
    day: int = DAY
    apps: dict[str, int] = attrs.Factory(dict)
    flows: dict[FlowKey, int] = attrs.Factory(dict)
    leases: LeaseBook = attrs.Factory(LeaseBook)
    waiting: WaitingCounts = attrs.Factory(WaitingCounts)
    names: dict[int, str] = attrs.Factory(dict)
    recording: Recording = attrs.Factory(Recording)
    running: bool = False

    def may_record(self, found: Found) -> bool:
        """Tell whether notifications that are leased like this may be of an app whose outcomes are recorded."""
        apps = self.recording.apps
        return bool(apps) and (bool(found.unknown) or any(self.names.get(app) in apps for app, _ in found.known))
