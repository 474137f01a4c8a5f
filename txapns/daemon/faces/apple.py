"""
The face of Apple's provider API: HTTP/2, ``POST /3/device/<token>``, so that a client made for Apple's servers is
pointed here and knows no difference.

::

    :path          /3/device/<token>           :status  410
    authorization  bearer <key or JWT>         apns-id  8a6f…
    apns-topic     com.example.chess
                                               {"reason": "Unregistered", "timestamp": 1700000000000}
    {"aps": {"alert": "Hello"}}

The caller is known by a client certificate, or by its own provider token, or by a key of the daemon in the provider
token's place (see :mod:`~txapns.daemon.faces.callers`). The topic says which app is meant.

In *relay* mode the answer is Apple's own. Where Apple has not answered in time, it is 503 ServiceUnavailable; the
notification stays in the queue all the same, so a client that then sends it again makes a second one. In *queue* mode
the answer is 200 as soon as the notification is on the disk, and 410 for tokens of which Apple has said before that
they are dead. Whether the app has been registered again on the device since then, nobody here can know: the timestamp
of the answer is for that, as with Apple.

What can be refused before a notification is accepted is refused in Apple's words. That is what cannot be sent on, and
nothing else: a topic that does not exist, or a priority of 7, is for Apple to refuse.

Apple lets a connection without a client certificate ask one thing at a time until it has shown who it is. Some clients
never notice that the limit is lifted, and send one after the other ever after; so here it is the full limit at once.
A request that does not show who it is from is answered when its header fields are there, and its stream ends a moment
later, so that strangers hold no streams; after some requests they are sent away. Octets are given back to the peer's
window when the notification is stored, so that one connection makes us hold 64 KiB at the most. How many frames may
come in a second is bounded for everybody, and how many SETTINGS.
"""

from __future__ import annotations

import json
import re
import uuid
from binascii import unhexlify
from collections.abc import Mapping, Sequence
from math import inf

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns._network.clocks import wall_clock
from txapns.credentials import Certificate
from txapns.daemon.config import AppleSection
from txapns.daemon.errors import AppQueueFull, NotAuthenticated, RequestRefused, TooLarge, Unavailable, UnknownApp
from txapns.daemon.faces.callers import LEEWAY, TOKEN_LIFE, Callers
from txapns.daemon.intake import MAX_HEADER, MAX_TOKEN
from txapns.daemon.interfaces import IApps, IFeedbackLog, IIntake, IKeys
from txapns.daemon.serving.authorization import bearer_token
from txapns.daemon.serving.coding import ACCEPTED, Malformed, TooLong, Unknown, decoder_of
from txapns.daemon.serving.connections import LINGER, FaceProtocol, ServerConnections
from txapns.daemon.serving.limits import ConnectionLimits
from txapns.daemon.serving.tls import ServerTLS
from txapns.daemon.values import Draft, FeedbackEntry, Outcome, Receipt, State
from txapns.errors import WireError
from txapns.wire.requests import (
    ENHANCE_YOUR_CALM,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    FrameBudget,
    Request,
    RequestReceiver,
)

__all__ = ["CONCURRENCY", "MAX_BODY", "Apple"]

#: How many requests may be under way on a connection.
CONCURRENCY = 1_000
#: The longest body that is read. What is longer than Apple's 4,096, and not than this, Apple refuses.
MAX_BODY = 16_384

_PATH = "/3/device/"
_KEY = "txapns_"  # how a key of the daemon begins
_PATIENCE = 5  # seconds until a caller may ask again whom Apple has not answered in time
_STRANGERS = 20  # how often in a row one may ask without saying who it is
# How many frames a client may send at once, and how many in a second: several times what any is known to send. Some
# send hundreds of requests before they have read anything, so a stranger may begin with that.
_FRAMES, _STRANGERS_FRAMES, _SETTINGS = (50_000, 50_000), (2_000, 100), (20, 5)
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_UNFIT = re.compile(r"[\x00-\x1f\x7f]|\A | \Z")

# The header fields of a notification, with Apple's word for one that cannot be.
_FIELDS = {
    "apns-topic": "BadTopic",
    "apns-push-type": "InvalidPushType",
    "apns-priority": "BadPriority",
    "apns-expiration": "BadExpirationDate",
    "apns-collapse-id": "BadCollapseId",
}
_NUMBERS = ("apns-priority", "apns-expiration")

