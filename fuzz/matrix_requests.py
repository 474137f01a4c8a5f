"""Requests of Matrix homeservers, as far as the payloads for Apple."""

from __future__ import annotations

import json

from txapns import payload as payloads
from txapns._pushkeys import token_of
from txapns.daemon.errors import RequestRefused
from txapns.daemon.faces.matrix.payloads import payload_of, shortened
from txapns.daemon.faces.matrix.requests import read
from txapns.errors import InvalidPayload

__all__ = ["SEEDS", "check"]

_ALERT = {"default_payload": {"aps": {"alert": {"body": '"\0', "loc-args": ["\N{GRINNING FACE}", 7]}}}}
_TOLD = {
    "event_id": "$1",
    "room_id": "!2",
    "type": "m.room.message",
    "sender": "@a:b",
    "room_name": "R",
    "content": {"msgtype": "m.emote", "body": "waves"},
    "counts": {"unread": 2},
    "devices": [{"app_id": "a.b", "pushkey": "qqo=", "pushkey_ts": 1, "data": _ALERT, "tweaks": {"sound": "x"}}],
}
_ID_ONLY = {
    "event_id": "$1",
    "counts": {"unread": 0, "missed_calls": 1},
    "devices": [{"app_id": "", "pushkey": "abab", "data": {"format": "event_id_only", **_ALERT}}],
}

SEEDS = [
    json.dumps({"notification": _TOLD}).encode(),
    json.dumps({"notification": _ID_ONLY}, ensure_ascii=False).encode(),
    b'{"notification":{"id":"","type":null,"sender":"","counts":{"unread":1e400},"devices":[{"data":[1e400]}]}}',
]


def check(data: bytes) -> None:
    """Check that a request is read or refused, and that each payload can be sent."""
    try:
        request = read(data)
    except RequestRefused as error:
        assert str(error).encode()
        return
    for device in request.devices:
        token_of(device.pushkey)
        assert len(device.identity(request.event.event_id)) == 32
        try:
            payload = payload_of(request.event, device)
            encoded = None if payload is None else shortened(payload, 100)
        except InvalidPayload:
            continue
        assert encoded is None or payloads.decode(encoded)
