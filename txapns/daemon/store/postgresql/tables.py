"""
The tables of the queue.

::

    accept ──► message   one row for each payload
           ──► queue     one row for each device, as long as it waits
    lease  ──► lease     one row for each chunk that a node sends, with the numbers of its notifications
    settle ──► outcome   the row of the queue moves there when its state is final; DEAD can move back

A row of the queue is written once and deleted once, and leasing does not touch it, so the queue stays as small as what
waits. Outcomes are appended and, a day after the other, dropped with the partition that they are in; see
:mod:`txapns.daemon.store.postgresql.partitions`.

Two other layouts were measured: a row that is leased and settled in place, as in SQLite, and one that is leased in
place and moves when it is settled. They took 1.3 to 1.6 and 1.1 to 1.2 times the server's CPU time, and 1.3 and 1.2
times the write-ahead log; the figures are in ``docs/daemon-performance.rst``.

The deliveries of a request have consecutive numbers, and a message has the number of its first delivery. What one
caller sends for one app in one lane is a *flow* and has a row in ``flow``, which whoever accepts holds, and which is
forgotten when there is nothing of it; its notifications wait in line by due time, then by number. Each app has a row in
``queue_app``, with the state of its circuit and what is spent of its rate; whoever claims notifications of the app, or
accepts some that may supersede others, locks it. ``queue_count`` says how much waits: each node adds up what its own
transactions change in rows of its own, one for its connection that accepts and one for that which settles, so that no
transaction waits for another. The sum of all rows is exact.

Times are whole milliseconds: ``due``, ``until`` and ``since`` are of the cluster's time, the rest are dates of a node's
wall clock. A transaction locks apps first, then flows, leases and notifications, each in ascending order, then keys,
then counts, then heads of the outcome feed, and last the head of the feedback log. So no two of them wait for each
other.
"""

from __future__ import annotations

from txapns.daemon.store.postgresql.schema import Schema

__all__ = ["NOBODY", "QUEUE"]

#: Whose row in ``queue_count`` has what no node counts: nodes that are gone, and processes that are none.
NOBODY = "00000000-0000-0000-0000-000000000000"

# The queue is vacuumed when as many rows were deleted as are a fifth of what waits: each time, the indexes of all that
# waits are read.
_VACUUM = "autovacuum_vacuum_scale_factor = 0.2, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0"

