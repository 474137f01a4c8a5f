"""
Who waits for what becomes of which notification: callers who want to be told instead of asking again and again.

Most callers do not wait, and what nobody waits for costs one look-up at the most, and nothing where nobody waits at
all. Outcomes are told when they are stored: whoever asks the queue afterwards is told the same, but for the
unique id.

All is by number. An apns-id is a caller's word for a notification, and callers may use one word for two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from txapns.daemon.errors import Unavailable
from txapns.daemon.interfaces import IQueue
from txapns.daemon.values import Outcome, State

__all__ = ["OutcomeWaiters"]


class _Wait:
    """One caller who waits, for some notifications."""

    def __init__(self, numbers: set[int], waits: dict[int, list[_Wait]]) -> None:
        self.missing = numbers
        self.found: dict[int, Outcome] = {}
        self.done: Deferred[Mapping[int, Outcome]] = Deferred(lambda _: self.leave())
        self.left = False
        self._waits = waits
        for number in self.missing:
            waits.setdefault(number, []).append(self)

    def learn(self, outcome: Outcome) -> None:
        """
        Take note of one outcome.

        :param outcome: it, of one of the notifications; where it is known already, this does nothing.
        """
        if outcome.number in self.missing:
            self._forget(outcome.number)
            self.found[outcome.number] = outcome
            if not self.missing:
                self.end()

    def end(self) -> None:
        """Wait no longer."""
        if not self.left:
            self.leave()
            self.done.callback(self.found)

    def leave(self) -> None:
        """Be gone, and tell nobody."""
        self.left = True
        for number in list(self.missing):
            self._forget(number)

    def _forget(self, number: int) -> None:
        self.missing.discard(number)
        others = self._waits[number]
        others.remove(self)
        if not others:
            del self._waits[number]


class OutcomeWaiters:
    """
    Those who wait.

    :param clock: the reactor, or a ``Clock``.
    :param queue: where outcomes are that became known before anybody waited.
    :param capacity: how many notifications may be waited for at a time.
    """

    def __init__(self, clock: IReactorTime, queue: IQueue, capacity: int = 100_000) -> None:
        self._clock = clock
        self._queue = queue
        self._capacity = capacity
        self._waits: dict[int, list[_Wait]] = {}

    def __len__(self) -> int:
        """For how many notifications somebody waits."""
        return len(self._waits)

    def __contains__(self, number: object) -> bool:
        """Whether somebody waits for the notification with this number."""
        return number in self._waits

    def wait(self, numbers: Iterable[int], timeout: float, *, fresh: bool = False) -> Deferred[Mapping[int, Outcome]]:
        """
        Wait until notifications have a final state.

        Where more is waited for than there is room for, only what is stored by now is found.

        :param numbers: the notifications.
        :param timeout: for how many seconds at the most.
        :param fresh: whether they were accepted just now, in this turn of the reactor, by the caller, and so cannot be
            settled yet; the queue is not asked then.
        :returns: a ``Deferred`` of the outcomes of those that have one by then, by number. It never fails.
        """
        missing = set(numbers)
        room = len(self._waits) + len(missing) <= self._capacity
        wait = _Wait(missing, self._waits if room else {})
        done = wait.done
        timer = self._clock.callLater(timeout, wait.end)

        def ended(result: Mapping[int, Outcome]) -> Mapping[int, Outcome]:
            if timer.active():
                timer.cancel()
            return result

        done.addBoth(ended)
        if not wait.missing:
            wait.end()
            return done
        looking = succeed(None) if fresh else self._look(wait)
        if not room:
            looking.addCallback(lambda _: wait.end())
        return done

    def _look(self, wait: _Wait) -> Deferred[None]:
        """Ask the queue what became known before."""

        def found(outcomes: Iterable[Outcome]) -> None:
            for outcome in outcomes:
                if outcome.state is not State.WAITING:
                    wait.learn(outcome)

        # Where it cannot be asked, what becomes known will be told, or the time will be over.
        return self._queue.outcomes(list(wait.missing)).addCallbacks(found, lambda failure: failure.trap(Unavailable))

    def tell(self, outcomes: Iterable[Outcome]) -> None:
        """
        Tell outcomes to those who wait for them.

        :param outcomes: the outcomes, which are final and stored.
        """
        for outcome in outcomes:
            for wait in list(self._waits.get(outcome.number, ())):
                wait.learn(outcome)

    def stop(self) -> None:
        """Tell all who wait what there is: there will be nothing more."""
        for wait in [wait for waits in self._waits.values() for wait in waits]:
            wait.end()
