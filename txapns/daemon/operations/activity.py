"""
How busy each app is at the moment: how many notifications a second Apple answers, and how soon.

Both are measured once per chunk, in memory that does not grow with the number of notifications. Durations are counted
in buckets, each a fifth longer than the one before, so a percentile is at most a fifth too high. What was counted is
forgotten after five to ten minutes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import attrs
from twisted.internet.interfaces import IReactorTime

from txapns.daemon.values import Leased, Settlement, State

__all__ = ["STEP", "WINDOW", "Activity", "AppActivity"]

#: Over how many seconds the rate is measured.
STEP = 10.0
#: For how many seconds durations are counted before those counted earlier are forgotten.
WINDOW = 300.0

_SHORTEST = 0.001
_GROWTH = math.log(1.2)
_ANSWERED = (State.ACCEPTED, State.REJECTED)


@attrs.frozen
class AppActivity:
    """
    How busy an app is.

    :ivar rate: how many notifications a second Apple answers, accepting or rejecting them.
    :ivar median: within how many seconds after their acceptance by the daemon Apple has answered half of them;
        ``None`` if there was no answer lately.
    :ivar p99: the same of 99 in 100.
    """

    rate: float = 0.0
    median: float | None = None
    p99: float | None = None


@attrs.define(eq=False)
class _Counts:
    """
    What is counted for an app.

    :ivar last: when something was counted last.
    :ivar step: the number of the step that is being counted, and how many were answered in it and in the one before.
    :ivar window: the number of the window that is being counted, and the durations in it and in the one before.
    """

    last: float = 0.0
    step: int = 0
    answered: int = 0
    answered_before: int = 0
    window: int = 0
    durations: Counter[int] = attrs.Factory(Counter)
    durations_before: Counter[int] = attrs.Factory(Counter)

    def turn(self, now: float) -> None:
        """Begin another step or window if it is time."""
        step, window = int(now // STEP), int(now // WINDOW)
        if step != self.step:
            self.answered_before = self.answered if step == self.step + 1 else 0
            self.step, self.answered = step, 0
        if window != self.window:
            self.durations_before = self.durations if window == self.window + 1 else Counter()
            self.window, self.durations = window, Counter()


class Activity:
    """
    Measures how busy apps are.

    :param clock: the reactor, or a ``Clock``.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._counts: dict[str, _Counts] = {}  # those that were busy last at the end

    def settled(self, app: str, leased: Sequence[Leased], settlements: Sequence[Settlement]) -> None:
        """Count an attempt to send a chunk, given the settlements of those that were not just accepted."""
        unanswered = {each.number for each in settlements if each.state not in _ANSWERED}
        answered = [each.since for each in leased if each.number not in unanswered]
        if not answered:
            return
        now = self._clock.seconds()
        counts = self._counts.pop(app, None) or _Counts()
        self._counts[app] = counts
        counts.turn(now)
        counts.last = now
        counts.answered += len(answered)
        # Those of one request were accepted at the same time.
        for since, count in Counter(answered).items():
            counts.durations[_bucket(now - since)] += count
        while (oldest := next(iter(self._counts))) and self._counts[oldest].last < now - 2 * WINDOW:
            del self._counts[oldest]

    def of(self, app: str) -> AppActivity:
        """Tell how busy an app is."""
        counts = self._counts.get(app)
        if counts is None:
            return AppActivity()
        now = self._clock.seconds()
        counts.turn(now)
        durations = counts.durations + counts.durations_before
        # The step that is being counted becomes the more important the more of it is over.
        part = now % STEP / STEP
        rate = (counts.answered + counts.answered_before * (1 - part)) / STEP
        return AppActivity(rate, _percentile(durations, 0.5), _percentile(durations, 0.99))


def _bucket(seconds: float) -> int:
    """Return the number of the bucket of a duration."""
    return math.ceil(math.log(max(seconds, _SHORTEST) / _SHORTEST) / _GROWTH)


def _percentile(durations: Counter[int], share: float) -> float | None:
    """Return the upper end of the bucket below whose end there is a share of all durations."""
    left = share * durations.total()
    for bucket in sorted(durations):
        left -= durations[bucket]
        if left <= 1e-9:
            return _SHORTEST * math.exp(bucket * _GROWTH)
    return None