# What a client of HTTP/1.1 gets.
_WORDS = b"""This address speaks HTTP/2, as Apple's servers do.
With curl, give --http2, or --http2-prior-knowledge where there is no TLS.
The daemon's own API, JSON over HTTP/1.1, is at the addresses in [intake.native] of its configuration.
"""
_HTTP1 = b"""HTTP/1.1 505 HTTP Version Not Supported\r
Connection: close\r
Content-Type: text/plain; charset=utf-8\r
Content-Length: %d\r
\r
%b""" % (len(_WORDS), _WORDS)

_log = Logger()


@attrs.frozen
class _Verdict:
    """
    An answer.

    :ivar status: the HTTP status.
    :ivar reason: Apple's word.
    :ivar timestamp: with 410, since when the token is dead, in UNIX seconds.
    :ivar retry_after: after how many seconds to ask again.
    :ivar unique_id: Apple's own id for the notification, in the sandbox.
    """

    status: int
    reason: str = ""
    timestamp: float | None = None
    retry_after: float | None = None
    unique_id: str = ""

    def body(self) -> bytes:
        """The answer's body."""
        if not self.reason:
            return b""
        content: dict[str, object] = {"reason": self.reason}
        if self.timestamp is not None:
            content["timestamp"] = int(self.timestamp * 1_000)
        return json.dumps(content).encode()

    def fields(self, apns_id: str | None = None) -> list[tuple[bytes, bytes]]:
        """
        Give the answer's header fields, in order.

        :param apns_id: the notification's; left out, another is made up.
        """
        fields = [(b":status", b"%d" % self.status), (b"apns-id", (apns_id or str(uuid.uuid4())).encode())]
        if self.reason:
            fields.append((b"content-type", b"application/json"))
        if self.status == 415:
            fields.append((b"accept-encoding", ACCEPTED))
        if self.retry_after is not None:
            fields.append((b"retry-after", b"%d" % max(1, round(self.retry_after))))
        if self.unique_id:
            fields.append((b"apns-unique-id", self.unique_id.encode()))
        return fields


_WELL = _Verdict(200)
_LATE = _Verdict(503, "ServiceUnavailable", retry_after=_PATIENCE)
_SLOW = _Verdict(400, "IdleTimeout")
_BROKEN = _Verdict(500, "InternalServerError")


