"""Rules on what is shown and heard: the alert, the badge, the sound, and how much they interrupt."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from txapns.devices.findings import Grade, Severity
from txapns.devices.push import Push
from txapns.devices.rules.rule import Place, Places, is_flag, is_number, is_one, rule, shown
from txapns.devices.rules.sources import GENERATING, GUIDELINES, HEADERS, LEVELS, MODIFYING, SOUND

__all__ = ["TEXTS", "has_text", "is_visible", "sound_name"]

#: The keys of an alert that give it text.
TEXTS = ("title", "title-loc-key", "subtitle", "subtitle-loc-key", "body", "loc-key")
_ALERT = ("alert",)
_ALERT_OR_ACTIVITY = ("alert", "liveactivity")
_FORMATS = frozenset(("aif", "aiff", "wav", "caf"))
_LEVELS = ("passive", "active", "time-sensitive", "critical")


def has_text(push: Push, *keys: str) -> bool:
    """Tell whether the alert has a text under one of the keys; under any if none is named."""
    alert = push.aps.get("alert")
    if isinstance(alert, str):
        return bool(alert) and (not keys or "body" in keys)
    return isinstance(alert, dict) and any(alert.get(key) for key in keys or TEXTS)


def is_visible(push: Push) -> bool:
    """Tell whether there is anything to see or hear."""
    return any(push.aps.get(key) is not None for key in ("alert", "badge", "sound"))


def _arguments(push: Push) -> Iterator[tuple[str, Any, Any]]:
    """Yield all arguments of localized texts: their path, they themselves, and the key that they are for."""
    alert = push.aps.get("alert")
    if not isinstance(alert, dict):
        return
    for prefix in ("title-", "subtitle-", ""):
        if f"{prefix}loc-args" in alert:
            yield f"aps.alert.{prefix}loc-args", alert[f"{prefix}loc-args"], alert.get(f"{prefix}loc-key")
    for key in ("title", "subtitle", "body"):  # so for Live Activities
        if isinstance(text := alert.get(key), dict) and "loc-args" in text:
            yield f"aps.alert.{key}.loc-args", text["loc-args"], text.get("loc-key")


def sound_name(push: Push) -> tuple[str, str]:
    """Find the sound's file name, and its path; returns two empty texts if there is none."""
    sound, path = push.aps.get("sound"), "aps.sound"
    if isinstance(sound, dict):
        sound, path = sound.get("name"), "aps.sound.name"
    return (sound, path) if isinstance(sound, str) and sound and sound != "default" else ("", "")


@rule(
    "NOTHING_TO_SHOW",
    Severity.WARNING,
    "The device neither shows anything nor wakes the app: there is no alert, badge, sound or content-available.",
    f"{GENERATING}; node-apn/node-apn#344",
    types=_ALERT,
)
def _nothing_to_show(push: Push) -> Places:
    given = isinstance((push.content or {}).get("aps"), dict)
    if given and not is_visible(push) and push.aps.get("content-available") is None:
        yield Place("aps")


@rule(
    "ALERT_EMPTY",
    Severity.WARNING,
    "An alert without any text is not shown.",
    "OneSignal/OneSignal-Flutter-SDK#813, appfeel/node-pushnotifications#79",
    Grade.REPORTED,
    types=_ALERT_OR_ACTIVITY,
)
def _alert_empty(push: Push) -> Places:
    if isinstance(push.aps.get("alert"), str | dict) and not has_text(push):
        yield Place("aps.alert")


@rule(
    "ALERT_TYPE",
    Severity.WARNING,
    "An alert must be a text or an object, not {value}.",
    GENERATING,
    types=_ALERT_OR_ACTIVITY,
)
def _alert_type(push: Push) -> Places:
    alert = push.aps.get("alert")
    if alert is not None and not isinstance(alert, str | dict):
        yield Place("aps.alert", shown(alert))


@rule(
    "ALERT_NO_BODY",
    Severity.HINT,
    "A title without a body may not be shown: sources disagree.",
    "the documentation of OneSignal and of Braze",
    Grade.UNKNOWN,
    types=_ALERT,
)
def _alert_no_body(push: Push) -> Places:
    if has_text(push, "title", "title-loc-key") and not has_text(push, "body", "loc-key"):
        yield Place("aps.alert")


@rule("ALERT_NO_TITLE", Severity.HINT, "Without a title the app's name is shown as one.", GUIDELINES, types=_ALERT)
def _alert_no_title(push: Push) -> Places:
    if has_text(push) and not has_text(push, "title", "title-loc-key"):
        yield Place("aps.alert")


@rule(
    "LOC_ARGS_TYPE",
    Severity.WARNING,
    "The arguments of a localized text must be an array of strings; others are not filled in.",
    f"{GENERATING}; appfeel/node-pushnotifications#150, edamov/pushok#5",
    types=_ALERT_OR_ACTIVITY,
)
def _loc_args_type(push: Push) -> Places:
    for path, arguments, _ in _arguments(push):
        if not isinstance(arguments, list) or any(not isinstance(each, str | None) for each in arguments):
            yield Place(path)


@rule(
    "LOC_ARGS_NULL",
    Severity.WARNING,
    "A null among the arguments may be shown to the user as <null>.",
    "ZhukV/AppleApnPush#33",
    Grade.SINGLE_REPORT,
    types=_ALERT_OR_ACTIVITY,
)
def _loc_args_null(push: Push) -> Places:
    for path, arguments, _ in _arguments(push):
        if isinstance(arguments, list) and None in arguments:
            yield Place(f"{path}[{arguments.index(None)}]")


