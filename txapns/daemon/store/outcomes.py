"""What the outcome logs of all stores share."""

from __future__ import annotations

from collections.abc import Iterable

from txapns.daemon.values import Entry

__all__ = ["latest_failures"]


def latest_failures(found: Iterable[Entry]) -> list[Entry]:
    """Put notifications that failed in order, the latest first."""
    return sorted(found, key=lambda each: (each.outcome.settled_at or 0.0, each.outcome.number), reverse=True)
