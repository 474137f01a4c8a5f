"""
The status page: one HTML page that shows the daemon's health and stays up to date.

::

    Overview ──► AppDigest ─┐
                  History  ─┼──► View ──► HTML, for the first response and for browsers without JavaScript
                    Query  ─┘        └──► server-sent events, every other second, for browsers that keep the page open

With ten thousand apps the page shows some of them, and everything that takes long is done in slices: nobody holds the
reactor for more than a few milliseconds. Style and script are separate files, so the page's policy can forbid
everything inline and everything from elsewhere.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from importlib.resources import files
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.web.iweb import IRequest
from twisted.web.template import Element, Tag, XMLString, flattenString, renderer, tags

import txapns
from txapns.daemon.operations.app_list import AppDigest, Query, digest_of
from txapns.daemon.operations.cells import Cell
from txapns.daemon.operations.health import AppOverview, HealthCheck
from txapns.daemon.operations.history import History
from txapns.daemon.operations.subscribers import Subscribers
from txapns.daemon.operations.view import TABLES, Listing, Rate, View, view_of

__all__ = ["StatusPage"]

_ALL = Query()
_TURN = 3  # rows of a table that are written in one turn of the reactor
_SCOPE = "What waits, and the latest failures, are those of all nodes; the other figures are of this node."
_STATIC = files("txapns.daemon.operations") / "static"


class StatusPage:
    """
    The page, and the browsers that keep it open.

    :param clock: the reactor, or a ``Clock``.
    :param history: the last 15 minutes.
    :param limit: how many browsers may keep the page open at a time.
    """

    def __init__(self, clock: IReactorTime, health: HealthCheck, history: History, limit: int = 32) -> None:
        self._health = health
        self._history = history
        self._clock = clock
        self._started = clock.seconds()
        self._digest: tuple[Sequence[AppOverview], AppDigest] = (), AppDigest()
        self.subscribers: Subscribers[Query] = Subscribers(clock, self.json, limit)

    def view(self, query: Query = _ALL) -> Deferred[View]:
        """
        Return a ``Deferred`` of everything on the page.

        :param query: which apps to show.
        """
        return Deferred.fromCoroutine(self._view(query))

    def json(self, query: Query = _ALL) -> Deferred[bytes]:
        """Return a ``Deferred`` of the view as one line of JSON, for the script."""
        return self.view(query).addCallback(msgspec.json.encode)

    def html(self, query: Query = _ALL) -> Deferred[bytes]:
        """Return a ``Deferred`` of the page."""
        return self.view(query).addCallback(lambda view: deferLater(self._clock, 0, self._to_html, view))

    async def _view(self, query: Query) -> View:
        overview = await self._health.overview()
        apps, digest = self._digest
        if apps is not overview.apps:
            digest = await digest_of(self._clock, overview.apps, overview.at)
            self._digest = overview.apps, digest
            await deferLater(self._clock, 0)
        return view_of(overview, digest, self._history, self._clock.seconds() - self._started, query)

    def _to_html(self, view: View) -> Deferred[bytes]:
        page = flattenString(None, _Page(view, self._clock))
        return page.addCallback(lambda page: b"<!DOCTYPE html>\n" + page)


class _Page(Element):
    """The template ``static/status.xml``, whose slots are filled with a view."""

    loader = XMLString((_STATIC / "status.xml").read_bytes())

    def __init__(self, view: View, clock: IReactorTime) -> None:
        super().__init__()
        self._view = view
        self._clock = clock

    @renderer
    def page(self, request: IRequest | None, tag: Tag) -> Tag:
        """Fill the slots."""
        view, state = self._view, self._view.state
        faults = tags.ul([tags.li(fault) for fault in state.faults])
        tables = {name: _table(name, rows, self._clock) for name, rows in view.tables.items()}
        nodes = tables.pop("nodes", None)
        return tag.fillSlots(
            word=state.text,
            name=view.name,
            time=view.time,
            up=view.up,
            version=f"txapns {txapns.__version__}",
            state=tags.div(tags.strong(state.text), faults, class_=f"state {state.kind}"),
            figures=[tags.div(tags.dt(each.label), tags.dd(each.text, class_=each.kind)) for each in view.figures],
            charts=[_chart(rate) for rate in view.rates],
            search=_search(view.listing),
            pages=_pages(view.listing),
            scope="" if nodes is None else tags.p(_SCOPE, class_="scope muted"),
            nodes="" if nodes is None else _section("Nodes", nodes),
            **tables,
        )


def _section(title: str, table: Tag) -> Tag:
    """Make a section that only some pages have."""
    name = title.lower()
    heading = tags.h2(title, id=f"{name}-title")
    section = tags.section(heading, table)
    section.attributes["aria-labelledby"] = f"{name}-title"
    return section


def _chart(rate: Rate) -> Tag:
    """Make the text of a chart; the script draws it above the line with the ends."""
    return tags.div(
        tags.h3(rate.label),
        tags.p(tags.span(rate.now, class_="value"), tags.small("/s"), class_="now"),
        tags.p(tags.span("15 min ago"), tags.span("now"), class_="ends", hidden="hidden"),
        tags.p(rate.summary, class_="summary muted"),
        class_="chart",
    )


def _search(listing: Listing) -> Tag:
    """Make the field in which names are searched for."""
    field = tags.input(type="search", name="search", id="search", value=listing.search, maxlength="200")
    label = tags.label("Name or topic", for_="search")
    return tags.form(label, field, tags.button("Search", type="submit"), role="search", action="./", class_="search")


def _pages(listing: Listing) -> Tag:
    """Make the line below the list that leads to its other pages."""
    links = [tags.a("Previous", id="previous", href=listing.previous, rel="prev")]
    links += [tags.a("Next", id="next", href=listing.next, rel="next")]
    for link in links:
        if not link.attributes["href"]:
            link(hidden="hidden")
    nav = tags.nav(tags.span(listing.text, id="shown"), links, class_="pages")
    nav.attributes["aria-label"] = "Pages of the list of apps"
    return nav


def _rows(
    clock: IReactorTime, rows: Sequence[Sequence[Cell]], heads: Sequence[tuple[str, str]]
) -> Generator[Any, None, None]:
    """Make the rows of a table, with a turn of the reactor between a few of them."""
    for position, row in enumerate(rows):
        if not position % _TURN:
            yield deferLater(clock, 0, str)
        yield _row(row, heads)


def _table(name: str, rows: Sequence[Sequence[Cell]], clock: IReactorTime) -> Tag:
    # On a small screen the style turns all of it into blocks, and browsers no longer see a table: hence the roles.
    columns, caption, empty = TABLES[name]
    heads = [(column.rstrip("#"), "number" if column.endswith("#") else "") for column in columns]
    titles = [tags.th(label, scope="col", class_=kind, role="columnheader") for label, kind in heads]
    nothing = tags.tr(tags.td(empty, class_="empty", colspan=str(len(heads)), role="cell"), role="row")
    body = tags.tbody(_rows(clock, rows, heads) if rows else nothing, role="rowgroup", id=name)
    body.attributes["data-empty"] = empty
    head = tags.thead(tags.tr(titles, role="row"), role="rowgroup")
    return tags.div(tags.table(tags.caption(caption), head, body, role="table", class_=name), class_="table")


def _row(cells: Sequence[Cell], heads: Sequence[tuple[str, str]]) -> Tag:
    """Make a row of a table; its first cell is its header."""
    first, *others = zip(cells, heads, strict=True)
    made = [_cell(tags.th(scope="row", role="rowheader"), *first)]
    made += [_cell(tags.td(role="cell"), *each) for each in others]
    return tags.tr(made, role="row")


def _cell(tag: Tag, cell: Cell, head: tuple[str, str]) -> Tag:
    label, kind = head
    tag.attributes["data-label"] = label
    kept = tags.a(cell.text, href=cell.link) if cell.link else tags.span(cell.text)
    text = kept(class_=f"tag {cell.kind}" if cell.kind else "value")
    return tag(tags.div(text, tags.small(cell.note)) if cell.note else tags.div(text), class_=kind)
