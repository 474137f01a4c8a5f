"""
Answers that somebody has asked for: to one device, or to what meets a condition, once, a few times, or by chance.

They take the place of what the server would have answered. They can also come late, end the connection with a GOAWAY,
or be left out and the connection aborted.

An answer with a status is for HTTP/2, and one with that of an error packet for the binary protocol; with both or
neither it is for both. A push by hand comes by no connection: what only ends one is not for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import attrs

__all__ = ["BROADCASTS", "DEVICES", "MAX_PLANNED", "PlannedAnswer", "PlannedAnswers"]

#: What the path of a push begins with; the device token follows, or the app's bundle ID.
DEVICES, BROADCASTS = "/3/device/", "/4/broadcasts/apps/"
#: How many there may be at a time.
MAX_PLANNED = 1_000


@attrs.define(eq=False, kw_only=True)
class PlannedAnswer:
    """
    An answer to what meets all conditions.

    :ivar id: its number.
    :ivar token: the condition that a push is for this device token, in hexadecimal; like those that follow, ``None``
        for any.
    :ivar topic: that it has this topic.
    :ivar push_type: that it has this push type.
    :ivar status: the HTTP status; ``None`` for what the server answers anyway.
    :ivar error_packet: the status of the binary protocol's error packet; ``None`` likewise.
    :ivar reason: the reason; empty for none, as when a proxy answers.
    :ivar timestamp: with 410, since when the token is dead, in UNIX seconds.
    :ivar times: how many more times it is given; ``None`` for no end.
    :ivar chance: how likely it is given to what meets the conditions, 0 to 1.
    :ivar delay: how long it takes, in seconds.
    :ivar goaway: whether a GOAWAY goes before it: the connection ends when the requests under way are answered. Over
        the binary protocol an error packet with status 10 comes after the notification, which it names as accepted.
    :ivar drop: whether the connection is aborted in its place.
    :ivar given: how many times it was given.
    """

    id: int
    token: str | None = attrs.field(default=None, repr=False)
    topic: str | None = None
    push_type: str | None = None
    status: int | None = None
    error_packet: int | None = None
    reason: str = ""
    timestamp: float | None = None
    times: int | None = None
    chance: float = 1.0
    delay: float = 0.0
    goaway: bool = False
    drop: bool = False
    given: int = 0

    def is_over(self, protocol: str) -> bool:
        """Whether it is for a protocol: ``"http2"``, ``"binary"``, or ``"hand"`` for pushes by hand."""
        if protocol == "binary":
            return self.status is None or self.error_packet is not None
        if protocol == "hand" and self.status is None and not self.delay:
            return False
        return self.error_packet is None or self.status is not None

    def is_for(self, headers: Mapping[str, str]) -> bool:
        """Whether a request meets the conditions."""
        path = headers.get(":path", "")
        return (
            (self.token is None or path.removeprefix(DEVICES).lower() == self.token)
            and (self.topic is None or headers.get("apns-topic", path.removeprefix(BROADCASTS)) == self.topic)
            and (self.push_type is None or headers.get("apns-push-type") == self.push_type)
        )


class PlannedAnswers:
    """
    The answers that are planned. Where several are for a request, the earliest is given.

    :param random: the source of chance.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._planned: dict[int, PlannedAnswer] = {}
        self._last = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._planned)

    def add(self, **facts: Any) -> PlannedAnswer:
        """
        Plan an answer.

        :param facts: see :class:`PlannedAnswer`.
        :returns: the answer.
        """
        self._last += 1
        planned = self._planned[self._last] = PlannedAnswer(id=self._last, **facts)
        return planned

    def all(self) -> list[PlannedAnswer]:
        """Return those that may still be given, the earliest first."""
        return list(self._planned.values())

    def remove(self, number: int | None = None) -> int:
        """
        Remove an answer.

        :param number: its number; ``None`` for all.
        :returns: how many were removed.
        """
        removed = len(self._planned)
        if number is None:
            self._planned.clear()
        else:
            self._planned.pop(number, None)
        return removed - len(self._planned)

    def take(self, headers: Mapping[str, str], protocol: str = "http2") -> PlannedAnswer | None:
        """
        Find the answer to a request, and count that it is given.

        :param headers: the header fields; for the binary protocol, those that it would have over HTTP/2.
        :param protocol: ``"http2"``, ``"binary"``, or ``"hand"`` for a push by hand.
        :returns: the answer; ``None`` if none is planned.
        """
        if not self._planned or not headers.get(":path", "").startswith((DEVICES, BROADCASTS)):
            return None
        for planned in self._planned.values():
            meets = planned.is_over(protocol) and planned.is_for(headers)
            if meets and (planned.chance >= 1 or self._random.random() < planned.chance):
                planned.given += 1
                if planned.times is not None:
                    planned.times -= 1
                    if planned.times <= 0:
                        del self._planned[planned.id]
                return planned
        return None