class _Refused(Exception):
    """A request is refused before it is accepted."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.verdict = _Verdict(status, reason)


class _Stranger(_Refused):
    """A request is refused because of whom it is from."""


@attrs.frozen
class _Submission:
    """
    A request that can be accepted.

    :ivar request: the request.
    :ivar apns_id: the id that the caller chose for the notification; ``None`` where the daemon chooses.
    :ivar app: the name of the app.
    :ivar draft: the notification.
    """

    request: Request
    apns_id: str | None
    app: str
    draft: Draft


@attrs.frozen
class _Shown:
    """
    A provider token that was verified on a connection.

    :ivar token: it.
    :ivar revision: which apps there were then.
    :ivar issued: when it was signed.
    :ivar apps: the names of the apps it is for.
    """

    token: str = attrs.field(repr=False)
    revision: int
    issued: float
    apps: frozenset[str]


class Apple:
    """
    The face.

    :param clock: the reactor, or a ``Clock``.
    :param intake: where notifications go.
    :param apps: the apps.
    :param keys: who may call.
    :param feedback: knows which tokens are dead.
    :param options: its section of the configuration.
    :param limits: what a caller may have.
    """

    def __init__(
        self,
        clock: IReactorTime,
        intake: IIntake,
        apps: IApps,
        keys: IKeys,
        feedback: IFeedbackLog,
        options: AppleSection,
        limits: ConnectionLimits,
    ) -> None:
        self.clock = clock
        self.wall = wall_clock(clock)
        self.intake = intake
        self.keys = keys
        self.feedback = feedback
        self.options = options
        self.callers = Callers(apps)
        self.server = ServerConnections(clock, lambda: _Connection(self), limits, "intake.apple")

    def factory(self, certificate: Certificate | None = None) -> IProtocolFactory:
        """
        Make a factory for an endpoint.

        :param certificate: what it shows of itself; left out, it speaks HTTP/2 in plain text.
        """
        if certificate is None:
            return self.server
        known = self._known if self.options.keys else lambda fingerprint: True
        return self.server.encrypted(ServerTLS(certificate, known, required=False, protocols=[b"h2"]))

    def drain(self) -> None:
        """Take no more requests (GOAWAY); each connection answers those that are under way, and closes."""
        self.server.drain()

    def close(self, grace: float = LINGER) -> Deferred[None]:
        """
        Close all connections.

        :param grace: how long what is under way may take, in seconds.
        :returns: a ``Deferred`` that fires when none is left.
        """
        return self.server.close(grace)

    def _known(self, fingerprint: str) -> bool:
        return bool(self.callers.by_certificate(fingerprint))


class _Connection(FaceProtocol):
    """
    One connection.

    :param face: the face.
    """

    def __init__(self, face: Apple) -> None:
        super().__init__()
        self.requests: RequestReceiver
        self._face = face
        self._shown: _Shown | None = None
        self._budget = FrameBudget()
        self._strangers = 0
        self._dismissed: tuple[bytes, _Verdict] | None = None
        self._under_way = self._held = 0
        self._stuck: float | None = None
        self._unfinished: dict[int, float] = {}
        self._unwanted: list[int] = []
        self._closing = False
        self._http2 = False

    # A session's.

    @property
    def busy(self) -> bool:
        """Whether there are requests to be answered."""
        return self._under_way > 0

    def begun(self) -> None:
        """Announce the limit, to a client of HTTP/2 alone: one of HTTP/1.1 would take that for its answer."""
        if self.fingerprint is not None:
            self.connection.mark_authenticated()
        self.requests = RequestReceiver(CONCURRENCY, max_body=MAX_BODY, window_updates=False, early=True)
        self.transport.registerProducer(self, True)
        self._http2 = self.connection.encrypted and self.transport.negotiatedProtocol == b"h2"
        self._write()

    def gone(self, reason: Failure) -> None:
        """Answers have nowhere to go. What is being stored will be."""

    def check(self, now: float) -> None:
        """End what takes too long."""
        self._check_streams(now)
        self._stuck = (self._stuck or now) if self.requests.unsent else None
        if self._stuck is not None and now - self._stuck >= self.connection.server.limits.request:
            self._give_up("it gave no window for answers")
        elif not self._under_way and now - self.connection.active >= self._patience():
            if self._closing:
                self.connection.cut()  # the peer was told to go
            else:
                self.finish()
        self._write()

    def _check_streams(self, now: float) -> None:
        # Those that were answered before they were whole have had a moment to read it. There is no need to send the
        # rest (RFC 9113, section 8.1).
        for stream in self._unwanted:
            self.requests.reset(stream, 0)
        self._unwanted.clear()
        self._unfinished = {stream: self._unfinished.get(stream, now) for stream in self.requests.unfinished}
        for stream, since in self._unfinished.items():
            if now - since >= self.connection.server.limits.request:
                self.requests.respond(stream, _SLOW.fields(), _SLOW.body())
                self._unwanted.append(stream)
                self._unfinished[stream] = inf  # unfinished it is until the peer says something; one answer is enough

    def _patience(self) -> float:
        """For how long nothing need happen."""
        if self._closing:
            return LINGER
        return self._face.options.idle if self.connection.authenticated else self.connection.server.limits.idle

    def finish(self) -> None:
        """Take no new requests, and close when the last is answered."""
        if self._closing:
            return
        self._closing = True
        self.connection.active = self._face.clock.seconds()
        self.requests.goaway()
        self._write()

    # A protocol's, and a producer's.

    def dataReceived(self, data: bytes) -> None:
        """Take what is whole."""
        if self.connection.closing is not None:
            return
        now = self._face.clock.seconds()
        if not self._budget.spend(
            data, now, _FRAMES if self.connection.authenticated else _STRANGERS_FRAMES, _SETTINGS
        ):
            self._give_up("it sent more frames than it may", ENHANCE_YOUR_CALM)
            return
        try:
            requests = self.requests.receive(data, self._screen)
        except WireError as error:
            if self.requests.http1:
                self._refuse_http1()
            else:
                self._give_up(str(error))
            return
        self._http2 = self._http2 or self.requests.begun
        if requests:
            self.connection.active = now
            self._take(requests)
        if not self._face.options.keys:
            self._hold()
        self._write()  # a client that has read the GOAWAY may not look for the reason any more
        if self._dismissed is not None:
            self.finish()

    def _hold(self) -> None:
        """Count what there is of requests that are not whole: nobody has shown a credential for them."""
        unfinished, before, self._held = self.connection.server.limits.unfinished, self._held, self.requests.held
        if self._held:
            unfinished.add(self.connection, self._held - before)
        elif before:
            unfinished.forget(self.connection)

    def _give_up(self, reason: str, code: int = PROTOCOL_ERROR) -> None:
        """Say why it is over, in the log and to the peer, and hear nothing more."""
        self.connection.report(reason)
        self.requests.goaway(code)
        if self._http2:
            self.transport.write(self.requests.data_to_send())
        self.connection.hang_up()

    def _refuse_http1(self) -> None:
        """Tell a client of HTTP/1.1 what it has come to; the rest of its request is thrown away for a moment."""
        self._http2, self._closing = False, True
        self.connection.report("it asked in HTTP/1.1, and was told that this face is for HTTP/2")
        self.transport.write(_HTTP1)
        self.connection.end()

    def pauseProducing(self) -> None:
        """The peer does not read: what it makes us answer is not to pile up here, so nothing is read from it."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """It reads again."""
        self.transport.resumeProducing()
        self._write()

    def stopProducing(self) -> None:
        """``connectionLost`` follows."""

    def _write(self) -> None:
        connection = self.connection
        if connection.paused is not None or connection.over or connection.closing is not None or not self._http2:
            return
        data = self.requests.data_to_send()
        if data:
            self.transport.write(data)
        if self.requests.closed and self._closing:
            connection.end()
        elif self.requests.closed:
            self._give_up("the client broke the rules of HTTP/2")

    # Requests.

    def _take(self, requests: Sequence[Request]) -> None:
        submissions: dict[str, list[_Submission]] = {}
        for request in requests:
            apns_id = _id_of(request)
            try:
                submission = self._judged(request, apns_id)
            except _Refused as refused:
                self._answer(request, apns_id, refused.verdict)
                self._give_back(request)
            else:
                submissions.setdefault(submission.app, []).append(submission)
        for app, group in submissions.items():
            self._under_way += len(group)
            if self._face.options.mode == "queue":
                tokens = [token for each in group for token in each.draft.tokens]
                looked = self._face.feedback.known(app, tokens)
                looked.addErrback(_nobody_known).addCallback(self._store, group).addErrback(self.connection.failed)
            else:
                self._store({}, group)

    def _store(self, dead: Mapping[bytes, FeedbackEntry], group: Sequence[_Submission]) -> None:
        """Store what came together, together: one commit and one check for all of it."""
        alive = []
        for each in group:
            known = dead.get(each.draft.tokens[0])
            if known is None:
                alive.append(each)
            else:
                self._give_back(each.request)
                self._done(_Verdict(410, known.reason, known.timestamp), each)
        if alive:
            self._accept(alive)
        self._write()

    def _accept(self, group: Sequence[_Submission]) -> None:
        accepted = self._face.intake.accept(group[0].app, [each.draft for each in group])
        accepted.addCallbacks(self._stored, self._not_stored, callbackArgs=(group,), errbackArgs=(group,))
        accepted.addErrback(self.connection.failed)

    def _stored(self, receipts: list[Receipt], group: Sequence[_Submission]) -> None:
        relayed = self._face.options.mode == "relay" and not self.connection.over
        for each, receipt in zip(group, receipts, strict=True):
            self._give_back(each.request)  # the octets are no longer here
            [apns_id] = receipt.apns_ids
            if relayed:
                told = self._face.intake.wait([receipt], self._face.options.wait)
                told.addCallback(_told).addCallback(self._tell, each, apns_id).addErrback(self.connection.failed)
            else:
                self._done(_WELL, each, apns_id)
        self._write()

    def _not_stored(self, reason: Failure, group: Sequence[_Submission]) -> None:
        """It was all or none. One by one, each gets the answer that is its own."""
        if len(group) > 1 and reason.check(RequestRefused) and not reason.check(Unavailable):
            for each in group:
                self._accept([each])
            return
        verdict = _refused(reason)
        for each in group:
            self._give_back(each.request)
            self._done(verdict, each)
        self._write()

    def _give_back(self, request: Request) -> None:
        self.requests.acknowledge(request.stream, len(request.body))

    def _tell(self, verdict: _Verdict, submission: _Submission, apns_id: str) -> None:
        self._done(verdict, submission, apns_id)
        self._write()

    def _done(self, verdict: _Verdict, submission: _Submission, apns_id: str | None = None) -> None:
        self._under_way -= 1
        self.connection.active = self._face.clock.seconds()
        if not self.connection.over:
            self._answer(submission.request, apns_id or submission.apns_id, verdict)

    def _answer(self, request: Request, apns_id: str | None, verdict: _Verdict) -> None:
        self.requests.respond(request.stream, verdict.fields(apns_id), verdict.body())
        if len(request.body) > MAX_BODY:
            self._unwanted.append(request.stream)

    # What is looked at before a request is accepted: who calls, at its header fields; then the rest, in Apple's order.

    def _screen(self, head: Request) -> bool:
        """
        Answer whoever does not show who it is, and end the stream there, so that a stranger holds none.

        After so many times it is sent away. What shows the same until then is told the same; what shows something else
        is not looked at, and may be sent elsewhere. Until it is sent away a stranger has a moment to end its requests
        by itself: curl reads no answer whose stream is reset while it sends.
        """
        shown = _shown_by(head)
        at_once = self._dismissed is not None
        if self._dismissed is None:
            try:
                if self._face.options.keys:
                    self._caller(shown.decode("latin-1"))
                return True
            except _Stranger as refused:
                verdict = refused.verdict
            self._strangers += 1
            if self._strangers >= _STRANGERS:
                self._dismissed = shown, verdict
        elif self._dismissed[0] == shown:
            verdict = self._dismissed[1]
        else:
            self.requests.reset(head.stream, REFUSED_STREAM)
            return False
        self.requests.refuse(head.stream, verdict.fields(_id_of(head)), verdict.body(), at_once=at_once)
        if not at_once:
            self._unwanted.append(head.stream)
        return False

    def _judged(self, request: Request, apns_id: str | None) -> _Submission:
        fields = _form(request)
        if fields[":method"] != "POST":
            raise _Refused(405, "MethodNotAllowed")
        path = fields[":path"]
        if not path.startswith(_PATH):
            raise _Refused(404, "BadPath")
        if "origin" in fields and not self._face.options.keys:
            raise _Refused(403, "Forbidden")  # a web page wants in, by somebody's browser
        names = self._caller(fields.get("authorization", ""))
        headers = {name: _fit(name, fields[name]) for name in _FIELDS if name in fields}
        app = self._app(fields, names)
        token = _token(path.removeprefix(_PATH))
        if not request.body:
            raise _Refused(400, "PayloadEmpty")
        if len(request.body) > MAX_BODY:
            raise _Refused(413, "PayloadTooLarge")
        body = _unpacked(request.body, fields.get("content-encoding", ""))
        chosen = () if apns_id is None else (apns_id,)
        return _Submission(request, apns_id, app, Draft(body, headers, [token], chosen))

    def _caller(self, authorization: str) -> frozenset[str] | None:
        """Find out for which apps the caller may send; ``None`` for all."""
        if not self._face.options.keys:
            self.connection.mark_authenticated()
            return None
        if self.fingerprint is not None:
            apps = self._face.callers.by_certificate(self.fingerprint)
            if not apps:
                raise _Stranger(403, "BadCertificate")  # it was good when the connection was made
            return apps
        shown = bearer_token(authorization)
        if not shown:
            raise _Stranger(403, "MissingProviderToken")
        names = self._by_key(shown) if shown.startswith(_KEY) else self._by_token(shown)
        self._strangers = 0
        self.connection.mark_authenticated()
        return names

    def _by_key(self, key: str) -> frozenset[str] | None:
        try:
            return self._face.keys.check(key).send
        except NotAuthenticated:
            raise _Stranger(403, "InvalidProviderToken") from None

    def _by_token(self, token: str) -> frozenset[str]:
        shown, revision = self._shown, self._face.callers.revision
        if shown is None or shown.token != token or shown.revision != revision:
            claim = self._face.callers.by_token(token)
            if claim is None:
                raise _Stranger(403, "InvalidProviderToken")
            self._shown = shown = _Shown(token, revision, claim.issued, claim.apps)
        now = self._face.wall.now()
        if shown.issued < now - TOKEN_LIFE:
            raise _Stranger(403, "ExpiredProviderToken")
        if shown.issued > now + LEEWAY:
            raise _Stranger(403, "InvalidProviderToken")
        return shown.apps

    def _app(self, fields: Mapping[str, str], names: frozenset[str] | None) -> str:
        topic = fields.get("apns-topic")
        host = fields.get(":authority", "")
        found = self._face.callers.for_topic(topic, names, sandbox="sandbox" in host or "development" in host)
        if len(found) == 1:
            return found[0]
        if topic is None and found:
            raise _Refused(400, "MissingTopic")
        # Of two apps with one topic neither can be meant; of none, it is the same answer whether or not it exists.
        raise _Refused(400, "BadTopic") if found else _Refused(400, "TopicDisallowed")


def _form(request: Request) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in request.headers:
        text = name.decode("latin-1")
        if text in fields and text != "cookie":
            raise _Refused(400, "DuplicateHeaders")
        try:
            fields[text] = value.decode()
        except UnicodeDecodeError:
            if text in _FIELDS:
                raise _Refused(400, _FIELDS[text]) from None
    if "apns-id" in fields and not _UUID.fullmatch(fields["apns-id"]):
        raise _Refused(400, "BadMessageId")
    fields.setdefault(":path", "")
    return fields


def _id_of(request: Request) -> str | None:
    """Find the id that the caller chose for the notification, if it can be one."""
    given = next((value for name, value in request.headers if name == b"apns-id"), b"").decode("latin-1")
    return given.lower() if _UUID.fullmatch(given) else None


def _shown_by(request: Request) -> bytes:
    """Find what a request shows of whom it is from."""
    return next((value for name, value in request.headers if name == b"authorization"), b"")


def _fit(name: str, value: str) -> str:
    if len(value) > MAX_HEADER or _UNFIT.search(value) or (name in _NUMBERS and not _NUMBER.fullmatch(value)):
        raise _Refused(400, _FIELDS[name])
    return value


def _token(text: str) -> bytes:
    if not text:
        raise _Refused(400, "MissingDeviceToken")
    try:
        token = unhexlify(text)
    except ValueError:
        token = b""
    if not 0 < len(token) <= MAX_TOKEN:
        raise _Refused(400, "BadDeviceToken")
    return token


def _unpacked(body: bytes, coding: str) -> bytes:
    """Give a payload as it was before it was compressed. Apple's servers may not take it so, and need not."""
    try:
        decoder = decoder_of([coding.encode()], MAX_BODY)
        return body if decoder is None else decoder.whole(body)
    except Unknown:
        raise _Refused(415, "UnsupportedMediaType") from None
    except TooLong:
        raise _Refused(413, "PayloadTooLarge") from None
    except Malformed:
        raise _Refused(400, "PayloadEmpty") from None


