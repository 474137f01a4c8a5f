"""
What the simulated servers know of devices, and what they were sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import attrs

from txapns.errors import redact

__all__ = ["Devices", "Reception"]


@attrs.frozen
class Reception:
    """
    One notification as a server received it, and what it said.

    :ivar protocol: ``"http2"`` or ``"binary"``; ``"broadcast"`` for a broadcast over HTTP/2.
    :ivar token: the device token's octets; what stands in a malformed path is not one, and a broadcast has none.
    :ivar payload: the payload.
    :ivar headers: the header fields of a request, repeated ones once; over the binary protocol ``identifier``,
        ``expiration`` and ``priority``, where they were sent.
    :ivar reason: why it was rejected; ``None`` where it was accepted.
    """

    protocol: str
    token: bytes = attrs.field(repr=redact)
    payload: bytes = attrs.field(repr=lambda payload: f"<{len(payload)} bytes>")
    headers: Mapping[str, str] = attrs.field(repr=lambda headers: f"<{len(headers)} fields>")
    reason: str | None


class Devices:
    """
    The devices of one app, and the record of what came for them.

    Every token is taken for a device's, in either environment, but for those that are dead.

    :param dead: the tokens whose device is gone.
    :param since: since when, in UNIX seconds.
    :param keep: whether to remember each notification; without it they are only counted.

    :ivar environments: the tokens that are known in one environment only, ``"production"`` or ``"sandbox"``.
    :ivar listed: the tokens that the feedback service has listed.
    """

    def __init__(self, dead: Iterable[bytes] = (), since: float = 0.0, *, keep: bool = True) -> None:
        self.dead: dict[bytes, float] = dict.fromkeys(dead, since)
        self.environments: dict[bytes, str] = {}
        self.received: list[Reception] = []
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        self.connections = 0
        self._keep = keep
        self.listed: set[bytes] = set()

    def known(self, token: bytes, environment: str) -> bool:
        """
        Tell whether a token is one of an environment.

        :param token: the device token.
        :param environment: ``"production"`` or ``"sandbox"``.
        :returns: whether it is not known to be one of the other.
        """
        return self.environments.get(token, environment) == environment

    def unlisted(self) -> Iterator[tuple[bytes, float]]:
        """
        Find what the feedback service has to list. It adds to ``listed`` what it wrote.

        :returns: the dead tokens that are not in ``listed``, when it is their turn, with the time since when they are
            dead.
        """
        for token, since in list(self.dead.items()):
            if token not in self.listed:
                yield token, since

    def note(self, protocol: str, token: bytes, payload: bytes, headers: Mapping[str, str], reason: str | None) -> None:
        """
        Record a notification.

        :param protocol: ``"http2"``, ``"binary"`` or ``"broadcast"``.
        :param token: the device token.
        :param payload: the payload.
        :param headers: what else came with it.
        :param reason: why it was rejected; ``None`` where it was accepted.
        """
        if reason is None:
            self.accepted += 1
        else:
            self.rejected[reason] += 1
        if self._keep:
            self.received.append(Reception(protocol, token, payload, headers, reason))

    def counters(self) -> dict[str, int | dict[str, int]]:
        """
        Count what came.

        :returns: ``received``, ``accepted``, ``rejected`` (by reason) and ``connections``.
        """
        return {
            "received": self.accepted + sum(self.rejected.values()),
            "accepted": self.accepted,
            "rejected": dict(sorted(self.rejected.items())),
            "connections": self.connections,
        }