@rule(
    "LOC_ARGS_ORPHAN",
    Severity.HINT,
    "Arguments do nothing without the loc-key of a text to put them into.",
    GENERATING,
    types=_ALERT_OR_ACTIVITY,
)
def _loc_args_orphan(push: Push) -> Places:
    for path, _, key in _arguments(push):
        if not key:
            yield Place(path)


@rule("SUMMARY_ARG", Severity.HINT, "Since iOS 15 the system ignores {value}.", HEADERS, types=_ALERT)
def _summary_arg(push: Push) -> Places:
    alert = push.aps.get("alert")
    for key in ("summary-arg", "summary-arg-count"):
        if isinstance(alert, dict) and key in alert:
            yield Place(f"aps.alert.{key}", key)


def _is_increment(badge: object) -> bool:
    return isinstance(badge, str) and re.fullmatch(r"[+-]\d+", badge) is not None


@rule(
    "BADGE_TYPE",
    Severity.WARNING,
    "A badge must be a number, not {value}.",
    f"{GENERATING}; richsage/RMSPushNotificationsBundle#62, phonegap-build/PushPlugin#454",
    types=_ALERT,
)
def _badge_type(push: Push) -> Places:
    badge = push.aps.get("badge")
    if badge is not None and not is_number(badge) and not _is_increment(badge):
        yield Place("aps.badge", shown(badge))


@rule(
    "BADGE_INCREMENT",
    Severity.WARNING,
    "Neither Apple nor the device can count a badge up; send the number to show.",
    "Redth/PushSharp#294",
    Grade.REPORTED,
    types=_ALERT,
)
def _badge_increment(push: Push) -> Places:
    if _is_increment(push.aps.get("badge")):
        yield Place("aps.badge")


@rule(
    "NO_SOUND",
    Severity.HINT,
    "Without a sound it arrives without vibration too.",
    "notnoop/java-apns#256, zulip/zulip#10286",
    Grade.REPORTED,
    types=_ALERT,
)
def _no_sound(push: Push) -> Places:
    aps = push.aps
    if has_text(push) and aps.get("sound") is None and aps.get("interruption-level") != "passive":
        yield Place("aps.sound")


@rule(
    "SOUND_NO_EXT",
    Severity.HINT,
    "A sound is named with its extension; sources disagree whether one without is found.",
    "phonegap/phonegap-plugin-push#607, #1434",
    Grade.UNKNOWN,
    types=_ALERT,
)
def _sound_no_ext(push: Push) -> Places:
    name, path = sound_name(push)
    if name and "." not in name:
        yield Place(path)


@rule(
    "SOUND_FORMAT",
    Severity.WARNING,
    "The system plays sounds from files of the types aiff, wav and caf, not {value}.",
    SOUND,
    types=_ALERT,
)
def _sound_format(push: Push) -> Places:
    name, path = sound_name(push)
    _, dot, extension = name.rpartition(".")
    if dot and extension.lower() not in _FORMATS:
        yield Place(path, shown(extension))


@rule(
    "CRITICAL_NOT_1",
    Severity.WARNING,
    "critical must be the number 1, not {value}.",
    f"{GENERATING}; jchambers/pushy#686",
    types=_ALERT,
)
def _critical_not_1(push: Push) -> Places:
    sound = push.aps.get("sound")
    if isinstance(sound, dict) and not is_one(sound.get("critical", 1)):
        yield Place("aps.sound.critical", shown(sound["critical"]))


@rule("CRITICAL_VOLUME", Severity.HINT, "A volume is a number from 0 to 1, not {value}.", GENERATING, types=_ALERT)
def _critical_volume(push: Push) -> Places:
    sound = push.aps.get("sound")
    volume = sound.get("volume", 1) if isinstance(sound, dict) else 1
    if not (is_number(volume) and 0 <= volume <= 1):
        yield Place("aps.sound.volume", shown(volume))


@rule(
    "LEVEL_UNKNOWN",
    Severity.WARNING,
    "An interruption level is passive, active, time-sensitive or critical, not {value}.",
    GENERATING,
    types=_ALERT,
)
def _level_unknown(push: Push) -> Places:
    level = push.aps.get("interruption-level", "active")
    if level not in _LEVELS:
        yield Place("aps.interruption-level", shown(level))


@rule("LEVEL_PASSIVE_SOUND", Severity.WARNING, "A passive notification makes no sound.", LEVELS, types=_ALERT)
def _level_passive_sound(push: Push) -> Places:
    if push.aps.get("interruption-level") == "passive" and push.aps.get("sound") is not None:
        yield Place("aps.sound")


@rule(
    "RELEVANCE_RANGE",
    Severity.HINT,
    "A relevance score is a number from 0 to 1, not {value}.",
    HEADERS,
    types=_ALERT,
)
def _relevance_range(push: Push) -> Places:
    score = push.aps.get("relevance-score", 1)
    if not (is_number(score) and 0 <= score <= 1):
        yield Place("aps.relevance-score", shown(score))


@rule(
    "MUTABLE_NO_TEXT",
    Severity.WARNING,
    "The app's service extension runs only for an alert with text.",
    f"{MODIFYING}; OneSignal/OneSignal-iOS-SDK#79",
    types=_ALERT,
)
def _mutable_no_text(push: Push) -> Places:
    if is_one(push.aps.get("mutable-content")) and not has_text(push):
        yield Place("aps.mutable-content")


@rule(
    "MUTABLE_NOT_1",
    Severity.WARNING,
    "mutable-content must be the number 1, not {value}.",
    MODIFYING,
    types=_ALERT,
)
def _mutable_not_1(push: Push) -> Places:
    if not is_flag(push.aps.get("mutable-content", 1)):
        yield Place("aps.mutable-content", shown(push.aps["mutable-content"]))
