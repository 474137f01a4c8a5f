"""
The tables of the queue, and how their rows are written and read.

A message is stored once, with one delivery for each of its devices. The deliveries of a request have consecutive
numbers, and a message has the number of its first delivery. ``queue_next`` holds the end of the numbers that may be in
use, so that no number is given twice, even if its notification is forgotten.

What one caller sends for one app in one lane is a *flow*, and waits in line by due time, then by number. Whoever leases
looks at the flows of the app and takes from some of them; see :mod:`txapns.daemon.store.turns`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from threading import Lock

import attrs
import msgspec

from txapns.daemon.store.acceptance import FlowKey
from txapns.daemon.store.outcome_feed import Recording
from txapns.daemon.store.sqlite.leases import Leases
from txapns.daemon.store.sqlite.schema import Schema
from txapns.daemon.store.sqlite.timeline import Timeline

__all__ = ["ID_BITS", "QUEUE", "QueueState", "array"]

# Callers may choose ids, which are random then. Each would be added somewhere in an index of all ids, on a page of its
# own, which takes several times as long when a million wait. So the index is divided by the numbers, which increase:
# what is added goes into its last part, of 8,192 ids, which is small enough to be on the pages that are in memory. To
# look an id up takes a look into each part, the last one first: a microsecond or two for each.
#: How many bits of a number do not count for the part of the index of ids that it is in.
ID_BITS = 13

# The indexes of the queue hold only what waits, and that of the failures only what failed: most rows leave the first
# ones and never enter the second. With the series, which is as long as the longest run, one statement makes many rows
# from one.
#: The tables of the queue.
QUEUE = Schema(
    "queue",
    (
        """
