"""
The list of all apps on the status page: which of ten thousand are shown, and what is said of all of them together.

::

    AppOverview, ... ──► digest_of ──► AppDigest: sorted, added up ──► AppDigest.find: those on one page

Everything that looks at each app is done once for each health check, in slices between which the reactor does what
else there is to do. A page then costs a search through the names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import parse_qs, quote, urlencode

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from txapns.daemon.operations.activity import Activity
from txapns.daemon.operations.cells import Cell, Kind, duration, expiry, latency, left, number, per_second, urgent
from txapns.daemon.operations.health import IDLE, AppOverview
from txapns.daemon.slices import APPS, in_slices
from txapns.gateway import Gateway

__all__ = ["COLUMNS", "PAGE", "AppDigest", "Found", "Query", "app_row", "credential_cell", "digest_of"]

#: How many apps a page shows.
PAGE = 50
#: The columns of the list; numeric ones end with ``#``.
COLUMNS = (
    "App",
    "State",
    "Sends to",
    "Credential",
    "Waiting#",
    "In flight#",
    "Answers/s#",
    "Median, p99#",
    "Accepted#",
    "Rejected#",
    "Dead letters#",
)

_MOST_PROBLEMS = 10
_LONGEST = 200  # characters in a search
_ENVIRONMENTS = {Gateway.parse(name).host: name for name in ("production", "sandbox")}
_CONDITIONS: dict[str, tuple[str, Kind]] = {
    "working": ("Working", "ok"),
    "connecting": ("Connecting", "notice"),
    "paused": ("Paused", "notice"),
    "partial": ("Works on one side", "warn"),
    "open": ("Circuit open", "warn"),
    "tripped": ("Circuit tripped", "bad"),
    "unusable": ("Unusable", "bad"),
}
_KINDS: Sequence[Kind] = ("bad", "warn", "notice")  # the worst first
_FINE = len(_KINDS)  # the rank of apps without problems


@attrs.frozen
class Query:
    """
    What somebody wants to see of the list.

    :ivar search: a part of the names or topics of apps, in any case; empty for all.
    :ivar page: the number of the page, from 1 on.
    """

    search: str = ""
    page: int = 1

    @classmethod
    def parse(cls, text: bytes) -> Query:
        """Read the query of an address. What makes no sense is ignored."""
        try:
            fields = parse_qs(text.decode("latin-1"), max_num_fields=10)
        except ValueError:
            return cls()
        page = fields.get("page", [""])[0]
        search = fields.get("search", [""])[0].strip()[:_LONGEST]
        return cls(search, int(page) if page.isascii() and page.isdigit() and 0 < len(page) < 8 and int(page) else 1)

    def address(self, page: int) -> str:
        """Return the relative address of another page of the same search."""
        fields = {**({"search": self.search} if self.search else {}), **({"page": page} if page > 1 else {})}
        return f"?{urlencode(fields)}" if fields else "./"


@attrs.frozen
class Found:
    """
    The apps on one page.

    :ivar text: which of how many these are, for a person.
    :ivar previous: the address of the page before; empty if this is the first.
    :ivar next: the address of the next page; empty if this is the last.
    """

    apps: Sequence[AppOverview]
    text: str
    previous: str
    next: str


@attrs.frozen
class AppDigest:
    """
    What is known of all apps.

    :ivar apps: those with the worst problems first, then those of which most waits, then those that were busy, by name.
    :ivar problems: what is wrong, the worst first, for a person.
    :ivar troubled: how many apps have a problem, of which the problems of ``named`` are among these.
    :ivar dead: how many dead letters there are; ``None`` if that is unknown.
    :ivar oldest: for how many seconds the oldest notification that waits has been due; ``None`` if none waits.
    :ivar ready: how many connections are ready, out of how many ``connections``.
    :ivar expires: when the first certificate expires; ``None`` if there is none.
    """

    apps: Sequence[AppOverview] = ()
    problems: Sequence[str] = ()
    troubled: int = 0
    named: int = 0
    dead: int | None = None
    waiting: int = 0
    oldest: float | None = None
    in_flight: int = 0
    ready: int = 0
    connections: int = 0
    expires: float | None = None

    def find(self, query: Query) -> Found:
        """Find the apps that somebody wants to see; of a page that does not exist, those on the last."""
        wanted, apps = query.search.casefold(), self.apps
        if wanted:
            apps = [app for app in apps if wanted in app.name.casefold() or wanted in app.topic.casefold()]
        last = max(1, -(-len(apps) // PAGE))
        page = min(query.page, last)
        start = (page - 1) * PAGE
        shown = apps[start : start + PAGE]
        text = f"{start + 1:,} to {start + len(shown):,} of {len(apps):,}" if shown else "none"
        return Found(
            shown,
            f"{text} that match “{query.search}”" if wanted else text,
            query.address(page - 1) if page > 1 else "",
            query.address(page + 1) if page < last else "",
        )


async def digest_of(clock: IReactorTime, apps: Sequence[AppOverview], now: float) -> AppDigest:
    """
    Look at all apps.

    :param clock: the reactor, or a ``Clock``.
    :param apps: the apps, by name.
    :param now: the time, in UNIX seconds.
    """
    found = AppDigest(dead=None if None in [app.dead for app in apps] else 0)
    ranked: list[tuple[int, int, str, AppOverview]] = []
    quiet: list[AppOverview] = []  # in the order of their names, as they are given
    async for part in in_slices(clock, apps, APPS):
        others: list[AppOverview] = []
        for app in part:
            (quiet if _is_quiet(app, now) else others).append(app)
        # What is sorted already is sorted again in no time. No two names are equal, so no two apps are compared.
        ranked += sorted((*_rank(app, now), app) for app in others)
        found = _with(found, others, part)
    await deferLater(clock, 0)
    ranked.sort()
    troubled = [app for rank, _, _, app in ranked if rank < _FINE]
    named = troubled[:_MOST_PROBLEMS]
    return attrs.evolve(
        found,
        apps=[*(app for _, _, _, app in ranked), *quiet],
        problems=[text for app in named for text in _problems(app, now)],
        troubled=len(troubled),
        named=len(named),
    )


def _is_quiet(app: AppOverview, now: float) -> bool:
    """Tell whether there is nothing to tell of an app: most are so where there are many."""
    if app.state is not IDLE or app.waiting or app.dead or app.reason:
        return False
    return app.expires is None or not urgent(app.expires, now)


def _with(found: AppDigest, others: Sequence[AppOverview], part: Sequence[AppOverview]) -> AppDigest:
    """Add up some more apps: ``part``, of which ``others`` are not quiet."""
    connections = [state for app in others for state in app.state.connections]
    return attrs.evolve(
        found,
        waiting=found.waiting + sum(app.waiting for app in others),
        in_flight=found.in_flight + sum(app.state.in_flight for app in others),
        dead=None if found.dead is None else found.dead + sum(app.dead or 0 for app in others),
        oldest=_most((found.oldest, *(app.oldest for app in others))),
        expires=_least((found.expires, *(app.expires for app in part))),
        ready=found.ready + connections.count("ready"),
        connections=found.connections + len(connections),
    )


def _rank(app: AppOverview, now: float) -> tuple[int, int, str]:
    """Return what puts the apps in order: the worst problems, dead letters, of which most waits, the name."""
    rank = _KINDS.index(_state_kind(app)) if app.reason else _FINE
    if app.expires is not None and urgent(app.expires, now):
        rank = min(rank, _KINDS.index("warn"))
    return (rank if rank < _FINE or app.dead else _FINE + 1), -app.waiting, app.name


def _state_kind(app: AppOverview) -> Kind:
    kind = _CONDITIONS[app.condition][1]
    return "warn" if kind == "ok" and app.reason else kind


def _problems(app: AppOverview, now: float) -> Iterable[str]:
    if app.reason:
        yield f"{app.name}: {app.reason}"
    if app.expires is not None and urgent(app.expires, now):
        text, _ = left(app.expires, now)
        yield f"{app.name}: its certificate {text if text == 'expired' else f'expires {text}'}; renew it"


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _least(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def app_row(app: AppOverview, activity: Activity, now: float) -> list[Cell]:
    """Say in the cells of one row what is known of an app; see :data:`COLUMNS`."""
    state, busy = app.state, activity.of(app.name)
    return [
        Cell(app.name, note=app.topic, link=f"apps/{quote(app.name)}"),
        _state(app),
        Cell("unknown" if app.gateway is None else _destination(app.gateway), note="and sandbox" if app.sides else ""),
        _credential(app, now),
        Cell(number(app.waiting), note="" if app.oldest is None else f"oldest {duration(app.oldest)}"),
        Cell(number(state.in_flight), note=_connections(state.connections)),
        Cell(per_second(busy.rate)),
        Cell("–") if busy.median is None or busy.p99 is None else Cell(latency(busy.median), note=latency(busy.p99)),
        Cell(number(state.accepted)),
        Cell(number(state.rejected)),
        Cell("unknown") if app.dead is None else Cell(number(app.dead), "warn" if app.dead else ""),
    ]


def _state(app: AppOverview) -> Cell:
    text = _CONDITIONS[app.condition][0]
    if app.reason:
        text = f"{text}: {app.reason}"
    if app.failing is not None:
        again = "" if app.again is None else f", next attempt in {duration(app.again)}"
        text = f"{text} (for {duration(app.failing)}{again})"
    return Cell(text, _state_kind(app))


def _destination(gateway: Gateway) -> str:
    """Name Apple's environment, or another server."""
    server = f"{gateway.host}:{gateway.port}"
    return _ENVIRONMENTS.get(gateway.host, server if gateway.protocol == "http2" else f"{server} ({gateway.protocol})")


def credential_cell(expires: float | None, key_id: str, now: float) -> Cell:
    """
    Say which credential an app has.

    :param expires: when its certificate expires; ``None`` if it has none.
    :param key_id: the identifier of its signing key; empty if it has none.
    """
    if expires is not None:
        return Cell(*expiry(expires, now), "certificate")
    return Cell(key_id, note="key") if key_id else Cell("unknown")


def _credential(app: AppOverview, now: float) -> Cell:
    if not app.sides:
        return credential_cell(app.expires, app.key_id, now)
    first, second = (credential_cell(side.expires, side.key_id, now) for side in app.sides)
    kind: Kind = min([each.kind for each in (first, second) if each.kind], key=_KINDS.index, default="")
    return Cell(f"{first.note} {first.text}", kind, f"{app.sides[1].environment}: {second.note} {second.text}")


def _connections(states: Sequence[str]) -> str:
    return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))) or "not connected"
