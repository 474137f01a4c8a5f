"""
The status page: one HTML page that says how the daemon fares, and stays as it is now.

::

    Overview ─┐
              ├──► view: what is in each place of the page ──► HTML, for the first look and without JavaScript
    History  ─┘                                           └──► events, every other second, for who goes on looking

What is written where is decided here once, in :func:`view_of`; the template and the script put it there and work
nothing out. Script and style are files of their own, so that the page can forbid everything else; nothing comes from
elsewhere. Tokens are shortened before they come here, and of credentials there is only when they expire.

A listener costs an event every other second, which is made once for all. Who does not read is skipped, and after some
time dropped; each event is all there is to know, so nobody misses anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from importlib.resources import files
from typing import Any, Literal, TypeAlias

import attrs
import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.template import Element, Tag, XMLString, flattenString, renderer, tags
from zope.interface import implementer

import txapns
from txapns.daemon.apps import WARNINGS
from txapns.daemon.operations.health import AppOverview, HealthCheck, Overview, WebhookOverview
from txapns.daemon.operations.history import SPAN, STEP, Counts, History
from txapns.daemon.serving.http import Request

__all__ = ["Cell", "Figure", "Headline", "Rate", "StatusPage", "Subscribers", "View", "view_of"]

_log = Logger()

Kind: TypeAlias = Literal["", "ok", "notice", "warn", "bad"]

_STATIC = files("txapns.daemon.operations") / "static"
_EVENTS = 2.0  # seconds from one event to the next
_HEARTBEAT = 15.0  # seconds without an event after which a sign of life is given
_PATIENCE = 10.0  # seconds after which who does not read is dropped
_DAY = 86_400.0
_MINUTE = 60

_RATES = (
    ("taken", "Taken from callers"),
    ("delivered", "Accepted by Apple"),
    ("refused", "Refused, expired or given up"),
    ("retried", "Put off, to be tried again"),
)

#: The columns of each table; those that end with ``#`` are numbers. With the caption, and what stands there if there is
#: nothing to be shown.
TABLES = {
    "apps": (
        ("App", "State", "Waiting#", "Due for", "Under way#", "Connections", "Accepted#", "Refused#", "Certificate"),
        "The apps, and how each of them fares",
        "There is no app yet.",
    ),
    "refusals": (
        ("Time", "App", "Device token", "Status#", "Reason"),
        "What Apple refused last, the latest first",
        "Apple has refused nothing since the start.",
    ),
    "webhooks": (
        ("Webhook", "State", "To be told#", "Told#"),
        "The webhooks, and how each of them fares",
        "No webhook is configured.",
    ),
    "minutes": (
        ("Minute", "Taken#", "Accepted#", "Refused#", "Put off#"),
        "Notifications in each of the last 15 minutes, the latest first",
        "The first minute is not over yet.",
    ),
}

_CONDITIONS: dict[str, tuple[str, Kind]] = {
    "working": ("Working", "ok"),
    "open": ("Circuit open", "warn"),
    "tripped": ("Tripped", "bad"),
    "unusable": ("Cannot be used", "bad"),
}


# What is in each place of the page.


@attrs.frozen
class Cell:
    """
    What stands in one cell of a table.

    :ivar text: the text.
    :ivar kind: how it is marked; empty for not at all.
    """

    text: str
    kind: Kind = ""


@attrs.frozen
class Headline:
    """
    The first thing to see.

    :ivar text: in a word or two.
    :ivar kind: how it is marked.
    :ivar faults: what is wrong.
    """

    text: str
    kind: Kind
    faults: tuple[str, ...]


@attrs.frozen
class Figure:
    """
    One number.

    :ivar label: what it is.
    :ivar text: the number.
    :ivar kind: how it is marked.
    """

    label: str
    text: str
    kind: Kind = ""


@attrs.frozen
class Rate:
    """
    One chart.

    :ivar label: what it shows.
    :ivar now: how many there are now for each second.
    :ivar summary: what is to be seen, in words.
    :ivar points: how many there were for each second, for each step that is over.
    :ivar span: for how many points there is room.
    """

    label: str
    now: str
    summary: str
    points: tuple[float, ...]
    span: int = SPAN


@attrs.frozen
class View:
    """
    The page.

    :ivar time: when it was so.
    :ivar up: since when the daemon has been running.
    :ivar state: the headline.
    :ivar figures: the numbers.
    :ivar rates: the charts.
    :ivar tables: for the name of each table its rows.
    """

    time: str
    up: str
    state: Headline
    figures: tuple[Figure, ...]
    rates: tuple[Rate, ...]
    tables: dict[str, list[list[Cell]]]


def view_of(overview: Overview, history: History, up: float) -> View:
    """
    Say what stands where.

    :param overview: how the daemon fares.
    :param history: what happened lately.
    :param up: for how many seconds it has been running.
    :returns: the page.
    """
    now = overview.at
    refusals = [
        [Cell(_clock(each.at)), Cell(each.app), Cell(each.token), Cell(str(each.status or "–")), Cell(each.reason)]
        for each in history.refusals()
    ]
    return View(
        f"{_clock(now)} UTC",
        _duration(up),
        _headline(overview),
        tuple(_figures(overview)),
        tuple(_rates(history)),
        {
            "apps": [_app_row(app, now) for app in overview.apps],
            "refusals": refusals,
            "webhooks": [_webhook_row(each) for each in overview.webhooks],
            "minutes": _minutes(history.steps()),
        },
    )


def _headline(overview: Overview) -> Headline:
    faults = overview.faults
    ill = [f"{app.name}: {app.reason}" for app in overview.apps if app.reason]
    ill += [f"webhook {each.state.name}: {each.state.reason}" for each in overview.webhooks if each.state.reason]
    soon = [(app.name, *_left(app.expires, overview.at)) for app in overview.apps if app.expires is not None]
    ill += [f"{name}: its certificate is to be renewed ({text})" for name, text, kind in soon if kind == "bad"]
    if faults:
        return Headline("Not ready", "bad", (*faults, *ill))
    return Headline("Ready, but not all is well", "warn", tuple(ill)) if ill else Headline("Ready", "ok", ())


def _figures(overview: Overview) -> Iterable[Figure]:
    apps = overview.apps
    oldest = max((app.oldest for app in apps if app.oldest is not None), default=None)
    connections = [state for app in apps for state in app.state.connections]
    yield Figure("Waiting", _number(sum(app.waiting for app in apps)))
    yield Figure("Due for", "–" if oldest is None else _duration(oldest))
    yield Figure("Under way", _number(sum(app.state.in_flight for app in apps)))
    yield Figure("Connections ready", f"{connections.count('ready')} of {len(connections)}")
    expires = min((app.expires for app in apps if app.expires is not None), default=None)
    yield Figure("Next certificate", *(("–",) if expires is None else _left(expires, overview.at)))


def _rates(history: History) -> Iterable[Rate]:
    steps, rates = history.steps(), history.rates()
    for name, label in _RATES:
        points = tuple([round(getattr(counts, name) / STEP, 2) for _, counts in steps])
        most = f"at the most {_rate(max(points))} a second" if points else "measured in steps of 10 seconds"
        yield Rate(label, _rate(getattr(rates, name)), most, points)


def _app_row(app: AppOverview, now: float) -> list[Cell]:
    text, kind = _CONDITIONS[app.condition]
    if app.reason:
        text = f"{text}: {app.reason}"
    if app.lasting is not None:
        text = f"{text} (for {_duration(app.lasting)})"
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
    if webhook.lasting is not None:
        text = f"{state.reason} (for {_duration(webhook.lasting)})"
        kind = "warn"
    if state.gave_up:
        text, kind = f"Given up until the next start: {state.reason}", "bad"
    backlog = "unknown" if webhook.backlog is None else _number(webhook.backlog)
    return [Cell(state.name), Cell(text, kind), Cell(backlog), Cell(_number(state.told))]


def _minutes(steps: Iterable[tuple[float, Counts]]) -> list[list[Cell]]:
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
    """Say on which day a certificate expires, and how soon that is."""
    text, kind = _left(expires, now)
    return f"{datetime.fromtimestamp(expires, timezone.utc):%Y-%m-%d}, {text}", kind


def _left(expires: float, now: float) -> tuple[str, Kind]:
    """Say how soon a certificate expires, and how much that matters."""
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


# The page.


class _Page(Element):
    """
    The page.

    :param view: what is on it.
    """

    loader = XMLString((_STATIC / "status.xml").read_bytes())

    def __init__(self, view: View) -> None:
        super().__init__()
        self._view = view

    @renderer
    def word(self, request: IRequest | None, tag: Tag) -> Any:
        """Whether it is ready."""
        return self._view.state.text

    @renderer
    def time(self, request: IRequest | None, tag: Tag) -> Any:
        """The time."""
        return self._view.time

    @renderer
    def up(self, request: IRequest | None, tag: Tag) -> Any:
        """For how long it has been running."""
        return self._view.up

    @renderer
    def version(self, request: IRequest | None, tag: Tag) -> Any:
        """What runs."""
        return f"txapns {txapns.__version__}"

    @renderer
    def state(self, request: IRequest | None, tag: Tag) -> Any:
        """The headline."""
        state = self._view.state
        return tags.div(
            tags.strong(state.text), tags.ul([tags.li(fault) for fault in state.faults]), class_=f"state {state.kind}"
        )

    @renderer
    def figures(self, request: IRequest | None, tag: Tag) -> Any:
        """The numbers."""
        return [tags.div(tags.dt(each.label), tags.dd(each.text, class_=each.kind)) for each in self._view.figures]

    @renderer
    def charts(self, request: IRequest | None, tag: Tag) -> Any:
        """The charts, which the script draws."""
        return [
            tags.div(
                tags.h3(rate.label),
                tags.p(tags.span(rate.now, class_="value"), tags.small(" a second"), class_="now"),
                tags.p(tags.span("15 min ago"), tags.span("now"), class_="ends", hidden="hidden"),
                tags.p(rate.summary, class_="summary muted"),
                class_="chart",
            )
            for rate in self._view.rates
        ]

    @renderer
    def apps(self, request: IRequest | None, tag: Tag) -> Any:
        """The apps."""
        return self._table("apps")

    @renderer
    def refusals(self, request: IRequest | None, tag: Tag) -> Any:
        """The last refusals."""
        return self._table("refusals")

    @renderer
    def webhooks(self, request: IRequest | None, tag: Tag) -> Any:
        """The webhooks."""
        return self._table("webhooks")

    @renderer
    def minutes(self, request: IRequest | None, tag: Tag) -> Any:
        """The charts as a table."""
        return self._table("minutes")

    def _table(self, name: str) -> Tag:
        columns, caption, empty = TABLES[name]
        heads = [(column.rstrip("#"), "number" if column.endswith("#") else "") for column in columns]
        # On a small screen the style makes blocks of it all, after which browsers need to be told what it is.
        rows = [_row(row, heads) for row in self._view.tables[name]]
        nothing = tags.tr(tags.td(empty, class_="empty", colspan=str(len(heads)), role="cell"), role="row")
        titles = [tags.th(label, scope="col", class_=kind, role="columnheader") for label, kind in heads]
        body = tags.tbody(rows or nothing, role="rowgroup", id=name)
        body.attributes["data-empty"] = empty
        return tags.div(
            tags.table(
                tags.caption(caption),
                tags.thead(tags.tr(titles, role="row"), role="rowgroup"),
                body,
                role="table",
                class_=name,
            ),
            class_="table",
        )


def _row(cells: Sequence[Cell], heads: Sequence[tuple[str, str]]) -> Tag:
    """Make a row of a table. The first cell says what the others are about."""
    first, *others = zip(cells, heads, strict=True)
    made = [_cell(tags.th(scope="row", role="rowheader"), *first)]
    made += [_cell(tags.td(role="cell"), *each) for each in others]
    return tags.tr(made, role="row")


def _cell(tag: Tag, cell: Cell, head: tuple[str, str]) -> Tag:
    label, kind = head
    tag.attributes["data-label"] = label
    return tag(tags.span(cell.text, class_=f"tag {cell.kind}") if cell.kind else cell.text, class_=kind)


@implementer(IPushProducer)
class _Subscriber:
    """
    Somebody who looks at the page.

    :param request: where events go.
    :param clock: the time.
    """

    def __init__(self, request: Request, clock: IReactorTime) -> None:
        self._request: Any = request  # Twisted's own has no types
        self._clock = clock
        self.stuck: float | None = None  # since when nothing can be written

    def begin(self) -> None:
        """Send the head of the answer."""
        self._request.registerProducer(self, True)
        # Should the connection break, the script comes back by itself, though not at once.
        self._request.write(b"retry: 5000\n\n")

    def write(self, data: bytes) -> None:
        """Send something, unless what was sent before has not been read yet."""
        if self.stuck is None:
            self._request.write(data)

    def end(self) -> None:
        """There is nothing more to come."""
        self._request.unregisterProducer()
        self._request.finish()

    def drop(self) -> None:
        """Close the connection, whatever is still to be read there."""
        self._request.channel.transport.abortConnection()

    def pauseProducing(self) -> None:
        """It does not read as fast as there is something new."""
        if self.stuck is None:
            self.stuck = self._clock.seconds()

    def resumeProducing(self) -> None:
        """It reads again."""
        self.stuck = None

    def stopProducing(self) -> None:
        """It is gone."""


class Subscribers:
    """
    Those who look at the page.

    :param clock: the reactor, or a ``Clock``.
    :param find: finds out what is on the page, as JSON.
    :param most: how many there may be.
    """

    def __init__(self, clock: IReactorTime, find: Callable[[], Deferred[bytes]], most: int = 32) -> None:
        self._clock = clock
        self._find = find
        self._most = most
        self._listeners: dict[_Subscriber, None] = {}
        self._timer: IDelayedCall | None = None
        self._finding = False
        self._spoken = 0.0

    def __len__(self) -> int:
        """How many there are."""
        return len(self._listeners)

    @property
    def full(self) -> bool:
        """Whether there is no room for another."""
        return len(self._listeners) >= self._most

    def add(self, request: Request) -> None:
        """
        Tell somebody from now on what is on the page.

        :param request: where to.
        """
        listener = _Subscriber(request, self._clock)
        self._listeners[listener] = None
        request.notifyFinish().addBoth(lambda _: self._gone(listener))
        listener.begin()
        self._tell()
        if self._timer is None:
            self._timer = self._clock.callLater(_EVENTS, self._tick)

    def stop(self) -> None:
        """Tell nobody any more."""
        for listener in list(self._listeners):
            listener.end()

    def _gone(self, listener: _Subscriber) -> None:
        self._listeners.pop(listener, None)
        if not self._listeners and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = self._clock.callLater(_EVENTS, self._tick)
        now = self._clock.seconds()
        for listener in list(self._listeners):
            if listener.stuck is not None and now - listener.stuck >= _PATIENCE:
                listener.drop()
        self._tell()
        if now - self._spoken >= _HEARTBEAT:
            self._write(b": still here\n\n")

    def _tell(self) -> None:
        """Find out what there is to tell, unless that is being found out."""
        if not self._finding:
            self._finding = True
            self._find().addBoth(self._found)

    def _found(self, result: bytes | Failure) -> None:
        self._finding = False
        if isinstance(result, Failure):
            _log.failure("The status page could not be updated", result)
        else:
            self._write(b"data: " + result + b"\n\n")

    def _write(self, data: bytes) -> None:
        self._spoken = self._clock.seconds()
        for listener in list(self._listeners):
            listener.write(data)


class StatusPage:
    """
    The page, and those who look at it.

    :param clock: the reactor, or a ``Clock``.
    :param survey: looks how the daemon fares.
    :param history: what happened lately.
    :param most: how many may look at the page at a time.

    :ivar listeners: those who look.
    """

    def __init__(self, clock: IReactorTime, survey: HealthCheck, history: History, most: int = 32) -> None:
        self._survey = survey
        self._history = history
        self._clock = clock
        self._started = clock.seconds()
        self.listeners = Subscribers(clock, self.json, most)

    def view(self) -> Deferred[View]:
        """
        Say what is on the page.

        :returns: a ``Deferred`` of it. It never fails.
        """

        def seen(found: Overview) -> View:
            return view_of(found, self._history, self._clock.seconds() - self._started)

        return self._survey.take().addCallback(seen)

    def json(self) -> Deferred[bytes]:
        """
        Write down for the script what is on the page.

        :returns: a ``Deferred`` of one line of JSON.
        """
        return self.view().addCallback(msgspec.json.encode)

    def html(self) -> Deferred[bytes]:
        """
        Make the page.

        :returns: a ``Deferred`` of HTML.
        """
        return self.view().addCallback(_written)


def _written(view: View) -> Deferred[bytes]:
    return flattenString(None, _Page(view)).addCallback(lambda page: b"<!DOCTYPE html>\n" + page)
