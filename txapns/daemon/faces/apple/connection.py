"""
HTTP/2 on one connection of the Apple face.

Apple lets a connection without a client certificate send one request at a time until it has been authenticated. Some
clients never notice that the limit is lifted, and send one after the other for ever; so here the limit is the full one
from the beginning. A request that is not authenticated is answered as soon as its header fields are there, and its
stream ends a moment later, so unauthenticated callers hold no streams; after some such requests they are sent away.
Bytes are given back to the peer's window when the notification is stored, so one connection makes us hold at most
:data:`WINDOW`. The number of frames in a second is limited for everybody, and so is the number of SETTINGS. The two
frames of a notification do not count: a client may send as many of these as can be stored. What is refused at once does
count.

What arrives together is stored together, and the larger the groups, the less each request costs. So while a group is
being stored, what else arrives for the app gathers, and is the next group. Where only a few requests arrive together,
they do not wait, since they are urgent; unless one has a collapse id, since what came before would then supersede it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from txapns._network.clocks import IWallClock
from txapns._serving.connections import LINGER, FaceProtocol
from txapns._session.channels import Channels
from txapns.daemon.config.sections import AppleSection
from txapns.daemon.errors import RequestRefused, Unavailable
from txapns.daemon.faces.apple.authentication import Authentication, app_of
from txapns.daemon.faces.apple.broadcasts import broadcast_of
from txapns.daemon.faces.apple.channels import Question, question_of
from txapns.daemon.faces.apple.requests import (
    BROADCASTS,
    CHANNELS,
    MAX_BODY,
    Head,
    Meant,
    Pattern,
    Submission,
    authorization_of,
    drafts_of,
    fields_of,
    headers_of,
    lane_of,
    not_before_of,
    submission_of,
)
from txapns.daemon.faces.apple.responses import (
    ACCEPTED_RESPONSE,
    TIMEOUT_RESPONSE,
    ErrorResponse,
    NotAuthenticatedResponse,
    Response,
    response_to_failure,
    response_to_outcomes,
)
from txapns.daemon.faces.callers import Callers
from txapns.daemon.intake import URGENT_DEVICES
from txapns.daemon.interfaces import IFeedbackLog, IIntake, IKeys
from txapns.daemon.values import ANYBODY, Caller, Environment, FeedbackEntry, Receipt
from txapns.errors import WireError
from txapns.wire.requests import (
    ENHANCE_YOUR_CALM,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    FrameBudget,
    Headers,
    Request,
    RequestReceiver,
)

__all__ = ["CONCURRENCY", "WINDOW", "AppleConnection", "AppleContext"]

#: The largest number of concurrent requests on a connection.
CONCURRENCY = 1_000
#: How many bytes of bodies a connection makes us hold: about those of that many requests. HTTP/2's own 65,535 would be
#: used up by a few hundred, and their header fields may take far more.
WINDOW = 2**18

_REFUSALS = 20  # unauthenticated requests in a row, until the connection is closed
# How many frames a client may send at once, and how many in a second: several times what any client is known to send.
# Some clients send hundreds of requests before they read anything, so an unauthenticated one may begin like that.
_FRAMES, _UNAUTHENTICATED_FRAMES, _SETTINGS = (50_000, 50_000), (2_000, 100), (20, 5)

_REQUEST_FRAMES = 2  # HEADERS and DATA

_HELP = b"""This address speaks HTTP/2, as Apple's servers do.
With curl, give --http2, or --http2-prior-knowledge where there is no TLS.
The daemon's own API, JSON over HTTP/1.1, is at the addresses in [intake.native] of its configuration.
"""
_HTTP1 = b"""HTTP/1.1 505 HTTP Version Not Supported\r
Connection: close\r
Content-Type: text/plain; charset=utf-8\r
Content-Length: %d\r
\r
%b""" % (len(_HELP), _HELP)


@attrs.frozen
class AppleContext:
    """
    What the connections share.

    :ivar clock: the reactor, or a ``Clock``.
    :ivar callers: knows the credentials and topics of the apps.
    :ivar options: the face's section of the configuration.
    :ivar channels_of: returns the channels of an app, by its name and its side; see :meth:`AppChannels.of`.
    """

    clock: IReactorTime
    wall: IWallClock
    intake: IIntake
    callers: Callers
    keys: IKeys
    feedback: IFeedbackLog
    options: AppleSection
    channels_of: Callable[[str, Environment | None], Channels]


class AppleConnection(FaceProtocol):
    """One connection."""

    def __init__(self, context: AppleContext) -> None:
        super().__init__()
        self.requests: RequestReceiver
        self._authentication: Authentication
        self._context = context
        self._budget = FrameBudget()
        self._refusals = 0
        self._dismissed: tuple[bytes, Response] | None = None
        # Of what is read together, each credential is checked once, and so is what requests share.
        self._shown: dict[bytes, Caller] = {}
        self._meant: dict[Headers, Meant] = {}
        self._pattern: Pattern | None = None
        # What gathers while a group is being stored, by the names of the app and the caller.
        self._gathered: dict[tuple[str, str], list[Submission]] = {}
        self._under_way = self._held = 0
        self._stuck: float | None = None
        self._unfinished: dict[int, float] = {}
        self._unwanted: list[int] = []
        self._closing = False
        self._http2 = False

    # FaceProtocol

    @property
    def busy(self) -> bool:
        """Whether there are requests to be answered."""
        return self._under_way > 0

    def begun(self) -> None:
        """Announce the limit, but only to a client of HTTP/2: one of HTTP/1.1 would take it for its answer."""
        if self.fingerprint is not None:
            self.connection.mark_authenticated()
        context = self._context
        self._authentication = Authentication(context.callers, context.keys, context.wall, self.fingerprint)
        self.requests = RequestReceiver(CONCURRENCY, max_body=MAX_BODY, window_updates=False, window=WINDOW, early=True)
        self.transport.registerProducer(self, True)
        self._http2 = self.connection.encrypted and self.transport.negotiatedProtocol == b"h2"
        self._write()

    def gone(self, reason: Failure) -> None:
        """Nothing to do: what is being stored is stored all the same."""

    def check(self, now: float) -> None:
        """End what takes too long."""
        self._check_streams(now)
        self._stuck = (self._stuck or now) if self.requests.unsent else None
        if self._stuck is not None and now - self._stuck >= self.connection.server.limits.request:
            self._give_up("it gave no window for answers")
        elif not self._under_way and now - self.connection.active >= self._patience():
            if self._closing:
                self.connection.cut()  # the peer has been told to close
            else:
                self.finish()
        self._write()

    def _check_streams(self, now: float) -> None:
        # Clients whose requests were answered before they were complete have had a moment to read the answer, and need
        # not send the rest (RFC 9113, section 8.1).
        for stream in self._unwanted:
            self.requests.reset(stream, 0)
        self._unwanted.clear()
        self._unfinished = {stream: self._unfinished.get(stream, now) for stream in self.requests.unfinished}
        for stream, since in self._unfinished.items():
            if now - since >= self.connection.server.limits.request:
                self.requests.respond(stream, TIMEOUT_RESPONSE.fields(), TIMEOUT_RESPONSE.body())
                self._unwanted.append(stream)
                self._unfinished[stream] = inf  # it stays unfinished until the peer ends it; one answer is enough

    def _patience(self) -> float:
        """How long the connection may be idle, in seconds."""
        if self._closing:
            return LINGER
        return self._context.options.idle if self.connection.authenticated else self.connection.server.limits.idle

    def finish(self) -> None:
        """Accept no new requests, and close when the last one is answered."""
        if self._closing:
            return
        self._closing = True
        self.connection.active = self._context.clock.seconds()
        self.requests.goaway()
        self._write()

    # IProtocol and IPushProducer

    def dataReceived(self, data: bytes) -> None:
        """Take the requests that are complete."""
        if self.connection.closing is not None:
            return
        now = self._context.clock.seconds()
        self._shown.clear()
        self._meant.clear()
        self._pattern = None
        frames = _FRAMES if self.connection.authenticated else _UNAUTHENTICATED_FRAMES
        if not self._budget.spend(data, now, frames, _SETTINGS):
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
        if not self._context.options.keys:
            self._hold()
        self._write()  # before the GOAWAY: a client that has read that may not look for the reason any more
        if self._dismissed is not None:
            self.finish()

    def _hold(self) -> None:
        """Count the unfinished requests: no credential was shown for them."""
        unfinished, before, self._held = self.connection.server.limits.unfinished, self._held, self.requests.held
        if self._held:
            unfinished.add(self.connection, self._held - before)
        elif before:
            unfinished.forget(self.connection)

    def _give_up(self, reason: str, code: int = PROTOCOL_ERROR) -> None:
        """Tell the log and the peer why the connection ends, and read nothing more."""
        self.connection.report(reason)
        self.requests.goaway(code)
        if self._http2:
            self.transport.write(self.requests.data_to_send())
        self.connection.hang_up()

    def _refuse_http1(self) -> None:
        """Tell a client of HTTP/1.1 what this address is; the rest of its request is discarded for a moment."""
        self._http2, self._closing = False, True
        self.connection.report("it asked in HTTP/1.1, and was told that this face is for HTTP/2")
        self.transport.write(_HTTP1)
        self.connection.end()

    def pauseProducing(self) -> None:
        """The peer does not read: read nothing from it, so that no answers accumulate here."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The peer reads again."""
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
        if self.requests.closed and (self._closing or self.requests.left):
            connection.end()
        elif self.requests.closed:
            self._give_up("the client broke the rules of HTTP/2")

    # Requests: first the caller of each is authenticated, at its header fields; then the rest, in Apple's order.

    def _screen(self, stream: int, headers: Headers) -> bool:
        """
        Answer a request that is not authenticated, and end its stream, so that unauthenticated callers hold none.

        After some of them the connection is dismissed. Until it closes, a request with the same credential gets the
        same answer; one with another credential is not looked at, and may be sent elsewhere. Until the connection is
        dismissed, a client has a moment to end its requests by itself: curl reads no answer whose stream is reset
        while it sends.
        """
        shown = authorization_of(headers)
        at_once = self._dismissed is not None
        if self._dismissed is None:
            try:
                if self._context.options.keys:
                    self._authenticate(shown)
                return True
            except NotAuthenticatedResponse as refusal:
                response = refusal.response
            self._refusals += 1
            if self._refusals >= _REFUSALS:
                self._dismissed = shown, response
        elif self._dismissed[0] == shown:
            response = self._dismissed[1]
        else:
            self.requests.reset(stream, REFUSED_STREAM)
            return False
        head = Head(headers)
        self.requests.refuse(stream, response.fields(head.apns_id, head.id_field), response.body(), at_once=at_once)
        if not at_once:
            self._unwanted.append(stream)
        return False

    def _authenticate(self, shown: bytes) -> Caller:
        """Find out who makes a request, by its ``authorization`` header field."""
        caller = self._shown.get(shown)
        if caller is None:
            keys = self._context.options.keys
            caller = self._authentication.caller(shown.decode("latin-1")) if keys else ANYBODY
            self._shown[shown] = caller
            self.connection.mark_authenticated()
        self._refusals = 0
        return caller

    def _checked(self, request: Request) -> Submission | Question:
        """Check a request in Apple's order, as far as it was not the same with the request before."""
        submission = None if self._pattern is None else self._pattern.submission(request)
        if submission is not None:
            return submission
        head = Head(request.headers)
        meant = self._meant.get(head.shared)
        fields = fields_of(head.shared) if meant is None else meant.fields
        head.check(fields[":method"])
        if meant is None or head.device is None:
            if "origin" in fields and not self._context.options.keys:
                raise ErrorResponse(403, "Forbidden")  # a web page sent it, by a browser
            caller, callers = self._authenticate(authorization_of(head.shared)), self._context.callers
            if head.path.startswith(CHANNELS):
                return question_of(request, head, fields, caller.send, callers)
            if head.path.startswith(BROADCASTS):
                return broadcast_of(request, head, fields, caller, callers, self._context.wall.now())
            meant = self._meant[head.shared] = self._find(fields, caller)
        self._pattern = Pattern(request.headers, meant)
        return submission_of(request, head, meant)

    def _find(self, fields: Mapping[str, str], caller: Caller) -> Meant:
        """Find out what a request for a device means."""
        headers = headers_of(fields)
        app = app_of(self._context.callers, fields, caller.send)
        not_before = not_before_of(fields, headers, self._context.wall.now())
        return Meant(fields, headers, app, caller, not_before, lane_of(fields))

    def _take(self, requests: Sequence[Request]) -> None:
        submissions: dict[tuple[str, str], list[Submission]] = {}
        meant: Meant | None = None
        group: list[Submission] = []  # that of what was meant last
        for request in requests:
            try:
                checked = self._checked(request)
            except ErrorResponse as error:
                head = Head(request.headers)
                self._respond(request, error.response, head.apns_id, head.id_field)
                self._give_back(request)
                continue
            if isinstance(checked, Question):
                self._ask(checked)
                continue
            if checked.meant is not meant:
                meant = checked.meant
                group = submissions.setdefault((meant.app, meant.caller.name), [])
            group.append(checked)
        for key, group in submissions.items():
            self._budget.give_back(_REQUEST_FRAMES * len(group))
            self._under_way += len(group)
            if len(group) <= URGENT_DEVICES and not (key in self._gathered and _collapsing(group)):
                self._look_up(group)
            elif key in self._gathered:
                self._gathered[key] += group
            else:
                self._gather(key, group)

    def _gather(self, key: tuple[str, str], group: Sequence[Submission]) -> None:
        """Store a group, and meanwhile gather the next one."""
        self._gathered[key] = []
        self._look_up(group).addCallback(self._go_on, key)

    def _go_on(self, _: None, key: tuple[str, str]) -> None:
        group = self._gathered.pop(key)
        if group:
            self._gather(key, group)

    def _look_up(self, group: Sequence[Submission]) -> Deferred[None]:
        """Store a group, but for the tokens that are known to be dead; fires when it is stored or refused."""
        looked: Deferred[Mapping[bytes, FeedbackEntry]] = succeed({})
        if self._context.options.mode == "queue":
            looked = self._context.feedback.known(group[0].meant.app, [each.token for each in group])
            looked.addErrback(_none_dead)
        stored: Deferred[None] = looked.addCallback(self._store, group)
        return stored.addErrback(self.connection.failed)

    def _ask(self, question: Question) -> None:
        """Pass a request about channels on, and the answer back."""
        self._under_way += 1
        self._give_back(question.request)
        asked = question.ask(self._context.channels_of)
        asked.addCallback(self._relay, question).addErrback(self.connection.failed)

    def _store(self, dead: Mapping[bytes, FeedbackEntry], group: Sequence[Submission]) -> Deferred[None] | None:
        """Store together what arrived together: one commit and one check for all of it."""
        for each in group if dead else ():
            known = dead.get(each.token)
            if known is not None:
                self._give_back(each.request)
                self._done(Response(410, known.reason, known.timestamp), [each])
        alive = [each for each in group if each.token not in dead] if dead else group
        storing = self._accept(alive) if alive else None
        self._write()
        return storing

    def _accept(self, group: Sequence[Submission]) -> Deferred[None]:
        meant = group[0].meant
        # What is sent later is answered at once.
        awaited = self._context.options.mode == "relay" and meant.not_before is None
        accepted = self._context.intake.accept(meant.app, drafts_of(group), caller=meant.caller, awaited=awaited)
        done = accepted.addCallbacks(self._stored, self._not_stored, callbackArgs=(group,), errbackArgs=(group,))
        return done.addErrback(self.connection.failed)

    def _stored(self, receipts: list[Receipt], group: Sequence[Submission]) -> None:
        for each in group:
            self._give_back(each.request)  # its bytes are no longer held here
        if self._context.options.mode == "relay" and not self.connection.over:
            for each, receipt in zip(group, _singly(receipts), strict=True):
                self._wait(each, receipt)
        else:
            self._done(ACCEPTED_RESPONSE, group, [apns_id for receipt in receipts for apns_id in receipt.apns_ids])
        self._write()

    def _wait(self, submission: Submission, receipt: Receipt) -> None:
        """Answer when Apple has answered; at once what is sent later."""
        [apns_id] = receipt.apns_ids
        if submission.meant.not_before is not None:
            self._done(ACCEPTED_RESPONSE, [submission], [apns_id])
            return
        intake, options = self._context.intake, self._context.options
        waited = intake.wait([receipt], options.wait).addCallbacks(response_to_outcomes, response_to_failure)
        waited.addCallback(self._relay, submission, [apns_id]).addErrback(self.connection.failed)

    def _not_stored(self, reason: Failure, group: Sequence[Submission]) -> None:
        """None of the group was stored. Try them one by one, so that each gets its own answer."""
        if len(group) > 1 and reason.check(RequestRefused) and not reason.check(Unavailable):
            for each in group:
                self._accept([each])
            return
        response = response_to_failure(reason)
        for each in group:
            self._give_back(each.request)
        self._done(response, group)
        self._write()

    def _give_back(self, request: Request) -> None:
        self.requests.acknowledge(request.stream, len(request.body))

    def _relay(self, response: Response, submission: Submission | Question, apns_ids: Sequence[str] = ()) -> None:
        self._done(response, [submission], apns_ids)
        self._write()

    def _done(
        self, response: Response, done: Sequence[Submission | Question], apns_ids: Sequence[str | None] = ()
    ) -> None:
        """Give requests the same answer, with the ids that their callers chose if none are given."""
        self._under_way -= len(done)
        self.connection.active = self._context.clock.seconds()
        if self.connection.over:
            return
        for each, apns_id in zip(done, apns_ids or [each.apns_id for each in done], strict=True):
            self._respond(each.request, response, apns_id, each.id_field)

    def _respond(self, request: Request, response: Response, apns_id: str | None, id_field: bytes) -> None:
        self.requests.respond(request.stream, response.fields(apns_id, id_field), response.body())
        if len(request.body) > MAX_BODY:
            self._unwanted.append(request.stream)


def _singly(receipts: Iterable[Receipt]) -> Iterator[Receipt]:
    """Divide the receipts of notifications for several devices into those of each device."""
    for receipt in receipts:
        for number, apns_id in zip(receipt.numbers, receipt.apns_ids, strict=True):
            yield Receipt([number], [apns_id], receipt.earlier, receipt.superseded)


def _collapsing(group: Iterable[Submission]) -> bool:
    """Whether something of a group may supersede what came before."""
    return any("apns-collapse-id" in each.meant.headers for each in group)


def _none_dead(reason: Failure) -> Mapping[bytes, FeedbackEntry]:
    """Take no token for dead if the feedback log cannot be read."""
    reason.trap(RequestRefused)
    return {}
