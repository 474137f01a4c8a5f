"""``/v1/answers``: answers that are planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from txapns._network.clocks import IWallClock
from txapns._serving.http import Answer, Request
from txapns._serving.operations import Operation, Schema
from txapns.devices.push import token_bytes
from txapns.reasons import Status
from txapns.simulator.answers import MAX_PLANNED, PlannedAnswer, PlannedAnswers
from txapns.simulator.web.json_api import MAX_KEPT, Fields, Refused, answer, json_body, parameters, whole

__all__ = ["OPERATIONS", "SCHEMAS", "AnswerOperations"]

_MAX_DELAY, _MAX_TIMES = 3_600.0, 1_000_000


class AnswerOperations:
    """
    Plans answers.

    :param clock: the clock that dates the death of a token.
    """

    def __init__(self, answers: PlannedAnswers, clock: IWallClock) -> None:
        self._answers = answers
        self._clock = clock

    def list(self, request: Request) -> Answer:
        """Answer with all planned answers."""
        parameters(request)
        return answer({"answers": [attrs.asdict(each) for each in self._answers.all()]})

    def plan(self, request: Request) -> Answer:
        """Plan an answer."""
        parameters(request)
        if len(self._answers) >= MAX_PLANNED:
            raise Refused(f"there are {MAX_PLANNED} planned answers already", status=503)
        return answer(attrs.asdict(self._answers.add(**self._read(json_body(request, MAX_KEPT)))), 201)

    def _read(self, content: dict[str, Any]) -> dict[str, Any]:
        known = [each.name for each in attrs.fields(PlannedAnswer) if each.name not in ("id", "given")]
        fields = Fields(content, *known)
        token = fields.text("token")
        if token is not None and token_bytes(token) is None:
            raise Refused("the token must be hexadecimal", "token")
        status, reason = fields.whole("status", 200, 599), fields.text("reason")
        error_packet = fields.whole("error_packet", 1, 255)
        facts = {
            "token": token and token.lower(),
            "topic": fields.text("topic"),
            "push_type": fields.text("push_type"),
            "status": status,
            "error_packet": error_packet,
            "reason": reason or "",
            "timestamp": fields.number("timestamp", 0, 2**40),
            "times": fields.whole("times", 1, _MAX_TIMES),
            "chance": fields.number("chance", 0, 1, 1.0),
            "delay": fields.number("delay", 0, _MAX_DELAY, 0.0),
            "goaway": fields.flag("goaway"),
            "drop": fields.flag("drop"),
        }
        if reason and (status is None or status < 300):
            raise Refused("a reason is for a status of an error", "reason")
        if error_packet == Status.SHUTDOWN:
            raise Refused("this status names what was accepted last; goaway gives it", "error_packet")
        if not (status or error_packet or facts["delay"] or facts["goaway"] or facts["drop"]):
            raise Refused("give a status, an error_packet, a delay, goaway or drop: otherwise nothing changes")
        if status == 410 and facts["timestamp"] is None:
            facts["timestamp"] = self._clock.now()
        return facts

    def remove_all(self, request: Request) -> Answer:
        """Remove all planned answers."""
        parameters(request)
        return answer({"deleted": self._answers.remove()})

    def remove(self, request: Request, number: str) -> Answer:
        """Remove a planned answer."""
        parameters(request)
        found = whole(number)
        if found is None or not self._answers.remove(found):
            raise Refused("there is no planned answer of this number", status=404)
        return answer({"deleted": 1})


_CONDITIONS = {
    "token": {"type": ["string", "null"], "description": "Only to pushes for this device token, in hexadecimal."},
    "topic": {"type": ["string", "null"], "description": "Only to those with this topic."},
    "push_type": {"type": ["string", "null"], "description": "Only to those with this push type."},
    "status": {
        "type": ["integer", "null"],
        "minimum": 200,
        "maximum": 599,
        "description": "The HTTP status. Left out, the answer is what it would have been.",
    },
    "error_packet": {
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": 255,
        "description": "The status of the binary protocol's error packet. An answer with one status is for its "
        "protocol alone; with both or neither it is for both.",
    },
    "reason": {"type": "string", "description": "The reason; empty for an answer without a body."},
    "timestamp": {"type": ["number", "null"], "minimum": 0, "description": "With 410, in UNIX seconds; or now."},
    "times": {
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": _MAX_TIMES,
        "description": "How many times; left out, until it is deleted.",
    },
    "chance": {"type": "number", "minimum": 0, "maximum": 1, "default": 1, "description": "How likely it is given."},
    "delay": {"type": "number", "minimum": 0, "maximum": _MAX_DELAY, "default": 0, "description": "In seconds."},
    "goaway": {
        "type": "boolean",
        "default": False,
        "description": "Whether a GOAWAY goes before it; over the binary protocol, an error packet with status 10 "
        "after it. A push by hand comes by no connection: for that, neither this nor drop means anything.",
    },
    "drop": {"type": "boolean", "default": False, "description": "Whether the connection is aborted in its place."},
}

#: The schemas of the bodies.
SCHEMAS: Mapping[str, Schema] = {
    "Plan": {"type": "object", "additionalProperties": False, "properties": _CONDITIONS},
    "PlannedAnswer": {
        "type": "object",
        "required": ["id", "given", *_CONDITIONS],
        "properties": {"id": {"type": "integer"}, "given": {"type": "integer"}, **_CONDITIONS},
    },
    "PlannedAnswers": {
        "type": "object",
        "required": ["answers"],
        "properties": {"answers": {"type": "array", "items": {"$ref": "#/components/schemas/PlannedAnswer"}}},
    },
}

#: What is answered here.
OPERATIONS = (
    Operation(
        "GET",
        "/v1/answers",
        AnswerOperations.list,
        "getAnswers",
        "List the planned answers.",
        {200: ("Those that may still be given.", ("PlannedAnswers",))},
        (400,),
    ),
    Operation(
        "POST",
        "/v1/answers",
        AnswerOperations.plan,
        "postAnswer",
        "Plan an answer.",
        {201: ("The planned answer.", ("PlannedAnswer",))},
        (400, 413, 415, 503),
        body="Plan",
    ),
    Operation(
        "DELETE",
        "/v1/answers",
        AnswerOperations.remove_all,
        "deleteAnswers",
        "Remove all planned answers.",
        {200: ("How many there were.", ("Deleted",))},
        (400,),
    ),
    Operation(
        "DELETE",
        "/v1/answers/{number}",
        AnswerOperations.remove,
        "deleteAnswer",
        "Remove a planned answer.",
        {200: ("It is removed.", ("Deleted",))},
        (400, 404),
    ),
)
