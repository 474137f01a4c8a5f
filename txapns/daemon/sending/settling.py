"""
What an attempt means for a notification: from what the client reports to what the queue stores.

===============================================  ==================================================================
The client reports                               The notification
===============================================  ==================================================================
accepted                                         is ``ACCEPTED``
rejected, with a reason that asks for patience   is retried later, and the attempt counts: 429, 5xx, and the like
rejected, because of our credential              is retried later, and the attempt counts; see below
rejected otherwise                               is ``REJECTED``; if the token is dead, the feedback log has it
unsent, because it is invalid                    is ``REJECTED``, with the name of our exception as the reason
unsent, for lack of a connection                 is given back, and the attempt does not count
unsent otherwise                                 is retried later, and the attempt counts
uncertain                                        is retried later, and the attempt counts: we promise at least once
===============================================  ==================================================================

The pause before each retry is longer than the one before. After too many attempts the notification is ``DEAD``; if it
would expire before the next attempt, ``EXPIRED``.

Apple also blames the credential if a notification is for a topic that belongs to somebody else. So the attempt counts
for the notification that was answered, which goes to the back of the queue: one notification that does not match the
credential cannot hold up those that do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import msgspec

from txapns import reasons
from txapns._network.backoff import Backoff
from txapns.daemon.sending.breaker import Trouble
from txapns.daemon.values import Environment, Leased, Settlement, State
from txapns.errors import (
    ClientClosed,
    CredentialError,
    CredentialRefused,
    GatewayShutdown,
    InvalidChannel,
    InvalidGateway,
    InvalidNotification,
    InvalidPayload,
    InvalidToken,
    PeerNotVerified,
    TransportError,
)
from txapns.reasons import Action
from txapns.result import Batch, Rejection, Uncertain, Unsent

__all__ = ["Attempt", "BatchSettlement", "Outcome", "Retries", "SidedBatch", "answered", "trouble_of"]

#: What became of a notification that was not accepted.
Outcome: TypeAlias = Rejection | Unsent | Uncertain

#: The longest pause that Apple may ask for, in seconds.
MAX_RETRY_AFTER = 86_400.0
#: The longest unique id that is stored; Apple's have 36 characters.
MAX_UNIQUE_ID = 255

# A gateway is invalid for a broadcast if it speaks the binary protocol.
_INVALID = (InvalidToken, InvalidNotification, InvalidPayload, InvalidChannel, InvalidGateway)
_CREDENTIAL = (CredentialRefused, CredentialError, PeerNotVerified)
_NO_CONNECTION = (*_CREDENTIAL, ClientClosed, GatewayShutdown, TransportError)


@attrs.frozen
class Retries:
    """
    When a notification is tried again. The configuration has the defaults, in ``[retries]``.

    :ivar longest: the longest pause, in seconds. Apple asks for 15 minutes after its own errors.
    :ivar jitter: the part of a pause that is left to chance, 0 to 1, so that not all come back at once.
    """

    first: float
    longest: float
    jitter: float
    random: Callable[[], float] = attrs.field(default=random.random, repr=False)

    def delay(self, attempts: int, retry_after: float | None = None) -> float:
        """Compute the pause after a failed attempt, given the attempts before it and the pause Apple asked for."""
        delay = Backoff(self.first, self.longest, jitter=self.jitter, random=self.random).delay(attempts)
        return delay if retry_after is None else max(delay, min(retry_after, MAX_RETRY_AFTER))


@attrs.frozen
class BatchSettlement:
    """
    What came of notifications that were sent together.

    :ivar accepted: the numbers of those that were accepted, with nothing else to say of them.
    :ivar settlements: of the others.
    :ivar trouble: what keeps all of them from getting through; ``None`` if that is unknown, or something works.
    :ivar works: whether there was an answer about at least one notification.
    """

    accepted: list[int]
    settlements: list[Settlement]
    trouble: Trouble | None
    works: bool


@attrs.frozen(eq=False)
class SidedBatch:
    """
    What came of notifications of an app with two sides.

    :ivar batch: of those that were sent, each its own identifier.
    :ivar environments: the side whose answer counts for each of these.
    :ivar put_off: those that were not sent, and until when, by the reactor's clock.
    :ivar works: whether there was an answer about at least one notification.
    :ivar trouble: what keeps all of them from getting through, on both sides.
    """

    batch: Batch
    environments: Mapping[Leased, Environment]
    put_off: Mapping[Leased, float]
    works: bool
    trouble: Trouble | None


@attrs.frozen
class Attempt:
    """An attempt to send notifications, which is over now; ``most`` attempts make a notification dead."""

    now: float
    date: float
    retries: Retries
    most: int

    def settle(self, sent: Sequence[Leased], batch: Batch | SidedBatch) -> BatchSettlement:
        """
        Settle the notifications of a batch.

        :param sent: the notifications, each of which was its own identifier in the batch.
        :raises ValueError: the batch has another size. A notification without an outcome counts as accepted, so this
            would be wrong for those that are missing.
        """
        if isinstance(batch, SidedBatch):
            return self._settle_sided(sent, batch)
        if batch.total != len(sent):
            raise ValueError(f"a batch of {batch.total} for {len(sent)} that were sent")
        if not batch.outcomes and not batch.unique_ids:
            return BatchSettlement([each.number for each in sent], [], None, True)
        others: dict[Any, Outcome] = {each.identifier: each for each in batch.outcomes}
        unique_ids: Mapping[Any, str] = batch.unique_ids
        settlements = [
            self._settlement(each, others[each])
            if each in others
            else Settlement(each.number, State.ACCEPTED, 200, unique_id=unique_ids[each][:MAX_UNIQUE_ID])
            for each in sent
            if each in others or each in unique_ids
        ]
        accepted = [each.number for each in sent if each not in others and each not in unique_ids]
        works = batch.accepted > 0 or any(map(answered, batch.outcomes))
        return BatchSettlement(accepted, settlements, None if works else trouble_of(batch.outcomes), works)

    def _settle_sided(self, sent: Sequence[Leased], sided: SidedBatch) -> BatchSettlement:
        put_off, environments = sided.put_off, sided.environments
        tried = [each for each in sent if each not in put_off] if put_off else sent
        settled = self.settle(tried, sided.batch)
        found = settled.settlements + [Settlement(number, State.ACCEPTED, 200) for number in settled.accepted]
        answering = {leased.number: environments[leased] for leased in tried}
        found = [msgspec.structs.replace(each, environment=answering[each.number]) for each in found]
        found += [self._put_off(leased, until) for leased, until in put_off.items()]
        return BatchSettlement([], found, sided.trouble, sided.works)

    def _put_off(self, leased: Leased, until: float) -> Settlement:
        """Settle what was not sent: it waits for its side, unless it expires before that."""
        expires = leased.content.expires
        if expires is not None and self.date + until - self.now >= expires:
            return Settlement(leased.number, State.EXPIRED)
        return Settlement(leased.number, State.WAITING, due=until, counted=False)

    def retry(self, leased: Leased, status: int, reason: str, retry_after: float | None = None) -> Settlement:
        """Settle a notification that failed: it is tried again later, unless it is dead or expires before that."""
        if leased.attempts + 1 >= self.most:
            return Settlement(leased.number, State.DEAD, status, reason)
        delay = self.retries.delay(leased.attempts, retry_after)
        expires = leased.content.expires
        if expires is not None and self.date + delay >= expires:
            return Settlement(leased.number, State.EXPIRED, status, reason)
        return Settlement(leased.number, State.WAITING, status, reason, due=self.now + delay)

    def _settlement(self, leased: Leased, outcome: Outcome) -> Settlement:
        if isinstance(outcome, Rejection):
            return self._rejected(leased, outcome)
        name = type(outcome.error).__name__
        if isinstance(outcome, Unsent):
            if isinstance(outcome.error, _INVALID):
                return Settlement(leased.number, State.REJECTED, 0, name)
            if isinstance(outcome.error, _NO_CONNECTION):
                return Settlement(leased.number, State.WAITING)
        return self.retry(leased, 0, name)

    def _rejected(self, leased: Leased, rejection: Rejection) -> Settlement:
        if rejection.action not in (Action.FIX, Action.DROP):
            return self.retry(leased, rejection.status, rejection.reason, rejection.retry_after)
        since = None if rejection.timestamp is None else rejection.timestamp.timestamp()
        return Settlement(leased.number, State.REJECTED, rejection.status, rejection.reason, since)


def answered(outcome: Outcome) -> bool:
    """Whether an outcome is about its notification, and not about the gateway or the credential."""
    if isinstance(outcome, Rejection):
        return outcome.status < 500 and outcome.action not in (Action.CREDENTIAL, Action.RENEW, Action.RECONNECT)
    return isinstance(outcome.error, _INVALID)


def trouble_of(outcomes: Sequence[Outcome]) -> Trouble | None:
    """Find what keeps everything from getting through, preferably what trips the circuit."""
    # That we closed the client ourselves is not trouble.
    known = (each for each in outcomes if isinstance(each, Rejection) or not isinstance(each.error, ClientClosed))
    found = [_trouble(outcome) for outcome in known]
    return next((trouble for trouble in found if trouble.trips), found[-1] if found else None)


def _trouble(outcome: Outcome) -> Trouble:
    if isinstance(outcome, Rejection):
        trips = outcome.action in (Action.CREDENTIAL, Action.RENEW)
        return Trouble(reasons.text(outcome.status, outcome.reason), trips)
    return Trouble(str(outcome.error), isinstance(outcome.error, _CREDENTIAL))
