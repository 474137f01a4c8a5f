"""Tests for :mod:`txapns.simulator.service`."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from twisted.application.service import IService
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txapns import Accepted, APNSClient, Certificate, Gateway, Notification, ProviderToken
from txapns._network.tls import ClientContextFactory
from txapns.simulator import Simulator
from txapns.simulator.faults import split
from txapns.simulator.random_faults import RandomFaults
from txapns.simulator.service import HOST, SimulatorService, read_dead

__all__ = ["LoopbackTests", "ReadDeadTests", "StateTests"]


def mode(path: Path) -> int:
    """Return the permissions of a file or directory."""
    return path.stat().st_mode & 0o777


class ReadDeadTests(SynchronousTestCase):
    """The file of dead tokens."""

    def read(self, text: str) -> list[bytes]:
        """Read a file with this text."""
        path = Path(self.mktemp())
        path.write_text(text)
        return read_dead(path)

    def test_tokens(self) -> None:
        """There is one token a line; blank lines, comments and spaces are ignored."""
        for mark in "", "\ufeff":
            self.assertEqual(self.read(mark + "# gone\n\n aabb \r\nCCDD"), [b"\xaa\xbb", b"\xcc\xdd"])

    def test_malformed(self) -> None:
        """The error names the line, and does not show its content."""
        error = self.assertRaises(ValueError, self.read, "aabb\n\nsecret\n")
        self.assertIn("line 3 is not a hexadecimal token", str(error))
        self.assertNotIn("secret", str(error))

    def test_missing(self) -> None:
        """A file that cannot be read is an error of the same kind."""
        error = self.assertRaises(ValueError, read_dead, "nowhere")
        self.assertEqual(str(error), "nowhere: No such file or directory")


class StateTests(SynchronousTestCase):
    """The state directory, written by a service on a reactor in memory."""

    def setUp(self) -> None:
        """Make a service, not started."""
        self.reactor = MemoryReactorClock()
        self.simulator = Simulator(self.reactor, topic="com.example.other")
        self.state = Path(self.mktemp()) / "state"
        self.service = SimulatorService(
            self.reactor, self.simulator, self.state, http2=3, binary=4, feedback=5, channels=6, web=7
        )

    def test_interface(self) -> None:
        """It implements Twisted's interface of services."""
        verifyObject(IService, self.service)

    def test_listens_on_loopback_only(self) -> None:
        """Each server listens at the given port, on loopback only."""
        self.service.startService()
        listening = [(port, interface) for port, _, _, interface in self.reactor.tcpServers]
        self.assertEqual(listening, [(3, HOST), (4, HOST), (5, HOST), (6, HOST), (7, HOST)])

    def test_other_interface(self) -> None:
        """On demand it listens elsewhere, and is then named by that address too, if it is one."""
        options = {"delay_ms": 0, "max_concurrent_streams": 1, "random_faults": 0, "fault": None, "dead": None}
        options |= {"strict_legacy_payload": False, "no_tickets": False, "topic": "a.b", "names": ["apns.test"]}
        for interface, names in (("0.0.0.0", ()), ("::", ()), (HOST, ()), ("192.0.2.7", ("192.0.2.7",))):
            memory = MemoryReactorClock()
            service = SimulatorService.from_options(memory, state=self.mktemp(), interface=interface, **options)
            self.assertEqual(service.simulator.names, ("apns.test", *names))
        service.startService()
        self.assertEqual({each[3] for each in memory.tcpServers}, {interface})

    def test_description(self) -> None:
        """The description has everything needed to send, and the files that it names exist."""
        self.service.startService()
        description = json.loads((self.state / "simulator.json").read_text())
        self.assertEqual(description, self.service.description())
        self.assertEqual(description["topic"], "com.example.other")
        files = {description[name] for name in ("ca", "certificate", "pkcs12", "rsa_certificate", "rsa_pkcs12", "key")}
        self.assertEqual({path.name for path in self.state.iterdir()}, {"simulator.json", *files})

    def test_credentials(self) -> None:
        """The credentials are valid, for the simulator's topic and of its authority."""
        self.service.startService()
        pem = Certificate.from_file(self.state / "client.pem")
        pkcs12 = Certificate.from_file(self.state / "client.p12", "txapns")
        self.assertEqual([pem.topics, pkcs12.topics], [("com.example.other",)] * 2)
        rsa_pem = Certificate.from_file(self.state / "client-rsa.pem")
        rsa_pkcs12 = Certificate.from_file(self.state / "client-rsa.p12", "txapns")
        for certificate in (rsa_pem, rsa_pkcs12):
            self.assertEqual(certificate.topics, ("com.example.other",))
            self.assertIsInstance(certificate.private_key, RSAPrivateKey)
        authority = self.simulator.authority
        token = ProviderToken.from_file(self.state / "AuthKey.p8", authority.key_id, authority.team_id)
        self.assertEqual(token, ProviderToken.from_p8(authority.p8, authority.key_id, authority.team_id))
        self.assertEqual((self.state / "ca.pem").read_bytes(), authority.ca_pem)

    def test_modes(self) -> None:
        """Only the owner can read the directory and its files, whatever was there before."""
        self.state.mkdir(parents=True, mode=0o700)
        (self.state / "client.pem").write_text("old")
        (self.state / "client.pem").chmod(0o644)
        self.service.startService()
        self.assertEqual({mode(path) for path in self.state.iterdir()}, {0o600})

    def test_makes_directory(self) -> None:
        """The directory is made for its owner alone."""
        self.service.startService()
        self.assertEqual(mode(self.state), 0o700)

    def test_leaves_directory(self) -> None:
        """The mode of an existing directory is not changed, because others may use it."""
        self.state.mkdir(parents=True, mode=0o755)
        before = mode(self.state)
        self.service.startService()
        self.assertEqual(mode(self.state), before)

    def test_old_description(self) -> None:
        """The description of an earlier run is removed before anything is written."""
        self.state.mkdir(parents=True)
        (self.state / "simulator.json").write_text("{}")
        (self.state / "client.pem").mkdir()  # so it cannot be written
        self.assertRaises(OSError, self.service.startService)
        self.assertFalse((self.state / "simulator.json").exists())

    def test_options(self) -> None:
        """The options of the commands become the simulator's, in its units."""
        service = SimulatorService.from_options(
            self.reactor,
            state=self.state,
            http2=0,
            binary=0,
            feedback=0,
            channels=0,
            dead=[b"\xaa"],
            topic="a.b",
            delay_ms=1_500,
            max_concurrent_streams=7,
            random_faults=2,
            fault="split",
            strict_legacy_payload=True,
            tls12=True,
            no_tickets=True,
        )
        simulator = service.simulator
        self.assertEqual((simulator.topic, simulator.delay, simulator.concurrency), ("a.b", 1.5, 7))
        self.assertEqual(list(simulator.inbox.dead), [b"\xaa"])
        self.assertIs(simulator.binary_fault, split)
        self.assertIsInstance(simulator.http2_fault, RandomFaults)
        self.assertTrue(simulator.strict_legacy_payload)


