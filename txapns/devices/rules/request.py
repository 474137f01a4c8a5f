"""Rules on the request: its header fields, its token, and the size and form of its payload."""

from __future__ import annotations

from txapns.devices.answers import (
    MAX_COLLAPSE_ID,
    MAX_PAYLOAD,
    MAX_VOIP_PAYLOAD,
    PRIORITIES,
    PUSH_TYPES,
    TOKEN_LENGTHS,
    TOPIC,
    Credential,
    is_identifier,
    token_bytes,
)
from txapns.devices.broadcasts import MAX_BROADCAST, PUSH_TYPE, check_channel
from txapns.devices.findings import Grade, Severity
from txapns.devices.push import SUFFIXES, Push
from txapns.devices.rules.rule import CREDENTIAL, NOW, Place, Places, kind_of, rule, shown, suffix_of
from txapns.devices.rules.sources import BROADCAST, GENERATING, RESPONSES, SENDING

__all__: list[str] = []

#: Keys of ``aps``, which some put into the header fields.
_KEYS = (
    "alert",
    "badge",
    "sound",
    "category",
    "thread-id",
    "content-available",
    "mutable-content",
    "interruption-level",
)
#: Dates before and after these are in some other unit, or are no dates, in UNIX seconds.
_EARLIEST, _LATEST = 1_000_000_000, 100_000_000_000


@rule("APNS_ID", Severity.ERROR, "The apns-id must be a UUID of the form 8-4-4-4-12, not {value}.", SENDING)
def _apns_id(push: Push) -> Places:
    name = "apns-request-id" if push.channel else "apns-id"
    given = push.headers.get(name)
    if given is not None and not is_identifier(given):
        yield Place(name, shown(given))


@rule("TOPIC_MISSING", Severity.ERROR, "A request with a provider token must name its topic.", SENDING)
def _topic_missing(push: Push) -> Places:
    if "authorization" in push.headers and "apns-topic" not in push.headers and not push.channel:
        yield Place("apns-topic")


@rule(
    "TOPIC_UNNAMED",
    Severity.ERROR,
    "A request must name its topic, unless its certificate is for that alone.",
    SENDING,
    needs=CREDENTIAL,
)
def _topic_unnamed(push: Push, credential: Credential) -> Places:
    if push.channel or "apns-topic" in push.headers or "authorization" in push.headers:
        return
    alone = credential.is_certificate and not credential.listed
    if not (alone and all(topic.endswith(SUFFIXES.get(push.push_type, "")) for topic in credential.topics[:1])):
        yield Place("apns-topic")


@rule("TOPIC_NOT_SERVED", Severity.ERROR, "The credential is not for this topic.", RESPONSES, needs=CREDENTIAL)
def _topic_not_served(push: Push, credential: Credential) -> Places:
    if "apns-topic" in push.headers and not push.channel and not credential.serves(push.topic):
        yield Place("apns-topic")


@rule(
    "LA_CERTIFICATE",
    Severity.ERROR,
    "Live Activities need a provider token; certificates are not for their topics.",
    "Apple Developer Forums 712499, Live-Activities-Demo-NBA-Score#1",
    Grade.REPORTED,
    types=("liveactivity",),
    needs=CREDENTIAL,
)
def _la_certificate(push: Push, credential: Credential) -> Places:
    if credential.is_certificate:
        yield Place("")


@rule(
    "LOCATION_CERTIFICATE",
    Severity.ERROR,
    "Location pushes need a provider token.",
    SENDING,
    types=("location",),
    needs=CREDENTIAL,
)
def _location_certificate(push: Push, credential: Credential) -> Places:
    if credential.is_certificate:
        yield Place("")


@rule(
    "TOPIC_FORM",
    Severity.ERROR,
    "A topic is a bundle ID, of letters, digits, hyphens and dots; {value} is none.",
    RESPONSES,
)
def _topic_form(push: Push) -> Places:
    if "apns-topic" in push.headers and not TOPIC.fullmatch(push.topic):
        yield Place("apns-topic", shown(push.topic))


