"""
The status page: one HTML page that shows the daemon's health and stays up to date.

::

    Overview ─┐
              ├──► View ──► HTML, for the first response and for browsers without JavaScript
    History  ─┘        └──► server-sent events, every other second, for browsers that keep the page open

Style and script are separate files, so the page's policy can forbid everything inline and everything from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest
from twisted.web.template import Element, Tag, XMLString, flattenString, renderer, tags

import txapns
from txapns.daemon.operations.health import HealthCheck
from txapns.daemon.operations.history import History
from txapns.daemon.operations.subscribers import Subscribers
from txapns.daemon.operations.view import TABLES, Cell, Rate, View, view_of

__all__ = ["StatusPage"]

_SCOPE = "What waits is counted for all nodes together; the other figures are of this node."
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
        self.subscribers = Subscribers(clock, self.json, limit)

    def view(self) -> Deferred[View]:
        """Return a ``Deferred`` of everything on the page."""
        return self._health.overview().addCallback(
            lambda overview: view_of(overview, self._history, self._clock.seconds() - self._started)
        )

    def json(self) -> Deferred[bytes]:
        """Return a ``Deferred`` of the view as one line of JSON, for the script."""
        return self.view().addCallback(msgspec.json.encode)

    def html(self) -> Deferred[bytes]:
        """Return a ``Deferred`` of the page."""
        return self.view().addCallback(_to_html)


def _to_html(view: View) -> Deferred[bytes]:
    return flattenString(None, _Page(view)).addCallback(lambda page: b"<!DOCTYPE html>\n" + page)


class _Page(Element):
    """The template ``static/status.xml``, whose slots are filled with a view."""

    loader = XMLString((_STATIC / "status.xml").read_bytes())

    def __init__(self, view: View) -> None:
        super().__init__()
        self._view = view

    @renderer
    def page(self, request: IRequest | None, tag: Tag) -> Tag:
        """Fill the slots."""
        view, state = self._view, self._view.state
        faults = tags.ul([tags.li(fault) for fault in state.faults])
        tables = {name: _table(name, rows) for name, rows in view.tables.items()}
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


def _table(name: str, rows: Sequence[Sequence[Cell]]) -> Tag:
    # On a small screen the style turns all of it into blocks, and browsers no longer see a table: hence the roles.
    columns, caption, empty = TABLES[name]
    heads = [(column.rstrip("#"), "number" if column.endswith("#") else "") for column in columns]
    titles = [tags.th(label, scope="col", class_=kind, role="columnheader") for label, kind in heads]
    nothing = tags.tr(tags.td(empty, class_="empty", colspan=str(len(heads)), role="cell"), role="row")
    body = tags.tbody([_row(row, heads) for row in rows] or nothing, role="rowgroup", id=name)
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
    return tag(tags.span(cell.text, class_=f"tag {cell.kind}") if cell.kind else cell.text, class_=kind)
