"""
How a host is reached: its name is looked up anew, and the connections are spread over its addresses.

A resolver gives the addresses of a name in an order of its own, often the same each time, and Twisted's
``HostnameEndpoint`` tries them in that order, 0.3 seconds apart, until one answers. Left at that, every connection goes
to the first address; and where something is wrong there that TCP does not tell, it goes there again after each failure.
So the order is changed on the way from the resolver to the endpoint: within each family of addresses, the one that was
longest not begun with comes first, and chance decides between those that never were. The families alternate, beginning
with the one that the resolver prefers (RFC 8305, section 4), so that a network without one of them costs 0.3 seconds.

What a look-up found serves for a second. Some servers end each connection after a thousand requests, which is a hundred
connections a second, and each look-up takes a thread of the resolver's, and often a question to a name server.

An attempt has one deadline for all of it, the looking up included. Twisted's own is a timer of the reactor's, which may
go by the wall clock (see :mod:`txapns._network.clocks`), and knows nothing of resolvers that never answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from random import random
from typing import Any, cast

import attrs
from twisted.internet import error as neterror
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTime,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._network.clocks import timers
from txapns._network.tls import explain, identity_of
from txapns.errors import APNSError, ConnectFailed, InvalidGateway

__all__ = ["checked_host", "checked_port", "explain_attempt", "host_endpoint", "url_host"]

#: For how many seconds the addresses of a name are taken to be the same.
FRESH = 1.0

# The zone of an IPv6 address, such as the interface in "fe80::1%eth0" (RFC 4007, section 11), which says no more.
_ZONE = re.compile(r"[A-Za-z0-9._~-]+")


def checked_host(host: str) -> str:
    """
    See that a text can be a host.

    :param host: a host name or an IP address; an IPv6 address may have the brackets that it has in a URL.
    :returns: the same without brackets, and without space around it.
    :raises InvalidGateway: it is neither.
    """
    bare = host.strip()
    if bare.startswith("[") and bare.endswith("]") and ":" in bare:
        bare = bare[1:-1]
    fits = "%" not in bare or _ZONE.fullmatch(bare.partition("%")[2]) is not None
    try:
        identity_of(bare)
        bare.encode("idna")  # as which it is looked up, and stands in requests
    except ValueError:
        fits = False
    if not fits:
        # Arguments in the wrong order may have put a secret here.
        shown = repr(host) if len(host) < 80 and "\n" not in host else "this text"
        raise InvalidGateway(f"{shown} is neither a host name nor an address")
    return bare


def url_host(host: str) -> str:
    """
    Write a host as a URL has it, where a port may follow: an IPv6 address in brackets.

    :param host: a host name or an IP address.
    :returns: the host, or the address in brackets.
    """
    return f"[{host}]" if ":" in host else host


def checked_port(port: int) -> int:
    """
    See that a number can be a TCP port.

    :param port: the number.
    :returns: the same.
    :raises InvalidGateway: it cannot.
    """
    if not 0 < port < 65_536:
        raise InvalidGateway(f"a port is a number from 1 to 65535, not {port}")
    return port


def explain_attempt(reason: Failure, host: str, port: int) -> APNSError:
    """
    Say in a sentence why an attempt to connect came to nothing.

    :param reason: what an endpoint gave.
    :param host: the name or address that was to be connected to.
    :param port: the TCP port.
    :returns: :exc:`~txapns.errors.ConnectFailed`, or what :func:`txapns._network.tls.explain` makes of it. What a
        proxy's endpoint gave names the proxy already, and is given back.
    """
    where = f"{url_host(host)}:{port}"
    if reason.check(neterror.DNSLookupError):
        return ConnectFailed(f"the host name {host} is not known")
    if reason.check(neterror.ConnectionRefusedError):
        return ConnectFailed(f"nothing listens at {where}")
    if reason.check(neterror.TimeoutError):
        return ConnectFailed(f"{where} did not answer in time")
    if reason.check(neterror.ConnectError):
        return ConnectFailed(f"no connection to {where}: {reason.getErrorMessage()}")
    return explain(reason)


def host_endpoint(
    reactor: IReactorTime, host: str, port: int, timeout: float = 30.0, *, random: Callable[[], float] = random
) -> IStreamClientEndpoint:
    """
    Make an endpoint that looks the name up when it connects, and each time begins with another of its addresses.

    :param reactor: the reactor.
    :param host: a name or an address.
    :param port: the TCP port.
    :param timeout: how long it may take, in seconds.
    :param random: where chance comes from: a number from 0 to 1, 1 excluded.
    :returns: the endpoint.
    """
    reactor = timers(reactor)
    # No timeout of Twisted's.
    endpoint = HostnameEndpoint(_SpreadingReactor(reactor, _Spread(reactor, random)), host, port, cast(float, None))
    return _BoundedEndpoint(endpoint, timeout, reactor)


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _BoundedEndpoint:
    """An endpoint with a deadline."""

    endpoint: IStreamClientEndpoint
    timeout: float
    clock: IReactorTime

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect within the time."""

        def late(result: object, timeout: float) -> Failure:
            return Failure(neterror.TimeoutError())

        attempt: Deferred[IProtocol] = self.endpoint.connect(protocolFactory)
        return attempt.addTimeout(self.timeout, self.clock, late)


