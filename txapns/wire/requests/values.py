"""Requests, answers and error codes of the provider API: the values that both roles share."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar

import attrs
import ngh2

__all__ = ["Answer", "GoAway", "Headers", "Request", "Round", "reason_of"]

T = TypeVar("T")

#: Names and values of header fields, in wire order.
Headers = Sequence[tuple[bytes, bytes]]

REFUSED_STREAM = int(ngh2.ErrorCode.REFUSED_STREAM)
CANCEL = int(ngh2.ErrorCode.CANCEL)
PROTOCOL_ERROR = int(ngh2.ErrorCode.PROTOCOL_ERROR)
ENHANCE_YOUR_CALM = int(ngh2.ErrorCode.ENHANCE_YOUR_CALM)
#: What ngh2 raises when a stream or the connection is gone.
GONE = (ngh2.StreamUnavailableError, ngh2.ConnectionClosingError, ngh2.ConnectionStateError)


@attrs.frozen
class Answer:
    """
    An answer other than 200 with an empty body.

    :ivar headers: the header fields, ``:status`` first.
    :ivar body: the body; the sender truncates it at ``MAX_ANSWER`` or ``MAX_CONTENT`` bytes.
    """

    status: int
    headers: Headers
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")

    @property
    def reason(self) -> str:
        """Apple's reason; ``""`` if the body has none."""
        return reason_of(self.body)

    @property
    def page(self) -> bool:
        """Whether it is an HTML page. Apple sends none, so something on the way answered instead."""
        html = dict(self.headers).get(b"content-type", b"").lower().startswith(b"text/html")
        return html or self.body.lstrip().startswith(b"<")

    @property
    def timestamp(self) -> float | None:
        """
        With 410, when APNs learned that the token is dead, in UNIX seconds; otherwise ``None``.

        On the wire it is in milliseconds. In 2015 seconds were seen there; a number too small for milliseconds of
        this century is read as seconds.
        """
        try:
            number = float(json.loads(self.body)["timestamp"])
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            return None
        if not math.isfinite(number):
            return None
        return number if abs(number) < 1e11 else number / 1000

    def retry_after(self, now: float) -> float | None:
        """
        Read how long the server asks us to wait (``Retry-After``, RFC 9110, section 10.2.3).

        :param now: the present, in UNIX seconds, since the field may hold a date.
        :returns: seconds from now, not below 0; ``None`` if the field is missing or malformed.
        """
        text = dict(self.headers).get(b"retry-after", b"").decode("latin-1").strip()
        if text.isascii() and text.isdigit():
            return float(text[:9])
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - now)
        except (ValueError, TypeError, OverflowError):
            return None


@attrs.frozen
class GoAway:
    """
    The peer accepts no new streams on this connection.

    :ivar last_stream_id: the last stream it did or might process.
    :ivar code: the HTTP/2 error code, 0 for an orderly end.
    :ivar reason: the reason in its debug data, such as ``"BadCertificateEnvironment"``; ``""`` without one.
    """

    last_stream_id: int
    code: int
    reason: str


@attrs.define(eq=False)
class Round(Generic[T]):
    """
    What one read brought, sorted by outcome. There is one per read, so nothing is allocated per request.

    :ivar ready: the peer's first SETTINGS came: requests may be sent.
    :ivar accepted: the items answered 200 without a body, each with the answer's header fields.
    :ivar answered: the items accepted by any other answer from 200 to 299.
    :ivar refused: the items that were provably not processed.
    :ivar reset: the items dropped without an answer, with the HTTP/2 error code; each may have been processed.
    :ivar unsendable: the items that were never sent, because HTTP/2 does not allow their header fields.
    :ivar goaway: the peer's GOAWAY, if one came.
    """

    ready: bool = False
    accepted: list[tuple[T, Headers]] = attrs.Factory(list)
    answered: list[tuple[T, Answer]] = attrs.Factory(list)
    rejected: list[tuple[T, Answer]] = attrs.Factory(list)
    refused: list[T] = attrs.Factory(list)
    reset: list[tuple[T, int]] = attrs.Factory(list)
    unsendable: list[T] = attrs.Factory(list)
    goaway: GoAway | None = None


@attrs.define
class Request:
    """
    One request, as the server side receives it. There is one for each stream, so it is not frozen, which would take
    twice as long to make; and its body is put together in it.

    :ivar headers: the header fields in order, repeated ones included.
    :ivar body: the body, truncated one byte above the limit given to ``RequestReceiver``, so that a body that is too
        long differs from one that just fits. With ``early`` it is not truncated.
    :ivar size: how long its header fields are, in bytes; 0 as long as nobody asked.
    """

    stream: int
    headers: Headers = attrs.field(repr=lambda headers: f"<{len(headers)} fields>")
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")
    size: int = attrs.field(default=0, eq=False, repr=False)


def reason_of(data: bytes) -> str:
    """
    Find the reason in an answer's body or a GOAWAY's debug data.

    Apple sends JSON, but not always: ``Maximum active streams violated for this endpoint.`` has been seen, and a
    proxy may answer with a page. Such text, shortened, is the reason; so is JSON whose reason is not text.

    :returns: the reason; ``""`` for empty data, or JSON whose reason is null.
    """
    try:
        reason = json.loads(data)["reason"]
    except (ValueError, KeyError, TypeError, RecursionError):
        reason = data.decode("utf-8", "replace")
    if reason is None:
        return ""
    if not isinstance(reason, str):
        reason = data.decode("utf-8", "replace")
    # It ends up in logs and on terminals: one line, of a length that fits there, without control characters.
    return " ".join("".join(c if c.isprintable() else " " for c in reason[:200]).split())