CREATE TABLE queue_app (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE queue_message (
    number INTEGER PRIMARY KEY,
    headers TEXT NOT NULL,
    payload BLOB NOT NULL,
    accepted_at INTEGER NOT NULL
);
CREATE TABLE queue_delivery (
    number INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    app INTEGER NOT NULL,
    token BLOB NOT NULL,
    apns_id BLOB NOT NULL,
    due INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    status INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    timestamp INTEGER,
    settled_at INTEGER
);
CREATE INDEX queue_delivery_waiting ON queue_delivery (app, due, number) WHERE state = 0;
CREATE INDEX queue_delivery_failed ON queue_delivery (state, number) WHERE state > 1;
CREATE INDEX queue_delivery_id ON queue_delivery (apns_id, app);
CREATE TABLE queue_key (
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    digest BLOB NOT NULL,
    counts TEXT NOT NULL,
    apns_ids BLOB NOT NULL,
    noted_at INTEGER NOT NULL,
    first INTEGER NOT NULL,
    PRIMARY KEY (owner, key)
);
CREATE INDEX queue_key_noted_at ON queue_key (noted_at);
CREATE TABLE queue_next (number INTEGER NOT NULL);
INSERT INTO queue_next VALUES (1);
CREATE TABLE queue_series (n INTEGER PRIMARY KEY);
WITH RECURSIVE series(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM series WHERE n < 999)
INSERT INTO queue_series SELECT n FROM series
""",
        "ALTER TABLE queue_delivery ADD COLUMN unique_id TEXT",
        """
ALTER TABLE queue_delivery ADD COLUMN not_before INTEGER;
CREATE INDEX queue_delivery_not_before ON queue_delivery (not_before, number)
WHERE state = 0 AND attempts = 0 AND not_before IS NOT NULL
""",
        # What may still be sent was in one line for each app.
        """
CREATE TABLE queue_flow (
    id INTEGER PRIMARY KEY,
    app INTEGER NOT NULL,
    lane INTEGER NOT NULL CHECK (lane IN (0, 1, 2)),
    caller TEXT NOT NULL,
    UNIQUE (app, lane, caller)
);
INSERT INTO queue_flow (app, lane, caller) SELECT id, 1, 'anybody' FROM queue_app ORDER BY id;
ALTER TABLE queue_delivery ADD COLUMN flow INTEGER NOT NULL DEFAULT 0;
UPDATE queue_delivery SET flow = coalesce((SELECT id FROM queue_flow WHERE app = queue_delivery.app), 0)
WHERE state = 0;
UPDATE queue_delivery SET flow = coalesce((SELECT id FROM queue_flow WHERE app = queue_delivery.app), 0)
WHERE state > 1 AND state = 4;
DROP INDEX queue_delivery_waiting;
CREATE INDEX queue_delivery_flow ON queue_delivery (flow, due, number) WHERE state = 0
""",
        """
ALTER TABLE queue_delivery ADD COLUMN collapse INTEGER;
ALTER TABLE queue_delivery ADD COLUMN superseded INTEGER NOT NULL DEFAULT 0;
CREATE INDEX queue_delivery_collapse ON queue_delivery (app, collapse, token) WHERE state = 0 AND collapse IS NOT NULL;
CREATE INDEX queue_delivery_collapse_dead ON queue_delivery (app, collapse, token)
WHERE state = 4 AND collapse IS NOT NULL
""",
        "CREATE INDEX queue_delivery_dead ON queue_delivery (state, app, number) WHERE state = 4",
        f"""
DROP INDEX queue_delivery_id;
CREATE INDEX queue_delivery_id ON queue_delivery (number >> {ID_BITS}, apns_id, app)
""",
        "CREATE INDEX queue_delivery_flow_dead ON queue_delivery (flow) WHERE state = 4",
        """
CREATE INDEX queue_delivery_failed_at ON queue_delivery (app, settled_at) WHERE state > 1 AND state < 5;
CREATE INDEX queue_delivery_failed_token ON queue_delivery (app, token) WHERE state > 1 AND state < 5
""",
        "ALTER TABLE queue_delivery ADD COLUMN environment INTEGER",
        # What operators look for is of one app, and in one state.
        """
CREATE INDEX queue_delivery_waiting ON queue_delivery (app, number) WHERE state = 0;
DROP INDEX queue_delivery_failed;
DROP INDEX queue_delivery_dead;
CREATE INDEX queue_delivery_failed ON queue_delivery (state, app, number) WHERE state > 1
""",
        "CREATE INDEX queue_delivery_failed_last ON queue_delivery (settled_at) WHERE state > 1 AND state < 5",
    ),
)


@attrs.define(eq=False)
class QueueState:
    """
    What the queue and the outcome log hold in memory.

    :ivar lock: has to be held to use the leases. Nobody holds it while something is written to the disk.
    :ivar leases: the leases.
    :ivar apps: the ids of apps, by name. They belong to the writer's thread.
    :ivar flows: the ids of flows, likewise.
    :ivar app_flows: the flows of each app, by its name: their ids with their lanes. To change it takes the lock.
    :ivar flow_apps: the app of each flow. It belongs to the writer's thread.
    :ivar waiting: how many notifications wait, by app's name.
    :ivar recording: what they share with the outcome feed.
    """

    timeline: Timeline
    lock: Lock = attrs.Factory(Lock)
    leases: Leases = attrs.Factory(Leases)
    apps: dict[str, int] = attrs.Factory(dict)
    flows: dict[FlowKey, int] = attrs.Factory(dict)
    app_flows: dict[str, dict[int, int]] = attrs.Factory(dict)
    flow_apps: dict[int, str] = attrs.Factory(dict)
    waiting: Counter[str] = attrs.Factory(Counter)
    recording: Recording = attrs.Factory(Recording)
    running: bool = False

    def know(self, flows: dict[FlowKey, int]) -> None:
        """Take note of new flows, given all of them."""
        for key in flows.keys() - self.flows.keys():
            app, lane, _ = key
            self.app_flows.setdefault(app, {})[flows[key]] = lane
            self.flow_apps[flows[key]] = app
        self.flows = flows

    def forget(self, unused: Iterable[int]) -> None:
        """Forget flows of which nothing waits, given their ids."""
        gone = set(unused)
        self.flows = {key: flow for key, flow in self.flows.items() if flow not in gone}
        with self.lock:
            for flow in gone & self.flow_apps.keys():
                del self.app_flows[self.flow_apps.pop(flow)][flow]
            self.leases.forget(gone)

    def leased_among(self, numbers: Sequence[int]) -> tuple[Counter[str], list[int]]:
        """Count by app those that are leased, and list the others."""
        counts: Counter[str] = Counter()
        with self.lock:
            flows, others = self.leases.among(numbers)
        for flow, count in flows.items():
            counts[self.flow_apps[flow]] += count
        return counts, others


def array(value: object) -> str:
    """Write values as a JSON array, the form in which statements take many of them at once."""
    return msgspec.json.encode(value).decode()
