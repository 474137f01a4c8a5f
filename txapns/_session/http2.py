"""
The provider API's protocol: one HTTP/2 connection to APNs.

Everything that one read brings is settled in one go. Then the connection's room is offered, and everything that goes
out as a consequence leaves in one write, at once: with several connections, it would otherwise wait until all of them
had been read. What is sent apart from a read leaves together at the end of the reactor's turn. Per notification there
is only the work that the notification itself needs: the deadline for answers is one timer for the whole connection.
Every eighth of ``timeout`` it marks the latest stream and cancels the streams that are older than the oldest mark.

A connection on which the server was silent for a minute, with or without work, may be dead without either side having
noticed. A PING is sent, and until something arrives, the connection is given no work.

With a provider token the protocol follows Apple's rules: it uses the token it has when the connection begins, and a
newer one no sooner than twenty minutes later.
"""

from __future__ import annotations

from binascii import hexlify
from collections import deque
from datetime import datetime, timezone
from functools import partial

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txapns import reasons
from txapns._network.endpoints import url_host
from txapns._network.transports import write_at_once
from txapns._session.lifespan import Lifespan
from txapns._session.protocol import MAX_RETURNS, GatewayProtocol
from txapns.credentials import Credential, ProviderToken
from txapns.delivery import Delivery, DeliveryListener, RequestTemplate
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

#: A connection switches to a newer provider token only after this many seconds with its current one.
#: Source: "Establishing a token-based connection to APNs" (no more than once every 20 minutes).
TOKEN_HELD = 20 * 60
#: How many times within ``timeout`` the age of the requests in flight is checked.
LOOKS = 8
#: How long the answer to a PING may take, in seconds.
PING_TIMEOUT = 15.0
#: How many bytes of answers are processed before the next requests are written: some sixty answers, so that the server
#: works on these requests meanwhile. Over one connection, this gives a fifth more throughput than 8,192 bytes, at the
#: same CPU time; half as many bytes take a tenth more of that.
SLICE = 2_048
#: After this many seconds without an accepted notification, a connection with a provider token may answer 500 to
#: everything, and has to be replaced. Users of other libraries have seen this; it is not documented.
WEDGED = 3_600.0
#: How long a connection that returned requests unprocessed, and accepted none, is given no work, in seconds.
HOLD = 1.0


