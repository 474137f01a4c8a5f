"""
The face of the enhanced binary protocol and its feedback service, for programs from before 2021.

::

    notifications ──►  checked, and stored in groups, one commit for each read    no answer
                  ──►  the first invalid one                                      error packet, then close
    feedback      ◄──  the dead tokens that were not listed before                then close

The client certificate of the caller tells the app (see :mod:`~txapns.daemon.faces.callers`); topic and push type are
the app's. If the configuration names an app for callers without a certificate, their notifications are for that one.

The protocol can only report errors, and only on the same connection. So an error packet is for what is found wrong
*before* a notification is stored. Notifications are stored in the order in which they arrive; when the packet is
written, all before the one that it names are on the disk, and none after it is. While a group is being stored, the next
one gathers, up to :data:`AHEAD` bytes; then nothing is read until the first is stored. If no more can be stored now,
the packet has status 10, shutdown, and names the last one stored: the client sends the rest again over a new
connection. What Apple rejects later is not reported here; dead tokens go to the feedback service.

That service lists each token once. A token counts as listed when the peer has closed the connection cleanly after
everything was handed to the network; otherwise the next connection lists it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocolFactory, IPullProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._serving.connections import LINGER, FaceProtocol, ServerConnections
from txapns._serving.limits import ConnectionLimits
from txapns._serving.tls import ServerTLS
from txapns.credentials import Certificate
from txapns.daemon import payloads
from txapns.daemon.config.sections import BinarySection
from txapns.daemon.errors import RequestRefused
from txapns.daemon.faces.callers import Callers, default_headers, lacks_topic
from txapns.daemon.intake import MAX_TOKEN
from txapns.daemon.interfaces import IApps, IFeedbackLog, IIntake
from txapns.daemon.values import ANYBODY, App, Caller, Draft, FeedbackEntry
from txapns.errors import InvalidPayload
from txapns.notification import push_type_of
from txapns.reasons import Status
from txapns.wire import feedback
from txapns.wire.frames import MalformedFrame, NotificationParser, ReceivedNotification, encode_error

__all__ = ["AHEAD", "AHEAD_TOGETHER", "CHUNK", "READER", "Binary"]

#: The name under which the feedback service reads the feedback log.
READER = "binary"
#: The number of dead tokens that are read, and written, at a time.
CHUNK = 500
#: How many bytes are gathered on a connection, and on all of them together, before no more is read while a group is
#: being stored. A read may exceed this once.
AHEAD, AHEAD_TOGETHER = 65_536, 4_194_304

# Everything that the two lengths of commands 0 and 1 can announce, so that a token or payload that is too long gets the
# error of its own.
_MAX_FRAME = 2 * 0xFFFF
_LINGER = 1.0  # seconds between an error packet and the close, for the client to read it
_CLOSE = 5.0  # seconds that the client may then take to close

# A notification, and the push type that follows from its payload.
_Decoded: TypeAlias = "tuple[ReceivedNotification, str | None]"
# Expiration, priority and push type.
_Fields: TypeAlias = "tuple[int | None, int | None, str | None]"

_log = Logger()


class Binary:
    """
    The face.

    :param clock: the reactor, or a ``Clock``.
    """

    def __init__(
        self,
        clock: IReactorTime,
        intake: IIntake,
        apps: IApps,
        feedback: IFeedbackLog,
        options: BinarySection,
        limits: ConnectionLimits,
    ) -> None:
        self.intake = intake
        self.feedback = feedback
        self.options = options
        self.callers = Callers(apps)
        self.listing: set[str] = set()
        self.gathered = 0  # bytes, on all connections
        self.notifications = ServerConnections(clock, lambda: _Notifications(self), limits, "intake.binary")
        self.dead = ServerConnections(clock, lambda: _Feedback(self), limits, "intake.binary.feedback")

    def factory(self, certificate: Certificate | None = None) -> IProtocolFactory:
        """Make a factory for an endpoint of notifications; without a certificate, for one app in plain text."""
        return self._factory(self.notifications, certificate)

    def feedback_factory(self, certificate: Certificate | None = None) -> IProtocolFactory:
        """Make a factory for an endpoint of the feedback service."""
        return self._factory(self.dead, certificate)

    def _factory(self, server: ServerConnections, certificate: Certificate | None) -> IProtocolFactory:
        if certificate is None:
            return server
        required = self.options.app is None
        tls = ServerTLS(certificate, lambda shown: self.app_of(shown) is not None, required=required, tls12=True)
        return server.encrypted(tls)

    def drain(self) -> None:
        """Accept no more notifications, tell each client which was the last, and close; list no more tokens."""
        self.notifications.drain()
        self.dead.drain()

    def close(self, grace: float = LINGER) -> Deferred[None]:
        """Close all connections; see :meth:`ServerConnections.close`."""
        both = gatherResults([self.notifications.close(grace), self.dead.close(grace)])
        return both.addCallback(lambda _: None)

    def app_of(self, fingerprint: str | None) -> str | None:
        """Find the app that a caller sends for, by its certificate if it showed one; ``None`` if it is not known."""
        if fingerprint is None:
            return self.options.app
        names = self.callers.by_certificate(fingerprint)
        apps = [app for app in map(self.callers.get, names) if app is not None]
        own = {app.name for app in apps if any(each.fingerprint == fingerprint for each in app.credentials.values())}
        # Of several, the app whose own certificate it is; or else the one for callers without a certificate.
        found = next((each for each in (names, own, names & {self.options.app}) if len(each) == 1), None)
        return None if found is None else next(iter(found))


class _Notifications(FaceProtocol):
    """A connection for notifications."""

    def __init__(self, face: Binary) -> None:
        super().__init__()
        self._face = face
        self._app = ""
        self._revision = -1
        self._parser = NotificationParser(_MAX_FRAME)
        self._partial: float | None = None
        self._caller = ANYBODY
        self._waiting = bytearray()
        self._storing = False
        self._paused = False
        self._stopping = False
        self._closing: float | None = None
        self._last: int | None = None

    @property
    def busy(self) -> bool:
        """Whether notifications are being stored."""
        return self._storing

    def begun(self) -> None:
        """Find the app."""
        app = self._face.app_of(self.fingerprint)
        if app is None:
            self._discard()
            self.connection.cut()
        else:
            self._app, self._revision = app, self._face.callers.revision
            if self.fingerprint is not None:
                self._caller = Caller(f"certificate {self.fingerprint}")
                self.connection.mark_authenticated()

    def gone(self, reason: Failure) -> None:
        """Nothing to do: what has arrived is stored, since the peer takes it for sent."""

    def check(self, now: float) -> None:
        """End what takes too long."""
        if self._closing is not None:
            if now >= self._closing + _CLOSE:
                self.connection.cut()
            elif now >= self._closing:
                self.transport.loseConnection()
        elif self._partial is not None and now - self._partial >= self.connection.server.limits.request:
            self._discard()
            self.connection.cut()
        elif not self._storing and now - self.connection.active >= self._face.options.idle:
            self._close(b"", now)

    def finish(self) -> None:
        """Accept nothing more; name the last one that was stored, as soon as that is known."""
        self._stopping = True
        if not self._storing and self._closing is None:
            self._shutdown(None)

    def dataReceived(self, data: bytes) -> None:
        """Accept notifications until the first error."""
        if self._closing is not None or self._stopping:
            return
        self.connection.active = self.connection.server.clock.seconds()
        self._waiting += data
        self._face.gathered += len(data)
        if not self._storing:
            self._go_on()
        elif not self._paused and (len(self._waiting) >= AHEAD or self._face.gathered >= AHEAD_TOGETHER):
            self._paused = True
            self.transport.pauseProducing()

    def _go_on(self) -> None:
        """Accept what has arrived."""
        if not self._is_allowed():
            self._discard()
            self.connection.cut()
            return
        data = self._take()
        fault: tuple[int, int | None] | None = None
        try:
            received = self._parser.receive(data)
        except MalformedFrame as error:
            received, fault = error.received, (error.status, error.identifier)
        if not self._parser.pending:
            self._partial = None
        elif received or self._partial is None:
            self._partial = self.connection.active
        app = self._face.callers.get(self._app)
        push_types = list[str | None]()
        topic = app is None or not lacks_topic(app)
        for notification in received:
            found = _push_type_of(notification, topic)
            if isinstance(found, int):
                received, fault = received[: len(push_types)], (found, _named(notification, found))
                break
            push_types.append(found)
        if received:
            self.connection.mark_authenticated()
            self._storing = True
            storing = self._store(list(zip(received, push_types, strict=True)), fault, app)
            Deferred.fromCoroutine(storing).addErrback(self._failed)
        elif fault is not None:
            self._refuse(*fault)

    def _take(self) -> bytes:
        """Take what was gathered."""
        data = bytes(self._waiting)
        self._waiting.clear()
        self._face.gathered -= len(data)
        return data

    def _is_allowed(self) -> bool:
        """Whether the caller's certificate is still for the same app as when the connection was made."""
        revision = self._face.callers.revision
        if revision != self._revision:
            self._revision = revision
            return self._face.app_of(self.fingerprint) == self._app
        return True

    async def _store(self, received: Sequence[_Decoded], fault: tuple[int, int | None] | None, app: App | None) -> None:
        """Store notifications in order; then go on, or report what is wrong with the next one."""
        most = 1 if app is None else min(app.limits.tokens, app.limits.queue)
        rest = iter(received)
        while group := list(islice(rest, most)):
            try:
                await self._face.intake.accept(self._app, _drafts(group, app), caller=self._caller)
            except RequestRefused as refusal:
                _log.warn("notifications of {app} were refused: {reason}", app=self._app, reason=str(refusal))
                self._stored()
                self._shutdown(group[0][0])
                return
            self._last = group[-1][0].identifier
        self._stored()
        if fault is not None:
            self._refuse(*fault)
        elif self._stopping:
            self._shutdown(None)
        elif self._waiting:
            self._go_on()

    def _stored(self) -> None:
        self._storing = False
        self.connection.active = self.connection.server.clock.seconds()
        paused, self._paused = self._paused, False
        if paused and not self.connection.over:
            self.transport.resumeProducing()

    def _failed(self, reason: Failure) -> None:
        _log.failure("notifications could not be stored", reason)
        self._discard()
        self.connection.cut()

    # How it ends.

    def _refuse(self, status: int, identifier: int | None) -> None:
        """Report which notification is refused; one without an identifier cannot be named."""
        self._end(b"" if identifier is None else encode_error(status, identifier))

    def _shutdown(self, refused: ReceivedNotification | None) -> None:
        """
        Report which notification was stored last.

        If none that can be named was stored, name the first that was not, with a processing error: a client takes all
        notifications before the named one for sent.
        """
        if self._last is not None:
            self._end(encode_error(Status.SHUTDOWN, self._last))
        elif refused is not None and refused.identifier is not None:
            self._end(encode_error(Status.PROCESSING_ERROR, refused.identifier))
        else:
            self._end(b"")

    def _end(self, packet: bytes) -> None:
        self._close(packet, self.connection.server.clock.seconds() + (_LINGER if packet else 0.0))

    def _close(self, packet: bytes, at: float) -> None:
        self._discard(at)
        if self.connection.over:
            return
        if packet:
            self.transport.write(packet)
        else:
            self.transport.loseConnection()

    def _discard(self, until: float = 0.0) -> None:
        """Ignore everything from now on."""
        self._closing = until
        self._take()


