"""
Calls that wait for their results, for programs without Twisted::

    with APNSClient(credential, topic="com.example.app") as client:
        batch = client.send(Notification(alert="Hello"), tokens)

The names, arguments and results are those of :class:`txapns.APNSClient` and :class:`txapns.Session`, but there is no
reactor, and each method returns its result instead of a ``Deferred`` of it.

A client may be used by any number of threads at once. Tokens are pulled from the iterable in the thread that calls, as
fast as APNs accepts them. A process that was forked, and one that got the client pickled, makes connections of its own.
Connections and timers live in a thread of their own, in which a Twisted reactor runs from the first use until the last
client is closed; it is independent of any other reactor or event loop of the program.

What the client logs goes to the standard library's ``logging``, to loggers below ``txapns``, unless the program listens
to Twisted's log.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable
from contextlib import suppress
from functools import partial
from operator import methodcaller
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import attrs
from twisted.internet.defer import Deferred, succeed

from txapns import client as on_twisted
from txapns import result
from txapns._network.proxy import Proxy, read_proxy
from txapns._reactors.feed import Feed
from txapns._reactors.resident import Resident
from txapns._reactors.settings import checked
from txapns._reactors.thread import Call, Ended, ReactorThread
from txapns._session.batch import SendCancelled
from txapns._session.tokens import Token, Tokens, Triple, triples_of
from txapns.channels import LIVE_ACTIVITY, Channel, StoragePolicy
from txapns.client import ClientStatus
from txapns.credentials import Credential
from txapns.errors import ClientClosed, TokensFailed
from txapns.feedback import DeadToken
from txapns.gateway import Gateway
from txapns.interfaces import IMetrics
from txapns.notification import Notification
from txapns.options import ClientOptions, Options
from txapns.result import Accepted, Outcomes, Rejection, Resendable, without_client

__all__ = ["APNSClient", "Batch", "Channels", "SendInterrupted", "Session"]

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

R = TypeVar("R")
T = TypeVar("T")

#: Of how many credentials a session remembers that they were checked.
KNOWN = 10_000
#: How long a ``with`` statement that Ctrl-C ended waits for what is in flight, in seconds.
HURRY = 1.0
#: How many tokens of the feedback service are read at a time.
PART = 1_000
#: How long a call that Ctrl-C ended waits for what is known of its batch, in seconds: the reactor has it at once.
LAST_WORD = 5.0


@attrs.frozen(eq=False)
class Batch(Outcomes):
    """The outcome of a whole batch that :class:`txapns.blocking.APNSClient` sent."""

    _resend: Callable[[list[Resendable]], Batch] = attrs.field(default=without_client, kw_only=True, repr=False)

    def retry(self, uncertain: bool = False) -> Batch:
        """
        Send what is unsent again, with the same client, notifications and identifiers.

        :param uncertain: also send what is uncertain again, and accept that some may be shown twice.
        :returns: the new batch.
        """
        return self._resend(self.resendable(uncertain))


class SendInterrupted(KeyboardInterrupt):
    """
    Ctrl-C, or another ``KeyboardInterrupt``, while a batch was being sent.

    It is a ``KeyboardInterrupt``, so a program that does not know it ends as it should. Any other exception that a
    signal handler raises in the midst of a batch, such as a task queue's time limit, is not replaced, but it has the
    same attribute.

    :ivar batch: what was known by then, a :class:`Batch`. What waited is unsent; what was in flight is uncertain.
        Tokens that were not pulled from the iterable are not in it. ``None`` if it is not known.
    """

    def __init__(self, message: str, batch: Batch | None) -> None:
        super().__init__(message, batch)
        self.batch = batch

    def __str__(self) -> str:
        """The message alone."""
        return str(self.args[0])


@attrs.frozen
class _Place(Generic[T]):
    """
    Where the client of Twisted's kind is found.

    :ivar resident: the client itself, or the session that has it.
    :ivar find: returns the client, in the reactor's thread.
    """

    resident: Resident[T]
    find: Callable[[T], on_twisted.APNSClient]

    def begin(
        self, work: Callable[[on_twisted.APNSClient], Deferred[R]], ended: Callable[[], None] | None = None
    ) -> tuple[ReactorThread, Call[R]]:
        return self.resident.begin(lambda made: work(self.find(made)), ended)

    def run(self, work: Callable[[on_twisted.APNSClient], Deferred[R]]) -> R:
        return self.resident.run(lambda made: work(self.find(made)))


class APNSClient:
    """
    Sends the notifications of one app to one gateway, as :class:`txapns.APNSClient` does, and waits for the results.

    Any number of threads may use it at once. Use it in a ``with`` statement, or call :meth:`close` in the end; at the
    exit of the interpreter clients are closed, too, but what is in flight then has only 5 seconds to be answered.

    :param credential: a :class:`~txapns.Certificate` or a :class:`~txapns.ProviderToken`.
    :param gateway: ``"production"``, ``"sandbox"``, a :class:`~txapns.Gateway`, or text that describes one.
    :param topic: as for :class:`txapns.APNSClient`.
    :param metrics: as for :class:`txapns.APNSClient`; it is called in the reactor's thread.
    :param proxy: as for :class:`txapns.APNSClient`.
    :param options: the keywords of :class:`~txapns.options.ClientOptions`.
    :raises InvalidGateway: the gateway or the proxy is not valid.
    :raises InvalidNotification: the topic cannot be sent.
    :raises ValueError: an option is out of range.
    :raises CredentialError: the gateway's protocol cannot use this credential.

    :ivar gateway: where it sends.
    :ivar credential: with what.
    :ivar channels: the app's broadcast channels, a :class:`Channels`.
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
        gateway = checked(credential, gateway, topic, proxy, **options)
        arguments: dict[str, Any] = {"credential": credential, "gateway": gateway, "topic": topic, "metrics": metrics}
        arguments.update(options)
        make = partial(on_twisted.APNSClient, **arguments)
        place = Resident(make, on_twisted.APNSClient.close, "client")
        weakref.finalize(self, place.abandon).atexit = False
        self._settle(arguments, _Place(place, lambda client: client), partial(APNSClient, **arguments))

    def _settle(self, arguments: dict[str, Any], place: _Place[Any], copy: Callable[[], APNSClient]) -> None:
        self.credential: Credential = arguments["credential"]
        self.gateway: Gateway = arguments["gateway"]
        self._place = place
        self._copy = copy
        self.channels = Channels(place.run)

    def __reduce__(self) -> tuple[Callable[[], APNSClient], tuple[()]]:
        return self._copy, ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # After Ctrl-C nobody is there any more who would be told the outcome of what is in flight.
        self._close(None if error is None or isinstance(error, Exception) else HURRY)

    def send(self, notification: Notification, tokens: Tokens, *, deadline: float | None = None) -> Batch:
        """
        Send one notification to many devices.

        :param notification: what to send.
        :param tokens: an iterable of device tokens (``str`` is hexadecimal, ``bytes`` is raw), or of pairs of an
            identifier and a token, or a mapping of identifiers to tokens. It is read in this thread, as fast as APNs
            accepts them, so it may be long. The default identifier is the position (0, 1, 2 …).
        :param deadline: after this many seconds the rest is not sent any more, but reported as unsent.
        :returns: the batch.
        :raises TokensFailed: the iterable raised an exception.
        :raises ClientClosed: the client is closed.
        :raises SendInterrupted: Ctrl-C was pressed.
        :raises TypeError: an argument has the wrong type.
        :raises ValueError: the deadline is not a non-negative number of seconds.
        """
        return self._send(triples_of(notification, tokens), deadline)

    def send_many(self, triples: Iterable[Triple], *, deadline: float | None = None) -> Batch:
        """
        Send each device its own notification.

        :param triples: an iterable of ``(identifier, Notification, token)``.
        :param deadline: after this many seconds the rest is not sent any more, but reported as unsent.
        :returns: the batch.
        :raises: the same as :meth:`send`.
        """
        return self._send(triples, deadline)

    def send_one(self, notification: Notification, token: Token) -> Accepted | Rejection:
        """
        Send one notification to one device.

        :param notification: what to send.
        :param token: the device token, hexadecimal text or raw bytes.
        :returns: the outcome.
        :raises InvalidToken: the token cannot be sent.
        :raises QueueFull: ``max_queued`` notifications are waiting already.
        :raises OutcomeUnknown: it was sent and no answer came: it may have been delivered.
        :raises APNSError: any other: it was not processed, so it can be sent again safely.
        :raises TypeError: an argument has the wrong type.
        """
        return self._place.run(lambda client: client.send_one(notification, token))

    def when_ready(self) -> None:
        """Wait until :meth:`send_one` can take a notification, or the client is closed. Callers take turns."""
        self._place.run(lambda client: client.when_ready())

    def broadcast(self, notification: Notification, channel_id: str) -> Accepted | Rejection:
        """
        Send one notification to a channel, as :meth:`txapns.APNSClient.broadcast` does.

        :param notification: what to send.
        :param channel_id: the channel's identifier.
        :returns: the outcome.
        :raises: the same as :meth:`txapns.APNSClient.broadcast`.
        """
        return self._place.run(lambda client: client.broadcast(notification, channel_id))

    def feedback(self) -> list[DeadToken]:
        """
        Read the dead tokens from the feedback service, as :meth:`txapns.APNSClient.feedback` does.

        :returns: pairs of the token in lower-case hexadecimal, and when the service found the app gone, in UTC.
        :raises: the same as :meth:`txapns.APNSClient.feedback`.
        """
        return self._place.run(lambda client: client.feedback())

    def iterate_feedback(self) -> Generator[DeadToken, None, None]:
        """
        Read the same list in parts, as :meth:`txapns.APNSClient.iterate_feedback` does.

        :returns: an iterator over the same pairs.
        """
        tokens = self._place.run(lambda client: succeed(client.iterate_feedback()))
        try:
            ended = False
            while not ended:
                some, error, ended = self._place.run(lambda _: Deferred.fromCoroutine(_some(tokens)))
                yield from some
                if error is not None:
                    raise error
        finally:
            with suppress(ClientClosed):
                self._place.run(lambda _: Deferred.fromCoroutine(_closed(tokens)))

    def status(self) -> ClientStatus:
        """
        Return the status of the client in this process, without requests about channels and their connection.

        :returns: a value without secrets.
        """
        if self._place.resident.is_closed:
            return ClientStatus(str(self.gateway), ("stopped",), 0, 0, None)
        return self._place.run(lambda client: succeed(client.status()))

    def close(self) -> None:
        """
        Report what waits as unsent, wait for the answers to what is in flight, and close, within ``timeout`` and a few
        seconds. The other processes that use the client go on.
        """
        self._close(None)

    def _close(self, patience: float | None) -> None:
        self._place.resident.close(patience)

    def _send(self, triples: Iterable[Triple] | AsyncIterable[Triple], deadline: float | None) -> Batch:
        if isinstance(triples, AsyncIterable):
            raise TypeError("an async iterable of tokens is for txapns.aio; here it must be an iterable")
        self._place.resident.check()
        feed = Feed(iter(triples))
        source = feed if feed.pull() else (triple for triple in feed)
        while True:
            feed.open()
            begun: tuple[ReactorThread, Call[result.Batch]] | None = None
            try:
                begun = self._place.begin(lambda client: client.send_many(source, deadline=deadline), feed.close)
                thread, call = begun
                feed.run(thread.soon)
                return self._own(call.wait())
            except Ended:
                continue
            except TokensFailed as failed:
                failed.batch = self._own(failed.batch)
                raise
            except BaseException as error:
                if begun is None:
                    feed.end()  # where Ctrl-C came just when the batch had begun, it has nothing to wait for
                else:
                    self._interrupt(*begun, error)
                raise

    def _interrupt(self, thread: ReactorThread, call: Call[result.Batch], error: BaseException) -> None:
        """Something other than the batch ended the call: end the batch, and add what is known of it to the error."""
        thread.soon(call.cancel)
        try:
            batch = self._own(call.wait(LAST_WORD))
        except SendCancelled as cancelled:
            batch = self._own(cancelled.batch)
        except Exception:
            return  # it is the batch's own error
        if isinstance(error, KeyboardInterrupt):
            raise SendInterrupted("the batch was interrupted", batch).with_traceback(error.__traceback__) from None
        with suppress(AttributeError, TypeError):  # it takes no attributes
            cast(Any, error).batch = batch

    def _own(self, batch: result.Batch) -> Batch:
        return Batch(batch.accepted, batch.outcomes, batch.unique_ids, resend=self.send_many)


