"""
What the status page says, without HTML: numbers, charts, tables and their labels.

:func:`view_of` decides the content of every place on the page. The HTML template and the page's script only put it
there, so both show the same. Tokens are shortened before they arrive here; of a credential only its expiry is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from urllib.parse import quote

import attrs

from txapns.daemon.operations.app_list import COLUMNS, AppDigest, Query, app_row
from txapns.daemon.operations.cells import Cell, Kind, clock_time, date_time, duration, left, number, per_second
from txapns.daemon.operations.health import Overview, WebhookOverview
from txapns.daemon.operations.history import SPAN, STEP, History
from txapns.daemon.operations.look_up import answer
from txapns.daemon.operations.metrics import Totals
from txapns.daemon.operations.nodes import CLOCK, node_concerns
from txapns.daemon.store.cluster import NodeStatus
from txapns.daemon.values import Entry

__all__ = ["TABLES", "Figure", "Headline", "Listing", "Rate", "View", "view_of"]

_MINUTE = 60

_RATES = (
    ("received", "Received"),
    ("accepted", "Accepted by Apple"),
    ("failed", "Failed (rejected, expired, dead)"),
    ("retried", "Retried"),
)

#: For each table its columns (numeric ones end with ``#``), its caption, and the text of an empty table.
TABLES = {
    "apps": (
        COLUMNS,
        "Apps and their state, problems first",
        "No app.",
    ),
    "failures": (
        ("Time, UTC", "App", "Device token or channel", "State", "Answer"),
        "What was rejected, expired or was given up last, newest first",
        "None is known.",
    ),
    "webhooks": (
        ("Webhook", "State", "Pending#", "Delivered#"),
        "Webhooks and their state",
        "No webhook is configured.",
    ),
    "nodes": (
        ("Node", "State", "Version", "Configuration", "Since", "In flight#", "Last heartbeat", "Clock"),
        "Nodes that share the database, and their state",
        "The nodes are unknown: the database cannot be read.",
    ),
    "minutes": (
        ("Minute", "Received#", "Accepted#", "Failed#", "Retried#"),
        "Notifications per minute in the last 15 minutes, newest first",
        "The first minute is not over yet.",
    ),
}


@attrs.frozen
class Headline:
    """The first thing to see: the state in a word or two, and what is wrong."""

    text: str
    kind: Kind
    faults: tuple[str, ...]


@attrs.frozen
class Figure:
    """One number."""

    label: str
    text: str
    kind: Kind = ""


@attrs.frozen
class Rate:
    """
    One chart.

    :ivar now: the current rate per second.
    :ivar points: the rate per second of each finished step.
    :ivar span: how many points the chart has room for.
    """

    label: str
    now: str
    summary: str
    points: tuple[float, ...]
    span: int = SPAN


@attrs.frozen
class Listing:
    """
    Which of the apps are on the page.

    :ivar text: which of how many these are.
    :ivar search: what was searched for; empty for nothing.
    :ivar previous: the address of the page before; empty if this is the first.
    :ivar next: the address of the next page; empty if this is the last.
    """

    text: str
    search: str
    previous: str
    next: str


@attrs.frozen
class View:
    """
    Everything on the page.

    :ivar name: what the page is about: the daemon, or one of the nodes that share a database.
    :ivar up: how long the daemon has been running.
    :ivar tables: by their names in :data:`TABLES`; that of the nodes only where there may be several.
    """

    name: str
    time: str
    up: str
    state: Headline
    figures: tuple[Figure, ...]
    rates: tuple[Rate, ...]
    listing: Listing
    tables: dict[str, list[list[Cell]]]


def view_of(overview: Overview, digest: AppDigest, history: History, up: float, query: Query) -> View:
    """
    Decide what the page says.

    :param digest: what is known of all apps.
    :param history: the last 15 minutes.
    :param query: which apps to show.
    :param up: how long the daemon has been running, in seconds.
    """
    now, found = overview.at, digest.find(query)
    nodes = {"nodes": [_node_row(node, overview) for node in overview.nodes]} if overview.node else {}
    return View(
        f"Push daemon {overview.node}".strip(),
        f"{clock_time(now)} UTC",
        duration(up),
        _headline(overview, digest),
        tuple(_figures(digest, now)),
        tuple(_rates(history)),
        Listing(found.text, query.search, found.previous, found.next),
        {
            "apps": [app_row(app, history.activity, now) for app in found.apps],
            "failures": [_failure_row(each) for each in overview.failures],
            "webhooks": [_webhook_row(each) for each in overview.webhooks],
            "minutes": _minutes(history.steps()),
            **nodes,
        },
    )


def _headline(overview: Overview, digest: AppDigest) -> Headline:
    faults, problems = overview.faults, list(digest.problems)
    if digest.troubled > digest.named:
        problems.append(f"{number(digest.troubled - digest.named)} more apps have problems")
    problems += [f"webhook {each.state.name}: {each.state.reason}" for each in overview.webhooks if each.state.reason]
    problems += [*node_concerns(overview.nodes), *overview.warnings]
    if faults:
        return Headline("Not ready", "bad", (*faults, *problems))
    return Headline("Ready, with problems", "warn", tuple(problems)) if problems else Headline("Ready", "ok", ())


def _figures(apps: AppDigest, now: float) -> Iterable[Figure]:
    yield Figure("Apps", number(len(apps.apps)))
    yield Figure("Waiting", number(apps.waiting))
    yield Figure("Oldest waiting", "–" if apps.oldest is None else duration(apps.oldest))
    yield Figure("In flight", number(apps.in_flight))
    yield Figure("Connections ready", f"{number(apps.ready)} of {number(apps.connections)}")
    yield Figure("Dead letters", "unknown" if apps.dead is None else number(apps.dead), "warn" if apps.dead else "")
    yield Figure("Next certificate expiry", *(("–",) if apps.expires is None else left(apps.expires, now)))


def _rates(history: History) -> Iterable[Rate]:
    steps, rates = history.steps(), history.rates()
    for name, label in _RATES:
        points = tuple([round(getattr(counts, name) / STEP, 2) for _, counts in steps])
        summary = f"peak {per_second(max(points))}/s" if points else f"measured every {STEP} seconds"
        yield Rate(label, per_second(getattr(rates, name)), summary, points)


def _failure_row(failure: Entry) -> list[Cell]:
    outcome = failure.outcome
    at = outcome.accepted_at if outcome.settled_at is None else outcome.settled_at
    return [
        Cell(date_time(at)),
        Cell(outcome.app, link=f"apps/{quote(outcome.app)}"),
        Cell(failure.place),
        Cell(outcome.state.name.lower()),
        Cell(answer(outcome) or "–"),
    ]


def _webhook_row(webhook: WebhookOverview) -> list[Cell]:
    state = webhook.state
    text = "Working"
    kind: Kind = "ok"
    if webhook.failing is not None:
        text = f"{state.reason} (for {duration(webhook.failing)})"
        kind = "warn"
    if state.gave_up:
        text, kind = f"Given up until the next start or SIGHUP: {state.reason}", "bad"
    backlog = "unknown" if webhook.backlog is None else number(webhook.backlog)
    return [Cell(state.name), Cell(text, kind), Cell(backlog), Cell(number(state.sent))]


def _node_row(node: NodeStatus, overview: Overview) -> list[Cell]:
    own = next((each for each in overview.nodes if each.own), node)
    state = Cell("Alive", "ok") if node.alive else Cell("Gone", "warn")
    if node.own and overview.node_trouble:
        state = Cell("Does not send", "bad")
    return [
        Cell(f"{node.name} (this one)" if node.own else node.name),
        state,
        Cell(node.version, "notice" if node.version != own.version else ""),
        Cell(node.digest[:8] or "–", "warn" if node.digest != own.digest else ""),
        Cell(f"{datetime.fromtimestamp(node.since, timezone.utc):%Y-%m-%d %H:%M}"),
        Cell(number(node.in_flight)),
        Cell(f"{duration(node.heartbeat)} ago"),
        Cell(f"{node.clock_offset:+.1f} s", "warn" if abs(node.clock_offset) > CLOCK else ""),
    ]


def _minutes(steps: Iterable[tuple[float, Totals]]) -> list[list[Cell]]:
    minutes: dict[float, list[float]] = {}
    for began, counts in steps:
        numbers = minutes.setdefault(began - began % _MINUTE, [0.0] * len(_RATES))
        for position, (name, _) in enumerate(_RATES):
            numbers[position] += getattr(counts, name)
    return [
        [Cell(clock_time(minute)[:5]), *(Cell(number(int(count))) for count in numbers)]
        for minute, numbers in sorted(minutes.items(), reverse=True)
    ]
