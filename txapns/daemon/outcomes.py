"""
Who waits for what becomes of which notification: callers who want to be told instead of asking again and again.

Most callers do not wait, and what nobody waits for costs one look-up at the most, and nothing where nobody waits at
all. Outcomes are told when they are stored: whoever asks the spool afterwards is told the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from txapns.daemon.errors import Unavailable
from txapns.daemon.interfaces import ISpool
from txapns.daemon.values import Outcome, State

__all__ = ["Outcomes"]


class _Wait:
    """One caller who waits, for some notifications."""

    def __init__(self, app: str, apns_ids: Iterable[str], waits: dict[tuple[str, str], list[_Wait]]) -> None:
        self.app = app
        self.missing = set(apns_ids)
        self.found: dict[str, Outcome] = {}
        self.done: Deferred[Mapping[str, Outcome]] = Deferred(lambda _: self.leave())
        self.left = False
        self._waits = waits
        for apns_id in self.missing:
            waits.setdefault((app, apns_id), []).append(self)

    def learn(self, outcome: Outcome) -> None:
        """
        Take note of one outcome.

        :param outcome: it, of one of the notifications; where it is known already, this does nothing.
        """
        if outcome.apns_id in self.missing:
            self._forget(outcome.apns_id)
            self.found[outcome.apns_id] = outcome
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
        for apns_id in list(self.missing):
            self._forget(apns_id)

    def _forget(self, apns_id: str) -> None:
        self.missing.discard(apns_id)
        key = self.app, apns_id
        others = self._waits[key]
        others.remove(self)
        if not others:
            del self._waits[key]


class Outcomes:
    """
    Those who wait.

    :param clock: the reactor, or a ``Clock``.
    :param spool: where outcomes are that became known before anybody waited.
    :param capacity: how many notifications may be waited for at a time.
    """

    def __init__(self, clock: IReactorTime, spool: ISpool, capacity: int = 100_000) -> None:
        self._clock = clock
        self._spool = spool
        self._capacity = capacity
        # By app as well, since callers may choose ids: whose is whose is not for them to say.
        self._waits: dict[tuple[str, str], list[_Wait]] = {}

    def __len__(self) -> int:
        """For how many notifications somebody waits."""
        return len(self._waits)

    def __contains__(self, notification: object) -> bool:
        """Whether somebody waits for a notification, which is told by its app's name and its id."""
        return notification in self._waits

    def wait(
        self, app: str, apns_ids: Sequence[str], timeout: float, *, fresh: bool = False
    ) -> Deferred[Mapping[str, Outcome]]:
        """
        Wait until notifications have a final state.

        Where more is waited for than there is room for, only what is stored by now is found.

        :param app: the app's name.
        :param apns_ids: their ids.
        :param timeout: for how many seconds at the most.
        :param fresh: whether they were accepted just now, in this turn of the reactor, by the caller, and so cannot be
            settled yet; the spool is not asked then.
        :returns: a ``Deferred`` of the outcomes of those that have one by then, by id. It never fails.
        """
        room = len(self._waits) + len(apns_ids) <= self._capacity
        wait = _Wait(app, apns_ids, self._waits if room else {})
        done = wait.done
        timer = self._clock.callLater(timeout if room else 0.0, wait.end)

        def ended(result: Mapping[str, Outcome]) -> Mapping[str, Outcome]:
            if timer.active():
                timer.cancel()
            return result

        done.addBoth(ended)
        if not wait.missing:
            wait.end()
        elif not fresh:
            Deferred.fromCoroutine(self._look(wait))
        return done

    async def _look(self, wait: _Wait) -> None:
        """Ask the spool for each that nobody told of meanwhile, one after the other."""
        for apns_id in list(wait.missing):
            if wait.left:
                return
            if apns_id not in wait.missing:
                continue
            try:
                outcome = await self._spool.outcome(apns_id, [wait.app])
            except Unavailable:
                return  # it will be told, or the time will be over
            if outcome is not None and outcome.app == wait.app and outcome.state is not State.WAITING:
                wait.learn(outcome)

    def tell(self, outcomes: Iterable[Outcome]) -> None:
        """
        Tell outcomes to those who wait for them.

        :param outcomes: the outcomes, which are final and stored.
        """
        for outcome in outcomes:
            for wait in list(self._waits.get((outcome.app, outcome.apns_id), ())):
                wait.learn(outcome)

    def stop(self) -> None:
        """Tell all who wait what there is: there will be nothing more."""
        for wait in [wait for waits in self._waits.values() for wait in waits]:
            wait.end()
