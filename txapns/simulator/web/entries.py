"""What was received, as JSON."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from typing import Any

from txapns.devices.device import Device
from txapns.devices.presentation import Outcome
from txapns.devices.verdict import Verdict
from txapns.simulator.inbox import Connection, Reception
from txapns.simulator.web.json_api import encode
from txapns.simulator.web.values import plain

__all__ = ["ENTRY", "entry", "entry_json", "fitting", "listing", "state_of"]

#: About how long an answer becomes, in bytes: a longer one would not be worth its memory.
MAX_ANSWER = 8_388_608


_TEXT, _WHOLE, _OBJECT = ({"type": name} for name in ("string", "integer", "object"))
_MAYBE_OBJECT = {"type": ["object", "null"]}

#: The schema of an entry.
ENTRY = {
    "type": "object",
    "required": ["id", "at", "protocol", "token", "topic", "push_type", "headers", "payload", "payload_base64"],
    "properties": {
        "id": _WHOLE,
        "at": {"type": "number", "description": "UNIX seconds."},
        "protocol": {"enum": ["http2", "binary", "broadcast"]},
        "token": _TEXT,
        "topic": _TEXT,
        "push_type": _TEXT,
        "headers": {"type": "object", "additionalProperties": _TEXT},
        "payload": _MAYBE_OBJECT,
        "payload_base64": _TEXT,
        "connection": _WHOLE,
        "client": _OBJECT,
        "provider_token": _MAYBE_OBJECT,
        "answer": {"type": "object", "properties": {"status": _WHOLE, "reason": {"type": ["string", "null"]}}},
        "outcome": {"enum": [each.value for each in Outcome]},
        "presentation": _MAYBE_OBJECT,
        "why": _TEXT,
        "findings": {"type": "array", "items": {"$ref": "#/components/schemas/Finding"}},
        "device": _OBJECT,
    },
}


def entry(reception: Reception) -> dict[str, Any]:
    """
    Describe a notification.

    :returns: a dictionary; what a client has to know of it is in ``docs/simulator.rst``.
    """
    push, claims, verdict = reception.push, reception.provider_token, reception.verdict
    return {
        "id": reception.id,
        "at": reception.at,
        "protocol": reception.protocol,
        "token": push.token,
        "topic": reception.topic,
        "push_type": push.push_type,
        "headers": dict(reception.headers),
        "payload": push.content,
        "payload_base64": b64encode(push.payload).decode(),
        "connection": reception.connection.number,
        "client": _client(reception.connection, reception.headers.get("user-agent")),
        "provider_token": claims
        and {"key_id": claims.key_id, "team_id": claims.team_id, "age": reception.at - claims.issued_at},
        "answer": {"status": reception.status, "reason": reception.reason},
        **(_judged(verdict) if verdict else {}),
    }


def _judged(verdict: Verdict) -> dict[str, Any]:
    device = verdict.device
    return {
        "outcome": verdict.outcome.value,
        "presentation": plain(verdict.presentation),
        "why": verdict.why,
        "findings": [finding.to_dict() for finding in verdict.findings],
        "device": {
            "state": state_of(device),
            "badge": device.badge,
            "shown": len(device.shown),
            "stored": len(device.stored),
            "activities": sum(each.is_running for each in device.activities),
        },
    }


def state_of(device: Device) -> str:
    """Say whether a device is reached: ``"online"``, ``"offline"``, or ``"removed"`` if the app is."""
    return "removed" if device.removed_since is not None else "online" if device.online else "offline"


def _client(connection: Connection, agent: str | None) -> dict[str, Any]:
    certificate = connection.environments is not None
    return {
        "address": connection.peer or None,
        "tls": connection.tls or None,
        "user_agent": agent,
        "certificate": {"topics": connection.topics, "environments": connection.environments} if certificate else None,
    }


def fitting(parts: Iterable[bytes]) -> list[bytes]:
    """Take the first parts that fit into an answer together, but one at least."""
    found: list[bytes] = []
    size = 0
    for part in parts:
        size += len(part)
        if size > MAX_ANSWER and found:
            break
        found.append(part)
    return found


def listing(receptions: Iterable[Reception]) -> bytes:
    """Describe notifications as a JSON array."""
    return b"[%s]" % b",".join(map(entry_json, receptions))


def entry_json(reception: Reception) -> bytes:
    """Describe a notification as a JSON object."""
    return encode(entry(reception))
