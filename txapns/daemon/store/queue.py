"""
What the queues of all databases do in the reactor's thread: requests to accept and to settle become writes, which are
gathered and committed together.

What waits is counted as soon as it is accepted, before it is stored, so that a limit holds for requests at the same
time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from txapns.daemon.errors import Unavailable
from txapns.daemon.store.acceptance import Acceptance, receipts_of, schedule
from txapns.daemon.store.listeners import Listeners
from txapns.daemon.store.outcome_feed import Recording
from txapns.daemon.store.queue_time import QueueTime
from txapns.daemon.store.settlement import Report, Settled
from txapns.daemon.store.superseding import Superseded
from txapns.daemon.values import Idempotency, Lease, Leased, Message, Receipt, Settlement, State

__all__ = ["MOST_COUNTED", "SCANNED", "Counts", "QueueDatabase", "QueueState", "StoredQueue", "stopped"]

#: How many rows are counted at most when somebody wants to know how many there are.
MOST_COUNTED = 25_000
#: In how many of the latest notifications those for one device are looked for.
SCANNED = 100_000

_C = TypeVar("_C")
_C_co = TypeVar("_C_co", covariant=True)
_R = TypeVar("_R")
_T = TypeVar("_T")


class QueueDatabase(Protocol[_C_co]):
    """A database, as a queue sees it. The parameter is its connection."""

    def write_together(
        self,
        function: Callable[[_C_co, list[_T]], Sequence[_R | Exception]],
        item: _T,
        size: int = 0,
        committed: Callable[[list[_T]], None] | None = None,
        rows: int = 1,
        durable: bool = True,
        ordered: bool = False,
    ) -> Deferred[_R]:
        """Write in a transaction, with one call for all items that wait for the same function."""

    def between(self, function: Callable[[_C_co], _R]) -> Deferred[_R]:
        """Call a function between two transactions of the writer's, or in one of its own."""

    def on_disk(self) -> Deferred[None]:
        """Wait until everything is on the disk that was committed before."""

    def flush(self) -> Deferred[None]:
        """Write everything that is waiting, at once; fires when nothing is waiting."""


class Counts(Protocol):
    """How many notifications wait, by app's name."""

    def update(self, counts: Mapping[str, int], /) -> None:
        """Add."""

    def subtract(self, counts: Mapping[str, int], /) -> None:
        """Take away."""


class QueueState(Protocol):
    """What a queue and its outcome log hold in memory."""

    running: bool

    @property
    def waiting(self) -> Counts:
        """How many notifications wait."""

    @property
    def recording(self) -> Recording:
        """Which outcomes are recorded."""


