"""
Run ``txapns``, and watch for how long at a time it holds the reactor: ``watched.py [arguments of txapns]``.

For each line that it reads, it prints the longest turn since the one before: the CPU time of the reactor's thread from
one look at the clock to the next, in ms. So neither other programs nor the daemon's other threads count.
"""

import sys
import threading
import time

from twisted.internet.base import ReactorBase

from txapns.command.main import main


class Watch:
    """The longest turn."""

    longest = 0.0
    last = 0.0


def watched(reactor):
    """Begin a turn."""
    now = time.thread_time()
    Watch.longest, Watch.last = max(Watch.longest, now - Watch.last), now
    run_until_current(reactor)


def answer():
    """Print the longest turn whenever it is asked for."""
    for _ in sys.stdin:
        longest, Watch.longest = Watch.longest, 0.0
        print(f"{longest * 1e3:.3f}", flush=True)


run_until_current, ReactorBase.runUntilCurrent = ReactorBase.runUntilCurrent, watched
threading.Thread(target=answer, daemon=True).start()
main()
