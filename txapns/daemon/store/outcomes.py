"""What the outcome logs and feeds of all stores share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from txapns.daemon.store.rows import channel_of
from txapns.daemon.values import Entry, Environment, Outcome, State

__all__ = ["latest_failures", "outcome_of"]


def outcome_of(number: int, apns_id: str, app: str, *columns: Any) -> Outcome:
    """
    Make an outcome of a row.

    :param columns: the other fields of :class:`Outcome` in their order, with times in milliseconds; in place of the
        channel the header fields of the message, in JSON, if it is a broadcast.
    :raises ValueError: the row is damaged.
    :raises TypeError: likewise.
    """
    state, status, reason, timestamp, attempts, accepted_at, settled_at, unique_id, environment, headers = columns
    return Outcome(
        number,
        apns_id,
        app,
        State(state),
        status,
        reason,
        None if timestamp is None else timestamp / 1000,
        attempts,
        accepted_at / 1000,
        None if settled_at is None else settled_at / 1000,
        unique_id,
        None if environment is None else Environment(environment),
        channel_of(headers),
    )


def latest_failures(found: Iterable[Entry]) -> list[Entry]:
    """Put notifications that failed in order, the latest first."""
    return sorted(found, key=lambda each: (each.outcome.settled_at or 0.0, each.outcome.number), reverse=True)
