"""
Python's garbage collector, tuned for a process that passes on very many small values.

By default the collector runs whenever there are 700 more young objects, and now and then it examines all objects. In
the daemon these are notifications in flight: thousands, all in use, and none of them in a reference cycle. Finding
cycles is the collector's only purpose; everything else is freed by reference counting. So it runs less often, and never
examines what existed when the process started. ``docs/daemon-performance.rst`` has the figures.
"""

from __future__ import annotations

import gc

__all__ = ["calm_collector"]

#: The number of new objects after which the collector runs, instead of 700. A run takes a few milliseconds.
YOUNG = 50_000


def calm_collector() -> None:
    """
    Run the garbage collector less often, and exclude all objects that exist now.

    Call it once the process has started and does nothing but the daemon's work.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