@rule("TOPIC_TYPE", Severity.ERROR, "The topic of this push type is the bundle ID followed by {value}.", SENDING)
def _topic_type(push: Push) -> Places:
    suffix = SUFFIXES.get(push.push_type, "")
    if push.topic and not push.channel and not push.topic.endswith(suffix):
        yield Place("apns-topic", suffix)


@rule(
    "TOPIC_SUFFIX",
    Severity.WARNING,
    "The topic of this push type is the bundle ID alone, and this one ends as those of {value} pushes do.",
    "react-native-webrtc/react-native-voip-push-notification#90",
    Grade.REPORTED,
    types=("alert", "background"),
)
def _topic_suffix(push: Push) -> Places:
    # An error if it is a suffix; but a bundle ID may end like one.
    if push.push_type and (kind := suffix_of(push.topic)):
        yield Place("apns-topic", kind)


@rule(
    "TOPIC_DOUBLE_SUFFIX",
    Severity.ERROR,
    "The topic has the suffix {value} twice: some libraries add it by themselves.",
    "alexalok/dotAPNS#90",
    Grade.SINGLE_REPORT,
)
def _topic_double_suffix(push: Push) -> Places:
    suffix = SUFFIXES.get(suffix_of(push.topic))
    if suffix and push.topic.endswith(suffix * 2):
        yield Place("apns-topic", suffix)


@rule("TYPE_UNKNOWN", Severity.ERROR, "Apple knows no push type {value}.", SENDING)
def _type_unknown(push: Push) -> Places:
    known = push.push_type.lower() == PUSH_TYPE.lower() if push.channel else push.push_type in PUSH_TYPES
    if push.push_type and not known:
        yield Place("apns-push-type", shown(push.push_type))


@rule(
    "TYPE_MISSING",
    Severity.WARNING,
    "Without apns-push-type a push may be delayed or dropped; watches require it.",
    SENDING,
)
def _type_missing(push: Push) -> Places:
    # Nothing is known of the header fields of a bare payload.
    if push.headers and not push.push_type and kind_of(push) != "pass":
        yield Place("apns-push-type")


@rule("PRIORITY", Severity.ERROR, "A priority is 10, 5 or 1, not {value}.", SENDING)
def _priority(push: Push) -> Places:
    if push.priority not in PRIORITIES:
        yield Place("apns-priority", shown(push.priority))


@rule(
    "BACKGROUND_PRIORITY",
    Severity.ERROR,
    "A background push must have priority 5; without apns-priority, Apple assumes 10.",
    SENDING,
    types=("background",),
)
def _background_priority(push: Push) -> Places:
    if push.push_type == "background" and push.priority == "10":
        yield Place("apns-priority")


@rule("EXPIRATION", Severity.ERROR, "An expiration is a whole number of UNIX seconds, not {value}.", SENDING)
def _expiration(push: Push) -> Places:
    given = push.headers.get("apns-expiration", "0")
    if not (given.isascii() and given.isdigit()):
        yield Place("apns-expiration", shown(given))


@rule(
    "EXPIRATION_UNIT",
    Severity.WARNING,
    "An expiration is a date in UNIX seconds, not a duration and not milliseconds; {value} is not near the present.",
    SENDING,
)
def _expiration_unit(push: Push) -> Places:
    given = push.headers.get("apns-expiration", "0")
    if given.isascii() and given.isdigit() and given.strip("0"):
        digits = given.lstrip("0")  # compared by length first: int() refuses thousands of digits
        if len(digits) > 12 or not _EARLIEST < int(digits) <= _LATEST:
            yield Place("apns-expiration", shown(given))


