"""
Facts about a TCP connection that Twisted's transports do not expose.

A write proves nothing: the bytes go into the system's buffer, which accepts them for a while even if the peer is
switched off, unreachable behind a router that lost the connection, or does not read. But the system knows how many of
them the peer's system has acknowledged, and Linux exposes it (``SIOCOUTQ``, in tcp(7)).

Under TLS, if the peer closes the connection while our buffers are full, Twisted closes it only when they are empty and
no longer refilled. Anything written in the meantime is dropped.

And when a write fails, Twisted closes the connection without reading, although the peer's last bytes may have arrived
before its reset.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["closing", "read_last", "unacknowledged"]

#: With more unacknowledged bytes than this, the system's buffer may be full, and Twisted's buffer may not be empty.
_FULL = 16_384
#: How many bytes Twisted may hold in its buffer without having paused the producer.
_BUFFERED = 65_536


def unacknowledged(transport: Any) -> int:
    """
    Find how much of the written data the peer's system has not acknowledged.

    :param transport: a Twisted transport, with or without TLS.
    :returns: an upper limit in bytes, as on the wire; 0 if the system does not say.
    """
    connection = getattr(_layers(transport)[-1], "socket", None)
    if connection is None or not sys.platform.startswith("linux"):
        return 0
    import fcntl
    import termios

    try:
        answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):  # it is closed, or not TCP
        return 0
    queued = int.from_bytes(answer, sys.byteorder)
    return queued + _BUFFERED if queued > _FULL else queued


def closing(transport: Any) -> bool:
    """Tell whether a transport, with or without TLS, will be closed once its buffers are empty."""
    return bool(getattr(_layers(transport)[-1], "disconnecting", False))


def read_last(transport: Any) -> None:
    """
    Read what has arrived on a connection that is about to be given up. Call it in ``stopProducing``.

    :param transport: a Twisted transport with TLS, which decrypts the data and passes it to its protocol.
    """
    *_, tls, tcp = [None, *_layers(transport)]
    connection = getattr(tcp, "socket", None)
    if tls is not None and connection is not None:
        try:
            data = connection.recv(65_536)
        except (OSError, ValueError):  # no data, or the reset
            return
        if data:
            tls.dataReceived(data)


def _layers(transport: Any) -> list[Any]:
    """A transport and the transports below it: TLS has TCP as its transport."""
    layers = [transport]
    while (inner := getattr(layers[-1], "transport", None)) is not None:
        layers.append(inner)
    return layers