def _push_type_of(notification: ReceivedNotification, topic: bool) -> str | int | None:
    """
    Find the push type that follows from the payload; or the status that says why it cannot be sent to Apple.

    A payload cannot be too long, since its length has 16 bits.

    :param topic: whether there is a topic for it.
    """
    token, payload = notification.token, notification.payload
    if not token:
        return Status.MISSING_DEVICE_TOKEN
    if len(token) > MAX_TOKEN:
        return Status.INVALID_TOKEN_SIZE
    if not topic:
        return Status.MISSING_TOPIC
    if not payload:
        return Status.MISSING_PAYLOAD
    try:
        return push_type_of(payloads.decode(payload))
    except InvalidPayload:
        return Status.UNKNOWN


def _named(notification: ReceivedNotification, status: int) -> int | None:
    """Choose the identifier that names a notification: Apple's servers gave 0 if the token was missing."""
    return 0 if status == Status.MISSING_DEVICE_TOKEN and notification.command != 0 else notification.identifier


def _drafts(received: Sequence[_Decoded], app: App | None) -> list[Draft]:
    """Combine consecutive notifications with equal fields: those with equal payloads, and those with different ones."""
    groups: list[tuple[_Fields, list[bytes], list[bytes]]] = []
    payloads, tokens = list[bytes](), list[bytes]()
    before, shared = b"", None
    for (_, token, payload, _, expiration, priority), push_type in received:
        fields = expiration, priority, push_type
        alike, equal = fields == shared, payload == before
        if alike and len(payloads) == (1 if equal else len(tokens)):
            tokens.append(token)
            if not equal:
                payloads.append(payload)
        else:
            first = [tokens.pop()] if alike and equal and payloads.pop() else []  # the one before is the first of these
            payloads, tokens = [payload], [*first, token]
            groups.append((fields, payloads, tokens))
        before, shared = payload, fields
    known = {fields: _headers(*fields, app) for fields, *_ in groups}
    return [_draft(known[fields], *group) for fields, *group in groups]


