"""Rules on what the app is built with: its texts, sounds, categories, capabilities and extensions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from txapns.devices.device import Capability, Device
from txapns.devices.findings import Grade, Severity
from txapns.devices.limits import LOCATION_PUSHES
from txapns.devices.push import Push
from txapns.devices.rules.alert import sound_name
from txapns.devices.rules.rule import DEVICE, Place, Places, is_older, rule, shown
from txapns.devices.rules.sources import (
    CATEGORIES,
    GENERATING,
    LOCATION,
    MODIFYING,
    PUSH_TO_TALK,
    PUSHKIT,
    SOUND,
    WIDGETS,
)

__all__: list[str] = []

_ALERT = ("alert",)
#: A sound must be shorter, in seconds.
_LONGEST_SOUND = 30


def _text_keys(push: Push) -> Iterator[tuple[str, Any]]:
    """Yield the keys of localized texts, with their paths."""
    alert = push.aps.get("alert")
    if isinstance(alert, dict):
        for name in ("title-loc-key", "subtitle-loc-key", "loc-key"):
            yield f"aps.alert.{name}", alert.get(name)
        for name in ("title", "subtitle", "body"):
            if isinstance(text := alert.get(name), dict):
                yield f"aps.alert.{name}.loc-key", text.get("loc-key")


@rule(
    "LOC_KEY_MISSING",
    Severity.WARNING,
    "The app has no text under {value}; the device may show the key itself.",
    "thoughtbot/Tropos#180",
    Grade.SINGLE_REPORT,
    types=("alert", "liveactivity"),
    needs=DEVICE,
)
def _loc_key_missing(push: Push, device: Device) -> Places:
    strings = device.app.strings
    for path, key in _text_keys(push) if strings is not None else ():
        if isinstance(key, str) and strings is not None and key not in strings:
            yield Place(path, shown(key))


@rule(
    "SOUND_MISSING",
    Severity.WARNING,
    "The app has no sound {value}, so the default sound plays.",
    "Local and Remote Notification Programming Guide: Payload Key Reference",
    types=_ALERT,
    needs=DEVICE,
)
def _sound_missing(push: Push, device: Device) -> Places:
    name, path = sound_name(push)
    if name and device.app.sounds is not None and name not in device.app.sounds:
        yield Place(path, shown(name))


@rule(
    "SOUND_LONG",
    Severity.WARNING,
    "A sound must be shorter than 30 seconds; instead of {value} the default sound plays.",
    f"{SOUND}; MaikuB/flutter_local_notifications#611",
    types=_ALERT,
    needs=DEVICE,
)
def _sound_long(push: Push, device: Device) -> Places:
    name, path = sound_name(push)
    if (device.app.sounds or {}).get(name, 0) >= _LONGEST_SOUND:
        yield Place(path, shown(name))


@rule(
    "CRITICAL_ENTITLEMENT",
    Severity.WARNING,
    "Critical alerts need an entitlement from Apple, which the app does not have.",
    GENERATING,
    types=_ALERT,
    needs=DEVICE,
)
def _critical_entitlement(push: Push, device: Device) -> Places:
    if device.can(Capability.CRITICAL_ALERTS):
        return
    sound = push.aps.get("sound")
    if isinstance(sound, dict) and sound.get("critical"):
        yield Place("aps.sound.critical")
    if push.aps.get("interruption-level") == "critical":
        yield Place("aps.interruption-level")


@rule(
    "LEVEL_TIME_SENSITIVE",
    Severity.WARNING,
    "The app lacks the capability for it, so it acts as an ordinary notification.",
    "invertase/notifee#840, binwiederhier/ntfy-ios#21",
    Grade.REPORTED,
    types=_ALERT,
    needs=DEVICE,
)
def _level_time_sensitive(push: Push, device: Device) -> Places:
    if push.aps.get("interruption-level") == "time-sensitive" and not device.can(Capability.TIME_SENSITIVE):
        yield Place("aps.interruption-level")


@rule(
    "CATEGORY_UNKNOWN",
    Severity.WARNING,
    "The app has not registered the category {value}, so there are no buttons.",
    f"{CATEGORIES}; phonegap/phonegap-plugin-push#742, invertase/notifee#128",
    types=_ALERT,
    needs=DEVICE,
)
def _category_unknown(push: Push, device: Device) -> Places:
    category = push.aps.get("category")
    if isinstance(category, str) and device.app.categories is not None and category not in device.app.categories:
        yield Place("aps.category", shown(category))


@rule(
    "MUTABLE_NO_EXTENSION",
    Severity.WARNING,
    "The app has no service extension that could change it.",
    MODIFYING,
    types=_ALERT,
    needs=DEVICE,
)
def _mutable_no_extension(push: Push, device: Device) -> Places:
    if push.aps.get("mutable-content") == 1 and not device.can(Capability.EXTENSION):
        yield Place("aps.mutable-content")


@rule(
    "VOIP_REPORT",
    Severity.WARNING,
    "iOS ends an app that does not report a call for each VoIP push, and after some of them launches it no more.",
    f"{PUSHKIT}; react-native-webrtc/react-native-callkeep#86, BelledonneCommunications/linphone-iphone#680",
    types=("voip",),
    needs=DEVICE,
)
def _voip_report(push: Push, device: Device) -> Places:
    if device.unreported_calls or not device.can(Capability.CALLS):
        yield Place("")


@rule(
    "PTT_NOT_JOINED",
    Severity.WARNING,
    "The token is valid only while the user has joined a channel.",
    PUSH_TO_TALK,
    types=("pushtotalk",),
    needs=DEVICE,
)
def _ptt_not_joined(push: Push, device: Device) -> Places:
    if not device.joined:
        yield Place("")


@rule(
    "LOCATION_BUDGET",
    Severity.WARNING,
    "The extension has had about as many location pushes as it gets in a day, and gets none for some time.",
    LOCATION,
    types=("location",),
    needs=DEVICE,
)
def _location_budget(push: Push, device: Device) -> Places:
    if len(device.location_pushes) >= LOCATION_PUSHES:
        yield Place("")


@rule(
    "WIDGET_OS",
    Severity.WARNING,
    "Devices reload {value}.",
    WIDGETS,
    types=("widgets", "controls"),
    needs=DEVICE,
)
def _widget_os(push: Push, device: Device) -> Places:
    if push.push_type == "widgets" and is_older(device, 26):
        yield Place("apns-push-type", "widgets by push from iOS 26 on")
    elif push.push_type == "controls" and is_older(device, 18):
        yield Place("apns-push-type", "controls by push from iOS 18 on")
