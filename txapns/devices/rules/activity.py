"""Rules on Live Activities, as far as the push shows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from txapns.devices.findings import Grade, Severity
from txapns.devices.push import Push
from txapns.devices.rules.alert import has_text
from txapns.devices.rules.rule import NOW, Place, Places, is_number, rule, shown
from txapns.devices.rules.sources import GENERATING, LIVE_ACTIVITIES

__all__ = ["HOUR"]

#: In seconds.
HOUR = 3_600
_YEAR = 365 * 24 * HOUR
#: A larger number is a date in milliseconds.
_MILLISECONDS = 100_000_000_000
_ACTIVITY = ("liveactivity",)
_EVENTS = ("start", "update", "end")
_DATES = ("timestamp", "stale-date", "dismissal-date")
_KEYS = ("event", "content-state", "attributes", "attributes-type", "stale-date", "dismissal-date")


def _date(push: Push, key: str) -> int | float | None:
    """Find a date in seconds; returns ``None`` if it is none or in milliseconds."""
    value = push.aps.get(key)
    return value if is_number(value) and value <= _MILLISECONDS else None


@rule("LA_EVENT", Severity.WARNING, "An event is start, update or end, not {value}.", LIVE_ACTIVITIES, types=_ACTIVITY)
def _event(push: Push) -> Places:
    event = push.aps.get("event")
    if event not in _EVENTS:
        yield Place("aps.event", "missing" if event is None else shown(event))


@rule(
    "LA_TIMESTAMP",
    Severity.WARNING,
    "A Live Activity needs a timestamp, a number of UNIX seconds.",
    LIVE_ACTIVITIES,
    types=_ACTIVITY,
)
def _timestamp(push: Push) -> Places:
    if not is_number(push.aps.get("timestamp")):
        yield Place("aps.timestamp")


@rule(
    "LA_MILLISECONDS",
    Severity.WARNING,
    "Dates of Live Activities are in seconds; {value} looks like milliseconds.",
    f"{LIVE_ACTIVITIES}; kisimediaDE/capacitor-live-activity#7",
    types=_ACTIVITY,
)
def _milliseconds(push: Push) -> Places:
    for key in _DATES:
        value = push.aps.get(key)
        if is_number(value) and value > _MILLISECONDS:
            yield Place(f"aps.{key}", shown(value))


@rule(
    "LA_FUTURE",
    Severity.WARNING,
    "The device drops a state whose timestamp is more than eight hours ahead.",
    "Apple Developer Forums 776165",
    Grade.SINGLE_REPORT,
    types=_ACTIVITY,
    needs=NOW,
)
def _future(push: Push, now: float) -> Places:
    timestamp = _date(push, "timestamp")
    if timestamp is not None and timestamp > now + 8 * HOUR:
        yield Place("aps.timestamp")


@rule(
    "LA_STATE",
    Severity.WARNING,
    "A start and an update need a content-state, which is an object.",
    LIVE_ACTIVITIES,
    types=_ACTIVITY,
)
def _state(push: Push) -> Places:
    if push.aps.get("event") in ("start", "update") and not isinstance(push.aps.get("content-state"), dict):
        yield Place("aps.content-state")


def _numbers(push: Push) -> Iterator[tuple[str, Any]]:
    """Yield the numbers in the state and in the objects of the state."""
    state = push.aps.get("content-state")
    for key, value in state.items() if isinstance(state, dict) else ():
        inner = value.items() if isinstance(value, dict) else ()
        for path, each in ((key, value), *((f"{key}.{name}", each) for name, each in inner)):
            if is_number(each):
                yield path, each


@rule(
    "LA_DATE_FIELD",
    Severity.HINT,
    "If {value} is a Date in the app, Swift reads it as seconds since 2001, not since 1970.",
    "home-assistant/iOS#4677, urbanairship/ios-library#411",
    Grade.REPORTED,
    types=_ACTIVITY,
)
def _date_field(push: Push) -> Places:
    timestamp = _date(push, "timestamp")
    if timestamp is not None and timestamp > _YEAR:
        for path, value in _numbers(push):
            if timestamp - _YEAR < value < timestamp + _YEAR:
                yield Place(f"aps.content-state.{path}", shown(value))


@rule(
    "LA_START_FIELDS",
    Severity.WARNING,
    "A start needs {value}.",
    LIVE_ACTIVITIES,
    types=_ACTIVITY,
)
def _start_fields(push: Push) -> Places:
    if push.aps.get("event") == "start":
        name = push.aps.get("attributes-type")
        if not isinstance(push.aps.get("attributes"), dict):
            yield Place("aps.attributes", "attributes, an object")
        if not isinstance(name, str) or not name:
            yield Place("aps.attributes-type", "an attributes-type, the name of the attributes' type in Swift")


@rule(
    "LA_START_ALERT",
    Severity.WARNING,
    "A start needs an alert with text.",
    f"{LIVE_ACTIVITIES}; swift-server-community/APNSwift#232",
    types=_ACTIVITY,
)
def _start_alert(push: Push) -> Places:
    if push.aps.get("event") == "start" and not has_text(push):
        yield Place("aps.alert")


@rule(
    "LA_START_CHANNEL",
    Severity.WARNING,
    "A broadcast cannot start a Live Activity.",
    LIVE_ACTIVITIES,
    types=_ACTIVITY,
)
def _start_channel(push: Push) -> Places:
    if push.channel and push.aps.get("event") == "start":
        yield Place("aps.event")


@rule(
    "LA_DISMISS_EVENT",
    Severity.WARNING,
    "A dismissal-date counts only with the event end.",
    "swift-server-community/APNSwift#228",
    Grade.REPORTED,
    types=_ACTIVITY,
)
def _dismiss_event(push: Push) -> Places:
    if "dismissal-date" in push.aps and push.aps.get("event") in ("start", "update"):
        yield Place("aps.dismissal-date")


@rule(
    "LA_DISMISS_4H",
    Severity.HINT,
    "An ended Live Activity is removed after four hours, whatever later date is given.",
    LIVE_ACTIVITIES,
    types=_ACTIVITY,
)
def _dismiss_4h(push: Push) -> Places:
    dismissal, timestamp = _date(push, "dismissal-date"), _date(push, "timestamp")
    if push.aps.get("event") != "end" or dismissal is None or timestamp is None:
        return
    if dismissal > timestamp + 4 * HOUR:
        yield Place("aps.dismissal-date")


@rule(
    "LA_STALE_PAST",
    Severity.WARNING,
    "A Live Activity that is out of date when it starts may never be shown.",
    "nalu-development/nalu#222",
    Grade.SINGLE_REPORT,
    types=_ACTIVITY,
)
def _stale_past(push: Push) -> Places:
    stale, timestamp = _date(push, "stale-date"), _date(push, "timestamp")
    if push.aps.get("event") == "start" and stale is not None and timestamp is not None and stale <= timestamp:
        yield Place("aps.stale-date")


@rule(
    "LA_KEY_ELSEWHERE",
    Severity.WARNING,
    "{value} counts only in pushes of the type liveactivity.",
    GENERATING,
    types=("alert", "background"),
)
def _key_elsewhere(push: Push) -> Places:
    for key in _KEYS:
        if key in push.aps:
            yield Place(f"aps.{key}", key)
