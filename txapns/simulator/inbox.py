"""
The inbox: what the simulated servers received, and what they know about devices.

One inbox is shared by all servers. It keeps the latest notifications as they came, and makes nothing of them until
somebody asks, not even a :class:`Reception`: what nobody looks at costs next to nothing. ``benchmarks/inbox.py`` tells
how much.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from random import Random

import attrs

from txapns._credentials.bearer import BearerToken
from txapns._network.clocks import IWallClock
from txapns.devices.credential import Credential
from txapns.devices.device import Device
from txapns.devices.push import Push, token_bytes
from txapns.devices.verdict import Verdict
from txapns.errors import redact
from txapns.simulator.answers import BROADCASTS, DEVICES, PlannedAnswers

__all__ = ["KEPT", "Connection", "Inbox", "Reception"]

#: How many notifications are kept where they may come for long.
KEPT = 2_000
_REVISED = 200


@attrs.define(eq=False)
class Connection:
    """
    A connection of a provider.

    :ivar number: its number, in the order of opening.
    :ivar peer: the address and port of the provider; empty if there are none.
    :ivar tls: the version of TLS.
    :ivar topics: the topics of its certificate; without one, that of the app.
    :ivar environments: the environments that its certificate is valid in; ``None`` without a certificate.
    :ivar credential: over HTTP/2 its credential; ``None`` if none was good yet.
    :ivar environment: over HTTP/2 the environment of the server.
    """

    number: int
    peer: str = ""
    tls: str = ""
    topics: tuple[str, ...] = ()
    environments: tuple[str, ...] | None = None
    credential: Credential | None = None
    environment: str | None = None


_UNKNOWN = Connection(0)


@attrs.define(eq=False)
class Reception:
    """
    A notification as a server received it, and the answer.

    :ivar protocol: ``"http2"`` or ``"binary"``; ``"broadcast"`` for a broadcast over HTTP/2.
    :ivar token: the device token; the text of the path if that is malformed, and empty for a broadcast.
    :ivar payload: the payload.
    :ivar headers: the header fields of a request, repeated ones once, and a provider token without its signature; for
        the binary protocol ``identifier``, ``expiration`` and ``priority``, if they were sent.
    :ivar reason: why it was rejected; ``None`` if it was accepted.
    :ivar status: the HTTP status; over the binary protocol that of the error packet, 0 if it was accepted.
    :ivar connection: the connection that it came by.
    :ivar id: its number, in the order of arrival.
    :ivar at: when it came, in UNIX seconds.
    :ivar verdict: what became of it; ``None`` until somebody asks, see :mod:`txapns.simulator.phones`.
    """

    protocol: str
    token: bytes = attrs.field(repr=redact)
    payload: bytes = attrs.field(repr=lambda payload: f"<{len(payload)} bytes>")
    headers: Mapping[str, str] = attrs.field(repr=lambda headers: f"<{len(headers)} fields>")
    reason: str | None
    status: int = attrs.field(default=0, repr=False)
    connection: Connection = attrs.field(default=_UNKNOWN, repr=False)
    id: int = attrs.field(default=0, repr=False)
    at: float = attrs.field(default=0.0, repr=False)
    verdict: Verdict | None = attrs.field(default=None, repr=False)

    @property
    def push(self) -> Push:
        """The push in it, with the header fields that it would have over HTTP/2."""
        headers, channel = self.headers, ""
        if self.protocol == "broadcast":
            channel = headers.get("apns-channel-id", "")
        elif self.protocol == "binary":
            headers = {f"apns-{name}": value for name, value in headers.items() if name != "identifier"}
        return Push(headers, self.payload, self.token_text, channel)

    @property
    def token_text(self) -> str:
        """The device token in hexadecimal; the text of the path if that is malformed."""
        return (
            self.headers.get(":path", "").removeprefix(DEVICES).lower()
            if self.protocol == "http2"
            else self.token.hex()
        )

    @property
    def topic(self) -> str:
        """The topic: the one that it names, or else the app's."""
        if self.protocol == "broadcast":
            return self.headers.get(":path", "").removeprefix(BROADCASTS)
        return self.headers.get("apns-topic") or next(iter(self.connection.topics), "")

    @property
    def provider_token(self) -> BearerToken | None:
        """What its provider token claims; ``None`` if there is none, or none that can be read."""
        return BearerToken.parse(self.headers.get("authorization", "").partition(" ")[2])


