"""Tests for :mod:`txapns._network.proxy`."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import SkipTest
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import defer, reactor
from twisted.internet.address import HostnameAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IHandshakeListener, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests import PROJECT
from tests.connect_proxy import ConnectProxy
from tests.ports import reserve
from tests.processes import started
from txapns import APNSClient, Batch, Certificate, Gateway, Notification, Proxy, Session
from txapns._network.proxy import read_proxy
from txapns._network.tcp import closing, unacknowledged
from txapns.errors import APNSError, ConnectFailed, CredentialError, InvalidGateway, PeerNotVerified
from txapns.simulator import Authority, Simulator
from txapns.simulator.service import SimulatorService
from txapns.testing import MemorySimulator

AUTHORITY = Authority()
CERTIFICATE = Certificate.from_pem(AUTHORITY.client_pem())
HELLO = Notification(alert="Hello")
ALIVE, DEAD = "aa" * 32, "dd" * 32
SECRET = "open sesame"
#: The port of the proxy, and its URL with a password.
PORT = 3128
URL = f"http://ali:{quote(SECRET)}@proxy.example:{PORT}"


class ParseTests(SynchronousTestCase):
    """Proxies from URLs."""

    def test_whole(self) -> None:
        """Host, port, user and password are read, and percent-encoding is decoded."""
        proxy = Proxy.parse("http://j%C3%B6rg%40corp:p%3A%2F%23%25@proxy.example:3128/")
        self.assertEqual((proxy.host, proxy.port), ("proxy.example", 3128))
        self.assertEqual((proxy.user, proxy.password, proxy.tls), ("jörg@corp", "p:/#%", False))

    def test_ports(self) -> None:
        """The default port is that of the scheme."""
        self.assertEqual(Proxy.parse("http://proxy.example"), Proxy("proxy.example", 80))
        self.assertEqual(Proxy.parse("HTTPS://proxy.example"), Proxy("proxy.example", 443, tls=True))

    def test_without_scheme(self) -> None:
        """The default scheme is HTTP."""
        self.assertEqual(Proxy.parse("proxy.example:3128"), Proxy("proxy.example", 3128))
        self.assertEqual(Proxy.parse("ali:baba@proxy.example:3128"), Proxy("proxy.example", 3128, "ali", "baba"))

    def test_address(self) -> None:
        """An IPv6 address is in brackets, when read and when written."""
        proxy = Proxy.parse("http://[2001:db8::1]:3128")
        self.assertEqual((proxy.host, str(proxy)), ("2001:db8::1", "http://[2001:db8::1]:3128"))
        self.assertEqual(Proxy("[2001:db8::1]", 3128), proxy)
        self.assertRaises(InvalidGateway, Proxy, "2001:db8::1]", 3128)

    def test_not_understood(self) -> None:
        """An invalid URL is an error that does not show it, since the password may be anywhere in it."""
        for url in (
            "",
            "http://",
            "http://:3128",
            f"socks5://ali:{SECRET}@proxy.example:1080",
            f"http://ali:{SECRET}@proxy.example:port",
            f"http://ali:{SECRET}@proxy.example:65536",
            f"http://ali:{SECRET}@proxy.example:0",
            f"http://ali:{SECRET}@[::1",
            f"http://ali:{SECRET}/@proxy.example:3128",
            f"http://ali:12/{SECRET}@proxy.example:3128",
            f"http://ali?{SECRET}@proxy.example:3128",
            f"http://proxy.example:3128#{SECRET}",
            f"http://ali%3A:{SECRET}@proxy.example:3128",
        ):
            error = self.assertRaises(InvalidGateway, Proxy.parse, url)
            self.assertNotIn("sesame", str(error))
            self.assertNotIn("ali", str(error))

    @given(st.text(max_size=40))
    def test_any_text(self, text: str) -> None:
        """Any text is a proxy or an ``InvalidGateway``."""
        for url in (text, f"http://{text}", f"http://user:{text}@proxy.example"):
            with contextlib.suppress(InvalidGateway):
                Proxy.parse(url)

    @given(st.text().filter(lambda user: ":" not in user), st.text())
    def test_any_password(self, user: str, password: str) -> None:
        """Any user and password can be percent-encoded."""
        proxy = Proxy.parse(f"http://{quote(user, safe='')}:{quote(password, safe='')}@proxy.example")
        self.assertEqual((proxy.user, proxy.password), (user, password))

    def test_secrets(self) -> None:
        """Neither user nor password shows, nor does a trust root."""
        proxy = Proxy("proxy.example", 3128, "ali", SECRET, trust_root=AUTHORITY.ca_pem)
        gateway = Gateway.http2("localhost", proxy=proxy)
        for shown in (repr(proxy), str(proxy), repr(gateway), str(gateway)):
            for secret in ("ali", "sesame", "BEGIN"):
                self.assertNotIn(secret, shown)
        self.assertEqual(str(proxy), "http://proxy.example:3128")

    def test_bad_value(self) -> None:
        """A port is also checked if the proxy is made from its parts."""
        self.assertRaises(InvalidGateway, Proxy, "proxy.example", 0)
        self.assertRaises(InvalidGateway, Proxy, "proxy.example", 80, "a:b")
        self.assertRaises(ValueError, Proxy, "", 80)


class EnvironmentTests(SynchronousTestCase):
    """Proxies from the environment."""

    def setUp(self) -> None:
        """Start with an empty environment."""
        self.patch(os, "environ", {})

    def set(self, **variables: str) -> None:
        """Set these variables."""
        self.patch(os, "environ", variables)

    def test_nothing(self) -> None:
        """Without the variable, or with an empty one, or one for something else, there is no proxy."""
        self.assertIsNone(read_proxy("environment"))
        self.set(HTTPS_PROXY="", HTTP_PROXY="http://proxy.example")
        self.assertIsNone(read_proxy("environment"))

    def test_found(self) -> None:
        """The variable has a URL; lower case goes first."""
        self.set(HTTPS_PROXY="http://one.example:1")
        self.assertEqual(read_proxy("environment"), Proxy("one.example", 1))
        self.set(HTTPS_PROXY="http://one.example:1", https_proxy="http://two.example:2")
        self.assertEqual(read_proxy("environment"), Proxy("two.example", 2))

    def test_not_asked(self) -> None:
        """The environment is only used on request."""
        self.set(HTTPS_PROXY=URL)
        self.assertIsNone(read_proxy(None))
        self.assertIsNone(Gateway.parse("production").proxy)
        self.assertEqual(Gateway.parse("production", proxy="environment").proxy, Proxy.parse(URL))

    def test_not_understood(self) -> None:
        """An invalid URL is an error that does not show it."""
        self.set(HTTPS_PROXY=f"socks5://ali:{SECRET}@proxy.example")
        self.assertNotIn("sesame", str(self.assertRaises(InvalidGateway, read_proxy, "environment")))

    def test_exceptions(self) -> None:
        """``NO_PROXY`` has hosts, including names below them, addresses and networks."""
        exceptions = "localhost, .corp.example,*.lab.example,10.0.0.0/8,2001:db8::/32,one:99,::1,"
        self.set(https_proxy=URL, no_proxy=exceptions)
        proxy = read_proxy("environment")
        assert proxy is not None
        for host in ("localhost", "LOCALHOST", "corp.example", "a.corp.example", "a.b.lab.example", "10.1.2.3", "::1"):
            self.assertFalse(proxy.is_for(host, 443), host)
        self.assertFalse(proxy.is_for("2001:db8::7", 443))
        for host in ("api.push.apple.com", "notcorp.example", "11.1.2.3", "2001:db9::7", "1"):
            self.assertTrue(proxy.is_for(host, 443), host)
        self.assertEqual((proxy.is_for("one", 443), proxy.is_for("one", 99)), (True, False))
        self.set(https_proxy=URL, no_proxy="[::1],[2001:db8::7]:99")
        proxy = Proxy.from_environment()
        assert proxy is not None
        self.assertEqual([proxy.is_for("::1", 443), proxy.is_for("::2", 443)], [False, True])
        self.assertEqual([proxy.is_for("2001:db8::7", 99), proxy.is_for("2001:db8::7", 443)], [False, True])
        self.set(https_proxy=URL, no_proxy="*")
        self.assertFalse(Proxy.from_environment().is_for("api.push.apple.com", 443))  # type: ignore[union-attr]

    def test_read_once(self) -> None:
        """The environment is read once, when the proxy is read."""
        self.set(HTTPS_PROXY=URL)
        simulator = MemorySimulator(authority=AUTHORITY)
        simulator.reactor.servers[PORT] = proxy = ConnectProxy(simulator.reactor)
        client = simulator.client(proxy="environment")
        self.set(NO_PROXY="*")
        self.assertEqual(simulator.result(client.send(HELLO, [ALIVE])).accepted, 1)
        self.assertEqual(len(proxy.requests), 1)

    def test_spared(self) -> None:
        """A gateway in ``NO_PROXY`` is connected to directly."""
        self.set(HTTPS_PROXY=URL, NO_PROXY="127.0.0.0/8")
        simulator = MemorySimulator(authority=AUTHORITY)
        client = simulator.client(proxy="environment")  # where no proxy listens
        self.assertEqual(simulator.result(client.send(HELLO, [ALIVE])).accepted, 1)


class TunnelCase(SynchronousTestCase):
    """A simulator, and a proxy on the way there."""

    def setUp(self) -> None:
        """Make both."""
        self.simulator = MemorySimulator(authority=AUTHORITY, dead=[DEAD])
        self.reactor = self.simulator.reactor
        self.proxy = ConnectProxy(self.reactor)
        self.reactor.servers[PORT] = self.proxy

    def send(self, gateway: str | Gateway = "http2", proxy: str | Proxy = URL, **options: Any) -> Batch:
        """Send to a registered and an unregistered device."""
        self.client = self.simulator.client(gateway, proxy=proxy, **options)
        return self.simulator.result(self.client.send(HELLO, [ALIVE, DEAD]), within=120)

    def refused(self, gateway: str | Gateway = "http2", proxy: str | Proxy = URL) -> str:
        """Send, and return why nothing was sent. Check that neither it nor the log has a secret."""
        with capturedLogs() as events:
            batch = self.send(gateway, proxy)
        self.assertEqual((batch.accepted, len(batch.unsent)), (0, 2))
        error = self.client.status().last_error
        self.assertIsInstance(error, ConnectFailed)
        for text in (str(error), repr(error), str(batch.unsent[0].error), str(events), repr(self.client.status())):
            for secret in ("sesame", "ali:", "b3Blbi"):
                self.assertNotIn(secret, text)
        self.assertIn("proxy http://proxy.example:3128", str(error))
        return str(error)

    def closed(self) -> bool:
        """Whether no connection to the proxy is left."""
        self.simulator.flush()
        return all(client.lost for client in self.proxy.clients)


class ThroughTests(TunnelCase):
    """Connections through the proxy."""

    def test_both_protocols(self) -> None:
        """Both protocols work through it, with the same outcomes as without it."""
        for protocol, port in (("http2", 2197), ("binary", 2195)):
            batch = self.send(protocol)
            self.assertEqual((batch.accepted, list(batch.failed)), (1, [1]), protocol)
            self.assertTrue(self.proxy.requests[-1].startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % port))

    def test_request(self) -> None:
        """The request has the gateway's name twice, and the password as in RFC 7617."""
        self.send()
        _, host, authorization, *rest = self.proxy.requests[0].split(b"\r\n")
        self.assertEqual(host, b"Host: 127.0.0.1:2197")
        name, scheme, code = authorization.split()
        self.assertEqual((name, scheme, rest), (b"Proxy-Authorization:", b"Basic", [b"", b""]))
        self.assertEqual(b64decode(code), b"ali:" + SECRET.encode())
        self.send(proxy="http://proxy.example:3128")
        self.assertEqual(self.proxy.requests[1].count(b"\r\n"), 3)

    def test_feedback(self) -> None:
        """The feedback service is reached through it."""
        client = self.simulator.client("binary", proxy=URL)
        self.simulator.result(client.send(HELLO, [DEAD]))
        self.simulator.result(client.feedback())
        self.assertIn(b":2196", self.proxy.requests[-1])

    def test_feedback_refused(self) -> None:
        """If it rejects the connection, the feedback service's error names it."""
        self.proxy.answer = lambda client: client.say(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        client = self.simulator.client("binary", proxy=URL)
        error = self.assertRaises(ConnectFailed, self.simulator.result, client.feedback())
        self.assertIn("no connection to 127.0.0.1:2196 through the proxy http://proxy.example:3128", str(error))

    def test_long_batch(self) -> None:
        """More data than any buffer holds passes in both directions."""
        client = self.simulator.client(proxy=URL)
        tokens = [f"{number:064x}" for number in range(2_000)]
        batch = self.simulator.result(client.send(Notification(alert="x" * 1_000), tokens))
        self.assertEqual(batch.accepted, 2_000)

    def test_session(self) -> None:
        """All clients of a session use its proxy."""
        session = Session(self.reactor, proxy=URL)
        client = session.client(CERTIFICATE, self.simulator.gateway())
        self.assertEqual(self.simulator.result(client.send(HELLO, [ALIVE])).accepted, 1)
        self.assertEqual(len(self.proxy.requests), 1)
        self.assertIs(session.client(CERTIFICATE, self.simulator.gateway()), client)
        self.assertRaises(InvalidGateway, Session, self.reactor, proxy="socks5://proxy.example")

    def test_gateways_own(self) -> None:
        """A gateway may have its own proxy, which the client's replaces."""
        gateway = self.simulator.gateway(proxy=URL)
        client = self.simulator.client(gateway)
        self.assertEqual(client.gateway.proxy, Proxy.parse(URL))
        self.assertEqual(self.simulator.result(client.send(HELLO, [ALIVE])).accepted, 1)
        self.assertEqual(len(self.proxy.requests), 1)
        client = self.simulator.client(gateway, proxy="http://other.example:1")
        self.assertEqual(client.gateway.proxy, Proxy("other.example", 1))

    def test_verified(self) -> None:
        """The gateway's name is sent and verified, not the proxy's."""
        trust_root = AUTHORITY.ca_pem
        batch = self.send(Gateway.http2("localhost", 2197, trust_root=trust_root))
        self.assertEqual(batch.accepted, 1)
        self.assertIn(b"\x00\x09localhost", self.proxy.seen)  # SNI, before anything is encrypted
        self.assertNotIn(b"proxy.example", self.proxy.seen)
        client = self.simulator.client(
            Gateway.http2("apns.example", 2197, trust_root=trust_root), proxy="http://localhost:3128"
        )
        batch = self.simulator.result(client.send(HELLO, [ALIVE]), within=1)
        self.assertIsInstance(batch.unsent[0].error, PeerNotVerified)
        self.assertIn("not for apns.example", str(batch.unsent[0].error))

    def test_closed_later(self) -> None:
        """When the proxy closes a connection that was in use, the next takes its place."""
        self.send()
        self.proxy.clients[0].transport.loseConnection()
        self.simulator.advance(5)
        batch = self.simulator.result(self.client.send(HELLO, [ALIVE]))
        self.assertEqual((batch.accepted, len(self.proxy.requests)), (1, 2))

    def test_close(self) -> None:
        """Closing the client closes its connection to the proxy."""
        self.send()
        self.simulator.result(self.client.close())
        self.assertTrue(self.closed())


class SecureProxyTests(TunnelCase):
    """A proxy that speaks TLS itself."""

    def setUp(self) -> None:
        """Put TLS before the proxy."""
        super().setUp()
        self.secure = Proxy("localhost", PORT, "ali", SECRET, tls=True, trust_root=AUTHORITY.ca_pem)
        options = AUTHORITY.server_options(())  # with a certificate for localhost
        self.reactor.servers[PORT] = TLSMemoryBIOFactory(options, False, self.proxy, clock=self.reactor)

    def test_through(self) -> None:
        """TLS to the gateway works through TLS to the proxy, in both protocols."""
        for protocol in ("http2", "binary"):
            self.assertEqual(self.send(protocol, self.secure).accepted, 1)
            self.simulator.result(self.client.close())
        self.assertEqual(len(self.proxy.requests), 2)
        self.assertTrue(self.closed())

    def test_not_verified(self) -> None:
        """The proxy's certificate is verified before anything is sent."""
        stranger = Proxy("proxy.example", PORT, "ali", SECRET, tls=True, trust_root=AUTHORITY.ca_pem)
        batch = self.send(proxy=stranger)
        error = batch.unsent[0].error
        self.assertIsInstance(error, PeerNotVerified)
        self.assertIn("no connection to the proxy https://proxy.example:3128", str(error))
        self.assertIn("not for proxy.example", str(error))
        self.assertEqual(self.proxy.requests, [])

    def test_trust_root(self) -> None:
        """An invalid trust root is an error before any connection."""
        proxy = Proxy("localhost", PORT, tls=True, trust_root="nothing")
        self.assertRaises(CredentialError, self.simulator.client, proxy=proxy)

    def test_no_tls(self) -> None:
        """A proxy that does not speak TLS gives its own error, and never receives the password."""
        self.reactor.servers[PORT] = self.proxy
        self.proxy.answer = lambda client: client.say(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        client = self.simulator.client(proxy=self.secure, timeout=5)
        batch = self.simulator.result(client.send(HELLO, [ALIVE]))
        self.assertIn("the proxy https://localhost:3128", str(batch.unsent[0].error))
        self.assertNotIn(b"CONNECT", self.proxy.seen)


class RefusedTests(TunnelCase):
    """Proxies that reject the request."""

    def test_wants_credentials(self) -> None:
        """The message says that it requires a user and password, or other ones."""
        answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n<html>"
        self.proxy.answer = lambda client: client.say(answer)
        message = self.refused(proxy="http://proxy.example:3128")
        self.assertIn(
            "127.0.0.1:2197 through the proxy http://proxy.example:3128: it answered HTTP/1.1 407 Proxy Auth",
            message,
        )
        self.assertIn("it requires a user and a password", message)
        self.assertIn("it does not accept this user and password", self.refused())

    def test_schemes(self) -> None:
        """The schemes that it accepts instead of Basic are listed, and the password is not blamed."""
        for fields, words in (
            (b"Proxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM", "it accepts only Negotiate or NTLM,"),
            (b"proxy-authenticate:NTLM", "it accepts only NTLM,"),
            (b"PROXY-AUTHENTICATE: Negotiate, NTLM,Negotiate", "it accepts only Negotiate or NTLM,"),
            (
                b'Proxy-Authenticate: Digest realm="a, Basic b", nonce = "x", qop="a,b"',
                "it accepts only Digest,",
            ),
            (b'Proxy-Authenticate: Bearer realm="\\", Basic "\r\nServer: Basic', "it accepts only Bearer,"),
            (b"Proxy-Authenticate: Negotiate YIIabc==, Kerberos", "it accepts only Negotiate or Kerberos,"),
            (b"WWW-Authenticate: NTLM", "it accepts only NTLM,"),
            (b'Proxy-Authenticate: Digest realm="x",\r\n nonce="y",\r\n\tNTLM', "it accepts only Digest or NTLM,"),
        ):
            answer = b"HTTP/1.1 407 No\r\nX: y\r\n" + fields + b"\r\nContent-Length: 0\r\n\r\n"
            self.proxy.answer = lambda client, answer=answer: client.say(answer)  # type: ignore[misc]
            for proxy in (URL, "http://proxy.example:3128"):
                message = self.refused(proxy=proxy)
                self.assertIn(words, message)
                self.assertIn("supports only Basic", message)
                self.assertNotIn("password", message)

    def test_basic_among_others(self) -> None:
        """If it accepts Basic, or lists no scheme, the message blames user and password."""
        for fields in (
            b"Proxy-Authenticate: Negotiate\r\nProxy-Authenticate: Basic realm=x",
            b"Proxy-Authenticate: NTLM, basic",
            b"Proxy-Authenticate: ",
            b'Proxy-Authenticate: realm="x"',
            b"X-Proxy-Authenticate: NTLM",
            b"",
        ):
            answer = b"HTTP/1.1 407 No\r\n" + fields + b"\r\n\r\n"
            self.proxy.answer = lambda client, answer=answer: client.say(answer)  # type: ignore[misc]
            self.assertIn("does not accept this user and password", self.refused())

    def test_no_gateway(self) -> None:
        """If it cannot reach the gateway, the message has its answer, and no connection remains."""
        del self.reactor.servers[2197]
        self.assertIn("502 Bad Gateway", self.refused())
        # When the batch ends, the proxy may be at the last attempt still, as it takes its time to find nobody there.
        self.simulator.result(self.client.close())
        self.assertTrue(self.closed())

    def test_other_answers(self) -> None:
        """Any status but 2xx is an error; control characters are removed."""
        for answer, words in (
            (b"HTTP/1.0 503 \x1b[2Jbusy\r\n\r\n", "503 �[2Jbusy"),
            (b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n", "302 Found"),
            (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "101 Switching"),
            (b"HTTP/1.1 999\n\n", "HTTP/1.1 999"),
        ):
            self.proxy.answer = lambda client, answer=answer: client.say(answer)  # type: ignore[misc]
            self.assertIn(words, self.refused())

    def test_garbage(self) -> None:
        """A server that does not speak HTTP is left at its first bytes."""
        for garbage in (
            b"SSH-2.0-OpenSSH",
            b"\x15\x03\x01\x00\x02\x02\x16",
            b"HTTP/1.1 OK\r\n",
            b"HTTP/2 200\r\n",
        ):
            self.proxy.answer = lambda client, garbage=garbage: client.transport.write(garbage)  # type: ignore[misc]
            self.assertIn("it does not speak HTTP, but sent", self.refused())
            self.assertTrue(self.closed())

    def test_endless(self) -> None:
        """A header that does not end is left after 16 KiB, whether one line or many 1xx answers."""
        for beginning, more in (
            (b"HTTP/1.1 200 OK\r\n", b"X-Padding: " + b"x" * 1_000 + b"\r\n"),
            (b"HTTP/1.1 200 ", b"x" * 1_000),
            (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        ):
            self.proxy.answer = lambda client, answer=beginning + 1_000 * more: client.transport.write(answer)  # type: ignore[misc]
            self.assertIn("longer than 16384 bytes", self.refused())
            self.assertTrue(self.closed())

    def test_closes(self) -> None:
        """Closing without an answer, or in the middle of one, has its own message."""
        for answer in (b"", b"HTTP/1.1 200 Connection"):
            self.proxy.answer = lambda client, answer=answer: client.say(answer)  # type: ignore[misc]
            self.assertIn("it closed the connection without an answer", self.refused())

    def test_nobody_there(self) -> None:
        """If nothing listens, the message names the proxy."""
        del self.reactor.servers[PORT]
        self.assertIn(
            "no connection to the proxy http://proxy.example:3128: nothing listens at proxy.example:3128",
            self.refused(),
        )

    def test_silence(self) -> None:
        """A silent proxy is left after the timeout and tried again later, without delaying others."""
        self.proxy.answer = lambda client: None
        self.assertIn(
            "no connection to 127.0.0.1:2197 through the proxy http://proxy.example:3128: no answer within 30 s",
            self.refused(),
        )
        self.assertTrue(self.closed())
        self.proxy.answer = None
        batch = self.simulator.result(self.client.send(HELLO, [ALIVE]))
        self.assertEqual(batch.accepted, 1)

    def test_no_shared_lock(self) -> None:
        """While one client waits for the proxy, another is served."""
        silent = self.simulator.client("binary", proxy=URL)
        self.proxy.answer = lambda client: None
        waiting = silent.send(HELLO, [ALIVE])
        self.simulator.flush()
        self.proxy.answer = None
        self.assertEqual(self.send().accepted, 1)
        self.assertFalse(waiting.called)
        self.assertEqual(len(self.simulator.result(waiting, within=120).unsent), 1)

    def test_close_while_asking(self) -> None:
        """Closing the client during the request closes the connection to the proxy at once."""
        self.proxy.answer = lambda client: None
        client = self.simulator.client(proxy=URL)
        sending = client.send(HELLO, [ALIVE])
        self.simulator.flush()
        closing = client.close()
        self.simulator.flush()
        self.assertEqual(len(self.successResultOf(sending).unsent), 1)
        self.assertIsNone(self.successResultOf(closing))
        self.assertTrue(self.closed())
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class Peer(Protocol):
    """Remembers what happened."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep why."""
        self.lost = reason


@implementer(IHandshakeListener)
class SecurePeer(Peer):
    """Tells when TLS is there, and when it is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.secured: Deferred[None] = Deferred()
        self.gone: Deferred[Failure] = Deferred()

    def handshakeCompleted(self) -> None:
        """It is there."""
        self.secured.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        self.gone.callback(None)


@implementer(IStreamClientEndpoint)
class StringEndpoint:
    """Connects to a ``StringTransport``."""

    def __init__(self) -> None:
        self.transport = StringTransport()

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect at once."""
        protocol = protocolFactory.buildProtocol(None)
        assert protocol is not None
        self.protocol = protocol
        protocol.makeConnection(self.transport)
        return defer.succeed(protocol)


class EndpointTests(TunnelCase):
    """The endpoint by itself."""

    def endpoint(self, host: str = "localhost", proxy: str = URL) -> IStreamClientEndpoint:
        """Make it on a string transport."""
        endpoint = Proxy.parse(proxy).endpoint(self.reactor, host, 2197, 30)
        self.near = endpoint._endpoint = StringEndpoint()  # type: ignore[attr-defined]
        return endpoint

    def answer(self, pieces: Iterable[bytes]) -> Peer:
        """Connect; have the proxy answer in pieces."""
        peer = Peer()
        connecting = self.endpoint().connect(Factory.forProtocol(lambda: peer))
        for piece in pieces:
            self.near.protocol.dataReceived(piece)
        self.assertIs(self.successResultOf(connecting), peer)
        return peer

    def test_interface(self) -> None:
        """It is an endpoint."""
        verifyObject(IStreamClientEndpoint, self.endpoint())

    def test_hands_over(self) -> None:
        """The protocol has the real transport, and receives the bytes after the header and the end."""
        peer = self.answer([b"HTTP/1.1 200 OK\r\n\r\nfirst ", b"second"])
        self.assertIs(peer.transport, self.near.transport)
        self.assertEqual(peer.received, b"first second")
        reason = Failure(Exception("gone"))
        self.near.protocol.connectionLost(reason)
        self.assertIs(peer.lost, reason)

    @given(st.data())
    def test_any_split(self, data: st.DataObject) -> None:
        """The answer is read the same however it is split, 1xx answers and bare line ends included."""
        answer = data.draw(
            st.sampled_from(
                [
                    b"HTTP/1.1 200 OK\r\n\r\n",
                    b"HTTP/1.0 200 Connection established\nVia: 1.1 x\n\n",
                    b"HTTP/1.1 204\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n",
                    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 299 \r\n\r\n",
                ]
            )
        )
        whole = answer + b"\r\n\r\nHTTP/1.1 500 this is TLS already"
        cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1))))
        pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        self.assertEqual(self.answer(pieces).received, whole[len(answer) :])

    @given(st.binary(max_size=64))
    def test_any_answer(self, written: bytes) -> None:
        """Any answer is a connection, a ``ConnectFailed``, or incomplete."""
        connecting = self.endpoint().connect(Factory.forProtocol(Peer))
        results: list[object] = []
        connecting.addBoth(results.append)
        self.near.protocol.dataReceived(written)
        self.near.protocol.dataReceived(b"\r\n\r\n")
        for result in results:
            if isinstance(result, Failure):
                self.assertIsInstance(result.value, ConnectFailed)
                self.assertTrue(self.near.transport.disconnecting)

    def test_targets(self) -> None:
        """Names are sent in ASCII, IPv6 addresses in brackets and without a zone."""
        for host, target in (
            ("LocalHost", b"localhost:2197"),
            ("bücher.example", b"xn--bcher-kva.example:2197"),
            ("10.0.0.1", b"10.0.0.1:2197"),
            ("2001:db8::1", b"[2001:db8::1]:2197"),
            ("fe80::1%eth0", b"[fe80::1]:2197"),
        ):
            self.endpoint(host).connect(Factory.forProtocol(Peer)).addErrback(lambda _: None)
            self.assertTrue(self.near.transport.value().startswith(b"CONNECT " + target + b" HTTP/1.1\r\n"), host)

    def test_smuggling(self) -> None:
        """A host cannot end its line."""
        for host in ("a b", "a\r\nX: y", "a/b", "", "[::1]", "::1%\r\nX: y"):
            try:
                self.endpoint(host).connect(Factory.forProtocol(Peer)).addErrback(lambda _: None)
            except InvalidGateway:
                continue
            request, host, *_ = self.near.transport.value().split(b"\r\n")
            self.assertEqual((request, host), (b"CONNECT [::1]:2197 HTTP/1.1", b"Host: [::1]:2197"))

    def test_address(self) -> None:
        """The factory receives the gateway's name, since only the proxy knows its address."""
        told: list[IAddress | None] = []

        class Told(Factory):
            def buildProtocol(self, addr: IAddress | None) -> Protocol:
                told.append(addr)
                return Peer()

        self.endpoint().connect(Told())
        self.near.protocol.dataReceived(b"HTTP/1.1 200 OK\r\n\r\n")
        self.assertEqual(told, [HostnameAddress(b"localhost", 2197)])

    def test_no_protocol(self) -> None:
        """A factory that builds nothing, or raises an exception, closes the connection and fails the attempt."""

        class Nothing(Factory):
            def buildProtocol(self, addr: IAddress | None) -> None:
                return None

        class Broken(Factory):
            def buildProtocol(self, addr: IAddress | None) -> None:
                raise ZeroDivisionError

        for factory in (Nothing(), Broken()):
            connecting = self.endpoint().connect(factory)
            self.near.protocol.dataReceived(b"HTTP/1.1 200 OK\r\n\r\n")
            self.failureResultOf(connecting)
            self.assertTrue(self.near.transport.disconnecting)
            self.near.protocol.connectionLost(Failure(Exception()))

    def test_starts_and_stops(self) -> None:
        """The factory behind is started and stopped."""
        factory = Factory.forProtocol(Peer)
        factory.noisy = False
        endpoint = Proxy.parse(URL).endpoint(self.reactor, "localhost", 2197)
        connecting = endpoint.connect(factory)
        self.simulator.flush()
        self.assertEqual(factory.numPorts, 1)
        self.successResultOf(connecting)

    def test_cancelled(self) -> None:
        """An attempt can be cancelled while connecting and during the request; no connection is left."""
        self.proxy.answer = lambda client: None
        for steps in (0, 1):
            connecting = Proxy.parse(URL).endpoint(self.reactor, "localhost", 2197).connect(Factory.forProtocol(Peer))
            if steps:
                self.simulator.flush()
                self.assertEqual(len(self.proxy.requests), 1)
            connecting.cancel()
            failure = self.failureResultOf(connecting)
            self.assertFalse(failure.check(APNSError), failure)
            self.simulator.flush()
            self.assertTrue(self.closed())
            self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertTrue(failure.check(CancelledError))

    def test_deadline(self) -> None:
        """Connecting and the request share one deadline, and a later answer is dropped."""
        self.proxy.answer = lambda client: None
        connecting = Proxy.parse(URL).endpoint(self.reactor, "localhost", 2197, 7.5).connect(Factory.forProtocol(Peer))
        self.simulator.advance(7.4)
        self.assertNoResult(connecting)
        self.simulator.advance(0.2)
        self.assertIn("no answer within 7.5 s", str(self.failureResultOf(connecting, ConnectFailed).value))
        self.assertTrue(self.closed())


