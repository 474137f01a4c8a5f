"""Rules on broadcasts, for which Apple refuses them."""

from __future__ import annotations

import re

from txapns.devices.rules.refusal import Attempt, Refusal, refusal
from txapns.devices.rules.request import REFUSALS
from txapns.devices.rules.rule import Place, shown
from txapns.devices.rules.sources import BROADCAST

__all__ = ["MAX_CHANNEL", "OF_CHANNEL", "OF_FIELDS", "OF_PAYLOAD", "OF_PRIORITY", "PUSH_TYPE"]

#: How long the identifier of a channel may be; Apple says only that it can be too long.
MAX_CHANNEL = 128
#: The push type of all broadcasts.
PUSH_TYPE = "LiveActivity"
# Python's own decoder has become stricter from version to version.
_BASE64 = re.compile("(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


@refusal("CHANNEL_FORM", 400, "BadChannelId", "The identifier of a channel is base64.", BROADCAST)
def _channel_form(attempt: Attempt) -> Place | None:
    channel = attempt.push.channel
    return None if len(channel) <= MAX_CHANNEL and _BASE64.fullmatch(channel) else Place("apns-channel-id")


@refusal("BROADCAST_TYPE", 400, "MissingPushType", "A broadcast must have the push type liveactivity.", BROADCAST)
def _type_missing(attempt: Attempt) -> Place | None:
    return Place("apns-push-type") if attempt.push_type is None else None


@refusal(
    "BROADCAST_OTHER_TYPE",
    400,
    "InvalidPushType",
    "No broadcast has the push type {value}: all are liveactivity.",
    BROADCAST,
)
def _other_type(attempt: Attempt) -> Place | None:
    given = attempt.push_type
    known = given is None or given.lower() == PUSH_TYPE.lower()  # Apple's own examples spell it both ways
    return None if known else Place("apns-push-type", shown(given))


@refusal("BROADCAST_EXPIRATION", 400, "BadExpirationDate", "A broadcast must have an expiration, if only 0.", BROADCAST)
def _expiration_missing(attempt: Attempt) -> Place | None:
    return None if "apns-expiration" in attempt.headers else Place("apns-expiration")


@refusal("BROADCAST_PRIORITY", 400, "BadPriority", "A broadcast must have a priority.", BROADCAST)
def _priority_missing(attempt: Attempt) -> Place | None:
    return None if "apns-priority" in attempt.headers else Place("apns-priority")


_SHARED = {each.code: each for each in REFUSALS}
#: What is checked of the identifier of a channel.
OF_CHANNEL: tuple[Refusal, ...] = (_channel_form,)
#: What is checked of a broadcast, in order: of its first header fields, ...
OF_FIELDS: tuple[Refusal, ...] = (
    _SHARED["APNS_ID"],
    _channel_form,
    _type_missing,
    _other_type,
    _expiration_missing,
    _SHARED["EXPIRATION"],
)
#: ... of its priority, ...
OF_PRIORITY: tuple[Refusal, ...] = (_priority_missing, _SHARED["PRIORITY"])
#: ... and of its payload.
OF_PAYLOAD: tuple[Refusal, ...] = tuple(_SHARED[f"PAYLOAD_{each}"] for each in ("EMPTY", "TOO_LARGE", "NOT_JSON"))
