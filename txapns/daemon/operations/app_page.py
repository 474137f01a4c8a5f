"""
The page of one app: its state, what to do about it, its latest failures, a look-up, and what an operator may do.

The page has no script: it says what is known when it is fetched, and everything is a link or a form. Tokens are
shortened. Buttons are only on the page of a caller who may manage apps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from importlib.resources import files
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.web.iweb import IRequest
from twisted.web.template import Element, Tag, XMLString, flattenString, renderer, tags

from txapns import reasons
from txapns.daemon.errors import UnknownApp
from txapns.daemon.interfaces import IFeedbackLog, IOutcomeLog
from txapns.daemon.operations.app_actions import actions
from txapns.daemon.operations.app_list import COLUMNS, CREDENTIAL, app_row
from txapns.daemon.operations.cells import clock_time, number
from txapns.daemon.operations.health import AppOverview, Condition, HealthCheck
from txapns.daemon.operations.history import FailedNotification, History
from txapns.daemon.operations.management import IManagedApps
from txapns.daemon.values import FeedbackEntry, Outcome, State
from txapns.errors import redact

__all__ = ["AppPage"]

_STATIC = files("txapns.daemon.operations") / "static"

_ADVICE: Mapping[Condition, str] = {
    "working": "",
    "connecting": "Nothing to do yet. If it lasts, check the network, the gateway and the proxy.",
    "paused": "Nothing is sent, and what is accepted waits. Resume it when that is over.",
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
        self._outcomes = outcomes
        self._feedback = feedback

    async def html(self, name: str, *, manage: bool, what: str | None = None) -> bytes:
        """
        Return the page.

        :param manage: whether there are buttons.
        :param what: the apns-id or the device token to look up; ``None`` for nothing.
        :raises UnknownApp: there is no such app, and nothing waits for one.
        :raises Unavailable: nothing can be looked up now.
        """
        app, now = await self._overview(name)
        found = None if what is None else await self._look(name, what.strip())
        rotates = self._apps.source(name) == "database"
        page = _Page(app, self._history, now, manage=manage, rotates=rotates, found=found)
        return b"<!DOCTYPE html>\n" + await _flat(page)

    async def check(self, name: str) -> None:
        """Raise :exc:`UnknownApp` if there is no page of an app."""
        await self._overview(name)

    async def _overview(self, name: str) -> tuple[AppOverview, float]:
        overview = await self._health.overview()
        app = next((app for app in overview.apps if app.name == name), None)
        if app is None:
            raise UnknownApp(f"there is no app {name}")
        return app, overview.at

    async def _look(self, app: str, what: str) -> str:
        """Say what is known of a notification or a device."""
        with suppress(ValueError):
            if len(what) == 36:
                return _of_notification(await self._outcomes.latest(str(UUID(what)), [app]))
            if token := bytes.fromhex(what):
                return _of_device(token, (await self._feedback.known(app, [token])).get(token))
        return "This is neither an apns-id nor a device token in hexadecimal."


def _flat(page: Element) -> Deferred[bytes]:
    return flattenString(None, page)


def _of_notification(outcome: Outcome | None) -> str:
    if outcome is None:
        return "The app has no notification with this apns-id, or it is forgotten."
    attempts = "1 attempt" if outcome.attempts == 1 else f"{number(outcome.attempts)} attempts"
    text = f"{outcome.state.name.capitalize()}, accepted by the daemon at {_date(outcome.accepted_at)}"
    if outcome.settled_at is not None:
        text = f"{text}, final at {_date(outcome.settled_at)}"
    text = f"{text}; {attempts} before."
    if outcome.status or outcome.reason:
        text = f"{text} {_answer(outcome.status, outcome.reason)}: {_explained(outcome.status, outcome.reason)}"
    return f"{text} apns-unique-id: {outcome.unique_id}." if outcome.unique_id else text


def _of_device(token: bytes, entry: FeedbackEntry | None) -> str:
    if entry is None:
        return f"The device token {redact(token)} is not among the dead tokens of the app."
    explained = reasons.text(410, entry.reason)
    return f"The device token {redact(token)} is dead since {_date(entry.timestamp)}, {entry.reason}: {explained}"


def _date(at: float) -> str:
    return f"{datetime.fromtimestamp(at, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def _answer(status: int, reason: str) -> str:
    return f"{status} {reason}".strip() if status else reason


def _explained(status: int, reason: str) -> str:
    return reasons.text(status, reason) if status else "Apple did not answer."


class _Page(Element):
    """The template ``static/app.xml``."""

    loader = XMLString((_STATIC / "app.xml").read_bytes())

    def __init__(
        self, app: AppOverview, history: History, now: float, *, manage: bool, rotates: bool, found: str | None
    ) -> None:
        super().__init__()
        self._app = app
        self._history = history
        self._now = now
        self._manage = manage
        self._rotates = rotates
        self._found = found

    @renderer
    def page(self, request: IRequest | None, tag: Tag) -> Tag:
        """Fill the slots."""
        app = self._app
        _, state, *others = row = app_row(app, self._history.activity, self._now)
        advice = _ADVICE[app.condition] or ("Correct its new settings or credential." if app.reason else "")
        facts = [("Topic", row[0].note or "none", "")]
        labels = [column.rstrip("#") for column in COLUMNS[2:]]
        facts += [(label, _with(cell.text, cell.note), cell.kind) for label, cell in zip(labels, others, strict=True)]
        return tag.fillSlots(
            name=app.name,
            word=state.text.partition(":")[0],
            time=f"{clock_time(self._now)} UTC",
            state=tags.div(
                tags.strong(state.text), tags.p(advice, class_="advice") if advice else "", class_=f"state {state.kind}"
            ),
            figures=[tags.div(tags.dt(label), tags.dd(text, class_=kind)) for label, text, kind in facts],
            actions=actions(app, row[CREDENTIAL], rotates=self._rotates) if self._manage else "",
            found="" if self._found is None else tags.p(self._found, class_="found", role="status", id="found"),
            failures=_failures(self._history.failures(app.name)),
        )


def _with(text: str, note: str) -> str:
    return f"{text} ({note})" if note else text


_HEADS = ("Time", "Device token", "State", "Answer", "What it means")


def _failures(failures: Iterable[FailedNotification]) -> Tag:
    rows = [
        tags.tr(
            tags.th(clock_time(each.at), scope="row", role="rowheader"),
            [tags.td(text, role="cell") for text in _failure(each)],
            role="row",
        )
        for each in failures
    ]
    nothing = tags.tr(
        tags.td("None since the start of this node.", class_="empty", colspan=str(len(_HEADS)), role="cell"), role="row"
    )
    head = tags.tr([tags.th(label, scope="col", role="columnheader") for label in _HEADS], role="row")
    caption = tags.caption("What was rejected, expired or was given up last, newest first")
    parts = tags.thead(head, role="rowgroup"), tags.tbody(rows or nothing, role="rowgroup", id="failures")
    return tags.div(tags.table(caption, parts, role="table", class_="failures"), class_="table")


def _failure(each: FailedNotification) -> tuple[str, ...]:
    meaning = "It expired before it could be sent." if each.state is State.EXPIRED else ""
    if each.state is State.DEAD:
        meaning = "It was given up after too many attempts, and can be retried. "
    if each.status:
        meaning = f"{meaning}{reasons.text(each.status, each.reason)}"
    return each.token, each.state.name.lower(), _answer(each.status, each.reason) or "–", meaning or "–"
