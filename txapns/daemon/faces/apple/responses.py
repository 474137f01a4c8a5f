"""
The answers of the Apple face, in Apple's words.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from functools import cached_property

import attrs
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns._serving.coding import ACCEPTED
from txapns.daemon.errors import AppQueueFull, NotSupported, RequestRefused, TooLarge, Unavailable, UnknownApp
from txapns.daemon.values import Outcome, State

__all__ = [
    "ACCEPTED_RESPONSE",
    "TIMEOUT_RESPONSE",
    "ErrorResponse",
    "NotAuthenticatedResponse",
    "Response",
    "response_to_failure",
    "response_to_outcomes",
]

_RETRY_AFTER = 5  # seconds, if Apple has not answered in time

_log = Logger()


@attrs.frozen(slots=False)  # for what is cached
class Response:
    """
    An answer.

    :ivar timestamp: with 410, since when the token is dead, in UNIX seconds.
    :ivar retry_after: after how many seconds to try again.
    :ivar unique_id: Apple's own id for the notification, in the sandbox.
    :ivar content: the body, if there is no reason.
    :ivar channel_id: the channel that was made.
    """

    status: int
    reason: str = ""
    timestamp: float | None = None
    retry_after: float | None = None
    unique_id: str = ""
    content: bytes = b""
    channel_id: bytes = b""

    def body(self) -> bytes:
        """Encode the body."""
        if not self.reason:
            return self.content
        content: dict[str, object] = {"reason": self.reason}
        if self.timestamp is not None:
            content["timestamp"] = int(self.timestamp * 1_000)
        return json.dumps(content).encode()

    def fields(self, apns_id: str | None = None, id_field: bytes = b"apns-id") -> list[tuple[bytes, bytes]]:
        """
        Encode the header fields, in order.

        :param apns_id: the id of the notification or of the request; ``None`` for a new one.
        :param id_field: the name of the field that has it.
        """
        return [self._status_field, (id_field, (apns_id or str(uuid.uuid4())).encode()), *self._others]

    @cached_property
    def _status_field(self) -> tuple[bytes, bytes]:
        return b":status", b"%d" % self.status

    @cached_property
    def _others(self) -> list[tuple[bytes, bytes]]:
        fields = []
        if self.channel_id:
            fields.append((b"apns-channel-id", self.channel_id))
        if self.reason or self.content:
            fields.append((b"content-type", b"application/json"))
        if self.status == 415:
            fields.append((b"accept-encoding", ACCEPTED))
        if self.retry_after is not None:
            fields.append((b"retry-after", b"%d" % max(1, round(self.retry_after))))
        if self.unique_id:
            fields.append((b"apns-unique-id", self.unique_id.encode()))
        return fields


#: The answer to a notification that is accepted.
ACCEPTED_RESPONSE = Response(200)
#: The answer to a request that did not arrive in time.
TIMEOUT_RESPONSE = Response(400, "IdleTimeout")

_NO_ANSWER_YET = Response(503, "ServiceUnavailable", retry_after=_RETRY_AFTER)
_INTERNAL_ERROR = Response(500, "InternalServerError")


class ErrorResponse(Exception):
    """The daemon refuses a request before it accepts the notification."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.response = Response(status, reason)


class NotAuthenticatedResponse(ErrorResponse):
    """The daemon refuses a request because of the credential that it shows, or because it shows none."""


def response_to_failure(reason: Failure) -> Response:
    """Choose the answer to a notification that could not be accepted."""
    error = reason.value
    if isinstance(error, AppQueueFull):
        return Response(429, "TooManyRequests", retry_after=error.retry_after)
    if isinstance(error, Unavailable):
        return Response(503, "ServiceUnavailable", retry_after=error.retry_after)
    if isinstance(error, TooLarge):
        return Response(413, "PayloadTooLarge")
    if isinstance(error, UnknownApp):
        return Response(400, "TopicDisallowed")  # the app was removed a moment ago
    if isinstance(error, NotSupported):
        return Response(400, "FeatureNotEnabled")
    if isinstance(error, RequestRefused):
        return Response(400, "PayloadEmpty")  # everything else was checked before: the payload is not a JSON object
    _log.failure("A request could not be answered", reason)
    return _INTERNAL_ERROR


def response_to_outcomes(found: Mapping[int, Outcome]) -> Response:
    """Choose the answer after waiting for one notification, given its outcome, or nothing if Apple did not answer."""
    return next(map(_response_to, found.values()), _NO_ANSWER_YET)


def _response_to(outcome: Outcome) -> Response:
    """Give Apple's answer; without one, the nearest answer that Apple has."""
    if outcome.state is State.SUPERSEDED:
        return ACCEPTED_RESPONSE  # Apple, too, accepts what it then replaces by a newer one
    if outcome.state is State.ACCEPTED:
        return Response(200, unique_id=outcome.unique_id)
    if outcome.status >= 400 and outcome.reason:
        return Response(outcome.status, outcome.reason, outcome.timestamp)
    if outcome.state is State.EXPIRED:
        return Response(400, "BadExpirationDate")
    if outcome.state is State.REJECTED:
        return Response(400, "PayloadEmpty")  # it could not be sent at all
    return _NO_ANSWER_YET
