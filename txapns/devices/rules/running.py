"""Rules on Live Activities that need the device: what runs on it, and what its app can decode."""

from __future__ import annotations

from txapns.devices.device import Device, TokenKind
from txapns.devices.findings import Grade, Severity
from txapns.devices.limits import ACTIVITY_STARTS, URGENT_UPDATES
from txapns.devices.presentation import Activity
from txapns.devices.push import Push
from txapns.devices.rules.rule import DEVICE, Place, Places, is_number, is_older, rule, shown
from txapns.devices.rules.sources import LIVE_ACTIVITIES

__all__: list[str] = []

_ACTIVITY = ("liveactivity",)


def _addressed(push: Push, device: Device) -> Activity | None:
    """Find the activity that an update or an end is for: that of the token, or else the latest."""
    if push.aps.get("event") not in ("update", "end"):
        return None
    of_token = [each for each in device.activities if push.token and each.token == push.token]
    return next(reversed(of_token or device.activities), None)


def _is_start(push: Push) -> bool:
    return push.aps.get("event") == "start"


@rule(
    "LA_TOKEN",
    Severity.WARNING,
    "A start needs the push-to-start token; updates and the end need the token of their Live Activity.",
    LIVE_ACTIVITIES,
    types=_ACTIVITY,
    needs=DEVICE,
)
def _token(push: Push, device: Device) -> Places:
    wrong = TokenKind.LIVE_ACTIVITY if _is_start(push) else TokenKind.PUSH_TO_START
    if device.token_kind == wrong and not push.channel:
        yield Place("aps.event")


@rule(
    "LA_OLD",
    Severity.WARNING,
    "The device has a state with a later timestamp, and keeps it.",
    f"{LIVE_ACTIVITIES}; Apple Developer Forums 776165",
    types=_ACTIVITY,
    needs=DEVICE,
)
def _old(push: Push, device: Device) -> Places:
    activity, timestamp = _addressed(push, device), push.aps.get("timestamp")
    if activity is None or push.aps.get("event") != "update" or not is_number(timestamp):
        return
    if timestamp < activity.timestamp:
        yield Place("aps.timestamp")


@rule(
    "LA_STATE_DECODE",
    Severity.WARNING,
    "The app cannot decode this content-state: it lacks {value}.",
    f"{LIVE_ACTIVITIES}; istornz/flutter_live_activities#118",
    types=_ACTIVITY,
    needs=DEVICE,
)
def _state_decode(push: Push, device: Device) -> Places:
    activity, state = _addressed(push, device), push.aps.get("content-state")
    kind = push.aps.get("attributes-type") if _is_start(push) else activity and activity.kind
    needed = (device.app.activities or {}).get(kind, ()) if isinstance(kind, str) else ()
    for key in sorted(needed):
        if isinstance(state, dict) and key not in state:
            yield Place("aps.content-state", shown(key))


@rule(
    "LA_TYPE_UNKNOWN",
    Severity.WARNING,
    "The app has no attributes of the type {value}.",
    LIVE_ACTIVITIES,
    types=_ACTIVITY,
    needs=DEVICE,
)
def _type_unknown(push: Push, device: Device) -> Places:
    kind, known = push.aps.get("attributes-type"), device.app.activities
    if _is_start(push) and isinstance(kind, str) and known is not None and kind not in known:
        yield Place("aps.attributes-type", shown(kind))


@rule(
    "LA_START_OS",
    Severity.WARNING,
    "Pushes start Live Activities from iOS 17.2 on, and this device has an older system.",
    LIVE_ACTIVITIES,
    types=_ACTIVITY,
    needs=DEVICE,
)
def _start_os(push: Push, device: Device) -> Places:
    if _is_start(push) and is_older(device, 17, 2):
        yield Place("aps.event")


@rule(
    "LA_CHANNEL_OS",
    Severity.WARNING,
    "Before iOS 18 a start with a channel does nothing.",
    LIVE_ACTIVITIES,
    types=_ACTIVITY,
    needs=DEVICE,
)
def _channel_os(push: Push, device: Device) -> Places:
    if _is_start(push) and "input-push-channel" in push.aps and is_older(device, 18):
        yield Place("aps.input-push-channel")


@rule(
    "LA_START_BUDGET",
    Severity.WARNING,
    "The device had {value} starts in the last hour and may refuse any more.",
    "Apple Developer Forums 799505, EKKOLearnAI/hermes-studio#3111",
    Grade.REPORTED,
    types=_ACTIVITY,
    needs=DEVICE,
)
def _start_budget(push: Push, device: Device) -> Places:
    if _is_start(push) and len(device.activity_starts) >= ACTIVITY_STARTS:
        yield Place("aps.event", str(len(device.activity_starts)))


@rule(
    "LA_START_TWICE",
    Severity.HINT,
    "A Live Activity of this type is running; a start makes a second one.",
    "istornz/flutter_live_activities#174",
    Grade.SINGLE_REPORT,
    types=_ACTIVITY,
    needs=DEVICE,
)
def _start_twice(push: Push, device: Device) -> Places:
    kind = push.aps.get("attributes-type")
    if _is_start(push) and any(each.is_running and each.kind == kind for each in device.activities):
        yield Place("aps.event")


@rule(
    "LA_START_TOKEN",
    Severity.WARNING,
    "The app has a newer push-to-start token; Apple accepts the old one, but the device does not start anything.",
    "kylebshr/luka-ios#146",
    Grade.SINGLE_REPORT,
    types=_ACTIVITY,
    needs=DEVICE,
)
def _start_token(push: Push, device: Device) -> Places:
    if _is_start(push) and device.token_outdated:
        yield Place("")


@rule("LA_ENDED", Severity.WARNING, "The Live Activity is over.", LIVE_ACTIVITIES, types=_ACTIVITY, needs=DEVICE)
def _ended(push: Push, device: Device) -> Places:
    activity = _addressed(push, device)
    if activity is not None and not activity.is_running:
        yield Place("aps.event")


@rule(
    "LA_BUDGET",
    Severity.HINT,
    "It had {value} updates with priority 10 in the last hour; priority 5 does not count against its budget.",
    f"{LIVE_ACTIVITIES}; callstackincubator/voltra#119",
    types=_ACTIVITY,
    needs=DEVICE,
)
def _budget(push: Push, device: Device) -> Places:
    activity = _addressed(push, device)
    if activity is not None and push.priority == "10" and len(activity.urgent) >= URGENT_UPDATES:
        yield Place("apns-priority", str(len(activity.urgent)))
