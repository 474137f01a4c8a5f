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

from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import attrs

from txapns import reasons
from txapns.errors import redact
from txapns.notification import Notification

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

__all__ = ["Accepted", "Batch", "Rejection", "Uncertain", "Unsent"]


def _size(found: Mapping[Hashable, object]) -> str:
    return str(len(found))


@attrs.frozen
class Accepted:
    """
    APNs accepted one notification for delivery.

    :ivar identifier: the caller's own.
    :ivar token: the device token, as the caller gave it; ``""`` for a broadcast, whose identifier is its channel's.
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
    :ivar token: the device token, as the caller gave it; ``""`` for a broadcast, whose identifier is its channel's.
    :ivar status: the HTTP status (400 and up), or the status byte of the binary protocol.
    :ivar reason: Apple's word for it, such as ``"BadDeviceToken"``; unknown ones are passed on as they came.
    :ivar timestamp: with 410, since when the token is known to be dead (UTC); otherwise ``None``.
    :ivar apns_id: the notification's id at Apple; ``None`` over the binary protocol.
    :ivar retry_after: after how many seconds it may be sent again, where the gateway told. Apple documents no such
        field.
    """

    identifier: Hashable
    token: str | bytes = attrs.field(repr=redact)
    status: int
    reason: str
    timestamp: datetime | None = None
    apns_id: str | None = None
    retry_after: float | None = None

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
    The outcome of a whole batch.

    :ivar accepted: how many notifications APNs accepted.
    :ivar outcomes: what became of all the others, in the order in which it became known. Here, and in all that is
        counted or listed below, two notifications under one identifier are two; the mappings show the later.
    :ivar unique_ids: ``apns-unique-id`` of those that were accepted, by identifier; sandbox only.
    """

    accepted: int
    outcomes: Sequence[Rejection | Unsent | Uncertain] = attrs.field(repr=False)
    _resend: Callable[[list[Unsent | Uncertain]], Deferred[Batch]] = attrs.field(repr=False)
    unique_ids: Mapping[Hashable, str] = attrs.field(factory=dict, repr=False)
    failed: Mapping[Hashable, Rejection] = attrs.field(init=False, repr=_size)
    unsent: Mapping[Hashable, Unsent] = attrs.field(init=False, repr=_size)
    uncertain: Mapping[Hashable, Uncertain] = attrs.field(init=False, repr=_size)

    @failed.default
    def _failed(self) -> Mapping[Hashable, Rejection]:
        """What APNs refused, by identifier."""
        return {outcome.identifier: outcome for outcome in self.outcomes if isinstance(outcome, Rejection)}

    @unsent.default
    def _unsent(self) -> Mapping[Hashable, Unsent]:
        """What APNs was never asked about, by identifier."""
        return {outcome.identifier: outcome for outcome in self.outcomes if isinstance(outcome, Unsent)}

    @uncertain.default
    def _uncertain(self) -> Mapping[Hashable, Uncertain]:
        """What nobody can tell, by identifier."""
        return {outcome.identifier: outcome for outcome in self.outcomes if isinstance(outcome, Uncertain)}

    @property
    def total(self) -> int:
        """How many notifications the batch had."""
        return self.accepted + len(self.outcomes)

    @property
    def dead_tokens(self) -> list[tuple[str | bytes, datetime | None]]:
        """
        The tokens to delete from the database, each with the time since when it is dead.

        Only ``Unregistered`` and ``ExpiredToken`` say so. Keep a token that registered again after that time. The
        time is ``None`` where APNs gave none.
        """
        rejections = [outcome for outcome in self.outcomes if isinstance(outcome, Rejection)]
        return [(rejection.token, rejection.timestamp) for rejection in rejections if rejection.dead]

    def retry(self, uncertain: bool = False) -> Deferred[Batch]:
        """
        Send again what is unsent, with the same client, notifications and identifiers.

        :param uncertain: send again what is uncertain, too, and accept that some may be shown twice.
        :returns: a ``Deferred`` of the new batch.
        """
        kinds = (Unsent, Uncertain) if uncertain else (Unsent,)
        return self._resend([outcome for outcome in self.outcomes if isinstance(outcome, kinds)])
