"""
Asking a gateway whether it accepts a credential for a topic and a push type, without a device.

Each request is for a device token of 64 hexadecimal digits made up at random, so it reaches nobody: that one of 2**256
tokens belongs to a device has no chance that counts. And it would show nothing: it is a background push without
content, ``{"aps": {"content-available": 1}}``, with priority 5, which is not stored.

Apple looks at the credential before the token, so ``BadDeviceToken`` is the best answer there is: only the token is
wrong. In which order it looks at topic and token is not documented; real gateways have been seen to refuse the topic.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from txapns import reasons
from txapns.client import APNSClient
from txapns.credentials import Certificate, Credential
from txapns.devices.push import SUFFIXES
from txapns.doctor.findings import Finding, Level
from txapns.doctor.inspection import push_types_of
from txapns.errors import CredentialRefused
from txapns.gateway import Gateway
from txapns.notification import Notification
from txapns.reasons import Reason
from txapns.result import Rejection

__all__ = ["Answer", "Probe", "ask", "judged", "meaning", "probes_for"]

PAYLOAD = {"aps": {"content-available": 1}}


@attrs.frozen
class Probe:
    """
    What to ask.

    :ivar app: the topic without the suffix of the push type.
    :ivar topic: the topic.
    """

    app: str
    topic: str
    push_type: str


@attrs.frozen
class Answer:
    """
    What a gateway answered.

    :ivar gateway: who answered.
    :ivar status: the HTTP status; 0 if there is none.
    :ivar reason: Apple's reason; empty if the made-up token was accepted, or there was no answer.
    :ivar error: why there was no answer.
    """

    gateway: str
    probe: Probe
    status: int = 0
    reason: str = ""
    error: str = ""


_ENVIRONMENT = (
    "the credential is for the other environment",
    "use the gateway of that environment, or the credential of this one",
)
_BUSY = "the gateway is busy or restarting", "ask again in 15 minutes"
_MEANINGS: dict[str, tuple[Level, str, str]] = {
    Reason.BAD_DEVICE_TOKEN: (
        Level.GOOD,
        "credential and topic are good: only the made-up token is refused, as it should be",
        "",
    ),
    Reason.UNREGISTERED: (Level.GOOD, "credential and topic are good: only the made-up token is refused", ""),
    Reason.TOPIC_DISALLOWED: (
        Level.FAULT,
        "the credential may not push to this topic",
        "compare the topic with the app's bundle ID, its team, and the topics that the key or certificate is for",
    ),
    Reason.BAD_TOPIC: (
        Level.FAULT,
        "the topic is malformed, does not fit the push type, or is not listed in the certificate",
        "correct --topic, or use a certificate or key for this topic",
    ),
    Reason.INVALID_PROVIDER_TOKEN: (
        Level.FAULT,
        "key, key ID and team ID do not belong together, the key was revoked, or it is not for this topic",
        "compare all three with the developer account, and see there whether the key still exists",
    ),
    Reason.EXPIRED_PROVIDER_TOKEN: (
        Level.FAULT,
        "the gateway takes our provider token for more than an hour old: this machine's clock is slow",
        "set the clock (NTP)",
    ),
    Reason.BAD_ENVIRONMENT_KEY_IN_TOKEN: (Level.FAULT, *_ENVIRONMENT),
    Reason.BAD_ENVIRONMENT_KEY_ID_IN_TOKEN: (Level.FAULT, *_ENVIRONMENT),
    Reason.BAD_CERTIFICATE_ENVIRONMENT: (Level.FAULT, *_ENVIRONMENT),
    Reason.BAD_CERTIFICATE: (
        Level.FAULT,
        "the certificate is not accepted: it was revoked, or is not one for push notifications",
        "make a new one in the developer account",
    ),
    Reason.MISSING_PROVIDER_TOKEN: (
        Level.FAULT,
        "neither certificate nor provider token arrived: something on the way opened TLS",
        "look at who signed the gateway's certificate",
    ),
    Reason.TOO_MANY_PROVIDER_TOKEN_UPDATES: (
        Level.UNKNOWN,
        "somebody signs new provider tokens for this team more often than every 20 minutes",
        "let all programs share one token; ask again in 20 minutes",
    ),
    Reason.TOO_MANY_REQUESTS: (Level.UNKNOWN, *_BUSY),
    Reason.INTERNAL_SERVER_ERROR: (Level.UNKNOWN, *_BUSY),
    Reason.SERVICE_UNAVAILABLE: (Level.UNKNOWN, *_BUSY),
    Reason.SHUTDOWN: (Level.UNKNOWN, *_BUSY),
}
_OTHER_ENVIRONMENT = {reason for reason, (_, *words) in _MEANINGS.items() if tuple(words) == _ENVIRONMENT}


def probes_for(credential: Credential, topics: Sequence[str], push_types: Sequence[str]) -> list[Probe]:
    """
    List what to ask.

    :param topics: bundle IDs, or topics with the suffix of a push type; empty for those of the certificate.
    :param push_types: the push types; empty for all that each topic may be for.
    """
    own = credential.topics if isinstance(credential, Certificate) else ()
    found = []
    for topic in topics or own:
        apt = push_types_of(topic)
        if push_types:
            apt = tuple(push_types)
        elif not own and len(apt) > 1:
            apt = (*apt, *SUFFIXES)  # a key may be for any
        for push_type in apt:
            suffix = SUFFIXES.get(push_type, "")
            app = topic.removesuffix(suffix)
            found.append(Probe(app, app + suffix, push_type))
    return list(dict.fromkeys(found))


async def ask(
    reactor: Any, credential: Credential, gateway: Gateway, probes: Sequence[Probe], timeout: float
) -> list[Answer]:
    """
    Ask a gateway.

    :param timeout: how long connecting and each answer may take, and all of them together, in seconds.
    :returns: an answer for each.
    """
    client = APNSClient(reactor, credential, gateway, timeout=timeout, retries=1)

    def triples() -> Iterator[tuple[int, Notification, str]]:
        for number, probe in enumerate(probes):
            fields: dict[str, Any] = {"topic": probe.topic, "push_type": probe.push_type}
            yield number, Notification(payload=PAYLOAD, priority=5, expiration=0, **fields), secrets.token_hex(32)

    try:
        batch = await client.send_many(triples(), deadline=timeout)
    finally:
        await client.close()
    others = {outcome.identifier: outcome for outcome in batch.outcomes}
    return [_answer(str(gateway), probe, others.get(number)) for number, probe in enumerate(probes)]


def _answer(gateway: str, probe: Probe, outcome: Any) -> Answer:
    if outcome is None:
        return Answer(gateway, probe, 200)
    if isinstance(outcome, Rejection):
        return Answer(gateway, probe, outcome.status, outcome.reason)
    reason = outcome.error.reason if isinstance(outcome.error, CredentialRefused) else ""
    return Answer(gateway, probe, 0, reason, str(outcome.error))


def meaning(answer: Answer) -> tuple[Level, str, str]:
    """
    Say what an answer means.

    :returns: how much it matters, what it is in plain words, and what to do.
    """
    if answer.reason in _MEANINGS:
        return _MEANINGS[answer.reason]
    if answer.error:
        return Level.FAULT, answer.error, ""
    if answer.status == 200:
        return Level.GOOD, "accepted, although the token is made up: this is a simulator, and not Apple", ""
    return Level.FAULT, reasons.text(answer.status, answer.reason), ""


def judged(answers: Iterable[Answer], *, any_gateway: bool, any_push_type: bool) -> list[Finding]:
    """
    Judge all answers together, and put those that are alike into one finding.

    :param any_gateway: whether it is enough that the credential is for one environment, since nobody named one.
    :param any_push_type: whether it is enough that one push type of each app works, since nobody named any.
    """
    answers = list(answers)
    good = [each for each in answers if meaning(each)[0] is Level.GOOD]
    apps = {(each.gateway, each.probe.app) for each in good}
    groups: dict[tuple[str, str, str, Level, str, str], list[str]] = {}
    for each in answers:
        level, said, advice = meaning(each)
        elsewhere = any_gateway and bool(good) and each.reason in _OTHER_ENVIRONMENT
        in_part = any_push_type and (each.gateway, each.probe.app) in apps and each.status == 400
        if level is Level.FAULT and (elsewhere or in_part):
            level = Level.NOTE
        key = (each.gateway, each.probe.app, each.reason, level, said, advice)
        groups.setdefault(key, []).append(each.probe.push_type)
    return [_finding(*key, push_types) for key, push_types in groups.items()]


def _finding(
    gateway: str, app: str, reason: str, level: Level, said: str, advice: str, push_types: list[str]
) -> Finding:
    return Finding(
        check="push",
        gateway=gateway,
        level=level,
        message=f"{app}, {', '.join(push_types)}: {f'{reason}: ' if reason else ''}{said}",
        advice=advice,
        details={"topic": app, "push_types": push_types, "reason": reason or None},
    )
