"""
What Apple's servers answer to a push.

Apple documents the answers, but not the order of the checks, except that the credentials come before the token. The
order here is: the identifier, the topic, the other header fields, the token, the payload. The first fault determines
the answer. What needs a connection is checked elsewhere: whether the request is one, and whether its provider is who it
claims to be.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from collections.abc import Callable, Iterator

import attrs

from txapns.devices.device import Device, TokenKind
from txapns.devices.presentation import ActivityState
from txapns.devices.push import SUFFIXES, Push

__all__ = [
    "ACCEPTED",
    "MAX_PAYLOAD",
    "MAX_VOIP_PAYLOAD",
    "PRIORITIES",
    "PUSH_TYPES",
    "TOKEN_KINDS",
    "Answer",
    "Credential",
    "answer",
    "is_identifier",
    "refusals",
    "token_bytes",
]

#: The longest payload, and that of a VoIP notification, in bytes.
MAX_PAYLOAD, MAX_VOIP_PAYLOAD = 4_096, 5_120
#: The longest collapse ID, in bytes.
MAX_COLLAPSE_ID = 64
#: Bytes in a device token. It has always been 32; longer ones have been announced and seen.
TOKEN_LENGTHS = range(32, 101)
PUSH_TYPES = frozenset({"alert", "background", "mdm", *SUFFIXES})
PRIORITIES = frozenset({"1", "5", "10"})
#: What a topic is made of.
TOPIC = re.compile(r"[A-Za-z0-9._-]+")
_IDENTIFIER = re.compile("[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}")
#: The kinds of tokens for each push type.
TOKEN_KINDS = {
    "alert": {TokenKind.APP, TokenKind.WALLET},
    "background": {TokenKind.APP},
    "mdm": {TokenKind.MDM},
    **{push_type: {TokenKind(push_type)} for push_type in SUFFIXES},
    "liveactivity": {TokenKind.LIVE_ACTIVITY, TokenKind.PUSH_TO_START},
}


@attrs.frozen
class Credential:
    """
    What the answer depends on of a credential that is valid.

    :ivar topics: what it is for. A certificate is for these topics and no others, a provider token also for those that
        continue one of them after a dot.
    :ivar is_certificate: whether it is a certificate.
    :ivar listed: whether a certificate lists its topics, so that each request must name one.
    """

    topics: tuple[str, ...]
    is_certificate: bool = False
    listed: bool = False

    def serves(self, topic: str) -> bool:
        """Whether it is for a topic."""
        if self.is_certificate:
            return topic in self.topics
        return topic in self.topics or any(topic.startswith(f"{each}.") for each in self.topics)


@attrs.frozen
class Answer:
    """
    An answer.

    :ivar status: the HTTP status.
    :ivar reason: Apple's reason; empty with success.
    :ivar timestamp: with 410, since when the token is dead, in UNIX seconds.
    """

    status: int
    reason: str = ""
    timestamp: float | None = None

    @property
    def is_success(self) -> bool:
        """Whether the push is accepted."""
        return self.status == 200


#: The answer to a push without faults.
ACCEPTED = Answer(200)

_Check = Callable[[Push, Device, "Credential | None", "str | None"], "Answer | None"]


def answer(push: Push, device: Device, credential: Credential | None = None, environment: str | None = None) -> Answer:
    """
    Find Apple's answer to a push to a device.

    :param push: the push.
    :param device: the device that its token leads to; one that is like any other if the token is not known.
    :param credential: the credential; ``None`` for one that is for every topic.
    :param environment: where it was sent, ``"production"`` or ``"sandbox"``; ``None`` for where the token is valid.
    :returns: the answer.
    """
    for check in _CHECKS:  # as refusals does, which takes longer to start; the simulator answers every push
        refusal = check(push, device, credential, environment)
        if refusal is not None:
            return refusal
    return ACCEPTED


def refusals(
    push: Push, device: Device, credential: Credential | None = None, environment: str | None = None
) -> Iterator[Answer]:
    """
    Find all answers that a push could get if the other faults were corrected, the first one first.

    :param push: as for :func:`answer`.
    :param device: likewise.
    :param credential: likewise.
    :param environment: likewise.
    :returns: an iterator; empty if the push is accepted.
    """
    for check in _CHECKS:
        refusal = check(push, device, credential, environment)
        if refusal is not None:
            yield refusal


def is_identifier(text: str) -> bool:
    """Whether a text is a UUID in its usual form, in either case."""
    return _IDENTIFIER.fullmatch(text) is not None


def token_bytes(text: str) -> bytes | None:
    """Parse the hexadecimal text of a device token; returns ``None`` if it is malformed."""
    try:
        return unhexlify(text)
    except ValueError:
        return None


# The checks.


def _identifier(push: Push, device: Device, credential: Credential | None, environment: str | None) -> Answer | None:
    identifier = push.headers.get("apns-id")
    return None if identifier is None or is_identifier(identifier) else Answer(400, "BadMessageId")


def _allowed(push: Push, device: Device, credential: Credential | None, environment: str | None) -> Answer | None:
    topic = push.headers.get("apns-topic")
    listed = credential is not None and credential.listed
    if topic is None:
        optional = credential is not None and credential.is_certificate and not listed
        return None if optional else Answer(400, "MissingTopic")
    if not TOPIC.fullmatch(topic):
        return Answer(400, "BadTopic")
    if credential is None or credential.serves(topic):
        return None
    return Answer(400, "BadTopic" if listed else "TopicDisallowed")


def _push_type(push: Push, device: Device, credential: Credential | None, environment: str | None) -> Answer | None:
    push_type = push.headers.get("apns-push-type")
    if push_type is None:
        return None
    if push_type not in PUSH_TYPES:
        return Answer(400, "InvalidPushType")
    suffix = SUFFIXES.get(push_type)
    if suffix is None:
        return None
    topic = push.headers.get("apns-topic")
    topics = (topic,) if topic is not None else credential.topics if credential is not None else ()
    return Answer(400, "BadTopic") if topics and not topics[0].endswith(suffix) else None


def _priority(push: Push, device: Device, credential: Credential | None, environment: str | None) -> Answer | None:
    priority = push.priority
    wrong = priority not in PRIORITIES or (priority == "10" and push.push_type == "background")
    return Answer(400, "BadPriority") if wrong else None


def _expiration(push: Push, device: Device, credential: Credential | None, environment: str | None) -> Answer | None:
    expiration = push.headers.get("apns-expiration", "0")
    return None if expiration.isascii() and expiration.isdigit() else Answer(400, "BadExpirationDate")


def _collapse_id(push: Push, device: Device, credential: Credential | None, environment: str | None) -> Answer | None:
    # Header fields are octets, each of which is one character here.
    collapse_id = push.headers.get("apns-collapse-id", "")
    return Answer(400, "BadCollapseId") if len(collapse_id) > MAX_COLLAPSE_ID else None


def _token(push: Push, device: Device, credential: Credential | None, environment: str | None) -> Answer | None:
    if not push.token:
        return Answer(400, "MissingDeviceToken")
    token = token_bytes(push.token)
    if token is None or len(token) not in TOKEN_LENGTHS:
        return Answer(400, "BadDeviceToken")
    if device.environment is not None and environment is not None and device.environment != environment:
        return Answer(400, "BadDeviceToken")
    return None


def _dead(push: Push, device: Device, credential: Credential | None, environment: str | None) -> Answer | None:
    if device.removed_since is not None:
        return Answer(410, "Unregistered", device.removed_since)
    for activity in device.activities:  # several report that its token is dead once it is gone
        if activity.token == push.token and activity.state is ActivityState.DISMISSED:
            return Answer(410, "Unregistered", activity.dismissed_at)
    return None


def _owner(push: Push, device: Device, credential: Credential | None, environment: str | None) -> Answer | None:
    topic, push_type = push.topic, push.push_type
    if topic and device.topic:
        suffixes = (SUFFIXES.get(push_type, ""),) if push_type else ("", *SUFFIXES.values())
        if topic not in [device.topic + suffix for suffix in suffixes]:
            return Answer(400, "DeviceTokenNotForTopic")
    kinds = TOKEN_KINDS.get(push_type, {device.token_kind})
    wrong = device.token_kind is not None and device.token_kind not in kinds
    return Answer(400, "DeviceTokenNotForTopic") if wrong else None


def _payload(push: Push, device: Device, credential: Credential | None, environment: str | None) -> Answer | None:
    if not push.payload:
        return Answer(400, "PayloadEmpty")
    if len(push.payload) > (MAX_VOIP_PAYLOAD if push.push_type == "voip" else MAX_PAYLOAD):
        return Answer(413, "PayloadTooLarge")
    # Apple does not document the reason for other texts.
    return Answer(400, "PayloadEmpty") if push.content is None else None


#: The checks in their order.
_CHECKS: tuple[_Check, ...] = (
    _identifier,
    _allowed,
    _push_type,
    _priority,
    _expiration,
    _collapse_id,
    _token,
    _dead,
    _owner,
    _payload,
)
