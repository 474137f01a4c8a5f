"""Tests for :mod:`txapns._network.endpoints`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import error as neterror
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txapns import Notification
from txapns._network.endpoints import (
    FRESH,
    _Race,
    _Receiver,
    _Spread,
    checked_host,
    checked_port,
    explain_attempt,
    host_endpoint,
)
from txapns.errors import ConnectFailed, InvalidGateway
from txapns.simulator import Authority
from txapns.testing import MemoryReactor, MemorySimulator

AUTHORITY = Authority()
HELLO = Notification(alert="Hello")
ALIVE = "aa" * 32
PORT = 443
FOUR = [f"192.0.2.{number}" for number in range(1, 5)]
SIX = [f"2001:db8::{number}" for number in range(1, 5)]


def address(host: str) -> IAddress:
    """Make an address of either family."""
    return IPv6Address("TCP", host, PORT) if ":" in host else IPv4Address("TCP", host, PORT)


@implementer(IHostResolution)
class Resolution:
    """One lookup."""

    name = "gateway.example"

    def cancel(self) -> None:
        """It is over already."""


@implementer(IHostnameResolver)
class Resolver:
    """
    A resolver that always answers alike, or as told, and counts.

    :ivar hosts: the addresses to answer with.
    :ivar asked: the names that were looked up.
    """

    def __init__(self, hosts: Sequence[str]) -> None:
        self.hosts = list(hosts)
        self.asked: list[str] = []

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Answer at once."""
        self.asked.append(hostName)
        resolution = Resolution()
        resolutionReceiver.resolutionBegan(resolution)
        for host in self.hosts:
            make = IPv6Address if ":" in host else IPv4Address
            resolutionReceiver.addressResolved(make("TCP", host, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution


class Reactor(MemoryReactor):
    """
    A reactor with such a resolver, and hosts that are down.

    :ivar resolver: the resolver.
    :ivar tried: the addresses that were connected to, in order.
    :ivar refusing: those where nobody listens.
    :ivar silent: those that never answer.
    """

    def __init__(self, hosts: Sequence[str]) -> None:
        super().__init__()
        self.resolver = self.nameResolver = Resolver(hosts)
        self.tried: list[str] = []
        self.refusing: set[str] = set()
        self.silent: set[str] = set()

    def connectTCP(self, host: str, port: int, *arguments: Any, **options: Any) -> Any:
        """Connect, unless the host is down."""
        self.tried.append(host)
        connector = super().connectTCP(host, 1 if host in self.refusing else port, *arguments, **options)
        if host in self.silent:
            connector.stopConnecting()
        return connector


class SpreadCase(SynchronousTestCase):
    """Connections to a host with several addresses."""

    def prepare(self, hosts: Sequence[str], seed: int = 0) -> None:
        """Let the host have these."""
        self.reactor = Reactor(hosts)
        self.reactor.servers[PORT] = Factory.forProtocol(Protocol)
        self.endpoint = host_endpoint(self.reactor, "gateway.example", PORT, random=Random(seed).random)

    def connect(self) -> list[str]:
        """Connect; tell which addresses were tried."""
        self.reactor.tried.clear()
        connecting = self.endpoint.connect(Factory.forProtocol(Protocol))
        self.reactor.advance(5)
        self.successResultOf(connecting)
        return list(self.reactor.tried)


class OrderTests(SpreadCase):
    """The address that comes first."""

    def test_interfaces(self) -> None:
        """The endpoint, and what receives the addresses, provide the right interfaces."""
        self.prepare(FOUR)
        verifyObject(IStreamClientEndpoint, self.endpoint)
        race = _Race(self.reactor, "gateway.example", Factory.forProtocol(Protocol))
        verifyObject(IResolutionReceiver, _Receiver(_Spread(self.reactor, Random(0).random), race))

    def test_each_in_turn(self) -> None:
        """Each address comes first once before one comes first again."""
        self.prepare(FOUR)
        begun = [self.connect()[0] for _ in range(12)]
        for start in (0, 4, 8):
            self.assertEqual(set(begun[start : start + 4]), set(FOUR))
        self.assertTrue(all(one != another for one, another in pairwise(begun)))

    def test_chance(self) -> None:
        """The first address is random, so that many programs do not start with the same one."""
        firsts = set()
        for seed in range(32):
            self.prepare(FOUR, seed)
            firsts.add(self.connect()[0])
        self.assertEqual(firsts, set(FOUR))

    def test_resolved_each_time(self) -> None:
        """The name is looked up again for another connection."""
        self.prepare(FOUR[:2])
        self.connect()
        self.reactor.resolver.hosts = FOUR[3:]
        self.assertEqual(self.connect(), FOUR[3:])
        self.assertEqual(self.reactor.resolver.asked, ["gateway.example"] * 2)

    def test_resolved_just_now(self) -> None:
        """Connections in quick succession share one look-up, and are still spread."""
        self.prepare(FOUR)
        begun = []
        for _ in range(4):
            self.reactor.tried.clear()
            connecting = self.endpoint.connect(Factory.forProtocol(Protocol))
            self.reactor.advance(FRESH / 8)
            self.successResultOf(connecting)
            begun += self.reactor.tried
        self.assertEqual(set(begun), set(FOUR))
        self.assertEqual(self.reactor.resolver.asked, ["gateway.example"])
        self.reactor.advance(FRESH / 2)
        self.connect()
        self.assertEqual(self.reactor.resolver.asked, ["gateway.example"] * 2)

    def test_found_nothing_just_now(self) -> None:
        """A name that could not be resolved is looked up again."""
        self.prepare([])
        self.failureResultOf(self.endpoint.connect(Factory.forProtocol(Protocol)), neterror.DNSLookupError)
        self.reactor.resolver.hosts = FOUR[:1]
        self.assertEqual(self.connect(), FOUR[:1])

    def test_newcomer(self) -> None:
        """A new address has one turn."""
        self.prepare(FOUR[:2])
        for _ in range(10):
            self.connect()
        self.reactor.resolver.hosts = FOUR[:3]
        begun = [self.connect()[0] for _ in range(6)]
        self.assertEqual([begun.count(host) for host in FOUR[:3]], [2, 2, 2])
        self.assertEqual(begun[0], FOUR[2])

    def test_families(self) -> None:
        """The families alternate, starting with the resolver's preference, and each is spread."""
        for hosts in (SIX + FOUR, FOUR + SIX):
            self.prepare(hosts)
            self.reactor.silent.update(SIX, FOUR)
            begun = []
            for _ in range(4):
                self.reactor.tried.clear()
                connecting = self.endpoint.connect(Factory.forProtocol(Protocol))
                self.reactor.advance(5)
                connecting.cancel()
                self.failureResultOf(connecting)
                tried = list(self.reactor.tried)
                self.assertEqual(set(tried), set(hosts))
                self.assertEqual([":" in host for host in tried], [":" in hosts[0], ":" not in hosts[0]] * 4)
                begun += tried[:2]
            self.assertEqual(set(begun), set(hosts))

    def test_nothing_found(self) -> None:
        """A name without an address cannot be resolved."""
        self.prepare([])
        connecting = self.endpoint.connect(Factory.forProtocol(Protocol))
        self.failureResultOf(connecting, neterror.DNSLookupError)

    @given(st.lists(st.sampled_from(FOUR + SIX)), st.integers(0, 99))
    def test_any_answer(self, hosts: list[str], seed: int) -> None:
        """Each address that the resolver finds is tried exactly once."""
        spread = _Spread(Clock(), Random(seed).random)
        for _ in range(3):
            self.assertEqual(set(spread.order([address(host) for host in hosts])), {address(host) for host in hosts})
        self.assertEqual(len(spread.order([address(host) for host in hosts])), len(set(hosts)))

    def test_reactor_changed(self) -> None:
        """A resolver that is installed later is used."""
        self.prepare(FOUR)
        self.reactor.nameResolver = other = Resolver(FOUR[:1])
        self.assertEqual(self.connect(), FOUR[:1])
        self.assertEqual(other.asked, ["gateway.example"])


class DownTests(SpreadCase):
    """Addresses where no server answers."""

    def test_refusing(self) -> None:
        """If one refuses, another is tried."""
        self.prepare(FOUR)
        self.reactor.refusing.update(FOUR[:3])
        for _ in range(4):
            self.assertEqual(self.connect()[-1], FOUR[3])

    def test_silent(self) -> None:
        """If one never answers, the next is tried soon."""
        self.prepare(FOUR)
        self.reactor.silent.update(FOUR[:3])
        before = self.reactor.seconds()
        connecting = self.endpoint.connect(Factory.forProtocol(Protocol))
        self.reactor.advance(1)
        self.successResultOf(connecting)
        self.assertEqual(self.reactor.seconds(), before + 1)

    def test_client(self) -> None:
        """A client that lost a connection connects to another address, for either protocol."""
        for protocol in ("http2", "binary"):
            simulator = MemorySimulator(authority=AUTHORITY)
            simulator.reactor.nameResolver = Resolver(FOUR)
            connect, tried = simulator.reactor.connectTCP, []

            def note(host: str, *arguments: Any, connect: Any = connect, tried: list[str] = tried, **more: Any) -> Any:
                tried.append(host)
                return connect(host, *arguments, **more)

            simulator.reactor.connectTCP = note
            client = simulator.client(protocol)
            for _ in FOUR:
                self.assertEqual(simulator.result(client.send(HELLO, [ALIVE])).accepted, 1)
                simulator.sessions[-1].transport.abortConnection()
                simulator.advance(60)
            self.assertEqual((len(tried), set(tried)), (4, set(FOUR)), protocol)


class ExplainTests(SynchronousTestCase):
    """Failed attempts in words."""

    def test_words(self) -> None:
        """Each message has the place and the reason."""
        for error, words in (
            (
                neterror.DNSLookupError(),
                "the host name gateway.example cannot be resolved; check the name, and this machine's DNS",
            ),
            (neterror.ConnectionRefusedError(), "nothing listens at gateway.example:443"),
            (
                neterror.TimeoutError(),
                "gateway.example:443 did not answer in time; check that firewalls allow TCP port 443",
            ),
            (neterror.ConnectError(string="no route"), "no connection to gateway.example:443: "),
            (neterror.ConnectingCancelledError(HostnameAddress(b"gateway.example", 443)), ""),
            (CancelledError(), "CancelledError"),
        ):
            explained = explain_attempt(Failure(error), "gateway.example", 443)
            self.assertIsInstance(explained, ConnectFailed)
            self.assertIn(words, str(explained))

    def test_explained(self) -> None:
        """Errors that already name their place are unchanged."""
        error = ConnectFailed("the proxy is out of order")
        self.assertIs(explain_attempt(Failure(error), "gateway.example", 443), error)

    def test_address(self) -> None:
        """An IPv6 address is in brackets before the port."""
        explained = explain_attempt(Failure(neterror.ConnectionRefusedError()), "2001:db8::5", 443)
        self.assertEqual(str(explained), "nothing listens at [2001:db8::5]:443; check host and port")

    def test_host(self) -> None:
        """A host is a name or an address, which may be in brackets."""
        for host in ("localhost", "bücher.example", "127.0.0.1", "::1", "fe80::1%eth0"):
            self.assertEqual(checked_host(host), host)
        self.assertEqual([checked_host("[::1]"), checked_host(" a \n")], ["::1", "a"])
        for host in ("", "[localhost]", "[::1", "a:b", "::1%a:b", "a b", "a..b", ".a", "a" * 64):
            self.assertIn(repr(host), str(self.assertRaises(InvalidGateway, checked_host, host)))
        error = self.assertRaises(InvalidGateway, checked_host, AUTHORITY.p8.decode())
        self.assertEqual(str(error), "this text is neither a host name nor an address")

    def test_port(self) -> None:
        """A port is a number from 1 to 65535."""
        self.assertEqual([checked_port(port) for port in (1, 65_535)], [1, 65_535])
        wrong: tuple[Any, ...] = (0, -1, 65_536, "443", None)
        for port in wrong:
            self.assertIn(repr(port), str(self.assertRaises(InvalidGateway, checked_port, port)))
