"""Rules on what the device allows and remembers: permission, Focus, what waits and what is shown already."""

from __future__ import annotations

from txapns.devices.device import Device, Permission, Platform
from txapns.devices.findings import Grade, Severity
from txapns.devices.limits import BACKGROUND_PUSHES
from txapns.devices.push import Push
from txapns.devices.rules.alert import has_text
from txapns.devices.rules.rule import DEVICE, Place, Places, rule, shown
from txapns.devices.rules.sources import (
    BACKGROUND,
    FOCUS_FILTER,
    GUIDELINES,
    HEADERS,
    METRICS,
    OPTIONS,
    REGISTERING,
    SENDING,
)

__all__: list[str] = []

_ALERT = ("alert",)
#: Push types that are not for every platform.
_PLATFORMS = {
    "complication": (Platform.IOS, Platform.VISIONOS, Platform.WATCHOS),
    "liveactivity": (Platform.IOS, Platform.IPADOS, Platform.VISIONOS),
    "location": (Platform.IOS, Platform.IPADOS),
    "pushtotalk": (Platform.IOS, Platform.IPADOS, Platform.VISIONOS),
    **dict.fromkeys(("voip", "mdm", "fileprovider"), tuple(each for each in Platform if each != Platform.WATCHOS)),
}


@rule(
    "TYPE_PLATFORM",
    Severity.WARNING,
    "Devices with {value} get no pushes of this type.",
    SENDING,
    needs=DEVICE,
)
def _type_platform(push: Push, device: Device) -> Places:
    if device.platform not in _PLATFORMS.get(push.push_type, Platform):
        yield Place("apns-push-type", device.platform.value)


@rule(
    "NOT_PERMITTED",
    Severity.WARNING,
    "The user has not allowed notifications, so nothing is shown.",
    f"{REGISTERING}; {METRICS}",
    types=_ALERT,
    needs=DEVICE,
)
def _not_permitted(push: Push, device: Device) -> Places:
    if not device.settings.enabled or device.settings.permission in (Permission.DENIED, Permission.NOT_ASKED):
        yield Place("")


@rule(
    "PROVISIONAL",
    Severity.HINT,
    "The user has not been asked yet, so it goes to Notification Center alone, without banner, sound and badge.",
    OPTIONS,
    types=_ALERT,
    needs=DEVICE,
)
def _provisional(push: Push, device: Device) -> Places:
    if device.settings.permission == Permission.PROVISIONAL:
        yield Place("")


@rule(
    "BADGES_OFF",
    Severity.WARNING,
    "The user does not allow the app to set its badge.",
    REGISTERING,
    types=_ALERT,
    needs=DEVICE,
)
def _badges_off(push: Push, device: Device) -> Places:
    if not device.settings.badges and push.aps.get("badge") is not None:
        yield Place("aps.badge")


@rule(
    "STYLES_OFF",
    Severity.WARNING,
    "Notifications are allowed, but shown nowhere; then iOS may drop even pushes that show nothing.",
    "breez/misty-breez#505, openradar 31924882",
    Grade.REPORTED,
    types=("background",),
    needs=DEVICE,
)
def _styles_off(push: Push, device: Device) -> Places:
    if device.settings.permission == Permission.AUTHORIZED and not device.settings.alert_styles:
        yield Place("")


@rule(
    "FOCUS",
    Severity.WARNING,
    "While {value} is on, it goes to Notification Center without banner and sound.",
    GUIDELINES,
    types=_ALERT,
    needs=DEVICE,
)
def _focus(push: Push, device: Device) -> Places:
    if push.aps.get("interruption-level", "active") in ("active", "passive"):
        if device.settings.focus:
            yield Place("aps.interruption-level", "a Focus that does not allow the app")
        elif device.settings.summary:
            yield Place("aps.interruption-level", "the scheduled summary")


