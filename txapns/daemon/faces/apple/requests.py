"""
Requests of the Apple face, read and checked in Apple's order. What is wrong is raised as an :class:`ErrorResponse`.
"""

from __future__ import annotations

import math
import re
from binascii import unhexlify
from collections.abc import Mapping, Sequence
from itertools import groupby

import attrs
import msgspec

from txapns._serving.coding import BodyTooLong, MalformedEncoding, UnknownEncoding, body_decoder
from txapns.daemon.faces.apple.responses import ErrorResponse
from txapns.daemon.intake import MAX_TOKEN, header_fault, schedule_fault
from txapns.daemon.values import Caller, Draft, Environment, Lane
from txapns.wire.requests import Headers, Request

__all__ = [
    "BROADCASTS",
    "CHANNELS",
    "MAX_BODY",
    "Head",
    "Meant",
    "Pattern",
    "Submission",
    "authorization_of",
    "drafts_of",
    "fields_of",
    "headers_of",
    "lane_of",
    "not_before_of",
    "payload_of",
    "submission_of",
]

#: The longest body that is read. Apple rejects what is longer than its own 4,096 bytes and not longer than this.
MAX_BODY = 16_384

_DEVICES = "/3/device/"
_DEVICES_OCTETS = _DEVICES.encode()
#: The beginnings of the paths of broadcasts, and of requests about channels.
BROADCASTS, CHANNELS = "/4/broadcasts/apps/", "/1/apps/"
_OTHERS = (BROADCASTS.encode(), CHANNELS.encode())
# The header fields that differ from one request to the next.
_OWN = frozenset({b":path", b"content-length", b"apns-id", b"apns-request-id"})
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


class Head:
    """
    The header fields of a request. But for a few of its own, it mostly shares them with all requests on its connection.

    :ivar shared: those that are not its own.
    :ivar path: its path; empty if it is not ASCII.
    :ivar device: the device token in it; ``None`` if it is for something else.
    :ivar id_field: the field with its id. Broadcasts and requests about channels have another than notifications.
    :ivar apns_id: the id that the caller chose; ``None`` if there is no valid one.
    """

    __slots__ = ("_given", "_repeated", "apns_id", "device", "id_field", "path", "shared")

    def __init__(self, headers: Headers) -> None:
        self.shared = tuple([field for field in headers if field[0] not in _OWN])
        given = [field for field in headers if field[0] in _OWN]
        own = dict(given)
        path = own.get(b":path", b"")
        self.path = path.decode() if path.isascii() else ""
        self.device = self.path[len(_DEVICES) :] if self.path.startswith(_DEVICES) else None
        self.id_field = b"apns-request-id" if path.startswith(_OTHERS) else b"apns-id"
        self._given = own.get(self.id_field)
        self.apns_id = None if self._given is None else _uuid(self._given)
        self._repeated = len(own) < len(given)

    def check(self, method: str) -> None:
        """Check what does not depend on the caller, in Apple's order."""
        if self._repeated:
            raise ErrorResponse(400, "DuplicateHeaders")
        if self._given is not None and self.apns_id is None:
            raise ErrorResponse(400, "BadMessageId")
        if method not in (_CHANNEL_METHODS if self.path.startswith(CHANNELS) else ("POST",)):
            raise ErrorResponse(405, "MethodNotAllowed")
        if self.device is None and not self.path.startswith((BROADCASTS, CHANNELS)):
            raise ErrorResponse(404, "BadPath")


def _uuid(given: bytes) -> str | None:
    text = given.decode("latin-1").lower()
    return text if _UUID.fullmatch(text) else None


@attrs.frozen(eq=False)
class Meant:
    """
    What requests mean that share their header fields.

    :ivar fields: these header fields.
    :ivar headers: those of the notifications.
    :ivar environment: the side that a broadcast is for.
    """

    fields: Mapping[str, str] = attrs.field(repr=False)  # a credential is among them
    headers: Mapping[str, str]
    app: str
    caller: Caller
    not_before: float | None
    lane: Lane | None
    environment: Environment | None = None


