"""
How a request is stored: one statement for the messages and one for the deliveries, whatever their number.

Requests that arrive together are stored together, in one transaction; see
:mod:`txapns.daemon.store.sqlite.database`.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable, Sequence

import attrs
import msgspec

from txapns.daemon.errors import KeyConflict
from txapns.daemon.store.sqlite.tables import LONGEST_RUN, array, uuid_text
from txapns.daemon.values import Idempotency, Message, Receipt

__all__ = ["Acceptance", "Packed", "add", "pack", "receipts_of", "recognize"]

_ADD_MESSAGES = """
INSERT INTO queue_message (number, headers, accepted_at, payload)
SELECT
    json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    substr(?, json_extract(value, '$[3]'), json_extract(value, '$[4]'))
FROM json_each(?)
"""

_ADD_DELIVERIES = """
WITH run(number, message, app, due, count, token, width, apns_id) AS MATERIALIZED (
    SELECT
        json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
        json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
        json_extract(value, '$[6]'), json_extract(value, '$[7]')
    FROM json_each(?)
)
INSERT INTO queue_delivery (number, message, app, due, token, apns_id)
SELECT number + n, message, app, due, substr(?, token + n * width, width), substr(?, apns_id + n * 16, 16)
FROM run CROSS JOIN queue_series WHERE n < count
"""


@attrs.frozen(eq=False)
class Packed:
    """A message in the form that the statements take."""

    app: str
    headers: str
    payload: bytes
    tokens: bytes
    runs: list[tuple[int, int]]  # how many tokens of which length
    apns_ids: bytes

    @property
    def count(self) -> int:
        """How many deliveries it has."""
        return len(self.apns_ids) // 16


@attrs.define(eq=False)
class Acceptance:
    """One request to accept messages."""

    messages: list[Packed]
    idempotency: Idempotency | None
    date: int
    due: int
    apps: dict[str, int] = attrs.Factory(dict)  # the ids of all apps, including those made for it
    first: int = 0  # the number of its first delivery; 0 if nothing was stored

    @property
    def count(self) -> int:
        """How many deliveries it has."""
        return sum(message.count for message in self.messages)


def pack(message: Message) -> Packed:
    """
    Pack a message.

    :raises ValueError: one of its ids is not a UUID.
    """
    text = "".join(message.apns_ids)
    apns_ids = bytes.fromhex(text.replace("-", ""))
    if not len(text) / 36 == len(apns_ids) / 16 == len(message.tokens):
        raise ValueError("an id is not a UUID")
    widths = list(map(len, message.tokens))
    if len(set(widths)) == 1:
        groups = [(widths[0], len(widths))]
    else:
        groups = [(width, len(list(group))) for width, group in itertools.groupby(widths)]
    runs = []
    for width, count in groups:
        runs += [(min(LONGEST_RUN, count - done), width) for done in range(0, count, LONGEST_RUN)]
    return Packed(message.app, array(dict(message.headers)), message.payload, b"".join(message.tokens), runs, apns_ids)


def receipts_of(first: int, groups: Iterable[Sequence[str]], *, earlier: bool = False) -> list[Receipt]:
    """
    Make the receipts of a request.

    :param first: the number of its first delivery.
    :param earlier: whether the request repeats an earlier one.
    """
    receipts = []
    for apns_ids in groups:
        receipts.append(Receipt(range(first, first + len(apns_ids)), list(apns_ids), earlier))
        first += len(apns_ids)
    return receipts


def recognize(
    connection: sqlite3.Connection, acceptances: list[Acceptance], number: int
) -> tuple[list[list[Receipt] | Exception | None], list[Acceptance]]:
    """
    Find the requests that repeat earlier ones, and give the others their numbers.

    :returns: the result of each request, ``None`` for those to be stored; and the requests to be stored.
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
    return results, new


def _earlier(
    connection: sqlite3.Connection, acceptance: Acceptance, idempotency: Idempotency
) -> list[Receipt] | Exception | None:
    """Find the result of the same request before, or remember this one as the first."""
    owner, key, digest = idempotency.owner, idempotency.key, idempotency.digest
    rows = connection.execute(
        "SELECT digest, counts, apns_ids, first FROM queue_key WHERE owner = ? AND key = ?", [owner, key]
    )
    for known, counts, apns_ids, first in rows.fetchall():
        if known != digest:
            return KeyConflict("the idempotency key was used before, for another request")
        return receipts_of(first, _unpacked(apns_ids, msgspec.json.decode(counts)), earlier=True)
    apns_ids = b"".join(message.apns_ids for message in acceptance.messages)
    counts = array([message.count for message in acceptance.messages])
    connection.execute(
        "INSERT INTO queue_key VALUES (?, ?, ?, ?, ?, ?, ?)",
        [owner, key, digest, counts, apns_ids, acceptance.date, acceptance.first],
    )
    return None


def _unpacked(apns_ids: bytes, counts: list[int]) -> list[list[str]]:
    digits = apns_ids.hex()
    ids = iter([uuid_text(digits[at : at + 32]) for at in range(0, len(digits), 32)])
    return [list(itertools.islice(ids, count)) for count in counts]


def add(connection: sqlite3.Connection, acceptances: list[Acceptance], number: int) -> int:
    """
    Store new requests.

    :param acceptances: the requests, whose apps have ids.
    :param number: the number of the first delivery.
    """
    rows, runs = [], []
    payload_at = token_at = id_at = 1  # SQL counts from 1
    for acceptance in acceptances:
        for message in acceptance.messages:
            first = number
            if message.runs:  # a message without devices would have the number of the next
                rows.append((number, message.headers, acceptance.date, payload_at, len(message.payload)))
            payload_at += len(message.payload)
            app = acceptance.apps[message.app]
            for count, width in message.runs:
                runs.append((number, first, app, acceptance.due, count, token_at, width, id_at))
                number += count
                token_at += count * width
                id_at += count * 16
    messages = [message for acceptance in acceptances for message in acceptance.messages]
    connection.execute(_ADD_MESSAGES, [b"".join(each.payload for each in messages), array(rows)])
    tokens, ids = b"".join(each.tokens for each in messages), b"".join(each.apns_ids for each in messages)
    connection.execute(_ADD_DELIVERIES, [array(runs), tokens, ids])
    return number
