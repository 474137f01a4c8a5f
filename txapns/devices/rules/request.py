"""
Rules on the request, for which Apple refuses it.

Apple documents the answers, but not the order of the checks, except that the credentials come before the token. The
order is that of this module: the identifier, the topic, the other header fields, the token, the payload. The first
fault determines the answer.

Broadcasts have some rules of their own, in :mod:`txapns.devices.rules.broadcast`, and share others. Values of header
fields are texts in which one character stands for one octet.
"""

from __future__ import annotations

import re

from txapns.devices.device import TokenKind
from txapns.devices.findings import Grade
from txapns.devices.presentation import ActivityState
from txapns.devices.push import SUFFIXES, TOKEN_LENGTHS, is_identifier, token_bytes
from txapns.devices.rules.refusal import Attempt, Refusal, refusal
from txapns.devices.rules.rule import CREDENTIAL, DEVICE, ENVIRONMENT, TOKEN, Place, shown
from txapns.devices.rules.sources import GENERATING, REGISTERING, RESPONSES, SENDING
from txapns.notification import PushType

__all__ = [
    "MAX_BROADCAST",
    "MAX_PAYLOAD",
    "MAX_VOIP_PAYLOAD",
    "PUSH_TYPES",
    "REFUSALS",
]

#: The longest payload, and those of a VoIP notification and a broadcast, in bytes.
MAX_PAYLOAD, MAX_VOIP_PAYLOAD, MAX_BROADCAST = 4_096, 5_120, 5_120
#: The longest collapse ID, in bytes.
MAX_COLLAPSE_ID = 64
#: All push types.
PUSH_TYPES = frozenset(each.value for each in PushType)
PRIORITIES = frozenset({"1", "5", "10"})
#: What a topic is made of.
TOPIC = re.compile(r"[A-Za-z0-9._-]+")
#: The kinds of tokens for each push type.
TOKEN_KINDS = {
    "alert": {TokenKind.APP, TokenKind.WALLET},
    "background": {TokenKind.APP},
    "mdm": {TokenKind.MDM},
    **{push_type: {TokenKind(push_type)} for push_type in SUFFIXES},
    "liveactivity": {TokenKind.LIVE_ACTIVITY, TokenKind.PUSH_TO_START},
}
#: What tokens are for, where it is not the kind's own name.
_TYPES = {TokenKind.PUSH_TO_START: "liveactivity", TokenKind.WALLET: "alert, for passes,"}


@refusal("APNS_ID", 400, "BadMessageId", "The apns-id must be a UUID of the form 8-4-4-4-12, not {value}.", SENDING)
def _identifier(attempt: Attempt) -> Place | None:
    name = "apns-request-id" if attempt.push.channel else "apns-id"
    given = attempt.headers.get(name)
    return None if given is None or is_identifier(given) else Place(name, shown(given))


@refusal(
    "TOPIC_MISSING",
    400,
    "MissingTopic",
    "A request must name its topic, unless its certificate is for that alone.",
    SENDING,
    needs=CREDENTIAL,
)
def _topic_missing(attempt: Attempt) -> Place | None:
    if "apns-topic" in attempt.headers:
        return None
    credential = attempt.credential
    return Place("apns-topic") if credential.listed or not credential.is_certificate else None


@refusal(
    "TOPIC_FORM",
    400,
    "BadTopic",
    "A topic is a bundle ID, of letters, digits, hyphens and dots; {value} is none.",
    RESPONSES,
)
def _topic_form(attempt: Attempt) -> Place | None:
    topic = attempt.headers.get("apns-topic")
    return None if topic is None or TOPIC.fullmatch(topic) else Place("apns-topic", shown(topic))


@refusal(
    "TOPIC_NOT_LISTED",
    400,
    "BadTopic",
    "The certificate lists its topics, and this is not among them.",
    RESPONSES,
    needs=CREDENTIAL,
)
def _topic_not_listed(attempt: Attempt) -> Place | None:
    if not attempt.credential.listed:
        return None
    topic = attempt.headers.get("apns-topic")
    return None if topic is None or attempt.credential.serves(topic) else Place("apns-topic")


