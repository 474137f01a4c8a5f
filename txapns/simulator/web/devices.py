"""``/v1/devices``: the devices, and what their users do to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from txapns._network.clocks import IWallClock
from txapns._serving.http import Answer, Request
from txapns._serving.operations import Operation, Schema
from txapns._serving.pages import SECURITY
from txapns.devices.device import App, Device, Settings
from txapns.devices.push import TOKEN_LENGTHS, token_bytes
from txapns.simulator.phones import MAX_DEVICES, Phones
from txapns.simulator.web.entries import fitting, state_of
from txapns.simulator.web.json_api import MAX_KEPT, Refused, answer, json_body, parameters
from txapns.simulator.web.values import changed, plain

__all__ = ["OPERATIONS", "SCHEMAS", "DeviceOperations"]

_STATES = ("online", "offline", "removed")
_GROUPS = {"app": App, "settings": Settings}


class DeviceOperations:
    """
    Shows devices, and changes them.

    :param clock: the clock that dates when an app is removed.
    """

    def __init__(self, phones: Phones, clock: IWallClock) -> None:
        self._phones = phones
        self._clock = clock

    def list(self, request: Request) -> Answer:
        """Answer with all devices."""
        parameters(request)
        tokens = self._phones.tokens()[:MAX_DEVICES]
        found = fitting(answer(self._described(token)).body for token in tokens)
        more = b"true" if len(found) < len(tokens) else b"false"
        return Answer(200, b'{"devices":[%s],"more":%s}' % (b",".join(found), more), SECURITY)

    def get(self, request: Request, token: str) -> Answer:
        """Answer with a device."""
        parameters(request)
        return answer(self._described(_checked(token)))

    def change(self, request: Request, token: str) -> Answer:
        """Change a device."""
        parameters(request)
        token = _checked(token)
        if token not in self._phones.changed and len(self._phones.changed) >= MAX_DEVICES:
            raise Refused(f"{MAX_DEVICES} devices have been changed already", status=503)
        changes = json_body(request, MAX_KEPT)
        state = changes.pop("state", None)
        device = changed(self._phones.device(token), _grouped(changes))
        if state is not None:
            device = self._in_state(device, state)
        self._phones.set(token, device)
        return answer(self._described(token))

    def _in_state(self, device: Device, state: object) -> Device:
        if state not in _STATES:
            raise Refused(f"the state must be one of {', '.join(_STATES)}", "state")
        if state == "removed":
            since = self._clock.now() if device.removed_since is None else device.removed_since
            return attrs.evolve(device, removed_since=since)
        return attrs.evolve(device, online=state == "online", removed_since=None)

    def _described(self, token: str) -> dict[str, Any]:
        device = self._phones.device(token)
        return {"token": token, "state": state_of(device), **plain(device)}


def _checked(token: str) -> str:
    octets = token_bytes(token)
    if octets is None or len(octets) not in TOKEN_LENGTHS:
        raise Refused("a device token has 32 to 100 bytes, in hexadecimal", "token")
    return token.lower()


def _grouped(changes: dict[str, Any]) -> dict[str, Any]:
    """Move what is about the app or its settings to where it belongs: their names differ from those of the device."""
    found: dict[str, Any] = {}
    for name, content in changes.items():
        group = next((each for each, kind in _GROUPS.items() if name in attrs.fields_dict(kind)), None)
        if group is None or name in attrs.fields_dict(Device):
            nested = name in _GROUPS and isinstance(content, dict)
            found[name] = {**found.get(name, {}), **content} if nested else content
        else:
            found[group] = {**found.get(group, {}), name: content}
    return found


#: The schemas of the bodies.
SCHEMAS: Mapping[str, Schema] = {
    "DeviceChanges": {
        "type": "object",
        "description": "Fields of a device, or of its settings, or of its app. They are in the documentation.",
        "properties": {"state": {"enum": list(_STATES)}},
    },
    "Device": {
        "type": "object",
        "required": ["token", "state", "settings", "app"],
        "properties": {
            "token": {"type": "string"},
            "state": {"enum": list(_STATES)},
            "settings": {"type": "object"},
            "app": {"type": "object"},
        },
    },
    "Devices": {
        "type": "object",
        "required": ["devices", "more"],
        "properties": {
            "devices": {"type": "array", "items": {"$ref": "#/components/schemas/Device"}},
            "more": {"type": "boolean", "description": "Whether there are more than an answer has room for."},
        },
    },
}

#: What is answered here.
OPERATIONS = (
    Operation(
        "GET",
        "/v1/devices",
        DeviceOperations.list,
        "getDevices",
        "List the devices that something was sent to, or that were changed.",
        {200: ("The devices.", ("Devices",))},
        (400,),
    ),
    Operation(
        "GET",
        "/v1/devices/{token}",
        DeviceOperations.get,
        "getDevice",
        "Get a device.",
        {200: ("The device as it is now.", ("Device",))},
        (400,),
    ),
    Operation(
        "PUT",
        "/v1/devices/{token}",
        DeviceOperations.change,
        "putDevice",
        "Change a device.",
        {200: ("The device afterwards.", ("Device",))},
        (400, 413, 415, 503),
        body="DeviceChanges",
    ),
)
