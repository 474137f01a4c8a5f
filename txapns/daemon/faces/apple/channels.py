"""
Requests about channels by the Apple face. They are passed on to the server that manages the app's channels, as they are
but for the credential, and the answer is passed back.

::

    :method          POST                                     :status          201
    :path            /1/apps/com.example.chess/channels       apns-request-id  8a6f…
    authorization    bearer <key or JWT>                      apns-channel-id  dHN0LXNyY2gtY2hubA==

    {"message-storage-policy": 1, "push-type": "LiveActivity"}
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from urllib.parse import unquote

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns import reasons
from txapns._session.channels import Channels
from txapns.channels import ChannelAnswer, ChannelRequest
from txapns.daemon.errors import RequestRefused, UnknownApp
from txapns.daemon.faces.apple.broadcasts import app_of_bundle, checked_channel, side_meant
from txapns.daemon.faces.apple.requests import Head, payload_of
from txapns.daemon.faces.apple.responses import ErrorResponse, Response, response_to_failure
from txapns.daemon.faces.callers import Callers
from txapns.daemon.values import CHANNEL, Environment
from txapns.errors import APNSError, OutcomeUnknown, QueueFull, RequestRejected, WireError
from txapns.reasons import Action
from txapns.wire.requests import Request

__all__ = ["Question", "question_of"]

_log = Logger()

_PATH = re.compile(r"/1/apps/([^/]+)/(channels|all-channels)")
_ALLOWED = {("POST", "channels"), ("GET", "channels"), ("DELETE", "channels"), ("GET", "all-channels")}
_RETRY_AFTER = 5.0  # seconds, if Apple was not asked


@attrs.frozen
class Question:
    """
    A request about channels.

    :ivar id_field: the field with its id.
    :ivar apns_id: its id, which the caller chose or which is new.
    :ivar app: the name of the app.
    :ivar passed_on: what is passed on.
    :ivar environment: the side of an app with two; ``None`` for the only one.
    """

    request: Request
    id_field: bytes
    apns_id: str
    app: str
    passed_on: ChannelRequest
    environment: Environment | None = None

    def ask(self, channels_of: Callable[[str, Environment | None], Channels]) -> Deferred[Response]:
        """
        Pass it on.

        :param channels_of: returns the channels of an app.
        :returns: a ``Deferred`` of the response to the caller, which does not fail.
        """
        asked = maybeDeferred(lambda: channels_of(self.app, self.environment).forward(self.passed_on))
        return asked.addCallbacks(_answered, _failed)


def question_of(
    request: Request, head: Head, fields: Mapping[str, str], names: frozenset[str] | None, callers: Callers
) -> Question:
    """
    Read and check a request about channels.

    :param fields: the header fields but those of its own.
    :param names: the names of the apps that the caller may send for; ``None`` for all.
    :raises ErrorResponse: it is refused.
    """
    path, method = head.path, fields[":method"]
    match = _PATH.fullmatch(path)
    if match is None or (method, match[2]) not in _ALLOWED:
        raise ErrorResponse(404, "BadPath")
    app = app_of_bundle(callers, unquote(match[1]), fields, names)
    request_id = head.apns_id or str(uuid.uuid4())
    passed = [(b"apns-request-id", request_id.encode())]
    if CHANNEL in fields or (match[2] == "channels" and method != "POST"):
        passed.append((CHANNEL.encode(), checked_channel(fields).encode()))
    content = payload_of(request, fields) if method == "POST" else b""
    passed_on = ChannelRequest(method.encode(), path.encode(), tuple(passed), content)
    return Question(request, head.id_field, request_id, app, passed_on, side_meant(callers, app, fields))


def _answered(answer: ChannelAnswer) -> Response:
    return Response(answer.status, content=answer.body, channel_id=answer.headers.get(CHANNEL.encode(), b""))


def _failed(failure: Failure) -> Response:
    """Choose the response if Apple rejected the request, or did not answer it."""
    error = failure.value
    if isinstance(error, RequestRejected):
        if reasons.action(error.status, error.reason) in (Action.CREDENTIAL, Action.RENEW):
            return Response(503, "ServiceUnavailable", retry_after=_RETRY_AFTER)  # it is our credential, not theirs
        return Response(error.status, error.reason, retry_after=error.retry_after)
    if isinstance(error, UnknownApp):
        return Response(403, "TopicMismatch")
    if isinstance(error, RequestRefused) or not isinstance(error, APNSError):
        return response_to_failure(failure)
    if isinstance(error, OutcomeUnknown | WireError):
        return Response(500, "InternalServerError")
    if isinstance(error, QueueFull):
        return Response(429, "TooManyRequests", retry_after=_RETRY_AFTER)
    return Response(503, "ServiceUnavailable", retry_after=_RETRY_AFTER)