async def _some(tokens: AsyncGenerator[DeadToken, None]) -> tuple[list[DeadToken], Exception | None, bool]:
    """Read some, until an exception, or to the end; returns whether that is reached."""
    found: list[DeadToken] = []
    try:
        async for token in tokens:
            found.append(token)
            if len(found) == PART:
                return found, None, False
    except Exception as error:
        return found, error, True
    return found, None, True


async def _closed(tokens: AsyncGenerator[DeadToken, None]) -> None:
    await tokens.aclose()


class Channels:
    """
    The channels of a client's app: ``client.channels``. The methods raise the exceptions that :class:`txapns.Channels`
    names.

    :param run: makes a call in the reactor's thread.
    """

    def __init__(self, run: Callable[[Callable[[on_twisted.APNSClient], Deferred[Any]]], Any]) -> None:
        self._run = run

    def create(
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
        made: Channel = self._run(
            lambda client: client.channels.create(storage_policy, push_type=push_type, bundle_id=bundle_id)
        )
        return made

    def read(self, channel_id: str, *, bundle_id: str | None = None) -> Channel:
        """
        Read a channel's properties.

        :param channel_id: its identifier.
        :param bundle_id: the app's bundle id, without any suffix; by default the client's.
        :returns: the channel.
        """
        found: Channel = self._run(lambda client: client.channels.read(channel_id, bundle_id=bundle_id))
        return found

    def delete(self, channel_id: str, *, bundle_id: str | None = None) -> None:
        """
        Delete a channel permanently.

        :param channel_id: its identifier.
        :param bundle_id: the app's bundle id, without any suffix; by default the client's.
        """
        self._run(lambda client: client.channels.delete(channel_id, bundle_id=bundle_id))

    def list(self, *, bundle_id: str | None = None) -> list[str]:
        """
        List the channels of the app.

        :param bundle_id: the app's bundle id, without any suffix; by default the client's.
        :returns: their identifiers, in the server's order.
        """
        found: list[str] = self._run(lambda client: client.channels.list(bundle_id=bundle_id))
        return found


class Session:
    """
    The clients of a program that serves many apps, as :class:`txapns.Session`, for programs that wait for results.

    Ask it for the client each time: an equal credential gets the same connections, however often the credential is
    loaded. Connections that have not been used for ``idle_timeout`` are closed.

    :param proxy: as for :class:`APNSClient`.
    :param options: the keywords of :class:`~txapns.options.ClientOptions`.
    :raises InvalidGateway: the proxy is not valid.
    :raises ValueError: an option is out of range.
    """

    def __init__(self, *, proxy: str | Proxy | None = None, **options: Unpack[ClientOptions]) -> None:
        self._proxy = read_proxy(proxy)
        Options(**options)
        # What was checked before: that takes a millisecond, and a program asks for the client each time.
        self._known: set[tuple[object, Gateway, str | None]] = set()
        make = partial(on_twisted.Session, proxy=self._proxy, **options)
        self._resident = Resident(make, on_twisted.Session.close, "session")
        weakref.finalize(self, self._resident.abandon).atexit = False
        self._copy = partial(Session, proxy=self._proxy, **options)

    def __reduce__(self) -> tuple[Callable[[], Session], tuple[()]]:
        return self._copy, ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._resident.close(None if error is None or isinstance(error, Exception) else HURRY)

    def client(
        self,
        credential: Credential,
        gateway: str | Gateway = "production",
        *,
        topic: str | None = None,
        metrics: IMetrics | None = None,
    ) -> APNSClient:
        """
        Return a client for a credential.

        :param credential: a certificate or provider token; compared by fingerprint.
        :param gateway: as for :class:`APNSClient`.
        :param topic: as for :class:`APNSClient`.
        :param metrics: as for :class:`APNSClient`, if nothing has been sent with this credential yet.
        :returns: a client that shares its connections with all that the session returned for an equal credential,
            gateway and topic. To close it closes the connections of all of them; there is no need to.
        :raises ClientClosed: the session is closed.
        :raises InvalidGateway: the gateway is not valid.
        :raises CredentialError: the gateway's protocol cannot use this credential.
        """
        self._resident.check()
        gateway = Gateway.parse(gateway, proxy=self._proxy)
        key = getattr(credential, "fingerprint", None), gateway, topic
        if key not in self._known:
            checked(credential, gateway, topic, None)
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known.add(key)
        return _SessionClient(self, self._resident, credential, gateway, topic, metrics)

    def close(self) -> None:
        """Close all clients. The other processes that use the session go on."""
        self._resident.close()


class _SessionClient(APNSClient):
    """A client that asks the session for the client of Twisted's kind each time, so it is never closed for idleness."""

    def __init__(
        self,
        session: Session,
        resident: Resident[on_twisted.Session],
        credential: Credential,
        gateway: Gateway,
        topic: str | None,
        metrics: IMetrics | None,
    ) -> None:
        find: Callable[[on_twisted.Session], on_twisted.APNSClient] = methodcaller(
            "client", credential, gateway, topic=topic, metrics=metrics
        )
        arguments = {"credential": credential, "gateway": gateway, "topic": topic}
        copy = partial(_client_of, session, credential, gateway, topic, metrics)
        self._settle(arguments, _Place(resident, find), copy)
        self._session = session  # which would be closed without a reference to it

    def _close(self, patience: float | None) -> None:
        self._place.run(lambda client: client.close())


def _client_of(
    session: Session, credential: Credential, gateway: Gateway, topic: str | None, metrics: IMetrics | None
) -> APNSClient:
    return session.client(credential, gateway, topic=topic, metrics=metrics)
