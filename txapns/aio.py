"""
The client for programs on asyncio: the names, arguments and results of ``txapns``, to be awaited in tasks::

    async with APNSClient(credential, "production") as client:
        batch = await client.send(notification, tokens)

A client lives on one event loop, of asyncio's or uvloop's: the one that runs when it is first used. It may be made
before. Its connections are on that loop; it has no threads, and Twisted's own reactor never runs.

Close it, or leave its ``async with`` block. A client that is still open when the loop ends is closed by
``asyncio.run``, which waits for its last answers for no more than a second.

What the client logs goes to ``logging``, as that of :mod:`txapns.blocking` does.

When the task that sends a batch is cancelled, or its ``asyncio.timeout`` is over, nothing more is sent. What was known
by then is not lost: :func:`batch_of` finds it in the exception.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import attrs

from txapns import result
from txapns._reactors.awaiting import iterated, result_of
from txapns.channels import LIVE_ACTIVITY, Channel, StoragePolicy
from txapns.errors import TokensFailed
from txapns.result import Accepted, Outcomes, Rejection, Resendable

__all__ = ["APNSClient", "Batch", "Channels", "Session", "batch_of"]

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from typing_extensions import Self, Unpack

    from txapns import client as on_twisted
    from txapns._network.proxy import Proxy
    from txapns._session.tokens import Token, Tokens, Triple
    from txapns.client import ClientStatus
    from txapns.credentials import Credential
    from txapns.feedback import DeadToken
    from txapns.gateway import Gateway
    from txapns.interfaces import IMetrics
    from txapns.notification import Notification
    from txapns.options import ClientOptions


@attrs.frozen(eq=False)
class Batch(Outcomes):
    """The outcome of a whole batch that :class:`txapns.aio.APNSClient` sent."""

    _resend: Callable[[list[Resendable]], Awaitable[Batch]] = attrs.field(kw_only=True, repr=False)

    async def retry(self, uncertain: bool = False) -> Batch:
        """
        Send what is unsent again, with the same client, notifications and identifiers.

        :param uncertain: also send what is uncertain again, and accept that some may be shown twice.
        :returns: the new batch.
        """
        return await self._resend(self.resendable(uncertain))


def batch_of(error: BaseException) -> Batch | None:
    """
    Find what was known of a batch when it was cancelled, or when its tokens failed.

    :param error: the ``asyncio.CancelledError``, or the ``TimeoutError`` of ``asyncio.timeout`` or
        ``asyncio.wait_for``, or a :exc:`~txapns.errors.TokensFailed`.
    :returns: the batch. What waited is unsent, and what was in flight is uncertain; tokens that were not pulled from
        the iterable are not in it. ``None`` if the exception is not about a batch.
    """
    found: BaseException | None = error
    while found is not None:
        batch = getattr(found, "batch", None)
        if isinstance(batch, Batch):
            return batch
        found = found.__cause__ or found.__context__
    return None


class APNSClient:
    """
    Sends the notifications of one app to one gateway, as :class:`txapns.APNSClient` does, on asyncio.

    :param credential: a :class:`~txapns.Certificate` or a :class:`~txapns.ProviderToken`.
    :param gateway: ``"production"``, ``"sandbox"``, a :class:`~txapns.Gateway`, or text that describes one.
    :param topic: as for :class:`txapns.APNSClient`.
    :param metrics: as for :class:`txapns.APNSClient`.
    :param proxy: as for :class:`txapns.APNSClient`.
    :param options: the keywords of :class:`~txapns.options.ClientOptions`.
    :raises InvalidGateway: the gateway or the proxy is not valid.
    :raises InvalidNotification: the topic cannot be sent.
    :raises ValueError: an option is out of range.
    :raises CredentialError: the gateway's protocol cannot use this credential.

    Each method raises :exc:`~txapns.errors.ClientElsewhere` where the client does not belong: on another event loop, or
    in another process.
    """

    def __init__(
        self,
        credential: Credential,
        gateway: str | Gateway = "production",
        *,
        topic: str | None = None,
        metrics: IMetrics | None = None,
        proxy: str | Proxy | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        from txapns._reactors.loop_clients import client_on_loop  # here, since Twisted takes long to import

        here = client_on_loop(credential, gateway, topic, metrics, proxy, **options)
        self._settle(here.get, here.close)

    def _settle(self, get: Callable[[], on_twisted.APNSClient], close: Callable[[], Awaitable[None]]) -> None:
        self._get = get
        self._close = close
        self.channels = Channels(get)

    async def __aenter__(self) -> Self:
        self._get()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, notification: Notification, tokens: Tokens, *, deadline: float | None = None) -> Batch:
        """
        Send one notification to many devices.

        :param notification: what to send.
        :param tokens: an iterable or async iterable of device tokens (``str`` is hexadecimal, ``bytes`` is raw), or of
            pairs of an identifier and a token, or a mapping of identifiers to tokens. It is read as fast as APNs
            accepts them, so it may be long; an async iterable is read in a task of its own. The default identifier is
            the position (0, 1, 2 …).
        :param deadline: after this many seconds the rest is not sent any more, but reported as unsent.
        :returns: the batch.
        :raises TokensFailed: the iterable raised an exception.
        :raises ClientClosed: the client is closed.
        :raises TypeError: an argument has the wrong type.
        :raises ValueError: the deadline is not a non-negative number of seconds.
        """
        return await self._batch(self._get().send(notification, tokens, deadline=deadline))

    async def send_many(
        self, triples: Iterable[Triple] | AsyncIterable[Triple], *, deadline: float | None = None
    ) -> Batch:
        """
        Send each device its own notification.

        :param triples: an iterable or async iterable of ``(identifier, Notification, token)``.
        :param deadline: after this many seconds the rest is not sent any more, but reported as unsent.
        :returns: the batch.
        :raises: the same as :meth:`send`.
        """
        return await self._batch(self._get().send_many(triples, deadline=deadline))

    async def send_one(self, notification: Notification, token: Token) -> Accepted | Rejection:
        """
        Send one notification to one device. If the task is cancelled, it may or may not be delivered.

        :param notification: what to send.
        :param token: the device token, hexadecimal text or raw bytes.
        :returns: the outcome.
        :raises InvalidToken: the token cannot be sent.
        :raises QueueFull: ``max_queued`` notifications are waiting already.
        :raises OutcomeUnknown: it was sent and no answer came: it may have been delivered.
        :raises APNSError: any other: it was not processed, so it can be sent again safely.
        :raises TypeError: an argument has the wrong type.
        """
        return await result_of(self._get().send_one(notification, token))

    async def when_ready(self) -> None:
        """Wait until :meth:`send_one` can take a notification, or the client is closed. Callers take turns."""
        await result_of(self._get().when_ready())

    async def broadcast(self, notification: Notification, channel_id: str) -> Accepted | Rejection:
        """
        Send one notification to a channel, as :meth:`txapns.APNSClient.broadcast` does.

        :param notification: what to send.
        :param channel_id: the channel's identifier.
        :returns: the outcome.
        :raises: the same as :meth:`txapns.APNSClient.broadcast`.
        """
        return await result_of(self._get().broadcast(notification, channel_id))

    async def feedback(self) -> list[DeadToken]:
        """
        Read the dead tokens from the feedback service, as :meth:`txapns.APNSClient.feedback` does.

        :returns: pairs of the token in lower-case hexadecimal, and when the service found the app gone, in UTC.
        :raises: the same as :meth:`txapns.APNSClient.feedback`.
        """
        return await result_of(self._get().feedback())

    def iterate_feedback(self) -> AsyncGenerator[DeadToken, None]:
        """
        Read the same list one token after the other, as :meth:`txapns.APNSClient.iterate_feedback` does.

        :returns: an asynchronous iterator over the same pairs.
        """
        return iterated(self._get().iterate_feedback())

    def status(self) -> ClientStatus:
        """
        Return the client's status, without requests about channels and their connection.

        :returns: a value without secrets.
        """
        return self._get().status()

    async def close(self) -> None:
        """
        Report what waits as unsent, wait for the answers to what is in flight, and close, within ``timeout`` and a few
        seconds. To close again does nothing.
        """
        await self._close()

    async def _batch(self, sending: Deferred[result.Batch]) -> Batch:
        """Wait for a batch. When the task is cancelled, the exception gets what was known by then."""
        ended: list[Any] = []

        def keep(outcome: Any) -> Any:
            ended.append(outcome)
            return outcome

        try:
            return self._own(await result_of(sending.addBoth(keep)))
        except TokensFailed as failed:
            failed.batch = self._own(failed.batch)
            raise
        except asyncio.CancelledError as cancelled:
            outcome = getattr(ended[0], "value", ended[0])  # a failure has one
            batch = getattr(outcome, "batch", outcome)
            if isinstance(batch, result.Batch):
                cast(Any, cancelled).batch = self._own(batch)
            raise

    def _own(self, batch: result.Batch) -> Batch:
        return Batch(batch.accepted, batch.outcomes, batch.unique_ids, resend=self.send_many)


class Channels:
    """
    The channels of a client's app: ``client.channels``. The methods raise the exceptions that :class:`txapns.Channels`
    names.
    """

    def __init__(self, get: Callable[[], on_twisted.APNSClient]) -> None:
        self._get = get

    async def create(
        self,
        storage_policy: int = StoragePolicy.NO_MESSAGE_STORED,
        *,
        push_type: str = LIVE_ACTIVITY,
        bundle_id: str | None = None,
    ) -> Channel:
        """
        Make a channel.

        :param storage_policy: a :class:`~txapns.StoragePolicy`, or another number.
        :param push_type: what will be sent to it. Apple supports no other.
        :param bundle_id: the app's bundle id, without any suffix; by default the client's.
        :returns: the channel.
        """
        channels = self._get().channels
        return await result_of(channels.create(storage_policy, push_type=push_type, bundle_id=bundle_id))

    async def read(self, channel_id: str, *, bundle_id: str | None = None) -> Channel:
        """
        Read a channel's properties.

        :param channel_id: its identifier.
        :param bundle_id: the app's bundle id, without any suffix; by default the client's.
        :returns: the channel.
        """
        return await result_of(self._get().channels.read(channel_id, bundle_id=bundle_id))

    async def delete(self, channel_id: str, *, bundle_id: str | None = None) -> None:
        """
        Delete a channel permanently.

        :param channel_id: its identifier.
        :param bundle_id: the app's bundle id, without any suffix; by default the client's.
        """
        await result_of(self._get().channels.delete(channel_id, bundle_id=bundle_id))

    async def list(self, *, bundle_id: str | None = None) -> list[str]:
        """
        List the channels of the app.

        :param bundle_id: the app's bundle id, without any suffix; by default the client's.
        :returns: their identifiers, in the server's order.
        """
        return await result_of(self._get().channels.list(bundle_id=bundle_id))


class Session:
    """
    The clients of a program that serves many apps, as :class:`txapns.Session`, on asyncio.

    :param proxy: as for :class:`APNSClient`.
    :param options: the keywords of :class:`~txapns.options.ClientOptions`. With ``idle_timeout=None`` clients are never
        closed.
    :raises InvalidGateway: the proxy is not valid.
    :raises ValueError: an option is out of range.
    """

    def __init__(self, *, proxy: str | Proxy | None = None, **options: Unpack[ClientOptions]) -> None:
        from txapns._reactors.loop_clients import session_on_loop  # here, since Twisted takes long to import

        self._here = session_on_loop(proxy, **options)

    async def __aenter__(self) -> Self:
        self._here.get()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def client(
        self,
        credential: Credential,
        gateway: str | Gateway = "production",
        *,
        topic: str | None = None,
        metrics: IMetrics | None = None,
    ) -> APNSClient:
        """
        Return a client for a credential. Ask for it each time; those for an equal credential share their connections.

        :param credential: a certificate or provider token; compared by fingerprint.
        :param gateway: as for :class:`APNSClient`.
        :param topic: as for :class:`APNSClient`.
        :param metrics: as for :class:`APNSClient`, if the client does not exist yet.
        :returns: a client for credential, gateway and topic.
        :raises ClientElsewhere: the session belongs to another event loop or process.
        :raises ClientClosed: the session is closed.
        :raises InvalidGateway: the gateway is not valid.
        :raises CredentialError: the gateway's protocol cannot use this credential.
        """
        shared = self._here.get().client(credential, gateway, topic=topic, metrics=metrics)

        def get() -> on_twisted.APNSClient:
            self._here.get()  # refuses other loops and processes
            return shared

        async def close() -> None:
            await result_of(get().close())

        client = APNSClient.__new__(APNSClient)
        client._settle(get, close)
        return client

    async def close(self) -> None:
        """Close all clients."""
        await self._here.close()
