"""
Python's collector of garbage in a process that passes very many small values on.

By itself it looks through the young objects each time there are 700 more of them, and now and then through all. What it
finds in a gateway are notifications under way: thousands, all in use, and none of them in a cycle, which is all that it
is there for; what is in none goes by itself. So it is made to look less often, and never at what the process began
with. ``docs/daemon-performance.rst`` has the figures.
"""

from __future__ import annotations

import gc

__all__ = ["calm_collector"]

#: After how many young objects more the collector looks through them, instead of 700; it takes some milliseconds.
YOUNG = 50_000


def calm_collector() -> None:
    """
    Have the collector look less often, and no more at what there is now.

    It is for a process that has started and whose only work is that of a gateway.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
