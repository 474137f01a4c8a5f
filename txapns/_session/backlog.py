"""
What waits to be sent by one client.

There are three kinds:

- *deliveries* go out first, in order: those of ``send_one``, and before them what came back unprocessed;
- *works*, the batches, are asked for deliveries only when a connection has room, and take turns; those that are to
  go first take turns among themselves before the others, and once there was one, some room is kept free for the next.
  A batch without anything to take, whose async iterable has yet to yield, is kept apart until it says otherwise, so
  that it costs the others nothing;
- *postponed* deliveries were rejected with an answer that asks to wait (429 or 5xx, or the status 1 or 255 of the
  binary protocol). Each waits for its time, longer with each rejection, and then joins the deliveries at the end.
  While very many are postponed, nothing more is taken from the batches, so that their number is bounded as well.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txapns._network.backoff import Backoff
from txapns.delivery import Delivery
from txapns.errors import APNSError
from txapns.interfaces import IWork
from txapns.reasons import Action
from txapns.result import Rejection

__all__ = ["MAX_POSTPONED", "Backlog"]

#: With this many postponed, nothing is taken from batches.
MAX_POSTPONED = 1_000
#: If APNs asks to wait for longer than this, in seconds, the rejection is final: no call should take forever.
MAX_PATIENCE = 60.0


class Backlog:
    """
    What waits to be sent.

    :param clock: the reactor, or a ``Clock``.
    :param retries: how often a delivery is postponed before it is reported as rejected.
    :param due: called when a postponed delivery's time has come.
    :param rejected: called with a postponed delivery that is not sent again after all, and with its rejection.

    :ivar keeps: whether to keep some room for what goes first.
    """

    def __init__(
        self,
        clock: IReactorTime,
        retries: int,
        due: Callable[[], None],
        rejected: Callable[[Delivery, Rejection], None],
    ) -> None:
        self._clock = clock
        self._retries = retries
        self._due = due
        self._rejected = rejected
        # In the order in which they go out. A dictionary, since any of them may be removed: cancelling ten thousand
        # must not search all of them ten thousand times.
        self._deliveries: OrderedDict[Delivery, None] = OrderedDict()
        self._first: OrderedDict[IWork, None] = OrderedDict()
        self.keeps = False
        self._works: OrderedDict[IWork, None] = OrderedDict()
        self._waiting: dict[IWork, bool] = {}  # those without anything to take, and whether they go first
        # The rejection of each postponed delivery, and a heap of their times; the heap may contain removed ones.
        self._postponed: dict[Delivery, Rejection] = {}
        self._times: list[tuple[float, int, Delivery]] = []
        self._numbers = count()
        self._delays = Backoff()
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        """How many deliveries wait, including postponed ones, without what batches have yet to pull."""
        return len(self._deliveries) + len(self._postponed)

    def __bool__(self) -> bool:
        """Whether anything waits, or may come from a batch."""
        return bool(self._deliveries or self._first or self._works or self._waiting or self._postponed)

    @property
    def pressing(self) -> bool:
        """Whether there is something that goes before the batches."""
        return bool(self._deliveries or self._first)

    @property
    def available(self) -> bool:
        """Whether there is something to hand to a connection now."""
        return bool(self._deliveries) or (self._accessible and bool(self._first or self._works))

    @property
    def _accessible(self) -> bool:
        return len(self._postponed) < MAX_POSTPONED

    # In.

    def append(self, delivery: Delivery) -> bool:
        """Add a single delivery after those that wait already, and return whether there were none."""
        self._deliveries[delivery] = None
        return len(self._deliveries) == 1

    def put_back(self, delivery: Delivery) -> None:
        """Put a delivery that was not processed before all others."""
        self._deliveries[delivery] = None
        self._deliveries.move_to_end(delivery, last=False)

    def add(self, work: IWork, first: bool = False) -> None:
        """Add a batch after the others, or after those that go first."""
        self.keeps = self.keeps or first
        self._add(work, first)

    def _add(self, work: IWork, first: bool) -> None:
        self._waiting[work] = first
        if work.available:
            self.resume(work)

    def resume(self, work: IWork) -> None:
        """A batch has something to take again."""
        if work in self._waiting:
            first = self._waiting.pop(work)
            (self._first if first else self._works)[work] = None

    def postpone(self, delivery: Delivery, rejection: Rejection) -> bool:
        """
        Keep a rejected delivery to send it again later, if the rejection calls for a retry.

        :returns: whether it is kept; if not, the rejection is final.
        """
        if delivery.postponements >= self._retries or rejection.action is not Action.RETRY:
            return False
        delay = max(self._delays.delay(delivery.postponements), rejection.retry_after or 0.0)
        if delay > MAX_PATIENCE:
            return False
        delivery.postponements += 1
        self._postponed[delivery] = rejection
        heapq.heappush(self._times, (self._clock.seconds() + delay, next(self._numbers), delivery))
        self._schedule()
        return True

    # Out.

    def take(self, count: int, size: int, kept: int = 0) -> list[Delivery]:
        """
        Take what goes out next, as from :meth:`IWork.take <txapns.interfaces.IWork.take>`.

        :param kept: for how many of these there is room only if they go first.
        """
        taken: list[Delivery] = []
        while self._deliveries and len(taken) < count and size > 0:
            delivery, _ = self._deliveries.popitem(last=False)
            ended = delivery.outcomes.ended
            if ended is None:
                size -= len(delivery.body)
                taken.append(delivery)
            else:  # cancelled after it had come back
                delivery.outcomes.unsent(delivery, ended)
        for works, most in ((self._first, count), (self._works, count - kept)) if self._accessible else ():
            if works:
                size = self._take(works, taken, most, size)
        return taken

    def _take(self, works: OrderedDict[IWork, None], taken: list[Delivery], count: int, size: int) -> int:
        """Take from batches, which take turns; returns how many bytes are left."""
        for _ in range(len(works)):
            # Taking may complete a batch, and the caller may then close the client, so that no batch is left.
            if len(taken) >= count or size <= 0 or not works:
                break
            work = next(iter(works))
            more = work.take(count - len(taken), size)
            taken.extend(more)
            if len(works) > 1 or works is self._first:
                size -= sum(len(delivery.body) for delivery in more)
            if work in works:
                del works[work]
                if not work.exhausted:
                    self._add(work, works is self._first)
        return size

    def remove(self, delivery: Delivery) -> bool:
        """Drop a single delivery, if it waits."""
        waiting = len(self)
        self._deliveries.pop(delivery, None)
        self._postponed.pop(delivery, None)
        self._schedule()
        return len(self) < waiting

    def withdraw(self, sending: object, error: APNSError) -> None:
        """Take nothing more from a batch, and report what still waits from it."""
        for works in (self._first, self._works, self._waiting):
            works.pop(cast(IWork, sending), None)
        self._end([delivery for delivery in self._deliveries if delivery.outcomes is sending], error)
        self._reject([delivery for delivery in self._postponed if delivery.outcomes is sending])

    def give_up(self, error: APNSError) -> Deferred[list[None]]:
        """
        Report everything: postponed deliveries as rejected, the rest as unsent.

        :returns: a ``Deferred`` that fires when all the batches have ended.
        """
        works = [*self._first, *self._works, *self._waiting]
        self._first.clear()
        self._works.clear()
        self._waiting.clear()
        self._end(list(self._deliveries), error)
        self._reject(list(self._postponed))
        return gatherResults([work.give_up(error) for work in works])

    def _end(self, deliveries: list[Delivery], error: APNSError) -> None:
        for delivery in deliveries:
            del self._deliveries[delivery]
        for delivery in deliveries:
            delivery.outcomes.unsent(delivery, error)

    def _reject(self, deliveries: list[Delivery]) -> None:
        """Do not send these again: their rejections are final."""
        rejections = [self._postponed.pop(delivery) for delivery in deliveries]
        self._schedule()
        for delivery, rejection in zip(deliveries, rejections, strict=True):
            self._rejected(delivery, rejection)

    # Time.

    def _schedule(self) -> None:
        """Set the one timer to the time of the first postponed delivery."""
        while self._times and self._times[0][2] not in self._postponed:
            heapq.heappop(self._times)
        first = self._times[0][0] if self._times else None
        if self._timer is not None:
            if self._timer.getTime() == first:
                return
            self._timer.cancel()
            self._timer = None
        if first is not None:
            self._timer = self._clock.callLater(max(0.0, first - self._clock.seconds()), self._elapsed)

    def _elapsed(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._times and self._times[0][0] <= now:
            _, _, delivery = heapq.heappop(self._times)
            if self._postponed.pop(delivery, None) is not None:
                self._deliveries[delivery] = None
        self._schedule()
        self._due()
