"""What ends a program that hangs, and tells where."""

from __future__ import annotations

import faulthandler
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["LONGEST", "until_exit", "watched"]

#: How long each thing that a program does may take, in seconds. They take tenths of a second of CPU time; so what takes
#: longer hangs, and be the machine ever so busy.
LONGEST = 10.0

_under_way = 0
_lock = threading.Lock()


@contextmanager
def watched() -> Iterator[None]:
    """
    End the process, with the stacks of all threads on standard error, if this takes too long.

    With several at once, in threads, it is too long when none of them ends. No process may be forked meanwhile that
    uses this too.
    """
    global _under_way
    with _lock:
        _under_way += 1
        until_exit()
    try:
        yield
    finally:
        with _lock:
            _under_way -= 1
            if _under_way:
                until_exit()
            else:
                faulthandler.cancel_dump_traceback_later()


def until_exit() -> None:
    """End the process so if it has not ended by itself by then."""
    faulthandler.dump_traceback_later(LONGEST, exit=True, file=sys.__stderr__)
