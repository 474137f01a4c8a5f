"""
How a host is reached: its name is looked up again, and the connections are spread over its addresses.

A resolver returns the addresses of a name in its own order, often the same each time. If they were tried in that
order, every connection would go to the first address; if that server has a fault that TCP does not show, each new
attempt would go there again. Therefore the order is changed: within each address family, the address that came first
least recently comes first, and addresses that never came first are in random order. The families alternate, beginning
with the one that the resolver prefers (RFC 8305, section 4), so that a network without one of them costs a quarter of a
second.

For each connection the addresses are tried in this order until one answers: the next one as soon as one fails, or after
:data:`ATTEMPT_DELAY` (RFC 8305, section 5). Twisted's ``HostnameEndpoint`` does much the same, but in the resolver's
order, and by a ``LoopingCall``, which imports the global reactor: a program on asyncio must not get one.

The result of a look-up is used for one second. Some servers end each connection after a thousand requests, which means
a hundred connections per second, and each look-up takes a thread of the resolver and often a query to a name server.

An attempt has one deadline, which includes the look-up. Twisted's own timeouts are timers of the reactor, which may run
by the wall clock (see :mod:`txapns._network.clocks`), and do not cover resolvers that never answer.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, zip_longest
from random import random
from typing import Any, cast
from unicodedata import normalize

import attrs
from twisted.internet import error as neterror
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._network.alarm import Alarm
from txapns._network.clocks import timers
from txapns._network.tls import explain, identity_of
from txapns.errors import APNSError, ConnectFailed, InvalidGateway

__all__ = ["checked_host", "checked_port", "explain_attempt", "host_endpoint", "url_host"]

#: For how many seconds the addresses of a name are used again.
FRESH = 1.0
#: How long one address may be silent before the next is tried as well, in seconds.
ATTEMPT_DELAY = 0.25

# The zone of an IPv6 address, such as the interface in "fe80::1%eth0" (RFC 4007, section 11).
_ZONE = re.compile(r"[A-Za-z0-9._~-]+")


def checked_host(host: str) -> str:
    """
    Check that a text can be a host.

    :param host: a host name or an IP address; an IPv6 address may be in brackets, as in a URL.
    :returns: the host without brackets and surrounding space.
    :raises InvalidGateway: it is neither.
    """
    bare = host.strip()
    if bare.startswith("[") and bare.endswith("]") and ":" in bare:
        bare = bare[1:-1]
    valid = "%" not in bare or _ZONE.fullmatch(bare.partition("%")[2]) is not None
    try:
        identity_of(bare)
        bare.encode("idna")  # its form in look-ups and requests
    except ValueError:
        valid = False
    if not valid:
        # With arguments in the wrong order, this may be a secret.
        shown = repr(host) if len(host) < 80 and "\n" not in host else "this text"
        raise InvalidGateway(f"{shown} is neither a host name nor an address")
    return bare


def url_host(host: str) -> str:
    """Write a host as in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def checked_port(port: Any) -> int:
    """Check that something can be a TCP port; otherwise it is an ``InvalidGateway``."""
    if not (isinstance(port, int) and 0 < port < 65_536):
        raise InvalidGateway(f"a port must be a number from 1 to 65535, not {port!r}")
    return port


def explain_attempt(reason: Failure, host: str, port: int) -> APNSError:
    """
    Explain in a sentence why an attempt to connect failed.

    :param host: the name or address of the server.
    :returns: :exc:`~txapns.errors.ConnectFailed`, or the result of :func:`txapns._network.tls.explain`. An error of a
        proxy's endpoint already names the proxy and is returned as it is.
    """
    where = f"{url_host(host)}:{port}"
    if reason.check(neterror.DNSLookupError):
        return ConnectFailed(f"the host name {host} cannot be resolved; check the name, and this machine's DNS")
    if reason.check(neterror.ConnectionRefusedError):
        return ConnectFailed(f"nothing listens at {where}; check host and port")
    if reason.check(neterror.TimeoutError):
        return ConnectFailed(f"{where} did not answer in time; check that firewalls allow TCP port {port}")
    if reason.check(neterror.ConnectError):
        return ConnectFailed(f"no connection to {where}: {reason.getErrorMessage()}")
    return explain(reason)


def host_endpoint(
    reactor: IReactorTime, host: str, port: int, timeout: float = 30.0, *, random: Callable[[], float] = random
) -> IStreamClientEndpoint:
    """
    Make an endpoint that looks up the name when it connects, and starts with another of its addresses each time.

    :param timeout: how long it may take, in seconds.
    :param random: returns a random number from 0 to 1, excluding 1.
    """
    reactor = timers(reactor)
    return _HostEndpoint(reactor, normalize("NFC", host), port, timeout, _Spread(reactor, random))


