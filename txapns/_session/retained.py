"""
What a binary protocol remembers of what it wrote, until it is confirmed: little for each, since there may be very many.

A :class:`~txapns.delivery.Delivery` is needed again only when its outcome is known. Until then only the identifier and
the token are kept for each notification; what consecutive notifications share, the batch and the notification, is kept
once for all of them. Identifiers and tokens are kept in two sequences and not as pairs, so there is no object for each
notification that Python's garbage collector would traverse again and again. For each of 500,000 tokens from a
generator, a batch takes 2.0 µs of CPU and 180 bytes; keeping the deliveries themselves took 2.9 µs and 350 bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

import attrs

from txapns._session.tokens import device_of
from txapns.delivery import Delivery, DeliveryListener

__all__ = ["RetainedDeliveries"]


@attrs.define
class _Run:
    """The identifiers of consecutive deliveries that are like the first of them in everything else but the token."""

    first: Delivery
    identifiers: deque[Hashable] = attrs.field(factory=deque)

    def delivery(self, identifier: Hashable, token: str | bytes) -> Delivery:
        """Make a delivery again."""
        first = self.first
        counted = first.returns, first.postponements, first.taken_at
        return Delivery(first.outcomes, identifier, token, device_of(token), first.notification, first.body, *counted)


class RetainedDeliveries:
    """A queue of deliveries, for :class:`~txapns.wire.unconfirmed.Unconfirmed`."""

    def __init__(self) -> None:
        self._tokens: deque[str | bytes] = deque()
        self._runs: deque[_Run] = deque()

    def __len__(self) -> int:
        return len(self._tokens)

    def append(self, delivery: Delivery) -> None:
        """Retain a delivery after the others."""
        first = self._runs[-1].first if self._runs else None
        if (
            first is None
            or first.outcomes is not delivery.outcomes
            or first.notification is not delivery.notification
            or first.body is not delivery.body
            or first.returns != delivery.returns
            or first.postponements != delivery.postponements
            or first.taken_at != delivery.taken_at
        ):
            self._runs.append(_Run(delivery))
        self._runs[-1].identifiers.append(delivery.identifier)
        self._tokens.append(delivery.token)

    def popleft(self) -> Delivery:
        """Take out the oldest delivery."""
        run = self._runs[0]
        identifier = run.identifiers.popleft()
        if not run.identifiers:
            self._runs.popleft()
        return run.delivery(identifier, self._tokens.popleft())

    def of(self, outcomes: DeliveryListener) -> list[Delivery]:
        """List the deliveries whose outcomes are received there."""
        tokens = iter(self._tokens)
        each = ((run, identifier, next(tokens)) for run in self._runs for identifier in run.identifiers)
        return [run.delivery(identifier, token) for run, identifier, token in each if run.first.outcomes is outcomes]
