"""
A device that gets pushes: what it does with each, what waits for it, and what time does.

The device is a value, and so is what comes out: a program that keeps one device hands each verdict's device to the next
call.
"""

from __future__ import annotations

import attrs

from txapns.devices import activities
from txapns.devices.alerts import show
from txapns.devices.answers import answer
from txapns.devices.credential import Credential
from txapns.devices.device import Device, Permission, Stored
from txapns.devices.findings import Finding
from txapns.devices.presentation import Outcome
from txapns.devices.push import Push
from txapns.devices.rules.refusal import Answer, Refusal
from txapns.devices.rules.registry import RULES, lint
from txapns.devices.rules.rule import kind_of
from txapns.devices.verdict import Change, Verdict, sentences
from txapns.devices.waking import NOT_ON, WAKING, may_wake
from txapns.reasons import text

__all__ = ["LONGEST_STORED", "come_online", "open_app", "pass_time", "receive"]

#: How long Apple keeps a push for a device that is offline, in seconds.
LONGEST_STORED = 30 * 24 * 3_600.0
_LATEST_ONLY = (
    " The one that waited is thrown away: Apple says that it keeps only the latest one for an app. Elsewhere it says"
    " that it keeps several."
)
_HOUR, _DAY = 3_600.0, 24 * 3_600.0


def receive(
    push: Push,
    device: Device,
    now: float,
    *,
    credential: Credential | None = None,
    environment: str | None = None,
    answered: Answer | None = None,
) -> Verdict:
    """
    Find out what becomes of a push.

    :param push: the push.
    :param device: the device that it is for.
    :param now: the time, in UNIX seconds.
    :param credential: the sender's credential; ``None`` for one that is for every topic.
    :param environment: where it was sent, ``"production"`` or ``"sandbox"``; ``None`` for where the token is valid.
    :param answered: what Apple answered, where that is known; a broadcast needs it, or is taken for accepted.
    :returns: the verdict.
    """
    device = pass_time(device, now).device
    if answered is None:
        answered = Answer(200) if push.channel else answer(push, device, credential, environment)
    findings = tuple(lint(push, device, credential, environment, now=now))
    if answered.is_success:
        verdict = _accepted(push, device, now)
    else:
        verdict = Verdict(Outcome.REFUSED, _refused(answered, findings), device)
    return attrs.evolve(verdict, answer=answered, findings=findings, push=push)


def _refused(answered: Answer, findings: tuple[Finding, ...]) -> str:
    """Say why Apple refuses a push: what was found with this reason, or else what the reason means."""
    why = f"Apple refuses it with {answered.status} {answered.reason}."
    for finding in findings:
        rule = RULES[finding.code]
        if isinstance(rule, Refusal) and rule.answer.reason == answered.reason:
            return sentences(why, finding.message)
    return sentences(why, text(answered.status, answered.reason))


def come_online(device: Device, now: float) -> Change:
    """
    Bring a device online, and deliver what waited for it. Apple does not promise the order.

    :param device: the device.
    :param now: the time, in UNIX seconds.
    :returns: the device, and the verdicts on what waited or had expired.
    """
    change = pass_time(device, now)
    verdicts = list(change.verdicts)
    stored, device = change.device.stored, attrs.evolve(change.device, online=True, stored=())
    for each in stored:
        verdict = _deliver(each.push, device, now, each.until)
        findings = tuple(lint(each.push, device, now=now))
        device = verdict.device
        verdicts.append(attrs.evolve(verdict, push=each.push, findings=findings))
    return Change(device, tuple(verdicts))


def open_app(device: Device, now: float) -> Change:
    """
    Open the app. It gets the background push that was held back, and may run in the background again.

    :param device: the device.
    :param now: the time, in UNIX seconds.
    :returns: the device, and the verdicts.
    """
    change = pass_time(device, now)
    held, device = change.device.held, attrs.evolve(change.device, force_quit=False, foreground=True, held=None)
    if held is None:
        return Change(device, change.verdicts)
    why = "The app is opened, and gets the background push that was held back."
    return Change(device, (*change.verdicts, Verdict(Outcome.WOKEN, why, device, push=held.push)))


def pass_time(device: Device, now: float) -> Change:
    """
    Let time pass: Live Activities become stale, end and leave, and what waits expires.

    :param device: the device.
    :param now: the time, in UNIX seconds.
    :returns: the device now, and what happened.
    """
    change = activities.pass_time(device, now) if device.activities else Change(device)
    device, verdicts = change.device, list(change.verdicts)
    expired = [each for each in device.stored if each.until <= now]
    if expired:
        device = attrs.evolve(device, stored=tuple(each for each in device.stored if each.until > now))
        why = "It expired before the device came online."
        verdicts += [Verdict(Outcome.DISCARDED, why, device, push=each.push) for each in expired]
    if device.held is not None and device.held.until <= now:
        push, device = device.held.push, attrs.evolve(device, held=None)
        verdicts.append(Verdict(Outcome.DISCARDED, "It expired before the app could run.", device, push=push))
    return Change(_forgetful(device, now), tuple(verdicts))


