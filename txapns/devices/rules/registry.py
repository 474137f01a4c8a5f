"""All rules, and what they find in a push."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import islice
from types import MappingProxyType, ModuleType

from txapns.devices.answers import Credential
from txapns.devices.device import Device
from txapns.devices.findings import Finding
from txapns.devices.push import Push
from txapns.devices.rules import activity, alert, app, background, delivery, keys, kinds, request, running
from txapns.devices.rules.rule import KINDS, Rule, kind_of

__all__ = ["RULES", "lint"]


def _rules_of(*modules: ModuleType) -> dict[str, Rule]:
    return {each.code: each for module in modules for each in vars(module).values() if isinstance(each, Rule)}


#: Every rule by its code.
RULES: Mapping[str, Rule] = MappingProxyType(
    _rules_of(request, keys, alert, app, background, kinds, activity, running, delivery)
)


#: How many places a rule may find in one push.
MOST_PLACES = 10


@cache
def _rules_for(kind: str, known: frozenset[str]) -> tuple[Rule, ...]:
    """Find the rules for a kind of push, one of :data:`KINDS` or empty for all others, of which the facts are known."""
    return tuple(
        rule for rule in RULES.values() if known.issuperset(rule.needs) and (not rule.types or kind in rule.types)
    )


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
    :returns: the findings, in the order of the rules; none if nothing is wrong.
    """
    facts = {"device": device, "credential": credential, "environment": environment, "now": now}
    known = frozenset([name for name, fact in facts.items() if fact is not None])
    kind = kind_of(push)
    return [
        rule.finding(place)
        for rule in _rules_for(kind if kind in KINDS else "", known)
        for place in islice(rule.check(push, *[facts[name] for name in rule.needs]), MOST_PLACES)
    ]
