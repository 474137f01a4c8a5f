"""
What Apple's servers answer to a broadcast.

The order is that of the table in Apple's documentation: the channel, the other header fields, the credentials, whether
the channel exists, the payload. What can be said of a broadcast without its channel is in
:mod:`txapns.devices.rules.broadcast`.
"""

from __future__ import annotations

from txapns.devices.credential import Credential
from txapns.devices.device import Device
from txapns.devices.push import SUFFIXES, Push
from txapns.devices.rules.broadcast import OF_CHANNEL, OF_FIELDS, OF_PAYLOAD, OF_PRIORITY
from txapns.devices.rules.refusal import ACCEPTED, Answer, Attempt, first_answer

__all__ = ["answer_broadcast", "check_app", "check_channel"]

_ANY_DEVICE = Device()


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
    attempt = Attempt(push, _ANY_DEVICE, credential)
    stored = policy == 0 and push.headers.get("apns-expiration", "").strip("0")
    return (
        check_channel(push.channel)
        or first_answer(OF_FIELDS, attempt)
        or (Answer(400, "BadExpirationDate") if stored else None)  # the channel stores nothing
        or first_answer(OF_PRIORITY, attempt)
        or check_app(app, credential)
        or (None if enabled else Answer(400, "FeatureNotEnabled"))
        or (Answer(400, "ChannelNotRegistered") if policy is None else None)
        or first_answer(OF_PAYLOAD, attempt)
        or ACCEPTED
    )


def check_channel(channel: str) -> Answer | None:
    """Check the identifier of a channel; returns an answer if it is missing or malformed."""
    if not channel:
        return Answer(400, "MissingChannelId")
    return first_answer(OF_CHANNEL, Attempt(Push({}, b"", channel=channel), _ANY_DEVICE))


def check_app(app: str, credential: Credential) -> Answer | None:
    """
    Check whether a credential is for an app, and whether it is an app and not another topic; returns an answer if
    there is a fault.
    """
    suffix = next((each for each in SUFFIXES.values() if app.endswith(each)), "")
    if not credential.serves(app.removesuffix(suffix)):
        return Answer(403, "TopicMismatch")
    return Answer(400, "TopicDisallowed") if suffix else None
