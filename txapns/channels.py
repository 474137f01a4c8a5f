"""
Broadcast channels: one request reaches all devices whose Live Activity listens to a channel (iOS 18).

A broadcast goes to the same server as notifications do, a channel's identifier in the place of a token::

    :method          POST                                     :status          200
    :path            /4/broadcasts/apps/com.example.app       apns-request-id  8a6f…
    authorization    bearer <JWT>
    apns-channel-id  dHN0LXNyY2gtY2hubA==
    apns-push-type   liveactivity
    apns-priority    10
    apns-expiration  0

    {"aps": {"event": "update", …}}

Channels themselves are another server's, which speaks the same protocol on a port of its own::

    create  POST    /1/apps/<bundle id>/channels              201  apns-channel-id: <the new channel's>
            {"message-storage-policy": 1, "push-type": "LiveActivity"}
    read    GET     /1/apps/<bundle id>/channels              200  {"message-storage-policy": …, "push-type": …}
            apns-channel-id: <identifier>
    delete  DELETE  /1/apps/<bundle id>/channels              204
            apns-channel-id: <identifier>
    list    GET     /1/apps/<bundle id>/all-channels          200  {"channels": ["<identifier>", …]}

Both travel as a notification does: a :class:`ChannelRequest` in a :class:`~txapns.delivery.Delivery` to no device,
through the pool and its connections. The management server has a pool of its own, made when it is first needed.

Source: "Sending broadcast push notification requests to APNs" and "Sending channel management requests to APNs".
"""

from __future__ import annotations

import enum
import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import attrs
from twisted.internet.defer import Deferred, fail, succeed

from txapns import reasons
from txapns._session.batch import Single
from txapns._session.pool import Pool
from txapns.delivery import Delivery
from txapns.errors import APNSError, ClientClosed, InvalidChannel, InvalidNotification, RequestRejected, WireError
from txapns.gateway import Gateway
from txapns.notification import Notification, Priority, PushType
from txapns.result import Rejection

__all__ = ["Channel", "ChannelRequest", "Channels", "StoragePolicy", "broadcast_request"]

T = TypeVar("T")

#: How the push type is spelt where channels are managed. In a broadcast it is in lower case.
LIVE_ACTIVITY = "LiveActivity"


class StoragePolicy(enum.IntEnum):
    """What a channel keeps for devices that cannot be reached. It is chosen for good when the channel is made."""

    #: Nothing: broadcasts are tried once, and there may be more of them. Their expiration has to be 0.
    NO_MESSAGE_STORED = 0
    #: The latest broadcast, until it expires, eight hours at the most.
    MOST_RECENT_MESSAGE_STORED = 1


@attrs.frozen
class Channel:
    """
    A broadcast channel.

    :ivar channel_id: its identifier, base64 that Apple chose. It is good in one environment, and never given again.
    :ivar storage_policy: what it keeps, a :class:`StoragePolicy` or another number.
    :ivar push_type: ``"LiveActivity"``, the only one there is.
    """

    channel_id: str
    storage_policy: int
    push_type: str