@attrs.define
class _Spread:
    """The addresses of one name, and in which order to try them."""

    _clock: IReactorTime
    _random: Callable[[], float]
    _found: Sequence[IAddress] = ()
    _stale: float = 0.0
    _turn: int = 0
    #: When each address of the last answer was begun with, in turns; 0 for never.
    _begun: dict[IAddress, int] = attrs.Factory(dict)

    def found(self, addresses: Sequence[IAddress]) -> None:
        """Remember what was found."""
        self._found, self._stale = addresses, self._clock.seconds() + FRESH

    @property
    def fresh(self) -> Sequence[IAddress]:
        """What was found just now; nothing where the name is to be looked up."""
        return self._found if self._clock.seconds() < self._stale else ()

    def order(self, addresses: Sequence[IAddress]) -> list[IAddress]:
        """Put the addresses in order for another connection."""
        self._turn += 1
        self._begun = {address: self._begun.get(address, 0) for address in addresses}
        families: dict[type[IAddress], list[IAddress]] = {}
        for address in self._begun:
            families.setdefault(type(address), []).append(address)
        for family in families.values():
            family.sort(key=lambda address: (self._begun[address], self._random()))
            self._begun[family[0]] = self._turn
        alternating = chain.from_iterable(zip_longest(*families.values()))
        return [address for address in alternating if address is not None]


@implementer(IResolutionReceiver)
class _Receiver:
    """Holds an answer back until it is whole, and passes it on in our order."""

    def __init__(self, receiver: IResolutionReceiver, spread: _Spread) -> None:
        self._receiver = receiver
        self._spread = spread
        self._addresses: list[IAddress] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Pass it on."""
        self._receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: IAddress) -> None:
        """Keep it."""
        self._addresses.append(address)

    def resolutionComplete(self) -> None:
        """Pass on what was kept."""
        self._spread.found(self._addresses)
        self.pass_on(self._addresses)

    def pass_on(self, addresses: Sequence[IAddress]) -> None:
        """Pass on addresses, in our order."""
        for address in self._spread.order(addresses):
            self._receiver.addressResolved(address)
        self._receiver.resolutionComplete()


@implementer(IHostResolution)
@attrs.frozen
class _Known:
    """A look-up that was not necessary."""

    name: str

    def cancel(self) -> None:
        """It is over already."""


@implementer(IHostnameResolver)
class _Resolver:
    """A resolver whose answers come in our order."""

    def __init__(self, resolver: IHostnameResolver, spread: _Spread) -> None:
        self._resolver = resolver
        self._spread = spread

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Ask the other resolver, unless it has just been asked."""
        receiver = _Receiver(resolutionReceiver, self._spread)
        addresses = self._spread.fresh
        if addresses:
            known = _Known(hostName)
            receiver.resolutionBegan(known)
            receiver.pass_on(addresses)
            return known
        return self._resolver.resolveHostName(receiver, hostName, portNumber, addressTypes, transportSemantics)


@implementer(IReactorPluggableNameResolver)
class _SpreadingReactor:
    """The reactor, as an endpoint sees it, with our resolver before its own."""

    def __init__(self, reactor: Any, spread: _Spread) -> None:
        self._reactor = reactor
        self._spread = spread

    @property
    def nameResolver(self) -> IHostnameResolver:
        """The resolver that the reactor has now, behind ours."""
        return _Resolver(self._reactor.nameResolver, self._spread)

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Install another in the reactor."""
        previous: IHostnameResolver = self._reactor.installNameResolver(resolver)
        return previous

    def __getattr__(self, name: str) -> Any:
        """All else is the reactor's."""
        return getattr(self._reactor, name)
