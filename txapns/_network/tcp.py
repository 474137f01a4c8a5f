"""
What there is to know about a TCP connection, and a transport of Twisted's does not tell.

To write to a connection proves nothing: the octets go into the system's buffer, and for a while they are taken as
gladly when the peer is switched off, unreachable behind a router that forgot the connection, or does not read. But the
system knows how many of them the peer's system has acknowledged, and Linux tells (``SIOCOUTQ``, in tcp(7)).

Under TLS a connection that the peer closed while our buffers were full is not closed by Twisted until they are empty
and nobody fills them again; what is written meanwhile is dropped.

And when writing fails, Twisted closes without reading, though the peer's last words may have come before its reset.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["closing", "read_last", "unacknowledged"]

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
    connection = getattr(_layers(transport)[-1], "socket", None)
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


def closing(transport: Any) -> bool:
    """
    Tell whether the connection is to be closed once its buffers are empty.

    :param transport: a transport of Twisted's, with or without TLS.
    :returns: whether it is.
    """
    return bool(getattr(_layers(transport)[-1], "disconnecting", False))


def read_last(transport: Any) -> None:
    """
    Read what has come and was not read, for a connection that is about to be given up; ``stopProducing`` is the time.

    :param transport: a transport of Twisted's with TLS, which decrypts it and hands it to its protocol.
    """
    *_, tls, tcp = [None, *_layers(transport)]
    connection = getattr(tcp, "socket", None)
    if tls is not None and connection is not None:
        try:
            data = connection.recv(65_536)
        except (OSError, ValueError):  # nothing, or the reset
            return
        if data:
            tls.dataReceived(data)


def _layers(transport: Any) -> list[Any]:
    """A transport and what is below it: TLS has TCP as its transport."""
    layers = [transport]
    while (inner := getattr(layers[-1], "transport", None)) is not None:
        layers.append(inner)
    return layers
