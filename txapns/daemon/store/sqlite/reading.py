"""
How notifications are read that are to be leased, unless they are in memory as arrivals.

What all of them have is read as one array for each column, and their tokens and ids as one blob each, which are cut
here: a row of JSON for each notification, with hexadecimal digits, took twice as long. What only a few have, such as a
date before which they are not sent, is read as a row for each of these.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import TypeAlias

import attrs
import msgspec

from txapns.daemon.store.acceptance import uuid_texts
from txapns.daemon.store.sqlite.leases import Mark
from txapns.daemon.store.sqlite.placing import Misplaced
from txapns.daemon.store.sqlite.schema import lenient
from txapns.daemon.store.sqlite.tables import array
from txapns.daemon.store.sqlite.timeline import Timeline
from txapns.daemon.values import Content, Lane, Leased

__all__ = ["Damaged", "Due", "find_due", "read_messages"]

# Most have tokens of 32 octets, and were neither tried nor placed in the queue nor superseded. To SQLite the parts of
# the blobs are text for a moment, which changes nothing of them.
_FIND_DUE = """
SELECT json_group_array(number), json_group_array(message), json_group_array(due),
    json_group_array(json_array(number, length(token), attempts, not_before, superseded)) FILTER (
        WHERE length(token) IS NOT 32 OR attempts IS NOT 0 OR not_before IS NOT NULL OR superseded IS NOT 0
    ),
    CAST(group_concat(token, '') AS BLOB), CAST(group_concat(apns_id, '') AS BLOB)
FROM (
    SELECT number, message, token, apns_id, attempts, due, not_before, superseded FROM queue_delivery
    WHERE state = 0 AND flow = ?1 AND (due, number) > (?2, ?3) AND due <= ?4
    AND (?5 = '[]' OR number NOT IN (SELECT value FROM json_each(?5)))
    ORDER BY due, number LIMIT ?6
)
"""

_FIND_DAMAGED = """
SELECT json_group_array(number) FROM queue_delivery WHERE number IN (SELECT value FROM json_each(?)) AND NOT (
    typeof(message) = 'integer' AND typeof(token) = 'blob' AND typeof(apns_id) = 'blob' AND length(apns_id) = 16
    AND typeof(attempts) = 'integer' AND typeof(not_before) IN ('integer', 'null') AND typeof(superseded) = 'integer'
)
"""

_FIND_MISPLACED = """
SELECT number FROM queue_delivery WHERE number IN (SELECT value FROM json_each(?)) AND typeof(due) <> 'integer'
"""

_FIND_MESSAGES = """
SELECT json_group_array(json_array(number, CAST(headers AS TEXT), length(payload), accepted_at)),
    CAST(group_concat(payload, '') AS BLOB)