class LoopbackCase(TestCase):
    """The simulator on loopback."""

    timeout = 300

    def setUp(self) -> None:
        """Start it."""
        self.simulator = Simulator(reactor, authority=AUTHORITY, dead=[bytes.fromhex(DEAD)])
        service = SimulatorService(reactor, self.simulator, self.mktemp())
        service.startService()
        self.addCleanup(service.stopService)
        self.ports = service.description()

    def gateway(self, protocol: str = "http2") -> Gateway:
        """One of its servers."""
        make = Gateway.http2 if protocol == "http2" else Gateway.binary
        return make("localhost", self.ports[protocol], trust_root=AUTHORITY.ca_pem)

    def start(self, *command: str | Path) -> subprocess.Popen[str]:
        """Run a proxy until the test is over."""
        return started(self, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    async def send(self, proxy: str, protocol: str, timeout: float = 120) -> Batch:
        """Send through it to a registered and an unregistered device."""
        client = APNSClient(reactor, CERTIFICATE, self.gateway(protocol), proxy=proxy, timeout=timeout)
        try:
            return await client.send(HELLO, [ALIVE, DEAD])
        finally:
            await client.close()


@pytest.mark.loopback
class ProcessTests(LoopbackCase):
    """A proxy in a process of its own."""

    def setUp(self) -> None:
        """Start it."""
        super().setUp()
        self.process = self.start(sys.executable, PROJECT / "tests/connect_proxy.py")
        assert self.process.stdout is not None
        self.url = f"http://ali:baba@localhost:{int(self.process.stdout.readline())}"

    async def test_both_protocols(self) -> None:
        """Both protocols work through it."""
        for protocol in ("http2", "binary"):
            batch = await self.send(self.url, protocol)
            self.assertEqual((batch.accepted, list(batch.failed)), (1, [1]))

    async def test_no_gateway(self) -> None:
        """If it cannot reach the gateway, the message says so."""
        self.ports["http2"] = 1
        batch = await self.send(self.url, "http2", 3)
        self.assertIn("502", str(batch.unsent[0].error))

    async def test_socket(self) -> None:
        """The state of the TCP connection is available through it."""
        if not sys.platform.startswith("linux"):
            self.skipTest("only Linux tells")
        endpoint = Gateway.parse(self.gateway("binary"), proxy=self.url).endpoint(reactor, CERTIFICATE)
        peer = SecurePeer()
        await endpoint.connect(Factory.forProtocol(lambda: peer))
        await peer.secured
        transport: Any = peer.transport
        self.assertFalse(closing(transport))
        self.process.send_signal(signal.SIGSTOP)
        transport.setTcpNoDelay(True)
        transport.write(bytes(2**25))
        while unacknowledged(transport) <= 2**17:  # more than that there is only in the system's buffers, and ours
            await deferLater(reactor, 0.01)
        transport.abortConnection()
        await peer.gone


@pytest.mark.interop
class TinyproxyTests(LoopbackCase):
    """An independent proxy: tinyproxy."""

    def setUp(self) -> None:
        """Start it, with a user."""
        super().setUp()
        program = shutil.which("tinyproxy")
        if program is None:
            raise SkipTest("tinyproxy is not installed")
        [self.port] = reserve()
        configuration = Path(self.mktemp())
        configuration.write_text(f"Port {self.port}\nListen 127.0.0.1\nBasicAuth ali baba\n")
        process = self.start(program, "-d", "-c", configuration)
        while process.poll() is None:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.05)
        self.fail("tinyproxy has ended")

    async def test_both_protocols(self) -> None:
        """Both protocols work through it."""
        for protocol in ("http2", "binary"):
            batch = await self.send(f"http://ali:baba@127.0.0.1:{self.port}", protocol)
            self.assertEqual((batch.accepted, list(batch.failed)), (1, [1]))

    async def test_refused(self) -> None:
        """The message says that it requires a password, or another one."""
        for user, words in (("", "it requires a user"), ("ali:nonsense@", "it does not accept")):
            batch = await self.send(f"http://{user}127.0.0.1:{self.port}", "http2", 3)
            self.assertIn(words, str(batch.unsent[0].error))
