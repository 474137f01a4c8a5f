"""How ``txapns send`` tells the outcomes of a batch: by cause for people, one by one for programs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, TypeAlias

from txapns import reasons
from txapns.command.streams import echo
from txapns.command.tables import on_terminal, print_json, print_table, printable
from txapns.errors import redact
from txapns.result import Outcomes, Rejection, Uncertain, Unsent

__all__ = ["FEW", "ROWS", "list_outcomes", "report"]

_Outcome: TypeAlias = "Rejection | Unsent | Uncertain"

#: How many tokens have a line each where the cause is the same; more share one.
FEW = 5
#: How many rows the table of failures has at most; ``--json`` lists all.
ROWS = 100
#: How many lines of the file are named where more share a cause.
_NAMED = 3


def report(batch: Outcomes, seconds: float, as_json: bool) -> None:
    """List what was not accepted, in the order of the lines, and write the summary."""
    counts = {
        "accepted": batch.accepted,
        "failed": len(batch.failed),
        "unsent": len(batch.unsent),
        "uncertain": len(batch.uncertain),
    }
    list_outcomes(batch.outcomes, as_json)
    if as_json:
        print_json({"summary": {**counts, "seconds": round(seconds, 3)}})
        return
    rate = f" in {seconds:.1f} s, {batch.total / seconds:.0f}/s" if seconds else ""
    echo(", ".join(f"{count} {word}" for word, count in counts.items()) + rate)


def list_outcomes(outcomes: Sequence[_Outcome], as_json: bool) -> None:
    """List outcomes in the order of the lines; for people, many with the same cause are one row."""
    ordered = sorted(outcomes, key=attrgetter("identifier"))
    if as_json:
        for outcome in ordered:
            print_json(_fields(outcome))
        return
    rows = _rows(ordered)
    if not on_terminal():
        for lines, token, word, reason, advice in rows:
            who = f"line {lines}, token {token}" if token else f"lines {lines}"
            echo(f"{who}: {word}, {reason}. {advice}")
        return
    if rows:
        print_table(("line", "token", "outcome", "reason", "what to do"), rows[:ROWS])
    if len(rows) > ROWS:
        echo(f"and {len(rows) - ROWS} more; --json lists all")


def _rows(outcomes: Sequence[_Outcome]) -> list[tuple[str, ...]]:
    """Write outcomes for a person: line, shortened token, outcome, reason, what to do."""
    causes = defaultdict(list)
    for outcome in outcomes:
        causes[_cause(outcome)].append(outcome)
    rows: list[tuple[int, tuple[str, ...]]] = []
    for cause, alike in causes.items():
        written = tuple(map(printable, cause))
        numbers: list[Any] = [outcome.identifier for outcome in alike]
        if len(alike) <= FEW:
            rows += [
                (number, (str(number), printable(redact(outcome.token)), *written))
                for number, outcome in zip(numbers, alike, strict=True)
            ]
        else:
            named = ", ".join(map(str, numbers[:_NAMED]))
            rows.append((numbers[0], (f"{named} and {len(alike) - _NAMED:,} more", "", *written)))
    return [row for _, row in sorted(rows)]


def _cause(outcome: _Outcome) -> tuple[str, str, str]:
    """Return the outcome in a word, the reason, and what to do."""
    if isinstance(outcome, Rejection):
        advice = reasons.text(outcome.status, outcome.reason)
        return _word(outcome), outcome.reason or str(outcome.status), advice
    return _word(outcome), type(outcome.error).__name__, str(outcome.error)


def _fields(outcome: _Outcome) -> dict[str, Any]:
    """Write an outcome for a program."""
    rejection = outcome if isinstance(outcome, Rejection) else None
    timestamp = rejection.timestamp if rejection else None
    return {
        "identifier": outcome.identifier,
        "token": outcome.token,
        "outcome": _word(outcome),
        "status": rejection.status if rejection else None,
        "reason": rejection.reason if rejection else None,
        "timestamp": timestamp.isoformat() if timestamp else None,
        "error": None if isinstance(outcome, Rejection) else f"{type(outcome.error).__name__}: {outcome.error}",
    }


def _word(outcome: _Outcome) -> str:
    return {Rejection: "failed", Unsent: "unsent", Uncertain: "uncertain"}[type(outcome)]
