"""
What a device does with an alert.

The questions are asked in the order in which the device seems to ask them: may the app notify at all, is it open, does
a Focus keep the notification back, where is it shown, what does it sound like.
"""

from __future__ import annotations

from typing import Any

import attrs

from txapns.devices.device import Capability, Device, Permission, Platform, Previews
from txapns.devices.presentation import Level, Outcome, Presentation
from txapns.devices.push import Push
from txapns.devices.rules.rule import is_number, is_one
from txapns.devices.texts import Texts, texts_of
from txapns.devices.verdict import Verdict, sentences

__all__ = ["show", "sound_of"]

#: How many notifications are kept in Notification Center here; the oldest ones leave.
MOST_SHOWN = 100
#: Sounds as long as this are replaced by the default one, in seconds.
LONGEST_SOUND = 30
_PRIORITIES = {
    "5": "With priority 5 it may come later, together with others.",
    "1": "With priority 1 it may come later, together with others, and it does not wake the device.",
}
_FORMATS = (".aif", ".aiff", ".wav", ".caf")


def show(push: Push, device: Device, now: float) -> Verdict:
    """
    Deliver an alert to a device that is online.

    :param push: the push.
    :param device: the device.
    :param now: the time, in UNIX seconds.
    :returns: the verdict; whether the app is woken too is not in it.
    """
    texts = texts_of(push, device.app.strings)
    if not texts and push.aps.get("badge") is None and push.aps.get("sound") is None:
        empty = push.aps.get("alert") is not None
        why = "An alert without any text is not shown." if empty else "There is no alert, no badge and no sound in it."
        if device.foreground:
            why = sentences(why, "One report says that an open app gets it.")
        return Verdict(Outcome.NOTHING, why, device)
    if device.platform is Platform.TVOS:
        return _badge_only(push, device, "On tvOS only a badge has an effect.")
    permission = device.settings.permission
    if permission in (Permission.NOT_ASKED, Permission.DENIED):
        asked = "has not been asked for" if permission is Permission.NOT_ASKED else "has denied"
        why = f"The user {asked} permission for notifications: it is delivered, and nothing is seen or heard."
        return Verdict(Outcome.NOTHING, why, device)
    presentation, notes = _presented(push, device, texts, now)
    if permission is Permission.PROVISIONAL:
        why = "The user has only tried the app's notifications so far (provisional permission): they come quietly."
        quiet = attrs.evolve(presentation, badge=None, sound=None)
        return _listed(device, quiet, sentences(why, *notes))
    if device.foreground:
        return _in_open_app(device, presentation, notes)
    return _on_screen(push, device, presentation, notes)


def sound_of(push: Push, device: Device) -> tuple[str | None, str]:
    """
    Find the sound that plays if the device is not muted.

    :param push: the push.
    :param device: the device.
    :returns: the sound as in a presentation, and a sentence, which may be empty.
    """
    sound = push.aps.get("sound")
    if isinstance(sound, dict):
        sound = sound.get("name", "default")
    if sound is None:
        return None, "It has no sound, so it does not vibrate either." if push.aps.get("alert") is not None else ""
    if not isinstance(sound, str) or not sound:
        return None, "Apple does not say what a sound does that is no text, or an empty one; assumed is: nothing."
    if not device.settings.sounds:
        return None, "The user has switched off the app's sounds."
    if sound == "default":
        return sound, ""
    if "." not in sound:
        return "default", f"The default sound plays: a report says that {sound} needs its extension."
    if not sound.lower().endswith(_FORMATS):
        return "default", f"The default sound plays: {sound} is not an aiff, wav or caf file."
    sounds = device.app.sounds
    if sounds is not None and sound not in sounds:
        return "default", f"The default sound plays: the app has no file {sound}."
    if sounds is not None and sounds[sound] >= LONGEST_SOUND:
        return "default", f"The default sound plays: {sound} takes {LONGEST_SOUND} seconds or more."
    return sound, ""


# What it would look like.


