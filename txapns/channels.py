"""
Broadcast channels: one request reaches all devices whose Live Activity listens to a channel (iOS 18).

A broadcast goes to the same server as notifications, with a channel's identifier in place of a token::

    :method          POST                                     :status          200
    :path            /4/broadcasts/apps/com.example.app       apns-request-id  8a6f…
    authorization    bearer <JWT>
    apns-channel-id  dHN0LXNyY2gtY2hubA==
    apns-push-type   liveactivity
    apns-priority    10
    apns-expiration  0

    {"aps": {"event": "update", …}}

Another server manages the channels. It speaks the same protocol, on a port of its own::

    create  POST    /1/apps/<bundle id>/channels              201  apns-channel-id: <the new channel's>
            {"message-storage-policy": 1, "push-type": "LiveActivity"}
    read    GET     /1/apps/<bundle id>/channels              200  {"message-storage-policy": …, "push-type": …}
            apns-channel-id: <identifier>
    delete  DELETE  /1/apps/<bundle id>/channels              204
            apns-channel-id: <identifier>
    list    GET     /1/apps/<bundle id>/all-channels          200  {"channels": ["<identifier>", …]}

Here are the values of both; ``txapns._session.channels`` sends the requests about channels.

Source: "Sending broadcast push notification requests to APNs" and "Sending channel management requests to APNs".
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from urllib.parse import quote

import attrs

from txapns.errors import InvalidChannel
from txapns.notification import Notification, Priority, PushType

__all__ = [
    "LIVE_ACTIVITY",
    "Channel",
    "ChannelAnswer",
    "ChannelRequest",
    "StoragePolicy",
    "app_of",
    "broadcast_request",
    "channel_field",
]

#: The spelling of the push type in requests to the management server. In a broadcast it is in lower case.
LIVE_ACTIVITY = "LiveActivity"


class StoragePolicy(enum.IntEnum):
    """What a channel stores for devices that cannot be reached. It cannot be changed after the channel is made."""

    #: Nothing: each broadcast is tried once, and the rate may be higher. The expiration must be 0.
    NO_MESSAGE_STORED = 0
    #: The latest broadcast, until it expires, up to eight hours.
    MOST_RECENT_MESSAGE_STORED = 1


@attrs.frozen
class Channel:
    """
    A broadcast channel.

    :ivar channel_id: its identifier, base64 chosen by Apple. It is valid in one environment, and never reused.
    :ivar storage_policy: what it stores, a :class:`StoragePolicy` or another number.
    :ivar push_type: ``"LiveActivity"``, the only one that exists.
    """

    channel_id: str
    storage_policy: int
    push_type: str


@attrs.frozen
class ChannelRequest:
    """
    A request to or about a channel; a :class:`~txapns.delivery.RequestTemplate`.

    :ivar method: the request's method.
    :ivar path: its path.
    :ivar fields: its header fields.
    :ivar body: its body; empty for none.
    """

    method: bytes
    path: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes = attrs.field(default=b"", repr=lambda body: f"<{len(body)} bytes>")

    def headers(self, topic: str | None = None) -> tuple[tuple[bytes, bytes], ...]:
        """Return the header fields; a default topic is not among them."""
        return self.fields


@attrs.frozen
class ChannelAnswer:
    """
    The answer to a request about channels, if it was not rejected.

    :ivar status: its HTTP status.
    :ivar headers: its header fields.
    :ivar body: its body.
    """

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")


def broadcast_request(notification: Notification, channel_id: str, bundle_id: str | None) -> ChannelRequest:
    """
    Address a notification to a channel.

    :param notification: what to send.
    :param channel_id: the channel's identifier.
    :param bundle_id: the app's bundle id, for a notification without a topic.
    :returns: the request.
    :raises InvalidChannel: the identifier or the bundle id is missing or cannot be sent.
    """
    # Apple requires all of these three.
    push_type = PushType.LIVEACTIVITY if notification.push_type is None else notification.push_type
    priority = Priority.IMMEDIATE if notification.priority is None else notification.priority
    expiration = notification.expiration or 0
    fields = [
        channel_field(channel_id),
        (b"apns-push-type", push_type.encode()),
        (b"apns-priority", b"%d" % priority),
        (b"apns-expiration", b"%d" % expiration),
    ]
    if notification.apns_id is not None:
        fields.append((b"apns-request-id", notification.apns_id.encode()))
    path = b"/4/broadcasts/apps/" + app_of(notification.topic or bundle_id)
    return ChannelRequest(b"POST", path, tuple(fields), notification.body)


def app_of(bundle_id: str | None) -> bytes:
    """
    Encode a bundle id for a path, without the suffix that a topic for Live Activities has.

    :raises InvalidChannel: it is missing, or cannot be sent.
    """
    if not bundle_id or not isinstance(bundle_id, str):
        raise InvalidChannel("the app's bundle id is not known; pass bundle_id, or give the client a topic")
    try:
        return quote(bundle_id.removesuffix(PushType.LIVEACTIVITY.suffix), safe="").encode("ascii")
    except UnicodeEncodeError:
        raise InvalidChannel("the bundle id contains half of a surrogate pair, which no path can") from None


def channel_field(channel_id: object) -> tuple[bytes, bytes]:
    """
    Return the header field that names a channel. The server checks whether it is base64.

    :raises InvalidChannel: it is not text that a header field can have.
    """
    if not isinstance(channel_id, str) or not re.fullmatch(r"[!-~]+", channel_id):
        raise InvalidChannel("a channel's identifier must be a text of printable ASCII characters without spaces")
    return b"apns-channel-id", channel_id.encode("ascii")
