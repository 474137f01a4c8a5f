"""
The outcomes: each notification has exactly one of four, and a batch sorts them.

==============  =======================================================  =================================
outcome         meaning                                                  then
==============  =======================================================  =================================
*accepted*      APNs took it (which is not yet delivery)                 nothing
*failed*        APNs rejected it: a :class:`Rejection`                   fix or delete; never resend as is
*unsent*        it was not sent, or APNs provably did not process it     resend safely
*uncertain*     it was sent, and no answer came                          a resend may show it twice
==============  =======================================================  =================================
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

import attrs

from txapns import reasons
from txapns.errors import redact
from txapns.notification import Notification

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

__all__ = ["Accepted", "Batch", "Outcomes", "Rejection", "Resendable", "Uncertain", "Unsent"]


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
    APNs rejected one notification. Sent again unchanged, it would be rejected again, unless :attr:`action` says retry.

    :ivar identifier: the caller's own.
    :ivar token: the device token, as the caller gave it; ``""`` for a broadcast, whose identifier is its channel's.
    :ivar status: the HTTP status (400 and up), or the status byte of the binary protocol.
    :ivar reason: Apple's reason, such as ``"BadDeviceToken"``; unknown ones are passed on as they came.
    :ivar timestamp: with 410, since when the token is known to be dead (UTC); otherwise ``None``.
    :ivar apns_id: the notification's id at Apple; ``None`` over the binary protocol.
    :ivar retry_after: after how many seconds it may be sent again, if the server said so. Apple does not document this
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
        """What a sender should do about it."""
        return reasons.action(self.status, self.reason)

    @property
    def dead(self) -> bool:
        """Whether APNs says that the token is no longer in use: delete it, unless it registered again since."""
        return self.reason in (reasons.Reason.UNREGISTERED, reasons.Reason.EXPIRED_TOKEN)


@attrs.frozen
class Unsent:
    """
    This notification was not sent, or APNs provably did not process it. It is safe to resend.

    :ivar identifier: the caller's own.
    :ivar token: the device token, as the caller gave it.
    :ivar error: why it was not sent; fix a :class:`~txapns.errors.LocalError` before you resend.
    :ivar notification: what should have been sent.
    """

    identifier: Hashable
    token: str | bytes = attrs.field(repr=redact)
    error: Exception
    notification: Notification = attrs.field(repr=False)


@attrs.frozen
class Uncertain:
    """
    This notification was sent and no answer came: it may have been delivered, and a resend may duplicate it.

    :ivar identifier: the caller's own.
    :ivar token: the device token, as the caller gave it.
    :ivar error: what happened instead of an answer.
    :ivar notification: what was sent.
    """

    identifier: Hashable
    token: str | bytes = attrs.field(repr=redact)
    error: Exception
    notification: Notification = attrs.field(repr=False)


#: What identifies a notification, what it is, and the token: what ``send_many`` takes.
Resendable: TypeAlias = "tuple[Hashable, Notification, str | bytes]"


@attrs.frozen(eq=False)
class Outcomes:
    """
    The outcome of a whole batch, as far as it does not need the client: what the ``Batch`` of each kind of client has.

    It can be pickled, and :meth:`to_dict` makes it JSON; either has everything but the client.

    :ivar accepted: how many notifications APNs accepted.
    :ivar outcomes: the outcomes of all the others, in the order in which they became known. Two notifications with the
        same identifier count as two here and in everything below, except that the mappings show only the later one.
    :ivar unique_ids: the ``apns-unique-id`` of accepted notifications, by identifier; sandbox only.
    """

    accepted: int
    outcomes: Sequence[Rejection | Unsent | Uncertain] = attrs.field(repr=False)
    unique_ids: Mapping[Hashable, str] = attrs.field(factory=dict, repr=False)
    failed: Mapping[Hashable, Rejection] = attrs.field(init=False, repr=_size)
    unsent: Mapping[Hashable, Unsent] = attrs.field(init=False, repr=_size)
    uncertain: Mapping[Hashable, Uncertain] = attrs.field(init=False, repr=_size)

    @failed.default
    def _failed(self) -> Mapping[Hashable, Rejection]:
        """What APNs rejected, by identifier."""
        return {outcome.identifier: outcome for outcome in self.outcomes if isinstance(outcome, Rejection)}

    @unsent.default
    def _unsent(self) -> Mapping[Hashable, Unsent]:
        """What was not processed, by identifier."""
        return {outcome.identifier: outcome for outcome in self.outcomes if isinstance(outcome, Unsent)}

    @uncertain.default
    def _uncertain(self) -> Mapping[Hashable, Uncertain]:
        """What has no known outcome, by identifier."""
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
        time is ``None`` if APNs gave none.
        """
        rejections = [outcome for outcome in self.outcomes if isinstance(outcome, Rejection)]
        return [(rejection.token, rejection.timestamp) for rejection in rejections if rejection.dead]

    def resendable(self, uncertain: bool = False) -> list[Resendable]:
        """
        List what can be sent again: pass it to ``send_many`` of any client.

        :param uncertain: also what is uncertain, and accept that some may be shown twice.
        :returns: identifier, notification and token of each.
        """
        kinds = (Unsent, Uncertain) if uncertain else (Unsent,)
        again = (outcome for outcome in self.outcomes if isinstance(outcome, kinds))
        return [(outcome.identifier, outcome.notification, outcome.token) for outcome in again]


@attrs.frozen(eq=False)
class Batch(Outcomes):
    """The outcome of a whole batch that :class:`txapns.APNSClient` sent."""

    _resend: Callable[[list[Resendable]], Deferred[Batch]] = attrs.field(kw_only=True, repr=False)

    def retry(self, uncertain: bool = False) -> Deferred[Batch]:
        """
        Send what is unsent again, with the same client, notifications and identifiers.

        :param uncertain: also send what is uncertain again, and accept that some may be shown twice.
        :returns: a ``Deferred`` of the new batch.
        """
        return self._resend(self.resendable(uncertain))
