"""
The last 15 minutes, in memory: how many notifications there were, and the latest that failed.

Memory does not grow with the number of notifications. The counts are read every two seconds from
:class:`~txapns.daemon.operations.metrics.Totals` and become one number for every ten seconds; only the latest
rejections, and the latest failures of the apps that had some last, are kept, with shortened tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import attrs
from twisted.internet.interfaces import IReactorTime

from txapns._network.alarm import Alarm
from txapns._network.clocks import wall_clock
from txapns.daemon.operations.activity import Activity
from txapns.daemon.operations.metrics import Totals
from txapns.daemon.values import Leased, Settlement, State
from txapns.errors import redact

__all__ = ["KEPT", "MOST_APPS", "SPAN", "STEP", "FailedNotification", "History"]

#: The length of a step in seconds, and how many steps are kept.
STEP, SPAN = 10, 90
#: How many rejections are kept, and how many failures of an app.
KEPT = 12
#: Of how many apps failures are kept.
MOST_APPS = 1_000

_TICK = 2.0
_REJECTED = State.REJECTED
_FAILED = (State.REJECTED, State.EXPIRED, State.DEAD)
_RECENT = 5  # ticks over which the current rate is measured


@attrs.frozen
class FailedNotification:
    """A notification that Apple rejected, that expired or that was given up; ``at`` is in UNIX seconds."""

    at: float
    app: str
    token: str
    state: State
    status: int
    reason: str


class History:
    """
    Remembers the last 15 minutes.

    :ivar activity: how busy each app is.
    """

    def __init__(self, clock: IReactorTime, totals: Totals) -> None:
        self.activity = Activity(clock)
        self._clock = clock
        self._wall = wall_clock(clock)
        self._totals = totals
        self._steps: deque[tuple[float, Totals]] = deque(maxlen=SPAN)
        self._recent: deque[tuple[float, Totals]] = deque(maxlen=_RECENT + 1)
        self._rejections: deque[FailedNotification] = deque(maxlen=KEPT)
        self._failures: dict[str, deque[FailedNotification]] = {}  # those that had some last at the end
        self._begun = (0.0, attrs.evolve(totals))
        self._alarm = Alarm(clock, self._tick)

    def start(self) -> None:
        """Start counting."""
        now = self._clock.seconds()
        self._begun = self._round(now), attrs.evolve(self._totals)
        self._recent.append((now, attrs.evolve(self._totals)))
        self._alarm.set(_TICK)

    def stop(self) -> None:
        """Stop counting."""
        self._alarm.cancel()

    def steps(self) -> list[tuple[float, Totals]]:
        """
        Return for each finished step when it began and what it counted, oldest first.

        The dates follow the wall clock as it is set now.
        """
        ahead = self._wall.now() - self._clock.seconds()
        return [(round(began + ahead), counts) for began, counts in self._steps]

    def rejections(self) -> list[FailedNotification]:
        """Return the latest rejections, newest first."""
        return list(self._rejections)

    def failures(self, app: str) -> list[FailedNotification]:
        """Return the latest failures of an app, newest first."""
        return list(self._failures.get(app, ()))

    def rates(self) -> Totals:
        """Return the current rates per second."""
        if len(self._recent) < 2:
            return Totals()
        (before, first), (now, last) = self._recent[0], self._recent[-1]
        return _difference(first, last, max(now - before, 0.001))

    def settled(self, app: str, leased: Sequence[Leased], settlements: Sequence[Settlement]) -> None:
        """Keep the latest failures of a chunk, and how soon it was answered."""
        self.activity.settled(app, leased, settlements)
        failed = [each for each in settlements if each.state in _FAILED][-KEPT:]
        if not failed:
            return
        numbers = {each.number for each in failed}
        tokens = {each.number: redact(each.token) for each in leased if each.number in numbers}
        now = self._wall.now()
        failures = self._failures.pop(app, None) or deque(maxlen=KEPT)
        self._failures[app] = failures
        if len(self._failures) > MOST_APPS:
            del self._failures[next(iter(self._failures))]
        for each in failed:
            token = tokens.get(each.number, "…")
            failures.appendleft(FailedNotification(now, app, token, each.state, each.status, each.reason))
        # What the page shows of all apps is what Apple said.
        self._rejections.extendleft([each for each in list(failures)[len(failed) - 1 :: -1] if each.state is _REJECTED])

    def _tick(self) -> None:
        now = self._clock.seconds()
        self._alarm.set(_TICK)
        self._recent.append((now, attrs.evolve(self._totals)))
        began, before = self._begun
        if now - began >= STEP * SPAN:  # the process was suspended
            self._begun = self._round(now), attrs.evolve(self._totals)
        elif now - began >= STEP:
            counts = _difference(before, self._totals, 1)
            self._steps.append((began, counts))
            for number in range(1, int((now - began) // STEP)):
                self._steps.append((began + number * STEP, Totals()))
            self._begun = now - (now - began) % STEP, attrs.evolve(self._totals)

    def _round(self, now: float) -> float:
        """Return when the step of a time begins: at a round time of the wall clock."""
        return now - self._wall.now() % STEP


def _difference(before: Totals, after: Totals, divisor: float) -> Totals:
    pairs = zip(attrs.astuple(before), attrs.astuple(after), strict=True)
    return Totals(*[(new - old) / divisor for old, new in pairs])