FROM queue_message WHERE number IN (SELECT value FROM json_each(?))
"""

# A message that was read: its content and payload, the date when it was accepted, and the same by the reactor's clock.
_Message: TypeAlias = "tuple[Content, bytes, float, float]"

# Decoders that know the types take half the time.
_numbers = msgspec.json.Decoder(list[int]).decode
_others = msgspec.json.Decoder(list[tuple[int, int, int, int | None, int]]).decode
_messages = msgspec.json.Decoder(list[tuple[int, str, int, int]]).decode
_headers = msgspec.json.Decoder(dict[str, str]).decode


@attrs.frozen
class Damaged:
    """Notifications whose rows cannot be read."""

    numbers: list[int]


@attrs.define(eq=False)
class Due:
    """
    Notifications that are due, as lists with one item for each.

    :ivar messages: the number of its message.
    :ivar early: those that are sent for the first time, not before a date in milliseconds.
    :ivar superseded: those that are superseded.
    """

    numbers: list[int] = attrs.Factory(list)
    messages: list[int] = attrs.Factory(list)
    dues: list[int] = attrs.Factory(list)
    tokens: list[bytes] = attrs.Factory(list)
    apns_ids: list[str] = attrs.Factory(list)
    attempts: list[int] = attrs.Factory(list)
    early: list[tuple[int, int]] = attrs.Factory(list)
    superseded: list[int] = attrs.Factory(list)

    def add(self, other: Due) -> None:
        """Add those of another flow."""
        for field in attrs.fields(Due):
            getattr(self, field.name).extend(getattr(other, field.name))

    def leased(self, messages: dict[int, _Message]) -> list[Leased]:
        """Make values of them, given their messages by number."""
        if not self.numbers:
            return []
        contents, payloads, dates, since = zip(*[messages[message] for message in self.messages], strict=True)
        given = self.numbers, contents, payloads, self.tokens, self.apns_ids, self.attempts, dates, since
        return list(map(Leased, *given))


def find_due(
    connection: sqlite3.Connection, flow: int, mark: Mark, due: int, passed: Sequence[int], limit: int
) -> Due | Damaged:
    """
    Find what comes next in a flow.

    :param mark: the place after which to look.
    :param due: the latest time at which it is due.
    :param passed: what is leased after the mark.
    :raises Misplaced: there is something with a damaged due time.
    """
    [row] = connection.execute(_FIND_DUE, [flow, *mark, due, array(passed), limit])
    try:
        return _due(*row)
    except ValueError:
        misplaced = connection.execute(_FIND_MISPLACED, [row[0]]).fetchall()
        if misplaced:
            raise Misplaced([number for (number,) in misplaced]) from None
        [(damaged,)] = connection.execute(_FIND_DAMAGED, [row[0]])
        if damaged == "[]":
            raise
        return Damaged(_numbers(damaged))


def _due(numbers: str, messages: str, dues: str, others: str, tokens: bytes | None, apns_ids: bytes | None) -> Due:
    """Read the columns; ``ValueError`` if a row is damaged."""
    found = Due(_numbers(numbers), _numbers(messages), _numbers(dues))
    count, tokens, apns_ids = len(found.numbers), tokens or b"", apns_ids or b""
    widths, found.attempts = [32] * count, [0] * count
    if others != "[]":
        places = {number: place for place, number in enumerate(found.numbers)}
        for number, width, attempts, not_before, superseded in _others(others):
            widths[places[number]], found.attempts[places[number]] = width, attempts
            if not_before is not None and not attempts:
                found.early.append((number, not_before))
            if superseded:
                found.superseded.append(number)
    ends = list(accumulate(widths, initial=0))
    if len(apns_ids) != 16 * count or len(tokens) != ends[-1]:
        raise ValueError("a token or an id is damaged")
    found.tokens, found.apns_ids = [tokens[start:end] for start, end in pairwise(ends)], uuid_texts(apns_ids)
    return found


def read_messages(
    connection: sqlite3.Connection, timeline: Timeline, app: str, lane: Lane, numbers: Iterable[int]
) -> dict[int, _Message]:
    """Read messages; returns the undamaged ones, by number."""
    wanted = list(numbers)
    with lenient(connection):
        [(rows, payloads)] = connection.execute(_FIND_MESSAGES, [array(wanted)])
    read: dict[int, _Message] = {}
    start = 0
    known: dict[str, Content] = {}  # many messages have the same header fields
    try:
        found = _messages(rows)
        if sum([length for _, _, length, _ in found]) != len(payloads or b""):
            raise msgspec.DecodeError("a payload is damaged")
        for number, headers, length, accepted_at in found:
            date = accepted_at / 1000
            content = known.get(headers) or known.setdefault(headers, Content(app, _headers(headers), lane))
            read[number] = content, payloads[start : start + length], date, timeline.accepted_since(number, date)
            start += length
    except msgspec.DecodeError:
        if len(wanted) == 1:
            return {}
        for number in wanted:
            read.update(read_messages(connection, timeline, app, lane, [number]))
    return read
