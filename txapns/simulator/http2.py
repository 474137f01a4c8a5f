"""
The provider API, from Apple's side.

Apple documents the responses, but not the order of the checks, except that the credentials come before the token. The
order here is: the request's form, credentials, topic, the other header fields, the device, the payload. The first
fault determines the response.
"""

from __future__ import annotations

import re
import uuid
from binascii import unhexlify
from collections.abc import Callable
from typing import Any

import attrs

from txapns.devices.push import SUFFIXES, json_object
from txapns.simulator.channels import BROADCASTS, ChannelRegistry, respond_to_broadcast
from txapns.simulator.requests import ACCEPTED, RequestServer, Response, fields_of
from txapns.wire.requests import Request

__all__ = ["ProviderAPIServer"]

#: The longest payload, and that of a VoIP notification.
MAX_PAYLOAD, MAX_VOIP_PAYLOAD = 4_096, 5_120
#: Bytes in a device token. It has always been 32; longer ones have been announced and seen.
TOKEN_LENGTHS = range(32, 101)
_PUSH_TYPES = {"alert", "background", "mdm", *SUFFIXES}
_TOPIC = re.compile(r"[A-Za-z0-9._-]+")
_PATH = "/3/device/"

_Check = Callable[[Request, dict[str, str]], "Response | None"]


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
            unique = (b"apns-unique-id", str(uuid.uuid4()).encode())
            response = attrs.evolve(response, fields=(*response.fields, unique))
        super().respond(request, headers, response)
        # Only a proxy rejects without a reason.
        self._note(request, headers, None if response.is_success else response.reason)

    def take(self, request: Request) -> None:
        """Record a notification as accepted, without a response."""
        self._note(request, fields_of(request), None)

    def _note(self, request: Request, headers: dict[str, str], reason: str | None) -> None:
        path = headers.get(":path", "")
        if path.startswith(BROADCASTS):
            self._devices.note("broadcast", b"", request.body, headers, reason)
        else:
            text = path.removeprefix(_PATH)
            self._devices.note("http2", _device(text) or text.encode(), request.body, headers, reason)

    # The checks, in this order.

    def response_to(self, request: Request, headers: dict[str, str]) -> Response:
        """Find the response to a request."""
        if headers.get(":path", "").startswith(BROADCASTS):
            further: tuple[_Check, ...] = (self._broadcast,)
        else:
            further = self._allowed, self._push_type, self._fields, self._device, self._payload
        for look in (self.check_form, self._target, self.check_credentials, *further):
            response = look(request, headers)
            if response is not None:
                return response
        return ACCEPTED

    def _target(self, request: Request, headers: dict[str, str]) -> Response | None:
        if headers.get(":method") != "POST":
            return Response(405, "MethodNotAllowed")
        if not headers.get(":path", "").startswith((_PATH, BROADCASTS)):
            return Response(404, "BadPath")
        return None

    def _broadcast(self, request: Request, headers: dict[str, str]) -> Response | None:
        return respond_to_broadcast(request, headers, self.check_app, self._channels)

    def _allowed(self, request: Request, headers: dict[str, str]) -> Response | None:
        topic = headers.get("apns-topic")
        if topic is None:
            return Response(400, "MissingTopic") if self._listed or self._certificate is None else None
        if not _TOPIC.fullmatch(topic) or (self._listed and topic not in self._topics):
            return Response(400, "BadTopic")
        return None if self.serves(topic) else Response(400, "TopicDisallowed")

    def _push_type(self, request: Request, headers: dict[str, str]) -> Response | None:
        push_type = headers.get("apns-push-type")
        if push_type is None:
            return None
        if push_type not in _PUSH_TYPES:
            return Response(400, "InvalidPushType")
        topic = headers.get("apns-topic", self._topics[0])
        return None if topic.endswith(SUFFIXES.get(push_type, "")) else Response(400, "BadTopic")

    def _fields(self, request: Request, headers: dict[str, str]) -> Response | None:
        priority = headers.get("apns-priority", "10")
        if priority not in ("1", "5", "10") or (priority == "10" and headers.get("apns-push-type") == "background"):
            return Response(400, "BadPriority")
        expiration = headers.get("apns-expiration", "0")
        if not (expiration.isascii() and expiration.isdigit()):
            return Response(400, "BadExpirationDate")
        if len(headers.get("apns-collapse-id", "").encode("latin-1")) > 64:
            return Response(400, "BadCollapseId")
        return None

    def _device(self, request: Request, headers: dict[str, str]) -> Response | None:
        text = headers[":path"].removeprefix(_PATH)
        if not text:
            return Response(400, "MissingDeviceToken")
        device = _device(text)
        if device is None or len(device) not in TOKEN_LENGTHS or not self._devices.known(device, self._environment):
            return Response(400, "BadDeviceToken")
        if device in self._devices.dead:
            return Response(410, "Unregistered", self._devices.dead[device])
        return None

    def _payload(self, request: Request, headers: dict[str, str]) -> Response | None:
        if not request.body:
            return Response(400, "PayloadEmpty")
        if len(request.body) > (MAX_VOIP_PAYLOAD if headers.get("apns-push-type") == "voip" else MAX_PAYLOAD):
            return Response(413, "PayloadTooLarge")
        return Response(400, "PayloadEmpty") if json_object(request.body) is None else None


def _device(text: str) -> bytes | None:
    try:
        return unhexlify(text)
    except ValueError:
        return None