class Inbox:
    """
    The record of what was received, and the devices of one app.

    Every token is valid in either environment, except those that are dead.

    :param clock: the clock that dates what comes.
    :param dead: the tokens whose devices are gone, from now on.
    :param topic: the app's bundle ID.
    :param keep: how many notifications to keep, the latest ones; ``None`` for all.
    :param random: the source of chance for planned answers.

    :ivar accepted: how many were accepted.
    :ivar rejected: how many were not, by reason.
    :ivar connections: how many connections were opened.
    :ivar dead: the tokens whose devices are gone, and since when, in UNIX seconds.
    :ivar environments: the tokens that are valid in one environment only, ``"production"`` or ``"sandbox"``.
    :ivar template: what a device is of which nothing is known.
    :ivar devices: the other devices, by their tokens in hexadecimal. Whether they are gone, and their environments, are
        not kept in these.
    :ivar owners: the tokens of the devices with Live Activities, by those of the activities.
    :ivar listed: the tokens that the feedback service has listed.
    :ivar answers: the answers that are planned.
    :ivar last_id: the number of the last notification that came.
    :ivar cleared: the number of the last one that was removed by :meth:`clear`.
    :ivar revised: the latest notifications on which another verdict was found later.
    :ivar revisions: how many there were of these.
    :ivar listeners: they are called when something has come, or was removed.
    """

    def __init__(
        self,
        clock: IWallClock,
        dead: Iterable[bytes] = (),
        topic: str = "",
        *,
        keep: int | None = None,
        random: Random | None = None,
    ) -> None:
        # What came since somebody looked, as arguments of _reception; and what was looked at.
        self._new: deque[tuple[str, bytes, bytes, Mapping[str, str], str | None, int, Connection, float]]
        self._new = deque(maxlen=keep)
        self._seen: list[Reception] = []
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        self.connections = 0
        self.dead: dict[bytes, float] = dict.fromkeys(dead, clock.now())
        self.environments: dict[bytes, str] = {}
        self.template = Device()
        self.devices: dict[str, Device] = {}
        self.owners: dict[str, str] = {}
        self.listed: set[bytes] = set()
        self.answers = PlannedAnswers(random or Random())  # noqa: S311  # not to be secret
        self.listeners: list[Callable[[], None]] = []
        self.last_id = self.cleared = self.revisions = 0
        self.revised: deque[Reception] = deque(maxlen=_REVISED)
        self.topic = topic
        self._now = clock.now
        self._keep = keep
        self._bearer = "", ""  # a provider token, and what is recorded of it

    # For the servers.

    def connect(self, peer: object) -> Connection:
        """
        Count a connection.

        :param peer: the provider's address.
        :returns: the connection, for :meth:`note`.
        """
        self.connections += 1
        host, port = getattr(peer, "host", None), getattr(peer, "port", None)
        name = "" if host is None else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return Connection(self.connections, name, topics=(self.topic,))

    def note(
        self,
        protocol: str,
        token: bytes,
        payload: bytes,
        headers: Mapping[str, str],
        reason: str | None,
        status: int = 200,
        connection: Connection = _UNKNOWN,
    ) -> None:
        """
        Record a notification; for the arguments see :class:`Reception`.

        :param token: may be empty over HTTP/2, where the path says it.
        """
        if reason is None:
            self.accepted += 1
        else:
            self.rejected[reason] += 1
        self.last_id += 1
        self._new.append((protocol, token, payload, headers, reason, status, connection, self._now()))
        if self.listeners:
            self.tell()

    def _unsigned(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Cut the signature off a provider token: nobody who reads the record can use it."""
        authorization = headers.get("authorization")
        if authorization is None:
            return headers
        if authorization != self._bearer[0]:  # most requests have the same
            scheme, _, token = authorization.partition(" ")
            claims, dot, _ = token.rpartition(".")
            self._bearer = authorization, f"{scheme} {claims}{dot}"
        return {**headers, "authorization": self._bearer[1]}

    def known(self, token: bytes, environment: str) -> bool:
        """Whether a token is not known to belong to another environment."""
        return self.environments.get(token, environment) == environment

    def device(self, token: str) -> Device:
        """Find the device to which a token in hexadecimal text leads, as it was when it was last looked at."""
        octets = token_bytes(token) or b""
        environment, since = self.environments.get(octets), self.dead.get(octets)
        found = self.devices.get(self.owner(token), self.template) if self.devices else self.template
        if environment is None and since is None:
            return found
        return attrs.evolve(found, environment=environment, removed_since=since)

    def owner(self, token: str) -> str:
        """Find the token of the device that a token leads to: that of a Live Activity leads to another."""
        token = token.lower()
        return self.owners.get(token, token)

    def unlisted(self) -> Iterator[tuple[bytes, float]]:
        """
        Yield the dead tokens, each with the time when it died, that are not in ``listed`` when they are reached. The
        feedback service adds to ``listed`` what it wrote.
        """
        for token, since in list(self.dead.items()):
            if token not in self.listed:
                yield token, since

    # For those who look.

    @property
    def received(self) -> list[Reception]:
        """The notifications that are kept, the oldest first."""
        if self._new:
            first = self.last_id + 1 - len(self._new)
            self._seen += [self._reception(*each, number) for number, each in enumerate(self._new, first)]
            self._new.clear()
            if self._keep is not None:
                del self._seen[: -self._keep]
        return self._seen

    def _reception(
        self,
        protocol: str,
        token: bytes,
        payload: bytes,
        headers: Mapping[str, str],
        reason: str | None,
        status: int,
        connection: Connection,
        at: float,
        number: int,
    ) -> Reception:
        if protocol == "http2" and not token:
            text = headers.get(":path", "").removeprefix(DEVICES)
            token = token_bytes(text) or text.encode()
        return Reception(protocol, token, payload, self._unsigned(headers), reason, status, connection, number, at)

    def after(self, last: int) -> list[Reception]:
        """
        Find what came after a notification.

        :param last: its number; it need not be kept any longer.
        :returns: the later ones that are kept, the oldest first.
        """
        received = self.received
        first = received[0].id if received else 0
        return received[max(0, last + 1 - first) :]

    def clear(self) -> int:
        """
        Forget what was received, but not how many notifications there were.

        :returns: how many are forgotten.
        """
        count = len(self._new) + len(self._seen)
        self._new.clear()
        self._seen.clear()
        self.cleared = self.last_id
        self.tell()
        return count

    def revise(self, reception: Reception) -> None:
        """Note that another verdict was found on a notification."""
        self.revisions += 1
        self.revised.append(reception)

    def tell(self) -> None:
        """Tell the listeners that something has changed."""
        for listener in tuple(self.listeners):
            listener()

    def counters(self) -> dict[str, int | dict[str, int]]:
        """Return the counters ``received``, ``accepted``, ``rejected`` (by reason) and ``connections``."""
        return {
            "received": self.accepted + sum(self.rejected.values()),
            "accepted": self.accepted,
            "rejected": dict(sorted(self.rejected.items())),
            "connections": self.connections,
        }
