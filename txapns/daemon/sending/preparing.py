"""From leased notifications to what a client sends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import attrs

from txapns.daemon.linting import notification_of
from txapns.daemon.payloads import decode
from txapns.daemon.values import Content, Leased, Settlement, State
from txapns.errors import APNSError
from txapns.notification import Notification, push_type_of, with_body

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

    @property
    def channels(self) -> Mapping[Content, str]:
        """The channels of the broadcasts among it."""
        return {content: channel for content in self.notifications if (channel := content.channel) is not None}

    def triples(self) -> Iterator[tuple[Leased, Notification, bytes]]:
        """
        Give what is to be sent to devices as :meth:`~txapns.APNSClient.send_many` takes it, each its own identifier.

        The notifications have no ids, since the devices of a content share one.
        """
        notifications, channels = self.notifications, self.channels
        for each in [each for each in self.ready if each.content not in channels] if channels else self.ready:
            yield each, notifications[each.content], each.token

    def broadcasts(self) -> Iterator[tuple[Leased, Notification, str]]:
        """Give what is to be sent to channels."""
        notifications, channels = self.notifications, self.channels
        for each in self.ready if channels else ():
            if each.content in channels:
                yield each, notifications[each.content].with_apns_id(each.apns_id), channels[each.content]


@lru_cache(maxsize=64)
def _like(headers: tuple[tuple[str, str], ...], push_type: str | None, topic: str | None) -> Notification:
    """Make a notification with header fields; the next one mostly has the same. Its payload does not matter."""
    fields = dict(headers) if push_type is None else {**dict(headers), "apns-push-type": push_type}
    return notification_of(b"{}", fields, topic)


def prepare(leased: Sequence[Leased], topic: str | None, date: float) -> Prepared:
    """
    Make one notification for each content, however many devices it is for.

    Contents that share their header fields differ in the payload alone.
    """
    notifications: dict[Content, Notification] = {}
    settled: dict[Content, tuple[State, str]] = {}
    expired: dict[int, bool] = {}  # by the identity of the header fields
    known: dict[tuple[int, str | None], Notification] = {}
    for content in {each.content for each in leased}:
        fields = id(content.headers)
        over = expired.get(fields)
        if over is None:
            expires = content.expires
            over = expired[fields] = expires is not None and expires <= date
        if over:
            settled[content] = State.EXPIRED, ""
            continue
        try:
            push_type = content.headers.get("apns-push-type") or push_type_of(decode(content.payload))
            like = known.get((fields, push_type))
            if like is None:
                decode(content.payload)  # checks it again, as the intake did
                like = known[fields, push_type] = _like(tuple(content.headers.items()), push_type, topic)
            notifications[content] = with_body(like, content.payload)
        except (APNSError, ValueError) as error:  # the priority or the expiration may not be a number
            settled[content] = State.REJECTED, type(error).__name__
    if not settled:
        return Prepared(leased, [], notifications)
    ready = [each for each in leased if each.content in notifications]
    others = [(each.number, *settled[each.content]) for each in leased if each.content in settled]
    settlements = [Settlement(number, state, 0, reason) for number, state, reason in others]
    return Prepared(ready, settlements, notifications)
