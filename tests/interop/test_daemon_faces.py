"""Old and foreign clients, unmodified, through the daemon to the simulator, all on loopback."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import xmlrpc.client
from pathlib import Path
from typing import Any, ClassVar

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from tests.daemon.daemon_case import Withheld
from tests.interop.programs import Program, command
from tests.interop.test_http2_clients import DEAD, IDENTIFIERS, ClientTests
from txapns import APNSClient, Certificate, Gateway, Notification
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.service import DaemonService
from txapns.simulator import Simulator

__all__ = ["AppleFaceTests", "BinaryFaceTests", "PyapnsFaceTests"]

HOST = "127.0.0.1"
TOKENS = [f"{number:02x}" * 32 for number in range(1, 9)]
GONE = {TOKENS[2]: 1_700_000_000, TOKENS[5]: 1_700_000_001}
EXPIRATION = 2_000_000_000
TIMESTAMP = 1_700_000_000
ALERT = "Grüße, Ольга! 🦊"
PAYLOAD = {"aps": {"alert": ALERT, "badge": 3, "sound": "default"}}
NOTIFICATION = {"alert": ALERT, "badge": 3, "sound": "default", "expiration": EXPIRATION, "priority": 10}


class Daemon:
    """
    A daemon in this process.

    :param directory: where it keeps everything; it is created.
    :param simulator: issues its credentials.
    :param ports: where the simulator's provider API listens, and its server that manages channels.
    :param faces: the configuration of its faces.
    """

    def __init__(self, directory: Path, simulator: Simulator, ports: list[int], faces: str) -> None:
        self.directory = directory
        authority = simulator.authority
        directory.mkdir(mode=0o700)
        self.files = {
            "ca.pem": authority.ca_pem,
            "server.pem": authority.server_certificate(),
            "client.pem": authority.client_pem(simulator.topic, key_type="rsa"),
            "client.p12": authority.client_pkcs12(simulator.topic),
            "AuthKey.p8": authority.p8,
        }
        for name, content in self.files.items():
            (directory / name).touch(0o600)
            (directory / name).write_bytes(content)
        callers = [
            Certificate.from_pem(self.files["client.pem"]).fingerprint,
            Certificate.from_pkcs12(self.files["client.p12"], b"txapns").fingerprint,
        ]
        text = f"""
            {faces}
            [intake.native]
            listen = []
            [admin]
            listen = []
            [apps.chess]
            gateway = "http2:host={HOST}:port={ports[0]}:management_port={ports[1]}"
            trust_root = "ca.pem"
            key = "AuthKey.p8"
            key_id = "{authority.key_id}"
            team_id = "{authority.team_id}"
            topic = "{simulator.topic}"
            callers = {json.dumps(callers)}
        """
        configuration = Configuration.from_text(text, directory.absolute())
        self.service = DaemonService(reactor, configuration, {}, self._broken)
        self.addresses: dict[str, int] = {}

    def _broken(self, error: Exception) -> None:
        self.service.ready.errback(error)

    async def start(self) -> None:
        """Start it."""
        self.service.startService()
        addresses = await self.service.ready
        self.addresses = {key: int(found[0].rpartition(":")[2]) for key, found in addresses.items() if found}

    def path(self, name: str) -> str:
        """Return the path of a file."""
        return str((self.directory / name).absolute())


async def served(simulator: Simulator, faces: str, directory: Path, cleanup: Any) -> Daemon:
    """Listen with the simulator's two HTTP/2 servers, and start a daemon that sends to them."""
    factories = [simulator.tls_factory(protocol) for protocol in ("http2", "channels")]
    for factory in factories:
        factory.noisy = False
    ports = [reactor.listenTCP(0, factory, interface=HOST) for factory in factories]

    async def stop() -> None:
        for port in ports:
            await port.stopListening()
        for factory in factories:
            for connection in list(factory.protocols):
                connection.abortConnection()
            while factory.protocols:
                await deferLater(reactor, 0.01)

    cleanup(stop)
    daemon = Daemon(directory, simulator, [port.getHost().port for port in ports], faces)
    cleanup(daemon.service.stopService)
    await daemon.start()
    return daemon


