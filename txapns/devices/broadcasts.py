"""
What Apple's servers answer to a broadcast.

The order is that of the table in Apple's documentation: the channel, the other header fields, the credentials, whether
the channel exists, the payload.
"""

from __future__ import annotations

import re

from txapns.devices.answers import ACCEPTED, MAX_VOIP_PAYLOAD, PRIORITIES, Answer, Credential
from txapns.devices.push import SUFFIXES, Push

__all__ = ["MAX_BROADCAST", "MAX_CHANNEL", "PUSH_TYPE", "answer_broadcast", "check_app", "check_channel"]

#: The longest payload of a broadcast, in bytes.
MAX_BROADCAST = MAX_VOIP_PAYLOAD
#: How long the identifier of a channel may be; Apple says only that it can be too long.
MAX_CHANNEL = 128
#: The push type of all broadcasts.
PUSH_TYPE = "LiveActivity"
# Python's own decoder has become stricter from version to version.
_BASE64 = re.compile("(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def answer_broadcast(
    push: Push, app: str, credential: Credential, *, policy: int | None, enabled: bool = True
) -> Answer:
    """
    Find Apple's answer to a broadcast.

    :param push: the push.
    :param app: the app in the path of the request.
    :param credential: the credential.
    :param policy: the storage policy of the channel, 0 or 1; ``None`` if there is no such channel.
    :param enabled: whether the app may send broadcasts.
    :returns: the answer.
    """
    return (
        check_channel(push.channel)
        or _check_fields(push, policy)
        or check_app(app, credential)
        or (None if enabled else Answer(400, "FeatureNotEnabled"))
        or (Answer(400, "ChannelNotRegistered") if policy is None else None)
        or _check_payload(push)
        or ACCEPTED
    )


def check_channel(channel: str) -> Answer | None:
    """Check the identifier of a channel; returns an answer if it is missing or malformed."""
    if not channel:
        return Answer(400, "MissingChannelId")
    known = len(channel) <= MAX_CHANNEL and _BASE64.fullmatch(channel)
    return None if known else Answer(400, "BadChannelId")


def check_app(app: str, credential: Credential) -> Answer | None:
    """
    Check whether a credential is for an app, and whether it is an app and not another topic; returns an answer if
    there is a fault.
    """
    suffix = next((each for each in SUFFIXES.values() if app.endswith(each)), "")
    if not credential.serves(app.removesuffix(suffix)):
        return Answer(403, "TopicMismatch")
    return Answer(400, "TopicDisallowed") if suffix else None


def _check_fields(push: Push, policy: int | None) -> Answer | None:
    push_type = push.headers.get("apns-push-type")
    if push_type is None:
        return Answer(400, "MissingPushType")
    if push_type.lower() != PUSH_TYPE.lower():  # Apple's own examples spell it both ways
        return Answer(400, "InvalidPushType")
    expiration = push.headers.get("apns-expiration", "")
    if not (expiration.isascii() and expiration.isdigit()) or (policy == 0 and expiration.strip("0")):
        return Answer(400, "BadExpirationDate")
    return None if push.headers.get("apns-priority") in PRIORITIES else Answer(400, "BadPriority")


def _check_payload(push: Push) -> Answer | None:
    if not push.payload:
        return Answer(400, "PayloadEmpty")
    if len(push.payload) > MAX_BROADCAST:
        return Answer(413, "PayloadTooLarge")
    return Answer(400, "PayloadEmpty") if push.content is None else None
