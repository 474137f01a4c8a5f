"""
The face of the enhanced binary protocol and its feedback service, for programs from before 2021.

::

    notifications ──►  checked, stored in groups, one commit for each read        silence
                  ──►  the first that cannot be                                   error packet, then the close
    feedback      ◄──  the dead tokens that were not listed before                then the close

The caller is known by its client certificate (see :mod:`~txapns.daemon.faces.callers`), which tells the app; topic and
push type are the app's. Where the configuration names an app for callers without a certificate, those are its.

The protocol can only say no, and only of the present connection. So an error packet is for what is found wrong *before*
a notification is stored: notifications are stored in the order in which they came, and when the packet is written, all
before the one it names are on the disk, and nothing after it is. While a group is being stored nothing is read. Where
no more can be stored now, the packet is status 10, shutdown, which names the last one stored: the client sends the rest
again over a new connection. What Apple refuses later is not told here; tokens that died go to the feedback service.

That service lists each token once. A token counts as listed when the peer has closed the connection in an orderly way
after all was handed to the network; otherwise the next connection lists it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, islice
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocolFactory, IPullProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns import payload as payloads
from txapns.credentials import Certificate
from txapns.daemon.config import BinarySection
from txapns.daemon.errors import RequestRefused
from txapns.daemon.faces.callers import Callers, default_headers, lacks_topic
from txapns.daemon.intake import MAX_TOKEN
from txapns.daemon.interfaces import IApps, IFeedbackLog, IIntake
from txapns.daemon.serving.connections import LINGER, FaceProtocol, ServerConnections
from txapns.daemon.serving.limits import ConnectionLimits
from txapns.daemon.serving.tls import ServerTLS
from txapns.daemon.values import App, Draft, FeedbackEntry
from txapns.errors import InvalidPayload
from txapns.reasons import Status
from txapns.wire import feedback
from txapns.wire.frames import MalformedFrame, NotificationParser, ReceivedNotification, encode_error

__all__ = ["CHUNK", "READER", "Binary"]

#: As whom the feedback service reads the feedback log.
READER = "binary"
#: How many dead tokens are read from it, and written, at a time.
CHUNK = 500

# All that the two lengths of commands 0 and 1 can announce: what is too long is refused as the token or payload it is.
_MAX_FRAME = 2 * 0xFFFF
_LINGER = 1.0  # seconds until the close after an error packet: the client is to read it first
_CLOSE = 5.0  # seconds that it may then take to answer the close

_log = Logger()


class Binary:
    """
    The face.

    :param clock: the reactor, or a ``Clock``.
    :param intake: where notifications go.
    :param apps: the apps.
    :param feedback: the dead tokens.
    :param options: its section of the configuration.
    :param limits: what a caller may have.
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
        self.notifications = ServerConnections(clock, lambda: _Notifications(self), limits, "intake.binary")
        self.dead = ServerConnections(clock, lambda: _Feedback(self), limits, "intake.binary.feedback")

    def factory(self, certificate: Certificate | None = None) -> IProtocolFactory:
        """
        Make a factory for an endpoint that takes notifications.

        :param certificate: what it shows of itself; left out, it speaks plain text, and all callers are for one app.
        """
        return self._factory(self.notifications, certificate)

    def feedback_factory(self, certificate: Certificate | None = None) -> IProtocolFactory:
        """
        Make a factory for an endpoint of the feedback service.

        :param certificate: as for :meth:`factory`.
        """
        return self._factory(self.dead, certificate)

    def _factory(self, server: ServerConnections, certificate: Certificate | None) -> IProtocolFactory:
        if certificate is None:
            return server
        required = self.options.app is None
        tls = ServerTLS(certificate, lambda shown: self.app_of(shown) is not None, required=required, tls12=True)
        return server.encrypted(tls)

    def drain(self) -> None:
        """Take no more notifications, tell each client which was the last, and close; list no more."""
        self.notifications.drain()
        self.dead.drain()

    def close(self, grace: float = LINGER) -> Deferred[None]:
        """
        Close all connections.

        :param grace: how long what is under way may take, in seconds.
        :returns: a ``Deferred`` that fires when none is left.
        """
        both = gatherResults([self.notifications.close(grace), self.dead.close(grace)])
        return both.addCallback(lambda _: None)

    def app_of(self, fingerprint: str | None) -> str | None:
        """
        Tell whose notifications a caller sends.

        :param fingerprint: that of its certificate; ``None`` where it showed none.
        :returns: the app's name; ``None`` where nobody can tell.
        """
        if fingerprint is None:
            return self.options.app
        names = self.callers.by_certificate(fingerprint)
        apps = [app for app in map(self.callers.get, names) if app is not None]
        own = {app.name for app in apps if app.credential.fingerprint == fingerprint}
        # Of several, that whose own certificate it is; or that which is meant where there is no certificate.
        found = next((each for each in (names, own, names & {self.options.app}) if len(each) == 1), None)
        return None if found is None else next(iter(found))


