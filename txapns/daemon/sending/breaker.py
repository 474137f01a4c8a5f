"""
The circuit breaker of one app: it stops sending where nothing gets through.

=============  =====================================================================================================
state          what the sender does
=============  =====================================================================================================
*closed*       It sends.
*open*         It waits. Nothing got through, such as while the gateway could not be reached.
*half-open*    The pause is over: it sends a few notifications, :data:`HALF_OPEN` at a time, and sees what comes back.
*tripped*      Like open and half-open, with longer pauses. The credential was refused or the server not verified, so
               it will be the same until somebody changes the app.
=============  =====================================================================================================

One answer that is about a notification, and not about the gateway or the credential, closes the circuit. Each failure
in the half-open state makes the next pause longer.

Several chunks are under way together, and what stops one stops the others, so the same trouble is recorded many times.
While the circuit is open only trouble that trips it counts; otherwise a full pipeline would count as so many failures
in a row, and the first pause would be the longest.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from txapns._network.backoff import Backoff

__all__ = ["CircuitBreaker", "Trouble"]

_log = Logger()

#: How many notifications are sent together in the half-open state.
HALF_OPEN = 5
#: The first and the longest pause, in seconds, while the circuit is open.
OPEN_PAUSES = 1.0, 60.0
#: The same while it is tripped.
TRIPPED_PAUSES = 10.0, 900.0


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
    """Why the circuit is not closed, since when, and until when nothing is sent."""

    trouble: Trouble
    since: float
    until: float


class CircuitBreaker:
    """Decides whether an app's notifications are sent now."""

    def __init__(self, app: str, clock: IReactorTime, random: Callable[[], float]) -> None:
        self._app = app
        self._clock = clock
        self._opened: _Opened | None = None
        self._open_pauses = Backoff(*OPEN_PAUSES, random=random)
        self._tripped_pauses = Backoff(*TRIPPED_PAUSES, random=random)

    @property
    def closed(self) -> bool:
        """Whether nothing is known to be wrong."""
        return self._opened is None

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
            if self.tripped:
                _log.info("{app} is no longer tripped", app=self._app)
            self.close()
        elif trouble is not None:
            self.open(trouble)

    def close(self) -> None:
        """Close the circuit, and begin with the first pauses again."""
        self._opened = None
        self._open_pauses.reset()
        self._tripped_pauses.reset()

    def open(self, trouble: Trouble) -> None:
        """Open the circuit, or trip it, and send nothing until the end of a pause."""
        now, opened = self._clock.seconds(), self._opened
        if opened is not None and now < opened.until and opened.trouble.trips >= trouble.trips:
            return
        if trouble.trips and not self.tripped:
            _log.error("{app} is tripped: {reason}", app=self._app, reason=trouble.reason)
        since = opened.since if opened is not None and opened.trouble.trips == trouble.trips else now
        pauses = self._tripped_pauses if trouble.trips else self._open_pauses
        self._opened = _Opened(trouble, since, now + pauses.next_delay())

    def trip(self, reason: str) -> None:
        """Trip the circuit because there is nothing to try, and so nothing to wait for but a change of the app."""
        now, trouble = self._clock.seconds(), Trouble(reason, trips=True)
        if self._opened is None or self._opened.trouble != trouble:
            self._opened = _Opened(trouble, now, now)
