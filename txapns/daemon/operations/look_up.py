"""What the page of an app says of one notification, of one device, and of the app's latest failures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from twisted.web.template import Tag, tags

from txapns import reasons
from txapns.daemon.errors import Unavailable
from txapns.daemon.interfaces import IFeedbackLog, IOutcomeLog
from txapns.daemon.operations.cells import date_time, number
from txapns.daemon.store.queue import SCANNED
from txapns.daemon.values import Entry, FeedbackEntry, Outcome, State
from txapns.errors import redact

__all__ = ["MOST", "LookUp", "answer"]

#: How many notifications are shown of an app or a device.
MOST = 12

_SCOPE = f"Those that failed are all here. Others are found among the latest {number(SCANNED)} of all apps."
_MEANINGS = {
    State.WAITING: "It waits for an attempt, or is in flight. ",
    State.EXPIRED: "It expired before it could be sent. ",
    State.DEAD: "It was given up after too many attempts, and can be retried. ",
    State.SUPERSEDED: "A newer one with the same collapse id was accepted before it could be sent. ",
}


class LookUp:
    """Looks notifications and devices up."""

    def __init__(self, outcomes: IOutcomeLog, feedback: IFeedbackLog) -> None:
        self._outcomes = outcomes
        self._feedback = feedback

    async def find(self, app: str, what: str) -> Tag:
        """
        Say what is known of a notification or a device.

        :param what: an apns-id or a device token.
        :raises Unavailable: nothing can be looked up now.
        """
        with suppress(ValueError):
            if len(what) == 36:
                outcome = await self._outcomes.latest(str(UUID(what)), [app])
                return _found(_of_notification(outcome))
            if token := bytes.fromhex(what):
                entry = (await self._feedback.known(app, [token])).get(token)
                latest = await self._outcomes.of_device(app, token, MOST)
                return _found(_of_device(token, entry), _device_table(latest), tags.p(_SCOPE, class_="muted"))
        return _found("This is neither an apns-id nor a device token in hexadecimal.")

    async def failures(self, app: str) -> Tag:
        """Show the latest failures of an app."""
        try:
            found = await self._outcomes.failures(app, MOST)
        except Unavailable as error:
            return tags.p(f"They cannot be read now: {error}", class_="muted", id="failures")
        caption = "What was rejected, expired or was given up last, newest first"
        rows = [(each.outcome, each.place, each.outcome.apns_id) for each in found]
        return _table("failures", caption, "Device token or channel", "None that is not forgotten.", rows)


def _found(text: str, *more: Tag) -> Tag:
    return tags.div(tags.p(text), more, class_="found", role="status", id="found")


def _of_notification(outcome: Outcome | None) -> str:
    if outcome is None:
        return "The app has no notification with this apns-id, or it is forgotten."
    attempts = "1 attempt" if outcome.attempts == 1 else f"{number(outcome.attempts)} attempts"
    text = f"{outcome.state.name.capitalize()}, accepted by the daemon at {date_time(outcome.accepted_at)} UTC"
    if outcome.settled_at is not None:
        text = f"{text}, final at {date_time(outcome.settled_at)} UTC"
    text = f"{text}; {attempts} before."
    if outcome.status or outcome.reason:
        explained = reasons.text(outcome.status, outcome.reason) if outcome.status else "Apple did not answer."
        text = f"{text} {answer(outcome)}: {explained}"
    if outcome.channel is not None:
        text = f"{text} Channel: {outcome.channel}."
    if outcome.environment is not None:
        text = f"{text} Environment: {outcome.environment.name.lower()}."
    return f"{text} apns-unique-id: {outcome.unique_id}." if outcome.unique_id else text


def _of_device(token: bytes, entry: FeedbackEntry | None) -> str:
    if entry is None:
        return f"The device token {redact(token)} is not among the dead tokens of the app."
    explained = reasons.text(410, entry.reason)
    return (
        f"The device token {redact(token)} is dead since {date_time(entry.timestamp)} UTC, {entry.reason}: {explained}"
    )


def _device_table(found: Sequence[Entry]) -> Tag:
    rows = [(each.outcome, each.outcome.apns_id, "") for each in found]
    return _table("device", "The latest notifications for the device", "apns-id", "None was found.", rows)


def _table(name: str, caption: str, second: str, empty: str, rows: Sequence[tuple[Outcome, str, str]]) -> Tag:
    """
    Make a table of notifications.

    :param second: what its second column has, after the time.
    :param rows: of each notification its outcome, the text of the second column, and the line below it.
    """
    heads = ("Time, UTC", second, "State", "Answer", "What it means")
    nothing = tags.tr(tags.td(empty, class_="empty", colspan=str(len(heads)), role="cell"), role="row")
    head = tags.tr([tags.th(label, scope="col", role="columnheader") for label in heads], role="row")
    body = tags.tbody([_row(*each) for each in rows] or nothing, role="rowgroup", id=name)
    table = tags.table(tags.caption(caption), tags.thead(head, role="rowgroup"), body, role="table", class_="failures")
    return tags.div(table, class_="table")


def _row(outcome: Outcome, text: str, note: str) -> Tag:
    at = outcome.accepted_at if outcome.settled_at is None else outcome.settled_at
    meaning = _MEANINGS.get(outcome.state, "")
    if outcome.status and outcome.reason:
        meaning = f"{meaning}{reasons.text(outcome.status, outcome.reason)}"
    cells = (outcome.state.name.lower(), answer(outcome) or "–", meaning or "–")
    return tags.tr(
        tags.th(date_time(at), scope="row", role="rowheader"),
        tags.td(text, tags.small(note) if note else "", role="cell"),
        [tags.td(each, role="cell") for each in cells],
        role="row",
    )


def answer(outcome: Outcome) -> str:
    """Return Apple's answer to a notification, or why there is none; empty if it is not known yet."""
    return f"{outcome.status} {outcome.reason}".strip() if outcome.status else outcome.reason
