"""
File descriptors: as many as the limits of the configuration need, with some reserved for the daemon itself.

Each connection takes one, and the system limits the number of each process, by default to 1,024. Without a free
descriptor nobody can connect, not even to ask for the daemon's health, and no file can be opened. So the daemon raises
the limit when it starts, as far as it needs and may. If that is not enough, it accepts fewer connections. The last
descriptors are reserved in any case, even if something was miscounted: the kernel returns the lowest free number, so a
high number shows that few are left.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from twisted.logger import Logger

if sys.platform != "win32":  # which has no such limit
    import resource

__all__ = ["KEPT", "OWN", "are_left", "available", "share"]

#: How many the daemon needs for itself: the database, its listeners, its log, a few files that it reads.
OWN = 64
#: How many of the last are reserved.
KEPT = 16

_log = Logger()


def available(needed: int) -> int:
    """Raise the limit of the process to the number that it needs, as far as that is allowed; returns the new limit."""
    if sys.platform == "win32":
        return needed
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _below(soft, needed):
        wanted = min(needed, hard) if hard != resource.RLIM_INFINITY else needed
        with suppress(ValueError, OSError):  # macOS allows fewer than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return soft if _below(soft, needed) else needed


def _below(limit: int, needed: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < needed


def share(clients: int, connections: int) -> float:
    """
    Find which share of the connections that the configuration allows is possible. Warn if it is not all.

    :param clients: how many connections of callers the configuration allows, for all listeners.
    :param connections: how many connections to Apple it allows.
    :returns: the share, from 0 to 1.
    """
    reserved = OWN + KEPT + connections
    needed = clients + reserved
    found = available(needed)
    if found >= needed:
        return 1.0
    part = max(0, found - reserved) / max(1, clients)
    _log.warn(
        "the configuration allows {clients} connections of callers, which need {needed} file descriptors; the system "
        "allows {count}, so the daemon accepts only {part:.0%} of the connections. Raise the limit (LimitNOFILE in the "
        "unit, ulimit -n), or lower limits.clients",
        clients=clients,
        needed=needed,
        count=found,
        part=part,
    )
    return part


def are_left() -> bool:
    """Tell whether descriptors are left for callers."""
    if sys.platform == "win32":
        return True
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        number = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return False
    os.close(number)
    return not _below(soft, number + KEPT + 1)
