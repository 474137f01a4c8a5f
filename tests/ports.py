"""Ports for servers that cannot be told to pick one, or do not say which they picked."""

from __future__ import annotations

import random
import socket

__all__ = ["reserve"]

# Below the ports that systems hand out by themselves (from 32,768 on Linux), so that no connection of another program
# takes one between the look and its use.
_FIRST, _LAST = 12_000, 32_000


def reserve(count: int = 1) -> list[int]:
    """
    Find free TCP ports of the loopback interface.

    :param count: how many, in a row.
    :returns: the ports.
    """
    while True:
        first = random.randrange(_FIRST, _LAST - count)
        ports = list(range(first, first + count))
        if all(map(_is_free, ports)):
            return ports


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