def _presented(push: Push, device: Device, texts: Texts, now: float) -> tuple[Presentation, list[str]]:
    """Find what it would look like if nothing kept it back, and notes on that."""
    badge, about_badge = _badge_of(push, device)
    sound, about_sound = sound_of(push, device)
    level, about_level = _level_of(push, device)
    if level is not Level.CRITICAL and device.settings.muted and sound is not None:
        sound, about_sound = None, "The device is muted."
    if level is Level.PASSIVE and sound is not None:
        sound, about_sound = None, "A passive notification makes no sound."
    thread, category = push.aps.get("thread-id"), push.aps.get("category")
    identifier = push.headers.get("apns-collapse-id") or push.headers.get("apns-id", "")
    replaces = identifier if identifier and any(each.identifier == identifier for each in device.shown) else ""
    buttons, about_buttons = _buttons_of(category, device)
    presentation = Presentation(
        identifier=identifier,
        title=texts.title,
        subtitle=texts.subtitle,
        body=texts.body,
        hidden=_hides(device),
        thread=thread if isinstance(thread, str) else "",
        badge=badge,
        sound=sound,
        level=level,
        category=category if isinstance(category, str) else "",
        buttons=buttons,
        replaces=replaces,
        shown_at=now,
    )
    about_replaced = (
        "It replaces the one with the same collapse ID; one report says that there is no second sound on the lock"
        " screen."
    )
    notes = [
        *texts.notes,
        about_level,
        about_sound,
        about_badge,
        about_buttons,
        about_replaced if replaces else "",
        "The user hides its text." if presentation.hidden and texts else "",
        _about_extension(push, device, texts),
        _about_title(texts),
        _PRIORITIES.get(push.priority, ""),
        "The user has switched off grouping." if presentation.thread and not device.settings.grouped else "",
    ]
    return presentation, notes


def _about_title(texts: Texts) -> str:
    if texts.title and not texts.body:
        return "Apple does not say whether a title is shown without a body; reports differ."
    return ""


def _about_extension(push: Push, device: Device, texts: Texts) -> str:
    if not is_one(push.aps.get("mutable-content")):
        return ""
    if not texts:
        return "The app's extension does not run: there is no text."
    if not device.can(Capability.EXTENSION):
        return "The app has no extension that could change it."
    hides = " or hide" if device.can(Capability.FILTERING) else ""
    return f"The app's extension has about 30 seconds to change{hides} it first."


def _hides(device: Device) -> bool:
    previews = device.settings.previews
    return previews is Previews.NEVER or (previews is Previews.WHEN_UNLOCKED and device.locked)


def _badge_of(push: Push, device: Device) -> tuple[int | None, str]:
    badge = push.aps.get("badge")
    if badge is None:
        return None, f"The badge stays at {device.badge}." if device.badge else ""
    if not is_number(badge):
        return None, "Several report that a badge which is not a number is ignored."
    if badge < 0 or not (isinstance(badge, int) or badge.is_integer()):
        return None, "Apple does not say what a badge like this does; assumed is: nothing."
    if not device.settings.badges:
        return None, "The user has switched off the app's badge."
    return int(badge), ""


def _buttons_of(category: Any, device: Device) -> tuple[bool | None, str]:
    if not isinstance(category, str) or not category:
        return False, ""
    if device.app.categories is None:
        return None, ""
    if category not in device.app.categories:
        return False, f"Several report that there are no buttons where the app has not registered {category}."
    return True, ""


def _level_of(push: Push, device: Device) -> tuple[Level | None, str]:
    """Find the level in force."""
    asked, sound = push.aps.get("interruption-level", "active"), push.aps.get("sound")
    critical = asked == "critical" or (isinstance(sound, dict) and is_one(sound.get("critical")))
    old = device.platform in (Platform.IOS, Platform.IPADOS) and not device.runs(15)
    if critical:
        if device.can(Capability.CRITICAL_ALERTS) and device.settings.critical:
            return Level.CRITICAL, ""
        why = (
            "Apple does not say what a critical alert does without Apple's approval and the user's; assumed is: as any"
            " other."
        )
        return None if old else Level.ACTIVE, why
    if old:
        return None, ""
    if asked == "time-sensitive":
        if device.can(Capability.TIME_SENSITIVE) and device.settings.time_sensitive:
            return Level.TIME_SENSITIVE, ""
        return (
            Level.ACTIVE,
            "A report says that without leave it acts as any other.",
        )
    if asked in ("passive", "active"):
        return Level(asked), ""
    return Level.ACTIVE, "Apple does not say what an unknown interruption level does; assumed is: active."


# Where it is shown.