class AppleFaceTests(ClientTests):
    """What the tests of clients of the provider API have in common."""

    async def setUp(self) -> None:
        """Start everything, if the client is installed."""
        self.command = command(self.driver)
        self.simulator = Simulator(reactor, topic="com.example.app")
        self.simulator.inbox.dead = {bytes.fromhex(token): float(since) for token, since in DEAD.items()}
        faces = f"""
            [intake.apple]
            listen = "tcp:port=0:interface={HOST}"
            tls.certificate = "server.pem"
        """
        self.daemon = await served(self.simulator, faces, Path(self.mktemp()), self.addCleanup)

    def about(self) -> dict[str, object]:
        """Return the daemon's addresses."""
        authority = self.simulator.authority
        return {
            "host": HOST,
            "http2": self.daemon.addresses["intake.apple"],
            "ca": self.daemon.path("ca.pem"),
            "certificate": self.daemon.path("client.pem"),
            "p8": self.daemon.path("AuthKey.p8"),
            "key_id": authority.key_id,
            "team_id": authority.team_id,
        }

    async def check(self, mode: str) -> dict[str, Any]:
        """The client gets Apple's answers, and Apple got what it sent."""
        said = await self.send(mode)
        self.check_said(said)
        self.check_received(bearer=True)  # the daemon's own
        return said

    def check_expiration(self, expiration: int) -> None:
        """Check that there is one."""
        self.assertGreater(expiration, 1_700_000_000)


@pytest.mark.interop
class AioapnsFaceTests(AppleFaceTests):
    """aioapns 4.0 of PyPI."""

    driver = "drive_aioapns.py"

    async def test_provider_token(self) -> None:
        """It authenticates by its provider token; its ids go to Apple."""
        said = await self.check("token")
        self.assertEqual(dict(said["identifiers"]), IDENTIFIERS)
        for reception in self.simulator.inbox.received:
            self.assertEqual(reception.headers["apns-id"], IDENTIFIERS[reception.token.hex()])

    async def test_certificate(self) -> None:
        """It authenticates by its certificate."""
        await self.check("certificate")


@pytest.mark.interop
class NodeApnFaceTests(AppleFaceTests):
    """@parse/node-apn 8.1.0 of npm."""

    driver = "drive_node_apn.js"

    async def test_provider_token(self) -> None:
        """It authenticates by its provider token."""
        await self.check("token")

    async def test_certificate(self) -> None:
        """It authenticates by its certificate."""
        await self.check("certificate")


@pytest.mark.interop
class NodeApnChannelsTests(AppleFaceTests):
    """Broadcasts and channels of @parse/node-apn 8.1.0, with the daemon's one address in place of Apple's two."""

    driver = "drive_node_apn_channels.js"

    async def test_broadcast(self) -> None:
        """It makes a channel, lists and reads it, broadcasts to it, and deletes it, with Apple's answers to all."""
        said = await self.send("token")
        channel = said["made"]["apns-channel-id"]
        self.assertEqual(said["listed"]["channels"], [channel])
        self.assertEqual(said["read"]["message-storage-policy"], 0)
        told = said["refused"]
        self.assertEqual((told["status"], told["response"]["reason"]), (400, "ChannelNotRegistered"))
        self.assertNotIn("status", said["deleted"])
        sent, refused = self.simulator.inbox.received
        self.assertEqual([sent.protocol, sent.reason, refused.reason], ["broadcast", None, "ChannelNotRegistered"])
        self.assertEqual(sent.headers["apns-channel-id"], channel)
        for each, told in ((sent, said["sent"]), (refused, said["refused"])):
            self.assertEqual(each.headers["apns-request-id"], told["apns-request-id"])
        state = {"timestamp": TIMESTAMP, "event": "update", "content-state": {"score": 1}}
        self.assertEqual(json.loads(sent.payload), {"aps": state})

    def about(self) -> dict[str, object]:
        """Say when the broadcast is."""
        return {**super().about(), "timestamp": TIMESTAMP}


