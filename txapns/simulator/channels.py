"""
The channels of broadcasts, from Apple's side.

A broadcast comes to the server of the provider API; channels are managed by a server of their own,
:class:`ChannelServer`. For what both check, see :mod:`txapns.simulator.requests`; for what a provider sends, see
:mod:`txapns.channels`. The first fault determines the response.
"""

from __future__ import annotations

import json
import re
import secrets
from base64 import b64encode
from typing import Any

from txapns.devices.broadcasts import check_channel
from txapns.devices.push import json_object
from txapns.devices.rules.broadcast import PUSH_TYPE
from txapns.simulator.requests import RequestServer, Response
from txapns.wire.requests import Request

__all__ = ["ChannelRegistry", "ChannelServer"]

#: How many channels an app may have.
MAX_CHANNELS = 10_000
_POLICY_KEY, _PUSH_TYPE_KEY = "message-storage-policy", "push-type"
_PATH = re.compile(r"/1/apps/([^/]+)/(channels|all-channels)")


class ChannelRegistry:
    """
    The existing channels.

    :ivar enabled: whether broadcasts are enabled for the apps.
    :ivar limit: how many channels an app may have.
    """

    def __init__(self) -> None:
        self.enabled = True
        self.limit = MAX_CHANNELS
        self._policies: dict[str, dict[str, int]] = {}

    def make(self, app: str, policy: int) -> str:
        """Make a channel; policy 0 stores nothing, 1 the latest broadcast. Returns its identifier."""
        channel_id = b64encode(secrets.token_bytes(16)).decode()
        self._policies.setdefault(app, {})[channel_id] = policy
        return channel_id

    def policy(self, app: str, channel_id: str) -> int | None:
        """Find a channel's policy; returns ``None`` if there is no such channel."""
        return self._policies.get(app, {}).get(channel_id)

    def delete(self, app: str, channel_id: str) -> None:
        """Delete a channel."""
        del self._policies[app][channel_id]

    def of(self, app: str) -> list[str]:
        """Return the identifiers of an app's channels, the oldest first."""
        return list(self._policies.get(app, ()))


class ChannelServer(RequestServer):
    """
    One connection of a provider that manages its channels.

    :param channels: the existing channels.
    :param options: as for :class:`~txapns.simulator.requests.RequestServer`.
    """

    def __init__(self, *arguments: Any, channels: ChannelRegistry, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._channels = channels

    def response_to(self, request: Request, headers: dict[str, str]) -> Response:
        """Find the response to a request, and do what it asks for."""
        method = headers.get(":method", "")
        match = _PATH.fullmatch(headers.get(":path", ""))
        app, what = match.groups() if match else ("", "")
        operations = {
            ("POST", "channels"): self._create,
            ("GET", "channels"): self._read,
            ("DELETE", "channels"): self._delete,
            ("GET", "all-channels"): self._list,
        }
        operation = operations.get((method, what))
        fault = (
            self.check_form(request, headers)
            or (None if method in ("POST", "GET", "DELETE") else Response(405, "MethodNotAllowed"))
            or (Response(404, "BadPath") if operation is None else None)
            or self.check_credentials(request, headers)
            or self.check_app(app)
            or (None if self._channels.enabled else Response(400, "FeatureNotEnabled"))
        )
        if fault is not None:
            return fault
        assert operation is not None
        return operation(app, request, headers)

    def _create(self, app: str, request: Request, headers: dict[str, str]) -> Response:
        content = json_object(request.body)
        if content is None:
            return Response(400, "BadRequestPayload" if request.body else "PayloadEmpty")
        if not set(content) <= {_POLICY_KEY, _PUSH_TYPE_KEY}:
            return Response(400, "BadRequestParams")
        policy, push_type = content.get(_POLICY_KEY), content.get(_PUSH_TYPE_KEY)
        if type(policy) is not int or policy not in (0, 1):
            return Response(400, "MissingChannelQueueSize")
        if push_type != PUSH_TYPE:
            return Response(400, "MissingPushType" if push_type is None else "InvalidPushType")
        if len(self._channels.of(app)) >= self._channels.limit:
            return Response(400, "CannotCreateChannelConfig")
        return Response(201, fields=((b"apns-channel-id", self._channels.make(app, policy).encode()),))

    def _find(self, app: str, headers: dict[str, str]) -> Response | None:
        channel_id = headers.get("apns-channel-id", "")
        fault = Response.of(check_channel(channel_id))
        if fault is None and self._channels.policy(app, channel_id) is None:
            fault = Response(400, "ChannelNotRegistered")
        return fault

    def _read(self, app: str, request: Request, headers: dict[str, str]) -> Response:
        if (fault := self._find(app, headers)) is not None:
            return fault
        policy = self._channels.policy(app, headers["apns-channel-id"])
        return Response(200, content=json.dumps({_POLICY_KEY: policy, _PUSH_TYPE_KEY: PUSH_TYPE}).encode())

    def _delete(self, app: str, request: Request, headers: dict[str, str]) -> Response:
        fault = self._find(app, headers)
        if fault is None:
            self._channels.delete(app, headers["apns-channel-id"])
        return fault or Response(204)

    def _list(self, app: str, request: Request, headers: dict[str, str]) -> Response:
        return Response(200, content=json.dumps({"channels": self._channels.of(app)}).encode())
