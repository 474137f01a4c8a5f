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

As values that JSON can hold (:meth:`Outcomes.to_dict`) they are::

    {"accepted": 2,
     "outcomes": [{"outcome": "failed", "identifier": "dora", "token": "dddd…", "status": 410, "reason": "Unregistered",
                   "timestamp": "2026-11-24T09:30:00+00:00", "apns_id": "…"},
                  {"outcome": "unsent", "identifier": "emil", "token": "eeee…", "notification": 0,
                   "error": ["ClientClosed", "the client is closed"]}],
     "notifications": [{"payload": "…", "topic": "com.example.app"}],
     "unique_ids": [["ann", "…"]]}

What many unsent notifications share is there once, and what is ``None`` is not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import attrs

from txapns import errors, reasons
from txapns.errors import APNSError, LocalError, redact
from txapns.notification import Notification

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from typing_extensions import Self

__all__ = ["Accepted", "Batch", "Outcomes", "Rejection", "Resendable", "Uncertain", "Unsent", "without_client"]


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


def _given(identifier: object) -> object:
    return identifier


def without_client(again: object) -> NoReturn:
    """
    Stand in for the client of a batch that was pickled, or converted to a dictionary.

    :raises LocalError: always.
    """
    raise LocalError("this batch came without its client: pass batch.resendable() to client.send_many()")


#: What identifies a notification, what it is, and the token: what ``send_many`` takes.
Resendable: TypeAlias = "tuple[Hashable, Notification, str | bytes]"


@attrs.frozen(eq=False)
class Outcomes:
    """
    The outcome of a whole batch, as far as it does not need the client: what the ``Batch`` of each kind of client has.

    It can be pickled, and :meth:`to_dict` converts it for JSON. The copy has all but the client, so its ``retry``
    raises :exc:`~txapns.errors.LocalError`; pass :meth:`resendable` to ``send_many``.

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

    def to_dict(self, identifier: Callable[[Any], object] = _given) -> dict[str, Any]:
        """
        Convert to values that JSON can hold, for a task queue's result or a log.

        Tokens are in hexadecimal, and whole: device tokens do not belong into every log.

        :param identifier: converts an identifier, for those that JSON cannot hold, such as ``str`` for a ``UUID``. By
            default text, numbers, booleans, ``None`` and tuples of these are taken as they are.
        :returns: a dictionary, as shown above.
        :raises TypeError: JSON cannot hold an identifier.
        """
        notifications: dict[int, tuple[int, Notification]] = {}
        values: dict[str, Any] = {
            "accepted": self.accepted,
            "outcomes": [_to_dict(outcome, identifier, notifications) for outcome in self.outcomes],
            "notifications": [notification.to_dict() for _, notification in notifications.values()],
            "unique_ids": [[_to_json(identifier(each)), unique] for each, unique in self.unique_ids.items()],
        }
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """
        Make a batch from the result of :meth:`to_dict`. A token that was raw bytes is hexadecimal text now.

        :param values: the dictionary.
        :returns: the batch, without its client.
        :raises ValueError: it is not such a dictionary.
        """
        try:
            notifications = [Notification.from_dict(each) for each in values["notifications"]]
            outcomes = [_from_dict(each, notifications) for each in values["outcomes"]]
            unique_ids = {_from_json(each): unique for each, unique in values["unique_ids"]}
            return cls(int(values["accepted"]), outcomes, unique_ids)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"this is not a batch's to_dict(): {type(error).__name__}: {error}") from None

    def __reduce__(self) -> tuple[type[Outcomes], tuple[object, ...]]:
        return type(self), (self.accepted, self.outcomes, self.unique_ids)


@attrs.frozen(eq=False)
class Batch(Outcomes):
    """The outcome of a whole batch that :class:`txapns.APNSClient` sent."""

    _resend: Callable[[list[Resendable]], Deferred[Batch]] = attrs.field(
        default=without_client, kw_only=True, repr=False
    )

    def retry(self, uncertain: bool = False) -> Deferred[Batch]:
        """
        Send what is unsent again, with the same client, notifications and identifiers.

        :param uncertain: also send what is uncertain again, and accept that some may be shown twice.
        :returns: a ``Deferred`` of the new batch.
        """
        return self._resend(self.resendable(uncertain))


# To JSON, and back.

#: The names of the outcomes that are not accepted.
_KINDS: dict[type, str] = {Rejection: "failed", Unsent: "unsent", Uncertain: "uncertain"}
_REJECTION = ("status", "reason", "timestamp", "apns_id", "retry_after")


def _to_dict(
    outcome: Rejection | Unsent | Uncertain,
    identifier: Callable[[Any], object],
    notifications: dict[int, tuple[int, Notification]],
) -> dict[str, Any]:
    token = outcome.token
    values: dict[str, Any] = {
        "outcome": _KINDS[type(outcome)],
        "identifier": _to_json(identifier(outcome.identifier)),
        "token": token.hex() if isinstance(token, bytes) else str(token),
    }
    if isinstance(outcome, Rejection):
        fields = {name: getattr(outcome, name) for name in _REJECTION}
        if outcome.timestamp is not None:
            fields["timestamp"] = outcome.timestamp.isoformat()
        values.update({name: value for name, value in fields.items() if value is not None})
        return values
    error = outcome.error
    values["error"] = [type(error).__name__, *map(_plain, error.args)]
    number, _ = notifications.setdefault(id(outcome.notification), (len(notifications), outcome.notification))
    values["notification"] = number
    return values


def _from_dict(values: Mapping[str, Any], notifications: Sequence[Notification]) -> Rejection | Unsent | Uncertain:
    identifier, token = _from_json(values["identifier"]), values["token"]
    if values["outcome"] == "failed":
        fields: dict[str, Any] = {name: values.get(name) for name in _REJECTION}
        if fields["timestamp"] is not None:
            fields["timestamp"] = datetime.fromisoformat(fields["timestamp"])
        return Rejection(identifier, token, **fields)
    kinds: dict[str, type[Unsent] | type[Uncertain]] = {"unsent": Unsent, "uncertain": Uncertain}
    name, *arguments = values["error"]
    error = getattr(errors, name, None) if name in errors.__all__ else None
    if not (isinstance(error, type) and issubclass(error, Exception)):
        error = APNSError  # from a newer version
    kind, notification = kinds[values["outcome"]], notifications[values["notification"]]
    return kind(identifier, token, error(*arguments), notification)


def _plain(value: object) -> object:
    """Keep what JSON can hold, and take the text of anything else."""
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def _to_json(identifier: object) -> object:
    if identifier is None or isinstance(identifier, (str, bool, int)):
        return identifier
    if isinstance(identifier, float) and math.isfinite(identifier):
        return identifier
    if isinstance(identifier, tuple):
        return [_to_json(part) for part in identifier]
    kind = type(identifier).__name__
    raise TypeError(f"JSON cannot hold an identifier of type {kind}: convert it, as by to_dict(identifier=str)")


def _from_json(identifier: Any) -> Hashable:
    """JSON has no tuples, and an identifier was never a list."""
    return tuple(map(_from_json, identifier)) if isinstance(identifier, list) else identifier
