"""
The clients: an :class:`APNSClient` for one app, and a :class:`Session` that keeps a client for each credential.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterable, Hashable, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.interfaces import IReactorTime

from txapns._network.alarm import Alarm
from txapns._network.clocks import timers
from txapns._network.forks import Home
from txapns._network.proxy import Proxy, read_proxy
from txapns._session.batch import MeasuredSending, MeasuredSingleSending, Sending, SingleSending
from txapns._session.channels import Channels
from txapns._session.pool import Pool
from txapns._session.tokens import Token, Tokens, Triple, checked, device_of, settled, triples_of
from txapns.channels import broadcast_request
from txapns.credentials import Certificate, Credential, ProviderToken
from txapns.delivery import Own
from txapns.errors import APNSError, ClientClosed, ConnectionLost, CredentialError, InvalidGateway
from txapns.feedback import DeadToken, FeedbackReader
from txapns.gateway import Gateway
from txapns.interfaces import IMetrics
from txapns.notification import Notification
from txapns.options import ClientOptions, Options
from txapns.result import Accepted, Batch, Rejection

__all__ = ["APNSClient", "ClientStatus", "Session", "default_bundle_id", "default_topic"]

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")

#: The connection for managing channels is closed after this many seconds without use, even if others never are.
CHANNELS_IDLE = 600.0


@attrs.frozen
class ClientStatus:
    """
    The status of a client at one moment.

    :ivar gateway: where it sends.
    :ivar connections: the state of each connection: ``"idle"``, ``"connecting"``, ``"starting"``, ``"ready"``,
        ``"waiting"`` (to try again after a delay) or ``"stopped"``. There is at least one, and another for each that
        was ever needed in addition.
    :ivar in_flight: how many notifications were sent and have no outcome yet.
    :ivar queued: how many notifications wait for a connection, or to be sent again later, without those that batches
        have not pulled yet.
    :ivar last_error: the last error of a connection; ``None`` if there was none.
    """

    gateway: str
    connections: tuple[str, ...]
    in_flight: int
    queued: int
    last_error: APNSError | None


class APNSClient:
    """
    Sends the notifications of one app to one gateway. It opens connections when there is something to send, keeps them,
    replaces them when they fail, and closes them when they have been idle for long.

    :param reactor: the reactor.
    :param credential: a :class:`~txapns.Certificate` or a :class:`~txapns.ProviderToken`.
    :param gateway: ``"production"``, ``"sandbox"``, a :class:`~txapns.Gateway`, or text that describes one.
    :param topic: the topic for notifications without one, usually the app's bundle id. By default it is the first topic
        of a certificate that has several.
    :param metrics: counts what is sent and the outcomes; ``None`` for no metrics.
    :param proxy: an HTTP proxy to go through: ``http://user:password@host:port``, ``"environment"`` for the
        current values of ``HTTPS_PROXY`` and ``NO_PROXY``, or a :class:`~txapns.Proxy`. By default, the gateway's own.
    :param options: the keywords of :class:`ClientOptions`.
    :raises InvalidGateway: the gateway or the proxy is not valid.
    :raises InvalidNotification: the topic cannot be sent.
    :raises ValueError: an option is out of range.
    :raises CredentialError: the gateway's protocol cannot use this credential.

    In a process that is forked while the reactor runs, each method raises :exc:`~txapns.errors.ClientElsewhere`.

    :ivar channels: the app's broadcast channels, a :class:`~txapns.Channels`.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        credential: Credential,
        gateway: str | Gateway = "production",
        *,
        topic: str | None = None,
        metrics: IMetrics | None = None,
        proxy: str | Proxy | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        if not isinstance(credential, (Certificate, ProviderToken)):
            raise CredentialError(
                f"a credential must be a Certificate or a ProviderToken, not {type(credential).__name__}"
            )
        self.gateway = Gateway.parse(gateway, proxy=proxy)
        self._gateway_text = str(self.gateway)
        self.credential = credential
        self._home = Home("client", reactor)
        reactor = self._reactor = timers(reactor)
        self._topic = default_topic(credential, topic)
        self._pool = Pool(reactor, self.gateway, credential, Options(**options), metrics, self._topic)
        self._batch = Sending if metrics is None else MeasuredSending
        self._single = SingleSending if metrics is None else MeasuredSingleSending
        self._feedback = FeedbackReader(reactor, self.gateway, credential, self._pool.options.timeout)
        self._bundle_id = default_bundle_id(credential, self._topic)
        self.channels = Channels(self._bundle_id, self._make_management_pool)
        self._closed: Deferred[None] | None = None
        self._used = reactor.seconds()

    def send(self, notification: Notification, tokens: Tokens, *, deadline: float | None = None) -> Deferred[Batch]:
        """
        Send one notification to many devices.

        :param notification: what to send.
        :param tokens: an iterable or async iterable of device tokens (``str`` is hexadecimal, ``bytes`` is raw), or of
            pairs of an identifier and a token, or a mapping of identifiers to tokens. It is read as fast as APNs
            accepts them, so it may be long. The default identifier is the position (0, 1, 2 …).
        :param deadline: after this many seconds the rest is not sent any more, but reported as unsent.
        :returns: a ``Deferred`` of the :class:`~txapns.Batch`. Cancelling it stops the batch and drops what
            waits; it fails with :exc:`~txapns.SendCancelled`, which has what was known by then.
        :raises TokensFailed: (through the ``Deferred``) the iterable raised an exception.
        :raises ClientClosed: (through the ``Deferred``) the client is closed.
        :raises TypeError: (through the ``Deferred``) an argument has the wrong type.
        :raises ValueError: (through the ``Deferred``) the deadline is not a non-negative number of seconds.
        """
        try:
            return self._send(triples_of(notification, tokens), deadline)
        except TypeError as error:
            return fail(error)

    def send_many(
        self,
        triples: Iterable[Triple] | AsyncIterable[Triple],
        *,
        deadline: float | None = None,
        first: bool = False,
        own: Own | None = None,
    ) -> Deferred[Batch]:
        """
        Send each device its own notification.

        :param triples: an iterable or async iterable of ``(identifier, Notification, token)``.
        :param deadline: after this many seconds the rest is not sent any more, but reported as unsent.
        :param first: whether it goes before the batches that are being sent, instead of taking turns with them.
        :param own: called with each identifier; returns the ``apns-id``, a UUID, and the encoded payload that its
            notification is sent with, instead of those that it has. So devices can share one notification that have
            these of their own. Nobody looks at the payload: neither the push type nor the priority follow from it.
        :returns: a ``Deferred`` of the :class:`~txapns.Batch`.
        :raises TokensFailed: (through the ``Deferred``) the iterable raised an exception.
        :raises ClientClosed: (through the ``Deferred``) the client is closed.
        :raises TypeError: (through the ``Deferred``) an argument has the wrong type.
        :raises ValueError: (through the ``Deferred``) the deadline is not a non-negative number of seconds.
        """
        try:
            return self._send(triples, deadline, first, own)
        except TypeError as error:
            return fail(error)

    def send_one(self, notification: Notification, token: Token) -> Deferred[Accepted | Rejection]:
        """
        Send one notification to one device.

        :param notification: what to send.
        :param token: the device token, hexadecimal text or raw bytes.
        :returns: a ``Deferred`` of the outcome.
        :raises InvalidToken: (through the ``Deferred``) the token cannot be sent.
        :raises QueueFull: (through the ``Deferred``) ``max_queued`` notifications are waiting already.
        :raises OutcomeUnknown: (through the ``Deferred``) it was sent and no answer came: it may have been delivered.
        :raises APNSError: (through the ``Deferred``) any other: it was not processed, so it can be sent again safely.
        :raises TypeError: (through the ``Deferred``) an argument has the wrong type.
        """
        self._home.check()
        try:
            checked(notification)
            return self._pool.submit(self._single(self._pool, 0, settled(token), device_of(token), notification))
        except (APNSError, TypeError) as error:
            return fail(error)

    def when_ready(self) -> Deferred[None]:
        """
        Wait until :meth:`send_one` can take a notification: until fewer than ``max_queued`` wait.

        :returns: a ``Deferred`` that fires when there is room, or the client is closed. Callers take turns.
        """
        self._home.check()
        self.touch()
        return self._pool.when_ready()

    def broadcast(self, notification: Notification, channel_id: str) -> Deferred[Accepted | Rejection]:
        """
        Send one notification to a channel: an update or the end of a Live Activity, of up to 5,120 bytes.

        Apple requires three header fields here, so they have defaults: push type ``"liveactivity"``, priority 10, and
        expiration 0, which means a single attempt, and is the only value for a channel that stores nothing. The
        notification's ``apns_id`` is sent as ``apns-request-id``; its collapse id is not sent.

        :param notification: what to send. Its topic, without the suffix for Live Activities, is the app's bundle id;
            the default is the client's topic, or that of the certificate.
        :param channel_id: the channel's identifier.
        :returns: a ``Deferred`` of the outcome, with ``channel_id`` as the identifier, no token, and the
            ``apns-request-id`` of the answer as ``apns_id``.
        :raises InvalidChannel: (through the ``Deferred``) the channel or the bundle id is missing or cannot be sent.
        :raises InvalidGateway: (through the ``Deferred``) the gateway's protocol has no broadcasts.
        :raises QueueFull: (through the ``Deferred``) ``max_queued`` notifications are waiting already.
        :raises OutcomeUnknown: (through the ``Deferred``) it was sent and no answer came: it may have been delivered.
        :raises APNSError: (through the ``Deferred``) any other: it was not processed, so it can be sent again safely.
        :raises TypeError: (through the ``Deferred``) ``notification`` is not a :class:`~txapns.Notification`.
        """
        self._home.check()
        try:
            if self.gateway.protocol != "http2":
                raise InvalidGateway(f"{self.gateway} has no broadcasts; only the HTTP/2 provider API has")
            request = broadcast_request(checked(notification), channel_id, self._bundle_id)
            return self._pool.submit(self._single(self._pool, channel_id, "", b"", request))
        except (APNSError, TypeError) as error:
            return fail(error)

    def feedback(self) -> Deferred[list[DeadToken]]:
        """
        Read the dead tokens from the feedback service. Only the binary protocol has one.

        The service forgets what it has listed, so store the list before you do anything else with it, and have only one
        reader. Ask about once a day. Calls take turns. What a cancelled call had read comes first from the next call of
        the same client; what was still in flight is lost. A list of more than 500,000 tokens, or one that takes more
        than ten times ``timeout``, is not read to its end; use :meth:`iterate_feedback` for such lists.

        :returns: a ``Deferred`` of a list of pairs: the token in lower-case hexadecimal, and when the service found
            the app gone, in UTC. Keep a token that registered again after that. If the list broke off, this is logged,
            and the pairs are those that came before.
        :raises InvalidGateway: (through the ``Deferred``) the gateway has no feedback service.
        :raises ConnectFailed: (through the ``Deferred``) no connection could be made.
        :raises CredentialRefused: (through the ``Deferred``) the service does not accept the certificate.
        :raises AnswerTimeout: (through the ``Deferred``) the service was silent for ``timeout`` seconds, or had not
            sent one whole token in ten times that.
        :raises ConnectionLost: (through the ``Deferred``) the list broke off before the first token was whole.
        :raises ClientClosed: (through the ``Deferred``) the client is closed.
        """
        self._home.check()
        self.touch()
        return Deferred.fromCoroutine(self._feedback.read()).addBoth(self.touch)

    def iterate_feedback(self) -> AsyncGenerator[DeadToken, None]:
        """
        Read the same list one token after the other, for lists that are too long for memory.

        The service is read as fast as the tokens are consumed. Leaving the loop early closes the connection: what was
        read and not yet yielded comes first from the next call; what was still in flight is lost.

        :returns: an asynchronous iterator over the same pairs. It raises the same exceptions, but only after
            everything that was read, and also if the list broke off.
        """
        self._home.check()
        self.touch()
        return self._feedback.iterate()

    def status(self) -> ClientStatus:
        """
        Return the client's status, without requests about channels and their connection.

        :returns: a value without secrets.
        """
        self._home.check()
        self._reactor.seconds()  # corrects timers after the clock stood still, so polling the status does that, too
        pool = self._pool
        return ClientStatus(self._gateway_text, pool.states, pool.in_flight, pool.queued, pool.last_error)

    def close(self) -> Deferred[None]:
        """
        Report what waits as unsent, wait for the answers to what is in flight, stop reading the feedback service, and
        close.

        :returns: a ``Deferred`` that fires when the connections are closed and every batch has ended, within
            ``timeout`` and a few seconds, and the settle time where that is longer.
        """
        self._home.check()
        self.touch()
        if self._closed is None:
            self._closed = Deferred()
            error = ClientClosed("the client was closed before it was sent")
            closing = DeferredList([self._pool.close(error), self.channels.close(error), self._feedback.close()])
            closing.addCallback(lambda _: None).chainDeferred(self._closed)
        waiting: Deferred[None] = Deferred()
        self._closed.addCallback(lambda _: waiting.callback(None))
        return waiting

    def abort(self) -> Deferred[None]:
        """
        Close at once: report what waits as unsent and what is in flight as uncertain, without waiting for answers.

        Nothing is written to APNs after this, not even what was being written.

        :returns: a ``Deferred`` that fires when the connections are closed and every batch has ended.
        """
        closing = self.close()
        error = ConnectionLost("the client was aborted")
        self._pool.abort(error)
        self.channels.abort(error)
        return closing

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed is not None

    @property
    def last_used(self) -> float:
        """When it last had work, by the reactor's clock; the current time while it has."""
        busy = self._pool.busy or self.channels.busy or self._feedback.busy
        return self._reactor.seconds() if busy else max(self._used, self._pool.used, self.channels.used)

    def touch(self, result: T = None) -> T:  # type: ignore[assignment]
        """
        Mark as used now.

        :param result: anything, so that this can be a callback.
        :returns: the same.
        """
        self._used = self._reactor.seconds()
        return result

    def _send(
        self,
        triples: Iterable[Triple] | AsyncIterable[Triple],
        deadline: float | None = None,
        first: bool = False,
        own: Own | None = None,
    ) -> Deferred[Batch]:
        self._home.check()
        if self._closed is not None:
            return fail(ClientClosed("the client is closed"))
        if deadline is not None and not 0 <= deadline < math.inf:
            return fail(ValueError("the deadline is not a non-negative number of seconds"))
        return self._batch(self._reactor, self._pool, triples, self._send, deadline, own).start(first)

    def _make_management_pool(self) -> Pool:
        """
        Make the pool for requests about channels.

        They are rare, so it has one connection, which closes when idle. Rejections are reported at once, without
        retries: a program asks about channels itself and decides itself whether to ask again.
        """
        options = self._pool.options
        idle_timeout = options.idle_timeout or CHANNELS_IDLE
        options = attrs.evolve(options, idle_timeout=idle_timeout, min_connections=0, max_connections=1, retries=0)
        return Pool(self._reactor, self.gateway.management(), self.credential, options)