@refusal(
    "TOPIC_NOT_SERVED", 400, "TopicDisallowed", "The credential is not for this topic.", RESPONSES, needs=CREDENTIAL
)
def _topic_not_served(attempt: Attempt) -> Place | None:
    topic = attempt.headers.get("apns-topic")
    served = topic is None or attempt.credential.listed or attempt.credential.serves(topic)
    return None if served else Place("apns-topic")


@refusal(
    "LA_CERTIFICATE",
    400,
    "TopicDisallowed",
    "Live Activities need a provider token; certificates are not for their topics.",
    "Apple Developer Forums 712499, Live-Activities-Demo-NBA-Score#1",
    Grade.REPORTED,
    types=("liveactivity",),
    needs=CREDENTIAL,
)
def _activity_certificate(attempt: Attempt) -> Place | None:
    return Place("") if attempt.push_type == "liveactivity" and attempt.credential.is_certificate else None


@refusal(
    "LOCATION_CERTIFICATE",
    400,
    "TopicDisallowed",
    "Location pushes need a provider token.",
    SENDING,
    types=("location",),
    needs=CREDENTIAL,
)
def _location_certificate(attempt: Attempt) -> Place | None:
    # Apple documents no reason; this is the one for Live Activities.
    return Place("") if attempt.push_type == "location" and attempt.credential.is_certificate else None


@refusal("TYPE_UNKNOWN", 400, "InvalidPushType", "Apple knows no push type {value}.", SENDING)
def _type_unknown(attempt: Attempt) -> Place | None:
    given = attempt.push_type
    return None if given is None or given in PUSH_TYPES else Place("apns-push-type", shown(given))


@refusal("TOPIC_TYPE", 400, "BadTopic", "The topic of this push type is the bundle ID followed by {value}.", SENDING)
def _topic_type(attempt: Attempt) -> Place | None:
    suffix = SUFFIXES.get(attempt.push_type or "")
    if suffix is None:
        return None
    topic = attempt.headers.get("apns-topic", attempt.credential.topic)
    return None if topic is None or topic.endswith(suffix) else Place("apns-topic", suffix)


@refusal("PRIORITY", 400, "BadPriority", "A priority is 10, 5 or 1, not {value}.", SENDING)
def _priority(attempt: Attempt) -> Place | None:
    given = attempt.headers.get("apns-priority")
    return None if given is None or given in PRIORITIES else Place("apns-priority", shown(given))


@refusal(
    "BACKGROUND_PRIORITY",
    400,
    "BadPriority",
    "A background push must have priority 5; without apns-priority, Apple assumes 10.",
    SENDING,
    types=("background",),
)
def _background_priority(attempt: Attempt) -> Place | None:
    return Place("apns-priority") if attempt.push_type == "background" and attempt.push.priority == "10" else None


@refusal(
    "EXPIRATION", 400, "BadExpirationDate", "An expiration is a whole number of UNIX seconds, not {value}.", SENDING
)
def _expiration(attempt: Attempt) -> Place | None:
    given = attempt.headers.get("apns-expiration")
    return None if given is None or (given.isdigit() and given.isascii()) else Place("apns-expiration", shown(given))


@refusal("COLLAPSE_ID", 400, "BadCollapseId", "A collapse ID has at most 64 bytes, not {value}.", SENDING)
def _collapse_id(attempt: Attempt) -> Place | None:
    given = attempt.headers.get("apns-collapse-id", "")
    return Place("apns-collapse-id", str(len(given))) if len(given) > MAX_COLLAPSE_ID else None


@refusal(
    "TOKEN_MISSING",
    400,
    "MissingDeviceToken",
    "The request does not say for which device it is.",
    RESPONSES,
    needs=TOKEN,
)
def _token_missing(attempt: Attempt) -> Place | None:
    return None if attempt.push.token else Place("")