@rule(
    "EXPIRATION_PAST",
    Severity.HINT,
    "The expiration has passed, and Apple does not say what becomes of such a push.",
    SENDING,
    Grade.UNKNOWN,
    needs=NOW,
)
def _expiration_past(push: Push, now: float) -> Places:
    given = push.headers.get("apns-expiration", "")
    if given.isascii() and given.isdigit() and len(given) <= 12 and _EARLIEST < int(given) < now:
        yield Place("apns-expiration")


@rule(
    "EXPIRATION_ZERO",
    Severity.HINT,
    "With expiration 0 Apple tries once, so a device that is offline never gets this push.",
    SENDING,
    types=("alert", "liveactivity"),
)
def _expiration_zero(push: Push) -> Places:
    # A broadcast has no other choice unless its channel stores messages.
    if not push.channel and push.headers.get("apns-expiration") == "0":
        yield Place("apns-expiration")


@rule("COLLAPSE_ID", Severity.ERROR, "A collapse ID has at most 64 bytes, not {value}.", SENDING)
def _collapse_id(push: Push) -> Places:
    length = len(push.headers.get("apns-collapse-id", ""))  # one character stands for one octet
    if length > MAX_COLLAPSE_ID and not push.channel:
        yield Place("apns-collapse-id", str(length))


@rule(
    "KEY_AS_HEADER",
    Severity.WARNING,
    "{value} is a key of aps; as a header field it does nothing.",
    "sideshow/apns2#61, node-apn/node-apn#484",
    Grade.REPORTED,
)
def _key_as_header(push: Push) -> Places:
    for key in _KEYS:
        if key in push.headers or f"apns-{key}" in push.headers:
            yield Place(key if key in push.headers else f"apns-{key}", key)


@rule(
    "TOKEN_FORM",
    Severity.ERROR,
    "A device token is written in hexadecimal digits, and has at least 32 bytes.",
    RESPONSES,
)
def _token_form(push: Push) -> Places:
    token = token_bytes(push.token) if push.token else bytes(TOKEN_LENGTHS.start)
    if token is None or len(token) not in TOKEN_LENGTHS:
        yield Place("")


@rule("CHANNEL_FORM", Severity.ERROR, "The identifier of a channel is base64.", BROADCAST)
def _channel_form(push: Push) -> Places:
    if push.channel and check_channel(push.channel) is not None:
        yield Place("apns-channel-id")


@rule("BROADCAST_TYPE", Severity.ERROR, "A broadcast must have the push type liveactivity.", BROADCAST)
def _broadcast_type(push: Push) -> Places:
    if push.channel and not push.push_type:
        yield Place("apns-push-type")


@rule("BROADCAST_FIELDS", Severity.ERROR, "A broadcast must have {value}.", BROADCAST)
def _broadcast_fields(push: Push) -> Places:
    for name, what in (("apns-expiration", "an expiration, if only 0"), ("apns-priority", "a priority")):
        if push.channel and name not in push.headers:
            yield Place(name, what)


@rule("PAYLOAD_EMPTY", Severity.ERROR, "A push must have a payload.", RESPONSES)
def _payload_empty(push: Push) -> Places:
    if not push.payload:
        yield Place("")


@rule(
    "PAYLOAD_TOO_LARGE",
    Severity.ERROR,
    "The payload is too long: it has {value} bytes.",
    GENERATING,
)
def _payload_too_large(push: Push) -> Places:
    limit = MAX_BROADCAST if push.channel else MAX_VOIP_PAYLOAD if push.push_type == "voip" else MAX_PAYLOAD
    if len(push.payload) > limit:
        yield Place("", f"{len(push.payload):,} of {limit:,}")


@rule("PAYLOAD_NOT_JSON", Severity.ERROR, "A payload must be a JSON object in UTF-8.", GENERATING, Grade.UNKNOWN)
def _payload_not_json(push: Push) -> Places:
    # Apple documents the form of a payload, but not which answer any other gets.
    if push.payload and push.content is None:
        yield Place("")
