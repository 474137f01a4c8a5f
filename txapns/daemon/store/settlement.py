"""What is stored of settlements, and what comes of that."""

from __future__ import annotations

from collections import Counter
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
    "returned_of",
    "row_of",
    "supersede",
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
    :ivar superseded: what was superseded.
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


def returned_of(chosen: Mapping[int, tuple[Settlement, int]]) -> list[int]:
    """Find those that may be marked as superseded: what is to be tried again, and what came back so."""
    return [number for number, (each, _) in chosen.items() if each.state in (State.WAITING, State.SUPERSEDED)]


def supersede(numbers: Iterable[int], chosen: dict[int, tuple[Settlement, int]]) -> None:
    """Settle as superseded, with what came of the attempt, those that were marked meanwhile."""
    for number in numbers:
        each, date = chosen[number]
        chosen[number] = Settlement(number, State.SUPERSEDED, each.status, each.reason), date


def superseded_of(found: Iterable[tuple[int, str]], chosen: Mapping[int, tuple[Settlement, int]]) -> Superseded:
    """
    Tell what is superseded of notifications that have just become final.

    :param found: the number and the app of each.
    """
    gone = [(number, app) for number, app in found if chosen[number][0].state is State.SUPERSEDED]
    return Superseded([number for number, _ in gone], Counter(app for _, app in gone))


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
