"""
What Apple's two HTTP/2 servers have in common, the provider API and the one that manages channels: how a connection
begins and ends, and which credentials they accept.
"""

from __future__ import annotations

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import cast

import attrs
from cryptography.x509 import Certificate as X509Certificate
from OpenSSL.crypto import X509
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._credentials.bearer import BearerToken
from txapns._credentials.choice import TOPICS, inspect_certificate
from txapns._network.clocks import wall_clock
from txapns._network.transports import transport_of
from txapns.devices.broadcasts import check_app
from txapns.devices.credential import Credential
from txapns.devices.push import is_identifier
from txapns.devices.rules.refusal import Answer
from txapns.devices.rules.request import MAX_BROADCAST
from txapns.errors import WireError
from txapns.simulator.answers import PlannedAnswer
from txapns.simulator.authority import Authority, SigningKey
from txapns.simulator.inbox import Connection, Inbox
from txapns.simulator.tokens import TOKEN_CHANGE, TOKEN_LIFE, TokenUpdates
from txapns.wire.requests import Request, RequestReceiver

__all__ = ["ACCEPTED", "Fault", "RequestServer", "Response", "fields_of", "random_identifier"]

_FIELDS = "id", "topic", "push-type", "priority", "expiration", "collapse-id", "channel-id"
_OTHERS = ":method", ":scheme", ":authority", ":path", "authorization", "user-agent", "content-type", "content-length"
# The usual names of header fields, and those whose values are hardly ever the same in two requests. All requests that
# the inbox keeps share one text for each name, and for each value of the other fields.
_NAMES = {name.encode(): name for name in (*_OTHERS, *(f"apns-{each}" for each in _FIELDS))}
_UNIQUE = frozenset((b":path", b"apns-id", b"apns-request-id", b"apns-collapse-id"))
_SHARED = 500


