"""Tests for :mod:`txapns.gateway`."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txapns._network.proxy import Proxy
from txapns.credentials import Certificate, ProviderToken
from txapns.errors import CredentialError, InvalidGateway
from txapns.gateway import Gateway
from txapns.simulator.authority import Authority

AUTHORITY = Authority()


names = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]([a-z0-9-]{0,10}[a-z0-9])?){0,2}", fullmatch=True)
addresses = st.ip_addresses().map(str) | st.ip_addresses(v=6).map(lambda address: f"{address}%eth0")
hosts = names | addresses | st.sampled_from(["api.push.apple.com", "api.sandbox.push.apple.com"])
ports = st.integers(1, 65_535)
trust_roots = st.sampled_from([None, AUTHORITY.ca_pem])
proxies = st.sampled_from([None, "http://ann:word@[::1]:3128"])
gateways = st.builds(
    Gateway.http2,
    hosts,
    ports,
    trust_root=trust_roots,
    proxy=proxies,
    management_host=st.none() | hosts,
    management_port=st.none() | ports,
) | st.builds(
    Gateway.binary,
    hosts,
    ports,
    trust_root=trust_roots,
    feedback_host=st.none() | hosts,
    feedback_port=ports,
    settle_time=st.floats(0, 1e9),
    barrier=st.booleans(),
    command=st.integers(0, 2),
    proxy=proxies,
)


class ParseTests(SynchronousTestCase):
    """Gateways from text."""

    def test_apple(self) -> None:
        """Apple's two environments are known by name."""
        self.assertEqual(Gateway.parse("production"), Gateway.http2("api.push.apple.com", 443))
        self.assertEqual(Gateway.parse("sandbox"), Gateway.http2("api.sandbox.push.apple.com", 443))

    def test_apples_management(self) -> None:
        """Apple's servers for channels are known as well, whatever the port for notifications."""
        for host, management, port in (
            ("api.push.apple.com", "api-manage-broadcast.push.apple.com", 2196),
            ("api.development.push.apple.com", "api-manage-broadcast.sandbox.push.apple.com", 2195),
            ("api.sandbox.push.apple.com", "api-manage-broadcast.sandbox.push.apple.com", 2195),
        ):
            found = Gateway.http2(host, 2197).management()
            self.assertEqual((found.host, found.port), (management, port))
        self.assertEqual(Gateway.parse("sandbox").management(), found)

    def test_http2(self) -> None:
        """Host and port of a server of the provider API; the default port is 443."""
        self.assertEqual(Gateway.parse("http2:host=localhost:port=2197"), Gateway.http2("localhost", 2197))
        self.assertEqual(Gateway.parse("http2:host=localhost"), Gateway.http2("localhost", 443))

    def test_binary(self) -> None:
        """Host and port of a server of the binary protocol; the default port is 2195."""
        self.assertEqual(Gateway.parse("binary:port=99:host=10.0.0.1"), Gateway.binary("10.0.0.1", 99))
        self.assertEqual(Gateway.parse("binary:host=localhost"), Gateway.binary("localhost", 2195))

    def test_trust_root(self) -> None:
        """The trust root can be given with any text."""
        for description in ("sandbox", "http2:host=localhost", "binary:host=localhost"):
            gateway = Gateway.parse(description, trust_root=AUTHORITY.ca_pem)
            self.assertEqual(gateway.trust_root, AUTHORITY.ca_pem.decode())

    def test_gateway(self) -> None:
        """A gateway is returned as it is."""
        gateway = Gateway.http2("localhost")
        self.assertIs(Gateway.parse(gateway), gateway)

    def test_proxy(self) -> None:
        """A proxy can be given with any text, and replaces that of a gateway; left out, that one stays."""
        proxy = Proxy("proxy.example", 3128)
        for description in ("sandbox", "http2:host=localhost", "binary:host=localhost", Gateway.http2("localhost")):
            gateway = Gateway.parse(description, proxy="http://proxy.example:3128")
            self.assertEqual(gateway.proxy, proxy)
            self.assertEqual(Gateway.parse(gateway, trust_root=AUTHORITY.ca_pem).proxy, proxy)
            self.assertNotEqual(gateway, Gateway.parse(description))
            self.assertEqual(str(gateway), str(Gateway.parse(description)))
        self.assertRaises(InvalidGateway, Gateway.parse, "sandbox", proxy="socks5://proxy.example")

    @given(gateways)
    def test_round_trip(self, gateway: Gateway) -> None:
        """The text of a gateway can be parsed again, except for the trust root and the proxy, which are separate."""
        again = Gateway.parse(str(gateway), trust_root=gateway.trust_root, proxy=gateway.proxy)
        self.assertEqual(again, gateway)

    def test_brief(self) -> None:
        """The text of a gateway has no default values."""
        for gateway, text in (
            (Gateway.parse("production"), "http2:host=api.push.apple.com:port=443"),
            (Gateway.binary("localhost", trust_root=AUTHORITY.ca_pem), "binary:host=localhost:port=2195"),
            (Gateway.http2("::1", proxy="http://ann:word@[::2]:3128"), "http2:host=[::1]:port=443"),
            (Gateway.binary("a", settle_time=0.5, command=1), "binary:host=a:port=2195:settle_time=0.5:command=1"),
        ):
            self.assertEqual(str(gateway), text)

    def test_address(self) -> None:
        """An IPv6 address may be plain, in brackets, or with backslashes, and have a zone."""
        made = Gateway.http2("2001:db8::5", 2197)
        for host in ("2001:db8::5", "[2001:db8::5]", r"2001\:db8\:\:5"):
            self.assertEqual(Gateway.parse(f"http2:host={host}:port=2197"), made)
            self.assertEqual(Gateway.parse(f"http2:port=2197:host={host}"), made)
        self.assertEqual(Gateway.http2("[2001:db8::5]", 2197), made)
        self.assertEqual(Gateway.parse("binary:host=fe80::1%eth0").host, "fe80::1%eth0")

    def test_options(self) -> None:
        """All options of a protocol's gateways can be given in text."""
        self.assertEqual(
            Gateway.parse(
                "binary:host=a:port=1:feedback_host=::2:feedback_port=3:settle_time=0.5:barrier=true:command=1"
            ),
            Gateway.binary("a", 1, feedback_host="::2", feedback_port=3, settle_time=0.5, barrier=True, command=1),
        )
        found = Gateway.parse("http2:host=a:management_port=7")
        self.assertEqual(found, Gateway.http2("a", management_port=7))
        for mistake in (
            "settle_time=soon",
            "settle_time=nan",
            "settle_time=1_0",
            "settle_time=٣",
            "barrier=yes",
            "command=9",
            "command=x",
            "feedback_port=",
        ):
            error = self.assertRaises(InvalidGateway, Gateway.parse, f"binary:host=a:{mistake}")
            self.assertIn(mistake.partition("=")[2], str(error))

    def test_not_understood(self) -> None:
        """The message for invalid text quotes it and lists the valid forms."""
        for description in (
            "",
            "Production",
            "https:host=localhost",
            "http2",
            "http2:",
            "http2:host=",
            "http2:localhost:443",
            "http2:host=localhost:timeout=3",
            "http2:host=localhost:barrier=true",
            "http2:host=a:host=b",
            "binary:port=2195",
        ):
            error = self.assertRaises(InvalidGateway, Gateway.parse, description)
            self.assertIn(repr(description), str(error))
            self.assertIn("production, sandbox", str(error))
        for something in (None, 7, b"production", ["production"]):
            self.assertRaises(InvalidGateway, Gateway.parse, something)

    def test_bad_port(self) -> None:
        """The message for an invalid port quotes it."""
        for port in ("0", "65536", "-1", "x", "", "²", "1.5"):
            error = self.assertRaises(InvalidGateway, Gateway.parse, f"binary:host=localhost:port={port}")
            self.assertIn(port, str(error))

    @given(st.text(max_size=40))
    def test_any_text(self, description: str) -> None:
        """Any text is a gateway or an ``InvalidGateway``."""
        with contextlib.suppress(InvalidGateway):
            Gateway.parse(f"http2:host={description}")


