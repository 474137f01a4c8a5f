"""
The provider API, from Apple's side.

A request's form and its credentials are checked first; what is asked for then is judged by :mod:`txapns.devices`. The
first fault determines the response.
"""

from __future__ import annotations

from typing import Any

import attrs

from txapns.devices.answers import answer
from txapns.devices.broadcasts import answer_broadcast
from txapns.devices.push import Push
from txapns.devices.rules.refusal import Answer
from txapns.simulator.answers import BROADCASTS, DEVICES
from txapns.simulator.channels import ChannelRegistry
from txapns.simulator.requests import ACCEPTED, RequestServer, Response, fields_of, random_identifier
from txapns.wire.requests import Request

__all__ = ["ProviderAPIServer"]


class ProviderAPIServer(RequestServer):
    """
    One connection of a provider.

    :param channels: the broadcast channels.
    :param options: as for :class:`~txapns.simulator.requests.RequestServer`.
    """

    def __init__(self, *arguments: Any, channels: ChannelRegistry | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._channels = channels or ChannelRegistry()

    def id_field(self, path: str) -> str:
        """Name the header field that identifies a request and its response: broadcasts have another."""
        return super().id_field(path) if path.startswith(BROADCASTS) else "apns-id"

    def respond(self, request: Request, headers: dict[str, str], response: Response) -> None:
        """Respond to a request, and record it."""
        broadcast = headers.get(":path", "").startswith(BROADCASTS)
        if response.is_success and self._environment == "sandbox" and not broadcast:
            unique = (b"apns-unique-id", random_identifier().encode())
            response = attrs.evolve(response, fields=(*response.fields, unique))
        super().respond(request, headers, response)
        self._note(request, headers, response)

    def take(self, request: Request) -> None:
        """Record a notification as accepted, without a response."""
        self._note(request, fields_of(request), ACCEPTED)

    def _note(self, request: Request, headers: dict[str, str], response: Response) -> None:
        reason = None if response.is_success else response.reason  # only a proxy rejects without a reason
        protocol = "broadcast" if headers.get(":path", "").startswith(BROADCASTS) else "http2"
        self._inbox.note(protocol, b"", request.body, headers, reason, response.status, self._connection)

    def response_to(self, request: Request, headers: dict[str, str]) -> Response:
        """Find the response to a request."""
        refused = self.check_form(request, headers) or self._target(headers) or self.check_credentials(request, headers)
        if refused is not None:
            return refused
        path = headers[":path"]
        if path.startswith(BROADCASTS):
            given = self._broadcast(request, headers, path.removeprefix(BROADCASTS))
        else:
            token = path.removeprefix(DEVICES)
            push = Push(headers, request.body, token)
            given = answer(push, self._inbox.device(token), self._credential, self._environment)
        return ACCEPTED if given.is_success else Response(given.status, given.reason, given.timestamp)

    def _target(self, headers: dict[str, str]) -> Response | None:
        if headers.get(":method") != "POST":
            return Response(405, "MethodNotAllowed")
        if not headers.get(":path", "").startswith((DEVICES, BROADCASTS)):
            return Response(404, "BadPath")
        return None

    def _broadcast(self, request: Request, headers: dict[str, str], app: str) -> Answer:
        channel = headers.get("apns-channel-id", "")
        policy = self._channels.policy(app, channel)
        push = Push(headers, request.body, channel=channel)
        return answer_broadcast(push, app, self._credential, policy=policy, enabled=self._channels.enabled)