@attrs.frozen
class Response:
    """
    A response.

    :ivar status: the HTTP status.
    :ivar reason: Apple's reason; ``""`` with success, or in a response that is not Apple's.
    :ivar timestamp: with 410, since when the token is dead, in UNIX seconds.
    :ivar fields: further header fields.
    :ivar content: the body of a successful response.
    """

    status: int
    reason: str = ""
    timestamp: float | None = None
    fields: tuple[tuple[bytes, bytes], ...] = ()
    content: bytes = b""

    @classmethod
    def of(cls, answer: Answer | None) -> Response | None:
        """Make a response of an answer; of ``None`` it is ``None``."""
        return None if answer is None else cls(answer.status, answer.reason, answer.timestamp)

    @property
    def is_success(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status <= 299

    def body(self) -> bytes:
        """The body."""
        if self.is_success:
            return self.content
        if not self.reason:
            return b""
        content: dict[str, object] = {"reason": self.reason}
        if self.timestamp is not None:
            content["timestamp"] = int(self.timestamp * 1000)
        return json.dumps(content).encode()


#: The response to a notification without faults.
ACCEPTED = Response(200)

#: A fault to inject: it may return another response, or do something to the connection and return ``None`` for none.
Fault = Callable[["RequestServer", Request, Response], "Response | None"]


def fields_of(request: Request) -> dict[str, str]:
    """Return a request's header fields as text, by name; if one is repeated, its last value."""
    return {
        _NAMES.get(name) or name.decode("latin-1"): value.decode("latin-1") if name in _UNIQUE else _shared(value)
        for name, value in request.headers
    }


def random_identifier() -> str:
    """Make a UUID of version 4. :func:`uuid.uuid4` takes three times as long."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


@lru_cache(_SHARED)
def _shared(value: bytes) -> str:
    return value.decode("latin-1")


@implementer(IHandshakeListener, IPushProducer)
class RequestServer(Protocol, ABC):
    """
    One connection of a provider.

    :param clock: the reactor, or a ``Clock``.
    :param authority: the authority that made the signing keys.
    :param inbox: the record of what was received, and the devices.
    :param topic: the app's bundle ID; with a suffix it is another topic of the app.
    :param concurrency: how many streams are allowed once the credentials are accepted.
    :param delay: how long a response takes, in seconds.
    :param fault: what to do wrong; see :data:`Fault`.
    :param window_updates: whether received bytes are given back to the provider's window at once.
    :param updates: the provider tokens that are in use on other connections; left out, none are.
    :param environment: ``"production"`` or ``"sandbox"``: which certificates, signing keys and devices are valid.
    """

    def __init__(
        self,
        clock: IReactorTime,
        authority: Authority,
        inbox: Inbox,
        topic: str,
        *,
        concurrency: int = 1_000,
        delay: float = 0.0,
        fault: Fault | None = None,
        window_updates: bool = True,
        updates: TokenUpdates | None = None,
        environment: str = "production",
    ) -> None:
        self.requests: RequestReceiver
        self._clock = clock
        self._wall = wall_clock(clock)
        self._authority = authority
        self._inbox = inbox
        self._concurrency = concurrency
        self._delay = delay
        self._fault = fault
        self._window_updates = window_updates
        self._updates = updates or TokenUpdates()
        self._environment = environment
        self._certificate: X509Certificate | None = None
        self._topic = topic
        self._credential = Credential(())
        self._connection = Connection(0)
        self._lost = False
        self._paused = False
        self._stalled = False
        self._delayed: set[IDelayedCall] = set()
        # The provider token in use, its key, when it was issued, and when it last replaced another.
        self._bearer: str | None = None
        self._key: SigningKey | None = None
        self._issued = 0.0
        self._replaced = -math.inf

    def connectionMade(self) -> None:
        """Send responses at once."""
        self._connection = self._inbox.connect(transport_of(self).getPeer())
        self._connection.environment = self._environment
        transport_of(self).setTcpNoDelay(True)

    def handshakeCompleted(self) -> None:
        """
        Announce the limit of streams: one until a provider token was accepted, if there is no certificate.

        ALPN is not required: Apple's servers accept HTTP/2 in any case, and some clients rely on that. Other protocols
        are recognized by their first bytes.
        """
        transport = transport_of(self)
        peer = cast("X509 | None", transport.getPeerCertificate())
        self._certificate = None if peer is None else peer.to_cryptography()
        self._connection.tls = transport.getHandle().get_protocol_version_name()
        self.requests = RequestReceiver(
            1 if self._certificate is None else self._concurrency,
            max_body=MAX_BROADCAST,
            window_updates=self._window_updates,
        )
        if self._certificate is not None:
            topics, environments = inspect_certificate(self._certificate)
            listed = any(each.oid == TOPICS for each in self._certificate.extensions)
            self._connection.topics = topics or (self._topic,)
            self._credential = Credential(self._connection.topics, is_certificate=True, listed=listed)
            self._connection.credential = self._credential
            self._connection.environments = tuple(sorted(environments))
            if self._environment not in environments:
                self.requests.goaway(last_stream=0, debug=b'{"reason":"BadCertificateEnvironment"}')
        transport.registerProducer(self, True)
        self.write()

    def dataReceived(self, data: bytes) -> None:
        """Respond to complete requests."""
        if self._stalled:
            return
        try:
            requests = self.requests.receive(data)
        except WireError:
            transport_of(self).abortConnection()
            return
        if requests and self._delay:
            self._later(self._delay, self._answer, requests)
        else:
            self._answer(requests)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Cancel late responses."""
        self._lost = True
        for call in self._delayed:
            call.cancel()
        self._delayed.clear()

    def pauseProducing(self) -> None:
        """Stop writing: the provider does not read, and responses must not pile up in the transport."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Write again."""
        self._paused = False
        self.write()

    def stopProducing(self) -> None:
        """``connectionLost`` follows."""

    def write(self) -> None:
        """Send what is pending; call this after changing ``requests``."""
        if self._paused or self._lost:
            return
        assert self.transport is not None
        data = self.requests.data_to_send()
        if data:
            self.transport.write(data)
        if self.requests.closed:
            self.close()

    def close(self) -> None:
        """Close the connection when everything written has been sent."""
        transport = transport_of(self)
        transport.unregisterProducer()  # or the transport would wait for it
        transport.loseConnection()

    def abort(self) -> None:
        """Abort the connection."""
        self._lost = True
        transport_of(self).abortConnection()

    def stall(self) -> None:
        """Ignore everything received from now on, and leave the connection open."""
        self._stalled = True

    def _later(self, delay: float, function: Callable[..., object], *arguments: object) -> None:
        def elapsed() -> None:
            self._delayed.remove(call)
            function(*arguments)

        call = self._clock.callLater(delay, elapsed)
        self._delayed.add(call)

    def _answer(self, requests: list[Request]) -> None:
        for request in requests:
            if self._lost:
                return
            headers = fields_of(request)
            response = self.response_to(request, headers)
            planned = self._inbox.answers.take(headers)
            if planned is None and self._fault is None:
                self.respond(request, headers, response)
            elif planned is None:
                self._finish(request, headers, response)
            elif planned.delay:
                self._later(planned.delay, self._give, planned, request, headers, response)
            else:
                self._give(planned, request, headers, response)
        self.write()

    def _finish(self, request: Request, headers: dict[str, str], response: Response) -> None:
        faulty = response if self._fault is None else self._fault(self, request, response)
        if faulty is not None:
            self.respond(request, headers, faulty)

    def _give(self, planned: PlannedAnswer, request: Request, headers: dict[str, str], response: Response) -> None:
        """Give a planned answer."""
        if planned.status is not None:
            response = Response(planned.status, planned.reason, planned.timestamp)
        if planned.drop:
            if response.is_success:
                self.take(request)
            self.abort()
            return
        if planned.goaway:
            self.requests.goaway()
        self._finish(request, headers, response)
        self.write()

    # The servers differ in these.

    def id_field(self, path: str) -> str:
        """Name the header field that identifies a request and its response."""
        return "apns-request-id"

    @abstractmethod
    def response_to(self, request: Request, headers: dict[str, str]) -> Response:
        """Find the response to a request."""

    def respond(self, request: Request, headers: dict[str, str], response: Response) -> None:
        """Respond to a request."""
        name = self.id_field(headers.get(":path", ""))
        given = headers.get(name, "")
        identifier = given if is_identifier(given) else random_identifier()
        answer = [(b":status", b"%d" % response.status), (name.encode(), identifier.encode())]
        body = response.body()
        if body:
            answer.append((b"content-type", b"application/json"))
        self.requests.respond(request.stream, [*answer, *response.fields], body)

    def take(self, request: Request) -> None:
        """Do what a request asks for, without a response. A fault may do this instead of responding."""

    # All servers check these.

    def check_form(self, request: Request, headers: dict[str, str]) -> Response | None:
        """Check the form of a request; returns a response if there is a fault."""
        if len(headers) != len(request.headers):
            return Response(400, "DuplicateHeaders")
        name = self.id_field(headers.get(":path", ""))
        if name in headers and not is_identifier(headers[name]):
            return Response(400, "BadMessageId")
        return None

    def check_credentials(self, request: Request, headers: dict[str, str]) -> Response | None:
        """Check the credentials of a request; returns a response if they are not valid."""
        if self._certificate is not None:
            return None
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not bearer:
            return Response(403, "MissingProviderToken")
        if bearer != self._bearer:
            return self._check_token(bearer)
        return Response(403, "ExpiredProviderToken") if self._is_expired(self._issued) else None

    def _check_token(self, bearer: str) -> Response | None:
        """Check a provider token that is not the one in use."""
        token = BearerToken.parse(bearer)
        key = None if token is None else self._authority.keys.get(token.key_id)
        if token is None or key is None or token.team_id != key.team_id or not token.is_signed_by(key.public_key):
            return Response(403, "InvalidProviderToken")
        # Apple's table has BadEnvironmentKeyIdInToken; this is what its servers have been seen to send.
        if key.environment not in (None, self._environment):
            return Response(403, "BadEnvironmentKeyInToken")
        # The first key decides for the connection.
        first = self._key or key
        if first != key:
            return Response(403, "UnrelatedKeyIdInToken" if first.team_id == key.team_id else "InvalidProviderToken")
        if self._is_expired(token.issued_at):
            return Response(403, "ExpiredProviderToken")
        return self._adopt(bearer, key, token.issued_at)

    def _is_expired(self, issued: float) -> bool:
        return issued < self._wall.now() - TOKEN_LIFE

    def _adopt(self, bearer: str, key: SigningKey, issued: float) -> Response | None:
        """Raise the limit of streams with the first valid token. Another may replace it, but not too often."""
        now = self._clock.seconds()
        often = self._bearer is not None and now - self._replaced < TOKEN_CHANGE
        if often or not self._updates.admit(key.team_id, key.key_id, bearer, issued, now):
            return Response(429, "TooManyProviderTokenUpdates")
        if self._bearer is None:
            self.requests.limit(self._concurrency)
        else:
            self._replaced = now
        self._bearer, self._key, self._issued = bearer, key, issued
        self._credential = self._connection.credential = Credential(self._topics_of(key))
        return None

    def _topics_of(self, key: SigningKey) -> tuple[str, ...]:
        """Return the topics of the app for which a key is."""
        if key.team_id != self._authority.team_id:
            return ()
        if key.topics is None or _continues(self._topic, key.topics):
            return (self._topic,)
        return tuple(topic for topic in key.topics if _continues(topic, (self._topic,)))

    def check_app(self, app: str) -> Response | None:
        """Check the app in the path of a request about channels; returns a response if there is a fault."""
        return Response.of(check_app(app, self._credential))


def _continues(topic: str, topics: tuple[str, ...]) -> bool:
    return any(topic == each or topic.startswith(f"{each}.") for each in topics)
