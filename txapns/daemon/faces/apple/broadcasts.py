"""
Broadcasts by the Apple face, read and checked in the order of Apple's table: the channel, the header fields that Apple
requires, whether the caller may send for the app, and the payload.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from txapns.daemon.broadcasts import broadcast_draft
from txapns.daemon.faces.apple.authentication import app_of, is_sandbox
from txapns.daemon.faces.apple.requests import (
    BROADCASTS,
    Head,
    Meant,
    Submission,
    headers_of,
    lane_of,
    not_before_of,
    payload_of,
)
from txapns.daemon.faces.apple.responses import ErrorResponse
from txapns.daemon.faces.callers import Callers
from txapns.daemon.intake import MAX_HEADER
from txapns.daemon.values import CHANNEL, Caller, Environment
from txapns.devices.push import SUFFIXES
from txapns.wire.requests import Request

__all__ = ["app_of_bundle", "broadcast_of", "checked_channel", "side_meant"]

# What Apple requires of a broadcast, with its reason if it is missing.
_REQUIRED = {
    "apns-push-type": "MissingPushType",
    "apns-expiration": "BadExpirationDate",
    "apns-priority": "BadPriority",
}
_CHANNEL = re.compile(f"[!-~]{{1,{MAX_HEADER}}}")
_SUFFIXES = tuple(SUFFIXES.values())


def broadcast_of(
    request: Request,
    head: Head,
    fields: Mapping[str, str],
    caller: Caller,
    callers: Callers,
    date: float,
) -> Submission:
    """
    Read and check a broadcast.

    :param fields: the header fields but those of its own.
    :param caller: who makes the request.
    :param date: the present date.
    :raises ErrorResponse: it is refused.
    """
    channel = checked_channel(fields)
    headers = headers_of(fields)
    headers.pop("apns-collapse-id", None)  # it means nothing here
    for name, reason in _REQUIRED.items():
        if name not in headers:
            raise ErrorResponse(400, reason)
    bundle_id = unquote(head.path.removeprefix(BROADCASTS))
    app = app_of_bundle(callers, bundle_id, fields, caller.send)
    headers["apns-topic"] = bundle_id
    not_before, side = not_before_of(fields, headers, date), side_meant(callers, app, fields)
    draft = broadcast_draft(
        payload_of(request, fields), headers, channel, head.apns_id, not_before, lane_of(fields), side
    )
    meant = Meant(fields, draft.headers, app, caller, not_before, draft.lane, side)
    return Submission(request, meant, b"", draft.payload, head.apns_id, head.id_field)


def checked_channel(fields: Mapping[str, str]) -> str:
    """Find the channel, of which a header field must be able to name it; whether it is base64 is for Apple to say."""
    channel = fields.get(CHANNEL)
    if not channel:
        raise ErrorResponse(400, "MissingChannelId")
    if not _CHANNEL.fullmatch(channel):
        raise ErrorResponse(400, "BadChannelId")
    return channel


def side_meant(callers: Callers, app: str, fields: Mapping[str, str]) -> Environment | None:
    """Tell which side of an app with two is meant, by the host name that the caller connected to."""
    found = callers.get(app)
    if found is None or found.sandbox is None:
        return None
    return Environment.SANDBOX if is_sandbox(fields) else Environment.PRODUCTION


def app_of_bundle(callers: Callers, bundle_id: str, fields: Mapping[str, str], names: frozenset[str] | None) -> str:
    """Find the app with a bundle id, among those that the caller may send for (``None`` for all)."""
    try:
        app = app_of(callers, {**fields, "apns-topic": bundle_id}, names)
    except ErrorResponse:
        raise ErrorResponse(403, "TopicMismatch") from None
    if bundle_id.endswith(_SUFFIXES):
        raise ErrorResponse(400, "TopicDisallowed")
    return app
