"""
One notification on its way to one device.

A :class:`Delivery` is made when a connection has room for it and dropped when its outcome is known, so there are never
more of them than are in flight. It is settled by exactly one of the four calls on its ``outcomes``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, TypeAlias

import attrs
from zope.interface import Attribute, Interface

from txapns.errors import redact
from txapns.result import Rejection

__all__ = ["Delivery", "DeliveryListener", "Own", "RequestTemplate"]

#: Returns what is a device's own, given its identifier: the ``apns-id`` and the payload.
Own: TypeAlias = Callable[[Any], tuple[str, bytes]]


class RequestTemplate(Protocol):
    """
    What is sent, and is the same for every device: a notification, as a rule. The provider API needs no more of it
    than this, so a broadcast, or a request about channels, can travel the same way.
    """

    @property
    def method(self) -> bytes:
        """The request's method."""

    @property
    def path(self) -> bytes:
        """The request's path, without the device token that follows it."""

    @property
    def body(self) -> bytes:
        """The request's body; empty for none."""

    def headers(self, topic: str | None = None) -> tuple[tuple[bytes, bytes], ...]:
        """
        Return the header fields.

        :param topic: the topic of a notification that has none.
        """


class DeliveryListener(Interface):
    """
    Receives the outcomes of deliveries. Each delivery is settled by one call, once.

    These methods must not raise: many deliveries are settled in one go, and those after would not be.
    """

    ended = Attribute("Why nothing more should be sent for it: an ``APNSError``; ``None`` while it is wanted.")

    def accepted(delivery: Delivery, headers: Sequence[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """
        APNs accepted it.

        :param delivery: the delivery.
        :param headers: the answer's header fields; empty over the binary protocol.
        :param body: the answer's body, for requests that ask for one. It may be truncated.
        """

    def rejected(delivery: Delivery, rejection: Rejection) -> None:
        """
        APNs rejected it, and it is not sent again.

        :param delivery: the delivery.
        :param rejection: what APNs said.
        """

    def unsent(delivery: Delivery, error: Exception) -> None:
        """
        APNs provably did not process it.

        :param delivery: the delivery.
        :param error: why.
        """

    def uncertain(delivery: Delivery, error: Exception) -> None:
        """
        It was sent, and no answer will come.

        :param delivery: the delivery.
        :param error: why.
        """


@attrs.define(eq=False)
class Delivery:
    """
    One notification for one device.

    :ivar outcomes: receives the outcome.
    :ivar identifier: the caller's identifier.
    :ivar token: the device token as the caller gave it.
    :ivar device: the device token's bytes; empty for a request that is not for a device.
    :ivar notification: what to send: a :class:`~txapns.Notification`, or a request to or about a channel.
    :ivar body: its payload, or that of this device, if each has its own; empty for none.
    :ivar returns: how often a server has returned it unprocessed.
    :ivar postponements: how often it was rejected and sent again later.
    :ivar taken_at: when it was first handed to a connection, by the reactor's clock; -1 unless that is measured.
    :ivar apns_id: the ``apns-id``, if the notification has none; the binary protocol has no place for it.
    """

    outcomes: DeliveryListener = attrs.field(repr=False)
    identifier: Hashable
    token: str | bytes = attrs.field(repr=redact)
    device: bytes = attrs.field(repr=redact)
    notification: RequestTemplate
    body: bytes = attrs.field(repr=False)
    returns: int = 0
    postponements: int = 0
    taken_at: float = attrs.field(default=-1.0, repr=False)
    apns_id: str | None = None
