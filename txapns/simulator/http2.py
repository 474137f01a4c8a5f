"""
The provider API, from Apple's side.

Apple documents the answers, not in which order it looks for them, but for the credentials coming before the token. The
order here is: the request's form, credentials, topic, the other header fields, the device, the payload. The first
fault is the answer.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from binascii import unhexlify
from collections.abc import Callable

import attrs
import jwt
from cryptography.x509 import Certificate as X509Certificate
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns.credentials import inspect_certificate
from txapns.errors import WireError
from txapns.simulator.authority import Authority
from txapns.simulator.devices import Devices
from txapns.wire.requests import Request, RequestReceiver

__all__ = ["ACCEPTED", "ProviderAPIServer", "Verdict"]

#: A provider token is good for an hour.
TOKEN_LIFE = 3_600
#: It may be replaced on a connection once in this time, in seconds.
TOKEN_CHANGE = 1_200
#: The longest payload, and that of a VoIP notification.
MAX_PAYLOAD, MAX_VOIP_PAYLOAD = 4_096, 5_120
#: Octets in a device token. It was 32 always, and more has been announced and seen.
TOKEN_LENGTHS = range(32, 101)
#: The suffix that a push type adds to the app's bundle id; an unknown type has none.
_SUFFIXES = {
    "location": ".location-query",
    "voip": ".voip",
    "complication": ".complication",
    "fileprovider": ".pushkit.fileprovider",
    "liveactivity": ".push-type.liveactivity",
    "pushtotalk": ".voip-ptt",
    "widgets": ".push-type.widgets",
    "controls": ".push-type.controls",
}
_PUSH_TYPES = {"alert", "background", "mdm", *_SUFFIXES}
_TOPIC = re.compile(r"[A-Za-z0-9._-]+")
_PATH = "/3/device/"


@attrs.frozen
class Verdict:
    """
    An answer.

    :ivar status: the HTTP status.
    :ivar reason: Apple's word; ``""`` with 200.
    :ivar timestamp: with 410, since when the token is dead, in UNIX seconds.
    """

    status: int
    reason: str = ""
    timestamp: float | None = None

    def body(self) -> bytes:
        """The answer's body."""
        if self.status == 200:
            return b""
        content: dict[str, object] = {"reason": self.reason}
        if self.timestamp is not None:
            content["timestamp"] = int(self.timestamp * 1000)
        return json.dumps(content).encode()


#: The answer to what has no fault.
ACCEPTED = Verdict(200)

#: A fault to play: it may answer otherwise, or do something to the connection and return ``None`` for no answer.
Fault = Callable[["ProviderAPIServer", Request, Verdict], "Verdict | None"]


