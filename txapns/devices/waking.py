"""What a device does with a push that shows nothing by itself: it wakes the app, an extension of it, or the system."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from txapns.devices.device import Capability, Device, Platform, Stored
from txapns.devices.limits import BACKGROUND_PUSHES, LOCATION_PUSHES
from txapns.devices.presentation import Outcome
from txapns.devices.push import Push
from txapns.devices.rules.alert import is_visible
from txapns.devices.rules.rule import is_one
from txapns.devices.verdict import Verdict, sentences

__all__ = ["NOT_ON", "WAKING", "may_wake", "wake"]

Wake = Callable[[Push, Device, float, float], Verdict]


def may_wake(push: Push, device: Device) -> str:
    """Say what keeps the app from being woken in the background, in a sentence; empty if nothing does."""
    flag = push.aps.get("content-available")
    if not is_one(flag):
        if flag is None:
            return "Without content-available the app is not woken."
        return "content-available must be the number 1; reports say that other values fail, Apple says nothing of them."
    if not device.can(Capability.BACKGROUND):
        return "The app lacks the background mode for remote notifications."
    if device.force_quit:
        return "The user has ended the app: iOS does not launch it until the user does, or restarts the device."
    return ""


def wake(push: Push, device: Device, now: float, until: float) -> Verdict:
    """
    Deliver a background push to a device that is online.

    :param push: the push.
    :param device: the device.
    :param now: the time, in UNIX seconds.
    :param until: how long it may wait on the device, in UNIX seconds.
    :returns: the verdict.
    """
    about = (
        "Apple's older guide says that with an alert, a badge or a sound it may be shown, and held back."
        if is_visible(push)
        else ""
    )
    hindrance = may_wake(push, device)
    if hindrance:
        outcome = Outcome.DISCARDED if device.force_quit else Outcome.NOTHING
        return Verdict(outcome, sentences(hindrance, about), device)
    if device.foreground:
        return _woken(device, now, sentences("The app is open and gets it at once.", about))
    held = _why_held(push, device)
    if held:
        more = "It replaces the one that waited." if device.held is not None else ""
        device = attrs.evolve(device, held=Stored(push, now, until))
        return Verdict(Outcome.STORED, sentences(held, "Apple does not say until when.", more, about), device)
    return _woken(device, now, sentences("The app runs for up to 30 seconds, and nothing is seen.", about))


def _why_held(push: Push, device: Device) -> str:
    if not device.settings.background_refresh:
        return "Background App Refresh is off: several report that the push is held back."
    if device.settings.low_power:
        return "Low Power Mode is on: several report that the push is held back."
    if push.priority == "1":
        return "A push of priority 1 does not wake the device: it is held back."
    if len(device.background_pushes) >= BACKGROUND_PUSHES:
        return "The app has had the two or three background pushes an hour that Apple speaks of: it is held back."
    return ""


def _woken(device: Device, now: float, why: str) -> Verdict:
    pushes = device.background_pushes if device.foreground else (*device.background_pushes, now)
    return Verdict(Outcome.WOKEN, why, attrs.evolve(device, background_pushes=pushes))


# The other types.


def _call(push: Push, device: Device, now: float, until: float) -> Verdict:
    about = "Its alert is never shown." if push.aps.get("alert") is not None else ""
    if device.can(Capability.CALLS):
        return Verdict(Outcome.CALL, sentences("The app reports the call, and the call screen appears.", about), device)
    device = attrs.evolve(device, unreported_calls=device.unreported_calls + 1, foreground=False)
    why = "The app reports no call, so iOS ends it."
    if device.unreported_calls > 1:
        why = sentences(why, "After several times iOS launches it no more; Apple does not say after how many.")
    return Verdict(Outcome.APP_ENDED, sentences(why, about), device)


def _talk(push: Push, device: Device, now: float, until: float) -> Verdict:
    if not device.joined:
        return Verdict(Outcome.NOTHING, "The device is in no channel, and the token lives only in one.", device)
    about = ""
    if push.priority != "10" or push.headers.get("apns-expiration") != "0":
        about = "Apple asks for priority 10 and expiration 0."
    why = "The app says who speaks now, or leaves the channel."
    return Verdict(Outcome.WOKEN, sentences(why, about), device)


def _location(push: Push, device: Device, now: float, until: float) -> Verdict:
    if device.version < (15, 0):
        return Verdict(Outcome.NOTHING, "Location pushes exist from version 15 on.", device)
    if not device.can(Capability.LOCATION):
        return Verdict(Outcome.NOTHING, "The app lacks the extension or the entitlement for location pushes.", device)
    if not device.settings.location_always:
        return Verdict(Outcome.NOTHING, "The user does not allow the app to see the location always.", device)
    if len(device.location_pushes) >= LOCATION_PUSHES:
        why = f"There have been about {LOCATION_PUSHES} location pushes today: more do nothing for a while."
        return Verdict(Outcome.NOTHING, why, device)
    device = attrs.evolve(device, location_pushes=(*device.location_pushes, now))
    return Verdict(Outcome.WOKEN, "The app's extension runs and finds the location.", device)


def _file_provider(push: Push, device: Device, now: float, until: float) -> Verdict:
    if not isinstance((push.content or {}).get("container-identifier"), str):
        return Verdict(Outcome.NOTHING, "It does not say which container has changed.", device)
    return Verdict(Outcome.WOKEN, "The app's extension is told what has changed; too many are held back.", device)


def _complication(push: Push, device: Device, now: float, until: float) -> Verdict:
    why = "The app on the watch makes a new timeline. Apple has deprecated this since iOS 13."
    return Verdict(Outcome.RELOADED, why, device)


def _widgets(push: Push, device: Device, now: float, until: float) -> Verdict:
    if device.version < (26, 0):
        return Verdict(Outcome.NOTHING, "Widgets take pushes from version 26 on.", device)
    if push.aps.get("content-changed") is not True:
        return Verdict(Outcome.NOTHING, "Apple does not say what happens unless content-changed is true.", device)
    why = "All widgets of the app that take pushes are loaded anew, when the system finds it convenient."
    return Verdict(Outcome.RELOADED, why, device)


def _control(push: Push, device: Device, now: float, until: float) -> Verdict:
    if device.version < (18, 0):
        return Verdict(Outcome.NOTHING, "Controls take pushes from version 18 on.", device)
    return Verdict(Outcome.RELOADED, "The control is loaded anew.", device)


def _management(push: Push, device: Device, now: float, until: float) -> Verdict:
    content = push.content or {}
    if "mdm" not in content:
        return Verdict(Outcome.NOTHING, "The key mdm is missing.", device)
    about = "Only the key mdm is allowed; one report says that others are logged." if len(content) > 1 else ""
    return Verdict(Outcome.WOKEN, sentences("The device asks its management server for commands.", about), device)


def _pass(push: Push, device: Device, now: float, until: float) -> Verdict:
    about = "What is in the payload is ignored, several report." if push.content else ""
    return Verdict(Outcome.RELOADED, sentences("Wallet fetches the pass anew.", about), device)


#: What is done with the pushes of each kind.
WAKING: dict[str, Wake] = {
    "background": wake,
    "voip": _call,
    "pushtotalk": _talk,
    "location": _location,
    "fileprovider": _file_provider,
    "complication": _complication,
    "widgets": _widgets,
    "controls": _control,
    "mdm": _management,
    "pass": _pass,
}

_NO_PHONE = frozenset({Platform.MACOS, Platform.TVOS, Platform.WATCHOS})
#: The platforms that a kind of push does not exist on.
NOT_ON = {
    "complication": frozenset({Platform.IPADOS, Platform.MACOS, Platform.TVOS}),
    "liveactivity": _NO_PHONE,
    "pushtotalk": _NO_PHONE,
    "location": frozenset(Platform) - {Platform.IOS, Platform.IPADOS},
    "voip": frozenset({Platform.WATCHOS}),
    "mdm": frozenset({Platform.WATCHOS}),
    "fileprovider": frozenset({Platform.WATCHOS}),
}
