"""
One notification on its way to one device: the value that goes down to a connection and is settled there.

A :class:`Delivery` is made when a connection has room for it and dropped when its outcome is known, so there are
never more of them than are under way. Whoever holds one ends it by exactly one of four calls on its ``outcomes``.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

import attrs
from zope.interface import Attribute, Interface

from txapns.errors import redact
from txapns.result import Rejection

__all__ = ["Delivery", "DeliveryListener", "RequestTemplate"]


class RequestTemplate(Protocol):
    """
    What goes out, the same for every device: a notification, as a rule. The sessions of the provider API need no more
    of it than this, so that a broadcast, or a question about channels, can travel by the same way.
    """

    @property
    def method(self) -> bytes:
        """The request's method."""

    @property
    def path(self) -> bytes:
        """The request's path, but for the device token that follows it."""

    @property
    def body(self) -> bytes:
        """The request's body; empty for none."""

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Give the header fields."""


class DeliveryListener(Interface):
    """
    Whoever learns what became of a delivery. Each delivery is settled by one call, once.

    These must not raise: many are told in one go, and those after would never learn.
    """

    ended = Attribute("Why nothing more is to be sent for it: an ``APNSError``, or ``None`` while there is no reason.")

    def accepted(delivery: Delivery, headers: Sequence[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """
        APNs took it.

        :param delivery: the delivery.
        :param headers: the answer's header fields; empty over the binary protocol.
        :param body: the answer's body: what was asked for, where that was it. It may be cut off.
        """

    def rejected(delivery: Delivery, rejection: Rejection) -> None:
        """
        APNs rejected it, and it is not sent again.

        :param delivery: the delivery.
        :param rejection: what APNs said.
        """

    def unsent(delivery: Delivery, error: Exception) -> None:
        """
        APNs did not process it, for certain.

        :param delivery: the delivery.
        :param error: why.
        """

    def uncertain(delivery: Delivery, error: Exception) -> None:
        """
        It went out, and no answer will come.

        :param delivery: the delivery.
        :param error: why.
        """


@attrs.define(eq=False)
class Delivery:
    """
    One notification for one device.

    :ivar outcomes: who is told the outcome.
    :ivar identifier: the caller's identifier.
    :ivar token: the device token as the caller gave it.
    :ivar device: the device token's octets; none for what is for no device.
    :ivar notification: what to send: a :class:`~txapns.Notification`, but for what is sent to, or asked of, a channel.
    :ivar refusals: how often a peer has refused it unprocessed.
    :ivar postponements: how often it was put off, since APNs asked for patience.
    :ivar taken_at: when it was first handed to a connection, by the reactor's clock; -1 where
        nobody measures it.
    """

    outcomes: DeliveryListener = attrs.field(repr=False)
    identifier: Hashable
    token: str | bytes = attrs.field(repr=redact)
    device: bytes = attrs.field(repr=redact)
    notification: RequestTemplate
    refusals: int = 0
    postponements: int = 0
    taken_at: float = attrs.field(default=-1.0, repr=False)
