"""
File descriptors: as many as the limits of the configuration can ask for, and some that no caller gets.

Each connection is one, and the system lets a process have only so many: 1,024 unless somebody raised that. When they
run out, nobody can connect any more, who asks for the daemon's health no more than others, and no file can be opened.
So the limit is raised at the start as far as is needed and allowed. Where that is not far enough, fewer connections are
taken. The last numbers are kept from callers, whatever was miscounted: the kernel gives the lowest number that is free,
so a high one shows that few are left.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from twisted.logger import Logger

if sys.platform != "win32":  # where there is no such limit
    import resource

__all__ = ["KEPT", "OWN", "are_left", "available", "share"]

#: How many the daemon needs for itself: the database, what it listens at, its log, a few files that it reads.
OWN = 64
#: How many of the last are not for callers.
KEPT = 16

_log = Logger()


def available(needed: int) -> int:
    """
    Raise the limit of the process to what is needed, as far as that is allowed.

    :param needed: how many descriptors the process may come to have.
    :returns: how many it may have, at most as many as are needed.
    """
    if sys.platform == "win32":
        return needed
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _below(soft, needed):
        wanted = min(needed, hard) if hard != resource.RLIM_INFINITY else needed
        with suppress(ValueError, OSError):  # macOS allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return soft if _below(soft, needed) else needed


def _below(limit: int, needed: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < needed


def share(clients: int, connections: int) -> float:
    """
    Find out which part of the connections that the configuration allows can be had, and say so where it is not all.

    :param clients: how many connections of callers the configuration allows, over all that listens.
    :param connections: how many connections to Apple.
    :returns: the part, from 0 to 1.
    """
    others = OWN + KEPT + connections
    needed = clients + others
    found = available(needed)
    if found >= needed:
        return 1.0
    part = max(0, found - others) / max(1, clients)
    _log.warn(
        "the configuration allows {clients} connections of callers, which takes {needed} file descriptors; the system "
        "allows {count}, so the daemon takes only {part:.0%} of the connections. Raise the limit (LimitNOFILE in the "
        "unit, ulimit -n), or lower limits.clients",
        clients=clients,
        needed=needed,
        count=found,
        part=part,
    )
    return part


def are_left() -> bool:
    """Tell whether there are still descriptors for callers."""
    if sys.platform == "win32":
        return True
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        number = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return False
    os.close(number)
    return not _below(soft, number + KEPT + 1)