class ProviderAPIProtocol(GatewayProtocol):
    """
    The protocol of the HTTP/2 provider API.

    :param events: receives what happens to the protocol.
    :param clock: the reactor, or a ``Clock``; its wall clock dates the provider token.
    :param authority: the gateway's host name or address.
    :param credential: what authenticates the connection: a provider token is sent with each request, a certificate was
        shown in the handshake.
    :param timeout: how long an answer may take, in seconds.
    :param ping_interval: after this many seconds of silence from the server, a PING is sent; ``None`` for never. Apple
        suggests an hour; address translators forget connections much sooner.
    :param lifespan: after how many requests the server ends a connection; successive connections share it.
    :param topic: the topic of notifications without one.
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
        topic: str | None = None,
    ) -> None:
        super().__init__(events, clock, timeout, credential)
        self._topic = topic
        self._lifespan = lifespan or Lifespan()
        self._ping_interval = ping_interval
        self._ping_timeout = min(PING_TIMEOUT, timeout / 2)  # notifications wait for it, and not longer than timeout
        self._token = credential if isinstance(credential, ProviderToken) else None
        single = self._token is not None
        # A zone has a meaning only on this machine, so it does not belong in a request (RFC 6874, section 1).
        name = url_host(authority.partition("%")[0]).encode("idna")
        self._most = self._lifespan.most
        self._requests: RequestSender[Delivery] = RequestSender(name, most=self._most, single=single)
        self._authorization: Headers = ()
        self._authorized_at = 0.0
        self._method = b""
        self._head: Headers = ()
        self._given: Headers = ()
        self._fields: Headers = ()
        self._in_round = False
        self._soon = self.alarm(self._write)
        self._quiet = 0
        self._heard = 0.0
        self._served = 0.0
        self._silence: IDelayedCall | None = None
        self._ping = self.alarm(self._unanswered)
        self._held = self.alarm(self._resume)
        self._marks: deque[int] = deque()
        self._watch = self.alarm(self._look)

    @property
    def in_flight(self) -> int:
        """How many requests are in flight."""
        return len(self._requests)

    def in_flight_of(self, outcomes: DeliveryListener) -> list[Delivery]:
        """List the requests in flight whose outcomes are received there."""
        return [delivery for delivery in self._requests.items() if delivery.outcomes is outcomes]

    def started(self) -> None:
        """Send the preface. The protocol is ready when the server's SETTINGS arrive."""
        self._authorize()
        self._write()

    def room(self) -> tuple[int, int]:
        """How many requests, and how many bytes of bodies, the connection would take now."""
        if self._paused or self._draining or self._ping.is_set or self._held.is_set:
            return 0, 0
        return self._requests.room()

    def deliver(self, deliveries: list[Delivery]) -> None:
        """Send a request for each."""
        self._authorize()
        send = self._requests.send
        template: RequestTemplate | None = None
        for delivery in deliveries:
            if delivery.notification is not template:
                template = delivery.notification
                path, given = template.path, template.headers(self._topic)
                if given is not self._given or template.method is not self._method:
                    self._share(template.method, given)
                head, fields = self._head, self._fields
            own = delivery.apns_id
            every = fields if own is None else (*fields, (b"apns-id", own.encode()))
            send(delivery, head, path + hexlify(delivery.device), every, delivery.body)
        if not self._watch.is_set:
            self._marks.clear()
            self._quiet = 0
            self._watch.set(self._timeout / LOOKS)
        if not self._in_round:
            self._soon.set(0)  # with what else is sent in this turn of the reactor
            if not self._requests.open:
                self.drain(None)

    def _share(self, method: bytes, given: Headers) -> None:
        """Put together what goes before the path and, with the provider token, after it, once for all in a row."""
        self._method, self._head = method, self._requests.head(method)
        self._given, self._fields = given, (*self._authorization, *given)

    def received(self, data: bytes) -> None:
        """Process what the server sends, in slices, so that the next requests leave before all of it is processed."""
        for start in range(0, len(data), SLICE):
            if self._error is None:
                self._process(data[start : start + SLICE])

    def _process(self, data: bytes) -> None:
        """Settle what was answered, then offer the room."""
        self._heard = self._clock.seconds()
        if self._ping.is_set:  # whatever it sends, it is alive
            self._ping.cancel()
            self._await_silence()
        try:
            received = self._requests.receive(data)
        except WireError as error:
            self.abort(error)
            return
        self._in_round = True
        try:
            self._events.protocol_round(self, partial(self._take_in, received))
        finally:
            self._in_round = False
        self._write()
        self._conclude()

    def _take_in(self, received: Round[Delivery]) -> None:
        self._settle(received)
        if received.ready:
            self._served = self._heard
            self._await_silence()
            self.become_ready()
        elif not self._draining:
            self._events.protocol_room(self)

    def goodbye(self) -> None:
        """Send GOAWAY."""
        self._requests.goodbye()
        self._write()

    def ended(self, error: APNSError) -> list[Delivery]:
        """What was sent completely is uncertain; what was not, was not processed."""
        self._watch.cancel()
        self._soon.cancel()
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        self._ping.cancel()
        self._held.cancel()
        if self._most and not self._requests.left:
            self._lifespan.ended(0)
        gone = self._requests.abandon()
        self._settle_given_up(gone, error)
        return gone.refused

    def _write(self) -> None:
        """Send what is due, and settle the requests that turn out not to be sendable."""
        if self._paused:
            return  # what the server makes us answer must not pile up in the transport; resuming writes it
        data = self._requests.data_to_send()
        if data:
            write_at_once(self, data)
        ended = self._requests.take()
        self._settle(ended)
        if ended.unsendable and not self._draining:
            self._events.protocol_room(self)

    def _conclude(self) -> None:
        """Abort, drain or close, if the connection has come to that."""
        if self._requests.closed and (self.in_flight or not self._draining):
            self.abort(WireError("the server does not keep to HTTP/2"))
            return
        if not self._requests.open:
            self.drain(None)
        if not self.in_flight:
            self._watch.cancel()
        self.close_if_drained()

    def _await_silence(self) -> None:
        """Send a PING once the server has been silent for long."""
        if self._ping_interval is not None:
            left = max(0.0, self._heard + self._ping_interval - self._clock.seconds())
            self._silence = self.later(left, self._send_ping, self._heard)

    def _send_ping(self, heard: float) -> None:
        """Send a PING, unless something arrived meanwhile or the connection is closing."""
        self._silence = None
        if self._closing.is_set:
            return
        if self._heard > heard:
            self._await_silence()
            return
        if self._paused:  # it would not leave, and a server that does not read has a deadline already
            self._silence = self.later(self._timeout, self._send_ping, heard)
            return
        self._ping.set(self._ping_timeout)
        self._requests.ping()
        self._write()

    def _unanswered(self) -> None:
        self.abort(ConnectionLost(f"the gateway did not answer a PING within {self._ping_timeout:g} s"))

    def _authorize(self) -> None:
        """Use the provider token, or a newer one once the current one has been used long enough."""
        if self._token is None:
            return
        now = self._clock.seconds()
        if not self._authorization or now - self._authorized_at >= TOKEN_HELD:
            signed = self._token.current(self._wall.now())
            authorization = ((b"authorization", signed.value),)
            if authorization != self._authorization:
                self._authorization, self._authorized_at = authorization, now
                self._given, self._fields = (), authorization

    def resumed(self) -> None:
        """Write first what could not be written meanwhile."""
        self._paused = False
        self._write()
        super().resumed()

    def _settle(self, received: Round[Delivery]) -> None:
        if received.accepted or received.answered or received.rejected or received.refused or received.reset:
            self._quiet = 0
        answers = len(received.accepted) + len(received.answered)
        _accept(received)
        if answers:
            self._served = self._heard
            self.prove(answers)
        elif received.refused and self._requests.open:
            self._held.set(HOLD)  # wait a moment before the server is given the same again
        # What was not processed goes back to the pool before anything else is reported: if the credential turns out to
        # be refused, everything that waits is given up.
        if received.goaway is not None and received.refused and (self.proved or self.in_flight):
            # The server processes some before each GOAWAY, so this ends. It does not count against these.
            self._events.protocol_returned(self, received.refused)
        else:
            self.hand_back(received.refused)
        self.hand_back([delivery for delivery, answer in received.rejected if not self._rejected(delivery, answer)])
        for delivery, code in received.reset:
            error = StreamReset(f"the server dropped the request without an answer (HTTP/2 error {code})")
            delivery.outcomes.uncertain(delivery, error)
        for delivery in received.unsendable:
            delivery.outcomes.unsent(delivery, InvalidNotification("its header fields are longer than HTTP/2 allows"))
        if received.goaway is not None:
            self._gone_away(received.goaway)

    def _rejected(self, delivery: Delivery, answer: Answer) -> bool:
        """
        Report a rejection, unless it is about the connection rather than the notification.

        :returns: whether it was reported; if not, the notification goes to another connection.
        """
        reason = answer.reason
        action = reasons.action(answer.status, reason)
        elsewhere = (
            action is Action.RECONNECT
            or reason == Reason.TOO_MANY_PROVIDER_TOKEN_UPDATES  # the same token works on another connection
            # A token from the future, signed while our clock was ahead, is called invalid as well.
            or ((action is Action.RENEW or reason == Reason.INVALID_PROVIDER_TOKEN) and self._renewed(action))
            or (answer.status == 500 and self._token is not None and self._heard - self._served > WEDGED)
        )
        if elsewhere and delivery.returns < MAX_RETURNS:
            self.drain(GatewayShutdown(f"the gateway ends this connection: {reason}"))
            return False
        if action is Action.RENEW or (action is Action.CREDENTIAL and not self.proved):
            self.drain(CredentialRefused(reasons.text(answer.status, reason), reason))
        elif action not in (Action.RETRY, Action.RECONNECT):
            self.prove()
        self._reject(delivery, answer)
        return True

    def _settle_given_up(self, gone: Round[Delivery], error: APNSError) -> None:
        """Settle requests that were given up, except for those that were not processed."""
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

    def _resume(self) -> None:
        if not self._draining:
            self._events.protocol_room(self)

    def _renewed(self, action: Action) -> bool:
        """Whether there is another provider token than the one that was refused."""
        if self._token is None:
            return False  # there is only the certificate
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
        """Give up what is older than ``timeout``; if nothing was answered in that time, drain."""
        self._watch.set(self._timeout / LOOKS)
        self._quiet += 1
        self._marks.append(self._requests.last_stream)
        if len(self._marks) <= LOOKS:
            return
        gone = self._requests.cancel_through(self._marks.popleft())
        if (gone.refused or gone.reset) and self._quiet >= LOOKS:
            self.drain(AnswerTimeout(f"the gateway answered nothing for {self._timeout:g} s"))
        self._write()
        error = AnswerTimeout(f"no answer came within {self._timeout:g} s")
        self._settle_given_up(gone, error)
        for delivery in gone.refused:
            delivery.outcomes.unsent(delivery, error)
        if not self._draining:
            self._events.protocol_room(self)
        self._conclude()


def _accept(received: Round[Delivery]) -> None:
    # Each is dropped before the next is settled, so that what is sent in answer takes its place in memory: Python's
    # garbage collector runs when the number of objects has grown.
    accepted = received.accepted
    accepted.reverse()
    while accepted:
        delivery, headers = accepted.pop()
        delivery.outcomes.accepted(delivery, headers)
    for delivery, answer in received.answered:
        if answer.page:
            said = f"a proxy or another server on the way answered {answer.status} with a web page: {answer.reason}"
            delivery.outcomes.uncertain(delivery, WireError(said))
        else:
            delivery.outcomes.accepted(delivery, answer.headers, answer.body)


def _utc(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None  # out of range
