"""
The provider API's session: one HTTP/2 connection to APNs.

Whatever a read brings is settled in one go, then the connection's room is offered, and all that goes out as a
consequence leaves in one write. Nothing is done per notification but what the notification itself needs: the deadline
for answers is one timer for the whole connection, which every eighth of ``timeout`` marks the latest stream and
cancels what is older than the oldest mark.

A connection on which the server was silent for a minute, whether there was work or not, may be dead without anybody
having been told. It is asked for a sign of life, a PING, and trusted with nothing until it gave one.

With a provider token the session keeps to Apple's rules for it: a token is taken up when the connection begins, and a
newer one no sooner than twenty minutes later.
"""

from __future__ import annotations

from binascii import hexlify
from collections import deque
from datetime import datetime, timezone
from typing import TypeAlias

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall

from txapns import reasons
from txapns._network.endpoints import url_host
from txapns._session.lifespan import Lifespan
from txapns._session.protocol import MAX_REFUSALS, GatewayProtocol
from txapns.credentials import Credential, ProviderToken
from txapns.delivery import Delivery, RequestTemplate
from txapns.errors import (
    AnswerTimeout,
    APNSError,
    ConnectionLost,
    CredentialRefused,
    GatewayShutdown,
    InvalidNotification,
    StreamReset,
    WireError,
)
from txapns.interfaces import IProtocolListener
from txapns.reasons import Action, Reason
from txapns.result import Rejection
from txapns.wire.requests import Answer, GoAway, Headers, RequestSender, Round

__all__ = ["ProviderAPIProtocol"]

#: A notification, and what all of its requests have in common: head, path, fields and body, as the wire takes them.
_Shared: TypeAlias = "tuple[RequestTemplate | None, Headers, bytes, Headers, bytes]"

#: A connection takes up a newer provider token only after this many seconds with its own.
#: Source: "Establishing a token-based connection to APNs" (no more than once every 20 minutes).
TOKEN_HELD = 20 * 60
#: How many times within ``timeout`` the age of the requests under way is looked at.
LOOKS = 8
#: How long the answer to a PING may take, in seconds.
PING_TIMEOUT = 15.0
#: How many octets of answers are dealt with before what follows from them is written: some hundred answers. Where these
#: take 50 ms, that is 2 % more over one connection and 8 % over four than writing once for each read of 65,536.
SLICE = 8_192
#: After this many seconds without an acceptance, a connection with a provider token may answer 500 to everything, and
#: has to be replaced. Seen by users of other libraries, and not documented.
WEDGED = 3_600.0
#: How long a connection on which requests were refused, and none accepted, is offered nothing, in seconds.
HOLD = 1.0


