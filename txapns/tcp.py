"""
What the system knows about a TCP connection, and Twisted does not tell.

To write to a connection proves nothing: the octets go into the system's buffer, and for a while they are taken as
gladly when the peer is switched off, unreachable behind a router that forgot the connection, or does not read. But the
system knows how many of them the peer's system has acknowledged, and Linux tells (``SIOCOUTQ``, in tcp(7)).
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["unacknowledged"]

#: With more than this unacknowledged, in octets, the system's buffer may be full, and Twisted's not be empty.
_FULL = 16_384
#: What Twisted may hold in its buffer without having paused the producer, in octets.
_BUFFERED = 65_536


def unacknowledged(transport: Any) -> int:
    """
    Tell how much of what was written the peer's system has not acknowledged.

    :param transport: a transport of Twisted's, with or without TLS.
    :returns: how many octets at the most, as they are on the wire; 0 where the system does not tell.
    """
    while (inner := getattr(transport, "transport", None)) is not None:  # TLS has TCP as its transport
        transport = inner
    connection = getattr(transport, "socket", None)
    if connection is None or not sys.platform.startswith("linux"):
        return 0
    import fcntl
    import termios

    try:
        answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):  # it is closed, or no TCP connection
        return 0
    queued = int.from_bytes(answer, sys.byteorder)
    return queued + _BUFFERED if queued > _FULL else queued