# Columns of eight bytes come first, which saves the gaps between them. A payload is at most 5 KiB and the numbers of a
# chunk are 4 KiB, so both fit into the row; to compress them, or to move them out of it, takes longer than it saves.
#: The tables of the queue and of the outcome log.
QUEUE = Schema(
    "queue",
    (
        f"""
CREATE SEQUENCE queue_number INCREMENT BY 10000;
CREATE TABLE lane (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    rest_until bigint NOT NULL DEFAULT 0,
    since bigint NOT NULL DEFAULT 0,
    trips boolean NOT NULL DEFAULT false,
    trouble text NOT NULL DEFAULT ''
) WITH (fillfactor = 50);
CREATE TABLE message (
    number bigint PRIMARY KEY,
    accepted_at bigint NOT NULL,
    since bigint NOT NULL,
    headers text NOT NULL,
    payload bytea NOT NULL
) WITH (toast_tuple_target = 8160);
ALTER TABLE message ALTER payload SET STORAGE MAIN;
CREATE TABLE queue (
    number bigint PRIMARY KEY,
    message bigint NOT NULL,
    due bigint NOT NULL,
    accepted_at bigint NOT NULL,
    app integer NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    status integer NOT NULL DEFAULT 0,
    apns_id uuid NOT NULL,
    token bytea NOT NULL,
    reason text NOT NULL DEFAULT ''
) WITH ({_VACUUM});
CREATE INDEX queue_due ON queue (app, due, number);
CREATE INDEX queue_id ON queue (apns_id, app, number);
CREATE TABLE lease (
    app integer NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    until bigint NOT NULL,
    node uuid NOT NULL,
    numbers bigint[] NOT NULL,
    PRIMARY KEY (app, id)
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE lease ALTER numbers SET STORAGE MAIN;
CREATE TABLE lane_count (
    app integer NOT NULL,
    node uuid NOT NULL,
    settling boolean NOT NULL,
    waiting bigint NOT NULL,
    PRIMARY KEY (app, node, settling)
) WITH (fillfactor = 10);
CREATE TABLE idempotency (
    owner text NOT NULL,
    key text NOT NULL,
    digest bytea NOT NULL,
    counts integer[] NOT NULL,
    apns_ids bytea NOT NULL,
    noted_at bigint NOT NULL,
    first bigint NOT NULL,
    PRIMARY KEY (owner, key)
);
CREATE INDEX idempotency_noted_at ON idempotency (noted_at);
CREATE TABLE outcome (
    number bigint NOT NULL,
    message bigint NOT NULL,
    due bigint NOT NULL,
    accepted_at bigint NOT NULL,
    settled_at bigint NOT NULL,
    timestamp bigint,
    app integer NOT NULL,
    attempts integer NOT NULL,
    status integer NOT NULL,
    state smallint NOT NULL,
    apns_id uuid NOT NULL,
    token bytea NOT NULL,
    reason text NOT NULL
) PARTITION BY RANGE (settled_at);
CREATE INDEX outcome_number ON outcome (number);
CREATE INDEX outcome_id ON outcome (apns_id, app, number);
CREATE INDEX outcome_failed ON outcome (state, number) WHERE state > 1;
CREATE TABLE outcome_other PARTITION OF outcome DEFAULT;
CREATE INDEX outcome_other_settled_at ON outcome_other (settled_at);
""",
        "ALTER TABLE outcome ADD COLUMN unique_id text",
        "ALTER TABLE queue ADD COLUMN not_before bigint",
        # What may still be sent was in one line for each app.
        """
ALTER TABLE lane RENAME TO queue_app;
ALTER SEQUENCE lane_id_seq RENAME TO queue_app_id_seq;
ALTER INDEX lane_pkey RENAME TO queue_app_pkey;
ALTER INDEX lane_name_key RENAME TO queue_app_name_key;
ALTER TABLE lane_count RENAME TO queue_count;
ALTER INDEX lane_count_pkey RENAME TO queue_count_pkey;
CREATE TABLE flow (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app integer NOT NULL,
    lane smallint NOT NULL CHECK (lane IN (0, 1, 2)),
    caller text NOT NULL,
    UNIQUE (app, lane, caller)
);
INSERT INTO flow (app, lane, caller) SELECT id, 1, 'anybody' FROM queue_app ORDER BY id;
ALTER TABLE queue ADD flow integer NOT NULL DEFAULT 0;
UPDATE queue SET flow = flow.id FROM flow WHERE flow.app = queue.app;
DROP INDEX queue_due;
CREATE INDEX queue_flow ON queue (flow, due, number);
ALTER TABLE outcome ADD flow integer NOT NULL DEFAULT 0;
UPDATE outcome SET flow = flow.id FROM flow WHERE state > 1 AND state = 4 AND flow.app = outcome.app;
""",
        """
ALTER TABLE queue ADD collapse bigint, ADD superseded boolean NOT NULL DEFAULT false;
CREATE INDEX queue_collapse ON queue (app, collapse, token) WHERE collapse IS NOT NULL;
ALTER TABLE outcome ADD collapse bigint, ADD superseded boolean NOT NULL DEFAULT false;
CREATE INDEX outcome_collapse ON outcome (app, collapse, token) WHERE state > 1 AND state = 4 AND collapse IS NOT NULL;
""",
        "ALTER TABLE queue_app ADD paced_until bigint NOT NULL DEFAULT 0",
        "ALTER TABLE outcome ADD environment smallint",
        "CREATE INDEX outcome_flow ON outcome (app, flow) WHERE state > 1 AND state = 4",
        """
CREATE INDEX outcome_failed_at ON outcome (app, settled_at) WHERE state > 1 AND state < 5;
CREATE INDEX outcome_failed_token ON outcome (app, token, number) WHERE state > 1 AND state < 5;
""",
        # What operators look for is of one app.
        """
CREATE INDEX queue_waiting ON queue (app, number);
CREATE INDEX outcome_failed_app ON outcome (state, app, number) WHERE state > 1;
""",
        "CREATE INDEX outcome_failed_last ON outcome (settled_at) WHERE state > 1 AND state < 5",
        # Of indexes that seem to cost the same, as all do of a table that was counted while it was empty, the server
        # takes the latest. So that is the one by number: the others would be read from end to end.
        "ALTER TABLE queue DROP CONSTRAINT queue_pkey, ADD PRIMARY KEY (number)",
    ),
    # An older node would make due at its start what is not sent before a date, and send what is superseded; and it does
    # not know flows, or would go on using those that are forgotten.
    breaking=(3, 4, 5, 7),
)
