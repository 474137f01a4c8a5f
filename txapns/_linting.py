"""What is wrong with a notification, before it is sent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from txapns.channels import broadcast_request
from txapns.credentials import Certificate

if TYPE_CHECKING:
    from txapns.credentials import Credential
    from txapns.delivery import RequestTemplate
    from txapns.devices import Device, Finding
    from txapns.notification import Notification

__all__ = ["lint", "lint_with"]

_ANY_APP = "app"  # no rule looks at the app of a broadcast


def lint(
    notification: Notification, *, topic: str | None = None, device: Device | None = None, now: float | None = None
) -> list[Finding]:
    """
    Find what is wrong with a notification: what Apple would reject, and what a device would ignore or change.

    It never keeps anything from being sent. Apple is the judge, and knows keys that this version does not. The codes
    and their sources are listed in ``docs/findings.rst``.

    :param notification: the notification.
    :param topic: its topic if it has none: the default of the client that would send it.
    :param device: a device that it is for, a :class:`txapns.devices.Device`. Without one, only what the notification
        shows by itself is found.
    :param now: the time, in UNIX seconds; ``None`` for the present.
    :returns: a :class:`txapns.devices.Finding` for each fault; an empty list if there is none.
    """
    # Imported here, since most programs only send.
    from txapns.devices import Push
    from txapns.devices.rules import lint as lint_push

    headers = _headers(notification)
    if topic is not None:
        headers.setdefault("apns-topic", topic)
    return lint_push(Push(headers, notification.body), device, now=time.time() if now is None else now)


def lint_with(
    notification: Notification, credential: Credential | None, now: float, channel: str = ""
) -> list[Finding]:
    """
    Find what is wrong with a notification, with regard to the credential.

    :param notification: the notification, with a topic if the client that would send it has one.
    :param credential: what it would be sent with; ``None`` if that is not known.
    :param now: the time, in UNIX seconds.
    :param channel: the channel that it would be broadcast to; empty for a device.
    """
    from txapns import devices

    headers = _headers(broadcast_request(notification, channel, _ANY_APP) if channel else notification)
    known = None
    if isinstance(credential, Certificate):
        known = devices.Credential(credential.topics, is_certificate=True, listed=credential.needs_topic)
        if credential.topics:
            headers.setdefault("apns-topic", credential.topics[0])  # from there APNs or the client takes it
    elif credential is not None:
        known = devices.Credential()  # for which topics it is, only Apple knows
    push = devices.Push(headers, notification.body, channel=channel)
    return devices.lint(push, credential=known, now=now)


def _headers(notification: RequestTemplate) -> dict[str, str]:
    # One character stands for one octet, as in what a server receives.
    return {name.decode(): value.decode("latin-1") for name, value in notification.headers()}
