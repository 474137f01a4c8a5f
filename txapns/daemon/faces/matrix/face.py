"""
What is answered, and when.

A notification is on the disk before its homeserver gets an answer, and from then on it is the daemon's to send. The
answer waits for Apple's only to learn whether the token is dead, and for ``wait`` seconds at most. If Apple says so
later, it is in the feedback log, and the next request for the pushkey is answered with it, as the specification allows.

*Rejected* are pushkeys that are of no use: those of an unknown app id, those that are no token or whose pusher has data
that cannot be part of a payload, and those that Apple says are dead, unless the device has registered again since.

*Errors* make a homeserver repeat a request for a day, and Synapse holds back what follows. So nothing of the above is
an error, nor is what Apple rejects for any other reason. A request is answered 503 or 429 if a notification cannot be
stored now. The other devices of the request are notified all the same, and recognized when it is repeated: of an event,
each device is notified once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._network.clocks import wall_clock
from txapns._serving.authorization import basic_password, bearer_token
from txapns._serving.http import Answer, IApplication
from txapns._serving.http import Request as HTTPRequest
from txapns.daemon.config.sections import MatrixSection
from txapns.daemon.errors import Malformed, NotAuthenticated, RequestRefused, TooLarge
from txapns.daemon.faces.callers import take_key
from txapns.daemon.faces.matrix.answers import error, refused, rejected
from txapns.daemon.faces.matrix.app_ids import AppIds
from txapns.daemon.faces.matrix.pushes import Push, Pushes, UselessPushkey
from txapns.daemon.faces.matrix.requests import MAX_BODY, Device, Request, read
from txapns.daemon.interfaces import IApps, IFeedbackLog, IIntake, IKeys
from txapns.daemon.values import ANYBODY, Caller, FeedbackEntry, Outcome, Receipt

__all__ = ["PATH", "Matrix"]

#: The path of the only request.
PATH = b"/_matrix/push/v1/notify"


@implementer(IApplication)
class Matrix:
    """
    Answers the requests of homeservers.

    :param clock: the reactor, or a ``Clock``.
    :param keys: the keys that callers show; ``None`` if none are required.
    """

    def __init__(
        self,
        clock: IReactorTime,
        intake: IIntake,
        apps: IApps,
        keys: IKeys | None,
        feedback: IFeedbackLog,
        options: MatrixSection,
    ) -> None:
        self._clock = clock
        self._intake = intake
        self._keys = keys
        self._feedback = feedback
        self._patience = options.wait
        self._pushes = Pushes(wall_clock(clock), apps, AppIds(options.app_ids))

    # IApplication

    def begun(self, request: HTTPRequest) -> Answer | None:
        """Authenticate the caller, and refuse all requests but the one there is."""
        shown = take_key(request) or bearer_token(request.authorization) or basic_password(request.authorization)
        request.context = ANYBODY
        if self._keys is not None:
            try:
                request.context = self._keys.check(shown or "")
            except NotAuthenticated as refusal:
                return refused(refusal)
            request.mark_authenticated()
        if request.path != PATH:
            return error(404, f"the only path here is {PATH.decode()}")
        if request.method != b"POST":
            return error(405, "the only method here is POST", [(b"Allow", b"POST")])
        if int(request.single(b"Content-Length") or 0) > MAX_BODY:
            return error(413, f"a body has no more than {MAX_BODY} bytes here")
        return None

    def received(self, request: HTTPRequest) -> Answer | Deferred[Answer]:
        """Notify the devices that the request names."""
        request.mark_authenticated()
        try:
            found = read(request.body)
        except RequestRefused as refusal:
            return refused(refusal)
        return Deferred.fromCoroutine(self._notify(found, request.context)).addErrback(_refused)

    def fault(self, status: int, message: str, request: HTTPRequest | None = None) -> Answer:
        """See :meth:`IApplication.fault`."""
        return error(status, message)

    # Notifying

    async def _notify(self, request: Request, caller: Caller) -> Answer:
        useless: set[Device] = set()
        refusals: list[RequestRefused] = []
        pushes: list[Push] = []
        for position, device in enumerate(request.devices):
            if position:
                await deferLater(self._clock, 0)  # it is the turn of other requests
            try:
                push = self._pushes.make(request.event, device, caller)
            except UselessPushkey:
                useless.add(device)
            except RequestRefused as refusal:
                refusals.append(refusal)
            else:
                pushes += [] if push is None else [push]
        dead = await self._known_dead(pushes)
        useless.update(push.device for push in dead)
        alive = [push for push in pushes if push not in dead]
        results = await gatherResults([self._send(push) for push in alive], consumeErrors=True)
        for push, result in zip(alive, results, strict=True):
            if isinstance(result, RequestRefused):
                refusals.append(result)
            elif result:
                useless.add(push.device)
        if refusals:
            return refused(refusals[0])
        # One that is of use to another app of the request stays.
        useful = {device.pushkey for device in request.devices if device not in useless}
        pushkeys = dict.fromkeys(device.pushkey for device in request.devices)
        return rejected([pushkey for pushkey in pushkeys if pushkey not in useful])

    async def _known_dead(self, pushes: Sequence[Push]) -> set[Push]:
        """Find the pushes whose tokens are in the feedback log, and were not registered again since."""
        dead: set[Push] = set()
        for app in dict.fromkeys(push.app for push in pushes):
            own = [push for push in pushes if push.app == app]
            known = await self._feedback.known(app, [push.token for push in own]).addErrback(_none_known)
            dead.update(push for push in own if push.token in known and push.died(known[push.token].timestamp))
        return dead

    def _send(self, push: Push) -> Deferred[bool | RequestRefused]:
        """Store a notification, and wait for Apple's answer; returns whether the token is of no use, or the refusal."""

        def stored(receipts: list[Receipt]) -> Deferred[bool | RequestRefused]:
            # At once, or an outcome may be told before anybody waits for it.
            return self._intake.wait(receipts, self._patience).addCallbacks(answered, not_stored)

        def answered(found: Mapping[int, Outcome]) -> bool | RequestRefused:
            return any(map(push.is_useless, found.values()))

        def not_stored(reason: Failure) -> bool | RequestRefused:
            refusal = _refusal(reason)
            # What its pusher adds to a payload, or the token itself, is too large for any request.
            return True if isinstance(refusal, Malformed | TooLarge) else refusal

        accepted = self._intake.accept(push.app, [push.draft], push.idempotency, awaited=True)
        return accepted.addCallbacks(stored, not_stored)


def _none_known(reason: Failure) -> Mapping[bytes, FeedbackEntry]:
    """Take no token for dead if the feedback log cannot be read."""
    reason.trap(RequestRefused)
    return {}


def _refusal(reason: Failure) -> RequestRefused:
    if not isinstance(reason.value, RequestRefused):
        reason.raiseException()
    return reason.value


def _refused(reason: Failure) -> Answer:
    return refused(_refusal(reason))