class ProviderAPIProtocol(GatewayProtocol):
    """
    A session of the HTTP/2 provider API.

    :param events: who is told how the session fares.
    :param clock: the reactor, or a ``Clock``; its wall clock dates the provider token.
    :param authority: the gateway's host name or address.
    :param credential: what authenticates the connection: a provider token goes with each request, a certificate was
        shown in the handshake.
    :param timeout: how long an answer may take, in seconds.
    :param ping_interval: after how many seconds without a word from the server it is asked for one; ``None`` for never.
        Apple suggests an hour; address translators forget connections much sooner.
    :param lifespan: after how many requests the server ends a connection, which successive sessions share.
    """

    application_protocol = b"h2"

    def __init__(
        self,
        events: IProtocolListener,
        clock: IReactorTime,
        authority: str,
        credential: Credential | None = None,
        timeout: float = 30.0,
        *,
        ping_interval: float | None = 60.0,
        lifespan: Lifespan | None = None,
    ) -> None:
        super().__init__(events, clock, timeout, credential)
        self._lifespan = lifespan or Lifespan()
        self._ping_interval = ping_interval
        self._token = credential if isinstance(credential, ProviderToken) else None
        single = self._token is not None
        # A zone says something on this machine alone, and so does not belong there (RFC 6874, section 1).
        name = url_host(authority.partition("%")[0]).encode("idna")
        self._most = self._lifespan.most
        self._requests: RequestSender[Delivery] = RequestSender(name, most=self._most, single=single)
        self._authorization: Headers = ()
        self._authorized_at = 0.0
        self._shared: _Shared = (None, (), b"", (), b"")
        self._in_round = False
        self._quiet = 0
        self._heard = 0.0
        self._served = 0.0
        self._silence: IDelayedCall | None = None
        self._ping: IDelayedCall | None = None
        self._held: IDelayedCall | None = None
        self._marks: deque[int] = deque()
        self._watch = LoopingCall(self.fenced, self._look)
        self._watch.clock = self._clock

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""
        return len(self._requests)

    def started(self) -> None:
        """Send the preface. The session is ready when the server's SETTINGS come."""
        self._authorize()
        self._write()

    def room(self) -> tuple[int, int]:
        """How many requests, and how many octets of bodies, the connection would take now."""
        if self._paused or self._draining or self._ping is not None or self._held is not None:
            return 0, 0
        return self._requests.room()

    def deliver(self, deliveries: list[Delivery]) -> None:
        """
        Send a request for each.

        :param deliveries: at most as many as there is room for.
        """
        self._authorize()
        send = self._requests.send
        message, head, path, fields, body = self._shared
        for delivery in deliveries:
            if delivery.notification is not message:
                message, head, path, fields, body = self._shared = self._share(delivery.notification)
            send(delivery, head, path + hexlify(delivery.device), fields, body)
        if not self._watch.running:
            self._marks.clear()
            self._quiet = 0
            self._watch.start(self._timeout / LOOKS, now=False)
        if not self._in_round:
            self._write()
            if not self._requests.open:
                self.drain(None)

    def _share(self, message: RequestTemplate) -> _Shared:
        """Make what all the requests of a notification have in common."""
        fields = (*self._authorization, *message.headers())
        return message, self._requests.head(message.method), message.path, fields, message.body

    def received(self, data: bytes) -> None:
        """Take in what the server says, in slices, so that the next requests leave before all of it is dealt with."""
        for start in range(0, len(data), SLICE):
            if self._error is None:
                self._take_in(data[start : start + SLICE])

    def _take_in(self, data: bytes) -> None:
        """Settle what was answered, then offer the room."""
        self._heard = self._clock.seconds()
        if self._ping is not None:  # whatever it says, it is alive
            self._ping.cancel()
            self._ping = None
            self._await_silence()
        try:
            received = self._requests.receive(data)
        except WireError as error:
            self.abort(error)
            return
        self._in_round = True
        try:
            self._settle(received)
            if received.ready:
                self._served = self._heard
                self._await_silence()
                self.become_ready()
            elif not self._draining:
                self._events.protocol_room(self)
        finally:
            self._in_round = False
        self._write()
        self._conclude()

    def goodbye(self) -> None:
        """Send GOAWAY."""
        self._requests.goodbye()
        self._write()

    def ended(self, error: APNSError) -> list[Delivery]:
        """Whatever left whole is in doubt; what did not, was not processed."""
        if self._watch.running:
            self._watch.stop()
        for call in (self._silence, self._ping, self._held):
            if call is not None:
                call.cancel()
        self._silence = self._ping = self._held = None
        if self._most and not self._requests.left:
            self._lifespan.ended(0)
        gone = self._requests.abandon()
        self._settle_given_up(gone, error)
        return gone.refused

    def _write(self) -> None:
        """Send what is to be sent, and settle what ended by that: requests that turned out not to be sendable."""
        if self._paused:
            return  # what the peer makes us answer is not to pile up in the transport; resuming writes it
        data = self._requests.data_to_send()
        if data:
            assert self.transport is not None
            self.transport.write(data)
        ended = self._requests.take()
        self._settle(ended)
        if ended.unsendable and not self._draining:
            self._events.protocol_room(self)

    def _conclude(self) -> None:
        """Look whether that was the connection's last act."""
        if self._requests.closed and (self.in_flight or not self._draining):
            self.abort(WireError("the server does not keep to HTTP/2"))
            return
        if not self._requests.open:
            self.drain(None)
        if not self.in_flight and self._watch.running:
            self._watch.stop()
        self.close_if_drained()

    def _await_silence(self) -> None:
        """See to it that the server is asked for a sign of life when it has been silent for long."""
        if self._ping_interval is not None:
            left = max(0.0, self._heard + self._ping_interval - self._clock.seconds())
            self._silence = self.later(left, self._send_ping, self._heard)

    def _send_ping(self, heard: float) -> None:
        """Ask for a sign of life, unless there was one meanwhile, or the connection is about to be closed."""
        self._silence = None
        if self._closing is not None:
            return
        if self._heard > heard:
            self._await_silence()
            return
        if self._paused:  # it would not leave; and what is not read has a deadline of its own
            self._silence = self.later(self._timeout, self._send_ping, heard)
            return
        patience = min(PING_TIMEOUT, self._timeout / 2)  # what waits for it has no longer than timeout
        error = ConnectionLost(f"the gateway did not answer a PING within {patience:g} s")
        self._ping = self.later(patience, self._unanswered, error)
        self._requests.ping()
        self._write()

    def _unanswered(self, error: ConnectionLost) -> None:
        self._ping = None
        self.abort(error)

    def _authorize(self) -> None:
        """Take up the provider token, or a newer one once ours has been held long enough."""
        if self._token is None:
            return
        now = self._clock.seconds()
        if not self._authorization or now - self._authorized_at >= TOKEN_HELD:
            signed = self._token.current(self._wall.now())
            authorization = ((b"authorization", signed.value),)
            if authorization != self._authorization:
                self._authorization, self._authorized_at = authorization, now
                self._shared = (None, (), b"", (), b"")

    def resumed(self) -> None:
        """What could not be written meanwhile goes first."""
        self._paused = False
        self._write()
        super().resumed()

    def _settle(self, received: Round[Delivery]) -> None:
        if received.accepted or received.answered or received.rejected or received.refused or received.reset:
            self._quiet = 0
        _accept(received)
        if received.accepted or received.answered:
            self._served = self._heard
            self.prove(len(received.accepted) + len(received.answered))
        elif received.refused and self._requests.open:
            self._hold()
        # What was not processed waits again before anything else is reported: if the credential turns out to be
        # refused, that is the end of all that waits.
        if received.goaway is not None and received.refused and (self.proved or self.in_flight):
            # The server took others, if only a few: there is an end to it, so it is not held against these.
            self._events.protocol_returned(self, received.refused)
        else:
            self.hand_back(received.refused)
        self.hand_back([delivery for delivery, answer in received.rejected if self._rejected(delivery, answer)])
        for delivery, code in received.reset:
            error = StreamReset(f"the server dropped the request without an answer (HTTP/2 error {code})")
            delivery.outcomes.uncertain(delivery, error)
        for delivery in received.unsendable:
            delivery.outcomes.unsent(delivery, InvalidNotification("its header fields are longer than HTTP/2 allows"))
        if received.goaway is not None:
            self._gone_away(received.goaway)

    def _rejected(self, delivery: Delivery, answer: Answer) -> bool:
        """
        Report a refusal, or find that the connection was refused rather than the notification.

        :returns: whether to send it again on another connection.
        """
        reason = answer.reason
        action = reasons.action(answer.status, reason)
        elsewhere = (
            action is Action.RECONNECT
            or reason == Reason.TOO_MANY_PROVIDER_TOKEN_UPDATES  # the same token will do, on another connection
            # Invalid is also one from the future, signed while our clock was ahead.
            or ((action is Action.RENEW or reason == Reason.INVALID_PROVIDER_TOKEN) and self._renewed(action))
            or (answer.status == 500 and self._token is not None and self._heard - self._served > WEDGED)
        )
        if elsewhere and delivery.refusals < MAX_REFUSALS:
            self.drain(GatewayShutdown(f"the gateway ends this connection: {reason}"))
            return True
        if action is Action.RENEW or (action is Action.CREDENTIAL and not self.proved):
            self.drain(CredentialRefused(reasons.text(answer.status, reason), reason))
        elif action not in (Action.RETRY, Action.RECONNECT):
            self.prove()
        self._reject(delivery, answer)
        return False

    def _settle_given_up(self, gone: Round[Delivery], error: APNSError) -> None:
        """Report what became of requests that were given up, but for those that were not processed."""
        _accept(gone)
        for delivery, answer in gone.rejected:
            self._reject(delivery, answer)
        for delivery, _ in gone.reset:
            delivery.outcomes.uncertain(delivery, error)

    def _reject(self, delivery: Delivery, answer: Answer) -> None:
        timestamp, headers = answer.timestamp, dict(answer.headers)
        # Answers to broadcasts and to requests about channels name this field differently.
        apns_id = headers.get(b"apns-id", headers.get(b"apns-request-id", b"")).decode("utf-8", "replace")
        rejection = Rejection(
            delivery.identifier,
            delivery.token,
            answer.status,
            answer.reason,
            None if timestamp is None else _utc(timestamp),
            apns_id or None,
            answer.retry_after(self._wall.now()),
        )
        self._events.protocol_rejected(self, delivery, rejection)

    def _hold(self) -> None:
        """A server that does nothing but refuse is given a moment before it is offered the same again."""
        if self._held is None:
            self._held = self.later(HOLD, self._resume)

    def _resume(self) -> None:
        self._held = None
        if not self._draining:
            self._events.protocol_room(self)

    def _renewed(self, action: Action) -> bool:
        """Whether the provider token that was refused gives way to another."""
        if self._token is None:
            return False  # whatever the server means, our certificate is all there is
        sign = self._token.renew if action is Action.RENEW else self._token.current
        signed = sign(self._wall.now())
        return ((b"authorization", signed.value),) != self._authorization

    def _gone_away(self, goaway: GoAway) -> None:
        said = goaway.reason or f"HTTP/2 error {goaway.code}"
        self._most = 0
        self._lifespan.ended(0 if goaway.code else (goaway.last_stream_id + 1) // 2)
        if reasons.action(0, goaway.reason) is Action.CREDENTIAL:
            self.drain(CredentialRefused(reasons.text(0, goaway.reason), goaway.reason))
        else:
            self.drain(GatewayShutdown(f"the gateway ends this connection: {said}", goaway.code))

    def _look(self) -> None:
        """Give up what is older than ``timeout``; if nothing at all was answered in that time, drain."""
        self._quiet += 1
        self._marks.append(self._requests.last_stream)
        if len(self._marks) <= LOOKS:
            return
        gone = self._requests.cancel_through(self._marks.popleft())
        if (gone.refused or gone.reset) and self._quiet >= LOOKS:
            self.drain(AnswerTimeout(f"the gateway has answered nothing for {self._timeout:g} s"))
        self._write()
        error = AnswerTimeout(f"no answer came within {self._timeout:g} s")
        self._settle_given_up(gone, error)
        for delivery in gone.refused:
            delivery.outcomes.unsent(delivery, error)
        if not self._draining:
            self._events.protocol_room(self)
        self._conclude()


def _accept(received: Round[Delivery]) -> None:
    for delivery, headers in received.accepted:
        delivery.outcomes.accepted(delivery, headers)
    for delivery, answer in received.answered:
        if answer.page:
            said = f"something on the way answered {answer.status} with a web page: {answer.reason}"
            delivery.outcomes.uncertain(delivery, WireError(said))
        else:
            delivery.outcomes.accepted(delivery, answer.headers, answer.body)


def _utc(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None  # a date no calendar has is no date