def _draft(headers: dict[str, str], payloads: Sequence[bytes], tokens: Sequence[bytes]) -> Draft:
    if len(payloads) == 1:
        return Draft(payloads[0], headers, tokens, decoded=True)
    return Draft(b"", headers, tokens, decoded=True, payloads=payloads)


def _headers(expiration: int | None, priority: int | None, push_type: str | None, app: App | None) -> dict[str, str]:
    headers = {} if push_type is None else {"apns-push-type": push_type}
    if app is not None:
        headers.update(default_headers(app))
    if expiration is not None:
        headers["apns-expiration"] = str(expiration)
    if priority is not None:
        headers["apns-priority"] = str(priority)
    return headers


@implementer(IPullProducer)
class _Feedback(FaceProtocol):
    """A connection of the feedback service."""

    def __init__(self, face: Binary) -> None:
        super().__init__()
        self._face = face
        self._app: str | None = None
        self._cursor: int | None = None
        self._reading = False
        self._taken = False

    @property
    def busy(self) -> bool:
        """Whether the list has begun."""
        return self._app is not None

    def begun(self) -> None:
        """Begin to list, unless another connection does already: each token goes to one reader."""
        app = self._face.app_of(self.fingerprint)
        if app is None or app in self._face.listing:
            self.transport.loseConnection()
            return
        self._app = app
        self._face.listing.add(app)
        self._network().registerProducer(self, False)

    def gone(self, reason: Failure) -> None:
        """Confirm what was listed, if it arrived."""
        if self._app is None:
            return
        app = self._app
        if self._taken and self._cursor is not None and reason.check(ConnectionDone):
            confirmed = self._face.feedback.confirm(app, READER, self._cursor)
            confirmed.addErrback(_listed_again, app).addCallback(lambda _: self._face.listing.discard(app))
        else:
            self._face.listing.discard(app)

    def check(self, now: float) -> None:
        """End what takes too long."""
        if now - self.connection.active >= self.connection.server.limits.request:
            self.connection.cut()

    def finish(self) -> None:
        """Close; the next connection lists the rest."""
        self.connection.cut()

    def dataReceived(self, data: bytes) -> None:
        """Ignore it: clients send nothing to this service."""

    # IPullProducer of the TCP connection: called when everything that was written is handed to the network.

    def resumeProducing(self) -> None:
        """List some more."""
        if self._reading or self._taken or self._app is None:
            return
        self._reading = True
        self.connection.active = self.connection.server.clock.seconds()
        if self._cursor is None:
            read = self._face.feedback.take(self._app, READER, CHUNK)
        else:
            read = self._face.feedback.after(self._app, self._cursor, CHUNK)
        read.addCallback(self._list).addErrback(self._cannot)

    def stopProducing(self) -> None:
        """``connectionLost`` follows."""

    def _list(self, dead: Sequence[FeedbackEntry]) -> None:
        self._reading = False
        if self.connection.over:
            return
        if dead:
            self._cursor = dead[-1].cursor
            self.transport.write(b"".join([feedback.encode(_seconds(each), each.token) for each in dead]))
            return
        self._taken = True
        self._network().unregisterProducer()
        if self.connection.encrypted:
            self.transport.loseConnection()  # it waits for the peer to close
        else:
            self.transport.loseWriteConnection()

    def _cannot(self, reason: Failure) -> None:
        if reason.check(RequestRefused):
            _log.warn("dead tokens of {app} cannot be listed: {reason}", app=self._app, reason=str(reason.value))
        else:
            _log.failure("dead tokens cannot be listed", reason)
        self.connection.cut()

    def _network(self) -> Any:
        """The TCP connection, below TLS if there is any."""
        return self.transport.transport if self.connection.encrypted else self.transport


def _seconds(dead: FeedbackEntry) -> int:
    return min(max(int(dead.timestamp), 0), 0xFFFFFFFF)


def _listed_again(reason: Failure, app: str) -> None:
    reason.trap(RequestRefused)
    _log.warn("dead tokens of {app} will be listed again: {reason}", app=app, reason=str(reason.value))
