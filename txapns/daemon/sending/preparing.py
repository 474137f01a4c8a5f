"""From leased notifications to what a client sends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from txapns.daemon.linting import notification_of
from txapns.daemon.values import Content, Leased, Settlement, State
from txapns.errors import APNSError
from txapns.notification import Notification

__all__ = ["Prepared", "prepare"]


@attrs.frozen
class Prepared:
    """
    Leased notifications, of which some may be settled without being sent.

    :ivar settlements: what became of the others: they have expired, or no request can carry them.
    :ivar notifications: what to send, for each content.
    """

    ready: Sequence[Leased]
    settlements: list[Settlement]
    notifications: Mapping[Content, Notification]

    def triples(self) -> Iterator[tuple[Leased, Notification, bytes]]:
        """Give what is to be sent as :meth:`~txapns.APNSClient.send_many` takes it, each its own identifier."""
        notifications = self.notifications
        for each in self.ready:
            yield each, notifications[each.content].with_apns_id(each.apns_id), each.token


def prepare(leased: Sequence[Leased], topic: str | None, date: float) -> Prepared:
    """Make one notification for each content, however many devices it is for."""
    notifications: dict[Content, Notification] = {}
    settled: dict[Content, tuple[State, str]] = {}
    for content in {each.content for each in leased}:
        expires = content.expires
        if expires is not None and expires <= date:
            settled[content] = State.EXPIRED, ""
            continue
        try:
            notifications[content] = notification_of(content.payload, content.headers, topic)
        except (APNSError, ValueError) as error:  # the priority or the expiration may not be a number
            settled[content] = State.REJECTED, type(error).__name__
    if not settled:
        return Prepared(leased, [], notifications)
    ready = [each for each in leased if each.content in notifications]
    others = [(each.number, *settled[each.content]) for each in leased if each.content in settled]
    settlements = [Settlement(number, state, 0, reason) for number, state, reason in others]
    return Prepared(ready, settlements, notifications)