@implementer(IHandshakeListener, IPushProducer)
class ProviderAPIServer(Protocol):
    """
    One connection of a provider.

    :param clock: the reactor, or a ``Clock``.
    :param authority: who made the signing key.
    :param devices: the devices and the record.
    :param topic: the app's bundle id, and, with a suffix, its other topics.
    :param concurrency: how many streams are allowed once the credentials are known to be good.
    :param delay: how long an answer takes, in seconds.
    :param fault: what to do wrong; see :data:`Fault`.
    :param window_updates: whether received octets are given back to the provider's window at once.
    :param environment: ``"production"`` or ``"sandbox"``: which client certificates are good here.
    """

    def __init__(
        self,
        clock: IReactorTime,
        authority: Authority,
        devices: Devices,
        topic: str,
        *,
        concurrency: int = 1_000,
        delay: float = 0.0,
        fault: Fault | None = None,
        window_updates: bool = True,
        environment: str = "production",
    ) -> None:
        self.requests: RequestReceiver
        self._clock = clock
        self._authority = authority
        self._devices = devices
        self._concurrency = concurrency
        self._delay = delay
        self._fault = fault
        self._window_updates = window_updates
        self._environment = environment
        self._certificate: X509Certificate | None = None
        self._topics: tuple[str, ...] = (topic,)
        self._lost = False
        self._paused = False
        self._delayed: set[IDelayedCall] = set()
        # The provider token in use, when it was issued, and when it last took another's place.
        self._bearer: str | None = None
        self._issued = 0.0
        self._replaced = -math.inf

    def connectionMade(self) -> None:
        """Answers leave at once."""
        self._devices.connections += 1
        assert self.transport is not None
        self.transport.setTcpNoDelay(True)  # type: ignore[attr-defined]

    def handshakeCompleted(self) -> None:
        """
        Announce the limit: a single stream, where a provider token has to be seen first.

        Whether HTTP/2 was spoken of in the handshake does not matter: Apple's servers take it in any case, and some
        clients rely on that. What is not HTTP/2 is found out by its first octets.
        """
        transport = self.transport
        assert transport is not None
        peer = transport.getPeerCertificate()  # type: ignore[attr-defined]
        self._certificate = None if peer is None else peer.to_cryptography()
        self.requests = RequestReceiver(
            1 if self._certificate is None else self._concurrency,
            max_body=MAX_VOIP_PAYLOAD,
            window_updates=self._window_updates,
        )
        if self._certificate is not None:
            topics, environments = inspect_certificate(self._certificate)
            self._topics = topics or self._topics
            if self._environment not in environments:
                self.requests.goaway(last_stream=0, debug=b'{"reason":"BadCertificateEnvironment"}')
        transport.registerProducer(self, True)  # type: ignore[attr-defined]
        self.write()

    def dataReceived(self, data: bytes) -> None:
        """Answer what is whole."""
        try:
            requests = self.requests.receive(data)
        except WireError:
            assert self.transport is not None
            self.transport.abortConnection()  # type: ignore[attr-defined]
            return
        if requests and self._delay:
            self._answer_later(requests)
        else:
            self._answer(requests)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Late answers have nowhere to go."""
        self._lost = True
        for call in self._delayed:
            call.cancel()
        self._delayed.clear()

    def pauseProducing(self) -> None:
        """The provider reads nothing: what it makes us answer is not to pile up here."""
        self._paused = True

    def resumeProducing(self) -> None:
        """It reads again."""
        self._paused = False
        self.write()

    def stopProducing(self) -> None:
        """``connectionLost`` follows."""

    def write(self) -> None:
        """Send what is to be sent; to be called after doing something to ``requests``."""
        if self._paused or self._lost:
            return
        assert self.transport is not None
        data = self.requests.data_to_send()
        if data:
            self.transport.write(data)
        if self.requests.closed:
            self.close()

    def close(self) -> None:
        """Close the connection without a word, once what was written has left."""
        assert self.transport is not None
        self.transport.unregisterProducer()  # type: ignore[attr-defined]  # or the transport would wait for it
        self.transport.loseConnection()

    def abort(self) -> None:
        """Cut the connection without a word."""
        assert self.transport is not None
        self._lost = True
        self.transport.abortConnection()  # type: ignore[attr-defined]

    def _answer_later(self, requests: list[Request]) -> None:
        def answer() -> None:
            self._delayed.remove(call)
            self._answer(requests)

        call = self._clock.callLater(self._delay, answer)
        self._delayed.add(call)

    def _answer(self, requests: list[Request]) -> None:
        for request in requests:
            if self._lost:
                return
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
            verdict: Verdict | None = self.judge(request, headers)
            assert verdict is not None
            if self._fault is not None:
                verdict = self._fault(self, request, verdict)
            if verdict is not None:
                self.respond(request, headers, verdict)
        self.write()

    def respond(self, request: Request, headers: dict[str, str], verdict: Verdict) -> None:
        """
        Answer one request, and record it.

        :param request: the request.
        :param headers: its header fields.
        :param verdict: the answer.
        """
        given = headers.get("apns-id", "")
        answer = [(b":status", b"%d" % verdict.status)]
        answer.append((b"apns-id", (given if _is_uuid(given) else str(uuid.uuid4())).encode()))
        if verdict.status != 200:
            answer.append((b"content-type", b"application/json"))
        elif self._environment == "sandbox":
            answer.append((b"apns-unique-id", str(uuid.uuid4()).encode()))
        self.requests.respond(request.stream, answer, verdict.body())
        text = headers.get(":path", "").removeprefix(_PATH)
        self._devices.note("http2", _device(text) or text.encode(), request.body, headers, verdict.reason or None)

    # What is looked at, in this order.

    def judge(self, request: Request, headers: dict[str, str]) -> Verdict:
        """
        Find the answer to a request.

        :param request: the request.
        :param headers: its header fields.
        :returns: the answer.
        """
        looks = self._form, self._credentials, self._allowed, self._push_type, self._fields, self._device, self._payload
        for look in looks:
            verdict = look(request, headers)
            if verdict is not None:
                return verdict
        return ACCEPTED

    def _form(self, request: Request, headers: dict[str, str]) -> Verdict | None:
        if len(headers) != len(request.headers):
            return Verdict(400, "DuplicateHeaders")
        if "apns-id" in headers and not _is_uuid(headers["apns-id"]):
            return Verdict(400, "BadMessageId")
        if headers.get(":method") != "POST":
            return Verdict(405, "MethodNotAllowed")
        if not headers.get(":path", "").startswith(_PATH):
            return Verdict(404, "BadPath")
        return None

    def _credentials(self, request: Request, headers: dict[str, str]) -> Verdict | None:
        if self._certificate is not None:
            return None
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not bearer:
            return Verdict(403, "MissingProviderToken")
        issued = self._issued if bearer == self._bearer else self._verify(bearer)
        if issued is None:
            return Verdict(403, "InvalidProviderToken")
        if issued < self._clock.seconds() - TOKEN_LIFE:
            return Verdict(403, "ExpiredProviderToken")
        return None if bearer == self._bearer else self._take_up(bearer, issued)

    def _verify(self, bearer: str) -> float | None:
        """Find when a provider token was issued; ``None`` where it is not our team's, signed with our key."""
        try:
            token = jwt.decode_complete(
                bearer,
                self._authority.public_key,
                algorithms=["ES256"],
                # Only two of the claims count with Apple, and the time is our clock's.
                options={"verify_iat": False, "verify_exp": False, "verify_nbf": False, "verify_aud": False},
            )
        except jwt.InvalidTokenError:
            return None
        issued = token["payload"].get("iat")
        key_id, team_id = token["header"].get("kid"), token["payload"].get("iss")
        ours = key_id == self._authority.key_id and team_id == self._authority.team_id
        return issued if ours and isinstance(issued, int | float) else None

    def _take_up(self, bearer: str, issued: float) -> Verdict | None:
        """The first good provider token opens the limit; another may take its place, but not again and again."""
        now = self._clock.seconds()
        if self._bearer is None:
            self.requests.limit(self._concurrency)
        elif now - self._replaced < TOKEN_CHANGE:
            return Verdict(429, "TooManyProviderTokenUpdates")
        else:
            self._replaced = now
        self._bearer, self._issued = bearer, issued
        return None

    def _allowed(self, request: Request, headers: dict[str, str]) -> Verdict | None:
        topic = headers.get("apns-topic")
        several = len(self._topics) > 1
        if topic is None:
            return Verdict(400, "MissingTopic") if several or self._certificate is None else None
        if not _TOPIC.fullmatch(topic) or (several and topic not in self._topics):
            return Verdict(400, "BadTopic")
        ours = several or topic == self._topics[0] or topic.startswith(f"{self._topics[0]}.")
        return None if ours else Verdict(400, "TopicDisallowed")

    def _push_type(self, request: Request, headers: dict[str, str]) -> Verdict | None:
        push_type = headers.get("apns-push-type")
        if push_type is None:
            return None
        if push_type not in _PUSH_TYPES:
            return Verdict(400, "InvalidPushType")
        topic = headers.get("apns-topic", self._topics[0])
        return None if topic.endswith(_SUFFIXES.get(push_type, "")) else Verdict(400, "BadTopic")

    def _fields(self, request: Request, headers: dict[str, str]) -> Verdict | None:
        priority = headers.get("apns-priority", "10")
        if priority not in ("1", "5", "10") or (priority == "10" and headers.get("apns-push-type") == "background"):
            return Verdict(400, "BadPriority")
        expiration = headers.get("apns-expiration", "0")
        if not (expiration.isascii() and expiration.isdigit()):
            return Verdict(400, "BadExpirationDate")
        if len(headers.get("apns-collapse-id", "").encode("latin-1")) > 64:
            return Verdict(400, "BadCollapseId")
        return None

    def _device(self, request: Request, headers: dict[str, str]) -> Verdict | None:
        text = headers[":path"].removeprefix(_PATH)
        if not text:
            return Verdict(400, "MissingDeviceToken")
        device = _device(text)
        if device is None or len(device) not in TOKEN_LENGTHS:
            return Verdict(400, "BadDeviceToken")
        if device in self._devices.dead:
            return Verdict(410, "Unregistered", self._devices.dead[device])
        return None

    def _payload(self, request: Request, headers: dict[str, str]) -> Verdict | None:
        if not request.body:
            return Verdict(400, "PayloadEmpty")
        longest = MAX_VOIP_PAYLOAD if headers.get("apns-push-type") == "voip" else MAX_PAYLOAD
        if len(request.body) > longest:
            return Verdict(413, "PayloadTooLarge")
        try:
            content = json.loads(request.body.decode())  # which would take UTF-16 as well, if given octets
        except (ValueError, RecursionError):
            content = None
        return None if isinstance(content, dict) else Verdict(400, "PayloadEmpty")


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _device(text: str) -> bytes | None:
    try:
        return unhexlify(text)
    except ValueError:
        return None