class _Notifications(FaceProtocol):
    """
    A connection on which notifications come.

    :param face: the face.
    """

    def __init__(self, face: Binary) -> None:
        super().__init__()
        self._face = face
        self._app = ""
        self._revision = -1
        self._parser = NotificationParser(_MAX_FRAME)
        self._partial: float | None = None
        self._waiting = bytearray()
        self._storing = False
        self._stopping = False
        self._closing: float | None = None
        self._last: int | None = None

    @property
    def busy(self) -> bool:
        """Whether notifications are being stored."""
        return self._storing

    def begun(self) -> None:
        """Find out whose they are."""
        app = self._face.app_of(self.fingerprint)
        if app is None:
            self._discard()
            self.connection.cut()
        else:
            self._app, self._revision = app, self._face.callers.revision
            if self.fingerprint is not None:
                self.connection.mark_authenticated()

    def gone(self, reason: Failure) -> None:
        """What came is stored, since the peer takes it for sent."""

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
        """Take nothing more; name the last one that was stored, as soon as that is known."""
        self._stopping = True
        if not self._storing and self._closing is None:
            self._shutdown(None)

    def dataReceived(self, data: bytes) -> None:
        """Take notifications until the first fault."""
        if self._closing is not None or self._stopping:
            return
        self.connection.active = self.connection.server.clock.seconds()
        self._waiting += data
        if not self._storing:
            self._go_on()

    def _go_on(self) -> None:
        """Take what has come."""
        if not self._is_allowed():
            self._discard()
            self.connection.cut()
            return
        data = bytes(self._waiting)
        self._waiting.clear()
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
        for position, notification in enumerate(received):
            status = _judged(notification, app)
            if status is not None:
                received, fault = received[:position], (status, _named(notification, status))
                break
        if received:
            self.connection.mark_authenticated()
            self._storing = True
            if not self.connection.over:
                self.transport.pauseProducing()
            Deferred.fromCoroutine(self._store(received, fault, app)).addErrback(self._failed)
        elif fault is not None:
            self._refuse(*fault)

    def _is_allowed(self) -> bool:
        """Whether the caller is still whom it was when the connection was made."""
        revision = self._face.callers.revision
        if revision != self._revision:
            self._revision = revision
            return self._face.app_of(self.fingerprint) == self._app
        return True

    async def _store(
        self, received: Sequence[ReceivedNotification], fault: tuple[int, int | None] | None, app: App | None
    ) -> None:
        """Store notifications in their order, and then go on, or say what was wrong with the next one."""
        most = 1 if app is None else min(app.limits.tokens, app.limits.queue)
        rest = iter(received)
        while group := list(islice(rest, most)):
            try:
                await self._face.intake.accept(self._app, _drafts(group, app))
            except RequestRefused as refusal:
                _log.warn("notifications of {app} were turned away: {refusal}", app=self._app, refusal=str(refusal))
                self._stored()
                self._shutdown(group[0])
                return
            self._last = group[-1].identifier
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
        if not self.connection.over:
            self.transport.resumeProducing()

    def _failed(self, reason: Failure) -> None:
        _log.failure("notifications could not be stored", reason)
        self._discard()
        self.connection.cut()

    # How it ends.

    def _refuse(self, status: int, identifier: int | None) -> None:
        """Say which notification was refused; one without an identifier cannot be named."""
        self._end(b"" if identifier is None else encode_error(status, identifier))

    def _shutdown(self, refused: ReceivedNotification | None) -> None:
        """
        Say which was the last one that was stored.

        Where none was that can be named, the first that was not is named instead, as one that could not be dealt with:
        a client takes all before the one that is named for sent.
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
        """What comes from now on is not looked at."""
        self._closing = until
        self._waiting.clear()


def _judged(notification: ReceivedNotification, app: App | None) -> int | None:
    """
    Find what keeps a notification from being sent to Apple; ``None`` where nothing does.

    A payload cannot be too long, since its length has 16 bits.
    """
    if not notification.token:
        return Status.MISSING_DEVICE_TOKEN
    if len(notification.token) > MAX_TOKEN:
        return Status.INVALID_TOKEN_SIZE
    if app is not None and lacks_topic(app):
        return Status.MISSING_TOPIC
    if not notification.payload:
        return Status.MISSING_PAYLOAD
    try:
        payloads.decode(notification.payload)
    except InvalidPayload:
        return Status.UNKNOWN
    return None


def _named(notification: ReceivedNotification, status: int) -> int | None:
    """Tell by which identifier a notification is named: Apple's servers named 0 where the token was missing."""
    return 0 if status == Status.MISSING_DEVICE_TOKEN and notification.command != 0 else notification.identifier


