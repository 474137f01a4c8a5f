"""What the simulated servers know about devices, and what they received."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import attrs

from txapns.devices.answers import token_bytes
from txapns.devices.device import Device
from txapns.errors import redact

__all__ = ["Devices", "Reception"]

_ANY = Device()


@attrs.frozen
class Reception:
    """
    A notification as a server received it, and the outcome.

    :ivar protocol: ``"http2"`` or ``"binary"``; ``"broadcast"`` for a broadcast over HTTP/2.
    :ivar token: the device token; the text of the path if that is malformed, and empty for a broadcast.
    :ivar payload: the payload.
    :ivar headers: the header fields of a request, repeated ones once; for the binary protocol ``identifier``,
        ``expiration`` and ``priority``, if they were sent.
    :ivar reason: why it was rejected; ``None`` if it was accepted.
    """

    protocol: str
    token: bytes = attrs.field(repr=redact)
    payload: bytes = attrs.field(repr=lambda payload: f"<{len(payload)} bytes>")
    headers: Mapping[str, str] = attrs.field(repr=lambda headers: f"<{len(headers)} fields>")
    reason: str | None


class Devices:
    """
    The devices of one app, and the record of what was received for them.

    Every token is valid in either environment, except those that are dead.

    :param dead: the tokens whose devices are gone.
    :param since: since when they are gone, in UNIX seconds.
    :param keep: whether to keep each notification; otherwise they are only counted.

    :ivar environments: the tokens that are valid in one environment only, ``"production"`` or ``"sandbox"``.
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
        """Whether a token is not known to belong to another environment."""
        return self.environments.get(token, environment) == environment

    def device(self, token: str) -> Device:
        """Find the device to which a token in hexadecimal text leads."""
        octets = token_bytes(token) or b""
        environment, since = self.environments.get(octets), self.dead.get(octets)
        if environment is None and since is None:
            return _ANY
        return Device(environment=environment, removed_since=since)

    def unlisted(self) -> Iterator[tuple[bytes, float]]:
        """
        Yield the dead tokens, each with the time when it died, that are not in ``listed`` when they are reached. The
        feedback service adds to ``listed`` what it wrote.
        """
        for token, since in list(self.dead.items()):
            if token not in self.listed:
                yield token, since

    def note(self, protocol: str, token: bytes, payload: bytes, headers: Mapping[str, str], reason: str | None) -> None:
        """Record a notification; for the arguments see :class:`Reception`."""
        if reason is None:
            self.accepted += 1
        else:
            self.rejected[reason] += 1
        if self._keep:
            self.received.append(Reception(protocol, token, payload, headers, reason))

    def counters(self) -> dict[str, int | dict[str, int]]:
        """Return the counters ``received``, ``accepted``, ``rejected`` (by reason) and ``connections``."""
        return {
            "received": self.accepted + sum(self.rejected.values()),
            "accepted": self.accepted,
            "rejected": dict(sorted(self.rejected.items())),
            "connections": self.connections,
        }
