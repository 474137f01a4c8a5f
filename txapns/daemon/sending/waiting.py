"""
Callers who wait for the outcomes of notifications, and need not ask again and again.

Most callers do not wait. A notification that nobody waits for costs one look-up, and nothing while nobody waits at all.
Outcomes are told when they are stored, so who asks the log afterwards gets the same answer.

Where several nodes share the store, any of them may send what somebody waits for here. So while anybody waits, the log
is asked every :data:`LOOK` seconds, with one query for all.

Notifications are named by number. An apns-id is the caller's name for a notification, and two callers may use the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns._network.alarm import Alarm
from txapns.daemon.errors import Unavailable
from txapns.daemon.interfaces import IOutcomeLog
from txapns.daemon.values import Leased, Outcome, Settlement, State

__all__ = ["LOOK", "OutcomeWaiters"]

_log = Logger()

#: How many seconds after an answer of the log it is asked again, while somebody waits and other nodes may send.
LOOK = 0.1
#: About how many notifications it is asked for at most; those that were not asked for come next.
MOST = 2_000


class _Wait:
    """One caller's wait for some notifications."""

    def __init__(self, numbers: set[int], waits: dict[int, list[_Wait]]) -> None:
        self.missing = numbers
        self.found: dict[int, Outcome] = {}
        self.done: Deferred[Mapping[int, Outcome]] = Deferred(lambda _: self.leave())
        self.left = False
        self._waits = waits
        for number in self.missing:
            waits.setdefault(number, []).append(self)

    def learn(self, outcome: Outcome) -> None:
        """Take an outcome, unless it is known already."""
        if outcome.number in self.missing:
            self._forget(outcome.number)
            self.found[outcome.number] = outcome
            if not self.missing:
                self.end()

    def end(self) -> None:
        """Stop waiting, and fire with what was found."""
        if not self.left:
            self.leave()
            self.done.callback(self.found)

    def leave(self) -> None:
        """Stop waiting without firing."""
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
    All callers who wait for outcomes.

    :param log: has the outcomes that became known before somebody waited for them.
    :param capacity: how many notifications can be waited for at a time.
    :param shared: whether other nodes may send what is waited for.
    """

    def __init__(self, clock: IReactorTime, log: IOutcomeLog, capacity: int = 100_000, *, shared: bool = False) -> None:
        self._clock = clock
        self._log = log
        self._capacity = capacity
        self._shared = shared
        self._waits: dict[int, list[_Wait]] = {}
        self._turn: list[int] = []  # of whom to ask next, the last first
        self._looking = False
        self._alarm = Alarm(clock, self._look_again)

    def __len__(self) -> int:
        """Count the notifications that somebody waits for."""
        return len(self._waits)

    def wait(self, numbers: Iterable[int], timeout: float, *, fresh: bool = False) -> Deferred[Mapping[int, Outcome]]:
        """
        Wait until notifications have a final state.

        If there is no room for so many, this finds only the outcomes that are stored already.

        :param fresh: whether the caller has just had them accepted, in this turn of the reactor. They cannot be settled
            yet, so the log is not asked.
        :returns: a ``Deferred`` of the outcomes that are known by then, by number. It never fails.
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
        if self._shared and not self._looking:
            self._alarm.set(LOOK)
        if not room:
            looking.addCallback(lambda _: wait.end())
        return done

    def _look(self, wait: _Wait) -> Deferred[None]:
        """Ask the log for outcomes that became known before."""

        def found(outcomes: Iterable[Outcome]) -> None:
            for outcome in outcomes:
                if outcome.state is not State.WAITING:
                    wait.learn(outcome)

        # If the log cannot be asked, the wait goes on until the outcomes are told or the time is over.
        return self._log.outcomes(list(wait.missing)).addCallbacks(found, lambda failure: failure.trap(Unavailable))

    def _look_again(self) -> None:
        """Ask the log for what other nodes sent."""
        if not self._waits:
            return
        turn = [number for number in self._turn if number in self._waits] or list(reversed(self._waits))
        asked, self._turn = turn[-MOST:], turn[:-MOST]
        self._looking = True
        found = self._log.outcomes(asked).addCallback(self._found).addErrback(_not_found)
        found.addCallback(self._looked)

    def _found(self, outcomes: Iterable[Outcome]) -> None:
        self.tell(outcome for outcome in outcomes if outcome.state is not State.WAITING)

    def _looked(self, _: None) -> None:
        self._looking = False
        if self._waits:
            self._alarm.set(LOOK)

    def tell(self, outcomes: Iterable[Outcome]) -> None:
        """Tell outcomes, which are final and stored, to those who wait for them."""
        for outcome in outcomes:
            for wait in list(self._waits.get(outcome.number, ())):
                wait.learn(outcome)

    def settled(self, app: str, leased: Sequence[Leased], settlements: Iterable[Settlement], date: float) -> None:
        """
        Tell what became of notifications to those who wait for them.

        :param settlements: of those that were not just accepted.
        :param date: the date of the wall clock.
        """
        wanted = [each for each in leased if each.number in self._waits] if self._waits else []
        if not wanted:
            return
        known = {settlement.number: settlement for settlement in settlements}
        for each in wanted:
            settlement = known.get(each.number) or Settlement(each.number, State.ACCEPTED, 200)
            if settlement.state is not State.WAITING:
                self.tell([_outcome(app, each, settlement, date)])

    def superseded(self, numbers: Iterable[int]) -> None:
        """Look up what was superseded and somebody waits for."""
        wanted = [number for number in numbers if number in self._waits]
        if wanted:
            self._log.outcomes(wanted).addCallback(self._found).addErrback(_not_found)

    def stop(self) -> None:
        """End all waits, with the outcomes that are known."""
        self._alarm.cancel()
        for wait in [wait for waits in self._waits.values() for wait in waits]:
            wait.end()


def _not_found(failure: Failure) -> None:
    """Leave it to the next time."""
    if failure.check(Unavailable) is None:
        _log.failure("The outcomes of notifications cannot be read", failure)


def _outcome(app: str, leased: Leased, settlement: Settlement, date: float) -> Outcome:
    answer = settlement.state, settlement.status, settlement.reason, settlement.timestamp
    attempts = leased.attempts + (settlement.state is not State.EXPIRED)
    times = leased.accepted_at, round(date, 3)  # as it is stored
    answered = settlement.unique_id, settlement.environment
    return Outcome(leased.number, leased.apns_id, app, *answer, attempts, *times, *answered, leased.content.channel)