@implementer(IStreamClientEndpoint)
@attrs.frozen(eq=False)
class _HostEndpoint:
    """Connects to one of the addresses of a host."""

    _reactor: Any
    _host: str
    _port: int
    _timeout: float
    _spread: _Spread

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        race = _Race(self._reactor, self._host, protocolFactory)
        if addresses := self._spread.fresh:
            race.start(self._spread.order(addresses))
        else:
            receiver = _Receiver(self._spread, race)
            self._reactor.nameResolver.resolveHostName(receiver, self._host, portNumber=self._port)
        return race.won.addTimeout(self._timeout, self._reactor, lambda *_: Failure(neterror.TimeoutError()))


@attrs.define
class _Spread:
    """The addresses of one name, and the order in which to try them."""

    _clock: IReactorTime
    _random: Callable[[], float]
    _found: Sequence[IAddress] = ()
    _stale: float = 0.0
    _turn: int = 0
    #: The turn in which each address of the last answer came first; 0 for never.
    _first: dict[IAddress, int] = attrs.Factory(dict)

    def found(self, addresses: Sequence[IAddress]) -> None:
        self._found, self._stale = addresses, self._clock.seconds() + FRESH

    @property
    def fresh(self) -> Sequence[IAddress]:
        """The result of a recent look-up; empty if the name must be looked up."""
        return self._found if self._clock.seconds() < self._stale else ()

    def order(self, addresses: Sequence[IAddress]) -> list[IAddress]:
        """Order the addresses for another connection."""
        self._turn += 1
        self._first = {address: self._first.get(address, 0) for address in addresses}
        families: dict[type[IAddress], list[IAddress]] = {}
        for address in self._first:
            families.setdefault(type(address), []).append(address)
        for family in families.values():
            family.sort(key=lambda address: (self._first[address], self._random()))
            self._first[family[0]] = self._turn
        alternating = chain.from_iterable(zip_longest(*families.values()))
        return [address for address in alternating if address is not None]


class _Race:
    """
    One connection that is being made: the addresses are tried one after the other until one answers.

    :param host: the name of the server.
    :param factory: makes the protocol.

    :ivar won: fires with the protocol. It can be cancelled.
    """

    def __init__(self, reactor: Any, host: str, factory: IProtocolFactory) -> None:
        self.won: Deferred[IProtocol] = Deferred(lambda _: self._stop())
        self._reactor = reactor
        self._host = host
        self._factory = factory
        self._left: deque[IPv4Address | IPv6Address] = deque()
        self._attempts: list[Deferred[IProtocol]] = []
        self._next = Alarm(reactor, self._try)

    def start(self, addresses: Iterable[IAddress]) -> None:
        """Try these, in order, unless it was cancelled in the meantime."""
        self._left.extend(each for each in addresses if isinstance(each, (IPv4Address, IPv6Address)))
        if self.won.called:
            return
        if self._left:
            self._try()
        else:
            self.won.errback(neterror.DNSLookupError(f"no address of {self._host}"))

    def _try(self) -> None:
        address = self._left.popleft()
        if self._left:
            self._next.set(ATTEMPT_DELAY)
        make = TCP6ClientEndpoint if isinstance(address, IPv6Address) else TCP4ClientEndpoint
        # Without Twisted's own timeout.
        endpoint = make(self._reactor, address.host, address.port, cast(int, None))
        attempt: Deferred[IProtocol] = endpoint.connect(self._factory)
        self._attempts.append(attempt)
        attempt.addCallbacks(self._connected, self._failed, callbackArgs=(attempt,), errbackArgs=(attempt,))

    def _connected(self, protocol: IProtocol, attempt: Deferred[IProtocol]) -> None:
        self._attempts.remove(attempt)
        self._stop()
        self.won.callback(protocol)

    def _failed(self, reason: Failure, attempt: Deferred[IProtocol]) -> None:
        if attempt not in self._attempts:
            return  # stopped
        self._attempts.remove(attempt)
        if self._left:
            self._next.set(0.0)
        elif not self._attempts:
            self.won.errback(reason)

    def _stop(self) -> None:
        self._left.clear()
        self._next.cancel()
        attempts, self._attempts = self._attempts, []
        for attempt in attempts:
            attempt.cancel()


@implementer(IResolutionReceiver)
@attrs.frozen(eq=False)
class _Receiver:
    """Collects the addresses of a name, then starts with them in our order."""

    _spread: _Spread
    _race: _Race
    _addresses: list[IAddress] = attrs.Factory(list)

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Do nothing: look-ups are not cancelled, since another connection can use the result."""

    def addressResolved(self, address: IAddress) -> None:
        self._addresses.append(address)

    def resolutionComplete(self) -> None:
        self._spread.found(self._addresses)
        self._race.start(self._spread.order(self._addresses))