class StoredQueue(Generic[_C]):
    """
    A queue in a database. A class that derives from it has the statements.

    :param noted: called with the apps of which tokens were noted as dead.
    """

    def __init__(
        self,
        database: QueueDatabase[_C],
        state: QueueState,
        time: QueueTime,
        noted: Callable[[Iterable[str]], None],
    ) -> None:
        self._writes = database
        self._shared = state
        self._time = time
        self._noted = noted
        self._listeners: Listeners[Mapping[str, int], Sequence[int]] = Listeners("what was superseded")
        self._announced: Superseded | None = None

    def subscribe(self, listener: Callable[[Mapping[str, int], Sequence[int]], None]) -> Callable[[], None]:
        """See :meth:`IQueue.subscribe`."""
        return self._listeners.subscribe(listener)

    def _announce(self, superseded: Superseded) -> None:
        self._shared.waiting.subtract(superseded.counts)
        self._shared.recording.announce(superseded.recorded)
        self._tell(superseded)

    def _tell(self, superseded: Superseded) -> None:
        if superseded.numbers:
            self._listeners.tell(superseded.counts, superseded.numbers)

    def stop(self) -> Deferred[None]:
        """Finish the work submitted so far."""
        self._shared.running = False
        return self._writes.flush()

    def accept(
        self, messages: Sequence[Message], idempotency: Idempotency | None = None, *, durable: bool = True
    ) -> Deferred[list[Receipt]]:
        """See :meth:`IQueue.accept`."""
        if not self._shared.running:
            return stopped()
        try:
            blocks = schedule(messages, self._time)
        except ValueError:
            return fail()
        acceptance = Acceptance(messages, idempotency, self._time.date(), self._time.now(), blocks=blocks)
        counts: dict[str, int] = {}
        size, collapses = 1, False
        for message in messages:
            collapses = collapses or message.collapse_id is not None
            count = len(message.tokens)
            counts[message.app] = counts.get(message.app, 0) + count
            size += len(message.payload) + sum(map(len, message.payloads)) + sum(map(len, message.tokens)) + 16 * count
        self._shared.waiting.update(counts)

        def stored(earlier: list[Receipt] | None) -> list[Receipt]:
            superseded = acceptance.superseded
            if superseded is not self._announced:  # it is the same for those that were stored together
                self._announced = superseded
                self._announce(superseded)
            if earlier is not None:
                self._shared.waiting.subtract(counts)
                return earlier
            groups = [message.apns_ids for message in messages]
            return receipts_of(acceptance.first, groups, superseded=superseded.numbers)

        def failed(failure: Failure) -> Failure:
            self._shared.waiting.subtract(counts)
            return failure

        # The numbers tell what is newer.
        storing = self._writes.write_together(
            self._store, acceptance, size, self._stored, durable=durable, ordered=collapses
        )
        return storing.addCallbacks(stored, failed)

    def on_disk(self) -> Deferred[None]:
        """See :meth:`IQueue.on_disk`."""
        return self._writes.on_disk()

    def _store(self, connection: _C, acceptances: list[Acceptance]) -> Sequence[list[Receipt] | Exception | None]:
        """Store requests, in the writer's thread; returns the earlier receipts of those that were stored before."""
        raise NotImplementedError

    def _stored(self, acceptances: list[Acceptance]) -> None:
        """Take note of the requests that are committed, in the writer's thread."""

    def settle(self, settlements: Sequence[Settlement], accepted: Sequence[int] = ()) -> Deferred[None]:
        """See :meth:`IQueue.settle`."""
        if not self._shared.running:
            return stopped()
        report, count = Report(settlements, self._time.date(), accepted), len(settlements) + len(accepted)
        writing = self._writes.write_together(self._conclude, report, 0, self._concluded, count, durable=False)
        return writing.addCallback(self._settled)

    def _conclude_marked(
        self, numbers: Iterable[int], leased: list[Leased], again: Callable[[], Deferred[Lease]]
    ) -> Deferred[Lease]:
        """
        Settle what is superseded and was leased when it came back into the queue.

        :param leased: what was leased with it.
        :param again: leases more.
        :returns: a ``Deferred`` of what is leased. If nothing can be stored now, the others are sent all the same.
        """

        def settled(_: None) -> Lease | Deferred[Lease]:
            return Lease(leased, more=True) if leased else again()

        def failed(failure: Failure) -> Lease:
            failure.trap(Unavailable)
            return Lease(leased, more=True)  # the others come back when their leases end

        settling = self.settle([Settlement(number, State.SUPERSEDED) for number in numbers])
        return settling.addCallbacks(settled, failed)

    def _conclude(self, connection: _C, reports: list[Report]) -> Sequence[Settled]:
        """Store settlements, in the writer's thread; the first result tells of all of them."""
        raise NotImplementedError

    def _concluded(self, reports: list[Report]) -> None:
        """Take note of the settlements that are committed, in the writer's thread."""

    def _settled(self, found: Settled) -> None:
        self._shared.waiting.subtract(found.counts)
        self._noted(found.noted)
        self._shared.recording.announce(found.recorded)
        self._tell(found.superseded)

    def _between(self, function: Callable[[_C], _R]) -> Deferred[_R]:
        return self._writes.between(function) if self._shared.running else stopped()


def stopped() -> Deferred[Any]:
    """Refuse a request after the stop."""
    return fail(Unavailable("the daemon is shutting down", 10.0))
