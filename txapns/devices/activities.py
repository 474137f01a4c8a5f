"""
Live Activities on a device.

::

                  stale date          8 hours, or end          4 hours, or dismissal date
    start ─► active ────────► stale ────────────────► ended ─────────────────────────────► dismissed
               ▲                │
               └──── update ────┘

An update leads back to active, and an end leads from either to ended. What comes after that is ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import attrs

from txapns.devices.alerts import sound_of
from txapns.devices.device import Capability, Device, Platform
from txapns.devices.limits import ACTIVITY_STARTS
from txapns.devices.presentation import Activity, ActivityState, Outcome, Presentation
from txapns.devices.push import Push
from txapns.devices.rules.alert import has_text
from txapns.devices.rules.rule import is_number
from txapns.devices.texts import texts_of
from txapns.devices.verdict import Change, Verdict, sentences

__all__ = ["ACTIVE_FOR", "SHOWN_FOR", "pass_time", "receive_activity"]

#: How long a Live Activity is active at most, and how long an ended one stays on the lock screen, in seconds.
ACTIVE_FOR, SHOWN_FOR = 8 * 3_600.0, 4 * 3_600.0
#: How many activities that are gone are remembered here.
MOST_GONE = 20
#: No date is as far away as this, in seconds or milliseconds.
FARTHEST = 10**15
#: An update of priority 10 this soon after another is too soon, in seconds.
TOO_SOON = 3.0


def receive_activity(push: Push, device: Device, now: float) -> Verdict:
    """
    Deliver a push for a Live Activity to a device that is online.

    :param push: the push.
    :param device: the device.
    :param now: the time, in UNIX seconds.
    :returns: the verdict.
    """
    hindrance = _hindrance(push, device, now)
    if hindrance:
        return _ignored(hindrance, device)
    if push.aps["event"] == "start":
        return _start(push, device, now)
    found = _addressed(push, device)
    if not found:
        what = "channel" if push.channel else "token"
        return _ignored(f"There is no Live Activity for this {what}.", device)
    step = _end if push.aps["event"] == "end" else _update
    verdict = step(push, device, found[0], now)
    for activity in found[1:]:  # several on one channel
        verdict = step(push, verdict.device, activity, now)
    return verdict


def pass_time(device: Device, now: float) -> Change:
    """
    Let Live Activities become stale, end and leave as time passes.

    :param device: the device.
    :param now: the time, in UNIX seconds.
    :returns: the device now, and what happened, in order.
    """
    verdicts: list[Verdict] = []
    while True:
        coming = min(
            ((when, each.number, each, step) for each in device.activities for when, step in _steps(each)),
            key=lambda each: each[:2],
            default=None,
        )
        if coming is None or coming[0] > now:
            return Change(device, tuple(verdicts))
        when, _, activity, (changed, outcome, why) = coming
        device = _with(device, activity, changed)
        presentation = Presentation(activity=changed, shown_at=when)
        verdicts.append(Verdict(outcome, why, device, presentation))


def _steps(activity: Activity) -> Iterator[tuple[float, tuple[Activity, Outcome, str]]]:
    """Yield what time alone does to an activity next: when, the activity afterwards, the outcome and why."""
    evolve = attrs.evolve
    if activity.state is ActivityState.ACTIVE and activity.stale_at is not None:
        why = "Its stale date has come: the app may show it in another way, and it stays."
        yield activity.stale_at, (evolve(activity, state=ActivityState.STALE), Outcome.ACTIVITY_STALE, why)
    if activity.is_running:
        ended = evolve(activity, state=ActivityState.ENDED, dismissed_at=activity.ends_at + SHOWN_FOR)
        why = "It has been active for eight hours: the system ends it, and leaves it on the lock screen for up to four."
        yield activity.ends_at, (ended, Outcome.ACTIVITY_ENDED, why)
    elif activity.state is ActivityState.ENDED and activity.dismissed_at is not None:
        gone = evolve(activity, state=ActivityState.DISMISSED)
        yield activity.dismissed_at, (gone, Outcome.ACTIVITY_DISMISSED, "It leaves the lock screen.")


# What keeps a push from having any effect.


def _ignored(why: str, device: Device) -> Verdict:
    return Verdict(Outcome.ACTIVITY_IGNORED, why, device)


def _hindrance(push: Push, device: Device, now: float) -> str:
    """Say why a push has no effect whatever it asks for; empty if it may have one."""
    aps = push.aps
    if not device.can(Capability.LIVE_ACTIVITIES):
        return "The app has no Live Activities."
    if device.platform in (Platform.IOS, Platform.IPADOS) and not device.runs(16, 1):
        return "Live Activities exist from iOS 16.1 on."
    if not device.settings.live_activities:
        return (
            "The user has switched off Live Activities of the app; Apple does not say what becomes of the push."
            " Assumed is: nothing."
        )
    if aps.get("event") not in ("start", "update", "end"):
        return "Apple does not say what happens if the event is not start, update or end; assumed is: nothing."
    timestamp = _date(push, "timestamp")
    if timestamp is None:
        return "It has no timestamp in UNIX seconds, which every push for a Live Activity needs."
    if timestamp > now + ACTIVE_FOR:
        return "Its timestamp is more than eight hours ahead; a report says that the device drops it then."
    return ""


def _content(push: Push, kind: str, device: Device) -> dict[str, Any] | None:
    """Return the content state if the app can decode it, as far as that is known."""
    content = push.aps.get("content-state")
    needed = (device.app.activities or {}).get(kind, frozenset())
    return content if isinstance(content, dict) and needed <= content.keys() else None


# The start.


def _start(push: Push, device: Device, now: float) -> Verdict:
    hindrance = _start_hindrance(push, device)
    if hindrance:
        return _ignored(hindrance, device)
    aps = push.aps
    number = max((each.number for each in device.activities), default=0) + 1
    stale_at = _date(push, "stale-date")
    stale = stale_at is not None and stale_at <= now
    channel = aps.get("input-push-channel")
    activity = Activity(
        number=number,
        kind=aps["attributes-type"],
        started=now,
        timestamp=aps["timestamp"],
        ends_at=now + ACTIVE_FOR,
        content=aps["content-state"],
        attributes=aps["attributes"],
        state=ActivityState.STALE if stale else ActivityState.ACTIVE,
        stale_at=stale_at,
        # Made up: the device tells only the app.
        token="" if channel else hashlib.sha256(f"{push.token}/{number}".encode()).hexdigest(),
        channel=channel if isinstance(channel, str) else "",
    )
    second = any(each.is_running and each.kind == activity.kind for each in device.activities)
    device = attrs.evolve(_with(device, None, activity), activity_starts=(*device.activity_starts, now))
    why = sentences(
        "It starts: the screen lights, and the app is woken and gets a token for updates.",
        "One of its type is there already; a report says that this one appears beside it." if second else "",
        "It is stale from the beginning; a report says that it may never be shown then." if stale else "",
        "The dismissal date has no effect here, several report." if "dismissal-date" in aps else "",
    )
    return Verdict(Outcome.ACTIVITY_STARTED, why, device, _card(push, device, activity, now))


def _start_hindrance(push: Push, device: Device) -> str:
    """Say why a start has no effect; empty if it has one."""
    aps = push.aps
    kind, content, channel = aps.get("attributes-type"), aps.get("content-state"), aps.get("input-push-channel")
    if push.channel:
        return "A broadcast cannot start a Live Activity."
    if not device.runs(17, 2):
        return "A push can start a Live Activity only from iOS and iPadOS 17.2 on."
    if device.token_outdated:
        return "The app has a newer token for starts; a report says that the device ignores the old one."
    given = {
        "an alert with text": has_text(push),
        "attributes": isinstance(aps.get("attributes"), dict),
        "an attributes-type": isinstance(kind, str) and bool(kind),
        "a content-state": isinstance(content, dict),
    }
    missing = [name for name, there in given.items() if not there]
    if missing:
        return (
            f"A start needs {', '.join(missing)}; several report that without it Apple answers 200 and nothing starts."
        )
    if device.app.activities is not None and kind not in device.app.activities:
        return f"The app has no attributes of the type {kind}."
    if _content(push, str(kind), device) is None:
        return "The app cannot decode the content-state."
    if channel is not None and not device.runs(18):
        return "A start can name a channel only from iOS 18 on."
    if len(device.activity_starts) >= ACTIVITY_STARTS:
        return f"There have been about {ACTIVITY_STARTS} starts in a short time: several report that more are not done."
    return ""


# Updates and the end.


def _addressed(push: Push, device: Device) -> list[Activity]:
    """
    Find the activities that a push is for: those of its channel, or that of its token. If the token belongs to none of
    them, it is not known which of its tokens a device was given, and the latest one is meant.
    """
    if push.channel:
        return [each for each in device.activities if each.channel == push.channel]
    own = [each for each in device.activities if each.token and each.token == push.token]
    running = [each for each in device.activities if each.is_running]
    return own or running[-1:] or list(device.activities[-1:])


def _update(push: Push, device: Device, activity: Activity, now: float) -> Verdict:
    aps = push.aps
    content = _content(push, activity.kind, device)
    if not activity.is_running:
        return _ignored("The Live Activity is over.", device)
    if aps["timestamp"] < activity.timestamp:
        return _ignored("What the device has is newer: its timestamp is greater.", device)
    if content is None:
        given = isinstance(aps.get("content-state"), dict)
        why = "The app cannot decode the content-state" if given else "It has no content-state"
        return _ignored(f"{why}: the update fails.", device)
    stale_at = _date(push, "stale-date")
    urgent = push.priority == "10"
    soon = urgent and bool(activity.urgent) and now - activity.urgent[-1] <= TOO_SOON
    changed = attrs.evolve(
        activity,
        content=content,
        timestamp=aps["timestamp"],
        stale_at=stale_at,
        state=ActivityState.STALE if stale_at is not None and stale_at <= now else ActivityState.ACTIVE,
        urgent=(*activity.urgent, now)[-100:] if urgent else activity.urgent,
    )
    device = _with(device, activity, changed)
    frequent = device.can(Capability.FREQUENT_UPDATES) and device.settings.frequent_updates
    why = sentences(
        "It is updated; the screen lights." if has_text(push) else "It is updated.",
        "A report says that an equal state is not drawn again." if content == activity.content else "",
        "The dismissal date has no effect here, several report." if "dismissal-date" in aps else "",
        "So many of priority 10 are held back; Apple does not say how many, and a report that one in three seconds is"
        " too many."
        if soon
        else "",
        "Frequent updates are switched off; Apple does not say what becomes of them." if soon and not frequent else "",
    )
    return Verdict(Outcome.ACTIVITY_UPDATED, why, device, _card(push, device, changed, now))


def _end(push: Push, device: Device, activity: Activity, now: float) -> Verdict:
    aps = push.aps
    if not activity.is_running:
        return _ignored("The Live Activity is over.", device)
    content, old = _content(push, activity.kind, device), aps["timestamp"] < activity.timestamp
    date, latest = _date(push, "dismissal-date"), now + SHOWN_FOR
    dismissed_at = latest if date is None else min(max(date, now), latest)
    gone = dismissed_at <= now
    changed = attrs.evolve(
        activity,
        content=activity.content if old or content is None else content,
        timestamp=max(activity.timestamp, aps["timestamp"]),
        state=ActivityState.DISMISSED if gone else ActivityState.ENDED,
        dismissed_at=dismissed_at,
    )
    if gone:
        stays = "and leaves the lock screen at once."
    elif date is None or date > latest:
        stays = "and stays on the lock screen for up to four hours."
    else:
        stays = "and stays on the lock screen until its dismissal date."
    why = sentences(
        f"It ends, {stays}", "A report says that an old timestamp does not matter for an end." if old else ""
    )
    device = _with(device, activity, changed)
    return Verdict(Outcome.ACTIVITY_ENDED, why, device, _card(push, device, changed, now))


def _date(push: Push, key: str) -> float | None:
    """Find a date that is near enough to be counted with."""
    date = push.aps.get(key)
    return date if is_number(date) and -FARTHEST < date < FARTHEST else None


def _card(push: Push, device: Device, activity: Activity, now: float) -> Presentation:
    texts = texts_of(push, device.app.strings)
    sound = None if device.settings.muted or not texts else sound_of(push, device)[0]
    return Presentation(
        identifier=push.headers.get("apns-id", ""),
        title=texts.title,
        subtitle=texts.subtitle,
        body=texts.body,
        sound=sound,
        shown_at=now,
        activity=activity,
    )


def _with(device: Device, old: Activity | None, new: Activity) -> Device:
    """Replace an activity, or add one; of those that are gone only the latest are remembered."""
    activities = [new if each is old else each for each in device.activities]
    if old is None:
        activities.append(new)
    gone = [each.number for each in activities if each.state is ActivityState.DISMISSED]
    forgotten = gone[:-MOST_GONE]
    return attrs.evolve(device, activities=tuple(each for each in activities if each.number not in forgotten))
