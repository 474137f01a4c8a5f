"""What became of a push, and why."""

from __future__ import annotations

import attrs

from txapns.devices.device import Device
from txapns.devices.findings import Finding
from txapns.devices.presentation import Outcome, Presentation
from txapns.devices.push import Push
from txapns.devices.rules.refusal import ACCEPTED, Answer

__all__ = ["Change", "Verdict", "sentences"]


@attrs.frozen
class Verdict:
    """
    What became of a push.

    :ivar outcome: what the device did, or the first thing that kept it from doing so.
    :ivar why: why, in plain sentences. They say where Apple says nothing, and where only users report something.
    :ivar device: the device afterwards.
    :ivar presentation: what is seen and heard; ``None`` for nothing.
    :ivar answer: what Apple answered to the sender.
    :ivar findings: what is wrong, or odd, with the push.
    :ivar push: the push; ``None`` for what only time did.
    """

    outcome: Outcome
    why: str
    device: Device = attrs.field(repr=False)
    presentation: Presentation | None = None
    answer: Answer = ACCEPTED
    findings: tuple[Finding, ...] = ()
    push: Push | None = None


@attrs.frozen
class Change:
    """
    What became of a device.

    :ivar device: the device afterwards.
    :ivar verdicts: what happened on the way, in order; often nothing. The devices in them are those of that moment.
    """

    device: Device
    verdicts: tuple[Verdict, ...] = ()


def sentences(*parts: str) -> str:
    """Join sentences, some of which may be empty."""
    return " ".join(filter(None, parts))
