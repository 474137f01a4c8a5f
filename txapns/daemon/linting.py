"""What is wrong with notifications that could be accepted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from txapns._linting import lint_with
from txapns.daemon.broadcasts import side_of
from txapns.daemon.values import CHANNEL, App, Draft
from txapns.devices import Finding, Push, lint
from txapns.errors import APNSError
from txapns.notification import Notification

__all__ = ["LINTED", "lint_drafts", "notification_of"]

#: How many notifications of a request are looked at, so that nobody else has to wait for it.
LINTED = 100


def lint_drafts(app: App, drafts: Sequence[Draft], now: float) -> Iterator[tuple[int, Finding]]:
    """
    Find what is wrong with the first :data:`LINTED` notifications of a request.

    :param app: the app that they are for.
    :param drafts: what the intake has checked.
    :param now: the time, in UNIX seconds.
    :returns: each finding with the position of its notification.
    """
    for position, draft in enumerate(drafts[:LINTED]):
        channel = draft.headers.get(CHANNEL, "")
        try:
            notification = notification_of(draft.payload, draft.headers, app.topic)
        except (APNSError, ValueError):  # no request can carry it
            findings = lint(Push(draft.headers, draft.payload, channel=channel), now=now)
        else:
            credential = side_of(app, draft.environment).credential
            findings = lint_with(notification, credential, now, channel)
        for finding in findings:
            yield position, finding


def notification_of(payload: bytes, headers: Mapping[str, str], topic: str | None) -> Notification:
    """
    Make the notification that a client sends.

    :param payload: the payload.
    :param headers: the header fields.
    :param topic: the topic if they have none.
    :raises APNSError: no request can carry it.
    :raises ValueError: the priority or the expiration is not a number.
    """
    priority, expiration = headers.get("apns-priority"), headers.get("apns-expiration")
    return Notification(
        payload=payload,
        topic=headers.get("apns-topic", topic),
        push_type=headers.get("apns-push-type"),
        priority=None if priority is None else int(priority),
        expiration=None if expiration is None else int(expiration),
        collapse_id=headers.get("apns-collapse-id"),
    )
