"""Rules on header fields: those that Apple takes, and that may not do what was meant."""

from __future__ import annotations

from txapns.devices.findings import Grade, Severity
from txapns.devices.push import SUFFIXES, Push
from txapns.devices.rules.rule import NOW, Place, Places, kind_of, rule, shown, suffix_of
from txapns.devices.rules.sources import SENDING

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
    Severity.WARNING,
    "The topic has the suffix {value} twice: some libraries add it by themselves.",
    "alexalok/dotAPNS#90",
    Grade.SINGLE_REPORT,
)
def _topic_double_suffix(push: Push) -> Places:
    suffix = SUFFIXES.get(suffix_of(push.topic))
    if suffix and push.topic.endswith(suffix * 2):
        yield Place("apns-topic", suffix)


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
