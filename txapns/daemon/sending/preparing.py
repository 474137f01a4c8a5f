"""From leased notifications to what a client sends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import attrs

from txapns.daemon.linting import notification_of
from txapns.daemon.values import Content, Leased, Settlement, State
from txapns.errors import APNSError
from txapns.notification import Notification, with_body

__all__ = ["Prepared", "prepare"]


@attrs.frozen
class Prepared:
    """
    Leased notifications, of which some may be settled without being sent.

    :ivar settlements: what became of the others: they have expired, or no request can carry them.
    :ivar notifications: what to send, for each content, but for the payload and the id.
    """

    ready: Sequence[Leased]
    settlements: list[Settlement]
    notifications: Mapping[Content, Notification]

    @property
    def channels(self) -> Mapping[Content, str]:
        """The channels of the broadcasts among it."""
        return {content: channel for content in self.notifications if (channel := content.channel) is not None}

    def triples(self) -> Iterator[tuple[Leased, Notification, bytes]]:
        """
        Give what is to be sent to devices as :meth:`~txapns.APNSClient.send_many` takes it, each its own identifier.

        The notifications have neither the payloads nor the ids, since all of a content share one.
        """
        notifications, channels = self.notifications, self.channels
        for each in [each for each in self.ready if each.content not in channels] if channels else self.ready:
            yield each, notifications[each.content], each.token

    def broadcasts(self) -> Iterator[tuple[Leased, Notification, str]]:
        """Give what is to be sent to channels."""
        notifications, channels = self.notifications, self.channels
        for each in self.ready if channels else ():
            if each.content in channels:
                notification = with_body(notifications[each.content], each.payload)
                yield each, notification.with_apns_id(each.apns_id), channels[each.content]


@lru_cache(maxsize=64)
def _like(headers: tuple[tuple[str, str], ...], topic: str | None) -> Notification:
    """Make a notification with header fields; the next one mostly has the same. Its payload does not matter."""
    return notification_of(b"{}", dict(headers), topic)


def prepare(leased: Sequence[Leased], topic: str | None, date: float) -> Prepared:
    """
    Make one notification for each content, however many it is for.

    The intake has looked at the payloads, and found the push types that follow from them.
    """
    notifications: dict[Content, Notification] = {}
    settled: dict[Content, tuple[State, str]] = {}
    for content in {each.content for each in leased}:
        expires = content.expires
        if expires is not None and expires <= date:
            settled[content] = State.EXPIRED, ""
            continue
        try:
            notifications[content] = _like(tuple(content.headers.items()), topic)
        except (APNSError, ValueError) as error:  # the priority or the expiration may not be a number
            settled[content] = State.REJECTED, type(error).__name__
    if not settled:
        return Prepared(leased, [], notifications)
    ready = [each for each in leased if each.content in notifications]
    others = [(each.number, *settled[each.content]) for each in leased if each.content in settled]
    settlements = [Settlement(number, state, 0, reason) for number, state, reason in others]
    return Prepared(ready, settlements, notifications)
