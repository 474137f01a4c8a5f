"""
How a host is reached: its name is looked up again, and the connections are spread over its addresses.

A resolver returns the addresses of a name in its own order, often the same each time, and Twisted's
``HostnameEndpoint`` tries them in that order, 0.3 seconds apart, until one answers. So every connection would go to the
first address; if that server has a fault that TCP does not show, each new attempt would go there again. Therefore the
order is changed between the resolver and the endpoint: within each address family, the address that came first least
recently comes first, and addresses that never came first are in random order. The families alternate, beginning with
the one that the resolver prefers (RFC 8305, section 4), so that a network without one of them costs 0.3 seconds.

The result of a look-up is used for one second. Some servers end each connection after a thousand requests, which means
a hundred connections per second, and each look-up takes a thread of the resolver and often a query to a name server.

An attempt has one deadline, which includes the look-up. Twisted's own timeout is a timer of the reactor, which may run
by the wall clock (see :mod:`txapns._network.clocks`), and does not cover resolvers that never answer.
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

#: For how many seconds the addresses of a name are used again.
FRESH = 1.0

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


def checked_port(port: int) -> int:
    """Check that a number can be a TCP port; otherwise it is an ``InvalidGateway``."""
    if not 0 < port < 65_536:
        raise InvalidGateway(f"a port must be a number from 1 to 65535, not {port}")
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
    # Without Twisted's own timeout.
    endpoint = HostnameEndpoint(_SpreadingReactor(reactor, _Spread(reactor, random)), host, port, cast(float, None))
    return _BoundedEndpoint(endpoint, timeout, reactor)


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _BoundedEndpoint:
    endpoint: IStreamClientEndpoint
    timeout: float
    clock: IReactorTime

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        attempt: Deferred[IProtocol] = self.endpoint.connect(protocolFactory)
        return attempt.addTimeout(self.timeout, self.clock, lambda *_: Failure(neterror.TimeoutError()))


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


@implementer(IResolutionReceiver)
@attrs.frozen(eq=False)
class _Receiver:
    """Collects a complete answer, then passes it on in our order."""

    _receiver: IResolutionReceiver
    _spread: _Spread
    _addresses: list[IAddress] = attrs.Factory(list)

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: IAddress) -> None:
        self._addresses.append(address)

    def resolutionComplete(self) -> None:
        self._spread.found(self._addresses)
        self.pass_on(self._addresses)

    def pass_on(self, addresses: Sequence[IAddress]) -> None:
        for address in self._spread.order(addresses):
            self._receiver.addressResolved(address)
        self._receiver.resolutionComplete()


@implementer(IHostResolution)
@attrs.frozen
class _Known:
    """A look-up that was answered from memory."""

    name: str

    def cancel(self) -> None:
        """Do nothing: it is already complete."""


@implementer(IHostnameResolver)
@attrs.frozen(eq=False)
class _Resolver:
    """A resolver whose answers come in our order."""

    _resolver: IHostnameResolver
    _spread: _Spread

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Ask the reactor's resolver, unless it was asked within the last second."""
        receiver = _Receiver(resolutionReceiver, self._spread)
        if addresses := self._spread.fresh:
            known = _Known(hostName)
            receiver.resolutionBegan(known)
            receiver.pass_on(addresses)
            return known
        return self._resolver.resolveHostName(receiver, hostName, portNumber, addressTypes, transportSemantics)


@implementer(IReactorPluggableNameResolver)
@attrs.frozen(eq=False)
class _SpreadingReactor:
    """The reactor as the endpoint sees it, with our resolver in front of its own."""

    _reactor: Any
    _spread: _Spread

    @property
    def nameResolver(self) -> IHostnameResolver:
        """Our resolver, in front of the one that the reactor has now."""
        return _Resolver(self._reactor.nameResolver, self._spread)

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        return cast(IHostnameResolver, self._reactor.installNameResolver(resolver))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
