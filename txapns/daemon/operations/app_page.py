"""
The page of one app: its state, what to do about it, its latest failures, a look-up, and what an operator may do.

The page has no script: it says what is known when it is fetched, and everything is a link or a form. Tokens are
shortened. Buttons are only on the page of a caller who may manage apps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files

from twisted.internet.defer import Deferred
from twisted.web.iweb import IRequest
from twisted.web.template import Element, Tag, XMLString, flattenString, renderer, tags

from txapns.credentials import Certificate, Credential
from txapns.daemon.errors import RequestRefused, UnknownApp
from txapns.daemon.interfaces import IFeedbackLog, IOutcomeLog
from txapns.daemon.operations.app_actions import actions
from txapns.daemon.operations.app_list import COLUMNS, app_row, credential_cell
from txapns.daemon.operations.cells import Cell, clock_time
from txapns.daemon.operations.health import AppOverview, Condition, HealthCheck
from txapns.daemon.operations.history import History
from txapns.daemon.operations.look_up import LookUp
from txapns.daemon.operations.management import IManagedApps

__all__ = ["AppPage"]

_STATIC = files("txapns.daemon.operations") / "static"

_ADVICE: Mapping[Condition, str] = {
    "working": "",
    "connecting": "Nothing to do yet. If it lasts, check the network, the gateway and the proxy.",
    "paused": "Nothing is sent, and what is accepted waits. Resume it when that is over.",
    "partial": "What is for the other side goes on, and what waits is kept. If it lasts, replace that credential.",
    "open": "The daemon tries again by itself. If it lasts, check whether Apple can be reached.",
    "tripped": "What waits is kept. Replace the credential, or correct the app; the daemon then goes on by itself.",
    "unusable": "Correct the app or its credential; the daemon's log says more.",
}


class AppPage:
    """
    The pages of the apps.

    :param history: the last 15 minutes.
    """

    def __init__(
        self,
        health: HealthCheck,
        history: History,
        outcomes: IOutcomeLog,
        feedback: IFeedbackLog,
        apps: IManagedApps,
    ) -> None:
        self._health = health
        self._apps = apps
        self._history = history
        self._look_up = LookUp(outcomes, feedback)

    async def html(self, name: str, *, manage: bool, what: str | None = None) -> bytes:
        """
        Return the page.

        :param manage: whether there are buttons.
        :param what: the apns-id or the device token to look up; ``None`` for nothing.
        :raises UnknownApp: there is no such app, and nothing waits for one.
        :raises Unavailable: nothing can be looked up now.
        """
        app, now = await self._overview(name)
        found = "" if what is None else await self._look_up.find(name, what.strip())
        failures = await self._look_up.failures(name)
        managed = self._actions(app, now) if manage else ""
        page = _Page(app, self._history, now, managed=managed, found=found, failures=failures)
        return b"<!DOCTYPE html>\n" + await _flat(page)

    async def check(self, name: str) -> None:
        """Raise :exc:`UnknownApp` if there is no page of an app."""
        await self._overview(name)

    def _actions(self, app: AppOverview, now: float) -> Tag:
        """Make what there is for an operator, also for an app that cannot be used, and whose credential may be why."""
        try:
            credentials = self._apps.get(app.name).credentials
        except RequestRefused:
            credentials = {}
        cells = {environment: _cell(credential, now) for environment, credential in credentials.items()}
        rotates = self._apps.source(app.name) == "database"
        return actions(app, cells or {"": credential_cell(None, "", now)}, rotates=rotates)

    async def _overview(self, name: str) -> tuple[AppOverview, float]:
        overview = await self._health.overview()
        app = next((app for app in overview.apps if app.name == name), None)
        if app is None:
            raise UnknownApp(f"there is no app {name}")
        return app, overview.at


def _flat(page: Element) -> Deferred[bytes]:
    return flattenString(None, page)


class _Page(Element):
    """The template ``static/app.xml``."""

    loader = XMLString((_STATIC / "app.xml").read_bytes())

    def __init__(
        self,
        app: AppOverview,
        history: History,
        now: float,
        *,
        managed: Tag | str,
        found: Tag | str,
        failures: Tag,
    ) -> None:
        super().__init__()
        self._app = app
        self._history = history
        self._now = now
        self._managed = managed
        self._found = found
        self._failures = failures

    @renderer
    def page(self, request: IRequest | None, tag: Tag) -> Tag:
        """Fill the slots."""
        app = self._app
        row = dict(zip(COLUMNS, app_row(app, self._history.activity, self._now), strict=True))
        state = row["State"]
        advice = _ADVICE[app.condition] or ("Correct its new settings or credential." if app.reason else "")
        return tag.fillSlots(
            name=app.name,
            word=state.text.partition(":")[0],
            time=f"{clock_time(self._now)} UTC",
            state=tags.div(
                tags.strong(state.text), tags.p(advice, class_="advice") if advice else "", class_=f"state {state.kind}"
            ),
            figures=[
                tags.div(tags.dt(label), tags.dd(_with(cell.text, cell.note), class_=cell.kind))
                for label, cell in _facts(app, row, self._now)
            ],
            actions=self._managed,
            found=self._found,
            failures=self._failures,
        )


def _facts(app: AppOverview, row: Mapping[str, Cell], now: float) -> Iterator[tuple[str, Cell]]:
    """Tell what there is to know of an app, of its row in the list; of one with two sides, both credentials."""
    yield "Topic", Cell(row["App"].note or "none")
    for column, cell in list(row.items())[2:]:
        if column == "Credential" and app.sides:
            for side in app.sides:
                yield f"Credential, {side.environment}", credential_cell(side.expires, side.key_id, now)
        else:
            yield column.rstrip("#"), cell


def _cell(credential: Credential, now: float) -> Cell:
    if isinstance(credential, Certificate):
        return credential_cell(credential.expires.timestamp(), "", now)
    return credential_cell(None, credential.key_id, now)


def _with(text: str, note: str) -> str:
    return f"{text} ({note})" if note else text
