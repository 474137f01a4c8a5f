"""All rules, and what they find in a push."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import islice
from types import MappingProxyType, ModuleType

from txapns.devices.credential import Credential
from txapns.devices.device import Device
from txapns.devices.findings import Finding
from txapns.devices.push import Push
from txapns.devices.rules import (
    activity,
    alert,
    app,
    background,
    broadcast,
    delivery,
    fields,
    keys,
    kinds,
    request,
    running,
)
from txapns.devices.rules.refusal import Attempt, Refusal
from txapns.devices.rules.rule import KINDS, Rule, kind_of

__all__ = ["RULES", "lint"]


def _rules_of(*modules: ModuleType) -> dict[str, Rule]:
    return {each.code: each for module in modules for each in vars(module).values() if isinstance(each, Rule)}


#: Every rule by its code.
RULES: Mapping[str, Rule] = MappingProxyType(
    _rules_of(request, broadcast, fields, keys, alert, app, background, kinds, activity, running, delivery)
)

#: How many places a rule may find in one push.
MOST_PLACES = 10
_ANY_DEVICE = Device()


@cache
def _refusals_for(is_broadcast: bool, known: frozenset[str]) -> tuple[Refusal, ...]:
    """Find what a push is refused for, as far as it can be told from the facts that are known."""
    refusals = (
        (*broadcast.OF_FIELDS, *broadcast.OF_PRIORITY, *broadcast.OF_PAYLOAD) if is_broadcast else request.REFUSALS
    )
    return tuple(each for each in refusals if known.issuperset(each.needs))


@cache
def _rules_for(kind: str, known: frozenset[str]) -> tuple[Rule, ...]:
    """Find the other rules for a kind of push, one of :data:`KINDS` or empty for all others; likewise."""
    rules = [each for each in RULES.values() if not isinstance(each, Refusal) and known.issuperset(each.needs)]
    return tuple(rule for rule in rules if not rule.types or kind in rule.types)


def lint(
    push: Push,
    device: Device | None = None,
    credential: Credential | None = None,
    environment: str | None = None,
    *,
    now: float | None = None,
) -> list[Finding]:
    """
    Find what is wrong with a push.

    :param push: the push; any header fields and any bytes will do.
    :param device: the device that it is for. Without one, only what the push shows by itself is found.
    :param credential: the credential that it is sent with; ``None`` if it is not known.
    :param environment: where it is sent, ``"production"`` or ``"sandbox"``; ``None`` if that is not known.
    :param now: the time, in UNIX seconds. Without it, no date is compared with the present.
    :returns: the findings, in the order of the rules; none if nothing is wrong. Those for which Apple refuses the push
        come first, and the first of these is why.
    """
    if credential is None and "authorization" in push.headers:
        credential = Credential()
    token = push.token if push.token or ":path" in push.headers else None  # a payload alone has neither
    facts = {"device": device, "credential": credential, "environment": environment, "now": now, "token": token}
    known = frozenset([name for name, fact in facts.items() if fact is not None])
    attempt = Attempt(push, device or _ANY_DEVICE, credential, environment)
    findings = [
        refusal.finding(place)
        for refusal in _refusals_for(bool(push.channel), known)
        if (place := refusal.check(attempt)) is not None
    ]
    kind = kind_of(push)
    for rule in _rules_for(kind if kind in KINDS else "", known):
        findings += [
            rule.finding(place)
            for place in islice(rule.check(push, *[facts[name] for name in rule.needs]), MOST_PLACES)
        ]
    return findings