@rule(
    "FOCUS_FILTER",
    Severity.WARNING,
    "The app's Focus filter does not let the filter-criteria {value} through.",
    FOCUS_FILTER,
    types=_ALERT,
    needs=DEVICE,
)
def _focus_filter(push: Push, device: Device) -> Places:
    criteria, allowed = push.aps.get("filter-criteria"), device.settings.focus_criteria
    if allowed is not None and isinstance(criteria, str) and criteria not in allowed:
        yield Place("aps.filter-criteria", shown(criteria))


@rule(
    "FOREGROUND",
    Severity.HINT,
    "The app is open, so it decides what is shown; often that is nothing.",
    f"{HEADERS}; beeminder/BeeSwift#646, sideshow/apns2#38",
    types=_ALERT,
    needs=DEVICE,
)
def _foreground(push: Push, device: Device) -> Places:
    if device.foreground:
        yield Place("")


@rule(
    "FORCE_QUIT",
    Severity.WARNING,
    "The user has quit the app by force, so no push wakes it until it is opened again.",
    f"{BACKGROUND}; invertase/react-native-firebase#3969, firebase/quickstart-ios#585",
    types=("alert", "background"),
    needs=DEVICE,
)
def _force_quit(push: Push, device: Device) -> Places:
    if device.force_quit and push.aps.get("content-available") is not None:
        yield Place("aps.content-available")


@rule(
    "BACKGROUND_RATE",
    Severity.WARNING,
    "This device had {value} background pushes in the last hour and may hold back any more.",
    BACKGROUND,
    types=("background",),
    needs=DEVICE,
)
def _background_rate(push: Push, device: Device) -> Places:
    if len(device.background_pushes) >= BACKGROUND_PUSHES:
        yield Place("", str(len(device.background_pushes)))


@rule(
    "BADGE_UNCHANGED",
    Severity.HINT,
    "The badge stays at {value}; send 0 to remove it.",
    "appleboy/gorush#147, immobiliare/ApnsPHP#10",
    Grade.REPORTED,
    types=_ALERT,
    needs=DEVICE,
)
def _badge_unchanged(push: Push, device: Device) -> Places:
    if device.badge > 0 and push.aps.get("badge") is None:
        yield Place("aps.badge", str(device.badge))


@rule(
    "STORED_LATEST",
    Severity.WARNING,
    "The device is offline, and this push may replace the one that waits for it.",
    f"{METRICS}; element-hq/element-x-ios#5055, home-assistant/iOS#527",
    needs=DEVICE,
)
def _stored_latest(push: Push, device: Device) -> Places:
    if not device.online and device.stored and not device.keeps_all:
        yield Place("")


def _is_replaced(push: Push, device: Device) -> bool:
    """Tell whether the push replaces a notification that is still shown."""
    identifier = push.headers.get("apns-collapse-id")
    return identifier is not None and any(each.identifier == identifier for each in device.shown)


@rule(
    "COLLAPSE_QUIET",
    Severity.HINT,
    "It replaces a notification that is still shown, and may do so without a sound.",
    "OneSignal/react-native-onesignal#562",
    Grade.SINGLE_REPORT,
    types=_ALERT,
    needs=DEVICE,
)
def _collapse_quiet(push: Push, device: Device) -> Places:
    if _is_replaced(push, device) and push.aps.get("sound") is not None:
        yield Place("apns-collapse-id")


@rule(
    "COLLAPSE_NOT_THREAD",
    Severity.HINT,
    "The same collapse ID replaces the notification before; to keep both in one group, use a thread-id.",
    "tdlib/td#3317",
    Grade.SINGLE_REPORT,
    types=_ALERT,
    needs=DEVICE,
)
def _collapse_not_thread(push: Push, device: Device) -> Places:
    if _is_replaced(push, device) and "thread-id" not in push.aps:
        yield Place("apns-collapse-id")


@rule("TVOS_TEXT", Severity.WARNING, "On tvOS only the badge is shown.", HEADERS, types=_ALERT, needs=DEVICE)
def _tvos_text(push: Push, device: Device) -> Places:
    if device.platform == Platform.TVOS and (has_text(push) or push.aps.get("sound") is not None):
        yield Place("aps")
