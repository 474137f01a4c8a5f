"""
What Apple's servers answer to a push.

What they refuse it for is in :mod:`txapns.devices.rules.request`, in the order of the checks. What needs a connection
is checked elsewhere: whether the request is one, and whether its provider is who it claims to be.
"""

from __future__ import annotations

from txapns.devices.credential import Credential
from txapns.devices.device import Device
from txapns.devices.push import Push
from txapns.devices.rules.refusal import ACCEPTED, Answer, Attempt, first_answer
from txapns.devices.rules.request import REFUSALS

__all__ = ["answer"]


def answer(push: Push, device: Device, credential: Credential | None = None, environment: str | None = None) -> Answer:
    """
    Find Apple's answer to a push to a device.

    :param push: the push.
    :param device: the device that its token leads to; one that is like any other if the token is not known.
    :param credential: the credential; ``None`` for one that is for every topic.
    :param environment: where it was sent, ``"production"`` or ``"sandbox"``; ``None`` for where the token is valid.
    :returns: the answer.
    """
    return first_answer(REFUSALS, Attempt(push, device, credential, environment)) or ACCEPTED
