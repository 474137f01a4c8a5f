"""
The circuit breaker of one app: it stops sending where nothing gets through.

=============  =====================================================================================================
state          what the sender does
=============  =====================================================================================================
*closed*       It sends.
*open*         It waits. Nothing got through, such as while the gateway could not be reached.
*half-open*    The pause is over: it sends a few notifications, ``HALF_OPEN`` at a time, and sees what comes back.
*tripped*      Like open and half-open, with longer pauses. The credential was refused or the server not verified, so
               it will be the same until somebody changes the app.
=============  =====================================================================================================

One answer that is about a notification, and not about the gateway or the credential, closes the circuit. Each failure
in the half-open state makes the next pause longer.

Where nodes share a store, each reports when the circuit of an app opens, trips or closes, and the others adopt it: a
pause is one for all, and only a few notifications are tried by all together. A node may be the only one that cannot
reach the gateway. So where something got through a moment ago, what another node found is not adopted, but refuted; and
a node that found the trouble itself sends only a few at a time until something gets through here, too.

Several chunks are under way together, and what stops one stops the others, so the same trouble is recorded many times.
While the circuit is open only trouble that trips it counts; otherwise a full pipeline would count as so many failures
in a row, and the first pause would be the longest.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from txapns._network.backoff import Backoff
from txapns.daemon.store.cluster import Circuit

__all__ = ["CircuitBreaker", "Trouble"]

_log = Logger()

#: The first and the longest pause, in seconds, while the circuit is open.
OPEN_PAUSES = 1.0, 60.0
#: The same while it is tripped.
TRIPPED_PAUSES = 10.0, 900.0
#: For how many seconds after an answer about a notification it is certain that notifications get through here.
RECENTLY = 2.0


@attrs.frozen
class Trouble:
    """
    Why none of an app's notifications get through.

    :ivar trips: whether it lasts until somebody changes the app.
    """

    reason: str
    trips: bool


@attrs.frozen
class _Opened:
    """Why the circuit is not closed, since when, until when nothing is sent, and whether another node found it."""

    trouble: Trouble
    since: float
    until: float
    adopted: bool = False


class CircuitBreaker:
    """
    Decides whether an app's notifications are sent now.

    :param report: called when it opens, trips or closes, for the other nodes.
    :param side: the side that it is for, if the app has two.
    """

    def __init__(
        self,
        app: str,
        clock: IReactorTime,
        random: Callable[[], float],
        report: Callable[[Circuit | None], None] = lambda circuit: None,
        side: str = "",
    ) -> None:
        self._about = {"app": app, "what": f"the {side} side of {app}" if side else app}
        self._clock = clock
        self._report = report
        self._opened: _Opened | None = None
        self._worked = -math.inf
        self._unproved = False  # it is closed since another node says so, and not since anything got through here
        self._down: float | None = None  # since when the log says that nothing gets through
        self._open_pauses = Backoff(*OPEN_PAUSES, random=random)
        self._tripped_pauses = Backoff(*TRIPPED_PAUSES, random=random)

    @property
    def closed(self) -> bool:
        """Whether nothing is known to be wrong."""
        return self._opened is None

    @property
    def limited(self) -> bool:
        """Whether only a few notifications may be sent, to see what comes back."""
        return self._opened is not None or self._unproved

    @property
    def tripped(self) -> bool:
        """Whether the app has to be changed."""
        return self._opened is not None and self._opened.trouble.trips

    @property
    def reason(self) -> str:
        """Why the circuit is not closed, for a person; empty if it is."""
        return "" if self._opened is None else self._opened.trouble.reason

    @property
    def since(self) -> float | None:
        """Since when it has been open, or tripped, by the reactor's clock; ``None`` if it is closed."""
        return None if self._opened is None else self._opened.since

    @property
    def until(self) -> float:
        """When the pause ends, by the reactor's clock. If that is not in the future, something may be sent."""
        return 0.0 if self._opened is None else self._opened.until

    def record(self, works: bool, trouble: Trouble | None) -> None:
        """
        Take note of what came of notifications that were sent together.

        :param works: whether there was an answer about one of them.
        :param trouble: what kept all of them from getting through, if that is known and nothing works.
        """
        if works:
            self._worked = self._clock.seconds()
            self.close()
            self._recovered()
        elif trouble is not None:
            self.open(trouble)

    def close(self) -> None:
        """Close the circuit, and begin with the first pauses again. Whether anything gets through is not known yet."""
        reported = self._opened is not None
        self._close(proved=True)
        if reported:
            self._report(None)

    def _close(self, proved: bool) -> None:
        self._opened = None
        self._unproved = not proved
        if proved:
            self._open_pauses.reset()
            self._tripped_pauses.reset()

    def open(self, trouble: Trouble) -> None:
        """Open the circuit, or trip it, and send nothing until the end of a pause."""
        now, opened = self._clock.seconds(), self._opened
        if opened is not None and now < opened.until and opened.trouble.trips >= trouble.trips:
            return
        since = opened.since if opened is not None and opened.trouble.trips == trouble.trips else now
        until = now + self._pauses(trouble).next_delay()
        self._open(_Opened(trouble, since, until))
        self._report(Circuit(trouble.reason, trouble.trips, since, until))

    def adopt(self, circuit: Circuit | None) -> None:
        """
        Take note of what another node reports.

        :param circuit: the circuit that it opened or tripped; ``None`` if it closed the circuit.
        """
        now, opened = self._clock.seconds(), self._opened
        if circuit is None:
            if opened is not None:
                self._close(proved=opened.adopted and not self._unproved)
        elif opened is None and now - self._worked <= RECENTLY:
            self._report(None)
        else:
            trouble = Trouble(circuit.reason, circuit.trips)
            if opened is None or now >= opened.until:
                self._pauses(trouble).next_delay()  # the next pause is the one after that of the other node
            adopted = opened is None or opened.adopted
            self._open(_Opened(trouble, circuit.since, circuit.until, adopted))

    def _pauses(self, trouble: Trouble) -> Backoff:
        return self._tripped_pauses if trouble.trips else self._open_pauses

    def _open(self, opened: _Opened) -> None:
        reason = opened.trouble.reason
        if opened.trouble.trips and not self.tripped:
            _log.error("{what} is tripped: {reason}", reason=reason, **self._about)
        elif self._down is None:
            _log.warn("the circuit of {what} is open: {reason}", reason=reason, **self._about)
        if self._down is None:
            self._down = self._clock.seconds()
        self._opened = opened

    def _recovered(self) -> None:
        """Log that notifications get through again, if the log has said that they do not."""
        down, self._down = self._down, None
        if down is not None:
            seconds = round(self._clock.seconds() - down)
            _log.info("{what} works again, after {seconds} s", seconds=seconds, **self._about)

    def trip(self, reason: str) -> None:
        """Trip the circuit because there is nothing to try, and so nothing to wait for but a change of the app."""
        now, trouble = self._clock.seconds(), Trouble(reason, trips=True)
        if self._opened is None or self._opened.trouble != trouble:
            self._opened = _Opened(trouble, now, now)
