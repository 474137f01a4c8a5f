"""
Group commit: many writes in one transaction, with one wait for the disk.

A disk does a few hundred commits a second, and one costs the same for a single notification as for ten thousand. So
while one transaction is being written, the writes that come gather, and they are committed together. A write that finds
the writer idle is handed over at the end of the reactor's turn, with what else comes in that turn: it waits for no
timer. A ``Deferred`` fires when its write is on the disk.

Some writes need not wait for the disk, only for the commit, from which on they survive the end of the process. Where
all that are written together are of this kind, they are told after the commit, and the disk follows while the reactor
goes on. The next transaction begins when that is done.

Callers that learn that their writes are on the disk often have more to write at once. So what has gathered meanwhile is
not handed over in the same turn of the reactor, but after a turn that brings nothing more. Otherwise callers that have
once split into two groups, each waiting for the other's transaction, would stay split, with twice as many transactions.

::

    reactor's thread                        writer's thread
    write           ────────────────────►   BEGIN, the write, COMMIT
    write, write …  (gathering)
                    ◄────────────────────   result of the write
                    ────────────────────►   BEGIN, all the writes, COMMIT

    what need not wait  ────────────────►   BEGIN, the write, COMMIT
                    ◄────────────────────   result of the write
    (gathering)                             wait for the disk
                    ◄────────────────────   done

What is small does not wait for what is large: after a transaction with large writes, the small ones that wait have a
transaction of their own. Only writes that say so keep their order among themselves.

If one of the writes raises, the transaction is rolled back and the others are committed without it. If the database can
store nothing now, all of them fail with :class:`~txapns.daemon.errors.Unavailable`, nothing is stored, and the next
transaction is tried as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from txapns._network.alarm import Alarm
from txapns._waiters import Waiters
from txapns.daemon.errors import Unavailable
from txapns.daemon.store.workers import IWorker

__all__ = ["CAPACITY", "GroupCommit", "Transactions"]

_C = TypeVar("_C")
_C_co = TypeVar("_C_co", covariant=True)
_R = TypeVar("_R")
_T = TypeVar("_T")

#: How many bytes may wait to be written.
CAPACITY = 64 * 2**20

# A transaction with this many bytes takes some tenths of a second; further writes that have a size wait for the next.
_TRANSACTION = 2 * 2**20

# A write with more bytes or rows takes some milliseconds.
_SMALL, _FEW = 2**16, 100

# The most turns of the reactor for which gathered writes wait, as long as each turn brings more.
_TURNS = 2


class Transactions(Protocol[_C_co]):
    """How one database does a transaction. The parameter is its connection."""

    def commit(self, work: Callable[[_C_co], None], new: bool, durable: bool) -> None:
        """
        Do a transaction, in the writer's thread.

        :param work: does the writes of the transaction.
        :param new: whether there is new data among them, which may be refused for the sake of the rest.
        :param durable: whether it has to be on the disk when this returns, with all before it. Otherwise it survives
            the end of the process, and :meth:`sync` follows.
        :raises Exception: it was rolled back, or its end is unknown.
        """

    def sync(self) -> str:
        """Wait, in the writer's thread, until all is on the disk; returns why it may not be, or nothing."""

    def explained(self, failure: Failure) -> Failure:
        """Translate the database's exceptions to :class:`Unavailable`, unless a statement is at fault."""

    def divisible(self, failure: Failure) -> bool:
        """Tell whether smaller transactions may succeed where one failed."""

    def concluded(self, trouble: str, new: bool) -> None:
        """
        Take note of the end of a transaction, in the reactor's thread, before anybody learns of it.

        :param trouble: why nothing could be stored; empty if that was not the database's fault.
        :param new: whether there was new data in it.
        """


@attrs.define(eq=False)
class _Job(Generic[_C]):
    """One write, and the ``Deferred`` of its result."""

    function: Callable[[_C, list[Any]], Sequence[Any]]
    item: Any
    size: int
    rows: int
    durable: bool
    ordered: bool
    committed: Callable[[list[Any]], None] | None
    done: Deferred[Any] = attrs.Factory(Deferred)
    result: Any = None

    @property
    def large(self) -> bool:
        """Whether others should not wait for it."""
        return self.size > _SMALL or self.rows > _FEW


