"""
Requests of the Apple face, read and checked in Apple's order. What is wrong is raised as an :class:`ErrorResponse`.
"""

from __future__ import annotations

import math
import re
from binascii import unhexlify
from collections.abc import Mapping

import attrs

from txapns._serving.coding import BodyTooLong, MalformedEncoding, UnknownEncoding, body_decoder
from txapns.daemon.faces.apple.responses import ErrorResponse
from txapns.daemon.intake import MAX_TOKEN, header_fault, schedule_fault
from txapns.daemon.values import Caller, Draft, Lane
from txapns.wire.requests import Request

__all__ = [
    "BROADCASTS",
    "CHANNELS",
    "MAX_BODY",
    "Submission",
    "apns_id_of",
    "authorization_of",
    "draft_of",
    "fields_of",
    "headers_of",
    "id_field",
    "lane_of",
    "not_before_of",
    "payload_of",
]

#: The longest body that is read. Apple rejects what is longer than its own 4,096 bytes and not longer than this.
MAX_BODY = 16_384

_DEVICES = "/3/device/"
#: The beginnings of the paths of broadcasts, and of requests about channels.
BROADCASTS, CHANNELS = "/4/broadcasts/apps/", "/1/apps/"
_OTHERS = (BROADCASTS.encode(), CHANNELS.encode())
_CHANNEL_METHODS = ("GET", "POST", "DELETE")
_NOT_BEFORE, _LANE = "txapns-not-before", "txapns-lane"  # Apple has no such fields
_LANES = {lane.name.lower(): lane for lane in Lane}
_SECONDS = re.compile("[0-9]{1,12}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

# The header fields of a notification, with Apple's reason for an invalid one.
_FIELDS = {
    "apns-topic": "BadTopic",
    "apns-push-type": "InvalidPushType",
    "apns-priority": "BadPriority",
    "apns-expiration": "BadExpirationDate",
    "apns-collapse-id": "BadCollapseId",
}


@attrs.frozen
class Submission:
    """
    A request that can be accepted.

    :ivar apns_id: the id that the caller chose for the notification; ``None`` if the daemon chooses one.
    """

    request: Request
    apns_id: str | None
    app: str
    caller: Caller
    draft: Draft


def id_field(request: Request) -> bytes:
    """Name the header field with the id. Broadcasts and requests about channels have another than notifications."""
    return _id_field(dict(request.headers))


def _id_field(fields: Mapping[bytes, bytes]) -> bytes:
    return b"apns-request-id" if fields.get(b":path", b"").startswith(_OTHERS) else b"apns-id"


def apns_id_of(request: Request) -> str | None:
    """Find the id that the caller chose for the notification; ``None`` if there is no valid one."""
    fields = dict(request.headers)
    given = fields.get(_id_field(fields))
    if given is None:
        return None
    text = given.decode("latin-1").lower()
    return text if _UUID.fullmatch(text) else None


def authorization_of(request: Request) -> bytes:
    """Find the ``authorization`` header field; empty if there is none."""
    return dict(request.headers).get(b"authorization", b"")


def fields_of(request: Request) -> dict[str, str]:
    """Read the header fields, and check those that do not depend on the caller."""
    fields: dict[str, str] = {}
    for name, value in request.headers:
        text = name.decode("latin-1")
        if text in fields and text != "cookie":
            raise ErrorResponse(400, "DuplicateHeaders")
        try:
            fields[text] = value.decode()
        except UnicodeDecodeError:
            if text in _FIELDS:
                raise ErrorResponse(400, _FIELDS[text]) from None
    given = fields.get(id_field(request).decode())
    if given is not None and not _UUID.fullmatch(given):
        raise ErrorResponse(400, "BadMessageId")
    path = fields.setdefault(":path", "")
    if fields[":method"] not in (_CHANNEL_METHODS if path.startswith(CHANNELS) else ("POST",)):
        raise ErrorResponse(405, "MethodNotAllowed")
    if not path.startswith((_DEVICES, BROADCASTS, CHANNELS)):
        raise ErrorResponse(404, "BadPath")
    return fields


def headers_of(fields: Mapping[str, str]) -> dict[str, str]:
    """Find and check the header fields of the notification among those of the request."""
    headers = {name: fields[name] for name in _FIELDS if name in fields}
    for name, value in headers.items():
        if header_fault(name, value) is not None:
            raise ErrorResponse(400, _FIELDS[name])
    return headers


def not_before_of(fields: Mapping[str, str], headers: Mapping[str, str], date: float) -> float | None:
    """
    Find and check the date before which the notification is not sent; ``None`` to send it now.

    :param date: the present date.
    """
    given = fields.get(_NOT_BEFORE)
    if given is None:
        return None
    not_before = float(given) if _SECONDS.fullmatch(given) else math.inf
    if schedule_fault(not_before, headers, date) is not None:
        raise ErrorResponse(400, "BadNotBefore")
    return not_before


def lane_of(fields: Mapping[str, str]) -> Lane | None:
    """Find and check the lane of the notification; ``None`` if the caller does not choose."""
    given = fields.get(_LANE)
    if given is None:
        return None
    if given not in _LANES:
        raise ErrorResponse(400, "BadLane")
    return _LANES[given]


def draft_of(
    request: Request,
    fields: Mapping[str, str],
    headers: Mapping[str, str],
    apns_id: str | None,
    not_before: float | None = None,
    lane: Lane | None = None,
) -> Draft:
    """Read and check the device token and the payload; returns the notification."""
    token = _token(fields[":path"].removeprefix(_DEVICES))
    apns_ids = () if apns_id is None else (apns_id,)
    return Draft(payload_of(request, fields), headers, [token], apns_ids, not_before, lane=lane)


def payload_of(request: Request, fields: Mapping[str, str]) -> bytes:
    """Read the body, which there must be."""
    if not request.body:
        raise ErrorResponse(400, "PayloadEmpty")
    if len(request.body) > MAX_BODY:
        raise ErrorResponse(413, "PayloadTooLarge")
    return _decompressed(request.body, fields.get("content-encoding", ""))


def _token(text: str) -> bytes:
    if not text:
        raise ErrorResponse(400, "MissingDeviceToken")
    try:
        token = unhexlify(text)
    except ValueError:
        token = b""
    if not 0 < len(token) <= MAX_TOKEN:
        raise ErrorResponse(400, "BadDeviceToken")
    return token


def _decompressed(body: bytes, coding: str) -> bytes:
    """Decompress a payload, which Apple's servers might not accept compressed."""
    try:
        decoder = body_decoder([coding.encode()], MAX_BODY)
        return body if decoder is None else decoder.whole(body)
    except UnknownEncoding:
        raise ErrorResponse(415, "UnsupportedMediaType") from None
    except BodyTooLong:
        raise ErrorResponse(413, "PayloadTooLarge") from None
    except MalformedEncoding:
        raise ErrorResponse(400, "PayloadEmpty") from None
