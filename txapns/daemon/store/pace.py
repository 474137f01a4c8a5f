"""
How many notifications a second may be leased of an app that has a limit.

The store knows for each app up to when it has spent: each notification spends the time that one takes at that rate.
What was not spent in the last :data:`BURST` seconds may be spent at once, and one more. So in any T seconds at most
*rate* × (T + 0.5) + 1 are leased, and over a long time as many as the rate says, if they are sent as fast. In
PostgreSQL that is so for all nodes together: who leases has the app locked, and writes there what is spent.

Times are whole microseconds of the queue's time.
"""

from __future__ import annotations

__all__ = ["BURST", "allowed", "spent"]

#: For how many seconds what may be sent can be saved up.
BURST = 0.5

_SECOND = 1_000_000


# Nodes do not agree on the time to the millisecond. If more is spent than this, the clock was set back.
_SLACK = 2 * _SECOND


def _burst(rate: int) -> int:
    return int(BURST * _SECOND) - (-_SECOND // rate)


def _begin(until: int, now: int, rate: int) -> int:
    return now if until > now + _burst(rate) + _SLACK else max(until, now)


def allowed(until: int, now: int, rate: int) -> int:
    """
    Tell how many may be leased now.

    :param until: up to when is spent.
    """
    return max(0, now + _burst(rate) - _begin(until, now, rate)) * rate // _SECOND


def spent(until: int, now: int, rate: int, count: int) -> int:
    """Tell up to when is spent once some are leased."""
    return _begin(until, now, rate) + -(-count * _SECOND // rate)
