"""
What became of a notification: exactly one of four outcomes, and the batch that sorts them.

==============  =======================================================  =================================
outcome         meaning                                                  then
==============  =======================================================  =================================
*accepted*      APNs took it (which is not yet delivery)                 nothing
*failed*        APNs refused it: a :class:`Rejection`                    mend or delete; never resend as is
*unsent*        APNs was never asked, or provably did not process it     resend safely
*uncertain*     it left, and the connection died without an answer       a resend may show it twice
==============  =======================================================  =================================
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import attrs

from txapns import reasons
from txapns.errors import redact
from txapns.notification import Notification

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

__all__ = ["Accepted", "Batch", "Rejection", "Uncertain", "Unsent"]


@attrs.frozen
class Accepted:
    """
    APNs accepted one notification for delivery.

    :ivar identifier: the caller's own.
    :ivar token: the device token, as the caller gave it.
    :ivar apns_id: the notification's id at Apple, as given or as Apple chose it; ``None`` over the binary protocol.
    :ivar unique_id: ``apns-unique-id``, the key for the delivery log of the developer console; sandbox only.
    """

    identifier: Hashable
    token: str | bytes = attrs.field(repr=redact)
    apns_id: str | None = None
    unique_id: str | None = None


@attrs.frozen
class Rejection:
    """
    APNs refused one notification. Sent again unchanged it would be refused again, unless :attr:`action` says retry.

    :ivar identifier: the caller's own.
    :ivar token: the device token, as the caller gave it.
    :ivar status: the HTTP status (400 and up), or the status byte of the binary protocol.
    :ivar reason: Apple's word for it, such as ``"BadDeviceToken"``; unknown ones are passed on as they came.
    :ivar timestamp: with 410, since when the token is known to be dead (UTC); otherwise ``None``.
    :ivar apns_id: the notification's id at Apple; ``None`` over the binary protocol.
    """

    identifier: Hashable
    token: str | bytes = attrs.field(repr=redact)
    status: int
    reason: str
    timestamp: datetime | None = None
    apns_id: str | None = None

    @property
    def action(self) -> reasons.Action:
        """What a sender does about it."""
        return reasons.action(self.status, self.reason)

    @property
    def dead(self) -> bool:
        """Whether APNs says that the token is no longer in use: delete it, unless it registered again since."""
        return self.reason in (reasons.Reason.UNREGISTERED, reasons.Reason.EXPIRED_TOKEN)


@attrs.frozen
class Unsent:
    """
    APNs was never asked about this notification, or provably did not process it. It is safe to resend.

    :ivar identifier: the caller's own.
    :ivar token: the device token, as the caller gave it.
    :ivar error: why it was not asked; a :class:`~txapns.errors.LocalError` has to be mended first.
    :ivar notification: what was to be sent.
    """

    identifier: Hashable
    token: str | bytes = attrs.field(repr=redact)
    error: Exception
    notification: Notification = attrs.field(repr=False)


@attrs.frozen
class Uncertain:
    """
    This notification went out and no answer came: it may have been delivered, and a resend may duplicate it.

    :ivar identifier: the caller's own.
    :ivar token: the device token, as the caller gave it.
    :ivar error: what happened instead of an answer.
    :ivar notification: what was sent.
    """

    identifier: Hashable
    token: str | bytes = attrs.field(repr=redact)
    error: Exception
    notification: Notification = attrs.field(repr=False)


@attrs.frozen(eq=False)
class Batch:
    """
    The outcome of a whole batch: ``accepted`` and the lengths of the other three add up to what was given.

    Identifiers are expected to be unique within a batch.

    :ivar accepted: how many notifications APNs accepted.
    :ivar failed: what APNs refused, by identifier.
    :ivar unsent: what APNs was never asked about, by identifier.
    :ivar uncertain: what nobody can tell, by identifier.
    """

    accepted: int
    failed: Mapping[Hashable, Rejection] = attrs.field(repr=lambda found: str(len(found)))
    unsent: Mapping[Hashable, Unsent] = attrs.field(repr=lambda found: str(len(found)))
    uncertain: Mapping[Hashable, Uncertain] = attrs.field(repr=lambda found: str(len(found)))
    _resend: Callable[[list[Unsent | Uncertain]], Deferred[Batch]] = attrs.field(repr=False)

    @property
    def total(self) -> int:
        """How many notifications the batch had."""
        return self.accepted + len(self.failed) + len(self.unsent) + len(self.uncertain)

    @property
    def dead_tokens(self) -> list[tuple[str | bytes, datetime | None]]:
        """
        The tokens to delete from the database, each with the time since when it is dead.

        Only ``Unregistered`` and ``ExpiredToken`` say so. Keep a token that registered again after that time. The
        time is ``None`` where APNs gave none.
        """
        return [(rejection.token, rejection.timestamp) for rejection in self.failed.values() if rejection.dead]

    def retry(self, uncertain: bool = False) -> Deferred[Batch]:
        """
        Send again what is unsent, with the same client, notifications and identifiers.

        :param uncertain: send again what is uncertain, too, and accept that some may be shown twice.
        :returns: a ``Deferred`` of the new batch.
        """
        again: list[Unsent | Uncertain] = [*self.unsent.values()]
        if uncertain:
            again.extend(self.uncertain.values())
        return self._resend(again)
