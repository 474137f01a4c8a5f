"""Rules on pushes that wake the app."""

from __future__ import annotations

from txapns.devices.findings import Grade, Severity
from txapns.devices.push import Push
from txapns.devices.rules.alert import is_visible
from txapns.devices.rules.rule import Place, Places, is_flag, is_one, rule, shown
from txapns.devices.rules.sources import BACKGROUND, GENERATING

__all__: list[str] = []


@rule(
    "AVAILABLE_NOT_1",
    Severity.WARNING,
    "content-available must be the number 1, not {value}.",
    f"{BACKGROUND}; appfeel/node-pushnotifications#72",
    types=("alert", "background"),
)
def _available_not_1(push: Push) -> Places:
    value = push.aps.get("content-available", 1)
    if not (is_flag(value) if push.push_type == "alert" else is_one(value)):
        yield Place("aps.content-available", shown(push.aps["content-available"]))


@rule(
    "ALERT_AND_SILENT",
    Severity.HINT,
    "It is shown, and wakes the app as well; see that the app does not show it twice.",
    f"{GENERATING}; phonegap/phonegap-plugin-push#1230",
    types=("alert",),
)
def _alert_and_silent(push: Push) -> Places:
    if is_one(push.aps.get("content-available")) and is_visible(push):
        yield Place("aps.content-available")


@rule(
    "SILENT_AS_ALERT",
    Severity.WARNING,
    "A push that only wakes the app must have the push type background.",
    "malliina/mobile-push#19",
    Grade.SINGLE_REPORT,
    types=("alert",),
)
def _silent_as_alert(push: Push) -> Places:
    if push.push_type == "alert" and is_one(push.aps.get("content-available")) and not is_visible(push):
        yield Place("apns-push-type")


@rule(
    "BACKGROUND_VISIBLE",
    Severity.WARNING,
    "A background push must not have {value}.",
    f"{BACKGROUND}; edamov/pushok#170",
    types=("background",),
)
def _background_visible(push: Push) -> Places:
    for key in ("alert", "badge", "sound"):
        if push.aps.get(key) is not None:
            yield Place(f"aps.{key}", key)


@rule(
    "BACKGROUND_NO_FLAG",
    Severity.WARNING,
    "Without content-available it does not wake the app.",
    BACKGROUND,
    types=("background",),
)
def _background_no_flag(push: Push) -> Places:
    if isinstance((push.content or {}).get("aps"), dict) and push.aps.get("content-available") is None:
        yield Place("aps.content-available")
