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
from collections.abc import Hashable, Iterable

import attrs

from txapns._session.tokens import device_of
from txapns.delivery import Delivery, DeliveryListener, RequestTemplate
from txapns.wire.unconfirmed import ErrorResult, Unconfirmed

__all__ = ["CompactUnconfirmed"]


@attrs.define
class _Run:
    """The identifiers of consecutive deliveries, with what these share."""

    outcomes: DeliveryListener
    notification: RequestTemplate
    returns: int
    postponements: int
    taken_at: float
    identifiers: deque[Hashable] = attrs.field(factory=deque)


class CompactUnconfirmed:
    """
    The deliveries written to one connection and not confirmed, in order, by their identifiers on the wire.

    It is an :class:`~txapns.wire.unconfirmed.Unconfirmed` of deliveries, and of the barrier, which is no delivery.
    """

    def __init__(self) -> None:
        # The tokens; None stands for the barrier.
        self._unconfirmed: Unconfirmed[str | bytes | None] = Unconfirmed()
        self._runs: deque[_Run] = deque()

    def __len__(self) -> int:
        return len(self._unconfirmed)

    @property
    def next_identifier(self) -> int:
        """The identifier on the wire that the next delivery will get."""
        return self._unconfirmed.next_identifier

    def push(self, delivery: Delivery) -> int:
        """Retain a delivery that is about to be written."""
        run = self._runs[-1] if self._runs else None
        if (
            run is None
            or run.outcomes is not delivery.outcomes
            or run.notification is not delivery.notification
            or run.returns != delivery.returns
            or run.postponements != delivery.postponements
            or run.taken_at != delivery.taken_at
        ):
            run = _Run(
                delivery.outcomes,
                delivery.notification,
                delivery.returns,
                delivery.postponements,
                delivery.taken_at,
            )
            self._runs.append(run)
        run.identifiers.append(delivery.identifier)
        return self._unconfirmed.push(delivery.token)

    def push_barrier(self) -> int:
        """Retain the barrier."""
        return self._unconfirmed.push(None)

    def settle_through(self, identifier: int) -> list[Delivery]:
        """
        Forget everything up to and including one delivery, as accepted.

        :returns: the deliveries, in order; none if the identifier is not retained.
        """
        return self._restore(self._unconfirmed.settle_through(identifier))

    def apply(self, status: int, identifier: int) -> ErrorResult[Delivery]:
        """Apply an error packet and forget everything: the connection has ended."""
        result = self._unconfirmed.apply(status, identifier)
        # In the order in which they were written.
        accepted = self._restore(result.accepted)
        rejected = self._restore([result.rejected])
        resend = self._restore(result.resend)
        return ErrorResult(
            accepted, rejected[0] if rejected else None, resend, self._restore(result.uncertain), result.late
        )

    def abandon(self) -> list[Delivery]:
        """Forget everything: the connection ended without an answer."""
        return self._restore(self._unconfirmed.abandon())

    def of(self, outcomes: DeliveryListener) -> list[Delivery]:
        """List the deliveries whose outcomes are received there, and retain them."""
        tokens = (token for token in self._unconfirmed if token is not None)
        each = ((run, identifier, next(tokens)) for run in self._runs for identifier in run.identifiers)
        return [_delivery(*one) for one in each if one[0].outcomes is outcomes]

    def _restore(self, tokens: Iterable[str | bytes | None]) -> list[Delivery]:
        """Make deliveries again from the oldest that are retained."""
        restored = []
        for token in tokens:
            if token is None:
                continue
            run = self._runs[0]
            identifier = run.identifiers.popleft()
            restored.append(_delivery(run, identifier, token))
            if not run.identifiers:
                self._runs.popleft()
        return restored


def _delivery(run: _Run, identifier: Hashable, token: str | bytes) -> Delivery:
    return Delivery(
        run.outcomes,
        identifier,
        token,
        device_of(token),
        run.notification,
        run.returns,
        run.postponements,
        run.taken_at,
    )