class GroupCommit(Generic[_C]):
    """
    One writer, and the writes that wait for it.

    :param capacity: how many bytes may wait to be written.

    :ivar worker: the writer; ``None`` while the database is closed.
    """

    def __init__(self, clock: IReactorTime, transactions: Transactions[_C], capacity: int = CAPACITY) -> None:
        self.worker: IWorker | None = None
        self._transactions = transactions
        self._capacity = capacity
        self._jobs: list[_Job[_C]] = []
        self._waiting = 0  # bytes, including those being written
        self._busy = False
        self._large = False  # whether the last transaction had large writes
        self._soon = Alarm(clock, self._hand_over)
        self._gathering = Alarm(clock, self._gather)
        self._gathered = self._turns = 0
        self._idle: Waiters[None] = Waiters()

    # The reactor's side.

    def write_together(
        self,
        function: Callable[[_C, list[_T]], Sequence[_R | Exception]],
        item: _T,
        size: int = 0,
        committed: Callable[[list[_T]], None] | None = None,
        rows: int = 1,
        durable: bool = True,
        ordered: bool = False,
    ) -> Deferred[_R]:
        """
        Write in a transaction, with one call for all items that wait for the same function.

        :param function: does it, in the writer's thread. It is called with the items and returns a result for each; an
            exception among the results fails only its item. If it or another write raises, its work is rolled back and
            it may be called again, so it must change nothing but the database.
        :param size: how many bytes of new data it adds; 0 for a write that must be tried however much is waiting.
        :param committed: called in the writer's thread with the items that are committed, before anything else is done
            there; the same for all items of a function. It must not raise.
        :param rows: about how many rows it changes.
        :param durable: whether it waits for the disk, and not only for the commit.
        :param ordered: whether it is done before others of this kind that come later, though it is large.
        :returns: a ``Deferred`` of the item's result, which fires when it is on the disk, or else when it is committed.
        :raises Unavailable: it cannot be stored now; nothing was stored.
        """
        if size and self._waiting + size > self._capacity:
            return fail(Unavailable("too much is waiting to be stored", 1.0))
        job: _Job[_C] = _Job(function, item, size, rows, durable, ordered, committed)
        self._waiting += size
        self._jobs.append(job)
        if not (self._busy or self._gathering.is_set or self._soon.is_set):
            self._soon.set(0)
        return job.done

    def flush(self) -> Deferred[None]:
        """Write everything that is waiting, at once; fires when nothing is waiting."""
        idle = self._idle.wait()
        self._hand_over()
        return idle

    def _gather(self) -> None:
        """Hand the gathered writes to the writer, unless there are more than a turn ago."""
        if self._turns < _TURNS and len(self._jobs) > self._gathered:
            self._gathered = len(self._jobs)
            self._turns += 1
            self._gathering.set(0)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        """Hand the gathered writes to the writer; while it is busy, :meth:`_done` does so later."""
        self._soon.cancel()
        self._gathering.cancel()
        if self._busy:
            return
        jobs, self._jobs = _first_of(self._jobs, self._large)
        self._large = any(job.large for job in jobs)
        worker = self.worker
        if not jobs or worker is None:
            self._idle.fire(None)
            return
        self._busy = True
        if any(job.durable for job in jobs):
            worker.run(lambda: self._work(jobs, True)).addBoth(self._tell, jobs).addCallback(self._done)
        else:
            worker.run(lambda: self._work(jobs, False)).addBoth(self._tell, jobs)
            worker.run(self._transactions.sync).addBoth(self._synced)

    def _tell(self, result: str | Failure, jobs: list[_Job[_C]]) -> None:
        """Tell the results of a transaction."""
        if isinstance(result, Failure):  # it is unknown how far the work got
            for job in jobs:
                job.result = result
            result = result.getErrorMessage()
        self._transactions.concluded(result, any(job.size for job in jobs))
        for job in jobs:
            self._waiting -= job.size
            if isinstance(job.result, Exception | Failure):
                job.done.errback(job.result)
            else:
                job.done.callback(job.result)

    def _synced(self, result: str | Failure) -> None:
        """Take note of whether the disk has what was told before."""
        trouble = result.getErrorMessage() if isinstance(result, Failure) else result
        if trouble:
            self._transactions.concluded(trouble, True)
        self._done(None)

    def _done(self, _: None) -> None:
        """Hand over what has gathered meanwhile."""
        self._busy = False
        if self._idle:
            self._hand_over()
        elif self._jobs:
            self._gathered = self._turns = 0
            self._gathering.set(0)

    # The writer's side.

    def _work(self, jobs: list[_Job[_C]], durable: bool) -> str:
        """Do a transaction; returns why it failed, or nothing."""
        groups: dict[Callable[..., object], list[_Job[_C]]] = {}
        for job in jobs:
            groups.setdefault(job.function, []).append(job)
        return self._perform(list(groups.values()), durable)

    def _perform(self, groups: list[list[_Job[_C]]], durable: bool) -> str:
        """Do the writes in one transaction; if it fails, in smaller ones, to isolate the writes that fail."""

        def work(connection: _C) -> None:
            for group in groups:
                results = group[0].function(connection, [job.item for job in group])
                for job, result in zip(group, results, strict=True):
                    job.result = result

        try:
            self._transactions.commit(work, any(job.size for group in groups for job in group), durable)
        except Exception as error:
            failure = self._transactions.explained(Failure())
            smaller = _divided(groups, failure) if self._transactions.divisible(failure) else []
            if smaller:
                return max([self._perform(each, durable) for each in smaller])
            for job in (job for group in groups for job in group):
                job.result = failure
            return str(failure.value) if failure.value is not error else ""
        for group in groups:
            committed = group[0].committed
            if committed is not None:
                committed([job.item for job in group if not isinstance(job.result, Exception)])
        return ""


def _first_of(jobs: list[_Job[_C]], after_large: bool) -> tuple[list[_Job[_C]], list[_Job[_C]]]:
    """
    Choose the jobs of one transaction: all that have no size, and as many others as one transaction may hold; or after
    one with large jobs only small ones, if there are any.
    """
    if after_large:
        small, others = _small_of(jobs)
        if small:
            chosen, left = _first_of(small, False)
            return chosen, left + others
    chosen, left, size = [], [], 0
    for job in jobs:
        if job.size and size > _TRANSACTION:
            left.append(job)
        else:
            chosen.append(job)
            size += job.size
    return chosen, left


def _small_of(jobs: list[_Job[_C]]) -> tuple[list[_Job[_C]], list[_Job[_C]]]:
    """Choose the small jobs, but for those that are ordered and come after a large one that is."""
    small, others, held = [], [], False
    for job in jobs:
        if job.large or (held and job.ordered):
            others.append(job)
            held = held or job.ordered
        else:
            small.append(job)
    return small, others


def _divided(groups: list[list[_Job[_C]]], failure: Failure) -> list[list[list[_Job[_C]]]]:
    """Split a failed transaction into smaller ones, if some of them may succeed."""
    if len(groups) > 1:
        return [[group] for group in groups]  # there may be room for outcomes, if not for new messages
    if len(groups[0]) > 1 and not failure.check(Unavailable):
        return [[[job]] for job in groups[0]]
    return []
