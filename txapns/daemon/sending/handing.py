"""
Leased notifications, handed to a client: those for devices as one batch, and each broadcast by itself.

What comes of all of them is one batch again, so whoever settles it need not know the difference. There are few
broadcasts, since each is for thousands of devices; so there may be a ``Deferred`` for each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import TypeAlias

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from txapns.client import APNSClient
from txapns.daemon.sending.preparing import Prepared
from txapns.daemon.values import Leased
from txapns.errors import OutcomeUnknown
from txapns.notification import Notification
from txapns.result import Accepted, Batch, Rejection, Uncertain, Unsent

__all__ = ["send"]

_own = attrgetter("apns_id", "payload")

_Outcome: TypeAlias = Accepted | Rejection | Unsent | Uncertain


def send(client: APNSClient, prepared: Prepared, first: bool = False) -> Deferred[Batch]:
    """
    Send notifications and broadcasts.

    :param first: whether before what was handed over already.
    :returns: a ``Deferred`` of the batch, in which each of them is its own identifier. It fails as that of
        :meth:`~txapns.APNSClient.send_many` does. Cancelling it drops what waits.
    """
    sending = client.send_many(prepared.triples(), first=first, own=_own)
    broadcasts = [_broadcast(client, *each) for each in prepared.broadcasts()]
    if not broadcasts:
        return sending
    outcomes = gatherResults(broadcasts)  # they do not fail

    def sent(batch: Batch) -> Deferred[Batch]:
        return outcomes.addCallback(_joined, batch)

    def failed(failure: Failure) -> Failure:
        outcomes.cancel()
        return failure

    return sending.addCallbacks(sent, failed)


def _broadcast(client: APNSClient, leased: Leased, notification: Notification, channel: str) -> Deferred[_Outcome]:
    """Send a broadcast; returns a ``Deferred`` of its outcome, whatever that is."""

    def settled(outcome: Accepted | Rejection) -> _Outcome:
        return attrs.evolve(outcome, identifier=leased)

    def failed(failure: Failure) -> _Outcome:
        error = failure.value
        assert isinstance(error, Exception)
        if not isinstance(error, OutcomeUnknown):
            return Unsent(leased, b"", error, notification)
        cause = error.__cause__
        return Uncertain(leased, b"", cause if isinstance(cause, Exception) else error, notification)

    return client.broadcast(notification, channel).addCallbacks(settled, failed)


def _joined(outcomes: Sequence[_Outcome], batch: Batch) -> Batch:
    """Add the outcomes of broadcasts to those of a batch."""
    accepted = [each for each in outcomes if isinstance(each, Accepted)]
    others = [each for each in outcomes if not isinstance(each, Accepted)]
    unique_ids = {each.identifier: each.unique_id for each in accepted if each.unique_id is not None}
    return Batch(batch.accepted + len(accepted), [*batch.outcomes, *others], {**batch.unique_ids, **unique_ids})