class Submission(msgspec.Struct, frozen=True, eq=False, gc=False):
    """
    A request that can be accepted.

    :ivar token: the device token; empty for a broadcast.
    :ivar apns_id: the id that the caller chose for the notification; ``None`` if the daemon chooses one.
    """

    request: Request
    meant: Meant
    token: bytes
    payload: bytes
    apns_id: str | None
    id_field: bytes = b"apns-id"

    def __repr__(self) -> str:
        return f"Submission({self.request}, app={self.meant.app!r})"


class Pattern:
    """
    The header fields of a request, to compare the next one with. Nearly all clients send the same fields in the same
    order, so requests mostly differ only in the few fields that are each one's own.

    :param meant: what the request means, and all others that are like it.
    """

    def __init__(self, headers: Headers, meant: Meant) -> None:
        self._headers = list(headers)
        self._own = [(at, field) for at, field in enumerate(headers) if field[0] in _OWN]
        names = [name for name, _ in headers]
        self._path = names.index(b":path")
        self._id = names.index(b"apns-id") if b"apns-id" in names else None
        self._meant = meant

    def submission(self, request: Request) -> Submission | None:
        """
        Read and check a request for a device.

        :returns: ``None`` if it is not like the other, or something is wrong with its header fields.
        """
        headers = request.headers
        if not self._is_like(headers):
            return None
        path = headers[self._path][1]
        token = _unhexlified(path[len(_DEVICES) :]) if path.startswith(_DEVICES_OCTETS) else b""
        apns_id = None if self._id is None else _uuid(headers[self._id][1])
        if not token or (apns_id is None and self._id is not None):
            return None
        return Submission(request, self._meant, token, payload_of(request, self._meant.fields), apns_id)

    def _is_like(self, headers: Headers) -> bool:
        if len(headers) != len(self._headers):
            return False
        shared = list(headers)
        for at, field in self._own:
            if shared[at][0] != field[0]:
                return False
            shared[at] = field
        return shared == self._headers


def authorization_of(headers: Headers) -> bytes:
    """Find the ``authorization`` header field; empty if there is none."""
    for name, value in headers:
        if name == b"authorization":
            return value
    return b""


def fields_of(headers: Headers) -> dict[str, str]:
    """Read header fields, and check that none is repeated."""
    fields: dict[str, str] = {}
    for name, value in headers:
        text = name.decode("latin-1")
        if text in fields and text != "cookie":
            raise ErrorResponse(400, "DuplicateHeaders")
        try:
            fields[text] = value.decode()
        except UnicodeDecodeError:
            if text in _FIELDS:
                raise ErrorResponse(400, _FIELDS[text]) from None
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


def submission_of(request: Request, head: Head, meant: Meant) -> Submission:
    """Read and check the device token and the payload of a request for a device."""
    token = _token(head.device or "")
    return Submission(request, meant, token, payload_of(request, meant.fields), head.apns_id)


def drafts_of(submissions: Sequence[Submission]) -> list[Draft]:
    """
    Make the notifications that some requests ask for, in order. Consecutive requests that differ only in the device and
    the id become one notification for several devices, which costs less to store and to send.
    """
    drafts = []
    for (meant, payload, chosen), group in groupby(submissions, _shared):
        like = list(group)
        tokens = [each.token for each in like]
        apns_ids = [each.apns_id for each in like if each.apns_id is not None] if chosen else ()
        place = meant.not_before, None, meant.lane, meant.environment
        drafts.append(Draft(payload, meant.headers, tokens, apns_ids, *place))
    return drafts


def _shared(submission: Submission) -> tuple[Meant, bytes, bool]:
    return submission.meant, submission.payload, submission.apns_id is not None


def payload_of(request: Request, fields: Mapping[str, str]) -> bytes:
    """Read the body, which there must be."""
    if not request.body:
        raise ErrorResponse(400, "PayloadEmpty")
    if len(request.body) > MAX_BODY:
        raise ErrorResponse(413, "PayloadTooLarge")
    coding = fields.get("content-encoding")
    return request.body if coding is None else _decompressed(request.body, coding)


def _token(text: str) -> bytes:
    if not text:
        raise ErrorResponse(400, "MissingDeviceToken")
    token = _unhexlified(text)
    if not token:
        raise ErrorResponse(400, "BadDeviceToken")
    return token


def _unhexlified(text: str | bytes) -> bytes:
    """Read a device token; empty if it is none."""
    try:
        token = unhexlify(text)
    except ValueError:
        return b""
    return token if len(token) <= MAX_TOKEN else b""


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
