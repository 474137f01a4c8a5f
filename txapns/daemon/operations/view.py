"""
What the status page says, without HTML: numbers, charts, tables and their labels.

:func:`view_of` decides the content of every place on the page. The HTML template and the page's script only put it
there, so both show the same. Tokens are shortened before they arrive here; of a credential only its expiry is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Literal, TypeAlias

import attrs

from txapns.daemon.apps import WARNINGS
from txapns.daemon.operations.health import AppOverview, Overview, WebhookOverview
from txapns.daemon.operations.history import SPAN, STEP, History
from txapns.daemon.operations.metrics import Totals
from txapns.daemon.operations.nodes import CLOCK, node_concerns
from txapns.daemon.store.cluster import NodeStatus

__all__ = ["TABLES", "Cell", "Figure", "Headline", "Rate", "View", "view_of"]

Kind: TypeAlias = Literal["", "ok", "notice", "warn", "bad"]  # how to mark something; empty for not at all

_DAY = 86_400.0
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
        (
            "App",
            "State",
            "Waiting#",
            "Oldest waiting",
            "In flight#",
            "Connections",
            "Accepted#",
            "Rejected#",
            "Certificate expires",
        ),
        "Apps and their state",
        "No apps yet.",
    ),
    "rejections": (
        ("Time", "App", "Device token", "Status#", "Reason"),
        "Latest rejections by Apple, newest first",
        "Apple has rejected nothing since the start.",
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

_CONDITIONS: dict[str, tuple[str, Kind]] = {
    "working": ("Working", "ok"),
    "connecting": ("Connecting", "notice"),
    "paused": ("Paused", "notice"),
    "open": ("Circuit open", "warn"),
    "tripped": ("Circuit tripped", "bad"),
    "unusable": ("Unusable", "bad"),
}


@attrs.frozen
class Cell:
    """A cell of a table."""

    text: str
    kind: Kind = ""


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
    tables: dict[str, list[list[Cell]]]


def view_of(overview: Overview, history: History, up: float) -> View:
    """
    Decide what the page says.

    :param history: the last 15 minutes.
    :param up: how long the daemon has been running, in seconds.
    """
    now = overview.at
    rejections = [
        [Cell(_clock(each.at)), Cell(each.app), Cell(each.token), Cell(str(each.status or "–")), Cell(each.reason)]
        for each in history.rejections()
    ]
    nodes = {"nodes": [_node_row(node, overview) for node in overview.nodes]} if overview.node else {}
    return View(
        f"Push daemon {overview.node}".strip(),
        f"{_clock(now)} UTC",
        _duration(up),
        _headline(overview),
        tuple(_figures(overview)),
        tuple(_rates(history)),
        {
            "apps": [_app_row(app, now) for app in overview.apps],
            "rejections": rejections,
            "webhooks": [_webhook_row(each) for each in overview.webhooks],
            "minutes": _minutes(history.steps()),
            **nodes,
        },
    )


def _headline(overview: Overview) -> Headline:
    faults = overview.faults
    problems = [f"{app.name}: {app.reason}" for app in overview.apps if app.reason]
    problems += [f"webhook {each.state.name}: {each.state.reason}" for each in overview.webhooks if each.state.reason]
    expiring = [(app.name, *_left(app.expires, overview.at)) for app in overview.apps if app.expires is not None]
    problems += [
        f"{name}: its certificate {text if text == 'expired' else f'expires {text}'}; renew it"
        for name, text, kind in expiring
        if kind == "bad"
    ]
    problems += [*node_concerns(overview.nodes), *overview.warnings]
    if faults:
        return Headline("Not ready", "bad", (*faults, *problems))
    return Headline("Ready, with problems", "warn", tuple(problems)) if problems else Headline("Ready", "ok", ())


def _figures(overview: Overview) -> Iterable[Figure]:
    apps = overview.apps
    oldest = max((app.oldest for app in apps if app.oldest is not None), default=None)
    connections = [state for app in apps for state in app.state.connections]
    yield Figure("Waiting", _number(sum(app.waiting for app in apps)))
    yield Figure("Oldest waiting", "–" if oldest is None else _duration(oldest))
    yield Figure("In flight", _number(sum(app.state.in_flight for app in apps)))
    yield Figure("Connections ready", f"{connections.count('ready')} of {len(connections)}")
    expires = min((app.expires for app in apps if app.expires is not None), default=None)
    yield Figure("Next certificate expiry", *(("–",) if expires is None else _left(expires, overview.at)))


def _rates(history: History) -> Iterable[Rate]:
    steps, rates = history.steps(), history.rates()
    for name, label in _RATES:
        points = tuple([round(getattr(counts, name) / STEP, 2) for _, counts in steps])
        summary = f"peak {_rate(max(points))}/s" if points else f"measured every {STEP} seconds"
        yield Rate(label, _rate(getattr(rates, name)), summary, points)


def _app_row(app: AppOverview, now: float) -> list[Cell]:
    text, kind = _CONDITIONS[app.condition]
    if app.reason:
        text = f"{text}: {app.reason}"
    if app.failing is not None:
        again = "" if app.again is None else f", next attempt in {_duration(app.again)}"
        text = f"{text} (for {_duration(app.failing)}{again})"
    state = app.state
    return [
        Cell(app.name),
        Cell(text, "warn" if kind == "ok" and app.reason else kind),
        Cell(_number(app.waiting)),
        Cell("–" if app.oldest is None else _duration(app.oldest)),
        Cell(_number(state.in_flight)),
        Cell(_connections(state.connections)),
        Cell(_number(state.accepted)),
        Cell(_number(state.rejected)),
        Cell("none") if app.expires is None else Cell(*_expiry(app.expires, now)),
    ]


def _connections(states: Sequence[str]) -> str:
    return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))) or "none"


def _webhook_row(webhook: WebhookOverview) -> list[Cell]:
    state = webhook.state
    text = "Working"
    kind: Kind = "ok"
    if webhook.failing is not None:
        text = f"{state.reason} (for {_duration(webhook.failing)})"
        kind = "warn"
    if state.gave_up:
        text, kind = f"Given up until the next start: {state.reason}", "bad"
    backlog = "unknown" if webhook.backlog is None else _number(webhook.backlog)
    return [Cell(state.name), Cell(text, kind), Cell(backlog), Cell(_number(state.sent))]


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
        Cell(_number(node.in_flight)),
        Cell(f"{_duration(node.heartbeat)} ago"),
        Cell(f"{node.clock_offset:+.1f} s", "warn" if abs(node.clock_offset) > CLOCK else ""),
    ]


def _minutes(steps: Iterable[tuple[float, Totals]]) -> list[list[Cell]]:
    minutes: dict[float, list[float]] = {}
    for began, counts in steps:
        numbers = minutes.setdefault(began - began % _MINUTE, [0.0] * len(_RATES))
        for position, (name, _) in enumerate(_RATES):
            numbers[position] += getattr(counts, name)
    return [
        [Cell(_clock(minute)[:5]), *(Cell(_number(int(number))) for number in numbers)]
        for minute, numbers in sorted(minutes.items(), reverse=True)
    ]


def _expiry(expires: float, now: float) -> tuple[str, Kind]:
    """Return the day on which a certificate expires, how soon that is, and how to mark it."""
    text, kind = _left(expires, now)
    return f"{datetime.fromtimestamp(expires, timezone.utc):%Y-%m-%d}, {text}", kind


def _left(expires: float, now: float) -> tuple[str, Kind]:
    """Return how soon a certificate expires, and how to mark it."""
    left = (expires - now) / _DAY
    far, near, last = WARNINGS
    if left <= 0:
        return "expired", "bad"
    if left <= last:
        return "within a day", "bad"
    kind: Kind = "warn" if left <= near else "notice" if left <= far else ""
    return (f"in {int(left)} days" if left >= 2 else "in a day"), kind


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, timezone.utc):%H:%M:%S}"


def _number(number: int) -> str:
    return f"{number:,}"


def _rate(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"


def _duration(seconds: float) -> str:
    seconds = max(0.0, seconds)
    for unit, size in (("d", _DAY), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{int(seconds / size)} {unit}"
    return f"{int(seconds)} s"
