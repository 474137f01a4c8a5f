"""
The requests that manage broadcast channels. They go to a server of their own; see :mod:`txapns.channels`.

They travel like a notification: a :class:`~txapns.channels.ChannelRequest` in a :class:`~txapns.delivery.Delivery`
without a device, through a pool and its connections, as broadcasts do. The management server has a pool of its own,
made when it is first needed.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from txapns import reasons
from txapns._session.batch import Single
from txapns._session.pool import Pool
from txapns.channels import LIVE_ACTIVITY, Channel, ChannelAnswer, ChannelRequest, StoragePolicy, app_of, channel_field
from txapns.delivery import Delivery
from txapns.errors import APNSError, ClientClosed, InvalidNotification, RequestRejected, WireError
from txapns.result import Rejection

__all__ = ["Channels"]


class Channels:
    """
    The channels of a client's app: ``client.channels``.

    There is no batch here in which a rejection could be one of the outcomes, and without Apple's answer there is no
    channel to return; so a rejection is an exception, :exc:`~txapns.errors.RequestRejected`. Requests are not repeated,
    except for those that the server provably did not process, and those that it rejected because of the connection
    (``Shutdown``). Each call returns a ``Deferred`` that may also fail with

    - :exc:`~txapns.errors.OutcomeUnknown`: it was sent and no answer came. It is safe to read, list or delete again; if
      a channel was created, it is in the list.
    - :exc:`~txapns.errors.WireError`: the answer is malformed;
    - :exc:`~txapns.errors.InvalidGateway`: the gateway has no server that manages channels;
    - :exc:`~txapns.errors.InvalidChannel`: an identifier is missing or cannot be sent;
    - another :exc:`~txapns.errors.APNSError`: the request was not processed.

    :param bundle_id: the default for the app's bundle id.
    :param make_pool: makes the pool for the management server, or raises ``InvalidGateway``.

    :ivar bundle_id: the same; ``None`` if there is no default.
    """

    def __init__(self, bundle_id: str | None, make_pool: Callable[[], Pool]) -> None:
        self.bundle_id = bundle_id
        self._make_pool = make_pool
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

        :param storage_policy: a :class:`~txapns.StoragePolicy`, or another number.
        :param push_type: what will be sent to it. Apple supports no other.
        :param bundle_id: the app's bundle id, without any suffix; by default the client's.
        :returns: a ``Deferred`` of the channel.
        :raises InvalidNotification: (through the ``Deferred``) the policy is not an integer.
        """
        try:
            policy = operator.index(storage_policy)
        except TypeError:
            return fail(InvalidNotification(f"a storage policy must be an integer, not {storage_policy!r}"))

        def made(answer: ChannelAnswer) -> Channel:
            channel_id = answer.headers.get(b"apns-channel-id", b"").decode("utf-8", "replace")
            if not channel_id:
                raise WireError("the server created a channel, but its answer does not name it")
            return Channel(channel_id, policy, str(push_type))

        content = json.dumps({"message-storage-policy": policy, "push-type": str(push_type)}).encode()
        return self._ask(b"POST", b"channels", bundle_id, content=content).addCallback(made)

    def read(self, channel_id: str, *, bundle_id: str | None = None) -> Deferred[Channel]:
        """
        Read a channel's properties.

        :param channel_id: its identifier.
        :param bundle_id: the app's bundle id, without any suffix; by default the client's.
        :returns: a ``Deferred`` of the channel.
        """

        def found(answer: ChannelAnswer) -> Channel:
            document = _document(answer.body)
            policy, push_type = document.get("message-storage-policy"), document.get("push-type")
            if not isinstance(policy, int) or not isinstance(push_type, str):
                raise WireError("the answer lacks the channel's policy or push type")
            return Channel(channel_id, policy, push_type)

        return self._ask(b"GET", b"channels", bundle_id, channel_id).addCallback(found)

    def delete(self, channel_id: str, *, bundle_id: str | None = None) -> Deferred[None]:
        """
        Delete a channel permanently. What it stores may still be delivered.

        :param channel_id: its identifier.
        :param bundle_id: the app's bundle id, without any suffix; by default the client's.
        :returns: a ``Deferred`` that fires when it is deleted.
        """
        return self._ask(b"DELETE", b"channels", bundle_id, channel_id).addCallback(lambda _: None)

    def list(self, *, bundle_id: str | None = None) -> Deferred[list[str]]:
        """
        List the channels of the app.

        :param bundle_id: the app's bundle id, without any suffix; by default the client's.
        :returns: a ``Deferred`` of their identifiers, in the server's order.
        """

        def found(answer: ChannelAnswer) -> list[str]:
            channels = _document(answer.body).get("channels")
            if not isinstance(channels, list) or not all(isinstance(channel, str) for channel in channels):
                raise WireError("the answer has no list of channels")
            return channels

        return self._ask(b"GET", b"all-channels", bundle_id).addCallback(found)

    def forward(self, request: ChannelRequest) -> Deferred[ChannelAnswer]:
        """
        Send a request as it is, for a program that stands between another and Apple.

        :param request: the request.
        :returns: a ``Deferred`` of the answer as it came.
        """
        try:
            if self._closed:
                raise ClientClosed("the client is closed")
            if self._pool is None:
                self._pool = self._make_pool()
            return self._pool.submit(_Asking(self._pool, None, "", b"", request))
        except APNSError as error:
            return fail(error)

    @property
    def busy(self) -> bool:
        """Whether a request is in flight or waits."""
        return self._pool is not None and self._pool.busy

    @property
    def used(self) -> float:
        """When a request was last sent or answered, by the reactor's clock; 0 if none was."""
        return 0.0 if self._pool is None else self._pool.used

    def close(self, error: APNSError) -> Deferred[None]:
        """
        Send nothing more, wait for the answers to what is in flight, and close.

        :param error: the reason reported for what waits.
        :returns: a ``Deferred`` that fires when the connection is closed.
        """
        self._closed = True
        return succeed(None) if self._pool is None else self._pool.close(error)

    def abort(self, error: APNSError) -> None:
        """
        End the connection at once, after :meth:`close`.

        :param error: the reason reported for what is in flight.
        """
        if self._pool is not None:
            self._pool.abort(error)

    def _ask(
        self, method: bytes, what: bytes, bundle_id: str | None, *named: str, content: bytes = b""
    ) -> Deferred[ChannelAnswer]:
        try:
            path = b"/1/apps/%b/%b" % (app_of(bundle_id or self.bundle_id), what)
            return self.forward(ChannelRequest(method, path, tuple(map(channel_field, named)), content))
        except APNSError as error:
            return fail(error)


class _Asking(Single[ChannelAnswer]):
    """A request to the management server."""

    def accepted(self, delivery: Delivery, headers: Sequence[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """The server answered it."""
        fields = dict(headers)
        self.settle(ChannelAnswer(int(fields[b":status"]), fields, body))

    def rejected(self, delivery: Delivery, rejection: Rejection) -> None:
        """The server rejected the request."""
        status, reason = rejection.status, rejection.reason
        said = f"{reason or status}: {reasons.text(status, reason)}"
        refused = RequestRejected(said, status, reason, rejection.apns_id, rejection.retry_after)
        self.settle(Failure(refused))


def _document(body: bytes) -> dict[str, Any]:
    """Read the JSON object in an answer."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise WireError("the answer is not a JSON object, or longer than any list of channels")
    return document
