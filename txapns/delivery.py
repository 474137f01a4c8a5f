"""
One notification on its way to one device: the value that goes down to a connection and is settled there.

A :class:`Delivery` is made when a connection has room for it and dropped when its outcome is known, so there are
never more of them than are under way. Whoever holds one ends it by exactly one of four calls on its ``outcomes``.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import attrs

from txapns.errors import redact
from txapns.notification import Notification

if TYPE_CHECKING:
    from txapns.interfaces import IOutcomes

__all__ = ["MAX_REFUSALS", "Delivery"]

#: How often a notification is offered again after the peer refused it unprocessed, before it is reported unsent.
MAX_REFUSALS = 10


@attrs.define(eq=False)
class Delivery:
    """
    One notification for one device.

    :ivar outcomes: who is told the outcome.
    :ivar identifier: the caller's identifier.
    :ivar token: the device token as the caller gave it.
    :ivar device: the device token's octets.
    :ivar notification: what to send.
    :ivar refusals: how often a peer has refused it unprocessed.
    """

    outcomes: IOutcomes = attrs.field(repr=False)
    identifier: Hashable
    token: str | bytes = attrs.field(repr=redact)
    device: bytes = attrs.field(repr=redact)
    notification: Notification
    refusals: int = 0
