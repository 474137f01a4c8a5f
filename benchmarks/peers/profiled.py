"""
Run ``txapns`` with a profile of each thread: ``profiled.py FILE [arguments of txapns]``.

At the end, FILE has the profile of the reactor's thread, and FILE.1, FILE.2 … those of the others, as ``pstats`` reads
them. It makes the program two to three times as slow, and what is called often looks dearer than it is.
"""

import cProfile
import itertools
import sys
import threading

from txapns.command.main import main

FILE = sys.argv.pop(1)
number = itertools.count(1)
run = threading.Thread.run


def profiled(thread):
    """Run a thread with a profile."""
    profile = cProfile.Profile()
    try:
        profile.runcall(run, thread)
    finally:
        profile.dump_stats(f"{FILE}.{next(number)}")


threading.Thread.run = profiled
profile = cProfile.Profile()
try:
    profile.runcall(main)
finally:
    profile.dump_stats(FILE)