class GatewayTests(SynchronousTestCase):
    """Gateways as values."""

    def test_bad_host(self) -> None:
        """A text that is neither a name nor an address is refused for every host, and quoted."""
        for host in ("", "a b", "a:b", "https://a", "[a]", "::1%a:port=3", "1:2:3:4:5:6:7:8:9", "a/b"):
            for make in (
                lambda host: Gateway.http2(host),
                lambda host: Gateway.binary(host),
                lambda host: Gateway.binary("a", feedback_host=host or " "),
                lambda host: Gateway.http2("a", management_host=host or " "),
            ):
                self.assertIn("neither a host name", str(self.assertRaises(InvalidGateway, make, host)))

    def test_bad_port(self) -> None:
        """Ports are checked, including that of the feedback service."""
        self.assertRaises(InvalidGateway, Gateway.http2, "localhost", 0)
        self.assertRaises(InvalidGateway, Gateway.binary, "localhost", 65_536)
        self.assertRaises(InvalidGateway, Gateway.binary, "localhost", feedback_port=-1)

    def test_feedback(self) -> None:
        """The feedback service is on the same host, port 2196, by default."""
        gateway = Gateway.binary("localhost")
        self.assertEqual((gateway.feedback_host, gateway.feedback_port), ("localhost", 2196))
        gateway = Gateway.binary("localhost", feedback_host="feedback.example", feedback_port=7, proxy="proxy.example")
        self.assertEqual((gateway.feedback_host, gateway.feedback_port), ("feedback.example", 7))

    def test_management(self) -> None:
        """For other gateways the server for channels is given: another port, another host, or both."""
        pem = AUTHORITY.ca_pem.decode()
        for options, expected in (
            ({"management_port": 7}, ("localhost", 7)),
            ({"management_host": "other"}, ("other", 2196)),
            ({"management_host": "other", "management_port": 7}, ("other", 7)),
        ):
            found = Gateway.http2("localhost", trust_root=pem, **options).management()
            self.assertEqual((found.host, found.port, found.trust_root, found.protocol), (*expected, pem, "http2"))
        gateway = Gateway.parse("production", proxy="http://proxy.example:3128")
        self.assertEqual(gateway.management().proxy, gateway.proxy)
        found = Gateway.http2("api.push.apple.com", management_host="other").management()
        self.assertEqual((found.host, found.port), ("other", 2196))
        self.assertRaises(InvalidGateway, Gateway.http2, "localhost", management_port=0)

    def test_no_management(self) -> None:
        """A gateway without such a server raises an error, and so does that server itself."""
        for gateway in (Gateway.http2("localhost"), Gateway.binary("localhost")):
            error = self.assertRaises(InvalidGateway, gateway.management)
            self.assertIn(str(gateway), str(error))
        self.assertRaises(InvalidGateway, Gateway.parse("production").management().management)

    def test_feedback_endpoint(self) -> None:
        """Only the binary protocol has a feedback service, which does not accept provider tokens."""
        certificate = Certificate.from_pem(AUTHORITY.client_pem())
        reactor = MemoryReactorClock()
        gateway = Gateway.binary("localhost", trust_root=AUTHORITY.ca_pem)
        verifyObject(IStreamClientEndpoint, gateway.feedback_endpoint(reactor, certificate))
        token = ProviderToken.from_p8(AUTHORITY.p8, AUTHORITY.key_id, AUTHORITY.team_id)
        self.assertRaises(CredentialError, gateway.feedback_endpoint, reactor, token)
        self.assertRaises(InvalidGateway, Gateway.http2("localhost").feedback_endpoint, reactor, certificate)

    def test_command(self) -> None:
        """The binary protocol has three commands; the newest is the default."""
        self.assertEqual(Gateway.binary("localhost").command, 2)
        self.assertEqual(Gateway.binary("localhost", command=1).command, 1)
        for mistake in (3, -1, "2", None):
            self.assertRaises(InvalidGateway, Gateway.binary, "localhost", command=mistake)

    def test_settle_time(self) -> None:
        """A settle time is a number of seconds, 0 included."""
        self.assertEqual(Gateway.binary("localhost", settle_time=0).settle_time, 0)
        for mistake in (-1.0, float("nan"), float("inf")):
            self.assertRaises(InvalidGateway, Gateway.binary, "localhost", settle_time=mistake)

    def test_equality(self) -> None:
        """A trust root is the same as text and as bytes, and a gateway can be a key."""
        text, octets = (
            Gateway.http2("localhost", trust_root=pem) for pem in (AUTHORITY.ca_pem.decode(), AUTHORITY.ca_pem)
        )
        self.assertEqual({text: 1}, {octets: 1})
        commented = Gateway.http2("localhost", trust_root="# Őrült\r\n" + AUTHORITY.ca_pem.decode())
        self.assertEqual(commented, text)
        self.assertNotEqual(text, Gateway.http2("localhost"))

    def test_commented_trust_root(self) -> None:
        """A bundle of authorities may have comments that are not ASCII, as common ones do."""
        bundle = "# Főtanúsítvány\n".encode() + AUTHORITY.ca_pem
        gateway = Gateway.http2("localhost", trust_root=bundle)
        endpoint = gateway.endpoint(MemoryReactorClock(), Certificate.from_pem(AUTHORITY.client_pem()))
        verifyObject(IStreamClientEndpoint, endpoint)

    def test_bad_trust_root(self) -> None:
        """An unreadable trust root is an error when the gateway is made, not at each attempt to connect."""
        for make in (Gateway.http2, Gateway.binary):
            self.assertRaises(CredentialError, make, "localhost", trust_root="nothing")
        self.assertRaises(CredentialError, Gateway.parse, "production", trust_root=b"nothing")

    def test_repr(self) -> None:
        """The trust root is not shown."""
        self.assertNotIn("BEGIN", repr(Gateway.http2("localhost", trust_root=AUTHORITY.ca_pem)))

    def test_provider_token_over_binary(self) -> None:
        """The binary protocol does not support provider tokens, and the message says so."""
        token = ProviderToken.from_p8(AUTHORITY.p8, AUTHORITY.key_id, AUTHORITY.team_id)
        gateway = Gateway.binary("localhost")
        error = self.assertRaises(CredentialError, gateway.endpoint, MemoryReactorClock(), token)
        self.assertIn("certificate", str(error))
        verifyObject(IStreamClientEndpoint, Gateway.http2("localhost").endpoint(MemoryReactorClock(), token))