def _drafts(received: Sequence[ReceivedNotification], app: App | None) -> list[Draft]:
    """Put equal ones that follow each other together."""
    drafts = []
    for (payload, expiration, priority), equal in groupby(
        received, lambda each: (each.payload, each.expiration, each.priority)
    ):
        headers = {} if app is None else default_headers(app)
        if expiration is not None:
            headers["apns-expiration"] = str(expiration)
        if priority is not None:
            headers["apns-priority"] = str(priority)
        drafts.append(Draft(payload, headers, [each.token for each in equal]))
    return drafts


@implementer(IPullProducer)
class _Feedback(FaceProtocol):
    """
    A connection on which dead tokens are listed.

    :param face: the face.
    """

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
        """List, unless this is being done already: each token is told to one reader."""
        app = self._face.app_of(self.fingerprint)
        if app is None or app in self._face.listing:
            self.transport.loseConnection()
            return
        self._app = app
        self._face.listing.add(app)
        self._network().registerProducer(self, False)

    def gone(self, reason: Failure) -> None:
        """What was listed need not be listed again, if it arrived."""
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
        """The rest is listed next time."""
        self.connection.cut()

    def dataReceived(self, data: bytes) -> None:
        """There is nothing to say to this service."""

    # IPullProducer, of the TCP connection: it asks when all that was written is handed to the network.

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
            self.transport.loseConnection()  # which waits for the peer
        else:
            self.transport.loseWriteConnection()

    def _cannot(self, reason: Failure) -> None:
        if reason.check(RequestRefused):
            _log.warn("dead tokens of {app} cannot be listed: {reason}", app=self._app, reason=str(reason.value))
        else:
            _log.failure("dead tokens cannot be listed", reason)
        self.connection.cut()

    def _network(self) -> Any:
        """The TCP connection, which is below TLS where there is that."""
        return self.transport.transport if self.connection.encrypted else self.transport


def _seconds(dead: FeedbackEntry) -> int:
    return min(max(int(dead.timestamp), 0), 0xFFFFFFFF)


def _listed_again(reason: Failure, app: str) -> None:
    reason.trap(RequestRefused)
    _log.warn("dead tokens of {app} will be listed again: {reason}", app=app, reason=str(reason.value))
