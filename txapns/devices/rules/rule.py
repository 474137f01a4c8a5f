"""
What a rule is, and the little that all of them share.

A rule is a function with its facts. The function yields where in the push it applies, and nothing where it does not::

    @rule("BADGE_TYPE", Severity.WARNING, "A badge must be a number, not {value}.", GENERATING, types=ALERT)
    def _badge_type(push: Push) -> Places:
        if "badge" in push.aps and not is_number(push.aps["badge"]):
            yield Place("aps.badge", shown(push.aps["badge"]))

Values in JSON have strict types: ``true`` is not 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import attrs

from txapns.devices.device import Device, Platform
from txapns.devices.findings import Finding, Grade, Severity
from txapns.devices.push import SUFFIXES, Push

__all__ = [
    "CREDENTIAL",
    "DEVICE",
    "ENVIRONMENT",
    "KINDS",
    "NOW",
    "TOKEN",
    "Place",
    "Places",
    "Rule",
    "is_flag",
    "is_number",
    "is_older",
    "is_one",
    "joined",
    "kind_of",
    "rule",
    "shown",
    "suffix_of",
]

#: The kinds of push that rules are for: Apple's push types, and the pushes of Wallet passes, which have none of their
#: own.
KINDS = ("alert", "background", "mdm", *SUFFIXES, "pass")
#: What a rule may need.
DEVICE, CREDENTIAL, ENVIRONMENT, NOW, TOKEN = ("device",), ("credential",), ("environment",), ("now",), ("token",)
#: How much of a value is shown, in characters.
_LONGEST = 40


class Place(NamedTuple):
    """
    Where a rule applies.

    :ivar path: as in a finding.
    :ivar value: what the message says about it, for its ``{value}``.
    :ivar since: if a token is dead, since when, in UNIX seconds.
    """

    path: str
    value: str = ""
    since: float | None = None


#: What the function of a rule returns.
Places: TypeAlias = Iterator[Place]


@attrs.frozen
class Rule:
    """
    A rule.

    :ivar code: its name.
    :ivar severity: what follows where it applies.
    :ivar message: a sentence for people, in which ``{value}`` stands for what was found.
    :ivar source: the title of a page of Apple's, or the name of a report.
    :ivar grade: how well the fact is known.
    :ivar types: the kinds of push that it is for; empty for all.
    :ivar needs: what it looks at besides the push, as names of arguments of :func:`~txapns.devices.rules.lint`; it is
        left out where one of them is not known.
    :ivar check: the function, which takes the push and what the rule needs; that of a refusal is another, see
        :mod:`txapns.devices.rules.refusal`.
    """

    code: str
    severity: Severity
    message: str
    source: str
    grade: Grade
    types: tuple[str, ...]
    needs: tuple[str, ...]
    check: Callable[..., Any] = attrs.field(repr=False)

    def finding(self, place: Place) -> Finding:
        """Make a finding of a place where the rule applies."""
        message = self.message.replace("{value}", place.value)
        return Finding(self.code, self.severity, message, place.path, self.grade, self.source)


def rule(
    code: str,
    severity: Severity,
    message: str,
    source: str,
    grade: Grade = Grade.DOCUMENTED,
    types: tuple[str, ...] = (),
    needs: tuple[str, ...] = (),
) -> Callable[[Callable[..., Places]], Rule]:
    """Make a rule of a function; the arguments are the fields of :class:`Rule`."""
    return lambda check: Rule(code, severity, message, source, grade, types, needs, check)


def kind_of(push: Push) -> str:
    """
    Tell which rules are for a push.

    :param push: the push. Without a push type the topic tells its kind, or else the payload.
    :returns: one of :data:`KINDS`, or an unknown push type as it was sent.
    """
    if push.channel:
        return "liveactivity"  # broadcasts are for nothing else, and Apple spells their type in several ways
    if push.topic.startswith("pass.") and push.push_type in ("", "alert", "background"):
        return "pass"
    return push.push_type or suffix_of(push.topic) or _guess(push)


def suffix_of(topic: str) -> str:
    """Tell the push type that the suffix of a topic belongs to; returns an empty text if it has none."""
    return next((kind for kind, suffix in SUFFIXES.items() if topic.endswith(suffix)), "")


def _guess(push: Push) -> str:
    content, aps = push.content or {}, push.aps
    if "mdm" in content:
        return "mdm"
    if not aps.keys().isdisjoint(("event", "content-state", "attributes-type")):
        return "liveactivity"
    if "content-changed" in aps:
        return "widgets"
    if "container-identifier" in content and not aps:
        return "fileprovider"
    visible = not aps.keys().isdisjoint(("alert", "badge", "sound"))
    return "background" if "content-available" in aps and not visible else "alert"


def is_number(value: object) -> TypeGuard[int | float]:
    """Tell whether a value is a number in JSON, which ``true`` is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_one(value: object) -> bool:
    """Tell whether a value is the number 1."""
    return is_number(value) and value == 1


def is_flag(value: object) -> bool:
    """Tell whether a value is 1 or 0: several libraries send a 0 for what others leave out."""
    return is_number(value) and value in (0, 1)


def is_older(device: Device, major: int, minor: int = 0) -> bool:
    """Tell whether a device runs a version of iOS or iPadOS before this one; other systems count differently."""
    return device.platform in (Platform.IOS, Platform.IPADOS) and device.version < (major, minor)


def shown(value: Any) -> str:
    """Write a value as JSON for a message, shortened, and with what cannot be printed as escapes."""
    try:
        text = json.dumps(value, ensure_ascii=False) if not isinstance(value, dict | list) else _outline(value)
    except ValueError:  # an integer with too many digits
        text = "a very long number"
    text = "".join([character if character.isprintable() else ascii(character)[1:-1] for character in text[:200]])
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def joined(path: str, key: str) -> str:
    """Make the path of a key from the path of its object and the key; what cannot be printed is escaped."""
    key = key if key.isprintable() and len(key) <= _LONGEST else shown(key)
    return f"{path}.{key}" if path else key


def _outline(value: dict[str, Any] | list[Any]) -> str:
    return "an object" if isinstance(value, dict) else "an array"