class BinaryFaceTests(TestCase):
    """
    What the tests of old clients have in common.

    :cvar driver: the file of its driver.
    :cvar old_python: whether it needs Python 3.11 or older, for ``ssl.wrap_socket``.
    :cvar wishes: further options of its driver.
    """

    timeout = 300
    driver: ClassVar[str]
    old_python: ClassVar[bool] = True
    wishes: ClassVar[dict[str, str]] = {}

    async def setUp(self) -> None:
        """Start everything, if the client is installed."""
        if self.old_python and sys.version_info >= (3, 12):
            raise SkipTest("needs Python 3.11 or older: make PYTHON=python3.11 interop, after make clean")
        self.command = command(self.driver)
        self.simulator = Simulator(reactor)
        self.simulator.inbox.dead = {bytes.fromhex(token): float(since) for token, since in GONE.items()}
        faces = f"""
            [intake.binary]
            listen = "tcp:port=0:interface={HOST}"
            feedback = "tcp:port=0:interface={HOST}"
            tls.certificate = "server.pem"
        """
        self.daemon = await served(self.simulator, faces, Path(self.mktemp()), self.addCleanup)

    async def run_driver(self, **request: Any) -> dict[str, Any]:
        """Run the driver; returns what it printed. It sends until the simulator has everything."""
        driver = Program(reactor, self.command)
        self.addCleanup(driver.stop)
        about = {
            "host": HOST,
            "binary": self.daemon.addresses["intake.binary"],
            "feedback": self.daemon.addresses["intake.binary.feedback"],
            "ca": self.daemon.path("ca.pem"),
            "certificate": self.daemon.path("client.pem"),
            "pkcs12": self.daemon.path("client.p12"),
            "passphrase": "txapns",
        }
        driver.transport.write(json.dumps({**about, **self.wishes, **request}).encode() + b"\n")
        if request["task"] == "send":
            inbox = self.simulator.inbox
            while len(inbox.received) < len(request["tokens"]) and not driver.ended.called:
                await deferLater(reactor, 0.01)
            driver.transport.closeStdin()
        status = await driver.ended
        self.assertEqual(status, 0, driver.complained.decode())
        return json.loads(driver.printed)

    async def check(self, **wishes: str) -> None:
        """Everything is sent and nothing refused; what Apple rejects comes from the feedback service, once."""
        said = await self.run_driver(task="send", tokens=TOKENS, **NOTIFICATION, **wishes)
        self.assertEqual(said, {"refused": []})
        received = self.simulator.inbox.received
        self.assertCountEqual([reception.token.hex() for reception in received], TOKENS)
        self.assertEqual([json.loads(reception.payload) for reception in received], [PAYLOAD] * len(TOKENS))
        self.assertEqual({reception.headers["apns-topic"] for reception in received}, {"com.example.app"})
        self.assertEqual({reception.headers["apns-push-type"] for reception in received}, {"alert"})
        answers = [await self.run_driver(task="feedback") for _ in range(2)]
        self.assertEqual(answers, [{"feedback": [[token, since] for token, since in GONE.items()]}, {"feedback": []}])


@pytest.mark.interop
class ApnFaceTests(BinaryFaceTests):
    """apn 1.7.8 of npm."""

    driver, old_python = "drive_apn.js", False

    async def test_all(self) -> None:
        """It sends, and reads the feedback service."""
        await self.check()


@pytest.mark.interop
class PushjackFaceTests(BinaryFaceTests):
    """pushjack 1.6.0 of PyPI, which takes whatever can be read for an error packet."""

    driver = "drive_pushjack.py"

    async def test_all(self) -> None:
        """It sends, and reads the feedback service."""
        await self.check()


@pytest.mark.interop
class Tapns3FaceTests(BinaryFaceTests):
    """tapns3 3.0.0 of PyPI."""

    driver = "drive_tapns3.py"

    async def test_enhanced(self) -> None:
        """It sends command 1, and reads the feedback service."""
        await self.check(mode="enhanced")

    async def test_simple(self) -> None:
        """It sends command 0, and reads the feedback service."""
        await self.check(mode="simple")


@pytest.mark.interop
class ApnsClerkFaceTests(BinaryFaceTests):
    """apns-clerk 0.2.0 of PyPI."""

    driver = "drive_apns_clerk.py"
    wishes: ClassVar = {"library": "apns_clerk"}

    async def test_all(self) -> None:
        """It sends, and reads the feedback service."""
        await self.check()