def default_topic(credential: Credential, topic: str | None) -> str | None:
    """
    Find the topic for notifications without one.

    :param topic: the topic that was asked for.
    :returns: that, or the first of a certificate that has several; ``None`` for none.
    :raises InvalidNotification: the topic cannot be sent.
    """
    if topic is None and isinstance(credential, Certificate) and credential.needs_topic and credential.topics:
        topic = credential.topics[0]
    return None if topic is None else Notification(payload={}, topic=topic).topic


def default_bundle_id(credential: Credential, topic: str | None) -> str | None:
    """
    Find the bundle id for broadcasts and channels without one.

    :param topic: the client's topic.
    :returns: that, or the first topic of a certificate; ``None`` for none.
    """
    if topic is None and isinstance(credential, Certificate) and credential.topics:
        return credential.topics[0]
    return topic


class Session:
    """
    The clients of a program that serves many apps and loads their credentials when they are needed.

    Ask it for the client each time: an equal credential gets the same client, so the connections are shared, however
    often the credential is loaded. Clients that have not been asked for or used for ``idle_timeout`` are closed and
    forgotten.

    :param reactor: the reactor.
    :param proxy: as for :class:`APNSClient`.
    :param options: the keywords of :class:`ClientOptions`. With ``idle_timeout=None`` clients are never closed.
    :raises InvalidGateway: the proxy is not valid.
    """

    _kind = APNSClient

    def __init__(
        self, reactor: IReactorTime, *, proxy: str | Proxy | None = None, **options: Unpack[ClientOptions]
    ) -> None:
        self._home = Home("session", reactor)
        self._reactor = timers(reactor)
        self._proxy = read_proxy(proxy)
        self._idle_timeout = Options(**options).idle_timeout
        self._make = partial(self._kind, reactor, **options)
        self._clients: dict[Hashable, APNSClient] = {}
        self._closing: set[APNSClient] = set()
        self._closed = False
        self._sweeping = Alarm(self._reactor, self._sweep)

    def client(
        self,
        credential: Credential,
        gateway: str | Gateway = "production",
        *,
        topic: str | None = None,
        metrics: IMetrics | None = None,
    ) -> APNSClient:
        """
        Return the client for a credential.

        :param credential: a certificate or provider token; compared by fingerprint.
        :param gateway: as for :class:`APNSClient`.
        :param topic: as for :class:`APNSClient`.
        :param metrics: as for :class:`APNSClient`, if the client does not exist yet.
        :returns: the one client for credential, gateway and topic.
        :raises ClientClosed: the session is closed.
        :raises InvalidGateway: the gateway is not valid.
        :raises CredentialError: the gateway's protocol cannot use this credential.
        """
        self._home.check()
        if self._closed:
            raise ClientClosed("the session is closed")
        gateway = Gateway.parse(gateway, proxy=self._proxy)
        key = (credential.fingerprint, gateway, topic)
        client = self._clients.get(key)
        if client is None or client.closed:
            client = self._clients[key] = self._make(credential, gateway, topic=topic, metrics=metrics)
            self._schedule()
        client.touch()
        return client

    def close(self) -> Deferred[None]:
        """
        Close all clients.

        :returns: a ``Deferred`` that fires when all are closed.
        """
        self._home.check()
        self._sweeping.cancel()
        self._closed = True
        clients, self._clients = self._clients, {}
        self._closing.update(clients.values())
        return DeferredList([client.close() for client in self._closing]).addCallback(lambda _: None)

    def _schedule(self) -> None:
        if self._clients and self._idle_timeout is not None:
            self._sweeping.set(self._idle_timeout)

    def _forget(self, closed: None, client: APNSClient) -> None:
        self._closing.discard(client)

    def _sweep(self) -> None:
        assert self._idle_timeout is not None
        now = self._reactor.seconds()
        for key, client in list(self._clients.items()):
            if now - client.last_used >= self._idle_timeout:
                del self._clients[key]
                self._closing.add(client)
                client.close().addCallback(self._forget, client)
        self._schedule()