@implementer(IHandshakeListener)
class Watcher(Protocol):
    """A client that reports when it is connected, and when it is not."""

    def __init__(self) -> None:
        self.ready: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def handshakeCompleted(self) -> None:
        """The handshake is complete."""
        self.ready.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection has ended."""
        self.lost.callback(None)


@attrs.define
class Start:
    """A service that was started on free ports."""

    service: SimulatorService
    state: Path
    ports: dict[str, int]


@pytest.mark.loopback
class LoopbackTests(TestCase):
    """The service on real ports."""

    timeout = 300

    def start(self, names: Sequence[str] = (), **options: bool) -> Start:
        """Start a service, to be stopped with the test."""
        state = Path(self.mktemp())
        service = SimulatorService(reactor, Simulator(reactor, names=names), state, **options)
        service.startService()
        self.addCleanup(service.stopService)
        return Start(service, state, json.loads((state / "simulator.json").read_text()))

    async def test_serves_both_protocols(self) -> None:
        """The state directory has everything needed to send over either protocol."""
        start = self.start()
        trust_root = (start.state / "ca.pem").read_bytes()
        certificate = Certificate.from_file(start.state / "client.pem")
        accepted = []
        for gateway in (
            Gateway.http2("localhost", start.ports["http2"], trust_root=trust_root),
            Gateway.binary("localhost", start.ports["binary"], trust_root=trust_root, barrier=True),
        ):
            client = APNSClient(reactor, certificate, gateway)
            batch = await client.send(Notification(alert="Hello"), ["ab" * 32, "cd" * 32])
            accepted.append(batch.accepted)
            await client.close()
        self.assertEqual(accepted, [2, 2])

    async def test_serves_channels(self) -> None:
        """So it does for a broadcast, with either credential, and for its channel."""
        start = self.start()
        trust_root = (start.state / "ca.pem").read_bytes()
        ports = start.ports
        gateway = Gateway.http2("localhost", ports["http2"], trust_root=trust_root, management_port=ports["channels"])
        certificate = Certificate.from_file(start.state / "client.pem")
        token = ProviderToken.from_file(start.state / "AuthKey.p8", str(ports["key_id"]), str(ports["team_id"]))
        update = Notification.live_activity_update(str(ports["topic"]), {"score": 1})
        for credential, topic in ((certificate, None), (token, str(ports["topic"]))):
            client = APNSClient(reactor, credential, gateway, topic=topic)
            channel = await client.channels.create()
            self.assertIsInstance(await client.broadcast(update, channel.channel_id), Accepted)
            await client.channels.delete(channel.channel_id)
            self.assertEqual(await client.channels.list(), [])
            await client.close()

    async def test_web(self) -> None:
        """The control API tells what came over real connections, and from where."""
        start = self.start()
        gateway = Gateway.http2("localhost", start.ports["http2"], trust_root=(start.state / "ca.pem").read_bytes())
        client = APNSClient(reactor, Certificate.from_file(start.state / "client.pem"), gateway)
        await client.send(Notification(alert="Hello"), ["ab" * 32])
        await client.close()
        with await deferToThread(urlopen, f"http://localhost:{start.ports['web']}/v1/received") as response:
            [entry] = json.load(response)["received"]
        self.assertEqual((entry["token"], entry["client"]["certificate"]["topics"]), ("ab" * 32, ["com.example.app"]))
        self.assertRegex(entry["client"]["address"], r"127\.0\.0\.1:\d+")

    async def test_names(self) -> None:
        """Its certificates are valid for its names, and its page is theirs; other hosts are refused."""
        start = self.start(["apns.test", "192.0.2.7"])
        about = await deferToThread(self.about, start, "apns.test")
        self.assertEqual(
            (about["names"], about["ports"]["http2"]), (["localhost", "apns.test", "192.0.2.7"], start.ports["http2"])
        )
        error = await self.assertFailure(deferToThread(self.about, start, "evil.example"), HTTPError)
        self.assertEqual(error.code, 421)
        error.close()
        for name in ("apns.test", "192.0.2.7", "localhost"):
            await deferToThread(self.shake_hands, start, name)
        await self.assertFailure(deferToThread(self.shake_hands, start, "evil.example"), ssl.SSLCertVerificationError)

    def about(self, start: Start, name: str) -> Any:
        """Ask the simulator about itself, by a name."""
        request = Request(f"http://{HOST}:{start.ports['web']}/v1/simulator", headers={"Host": f"{name}:8025"})
        with urlopen(request) as response:
            return json.load(response)

    def shake_hands(self, start: Start, name: str) -> None:
        """Connect, and check that the certificate is for a name."""
        context = ssl.create_default_context(cafile=str(start.state / "ca.pem"))
        with socket.create_connection((HOST, start.ports["http2"]), 20) as connection:
            context.wrap_socket(connection, server_hostname=name).close()

    async def test_stops(self) -> None:
        """Stopping frees the ports and aborts the connections."""
        start = self.start()
        ca_pem = start.service.simulator.authority.ca_pem
        watcher = Watcher()
        context = ClientContextFactory("localhost", trust_root=ca_pem, protocols=[b"h2"])
        endpoint = wrapClientTLS(context, HostnameEndpoint(reactor, HOST, start.ports["http2"]))
        await endpoint.connect(Factory.forProtocol(lambda: watcher))
        await watcher.ready
        await start.service.stopService()
        await watcher.lost
        for port in ("http2", "binary", "feedback", "channels", "web"):
            with socket.socket() as probe:
                self.assertNotEqual(probe.connect_ex((HOST, start.ports[port])), 0)

    async def test_taken_port(self) -> None:
        """A port in use is an error at once, and the ports before it are released."""
        taken = self.start().ports["http2"]
        state = Path(self.mktemp())
        service = SimulatorService(reactor, Simulator(reactor), state, feedback=taken)
        self.assertRaises(CannotListenError, service.startService)
        self.assertFalse(state.exists())
        await service.stopService()

    async def test_starts_again(self) -> None:
        """A service that was stopped can be started again."""
        start = self.start()
        await start.service.stopService()
        start.service.startService()
        self.assertEqual(json.loads((start.state / "simulator.json").read_text()), start.service.description())

    async def test_old_tls(self) -> None:
        """With ``tls12`` it speaks nothing newer than TLS 1.2."""
        start = self.start(tls12=True, tickets=False)
        watcher = Watcher()
        ca_pem = start.service.simulator.authority.ca_pem
        context = ClientContextFactory("localhost", trust_root=ca_pem, protocols=[b"h2"])
        endpoint = wrapClientTLS(context, HostnameEndpoint(reactor, HOST, start.ports["http2"]))
        await endpoint.connect(Factory.forProtocol(lambda: watcher))
        await watcher.ready
        assert watcher.transport is not None
        self.assertEqual(watcher.transport.getHandle().get_protocol_version_name(), "TLSv1.2")
        watcher.transport.loseConnection()
        await watcher.lost
