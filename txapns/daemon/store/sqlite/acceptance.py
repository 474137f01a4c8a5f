"""
How a request is stored: one statement for the messages and one for the deliveries, whatever their number.

Requests that arrive together are stored together, in one transaction; see :mod:`txapns.daemon.store.group_commit`.
"""

from __future__ import annotations

import sqlite3

import msgspec

from txapns.daemon.store.acceptance import PLACE, Acceptance, laid_out, repeated
from txapns.daemon.store.sqlite.tables import array
from txapns.daemon.values import Idempotency, Receipt

__all__ = ["add", "recognize"]

_ADD_MESSAGES = f"""
WITH block(first, each, headers, accepted_at, places) AS MATERIALIZED (
    SELECT
        json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
        json_extract(value, '$[3]'), json_extract(value, '$[5]')
    FROM json_each(?)
)
INSERT INTO queue_message (number, headers, accepted_at, payload)
SELECT first + key * each, headers, accepted_at, substr(?, value / {PLACE}, value % {PLACE})
FROM block CROSS JOIN json_each(places)
"""  # noqa: S608 - no values but a number of our own

# A part of an empty blob, where all are broadcasts, is NULL.
_ADD_DELIVERIES = """
WITH run(
    number, first, each, app, due, count, token, width, apns_id, not_before, step, flow, collapse
) AS MATERIALIZED (
    SELECT
        json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
        json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
        json_extract(value, '$[6]'), json_extract(value, '$[7]'), json_extract(value, '$[8]'),
        nullif(json_extract(value, '$[10]'), 0), json_extract(value, '$[11]'), json_extract(value, '$[12]'),
        nullif(json_extract(value, '$[13]'), 0)
    FROM json_each(?)
)
INSERT INTO queue_delivery (number, message, app, due, token, apns_id, not_before, flow, collapse)
SELECT
    number + n, first + (number + n - first) / each * each, app, due + n * step / 1000,
    coalesce(substr(?, token + n * width, width), x''), substr(?, apns_id + n * 16, 16), not_before + n * step / 1000,
    flow, collapse
FROM run CROSS JOIN queue_series WHERE n < count
"""


def recognize(
    connection: sqlite3.Connection, acceptances: list[Acceptance], number: int
) -> tuple[list[list[Receipt] | Exception | None], list[Acceptance], int]:
    """
    Find the requests that repeat earlier ones, and give the others their numbers.

    :param number: the next number.
    :returns: the result of each request, ``None`` for those to be stored; the requests to be stored; and the number
        after their last.
    """
    results: list[list[Receipt] | Exception | None] = []
    new = []
    for acceptance in acceptances:
        acceptance.first = number
        result = None if acceptance.idempotency is None else _earlier(connection, acceptance, acceptance.idempotency)
        results.append(result)
        if result is None:
            new.append(acceptance)
            number += acceptance.count
        else:
            acceptance.first = 0
    return results, new, number


def _earlier(
    connection: sqlite3.Connection, acceptance: Acceptance, idempotency: Idempotency
) -> list[Receipt] | Exception | None:
    """Find the result of the same request before, or remember this one as the first."""
    owner, key, digest = idempotency.owner, idempotency.key, idempotency.digest
    rows = connection.execute(
        "SELECT digest, counts, apns_ids, first FROM queue_key WHERE owner = ? AND key = ?", [owner, key]
    )
    for known, counts, apns_ids, first in rows.fetchall():
        return repeated(idempotency, known, msgspec.json.decode(counts), apns_ids, first)
    connection.execute(
        "INSERT INTO queue_key VALUES (?, ?, ?, ?, ?, ?, ?)",
        [owner, key, digest, array(acceptance.counts), acceptance.apns_ids, acceptance.date, acceptance.first],
    )
    return None


def add(connection: sqlite3.Connection, acceptances: list[Acceptance]) -> None:
    """Store new requests, which have numbers and whose apps and flows have ids."""
    layout = laid_out(acceptances)
    connection.execute(_ADD_MESSAGES, [array(layout.messages), layout.payloads])
    connection.execute(_ADD_DELIVERIES, [array(layout.runs), layout.tokens, layout.apns_ids])
