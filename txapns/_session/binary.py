"""
The enhanced binary protocol: notifications out, at most one error packet in.

Success is silent in this protocol. What was written is kept, in order, until one of these happens:

*An error packet.* Everything before the notification that it names was accepted, that one was rejected, and everything
after it was discarded by the server and is returned to be sent over another connection. Status 10 (shutdown) names the
last one *accepted*.

*Settle time.* No error packet came for ``settle_time`` seconds after a notification had left: it counts as accepted.
Apple answers within a round trip, so two seconds are generous. An answer that comes even later cannot be reported, and
the notification that it names was counted as accepted. Two things do not count as silence: the time in which the
peer's system has not acknowledged what was written (see :mod:`txapns._network.tcp`), because it is dead, unreachable or
not reading; and the time in which this process was too busy to read. What is not acknowledged within ``timeout`` ends
the connection.

*A barrier.* With ``barrier=True`` nothing is accepted by silence: when no more is waiting, or as many as allowed are
unconfirmed, a deliberately invalid notification (with an empty token) is sent last. Its rejection proves that all
before it were accepted. It costs the connection, since the server closes after every error.

*The end.* A connection that closes without an error packet leaves everything that is kept *uncertain*.

Command 0 has no identifiers. So an error packet can name nothing but the barrier there, and a server rejects by simply
closing: the end, as above.

What the server discarded has to be sent again, so much is kept on one connection only while errors are rare: see
:class:`Allowance`.

Source: Apple's archived "Binary Provider API" and "Legacy Notification Format"; technical note TN2265.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Callable

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from txapns import reasons
from txapns._network.tcp import read_last, unacknowledged
from txapns._network.transports import transport_of
from txapns._session.protocol import GatewayProtocol
from txapns._session.retained import RetainedDeliveries
from txapns._session.tokens import Tokens, device_of, settled, triples_of
from txapns.credentials import Credential
from txapns.delivery import Delivery, DeliveryListener, RequestTemplate
from txapns.errors import (
    AnswerTimeout,
    APNSError,
    ConnectionLost,
    CredentialRefused,
    InvalidNotification,
    RemoteError,
    WireError,
)
from txapns.interfaces import IProtocolListener
from txapns.notification import Notification
from txapns.result import Rejection
from txapns.wire import frames
from txapns.wire.frames import ErrorPacket, ErrorParser
from txapns.wire.unconfirmed import ErrorResult, Unconfirmed

__all__ = ["Allowance", "EnhancedNotificationProtocol"]

_log = Logger()

#: The bounds for how many notifications may be unconfirmed on one connection. Each takes some 200 bytes of memory; but
#: only a server that reads a quarter of a million in a second gets near the upper bound.
WINDOW = 500_000
LEAST = 100
#: The allowance aims at this many times the number accepted before an error: the next error may be that far away.
REACH = 4
#: How many bytes of payload are taken at once: about as many as fill the transport's buffers.
TAKE = 65_536
#: A notification without an expiration is stored as long as the provider API would store it, in seconds (30 days); the
#: binary protocol requires one.
STORED = 30 * 24 * 3600


@attrs.define
class Allowance:
    """
    How many notifications may be unconfirmed on a connection, as learned from the connections before it.

    Each dead token costs what was written after it, since the server discards that. If the allowance were always large,
    a batch with many dead tokens would be written again almost completely for each of them. If it were always small, a
    batch without any would wait for the settle time again and again. So an error moves it halfway to a multiple of
    what the connection had accepted, and each notification that settles without an error widens it by one.
    """

    size: int = WINDOW

    def widen(self, settled: int) -> None:
        """Notifications were accepted, and no error came."""
        self.size = min(self.size + settled, WINDOW)

    def narrow(self, accepted: int) -> None:
        """An error packet came, after the server had accepted about this many on the connection."""
        self.size = min(max((self.size + REACH * accepted) // 2, LEAST), WINDOW)


class EnhancedNotificationProtocol(GatewayProtocol):
    """
    The enhanced binary protocol.

    :class:`~txapns.APNSClient` uses it, and it can be used by itself: make it with a
    :class:`~txapns.ProtocolListener`, connect it with :meth:`Gateway.endpoint <txapns.Gateway.endpoint>`, and call
    :meth:`send` once ``protocol_ready`` is called on the listener.

    :param events: receives what happens to the protocol.
    :param clock: the reactor, or a ``Clock``.
    :param credential: the certificate shown in the handshake, to name its dates if the server refuses it.
    :param timeout: how long a stalled write or the answer to the barrier may take, in seconds.
    :param settle_time: how long after it has left a notification counts as accepted, in seconds.
    :param command: the format of notifications: 0, 1 or 2.
    :param allowance: how many may be unconfirmed; successive connections share it. By default as many as possible.
    """

    def __init__(
        self,
        events: IProtocolListener,
        clock: IReactorTime,
        credential: Credential | None = None,
        timeout: float = 30.0,
        *,
        settle_time: float = 2.0,
        barrier: bool = False,
        command: int = 2,
        allowance: Allowance | None = None,
    ) -> None:
        super().__init__(events, clock, timeout, credential)
        self._settle_time = settle_time
        self._barrier = barrier
        self._command = command
        self._allowance = allowance or Allowance()
        self._retained = RetainedDeliveries()
        self._unconfirmed: Unconfirmed[Delivery] = Unconfirmed(self._retained)
        self._parser = ErrorParser()
        # Each write that is not settled, oldest first: when it was made, its last identifier, and how many bytes had
        # been written in total, including it.
        self._writes: deque[tuple[float, int, int]] = deque()
        self._written = 0
        # How many of these bytes have left our own buffers, as far as we know.
        self._flushed = 0
        self._not_before = 0.0
        self._settling: IDelayedCall | None = None
        self._deadline = self.alarm(self._expire)
        self._barrier_identifier: int | None = None
        self._answered = False

    @property
    def in_flight(self) -> int:
        """How many notifications are not confirmed."""
        return len(self._unconfirmed)

    def in_flight_of(self, outcomes: DeliveryListener) -> list[Delivery]:
        """List the notifications that are not confirmed and whose outcomes are received there."""
        return self._retained.of(outcomes)

    @property
    def _awaits_answer(self) -> bool:
        """Whether an error packet has to come: the answer to the barrier, or the rest of one."""
        return self._barrier_identifier is not None or self._parser.pending > 0

    def started(self) -> None:
        """There is no greeting: the protocol is ready at once."""
        self.become_ready()

    def room(self) -> tuple[int, int]:
        """How many notifications it would take now, and how many bytes of payload in one write."""
        if self._paused or self._draining or not self._ready or self._awaits_answer:
            return 0, 0
        return self._allowance.size - len(self._unconfirmed), TAKE

    def send(self, notification: Notification, tokens: Tokens, outcomes: DeliveryListener) -> None:
        """
        Send one notification to several devices, in one write.

        This is for programs that use the protocol by itself. It may be called while :meth:`room` is zero: what does not
        leave at once waits in the transport's buffers.

        :param tokens: an iterable of device tokens (``str`` is hexadecimal, ``bytes`` is raw), or of pairs of an
            identifier and a token, or a mapping of identifiers to tokens. The default identifier is the position.
        :param outcomes: receives the outcome of each, by one call.
        :raises InvalidToken: one of the tokens cannot be sent. Nothing was written.
        :raises ConnectionLost: the connection is not ready yet, or takes nothing more. Nothing was written.
        :raises TypeError: the tokens are not iterable, or an async iterable. Nothing was written.
        """
        triples = triples_of(notification, tokens)
        if isinstance(triples, AsyncIterable):
            raise TypeError("send() writes at once, so it cannot take an async iterable; APNSClient.send() can")
        deliveries = [
            Delivery(outcomes, identifier, settled(token), device_of(token), notification, notification.body)
            for identifier, notification, token in triples
        ]
        if self._draining or not self._ready or self._awaits_answer:
            raise ConnectionLost("the connection is not ready, or takes nothing more; nothing was written")
        self.deliver(deliveries)

    def deliver(self, deliveries: list[Delivery]) -> None:
        """Write a frame for each, all in one write."""
        unconfirmed = self._unconfirmed
        identifier = 0
        encoded: list[bytes] = []
        impossible: list[tuple[Delivery, InvalidNotification]] = []
        last: Delivery | None = None
        for delivery in deliveries:
            try:
                if last is None or delivery.notification is not last.notification or delivery.body is not last.body:
                    encode, last = self._encoder(delivery.notification, delivery.body), delivery
                encoded.append(encode(unconfirmed.next_identifier, delivery.device))
            except InvalidNotification as error:
                impossible.append((delivery, error))
            else:
                identifier = unconfirmed.push(delivery)
        if encoded:
            self._write(b"".join(encoded), identifier)
        # Only now: the listener may close the client, and with it this connection.
        for delivery, reason in impossible:
            delivery.outcomes.unsent(delivery, reason)
        if len(unconfirmed) >= self._allowance.size:
            self.flush()

    def _encoder(self, notification: RequestTemplate, body: bytes) -> Callable[[int, bytes], bytes]:
        """Return a function of identifier and token that encodes a notification for one device."""
        assert isinstance(notification, Notification)  # the others are for the provider API
        expiration = notification.expiration
        if expiration is None:
            expiration = int(self._wall.now()) + STORED
        if self._command == 2:
            return frames.frame_encoder(body, expiration, notification.priority)
        if self._command == 1:
            return lambda identifier, device: frames.encode_enhanced(identifier, expiration, device, body)
        return lambda identifier, device: frames.encode_simple(device, body)

    def flush(self) -> None:
        """Nothing more is waiting: with ``barrier``, send it now."""
        if not self._barrier or not self._ready or not self._unconfirmed or self._barrier_identifier is not None:
            return
        self._barrier_identifier = self._unconfirmed.next_identifier
        self._write(frames.encode_barrier(self._barrier_identifier, self._command), self._barrier_identifier)
        self._deadline.set(self._timeout)

    def received(self, data: bytes) -> None:
        """Process the error packet, or a part of it. What follows it is ignored."""
        if self._answered:
            return
        try:
            packet = self._parser.receive(data)
        except WireError as error:
            self._answered = True
            self.abort(error)
            return
        if packet is not None:
            self._answered = True
            self._apply(packet)
        elif self._awaits_answer:
            self._deadline.set(self._timeout)

    def stopProducing(self) -> None:
        """Writing failed. The error packet that says why may have arrived."""
        self.fenced(read_last, self.transport)

    def resumed(self) -> None:
        """The transport's buffers are empty: what was in them left only now."""
        self._deadline.cancel()
        if self._awaits_answer:
            self._deadline.set(self._timeout)
        now = self._clock.seconds()
        buffered = []
        while self._writes and self._writes[-1][2] > self._flushed:
            _, identifier, end = self._writes.pop()
            buffered.append((now, identifier, end))
        self._writes.extend(reversed(buffered))
        self._flushed = self._written
        super().resumed()
        self._schedule()

    def ended(self, error: APNSError) -> list[Delivery]:
        """Without an error packet everything unconfirmed is uncertain, unless the handshake was refused."""
        self._deadline.cancel()
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        left = self._unconfirmed.abandon()
        if isinstance(error, CredentialRefused) and not self.proved:
            return left  # the handshake failed, so the server read none of it
        if self._command == 0 and isinstance(error, ConnectionLost):
            error = ConnectionLost(
                f"{error}; with command 0 a server rejects a notification in this way, without naming it"
            )
        if self._parser.pending:
            error = ConnectionLost(f"the connection ended within an error packet: {error}")
        for delivery in left:
            delivery.outcomes.uncertain(delivery, error)
        return []

    def _write(self, data: bytes, identifier: int) -> None:
        self._written += len(data)
        self._writes.append((self._clock.seconds(), identifier, self._written))
        transport_of(self).write(data)
        self._schedule()

    # The settle time.

    def _schedule(self) -> None:
        if self._settling is None and not self._barrier and not self._paused and self._writes:
            due = self._due()
            self._settling = self.later(max(0.0, due - self._clock.seconds()), self._read_first, due)

    def _due(self) -> float:
        """When the oldest write settles."""
        return max(self._writes[0][0] + self._settle_time, self._not_before)

    def _read_first(self, due: float) -> None:
        """Let the reactor read first: an error packet may have arrived while this process was busy."""
        now = self._clock.seconds()
        if now - due > self._settle_time / 2:  # so busy that the data may only be leaving now
            self._not_before = now + self._settle_time
        self._settling = self.later(0, self._events.protocol_round, self, self._settle)

    def _settle(self) -> None:
        """What left long enough ago counts as accepted."""
        self._settling = None
        if self._paused or self._answered or self._parser.pending:
            return
        now = self._clock.seconds()
        acknowledged = self._written - unacknowledged(self.transport)
        while self._writes and self._due() <= now:
            written, identifier, end = self._writes[0]
            if end > acknowledged:
                self._wait_longer(now, written)
                break
            self._writes.popleft()
            settled = self._unconfirmed.settle_through(identifier)
            self._allowance.widen(len(settled))
            self.prove(len(settled))
            self._accept(settled)
        self._schedule()
        self._events.protocol_room(self)
        self.close_if_drained()

    def _wait_longer(self, now: float, written: float) -> None:
        """Wait longer for what is not even acknowledged."""
        self._not_before = now + self._settle_time
        if now - written > self._timeout:
            self.abort(AnswerTimeout(f"the gateway has not acknowledged what was written {now - written:.0f} s ago"))

    def _accept(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            delivery.outcomes.accepted(delivery, ())

    # The deadline for the answer to the barrier, and for the rest of an error packet.

    def _expire(self) -> None:
        what = "sent no more of its error packet" if self._parser.pending else "did not answer the barrier"
        self.abort(AnswerTimeout(f"the gateway {what} within {self._timeout:g} s"))

    # The error packet.

    def _apply(self, packet: ErrorPacket) -> None:
        """Sort everything unconfirmed by what the packet says, and leave the connection."""
        status, name = packet.status, reasons.status_name(packet.status)
        result = self._sort(packet)
        refused: CredentialRefused | None = None
        unknown = RemoteError(
            f"the gateway reported {name} for a notification it did not name (identifier {packet.identifier})"
        )
        if reasons.action(status, name) is reasons.Action.CREDENTIAL:
            refused = CredentialRefused(reasons.text(status, name), name)
            self.abort(refused)
        else:
            if result.accepted or result.rejected is not None:
                self.prove(len(result.accepted) or 1)
            self.drain(None if self.proved and not result.uncertain else unknown)
            transport_of(self).abortConnection()
        self._accept(result.accepted)
        rejected = result.rejected
        if rejected is not None:
            rejection = Rejection(rejected.identifier, rejected.token, status, name)
            self._events.protocol_rejected(self, rejected, rejection)
        for delivery in result.uncertain:
            delivery.outcomes.uncertain(delivery, unknown)
        self._learn(packet, result)
        self._return(result, refused)

    def _sort(self, packet: ErrorPacket) -> ErrorResult[Delivery]:
        status, identifier, barrier = packet.status, packet.identifier, self._barrier_identifier
        if barrier is not None:
            # Apple answers an empty token with status 2 and identifier 0. Only the barrier has one.
            nameless = identifier == 0 or self._command == 0
            if identifier == barrier or (nameless and status == reasons.Status.MISSING_DEVICE_TOKEN):
                return ErrorResult(accepted=self._unconfirmed.abandon())
        # With command 0 no notification had an identifier.
        return self._unconfirmed.apply(status, 0 if self._command == 0 else identifier)

    def _return(self, result: ErrorResult[Delivery], refused: CredentialRefused | None) -> None:
        """Return what was discarded to the pool, unless another connection would be refused as well."""
        if refused is not None:
            for delivery in result.resend:
                delivery.outcomes.unsent(delivery, refused)
        elif result.accepted or result.rejected is not None:
            self._events.protocol_returned(self, result.resend)
        else:
            self.hand_back(result.resend)  # nothing was settled, so the attempts are counted

    def _learn(self, packet: ErrorPacket, result: ErrorResult[Delivery]) -> None:
        """Adapt the allowance to how often errors come, and log if the settle time was too short for this one."""
        if result.late:
            _log.warn(
                "{peer}: {status} came for notification {identifier} after it counted as accepted; "
                "a settle time of {settle_time} s is too short",
                peer=self.transport and self.transport.getPeer(),
                status=reasons.status_name(packet.status),
                identifier=packet.identifier,
                settle_time=self._settle_time,
            )
        if result.late or result.rejected is not None:
            self._allowance.narrow(self.answered)
        else:
            self._allowance.widen(len(result.accepted))
