"""``/v1/push``, ``/v1/lint`` and ``/v1/strings``: pushes made by hand."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from txapns._network.clocks import wall_clock
from txapns._serving.http import Answer, Request
from txapns._serving.operations import Operation, Schema
from txapns._serving.pages import SECURITY
from txapns.devices.answers import answer as answer_to
from txapns.devices.credential import Credential
from txapns.devices.push import Push, token_bytes
from txapns.devices.rules import lint
from txapns.simulator.answers import DEVICES, PlannedAnswer
from txapns.simulator.inbox import Connection
from txapns.simulator.servers import Simulator
from txapns.simulator.strings import MalformedStrings, parse_strings
from txapns.simulator.web.entries import entry_json
from txapns.simulator.web.json_api import Fields, Refused, answer, json_body, parameters

__all__ = ["OPERATIONS", "SCHEMAS", "PushOperations"]

#: How long payload and header fields may be, in bytes each; Apple takes 5,120 at most.
MAX_PUSH = 16_384
#: How many pushes may wait for late answers at a time.
MAX_LATE = 100
_FORBIDDEN = frozenset("\0\r\n")


class PushOperations:
    """
    Takes pushes from people.

    :param clock: the reactor, or a ``Clock``.
    """

    def __init__(self, clock: IReactorTime, simulator: Simulator) -> None:
        self._simulator = simulator
        self._clock = clock
        self._wall = wall_clock(clock)
        self._late: set[IDelayedCall] = set()
        self._connection = Connection(0, topics=(simulator.topic,), credential=Credential())

    def send(self, request: Request) -> Answer | Deferred[Answer]:
        """Send a push, as if a provider with a provider token had sent it."""
        parameters(request)
        push = _read(json_body(request))
        headers = {":method": "POST", ":path": DEVICES + push.token, **push.headers}
        headers.setdefault("apns-id", str(uuid.uuid4()))
        push = attrs.evolve(push, headers=headers)
        if len(self._late) >= MAX_LATE:
            raise Refused("too many pushes wait for their answers already", status=503)
        planned = self._simulator.inbox.answers.take(headers, "hand")
        if planned is None or not planned.delay:
            return self._answer(push, planned)
        return self._answer_late(request, push, planned)

    def _answer_late(self, request: Request, push: Push, planned: PlannedAnswer) -> Deferred[Answer]:
        """Answer when it is time, if somebody still waits for it then."""
        answered: Deferred[Answer] = Deferred()

        def answer() -> None:
            self._late.remove(call)
            answered.callback(self._answer(push, planned))

        def leave(reason: Failure) -> None:
            if call in self._late:
                self._late.remove(call)
                call.cancel()

        call = self._clock.callLater(planned.delay, answer)
        self._late.add(call)
        request.ended().addErrback(leave)
        return answered

    def _answer(self, push: Push, planned: PlannedAnswer | None) -> Answer:
        inbox, connection = self._simulator.inbox, self._connection
        connection.environment = self._simulator.environment
        given = answer_to(push, inbox.device(push.token), connection.credential, connection.environment)
        status, reason = given.status, given.reason
        if planned is not None and planned.status is not None:
            status, reason = planned.status, planned.reason
        token = token_bytes(push.token) or push.token.encode()
        refused = None if 200 <= status <= 299 else reason
        inbox.note("http2", token, push.payload, push.headers, refused, status, connection)
        self._simulator.phones.judge()
        latest = inbox.after(inbox.last_id - 1)
        return Answer(201, entry_json(latest[0]) if latest else b"{}", SECURITY)

    def lint(self, request: Request) -> Answer:
        """Answer with what is wrong with a push that is sent here; with a token, also for that device."""
        parameters(request)
        push = _read(json_body(request))
        device = self._simulator.phones.device(push.token) if push.token else None
        environment = self._simulator.environment
        findings = lint(push, device, self._connection.credential, environment, now=self._wall.now())
        return answer({"findings": [finding.to_dict() for finding in findings]})

    def set_strings(self, request: Request) -> Answer:
        """Take the strings of the app, for all devices."""
        parameters(request)
        content = json_body(request)
        fields = Fields(content, "strings", "text")
        text, strings = fields.text("text"), content.get("strings")
        if (text is None) == (strings is None):
            raise Refused("give either the text of a .strings file, or strings as an object")
        if text is not None:
            try:
                strings = parse_strings(text)
            except MalformedStrings as error:
                raise Refused(str(error), "text") from None
        if not isinstance(strings, dict) or not all(isinstance(value, str) for value in strings.values()):
            raise Refused("the strings must be an object of texts", "strings")
        self._simulator.phones.set_strings(strings)
        return answer({"strings": len(strings)})


def _read(content: dict[str, Any]) -> Push:
    """Read a push; its payload is an object, or the text of anything else."""
    fields = Fields(content, "token", "headers", "payload")
    headers, payload = content.get("headers"), content.get("payload")
    if headers is None:
        headers = {}
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise Refused("the headers must be an object of texts", "headers")
    for name, value in headers.items():
        if name.startswith(":") or _FORBIDDEN & {*name, *value}:
            raise Refused("this is not a header field", f"headers.{name}")
    if payload is None:
        payload = ""
    if not isinstance(payload, str):
        payload = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    encoded = payload.encode("utf-8", "surrogatepass")
    token = (fields.text("token") or "").lower()
    if max(len(encoded), len(token) + sum(len(name) + len(value) for name, value in headers.items())) > MAX_PUSH:
        raise Refused(f"the payload may have {MAX_PUSH} bytes, and the header fields too", status=413)
    lowered = {name.lower(): value for name, value in headers.items()}
    return Push(lowered, encoded, token)


_PUSH = {
    "token": {"type": "string", "description": "The device token, in hexadecimal."},
    "headers": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "The header fields, such as apns-topic and apns-push-type.",
    },
    "payload": {"description": "The payload: an object, or the text of what may be anything."},
}
_FINDING = ("code", "severity", "message", "path", "grade", "source")

#: The schemas of the bodies.
SCHEMAS: Mapping[str, Schema] = {
    "Push": {"type": "object", "additionalProperties": False, "properties": _PUSH},
    "Findings": {
        "type": "object",
        "required": ["findings"],
        "properties": {"findings": {"type": "array", "items": {"$ref": "#/components/schemas/Finding"}}},
    },
    "Finding": {
        "type": "object",
        "required": list(_FINDING),
        "properties": {name: {"type": "string"} for name in _FINDING},
    },
    "Strings": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "strings": {"type": "object", "additionalProperties": {"type": "string"}},
            "text": {"type": "string", "description": "The content of a .strings file, in either form."},
        },
    },
    "StringsTaken": {
        "type": "object",
        "required": ["strings"],
        "properties": {"strings": {"type": "integer", "description": "How many there are."}},
    },
}

#: What is answered here.
OPERATIONS = (
    Operation(
        "POST",
        "/v1/push",
        PushOperations.send,
        "postPush",
        "Send a push by hand.",
        {201: ("What became of it.", ("Entry",))},
        (400, 413, 415, 503),
        body="Push",
    ),
    Operation(
        "POST",
        "/v1/lint",
        PushOperations.lint,
        "postLint",
        "Find what is wrong with a push.",
        {200: ("The findings.", ("Findings",))},
        (400, 413, 415),
        body="Push",
    ),
    Operation(
        "POST",
        "/v1/strings",
        PushOperations.set_strings,
        "postStrings",
        "Give the strings of the app, which loc-key and its like name.",
        {200: ("They are taken.", ("StringsTaken",))},
        (400, 413, 415),
        body="Strings",
    ),
)
