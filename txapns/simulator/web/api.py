"""
The control API: what came, for people and for tests in any language.

::

    GET     /v1/simulator   the topic, the ports, and whom to trust
    GET     /v1/received    what came, or what comes next
    DELETE  /v1/received    forget it
    GET     /v1/events      what comes, as server-sent events
    GET     /v1/devices     the devices; with a token, GET and PUT one
    GET     /v1/answers     the answers that are planned; POST plans one, DELETE removes them
    POST    /v1/push        send a push by hand
    POST    /v1/lint        what is wrong with a push
    POST    /v1/strings     the strings of the app
    GET     /openapi.json   all of this as an OpenAPI document
    GET     /               the page

Errors and the limits of requests are those of :mod:`~txapns.simulator.web.json_api` and :data:`LIMITS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

import txapns
from txapns._network.clocks import wall_clock
from txapns._serving.event_stream import KIND
from txapns._serving.http import Answer, HTTPServer, IApplication, Request
from txapns._serving.limits import ConnectionLimits, MemoryBudget
from txapns._serving.openapi import REFERENCE, document
from txapns._serving.operations import Operation, Router, Schema, parameter
from txapns._serving.pages import SECURITY
from txapns._serving.target import Hosts
from txapns.simulator.inbox import KEPT, Inbox, Reception
from txapns.simulator.servers import Simulator
from txapns.simulator.web import answers, devices, pushes
from txapns.simulator.web.answers import AnswerOperations
from txapns.simulator.web.devices import DeviceOperations
from txapns.simulator.web.entries import ENTRY, entry_json, fitting
from txapns.simulator.web.events import Events
from txapns.simulator.web.json_api import (
    ERROR,
    ERRORS,
    Refused,
    answer,
    fault,
    number,
    parameters,
    refused,
    whole_parameter,
)
from txapns.simulator.web.pages import pages
from txapns.simulator.web.pushes import PushOperations

__all__ = ["LIMITS", "ControlAPI", "WebServer", "openapi"]

#: The limits of its requests and connections.
LIMITS = ConnectionLimits(
    body=1_048_576,
    clients=200,
    unauthenticated=200,
    unread=MemoryBudget(33_554_432),
    unfinished=MemoryBudget(16_777_216),
)
#: How many requests may wait at a time, and how long each, in seconds.
MAX_WAITING, MAX_WAIT = 100, 60.0
_LAST = 2**53  # the greatest number that a program in JavaScript reads exactly
_LIMIT = 100  # entries in an answer, unless the request asks for another number
_FILTERS = ("token", "topic", "push_type")


class WebServer(HTTPServer):
    """
    Builds the connections of the control API and its page.

    :param clock: the reactor, or a ``Clock``.
    """

    def __init__(self, clock: IReactorTime, simulator: Simulator) -> None:
        self._api = ControlAPI(clock, simulator)
        super().__init__(clock, self._api, LIMITS, "web", Hosts(simulator.names))

    def drain(self) -> None:
        """End what waits, too."""
        self._api.stop()
        super().drain()


@implementer(IApplication)
class ControlAPI:
    """
    Answers the requests.

    :param clock: the reactor, or a ``Clock``.

    :ivar events: the browsers that watch.
    """

    def __init__(self, clock: IReactorTime, simulator: Simulator) -> None:
        self._clock = clock
        self._simulator = simulator
        self._inbox = simulator.inbox
        self._phones = simulator.phones
        wall = wall_clock(clock)
        self.events = Events(clock, simulator)
        self._waiting: set[_Wait] = set()
        self._pages = pages()
        self._router = Router(
            {
                self: _OPERATIONS,
                DeviceOperations(simulator.phones, wall): devices.OPERATIONS,
                AnswerOperations(simulator.inbox.answers, wall): answers.OPERATIONS,
                PushOperations(clock, simulator): pushes.OPERATIONS,
            },
            fault,
        )

    # IApplication

    def begun(self, request: Request) -> Answer | None:
        """Read on: the server has looked at the host and the site."""
        return None

    def received(self, request: Request) -> Answer | Deferred[Answer]:
        """Answer a request."""
        request.mark_authenticated()
        if request.method in (b"GET", b"HEAD") and request.path in self._pages:
            return self._pages[request.path]
        try:
            return self._router.answer(request)
        except Refused as error:
            return refused(error)

    def fault(self, status: int, message: str, request: Request | None = None) -> Answer:
        """See :meth:`IApplication.fault`."""
        return fault(status, message)

    def stop(self) -> None:
        """End everything that goes on."""
        self.events.stop()
        for wait in list(self._waiting):
            wait.end()

    def describe(self, request: Request) -> Answer:
        """Answer with the OpenAPI document."""
        parameters(request)
        return answer(openapi())

    def get_simulator(self, request: Request) -> Answer:
        """Answer with what a program needs to send to this simulator, except its credential."""
        parameters(request)
        simulator, authority = self._simulator, self._simulator.authority
        return answer(
            {
                "topic": simulator.topic,
                "environment": simulator.environment,
                "ports": dict(simulator.ports),
                "names": ["localhost", *simulator.names],
                "key_id": authority.key_id,
                "team_id": authority.team_id,
                "ca": authority.ca_pem.decode(),
            }
        )

    # What came.

    def get_received(self, request: Request) -> Answer | Deferred[Answer]:
        """Answer with what came."""
        given = parameters(request, *_FILTERS, "after", "limit", "wait")
        after = whole_parameter(given, "after", None, _LAST)
        limit = whole_parameter(given, "limit", _LIMIT, KEPT)
        is_wanted = _filter(given)
        find = partial(_find, self._inbox, is_wanted, after, limit)
        wait = number(given, "wait", 0, MAX_WAIT)
        self._phones.judge()
        page = find()
        if not wait or page.found or page.more:
            return page.answer()
        if len(self._waiting) >= MAX_WAITING:
            raise Refused("too many requests wait already", "wait", 503)
        waiting = _Wait(self._clock, self._inbox, is_wanted, find, wait)
        self._waiting.add(waiting)
        request.ended().addErrback(lambda _: waiting.end())
        return waiting.done.addCallback(self._waited, waiting)

    def _waited(self, page: _Page, waiting: _Wait) -> Answer:
        self._waiting.discard(waiting)
        self._phones.judge()
        return page.answer()

    def delete_received(self, request: Request) -> Answer:
        """Forget what came."""
        parameters(request)
        return answer({"deleted": self._inbox.clear()})

    def get_events(self, request: Request) -> Answer | Deferred[Answer]:
        """Answer with events, until the browser closes the connection."""
        given = parameters(request, "after")
        last = request.single(b"Last-Event-ID")
        if last is not None:
            given = {"after": last.decode("latin-1")}
        after = whole_parameter(given, "after", None, _LAST)
        if request.method == b"HEAD":
            return Answer(200, b"", SECURITY, KIND)
        if self.events.full:
            raise Refused("too many browsers watch already", status=503)
        self.events.add(request, after)
        return Deferred()  # never fires: the events are the response


@attrs.frozen
class _Page:
    """
    Some of what came.

    :ivar after: the number after which to go on.
    :ivar more: whether there is more after that.
    :ivar is_latest: whether this is the latest; otherwise it is what came first after a number.
    """

    found: list[Reception]
    after: int
    more: bool = False
    is_latest: bool = False

    def answer(self) -> Answer:
        """List as many as fit into an answer."""
        written = fitting(map(entry_json, reversed(self.found) if self.is_latest else self.found))
        after, more = self.after, self.more
        if self.is_latest:
            written.reverse()
        elif len(written) < len(self.found):
            after, more = self.found[len(written) - 1].id, True
        content = b",".join(written), after, b"true" if more else b"false"
        return Answer(200, b'{"received":[%s],"after":%d,"more":%s}' % content, SECURITY)


def _filter(given: Mapping[str, str]) -> Callable[[Reception], bool]:
    token = given.get("token", "").lower()
    wanted = {name: given[name] for name in ("topic", "push_type") if name in given}

    def is_wanted(reception: Reception) -> bool:
        if "token" in given and reception.token_text != token:
            return False
        found = {"topic": reception.topic, "push_type": reception.push.push_type} if wanted else {}
        return wanted.items() <= found.items()

    return is_wanted


def _find(inbox: Inbox, is_wanted: Callable[[Reception], bool], after: int | None, limit: int) -> _Page:
    """Find the first ones after a number, or without one the latest."""
    found = [each for each in inbox.after(after or 0) if is_wanted(each)]
    if after is None:
        return _Page(found[-limit:] if limit else [], inbox.last_id, is_latest=True)
    more, found = len(found) > limit, found[:limit]
    if not more:
        return _Page(found, max(after, inbox.last_id))
    return _Page(found, found[-1].id if found else after, more=True)


class _Wait:
    """
    A request that waits until something is found.

    :ivar done: fires with what was found; with nothing when the time is over.
    """

    def __init__(
        self,
        clock: IReactorTime,
        inbox: Inbox,
        is_wanted: Callable[[Reception], bool],
        find: Callable[[], _Page],
        seconds: float,
    ) -> None:
        self.done: Deferred[_Page] = Deferred()
        self._is_wanted = is_wanted
        self._inbox = inbox
        self._find = find
        self._last = inbox.last_id
        self._call: IDelayedCall = clock.callLater(seconds, self.end)
        inbox.listeners.append(self._look)

    def _look(self) -> None:
        new = self._inbox.after(self._last)
        self._last = self._inbox.last_id
        if any(map(self._is_wanted, new)):
            self.end()

    def end(self) -> None:
        """Wait no longer."""
        if not self.done.called:
            if self._call.active():
                self._call.cancel()
            self._inbox.listeners.remove(self._look)
            self.done.callback(self._find())


_TEXT: Schema = {"type": "string"}
_ABOUT: Schema = {
    "topic": {**_TEXT, "description": "The app's bundle ID."},
    "environment": {"enum": ["production", "sandbox"], "description": "The one that it plays."},
    "ports": {
        "type": "object",
        "additionalProperties": {"type": "integer"},
        "description": "The ports by protocol: http2, binary, feedback, channels and web.",
    },
    "names": {"type": "array", "items": _TEXT, "description": "The names in its certificates."},
    "key_id": {**_TEXT, "description": "The identifier of its signing key."},
    "team_id": {**_TEXT, "description": "The identifier of the team."},
    "ca": {**_TEXT, "description": "The certificate of the authority to trust, in PEM."},
}

#: The schemas of the bodies.
SCHEMAS: Mapping[str, Schema] = {
    "Simulator": {"type": "object", "required": [*_ABOUT], "properties": _ABOUT},
    "Received": {
        "type": "object",
        "required": ["received", "after", "more"],
        "properties": {
            "received": {"type": "array", "items": {"$ref": "#/components/schemas/Entry"}},
            "after": {"type": "integer", "description": "The number after which to go on."},
            "more": {"type": "boolean", "description": "Whether there is more after that number already."},
        },
    },
    "Entry": ENTRY,
    "Deleted": {"type": "object", "required": ["deleted"], "properties": {"deleted": {"type": "integer"}}},
    **ERROR,
    **devices.SCHEMAS,
    **answers.SCHEMAS,
    **pushes.SCHEMAS,
}

_OPERATIONS = (
    Operation(
        "GET",
        "/v1/simulator",
        ControlAPI.get_simulator,
        "getSimulator",
        "Describe this simulator.",
        {200: ("What a program needs to send to it.", ("Simulator",))},
        (400,),
    ),
    Operation(
        "GET",
        "/v1/received",
        ControlAPI.get_received,
        "getReceived",
        "Get what was received, or wait for it.",
        {200: ("What was received, the oldest first.", ("Received",))},
        (400, 503),
        parameters=(
            parameter("token", "query", "Only what is for this device token.", type="string"),
            parameter("topic", "query", "Only what is for this topic.", type="string"),
            parameter("push_type", "query", "Only what has this push type.", type="string"),
            parameter("after", "query", "Only what came after this number.", type="integer", minimum=0),
            parameter("limit", "query", "How many entries.", type="integer", minimum=0, maximum=KEPT, default=_LIMIT),
            parameter("wait", "query", "How long to wait, in seconds.", type="number", minimum=0, maximum=MAX_WAIT),
        ),
    ),
    Operation(
        "DELETE",
        "/v1/received",
        ControlAPI.delete_received,
        "deleteReceived",
        "Forget what was received.",
        {200: ("How many are forgotten.", ("Deleted",))},
        (400,),
    ),
    Operation(
        "GET",
        "/v1/events",
        ControlAPI.get_events,
        "getEvents",
        "Watch what is received.",
        {200: ("Server-sent events.", ())},
        (400, 503),
        parameters=(parameter("after", "query", "Begin after this number.", type="integer", minimum=0),),
    ),
    Operation(
        "GET",
        "/openapi.json",
        ControlAPI.describe,
        "describe",
        "Get this document.",
        {200: ("The document.", ("Document",))},
        (400,),
    ),
)

_SEGMENTS = {
    "token": parameter("token", "path", "The device token, in hexadecimal.", type="string", minLength=64),
    "number": parameter("number", "path", "The number of the planned answer.", type="integer", minimum=1),
}


def openapi() -> dict[str, Any]:
    """Make the OpenAPI document."""
    operations = (*_OPERATIONS, *devices.OPERATIONS, *answers.OPERATIONS, *pushes.OPERATIONS)
    made = document("txapns simulator", txapns.__version__, operations, _SEGMENTS, _reference, ERRORS, "Error")
    return {**made, "components": {"schemas": {**SCHEMAS, "Document": {"type": "object"}}}}


def _reference(bodies: Sequence[str]) -> Schema:
    [name] = bodies
    return {"$ref": REFERENCE.format(name=name)}