# What the answer is.


def _nobody_known(reason: Failure) -> Mapping[bytes, FeedbackEntry]:
    """That it cannot be looked up who is dead is no reason to refuse the living."""
    reason.trap(RequestRefused)
    return {}


def _refused(reason: Failure) -> _Verdict:
    refusal = reason.value
    if isinstance(refusal, AppQueueFull):
        return _Verdict(429, "TooManyRequests", retry_after=refusal.retry_after)
    if isinstance(refusal, Unavailable):
        return _Verdict(503, "ServiceUnavailable", retry_after=refusal.retry_after)
    if isinstance(refusal, TooLarge):
        return _Verdict(413, "PayloadTooLarge")
    if isinstance(refusal, UnknownApp):
        return _Verdict(400, "TopicDisallowed")  # it was there a moment ago
    if isinstance(refusal, RequestRefused):
        return _Verdict(400, "PayloadEmpty")  # all else has been looked at: it is no JSON object
    _log.failure("A request could not be answered", reason)
    return _BROKEN


def _told(found: Mapping[int, Outcome]) -> _Verdict:
    """Give the answer for the one that was waited for."""
    return next(map(_verdict, found.values()), _LATE)


def _verdict(outcome: Outcome) -> _Verdict:
    """Give Apple's answer; where there was none, the nearest of those that Apple has."""
    if outcome.state is State.ACCEPTED:
        return _Verdict(200, unique_id=outcome.unique_id)
    if outcome.status >= 400 and outcome.reason:
        return _Verdict(outcome.status, outcome.reason, outcome.timestamp)
    if outcome.state is State.EXPIRED:
        return _Verdict(400, "BadExpirationDate")
    if outcome.state is State.REJECTED:
        return _Verdict(400, "PayloadEmpty")  # it could not be sent at all
    return _LATE