@pytest.mark.loopback
class StopTests(TestCase):
    """The daemon is stopped while our own client is sending through it."""

    timeout = 300

    async def test_relay(self) -> None:
        """Notifications in flight are answered before the connection closes."""
        simulator = Simulator(reactor)
        withheld = Withheld(simulator, on=False)
        faces = f'[intake.apple]\nlisten = "tcp:port=0:interface={HOST}"\ntls.certificate = "server.pem"'
        daemon = await served(simulator, faces, Path(self.mktemp()), self.addCleanup)
        address = Gateway.http2(HOST, daemon.addresses["intake.apple"], trust_root=daemon.files["ca.pem"])
        client = APNSClient(reactor, Certificate.from_pem(daemon.files["client.pem"]), address, topic=simulator.topic)
        self.addCleanup(client.close)
        tokens = [f"{number:064x}" for number in range(200)]
        await client.send(Notification(alert="First"), tokens[:1])  # with a provider token the first one goes alone
        withheld.on = True
        sending = client.send(Notification(alert="Hello"), tokens)
        await withheld.come(len(tokens))
        stopping = daemon.service.stopService()
        self.assertFalse(sending.called)
        withheld.give()
        await stopping
        batch = await sending
        self.assertEqual((batch.accepted, len(simulator.inbox.received)), (200, 201))

    async def test_binary(self) -> None:
        """What was sent before is stored, and the client knows the rest."""
        simulator = Simulator(reactor)
        faces = f"""
            [intake.binary]
            listen = "tcp:port=0:interface={HOST}"
            feedback = "tcp:port=0:interface={HOST}"
            tls.certificate = "server.pem"
        """
        daemon = await served(simulator, faces, Path(self.mktemp()), self.addCleanup)
        ports = daemon.addresses
        address = Gateway.binary(HOST, ports["intake.binary"], trust_root=daemon.files["ca.pem"], settle_time=0.3)
        client = APNSClient(reactor, Certificate.from_pem(daemon.files["client.pem"]), address)
        self.addCleanup(client.close)
        tokens = [f"{number:064x}" for number in range(5_000)]
        sending = client.send(Notification(alert="Hello"), tokens)
        while not daemon.service.store.queue.waiting("chess").count:
            await deferLater(reactor, 0.001)
        await daemon.service.stopService()
        await client.close()
        batch = await sending
        left = {each.token for each in [*batch.unsent.values(), *batch.uncertain.values()]}
        accepted = set(tokens) - left
        self.assertGreater(len(accepted), 0)
        self.assertGreater(len(batch.unsent), 0)
        with contextlib.closing(sqlite3.connect(daemon.path("apns.db"))) as database:
            stored = {token.hex() for (token,) in database.execute("SELECT token FROM queue_delivery")}
        self.assertLessEqual(accepted, stored)
        self.assertFalse({each.token for each in batch.unsent.values()} & stored)


@pytest.mark.loopback
class FeedbackTests(TestCase):
    """The feedback service, read by our own client."""

    timeout = 300

    async def test_once(self) -> None:
        """Each dead token is listed once, and the list ends."""
        simulator = Simulator(reactor)
        simulator.inbox.dead = {bytes.fromhex(token): float(since) for token, since in GONE.items()}
        faces = f"""
            [intake.binary]
            listen = "tcp:port=0:interface={HOST}"
            feedback = "tcp:port=0:interface={HOST}"
            tls.certificate = "server.pem"
        """
        daemon = await served(simulator, faces, Path(self.mktemp()), self.addCleanup)
        ports = daemon.addresses
        gateway = Gateway.binary(
            HOST,
            ports["intake.binary"],
            trust_root=daemon.files["ca.pem"],
            feedback_port=ports["intake.binary.feedback"],
            barrier=True,
        )
        client = APNSClient(reactor, Certificate.from_pem(daemon.files["client.pem"]), gateway)
        self.addCleanup(client.close)
        await client.send(Notification(alert="Hello"), TOKENS)
        found: list[str] = []
        while len(found) < len(GONE):
            found += [token for token, _ in await client.feedback()]
        self.assertEqual(found, list(GONE))
        self.assertEqual(await client.feedback(), [])


@pytest.mark.loopback
class PyapnsFaceTests(TestCase):
    """The standard library's client of XML-RPC, as pyapns' own client uses it."""

    timeout = 300

    async def test_all(self) -> None:
        """It provisions, sends, and gets each dead token once."""
        simulator = Simulator(reactor)
        simulator.inbox.dead = {bytes.fromhex(token): float(since) for token, since in GONE.items()}
        faces = f'[intake.pyapns]\nlisten = "tcp:port=0:interface={HOST}"\nkeys = false'
        daemon = await served(simulator, faces, Path(self.mktemp()), self.addCleanup)
        uri = f"http://{HOST}:{daemon.addresses['intake.pyapns']}/"

        def call(method: str, *arguments: Any) -> Deferred[Any]:
            def work() -> Any:
                with xmlrpc.client.ServerProxy(uri, allow_none=True) as proxy:
                    return getattr(proxy, method)(*arguments)

            return deferToThread(work)

        self.assertIsNone(await call("notify", "chess", TOKENS, [PAYLOAD] * len(TOKENS)))
        while len(simulator.inbox.received) < len(TOKENS):
            await deferLater(reactor, 0.01)
        received = simulator.inbox.received
        self.assertCountEqual([reception.token.hex() for reception in received], TOKENS)
        self.assertEqual([json.loads(reception.payload) for reception in received], [PAYLOAD] * len(TOKENS))
        found: list[Any] = []
        while len(found) < len(GONE):
            found += await call("feedback", "chess")
        times = ["20231114T22:13:20", "20231114T22:13:21"]
        self.assertEqual(
            [[str(when), token] for when, token in found], [list(pair) for pair in zip(times, GONE, strict=True)]
        )
        self.assertEqual(await call("feedback", "chess"), [])
