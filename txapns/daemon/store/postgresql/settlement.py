"""How settlements are stored: a few statements, whatever their number."""

from __future__ import annotations

from itertools import chain
from typing import Any

import attrs

from txapns.daemon.store.postgresql import feedback_log
from txapns.daemon.store.postgresql.arrays import bigints, text, texts
from txapns.daemon.store.postgresql.lease_book import Found
from txapns.daemon.store.postgresql.leases import free
from txapns.daemon.store.postgresql.outcome_feed import record
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.store.queue_time import QueueTime
from txapns.daemon.store.settlement import (
    Report,
    Row,
    Settled,
    chosen_of,
    dead_tokens,
    returned_of,
    row_of,
    supersede,
    superseded_of,
)
from txapns.daemon.store.superseding import Superseded
from txapns.daemon.values import Settlement, State

__all__ = ["Conclusion", "conclude"]

_COUNTED = """
counted AS (
    INSERT INTO queue_count (app, node, settling, waiting)
    SELECT app, %(node)s, true, -count(*) FROM gone GROUP BY app ORDER BY app
    ON CONFLICT (app, node, settling) DO UPDATE SET waiting = queue_count.waiting + excluded.waiting
)
"""

_OUTCOME = """
INSERT INTO outcome (
    number, message, due, accepted_at, settled_at, timestamp, app, attempts, status, state, apns_id, token, reason,
    unique_id, environment, flow, collapse, superseded
)
"""

# Nearly all are accepted. An index scan finds the rows in the order of their numbers, and so it locks them.
_ACCEPTED = f"""
WITH gone AS (DELETE FROM queue WHERE number = ANY(%(numbers)s) RETURNING *),
stored AS (
    {_OUTCOME}
    SELECT
        number, message, due, accepted_at, %(date)s, NULL, app, attempts + 1, 200, 1, apns_id, token, '', NULL, NULL,
        flow, collapse, superseded
    FROM gone
),
{_COUNTED}
SELECT (SELECT name FROM queue_app WHERE id = app), count(*) FROM gone GROUP BY app
"""

_ACCEPTED_NUMBERS = _ACCEPTED.replace("count(*) FROM gone GROUP BY app\n", "array_agg(number) FROM gone GROUP BY app\n")

# Which of the values belong to a row is found by its number in the array of all numbers, which are in their order. A
# join might begin with all rows of the queue, if it was empty when the server last counted them.
_FINAL = f"""
WITH gone AS (
    DELETE FROM queue WHERE number = ANY(%(numbers)s) RETURNING *, width_bucket(number, %(numbers)s) AS place
),
stored AS (
    {_OUTCOME}
    SELECT
        number, message, due, accepted_at, (%(dates)s)[place], (%(timestamps)s::bigint[])[place], app,
        attempts + (%(attempts)s)[place], (%(statuses)s)[place], (%(states)s)[place], apns_id, token,
        (%(reasons)s)[place], (%(unique_ids)s::text[])[place], (%(environments)s::smallint[])[place], flow, collapse,
        superseded
    FROM gone
),
{_COUNTED}
SELECT number, (SELECT name FROM queue_app WHERE id = app), token FROM gone
"""

_SUPERSEDED = "SELECT number FROM queue WHERE number = ANY(%s) AND superseded"

_RETRIED = """
UPDATE queue SET (due, attempts, status, reason) = (
    SELECT (%(dues)s)[place], attempts + (%(attempts)s)[place], (%(statuses)s)[place], (%(reasons)s)[place]
    FROM (SELECT width_bucket(number, %(numbers)s) AS place) AS chosen
)
WHERE number = ANY(%(numbers)s)
"""


@attrs.frozen(eq=False)
class Conclusion(Settled):
    """
    What a transaction of settlements changed.

    :ivar freed: the leases that ended.
    """

    freed: Found = attrs.Factory(Found)


def conclude(
    connection: Connection, reports: list[Report], freed: Found, time: QueueTime, node: str, recording: frozenset[str]
) -> Conclusion:
    """
    Store settlements, and note the dead tokens among them.

    :param freed: where all of these notifications are leased.
    :param node: the incarnation of the node.
    :param recording: the apps of which outcomes are recorded; none if these notifications are of others.
    """
    by_date, chosen = chosen_of(reports)
    accepted = sorted(chain(*by_date.values()))
    _supersede(connection, chosen)
    gone = {*accepted, *[number for number, (each, _) in chosen.items() if each.state is not State.WAITING]}
    free(connection, freed, gone.__contains__)
    final, retried = [], []
    for each, now in chosen.values():
        if each.state is State.WAITING:
            retried.append(row_of(each, now, None if each.due is None else time.due(each.due)))
        else:
            final.append(row_of(each, now, None))
    counts: dict[str, int] = {}
    recorded: dict[str, list[int]] = {}
    noted: list[Any] = []
    superseded = Superseded()
    if accepted:
        values = {"numbers": bigints(accepted), "date": reports[-1].date, "node": node}
        if recording:
            recorded.update(connection.execute(_ACCEPTED_NUMBERS, values, prepare=True, binary=True).fetchall())
            counts = {app: len(numbers) for app, numbers in recorded.items()}
        else:
            counts.update(connection.execute(_ACCEPTED, values, prepare=True).fetchall())
    if retried:
        connection.execute(_RETRIED, _columns(retried), prepare=True)
    if final:
        found = connection.execute(_FINAL, {**_columns(final), "node": node}, prepare=True, binary=True).fetchall()
        for number, app, _ in found:
            counts[app] = counts.get(app, 0) + 1
            recorded.setdefault(app, []).append(number)
        noted = dead_tokens(sorted(found), chosen)  # in the order of their acceptance
        superseded = superseded_of([(number, app) for number, app, _ in found], chosen)
    apps = recording & recorded.keys()
    dates = [report.date for report in reports]
    record(connection, [number for app in apps for number in recorded[app]], min(dates), max(dates))
    if noted:
        feedback_log.note(connection, noted, reports[-1].date / 1000)
    return Conclusion(counts, frozenset(app for app, *_ in noted), apps, superseded, freed)


def _supersede(connection: Connection, chosen: dict[int, tuple[Settlement, int]]) -> None:
    """Settle as superseded what would be tried again and was marked meanwhile."""
    returned = returned_of(chosen)
    if returned:
        found = connection.execute(_SUPERSEDED, [bigints(sorted(returned))], prepare=True).fetchall()
        supersede([number for (number,) in found], chosen)


def _columns(rows: list[Row]) -> dict[str, Any]:
    """Make the parameters of settlements that are all final, or all retried."""
    rows.sort()
    numbers, states, statuses, reasons, timestamps, dates, dues, attempts, unique_ids, environments = zip(
        *rows, strict=True
    )
    return {
        "numbers": bigints(numbers),
        "states": bigints(states),
        "statuses": bigints(statuses),
        "reasons": texts(reasons),
        "timestamps": list(timestamps),
        "dates": bigints([date or 0 for date in dates]),
        "dues": bigints([due or 0 for due in dues]),
        "attempts": bigints(attempts),
        "unique_ids": [unique_id and text(unique_id) for unique_id in unique_ids],
        "environments": list(environments),
    }
