"""
What happened in the last quarter of an hour, in memory: how many notifications there were, and what Apple refused last.

Nothing here grows with the number of notifications. The counts are read from a
:class:`~txapns.daemon.operations.metrics.Totals` every other second and become one number for each ten seconds; of the
    refusals
the last few are kept, with their tokens shortened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txapns._network.clocks import wall_clock
from txapns.daemon.operations.metrics import Totals
from txapns.daemon.values import Leased, Settlement, State
from txapns.errors import redact

__all__ = ["KEPT", "SPAN", "STEP", "Counts", "History", "Refusal"]

#: How long a step is, in seconds, and how many are kept.
STEP, SPAN = 10, 90
#: How many refusals are kept.
KEPT = 12

_TICK = 2.0
_REJECTED = State.REJECTED
_RECENT = 5  # ticks over which the present rate is measured


@attrs.frozen
class Counts:
    """
    How many notifications there were in some time.

    :ivar taken: accepted from callers.
    :ivar delivered: accepted by Apple.
    :ivar refused: refused by Apple for good, expired or given up.
    :ivar retried: put off to be tried again.
    """

    taken: float = 0
    delivered: float = 0
    refused: float = 0
    retried: float = 0


@attrs.frozen
class Refusal:
    """
    One notification that Apple refused.

    :ivar at: when, in UNIX seconds.
    :ivar app: the app's name.
    :ivar token: the device, shortened.
    :ivar status: the HTTP status.
    :ivar reason: Apple's reason.
    """

    at: float
    app: str
    token: str
    status: int
    reason: str


class History:
    """
    Remembers.

    :param clock: the reactor, or a ``Clock``.
    :param totals: where the counts are.
    """

    def __init__(self, clock: IReactorTime, totals: Totals) -> None:
        self._clock = clock
        self._wall = wall_clock(clock)
        self._totals = totals
        self._steps: deque[tuple[float, Counts]] = deque(maxlen=SPAN)
        self._recent: deque[tuple[float, Totals]] = deque(maxlen=_RECENT + 1)
        self._refusals: deque[Refusal] = deque(maxlen=KEPT)
        self._begun = (0.0, attrs.evolve(totals))
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Begin."""
        now = self._clock.seconds()
        self._begun = self._round(now), attrs.evolve(self._totals)
        self._recent.append((now, attrs.evolve(self._totals)))
        self._timer = self._clock.callLater(_TICK, self._tick)

    def stop(self) -> None:
        """Remember nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def steps(self) -> list[tuple[float, Counts]]:
        """
        Give, for each step that is over, when it began, and how many there were; the oldest first.

        The dates are those of the clock on the wall as it is set now.
        """
        ahead = self._wall.now() - self._clock.seconds()
        return [(round(began + ahead), counts) for began, counts in self._steps]

    def refusals(self) -> list[Refusal]:
        """Give what Apple refused last, the latest first."""
        return list(self._refusals)

    def rates(self) -> Counts:
        """Tell how many there are now, for each second."""
        if len(self._recent) < 2:
            return Counts()
        (before, first), (now, last) = self._recent[0], self._recent[-1]
        return _difference(first, last, max(now - before, 0.001))

    def settled(self, app: str, leased: Sequence[Leased], settlements: Sequence[Settlement]) -> None:
        """
        An attempt was made, for notifications that were under way together.

        :param app: the app's name.
        :param leased: the notifications.
        :param settlements: what became of them.
        """
        refused = [each for each in settlements if each.state is _REJECTED][-KEPT:]
        if not refused:
            return
        numbers = {each.number for each in refused}
        tokens = {each.number: redact(each.token) for each in leased if each.number in numbers}
        now = self._wall.now()
        for each in refused:
            self._refusals.appendleft(Refusal(now, app, tokens.get(each.number, "…"), each.status, each.reason))

    def _tick(self) -> None:
        now = self._clock.seconds()
        self._timer = self._clock.callLater(_TICK, self._tick)
        self._recent.append((now, attrs.evolve(self._totals)))
        began, before = self._begun
        if now - began >= STEP * SPAN:  # the process stood still
            self._begun = self._round(now), attrs.evolve(self._totals)
        elif now - began >= STEP:
            counts = _difference(before, self._totals, 1)
            self._steps.append((began, counts))
            for number in range(1, int((now - began) // STEP)):
                self._steps.append((began + number * STEP, Counts()))
            self._begun = now - (now - began) % STEP, attrs.evolve(self._totals)

    def _round(self, now: float) -> float:
        """Find when a step begins: at a round time, as the clock on the wall has it."""
        return now - self._wall.now() % STEP


def _difference(before: Totals, after: Totals, divisor: float) -> Counts:
    return Counts(
        (after.taken - before.taken) / divisor,
        (after.delivered - before.delivered) / divisor,
        (after.refused - before.refused) / divisor,
        (after.retried - before.retried) / divisor,
    )
