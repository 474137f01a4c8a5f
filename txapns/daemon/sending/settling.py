"""
What an attempt means for a notification: from what the client says to what the queue is told.

===============================================  ==================================================================
the client says                                  then
===============================================  ==================================================================
accepted                                         ``ACCEPTED``
refused, with a reason that asks for patience    later, and counted: 429, 5xx, and the like
refused, because of our credential               later, and counted; see below
refused otherwise                                ``REJECTED``; a dead token is noted with it
unsent, by a fault of its own                    ``REJECTED``, with the name of our exception as the reason
unsent, since there was no connection            given back as if there had been no attempt
unsent otherwise                                 later, and counted
uncertain                                        later, and counted: at least once is the promise
===============================================  ==================================================================

What is counted is tried again later, each time after a longer wait. After too many attempts it is ``DEAD``; if it would
be over by then, ``EXPIRED``.

Apple also blames the credential where a notification is for a topic of somebody else's. So the notification that was
answered is counted, and goes to the back of the queue: one that is unfit for the credential cannot stand in the way of
those that are not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from txapns import reasons
from txapns._network.backoff import Backoff
from txapns.daemon.sending.breaker import Trouble
from txapns.daemon.values import Leased, Settlement, State
from txapns.errors import (
    ClientClosed,
    CredentialError,
    CredentialRefused,
    GatewayShutdown,
    InvalidNotification,
    InvalidPayload,
    InvalidToken,
    PeerNotVerified,
    TransportError,
)
from txapns.reasons import Action
from txapns.result import Batch, Rejection, Uncertain, Unsent

__all__ = ["Judge", "Retries", "Verdicts"]

#: The longest that a gateway may ask us to wait, in seconds.
MAX_RETRY_AFTER = 86_400.0

_ITS_OWN_FAULT = (InvalidToken, InvalidNotification, InvalidPayload)
_CREDENTIAL = (CredentialRefused, CredentialError, PeerNotVerified)
_NO_CONNECTION = (*_CREDENTIAL, ClientClosed, GatewayShutdown, TransportError)


@attrs.frozen
class Retries:
    """
    When a notification is tried again.

    :ivar first: how long the first wait is, in seconds; each is twice the one before.
    :ivar longest: the longest wait. Apple asks for 15 minutes after its own faults.
    :ivar jitter: by which part a wait may be shortened, so that not all come back at once.
    :ivar random: where chance comes from: a number from 0 to 1, 1 excluded.
    """

    first: float = 2.0
    longest: float = 900.0
    jitter: float = 0.5
    random: Callable[[], float] = attrs.field(default=random.random, repr=False)

    def delay(self, attempts: int, retry_after: float | None = None) -> float:
        """
        Tell how long to wait.

        :param attempts: how many attempts there were before the one that failed.
        :param retry_after: how long the daemon asked us to wait, if it did.
        :returns: seconds.
        """
        delay = Backoff(self.first, self.longest, jitter=self.jitter, random=self.random).delay(attempts)
        return delay if retry_after is None else max(delay, min(retry_after, MAX_RETRY_AFTER))


@attrs.frozen
class Verdicts:
    """
    What came of notifications that were sent together.

    :ivar settlements: one for each.
    :ivar trouble: what keeps all from getting through; ``None`` where at least one got an answer of its own.
    :ivar works: whether at least one got such an answer.
    """

    settlements: list[Settlement]
    trouble: Trouble | None
    works: bool


@attrs.frozen
class Judge:
    """
    Finds out what becomes of notifications.

    :ivar now: the time, by the reactor's clock.
    :ivar date: the same by the clock on the wall.
    :ivar retries: when to try again.
    :ivar most: how many attempts there may be.
    """

    now: float
    date: float
    retries: Retries
    most: int

    def verdicts(self, sent: Sequence[Leased], batch: Batch) -> Verdicts:
        """
        Judge those that were sent together.

        :param sent: the notifications, each of which was its own identifier in the batch.
        :param batch: what came of them.
        :returns: what becomes of them.
        :raises ValueError: the batch is of others: what is not among its outcomes would count as accepted.
        """
        if batch.total != len(sent):
            raise ValueError(f"a batch of {batch.total} for {len(sent)} that were sent")
        if not batch.outcomes and not batch.unique_ids:
            return Verdicts([Settlement(each.number, State.ACCEPTED, 200) for each in sent], None, True)
        others: dict[Any, Rejection | Unsent | Uncertain] = {each.identifier: each for each in batch.outcomes}
        settlements = [
            self._settlement(each, others[each])
            if each in others
            else Settlement(each.number, State.ACCEPTED, 200, unique_id=batch.unique_ids.get(each, ""))
            for each in sent
        ]
        works = batch.accepted > 0 or any(_answered(outcome) for outcome in batch.outcomes)
        return Verdicts(settlements, None if works else _trouble(batch.outcomes), works)

    def again(self, leased: Leased, status: int, reason: str, retry_after: float | None = None) -> Settlement:
        """
        Try one again later, unless there is no use in it.

        :param leased: the notification.
        :param status: what came of this attempt; 0 for no answer.
        :param reason: why.
        :param retry_after: how long the daemon asked us to wait, if it did.
        :returns: what becomes of it.
        """
        if leased.attempts + 1 >= self.most:
            return Settlement(leased.number, State.DEAD, status, reason)
        delay = self.retries.delay(leased.attempts, retry_after)
        expires = leased.content.expires
        if expires is not None and self.date + delay >= expires:
            return Settlement(leased.number, State.EXPIRED, status, reason)
        return Settlement(leased.number, State.WAITING, status, reason, due=self.now + delay)

    def _settlement(self, leased: Leased, outcome: Rejection | Unsent | Uncertain) -> Settlement:
        if isinstance(outcome, Rejection):
            return self._rejected(leased, outcome)
        name = type(outcome.error).__name__
        if isinstance(outcome, Unsent):
            if isinstance(outcome.error, _ITS_OWN_FAULT):
                return Settlement(leased.number, State.REJECTED, 0, name)
            if isinstance(outcome.error, _NO_CONNECTION):
                return Settlement(leased.number, State.WAITING)
        return self.again(leased, 0, name)

    def _rejected(self, leased: Leased, rejection: Rejection) -> Settlement:
        if rejection.action not in (Action.FIX, Action.DROP):
            return self.again(leased, rejection.status, rejection.reason, rejection.retry_after)
        since = None if rejection.timestamp is None else rejection.timestamp.timestamp()
        return Settlement(leased.number, State.REJECTED, rejection.status, rejection.reason, since)


def _answered(outcome: Rejection | Unsent | Uncertain) -> bool:
    """Whether it says something of one notification, and not of the daemon or the credential."""
    if isinstance(outcome, Rejection):
        return outcome.status < 500 and outcome.action not in (Action.CREDENTIAL, Action.RENEW, Action.RECONNECT)
    return isinstance(outcome.error, _ITS_OWN_FAULT)


def _trouble(outcomes: Sequence[Rejection | Unsent | Uncertain]) -> Trouble | None:
    """Find what keeps all from getting through: of several things, one that somebody has to do something about."""
    found = [_trouble_of(outcome) for outcome in outcomes if not _closed(outcome)]
    return next((trouble for trouble in found if trouble.trips), found[-1] if found else None)


def _closed(outcome: Rejection | Unsent | Uncertain) -> bool:
    """That we closed the client ourselves is no trouble."""
    return not isinstance(outcome, Rejection) and isinstance(outcome.error, ClientClosed)


def _trouble_of(outcome: Rejection | Unsent | Uncertain) -> Trouble:
    if isinstance(outcome, Rejection):
        trips = outcome.action in (Action.CREDENTIAL, Action.RENEW)
        return Trouble(reasons.text(outcome.status, outcome.reason), trips)
    return Trouble(str(outcome.error), isinstance(outcome.error, _CREDENTIAL))
