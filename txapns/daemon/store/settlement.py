"""What is stored of settlements, and what comes of that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from txapns.daemon.store.queue_time import milliseconds
from txapns.daemon.store.superseding import Superseded
from txapns.daemon.values import Settlement, State

__all__ = [
    "DeadToken",
    "Report",
    "Row",
    "Settled",
    "chosen_of",
    "dead_tokens",
    "retried_of",
    "row_of",
    "superseded_of",
]

#: A dead token, as the feedback log notes it: the app's name, the token, the reason, and the time at which it died.
DeadToken = tuple[str, bytes, str, float]

#: What changes of a notification: its number, its state, status, reason and timestamp, when it was settled, when it is
#: due if that changes, how many attempts to add, Apple's unique id if there is one, and the environment that answered.
Row = tuple[int, int, int, str, int | None, int | None, int | None, int, str | None, int | None]


@attrs.frozen(eq=False)
class Report:
    """
    One request to settle.

    :ivar date: the date, in milliseconds.
    :ivar accepted: the numbers of those that Apple accepted, with nothing else to say of them: nearly all.
    """

    settlements: Sequence[Settlement]
    date: int
    accepted: Sequence[int] = ()


@attrs.frozen(eq=False)
class Settled:
    """
    What a transaction of settlements changed.

    :ivar counts: how many notifications of which apps became final.
    :ivar noted: the apps of which tokens were noted as dead.
    :ivar recorded: the apps of which outcomes were recorded.
    :ivar superseded: what is superseded instead of being tried again.
    """

    counts: Mapping[str, int] = attrs.Factory(dict)
    noted: frozenset[str] = frozenset()
    recorded: frozenset[str] = frozenset()
    superseded: Superseded = attrs.Factory(Superseded)


def chosen_of(reports: Iterable[Report]) -> tuple[dict[int, list[int]], dict[int, tuple[Settlement, int]]]:
    """
    Choose one settlement for each notification: the first that is final, if there is one.

    Those that only give a lease back are left out.

    :returns: the numbers of those that were accepted, by date; and the settlements of the others, with their dates.
    """
    accepted: dict[int, list[int]] = {}
    chosen: dict[int, tuple[Settlement, int]] = {}
    taken: set[int] = set()
    for report in reports:
        numbers = report.accepted
        if chosen or not taken.isdisjoint(numbers):
            numbers = [number for number in numbers if number not in taken and not _is_final(chosen.get(number))]
            for number in numbers:
                chosen.pop(number, None)
        taken.update(numbers)
        accepted.setdefault(report.date, []).extend(numbers)
        for settlement in report.settlements:
            if settlement.state is State.WAITING and settlement.due is None:
                continue
            if settlement.number not in taken and not _is_final(chosen.get(settlement.number)):
                chosen[settlement.number] = (settlement, report.date)
    return accepted, chosen


def _is_final(before: tuple[Settlement, int] | None) -> bool:
    return before is not None and before[0].state is not State.WAITING


def retried_of(chosen: Mapping[int, tuple[Settlement, int]]) -> list[int]:
    """Find those that are to be tried again."""
    return [number for number, (each, _) in chosen.items() if each.state is State.WAITING]


def superseded_of(found: Iterable[tuple[int, str]], chosen: dict[int, tuple[Settlement, int]]) -> Superseded:
    """
    Settle as superseded, with what came of the attempt, those that were marked meanwhile.

    :param found: the number and the app of each.
    """
    counts: dict[str, int] = {}
    numbers = []
    for number, app in found:
        each, date = chosen[number]
        chosen[number] = Settlement(number, State.SUPERSEDED, each.status, each.reason), date
        counts[app] = counts.get(app, 0) + 1
        numbers.append(number)
    return Superseded(numbers, counts)


def dead_tokens(
    found: Iterable[tuple[int, str, bytes]], chosen: Mapping[int, tuple[Settlement, int]]
) -> list[DeadToken]:
    """
    Tell which tokens are dead. A broadcast has none.

    :param found: the number, the app and the token of each notification that has just become final.
    """
    tokens = []
    for number, app, token in found:
        settlement, now = chosen[number]
        if settlement.dead and token:
            timestamp = now / 1000 if settlement.timestamp is None else settlement.timestamp
            tokens.append((app, token, settlement.reason, timestamp))
    return tokens


def row_of(settlement: Settlement, now: int, due: int | None) -> Row:
    """Tell what changes of a notification that waits."""
    timestamp = None if settlement.timestamp is None else milliseconds(settlement.timestamp)
    waiting = settlement.state is State.WAITING
    attempts = 0 if settlement.state in (State.EXPIRED, State.SUPERSEDED) or not settlement.counted else 1
    settled_at, due = (None, due) if waiting else (now, None)
    state, status, reason = int(settlement.state), settlement.status, settlement.reason
    answered = settlement.unique_id or None, None if waiting else settlement.environment
    return settlement.number, state, status, reason, timestamp, settled_at, due, attempts, *answered
