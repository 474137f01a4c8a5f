"""
The enhanced binary protocol, from Apple's side: silence for what is accepted, one error packet for the first fault.

After the error nothing that follows is looked at, and the connection is closed. It is closed only after the provider
did, or after a short while: a server that closes with unread input makes its system reset the connection, and the reset
can overtake the six octets of the answer. Where there is no answer (a notification of command 0 has no identifier to
name) it is closed at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from txapns._network.transports import transport_of
from txapns.reasons import Status, status_name
from txapns.simulator.devices import Devices
from txapns.wire.frames import MalformedFrame, NotificationParser, ReceivedNotification, encode_error

__all__ = ["EnhancedNotificationServer"]

#: The longest payload since 2014, and the longest before, which Apple's papers still give for commands 0 and 1.
MAX_PAYLOAD, MAX_LEGACY_PAYLOAD = 2_048, 256
#: Octets in a device token.
TOKEN_LENGTH = 32
#: All that the two lengths of commands 0 and 1 can announce, in octets. So the parser finds nothing of theirs too long:
#: it is refused here, as the token or payload it is, and for command 0 without a packet.
MAX_FRAME = 2 * 0xFFFF
#: How long to wait for the provider to close after an error, in seconds.
LINGER = 1.0
#: How long the provider may take to answer the close, before the connection is cut, in seconds.
CLOSE_TIMEOUT = 5.0
#: How long after each other the pieces of an answer are written, in seconds.
PAUSE = 0.01

#: A fault to play: given the notification and its status (``None`` for accepted) it returns the status to record and to
#: answer, or ``False`` for "as if it had not come". If it ends the connection, its own way is the answer.
Fault = Callable[["EnhancedNotificationServer", ReceivedNotification, "int | None"], "int | bool | None"]


class EnhancedNotificationServer(Protocol):
    """
    One connection of a provider.

    :param clock: the reactor, or a ``Clock``.
    :param devices: the devices and the record.
    :param delay: how long an error packet takes, in seconds.
    :param fault: what to do wrong; see :data:`Fault`.
    :param strict_legacy_payload: whether commands 0 and 1 take payloads of 256 octets at the most.
    :param environment: ``"production"`` or ``"sandbox"``: whose device tokens are good here.

    :ivar accepted: the identifier of the last notification that was accepted; ``None`` if it had none, or before it.
    """

    def __init__(
        self,
        clock: IReactorTime,
        devices: Devices,
        *,
        delay: float = 0.0,
        fault: Fault | None = None,
        strict_legacy_payload: bool = False,
        environment: str = "production",
    ) -> None:
        self.accepted: int | None = None
        self._clock = clock
        self._devices = devices
        self._delay = delay
        self._fault = fault
        self._max_legacy_payload = MAX_LEGACY_PAYLOAD if strict_legacy_payload else MAX_PAYLOAD
        self._environment = environment
        self._parser = NotificationParser(MAX_FRAME)
        self._over = False
        self._later: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """The error packet leaves at once."""
        self._devices.connections += 1
        transport_of(self).setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        """Take notifications until the first fault."""
        if self._over:
            return
        try:
            received = self._parser.receive(data)
        except MalformedFrame as error:
            self._take(error.received)
            if not self._over:
                self._devices.rejected[status_name(error.status)] += 1
                self.refuse(error.status, error.identifier)
        else:
            self._take(received)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nothing is owed any more."""
        self._over = True
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def refuse(self, status: int, identifier: int) -> None:
        """
        Send the error packet and take nothing more.

        :param status: the status.
        :param identifier: the notification's identifier, as it was sent.
        """
        self.finish(encode_error(status, identifier))

    def finish(self, *pieces: bytes, after: float = 0.0) -> None:
        """
        Take nothing more; send these, in separate writes, and close.

        :param pieces: what to send; with nothing, the close is all.
        :param after: how much longer than other answers this one takes, in seconds.
        """
        self.discard()
        self._later = self._clock.callLater(self._delay + after, self._send, [piece for piece in pieces if piece])

    def reset(self, octets: bytes) -> None:
        """
        Take nothing more; send this, and cut the connection as soon as it has left, without having read what came
        meanwhile.

        :param octets: what to send.
        """
        self.discard()
        self._later = self._clock.callLater(self._delay, self._reset, octets)

    def half_close(self) -> None:
        """Take nothing more; close what we write, TLS and TCP, and go on reading."""
        self.discard()
        transport = transport_of(self)
        transport.loseConnection()
        transport.transport.loseWriteConnection()

    def stall(self) -> None:
        """Take nothing more, and read nothing more."""
        self.discard()
        transport_of(self).pauseProducing()

    def discard(self) -> None:
        """Take nothing more, and do not say so."""
        self._over = True

    def abort(self) -> None:
        """Cut the connection without a word."""
        self.discard()
        transport_of(self).abortConnection()

    def answer(self, notification: ReceivedNotification, status: int) -> bytes:
        """
        Find what Apple's servers said to a notification that they refused.

        :param notification: the notification.
        :param status: the status.
        :returns: the error packet; nothing for command 0, which has no identifier to name.
        """
        if notification.command == 0:
            return b""
        # Apple's servers named 0 when the token was missing.
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
        self._later = self._clock.callLater(CLOSE_TIMEOUT, self._cut, 0)

    def _reset(self, octets: bytes) -> None:
        self.stall()
        assert self.transport is not None
        self.transport.write(octets)
        # TLS takes one turn of the reactor to hand it to TCP, and TCP one to hand it to the system.
        self._cut(2)

    def _cut(self, turns: int) -> None:
        if turns > 0:
            self._later = self._clock.callLater(0, self._cut, turns - 1)
        else:
            self._later = None
            self.abort()

    def _take(self, received: list[ReceivedNotification]) -> None:
        for notification in received:
            status: int | bool | None = self.status_for(notification)
            if self._fault is not None:
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

    def _note(self, notification: ReceivedNotification, status: int | None) -> None:
        fields = {
            "identifier": notification.identifier,
            "expiration": notification.expiration,
            "priority": notification.priority,
        }
        headers = {name: str(value) for name, value in fields.items() if value is not None}
        reason = None if status is None else status_name(status)
        self._devices.note("binary", notification.token, notification.payload, headers, reason)

    def status_for(self, notification: ReceivedNotification) -> int | None:
        """
        Find the status of a notification, looking at the token first.

        :param notification: the notification.
        :returns: the status; ``None`` where it is accepted.
        """
        if not notification.token:
            return Status.MISSING_DEVICE_TOKEN
        if len(notification.token) != TOKEN_LENGTH:
            return Status.INVALID_TOKEN_SIZE
        if not notification.payload:
            return Status.MISSING_PAYLOAD
        if len(notification.payload) > (MAX_PAYLOAD if notification.command == 2 else self._max_legacy_payload):
            return Status.INVALID_PAYLOAD_SIZE
        try:
            content = json.loads(notification.payload.decode())  # which would take UTF-16 as well, if given octets
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict) or notification.priority not in (None, 5, 10):
            return Status.UNKNOWN
        if notification.priority == 10 and _silent(content):
            return Status.UNKNOWN
        token = notification.token
        good = token not in self._devices.dead and self._devices.known(token, self._environment)
        return None if good else Status.INVALID_TOKEN


def _silent(content: dict[str, object]) -> bool:
    """Whether there is nothing to show or to hear; Apple wants such a notification to have priority 5."""
    aps = content.get("aps")
    return isinstance(aps, dict) and "content-available" in aps and not aps.keys() & {"alert", "badge", "sound"}
