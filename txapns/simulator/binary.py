"""
The enhanced binary protocol, from Apple's side: silence for what is accepted, one error packet at the first fault.

After an error everything that follows is ignored, and the connection is closed. It is closed only after the provider
has closed it, or after a short time: if a server closes with unread input, its system resets the connection, and the
reset can overtake the six bytes of the error packet. Without an error packet (a notification of command 0 has no
identifier that it could name) the connection is closed at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from OpenSSL.crypto import X509
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._credentials.choice import inspect_certificate
from txapns._network.transports import transport_of
from txapns.devices.push import json_object
from txapns.reasons import Status, status_name
from txapns.simulator.answers import DEVICES, PlannedAnswer
from txapns.simulator.inbox import Connection, Inbox
from txapns.wire.frames import MalformedFrame, NotificationParser, ReceivedNotification, encode_error

__all__ = ["EnhancedNotificationServer"]

#: The longest payload since 2014, and the longest before. Apple's documents still give that for commands 0 and 1.
MAX_PAYLOAD, MAX_LEGACY_PAYLOAD = 2_048, 256
#: How much is recorded of a token and of a payload that are too long, in bytes each: thousands of them are kept.
MAX_KEPT = 8_192
#: Bytes in a device token.
TOKEN_LENGTH = 32
#: The largest size that the two lengths of commands 0 and 1 can announce, in bytes. So the parser never finds these too
#: long: the token or payload is rejected here, and for command 0 without an error packet.
MAX_FRAME = 2 * 0xFFFF
#: How long to wait for the provider to close after an error, in seconds.
LINGER = 1.0
#: How long the provider may take to close its side before the connection is aborted, in seconds.
CLOSE_TIMEOUT = 5.0
#: The time between the pieces of an error packet, in seconds.
PAUSE = 0.01

#: A fault to inject: given the notification and its status (``None`` for accepted) it returns the status to record and
#: send, or ``False`` to ignore the notification. If it ends the connection itself, no error packet follows.
Fault = Callable[["EnhancedNotificationServer", ReceivedNotification, "int | None"], "int | bool | None"]


@implementer(IHandshakeListener)
class EnhancedNotificationServer(Protocol):
    """
    One connection of a provider.

    :param clock: the reactor, or a ``Clock``.
    :param inbox: the record of what was received, and the devices.
    :param delay: the time until an error packet is sent, in seconds.
    :param fault: what to do wrong; see :data:`Fault`.
    :param strict_legacy_payload: whether commands 0 and 1 accept at most 256 bytes of payload.
    :param environment: ``"production"`` or ``"sandbox"``: which device tokens are valid here.

    :ivar accepted: the identifier of the last accepted notification; ``None`` if it had none, or if there was none.
    """

    def __init__(
        self,
        clock: IReactorTime,
        inbox: Inbox,
        *,
        delay: float = 0.0,
        fault: Fault | None = None,
        strict_legacy_payload: bool = False,
        environment: str = "production",
    ) -> None:
        self.accepted: int | None = None
        self._connection = Connection(0)
        self._clock = clock
        self._inbox = inbox
        self._delay = delay
        self._fault = fault
        self._max_legacy_payload = MAX_LEGACY_PAYLOAD if strict_legacy_payload else MAX_PAYLOAD
        self._environment = environment
        self._parser = NotificationParser(MAX_FRAME)
        self._over = False
        self._later: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Send the error packet at once."""
        self._connection = self._inbox.connect(transport_of(self).getPeer())
        transport_of(self).setTcpNoDelay(True)

    def handshakeCompleted(self) -> None:
        """Note how the provider is connected; its certificate was demanded."""
        transport = transport_of(self)
        self._connection.tls = transport.getHandle().get_protocol_version_name()
        certificate = cast(X509, transport.getPeerCertificate()).to_cryptography()
        topics, environments = inspect_certificate(certificate)
        self._connection.topics = topics or self._connection.topics
        self._connection.environments = tuple(sorted(environments))

    def dataReceived(self, data: bytes) -> None:
        """Accept notifications until the first fault."""
        if self._over:
            return
        try:
            received = self._parser.receive(data)
        except MalformedFrame as error:
            self._take(error.received)
            if not self._over:
                self._inbox.rejected[status_name(error.status)] += 1
                self.refuse(error.status, error.identifier)
        else:
            self._take(received)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Cancel what was to be sent."""
        self._over = True
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def refuse(self, status: int, identifier: int) -> None:
        """Send the error packet, and ignore everything that follows."""
        self.finish(encode_error(status, identifier))

    def finish(self, *pieces: bytes, after: float = 0.0) -> None:
        """
        Ignore everything that follows; send these pieces in separate writes, and close.

        :param pieces: what to send; empty to close at once.
        :param after: how much later than other error packets this one is sent, in seconds.
        """
        self.discard()
        self._later = self._clock.callLater(self._delay + after, self._send, [piece for piece in pieces if piece])

    def reset(self, data: bytes) -> None:
        """
        Ignore everything that follows; send this, and abort the connection as soon as it has been sent, without reading
        what has arrived meanwhile.
        """
        self.discard()
        self._later = self._clock.callLater(self._delay, self._reset, data)

    def half_close(self) -> None:
        """Ignore everything that follows; close the direction to the provider, TLS and TCP, and continue reading."""
        self.discard()
        transport = transport_of(self)
        transport.loseConnection()
        transport.transport.loseWriteConnection()

    def stall(self) -> None:
        """Stop reading."""
        self.discard()
        transport_of(self).pauseProducing()

    def discard(self) -> None:
        """Ignore everything that follows."""
        self._over = True

    def abort(self) -> None:
        """Abort the connection."""
        self.discard()
        transport_of(self).abortConnection()

    def answer(self, notification: ReceivedNotification, status: int) -> bytes:
        """Make the error packet that Apple's servers sent: an empty one for command 0, which has no identifier."""
        if notification.command == 0:
            return b""
        # Apple's servers sent the identifier 0 if the token was missing.
        missing = status == Status.MISSING_DEVICE_TOKEN
        return encode_error(status, 0 if missing else notification.identifier or 0)

    def _send(self, pieces: list[bytes]) -> None:
        self._later = None
        if not pieces:
            self._close()
            return
        assert self.transport is not None
        self.transport.write(pieces[0])
        if len(pieces) > 1:
            self._later = self._clock.callLater(PAUSE, self._send, pieces[1:])
        else:
            self._later = self._clock.callLater(LINGER, self._close)

    def _close(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()
        self._later = self._clock.callLater(CLOSE_TIMEOUT, self._abort_after, 0)

    def _reset(self, data: bytes) -> None:
        self.stall()
        assert self.transport is not None
        self.transport.write(data)
        # TLS takes a turn of the reactor to pass it to TCP, and TCP takes one to pass it to the system.
        self._abort_after(2)

    def _abort_after(self, turns: int) -> None:
        if turns > 0:
            self._later = self._clock.callLater(0, self._abort_after, turns - 1)
        else:
            self._later = None
            self.abort()

    def _take(self, received: list[ReceivedNotification]) -> None:
        for notification in received:
            status: int | bool | None = self.status_for(notification)
            planned = self._planned(notification)
            if planned is not None:
                status = self._give(planned, notification, status)
            elif self._fault is not None:
                status = self._fault(self, notification, status)
            if status is not False:
                self._note(notification, None if status is None else int(status))
            if self._over:
                return
            if status is None:
                self.accepted = notification.identifier
            elif status is not False:
                self.finish(self.answer(notification, int(status)))
                return

    def _planned(self, notification: ReceivedNotification) -> PlannedAnswer | None:
        if not len(self._inbox.answers):
            return None
        topic = next(iter(self._connection.topics), "")
        headers = {":path": DEVICES + notification.token.hex(), "apns-topic": topic}
        return self._inbox.answers.take(headers, "binary")

    def _give(
        self, planned: PlannedAnswer, notification: ReceivedNotification, status: int | None
    ) -> int | bool | None:
        """Give a planned answer; like a fault, it returns the status to record."""
        if planned.error_packet is not None:
            status = planned.error_packet
        if planned.drop:
            self.discard()
            self._later = self._clock.callLater(planned.delay, self._abort_after, 0)
            return None if status is None else False
        if status is not None:
            self.finish(self.answer(notification, status), after=planned.delay)
        elif planned.goaway:
            self.finish(self.answer(notification, Status.SHUTDOWN), after=planned.delay)
        return status

    def _note(self, notification: ReceivedNotification, status: int | None) -> None:
        fields = ((name, getattr(notification, name)) for name in ("identifier", "expiration", "priority"))
        headers = {name: str(value) for name, value in fields if value is not None}
        reason = None if status is None else status_name(status)
        token, payload = notification.token[:MAX_KEPT], notification.payload[:MAX_KEPT]
        self._inbox.note("binary", token, payload, headers, reason, status or 0, self._connection)

    def status_for(self, notification: ReceivedNotification) -> int | None:
        """Find the status of a notification, ``None`` if it is accepted. The token is checked first."""
        if not notification.token:
            return Status.MISSING_DEVICE_TOKEN
        if len(notification.token) != TOKEN_LENGTH:
            return Status.INVALID_TOKEN_SIZE
        if not notification.payload:
            return Status.MISSING_PAYLOAD
        if len(notification.payload) > (MAX_PAYLOAD if notification.command == 2 else self._max_legacy_payload):
            return Status.INVALID_PAYLOAD_SIZE
        content = json_object(notification.payload)
        if content is None or notification.priority not in (None, 5, 10):
            return Status.UNKNOWN
        if notification.priority == 10 and _silent(content):
            return Status.UNKNOWN
        token = notification.token
        good = token not in self._inbox.dead and self._inbox.known(token, self._environment)
        return None if good else Status.INVALID_TOKEN


def _silent(content: dict[str, object]) -> bool:
    """Whether there is nothing to show or to play; Apple requires priority 5 for such a notification."""
    aps = content.get("aps")
    return isinstance(aps, dict) and "content-available" in aps and not aps.keys() & {"alert", "badge", "sound"}
