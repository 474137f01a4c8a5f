"""
The options of a client.
"""

from __future__ import annotations

import math
from typing import TypedDict

import attrs

__all__ = ["ClientOptions", "Options"]


class ClientOptions(TypedDict, total=False):
    """
    The keywords of :class:`~txapns.APNSClient` for connections, timeouts and retries.

    :ivar timeout: the limit, in seconds, for connecting, for each answer, and for waiting without any progress; 30 by
        default.
    :ivar idle_timeout: a connection is closed after this many seconds without a notification, and opened again when
        needed; ``None`` for never; 600 by default.
    :ivar ping_interval: after this many seconds of silence from an HTTP/2 server, a PING is sent; ``None`` for never;
        60 by default.
    :ivar min_connections: how many connections are opened at once and kept, even without work; 0 by default.
    :ivar max_connections: how many connections there may be; 1 by default. Another one is opened, one at a time, when
        the existing ones have no room for the moment. With several, notifications do not arrive in the order in which
        they were given.
    :ivar retries: how often a notification is sent again, with a growing delay, after an answer that asks to wait: 429
        ``TooManyRequests``, 500, 503, and the status 1 or 255 of the binary protocol; 3 by default.
    :ivar max_queued: how many single notifications may wait to be sent; 10,000 by default.
    :ivar name: what the log calls the client, in the text and in the field ``app`` of its events; none by default.
    """

    timeout: float
    idle_timeout: float | None
    ping_interval: float | None
    min_connections: int
    max_connections: int
    retries: int
    max_queued: int
    name: str


@attrs.frozen(kw_only=True)
class Options:
    """
    The same options, validated, with their defaults.

    :raises ValueError: an option is out of range.
    """

    timeout: float = 30.0
    idle_timeout: float | None = 600.0
    ping_interval: float | None = 60.0
    min_connections: int = 0
    max_connections: int = 1
    retries: int = 3
    max_queued: int = 10_000
    name: str = ""

    def __attrs_post_init__(self) -> None:
        for name in ("timeout", "idle_timeout", "ping_interval"):
            seconds = getattr(self, name)
            if seconds is None and name != "timeout":
                continue
            if not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
                raise ValueError(f"{name} must be a positive number of seconds, not {seconds!r}")
        self._check_whole("min_connections", 0)
        self._check_whole("max_connections", max(1, self.min_connections))
        self._check_whole("retries", 0)
        self._check_whole("max_queued", 1)

    def _check_whole(self, name: str, least: int) -> None:
        number = getattr(self, name)
        if not isinstance(number, int) or number < least:
            raise ValueError(f"{name} must be an integer of at least {least}, not {number!r}")