def _forgetful(device: Device, now: float) -> Device:
    """Forget what counts for an hour, or for a day."""
    if not (device.background_pushes or device.location_pushes or device.activity_starts):
        return device
    return attrs.evolve(
        device,
        background_pushes=tuple(each for each in device.background_pushes if each > now - _HOUR),
        location_pushes=tuple(each for each in device.location_pushes if each > now - _DAY),
        activity_starts=tuple(each for each in device.activity_starts if each > now - _HOUR),
    )


# From Apple to the device.


def _accepted(push: Push, device: Device, now: float) -> Verdict:
    kind = kind_of(push)
    if kind in ("alert", "background"):
        disabled = _disabled(device)
        if disabled:
            return Verdict(Outcome.DISCARDED, disabled, device)
    until = _expiration(push, now)
    return _deliver(push, device, now, until) if device.online else _store(push, device, now, until)


def _disabled(device: Device) -> str:
    settings = device.settings
    if not settings.enabled:
        return "The user has switched off the app's notifications: Apple accepts it, and throws it away."
    if not settings.alert_styles and settings.permission is Permission.AUTHORIZED:
        return "All styles of alerts are switched off: several report that even silent pushes are thrown away then."
    return ""


def _expiration(push: Push, now: float) -> float:
    """Find when a push expires if it has to wait, in UNIX seconds."""
    given, latest = push.headers.get("apns-expiration", ""), now + LONGEST_STORED
    if not (given.isascii() and given.isdigit()):
        return latest
    digits = given.lstrip("0") or "0"
    return latest if len(digits) > 15 else min(float(digits), latest)


def _store(push: Push, device: Device, now: float, until: float) -> Verdict:
    """Keep a push for a device that is offline."""
    if until == 0:
        why = (
            "The device is offline, and with expiration 0 Apple tries only once. A report says that it may still come."
        )
        return Verdict(Outcome.DISCARDED, why, device)
    if until <= now:
        return Verdict(Outcome.DISCARDED, "The device is offline, and the push has expired already.", device)
    stored = tuple(each for each in device.stored if device.keeps_all and not _replaces(push, each.push))
    why = "The device is offline: Apple keeps it, for 30 days at most or until it expires."
    if len(stored) < len(device.stored):
        why += " It replaces the one with the same collapse ID." if device.keeps_all else _LATEST_ONLY
    return Verdict(Outcome.STORED, why, attrs.evolve(device, stored=(*stored, Stored(push, now, until))))


def _replaces(push: Push, other: Push) -> bool:
    collapse_id = push.headers.get("apns-collapse-id")
    return bool(collapse_id) and collapse_id == other.headers.get("apns-collapse-id")


def _deliver(push: Push, device: Device, now: float, until: float) -> Verdict:
    """Deliver a push to a device that is online."""
    kind = kind_of(push)
    if device.platform in NOT_ON.get(kind, ()):
        why = f"Apple says that there are no pushes of the type {kind} on {device.platform.value}."
        return Verdict(Outcome.NOTHING, why, device)
    if kind == "liveactivity":
        verdict = activities.receive_activity(push, device, now)
    elif kind in WAKING:
        # On the device its expiration counts no more if it has passed already.
        verdict = WAKING[kind](push, device, now, until if until > now else now + LONGEST_STORED)
    elif kind == "alert":
        verdict = show(push, device, now)
        verdict = _woken_too(push, verdict) if "content-available" in push.aps else verdict
    else:
        return Verdict(Outcome.NOTHING, "Nothing is known of pushes of this type.", device)
    if push.push_type or push.channel or kind == "pass":
        return verdict
    about = "Without a push type it may as well come late, or never."
    return attrs.evolve(verdict, why=sentences(verdict.why, about))


def _woken_too(push: Push, verdict: Verdict) -> Verdict:
    """Wake the app for an alert that asks for it."""
    hindrance = may_wake(push, verdict.device)
    if hindrance:
        return attrs.evolve(verdict, why=sentences(verdict.why, hindrance))
    outcome = Outcome.WOKEN if verdict.outcome is Outcome.NOTHING else verdict.outcome
    about = "The app is woken by content-available; Apple does not say how often it may be."
    return attrs.evolve(verdict, outcome=outcome, why=sentences(verdict.why, about))