def _in_open_app(device: Device, presentation: Presentation, notes: list[str]) -> Verdict:
    if not device.app.has_delegate:
        why = (
            "The app is open and has no delegate for notifications. Apple says that it is shown as in a closed app;"
            " several report that nothing is."
        )
        return Verdict(Outcome.NOTHING, why, device)
    options = device.app.foreground
    if not options:
        missing = "has no method that says what to present" if options is None else "presents nothing"
        return Verdict(Outcome.NOTHING, f"The app is open, and its delegate {missing}.", device)
    presentation = attrs.evolve(
        presentation,
        sound=presentation.sound if "sound" in options else None,
        badge=presentation.badge if "badge" in options else None,
    )
    why = sentences("The app is open, and its delegate decides what is presented.", *notes)
    if "banner" in options:
        return _shown(device, presentation, why, Outcome.BANNER, keeps="list" in options)
    if "list" in options:
        return _listed(device, presentation, why)
    if presentation.sound is not None:
        return _shown(device, presentation, why, Outcome.BANNER, keeps=False)
    outcome = Outcome.NOTHING if presentation.badge is None else Outcome.BADGE
    return _shown(device, presentation, why, outcome, keeps=False)


def _on_screen(push: Push, device: Device, presentation: Presentation, notes: list[str]) -> Verdict:
    settings, level = device.settings, presentation.level
    criteria = push.aps.get("filter-criteria")
    if settings.focus_criteria is not None and isinstance(criteria, str) and criteria not in settings.focus_criteria:
        why = "The filter that the app has for this Focus does not let it through now."
        return Verdict(Outcome.NOTHING, why, device)
    if settings.focus_criteria is None and criteria is not None:
        notes = [
            *notes,
            "Apple does not say what filter-criteria do where no Focus filter is set; assumed is: nothing.",
        ]
    if not (presentation.title or presentation.subtitle or presentation.body):
        return _without_text(device, presentation, notes)
    urgent = level in (Level.TIME_SENSITIVE, Level.CRITICAL)
    quiet = ""
    if level is Level.PASSIVE:
        quiet = "A passive notification does not light the screen."
    elif settings.focus and not urgent:
        quiet = "A Focus is on that does not allow the app: only what is time-sensitive or critical breaks through."
    elif settings.summary and not urgent:
        quiet = "It waits for the scheduled summary."
    if quiet:
        return _listed(device, attrs.evolve(presentation, sound=None), sentences(quiet, *notes))
    if settings.lock_screen if device.locked else settings.banners:
        where = "on the lock screen" if device.locked else "as a banner"
        return _shown(device, presentation, sentences(f"It is shown {where}.", *notes), Outcome.BANNER)
    place = "on the lock screen" if device.locked else "as banners"
    return _listed(device, presentation, sentences(f"The user wants no notifications of the app {place}.", *notes))


def _without_text(device: Device, presentation: Presentation, notes: list[str]) -> Verdict:
    if presentation.sound is not None and not (device.settings.focus and presentation.level is not Level.CRITICAL):
        why = sentences("It makes a sound, and there is no text to show.", *notes)
        return _shown(device, presentation, why, Outcome.BANNER, keeps=False)
    presentation = attrs.evolve(presentation, sound=None)
    outcome = Outcome.NOTHING if presentation.badge is None else Outcome.BADGE
    why = "There is no text to show." if presentation.badge is None else "It only changes the badge."
    return _shown(device, presentation, sentences(why, *notes), outcome, keeps=False)


def _badge_only(push: Push, device: Device, why: str) -> Verdict:
    badge, about = _badge_of(push, device)
    if badge is None:
        return Verdict(Outcome.NOTHING, sentences(why, about), device)
    return _shown(device, Presentation(badge=badge), sentences(why, about), Outcome.BADGE, keeps=False)


def _listed(device: Device, presentation: Presentation, why: str) -> Verdict:
    if not (presentation.title or presentation.subtitle or presentation.body):
        return _without_text(device, attrs.evolve(presentation, sound=None), [why])
    if not device.settings.notification_center:
        outcome = Outcome.NOTHING if presentation.badge is None else Outcome.BADGE
        why = sentences(why, "The user does not keep it in Notification Center either.")
        return _shown(device, attrs.evolve(presentation, sound=None), why, outcome, keeps=False)
    return _shown(device, presentation, sentences(why, "It is in Notification Center."), Outcome.LIST)


def _shown(device: Device, presentation: Presentation, why: str, outcome: Outcome, *, keeps: bool = True) -> Verdict:
    """Make the verdict, and the device that remembers the notification."""
    shown = device.shown
    if keeps and device.settings.notification_center:
        others = [each for each in shown if not each.identifier or each.identifier != presentation.identifier]
        shown = (*others, presentation)[-MOST_SHOWN:]
    badge = device.badge if presentation.badge is None else presentation.badge
    device = attrs.evolve(device, shown=shown, badge=badge)
    return Verdict(outcome, why, device, None if outcome is Outcome.NOTHING else presentation)