@attrs.frozen
class ChannelRequest:
    """
    What is sent to, or asked about, a channel; a :class:`~txapns.delivery.RequestTemplate`.

    :ivar method: the request's method.
    :ivar path: its path.
    :ivar fields: its header fields.
    :ivar body: its body; empty for none.
    """

    method: bytes
    path: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes = attrs.field(default=b"", repr=lambda body: f"<{len(body)} bytes>")

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Give the header fields."""
        return self.fields


def broadcast_request(notification: Notification, channel_id: str, bundle_id: str | None) -> ChannelRequest:
    """
    Address a notification to a channel.

    :param notification: what to send.
    :param channel_id: the channel's identifier.
    :param bundle_id: the app's bundle id, for a notification whose topic does not tell it.
    :returns: the request.
    :raises InvalidChannel: the identifier or the bundle id is missing, or cannot stand in a request.
    """
    # Apple lets none of these three be left out.
    push_type = PushType.LIVEACTIVITY if notification.push_type is None else notification.push_type
    priority = Priority.IMMEDIATE if notification.priority is None else notification.priority
    expiration = notification.expiration or 0
    fields = [
        _channel(channel_id),
        (b"apns-push-type", push_type.encode()),
        (b"apns-priority", b"%d" % priority),
        (b"apns-expiration", b"%d" % expiration),
    ]
    if notification.apns_id is not None:
        fields.append((b"apns-request-id", notification.apns_id.encode()))
    path = b"/4/broadcasts/apps/" + _app(notification.topic or bundle_id)
    return ChannelRequest(b"POST", path, tuple(fields), notification.body)


class Channels:
    """
    The channels of a client's app: ``client.channels``.

    There is no batch here that could hold a refusal as one of its outcomes, and who asked for a channel has none when
    Apple refuses; so a refusal is an exception, :exc:`~txapns.errors.RequestRejected`. Nothing is asked again by
    itself, but for what the server provably did not process, and where it was the connection that it refused
    (``Shutdown``). Each call returns a ``Deferred`` that may also fail with

    - :exc:`~txapns.errors.OutcomeUnknown`: it went out and no answer came. To read, list or delete again does no harm;
      a channel that may have been created is in the list.
    - :exc:`~txapns.errors.WireError`: the answer is not what was asked for;
    - :exc:`~txapns.errors.InvalidGateway`: the gateway has no server that manages channels;
    - :exc:`~txapns.errors.InvalidChannel`: an identifier is missing, or cannot stand in a request;
    - another :exc:`~txapns.errors.APNSError`: the server was not asked.

    :param gateway: the client's gateway.
    :param bundle_id: the app's bundle id, where a call gives none.
    :param make_pool: makes the pool for the management server.
    :param touch: is called, with anything, whenever the client counts as used.
    """

    def __init__(
        self,
        gateway: Gateway,
        bundle_id: str | None,
        make_pool: Callable[[Gateway], Pool],
        touch: Callable[[Any], Any],
    ) -> None:
        self._gateway = gateway
        self._bundle_id = bundle_id
        self._make_pool = make_pool
        self._touch = touch
        self._pool: Pool | None = None
        self._closed = False

    def create(
        self,
        storage_policy: int = StoragePolicy.NO_MESSAGE_STORED,
        *,
        push_type: str = LIVE_ACTIVITY,
        bundle_id: str | None = None,
    ) -> Deferred[Channel]:
        """
        Make a channel. An app may have 10,000 in each environment.

        :param storage_policy: a :class:`StoragePolicy`, or another number.
        :param push_type: what will be sent to it. Apple knows no other.
        :param bundle_id: the app's bundle id, without any suffix; left out, the client's.
        :returns: a ``Deferred`` of the channel.
        :raises InvalidNotification: (through the ``Deferred``) the policy is not a whole number.
        """
        try:
            policy = operator.index(storage_policy)
        except TypeError:
            return fail(InvalidNotification(f"a storage policy is a whole number, not {storage_policy!r}"))

        def made(headers: Mapping[bytes, bytes], body: bytes) -> Channel:
            channel_id = headers.get(b"apns-channel-id", b"").decode("utf-8", "replace")
            if not channel_id:
                raise WireError("the server made a channel, and does not say which")
            return Channel(channel_id, policy, str(push_type))

        content = json.dumps({"message-storage-policy": policy, "push-type": str(push_type)}).encode()
        return self._ask(made, b"POST", b"channels", bundle_id, content=content)

    def read(self, channel_id: str, *, bundle_id: str | None = None) -> Deferred[Channel]:
        """
        Find out about a channel.

        :param channel_id: its identifier.
        :param bundle_id: the app's bundle id, without any suffix; left out, the client's.
        :returns: a ``Deferred`` of the channel.
        """

        def found(headers: Mapping[bytes, bytes], body: bytes) -> Channel:
            document = _document(body)
            policy, push_type = document.get("message-storage-policy"), document.get("push-type")
            if not isinstance(policy, int) or not isinstance(push_type, str):
                raise WireError("the answer does not tell the channel's policy and push type")
            return Channel(channel_id, policy, push_type)

        return self._ask(found, b"GET", b"channels", bundle_id, channel_id)

    def delete(self, channel_id: str, *, bundle_id: str | None = None) -> Deferred[None]:
        """
        Delete a channel, for good. What it stores may still be delivered.

        :param channel_id: its identifier.
        :param bundle_id: the app's bundle id, without any suffix; left out, the client's.
        :returns: a ``Deferred`` that fires when it is deleted.
        """
        return self._ask(lambda headers, body: None, b"DELETE", b"channels", bundle_id, channel_id)

    def list(self, *, bundle_id: str | None = None) -> Deferred[list[str]]:
        """
        Find all channels of the app.

        :param bundle_id: the app's bundle id, without any suffix; left out, the client's.
        :returns: a ``Deferred`` of their identifiers, in the server's order.
        """

        def found(headers: Mapping[bytes, bytes], body: bytes) -> list[str]:
            channels = _document(body).get("channels")
            if not isinstance(channels, list) or not all(isinstance(channel, str) for channel in channels):
                raise WireError("the answer has no list of channels")
            return channels

        return self._ask(found, b"GET", b"all-channels", bundle_id)

    @property
    def busy(self) -> bool:
        """Whether something is asked, or about to be."""
        return self._pool is not None and self._pool.busy

    def close(self, error: APNSError) -> Deferred[None]:
        """
        Ask nothing more, let what is asked be answered, and close.

        :param error: what to tell of what waits.
        :returns: a ``Deferred`` that fires when the connection is closed.
        """
        self._closed = True
        return succeed(None) if self._pool is None else self._pool.close(error)

    def _ask(
        self,
        read: Callable[[Mapping[bytes, bytes], bytes], T],
        method: bytes,
        what: bytes,
        bundle_id: str | None,
        *named: str,
        content: bytes = b"",
    ) -> Deferred[T]:
        self._touch(None)
        try:
            if self._closed:
                raise ClientClosed("the client is closed")
            path = b"/1/apps/%b/%b" % (_app(bundle_id or self._bundle_id), what)
            request = ChannelRequest(method, path, tuple(map(_channel, named)), content)
            if self._pool is None:
                self._pool = self._make_pool(self._gateway.management())
            return _Asking(self._pool, read).ask(request).addBoth(self._touch)
        except APNSError as error:
            return fail(error)


class _Asking(Single[T]):
    """
    A question to the management server.

    :param pool: the pool of that server.
    :param read: makes of the header fields and the body of its answer what was asked for, or raises ``WireError``.
    """

    def __init__(self, pool: Pool, read: Callable[[Mapping[bytes, bytes], bytes], T]) -> None:
        super().__init__(pool)
        self._read = read

    def ask(self, request: ChannelRequest) -> Deferred[T]:
        """Begin."""
        return self.submit(Delivery(self, None, "", b"", request))

    def accepted(self, delivery: Delivery, headers: Sequence[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """It did so."""
        try:
            outcome = self._read(dict(headers), body)
        except WireError as error:
            self.fail(error)
        else:
            self.settle(outcome)

    def rejected(self, delivery: Delivery, rejection: Rejection) -> None:
        """The server rejected the request."""
        status, reason = rejection.status, rejection.reason
        said = f"{reason or status}: {reasons.text(status, reason)}"
        self.fail(RequestRejected(said, status, reason, rejection.apns_id, rejection.retry_after))


def _app(bundle_id: str | None) -> bytes:
    """Write a bundle id as it stands in a path; from a topic for Live Activities its suffix is taken away."""
    if not bundle_id or not isinstance(bundle_id, str):
        raise InvalidChannel("nothing tells the app's bundle id; give it, or give the client a topic")
    try:
        return quote(bundle_id.removesuffix(PushType.LIVEACTIVITY.suffix), safe="").encode("ascii")
    except UnicodeEncodeError:
        raise InvalidChannel("the bundle id has half of a surrogate pair; no path can") from None


def _channel(channel_id: object) -> tuple[bytes, bytes]:
    """Make the header field that names a channel. Whether it is base64 is for the server to say."""
    if not isinstance(channel_id, str) or not re.fullmatch(r"[!-~]+", channel_id):
        raise InvalidChannel("a channel's identifier is a text of printable ASCII characters, without spaces")
    return b"apns-channel-id", channel_id.encode("ascii")


def _document(body: bytes) -> dict[str, Any]:
    """Read the JSON object that was asked for."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise WireError("the answer is not a JSON object, or longer than any list of channels")
    return document