@refusal(
    "TOKEN_FORM",
    400,
    "BadDeviceToken",
    "A device token is written in hexadecimal digits, and has at least 32 bytes.",
    RESPONSES,
)
def _token_form(attempt: Attempt) -> Place | None:
    text = attempt.push.token
    token = token_bytes(text)
    return None if not text or (token is not None and len(token) in TOKEN_LENGTHS) else Place("")


@refusal(
    "ENVIRONMENT",
    400,
    "BadDeviceToken",
    "The token is for the {value} environment, and the push is sent to the other.",
    f"{REGISTERING}; rpush/rpush#646, phonegap/phonegap-plugin-push#2352",
    needs=(*DEVICE, *ENVIRONMENT),
)
def _environment(attempt: Attempt) -> Place | None:
    valid, given = attempt.device.environment, attempt.environment
    return None if valid is None or given is None or valid == given else Place("", valid)


@refusal(
    "REMOVED",
    410,
    "Unregistered",
    "The token is dead: the app was removed from the device.",
    RESPONSES,
    needs=DEVICE,
)
def _removed(attempt: Attempt) -> Place | None:
    since = attempt.device.removed_since
    return None if since is None else Place("", since=since)


@refusal(
    "LA_GONE",
    410,
    "Unregistered",
    "The token is dead: its Live Activity has left the lock screen.",
    "loopandlearn/LoopFollow#657",
    Grade.REPORTED,
    needs=DEVICE,
)
def _activity_gone(attempt: Attempt) -> Place | None:
    token = attempt.push.token
    for activity in attempt.device.activities:
        if token and activity.token == token and activity.state is ActivityState.DISMISSED:
            return Place("", since=activity.dismissed_at)
    return None


@refusal(
    "TOKEN_TOPIC",
    400,
    "DeviceTokenNotForTopic",
    "The token is of another app: its topic is {value}.",
    RESPONSES,
    needs=DEVICE,
)
def _token_topic(attempt: Attempt) -> Place | None:
    app, push_type = attempt.device.topic, attempt.push_type
    if not app:
        return None
    suffixes = (SUFFIXES.get(push_type, ""),) if push_type else ("", *SUFFIXES.values())
    topic = attempt.push.topic
    return None if not topic or topic in [app + suffix for suffix in suffixes] else Place("apns-topic", app)


@refusal(
    "TOKEN_KIND",
    400,
    "DeviceTokenNotForTopic",
    "The token is of another kind: it is for pushes of the type {value}.",
    "Pr0Ger/PyAPNs2#134",
    Grade.REPORTED,
    needs=DEVICE,
)
def _token_kind(attempt: Attempt) -> Place | None:
    kind = attempt.device.token_kind
    if kind is None or kind in TOKEN_KINDS.get(attempt.push_type or "", {kind}):
        return None
    return Place("apns-push-type", _TYPES.get(kind, kind.value))


@refusal("PAYLOAD_EMPTY", 400, "PayloadEmpty", "A push must have a payload.", RESPONSES)
def _payload_empty(attempt: Attempt) -> Place | None:
    return None if attempt.push.payload else Place("")


@refusal("PAYLOAD_TOO_LARGE", 413, "PayloadTooLarge", "The payload is too long: it has {value} bytes.", GENERATING)
def _payload_too_large(attempt: Attempt) -> Place | None:
    length = len(attempt.push.payload)
    if length <= MAX_PAYLOAD:
        return None
    limit = MAX_BROADCAST if attempt.push.channel else MAX_VOIP_PAYLOAD if attempt.push_type == "voip" else MAX_PAYLOAD
    return Place("", f"{length:,} of {limit:,}") if length > limit else None


@refusal(
    "PAYLOAD_NOT_JSON",
    400,
    "PayloadEmpty",
    "A payload must be a JSON object in UTF-8; Apple does not say what it answers to anything else.",
    GENERATING,
    Grade.UNKNOWN,
)
def _payload_not_json(attempt: Attempt) -> Place | None:
    # The reason is a guess.
    return Place("") if attempt.push.payload and attempt.push.content is None else None


#: What is checked of a push to a device, in order.
REFUSALS: tuple[Refusal, ...] = tuple(each for each in tuple(vars().values()) if isinstance(each, Refusal))
