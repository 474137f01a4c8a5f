"""Old clients of the binary protocol, unmodified, against the simulator on loopback."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SkipTest, TestCase

from tests.interop.programs import Program, command
from txapns.simulator import Simulator, faults
from txapns.simulator.binary import EnhancedNotificationServer, Fault
from txapns.wire.frames import ReceivedNotification

__all__ = ["ApnTests", "ApnagentTests", "ApnsClerkTests", "ApnsClientTests", "PushjackTests", "Tapns3Tests"]

HOST = "127.0.0.1"
TOKENS = [f"{number:02x}" * 32 for number in range(8)]
BAD = [TOKENS[2], TOKENS[5]]
GOOD = [token for token in TOKENS if token not in BAD]
INVALID_TOKEN = 8
EXPIRATION = 2_000_000_000
ALERT = "Grüße, Ольга! 🦊"
PAYLOAD = {"aps": {"alert": ALERT, "badge": 3, "sound": "default"}}


@attrs.frozen
class Arrival:
    """A notification as it came, on which connection, and the status it was refused with, if it was."""

    connection: int
    notification: ReceivedNotification
    status: int | None


class Servers:
    """
    The simulator's binary and feedback servers, and what they were sent.

    :param state: the directory for the credentials.
    :param options: whether they speak TLS 1.3, and give out tickets.

    :ivar fault: what the binary server does wrong, if anything.
    """

    def __init__(self, state: Path, **options: bool) -> None:
        self.simulator = Simulator(reactor, dead=[bytes.fromhex(token) for token in BAD])
        self.simulator.binary_fault = self._note
        self.fault: Fault | None = None
        self.arrivals: list[Arrival] = []
        self._connections: list[EnhancedNotificationServer] = []
        self._waiting: tuple[int, Deferred[None]] = (0, Deferred())
        self._factories: list[TLSMemoryBIOFactory] = []
        self._ports: list[IListeningPort] = []
        authority = self.simulator.authority
        state.mkdir()
        (state / "ca.pem").write_bytes(authority.ca_pem)
        (state / "client.pem").write_bytes(authority.client_pem(key_type="rsa"))
        (state / "client.p12").write_bytes(authority.client_pkcs12())
        self.about: dict[str, object] = {
            "host": HOST,
            "binary": self._listen("binary", **options),
            "feedback": self._listen("feedback", **options),
            "ca": str(state / "ca.pem"),
            "certificate": str(state / "client.pem"),
            "pkcs12": str(state / "client.p12"),
            "passphrase": "txapns",
        }

    def _listen(self, protocol: str, **options: bool) -> int:
        factory = self.simulator.tls_factory(protocol, **options)
        factory.noisy = False
        port = reactor.listenTCP(0, factory, interface=HOST)
        self._factories.append(factory)
        self._ports.append(port)
        return port.getHost().port

    def _note(
        self, server: EnhancedNotificationServer, notification: ReceivedNotification, status: int | None
    ) -> int | bool | None:
        """In itself no fault: it only looks."""
        said = status if self.fault is None else self.fault(server, notification, status)
        if said is False:
            return False  # as if it had not come
        if server not in self._connections:
            self._connections.append(server)
        self.arrivals.append(Arrival(self._connections.index(server), notification, said))
        count, all_here = self._waiting
        if said is None and len(self.accepted()) == count:
            all_here.callback(None)
        return said

    def accept(self, count: int) -> Deferred[None]:
        """Wait until so many were accepted."""
        self._waiting = count, Deferred()
        return self._waiting[1]

    async def idle(self) -> None:
        """Wait until the clients closed their connections: all they sent was read then."""
        while any(factory.protocols for factory in self._factories):
            await deferLater(reactor, 0.01)

    async def stop(self) -> None:
        """Stop listening, and cut the connections that are left."""
        for port in self._ports:
            await port.stopListening()
        for factory in self._factories:
            for connection in list(factory.protocols):
                connection.abortConnection()
        await self.idle()

    def tokens(self) -> list[str]:
        """The tokens in the order in which they came, refused ones as well."""
        return [arrival.notification.token.hex() for arrival in self.arrivals]

    def accepted(self) -> list[str]:
        """The tokens that were accepted, in order."""
        return [arrival.notification.token.hex() for arrival in self.arrivals if arrival.status is None]

    def identifiers(self) -> list[list[int | None]]:
        """The identifiers on each connection."""
        found: list[list[int | None]] = [[] for _ in self._connections]
        for arrival in self.arrivals:
            found[arrival.connection].append(arrival.notification.identifier)
        return found

    def fields(self) -> set[tuple[int, int | None, int | None]]:
        """The different combinations of command, expiration and priority that came."""
        sent = [arrival.notification for arrival in self.arrivals]
        return {(notification.command, notification.expiration, notification.priority) for notification in sent}

    def payloads(self) -> list[object]:
        """The contents of the different payloads that came."""
        return [json.loads(payload) for payload in {arrival.notification.payload for arrival in self.arrivals}]


class OldClientTests(TestCase):
    """
    What the tests of all clients have in common.

    :cvar driver: the file of its driver.
    :cvar old_python: whether it needs Python 3.11 or older, for ``ssl.wrap_socket``.
    :cvar options: what the servers have to be told for its sake.
    :cvar wishes: what its driver has to be told.
    """

    timeout = 300
    driver: ClassVar[str]
    old_python: ClassVar[bool] = False
    options: ClassVar[dict[str, bool]] = {}
    wishes: ClassVar[dict[str, str]] = {}

    def setUp(self) -> None:
        """Start the servers, where the client is installed."""
        if self.old_python and sys.version_info >= (3, 12):
            raise SkipTest("needs Python 3.11 or older: make PYTHON=python3.11 interop, after make clean")
        self.command = command(self.driver)
        self.servers = Servers(Path(self.mktemp()), **self.options)
        self.addCleanup(self.servers.stop)

    async def run_driver(self, request: dict[str, Any], enough: Deferred[None] | None = None) -> dict[str, Any]:
        """Run the driver, which may be told when it is enough; returns what it printed."""
        driver = Program(reactor, self.command)
        self.addCleanup(driver.stop)
        driver.transport.write(json.dumps({**self.servers.about, **self.wishes, **request}).encode() + b"\n")
        if enough is not None:
            enough.addCallback(lambda _: driver.transport.closeStdin())
        status = await driver.ended
        self.assertEqual(status, 0, f"it got {self.servers.identifiers()} out, and {driver.complained.decode()}")
        await self.servers.idle()
        return json.loads(driver.printed)

    async def send(self, tokens: Sequence[str], good: int, *, priority: int = 10, **wishes: str) -> list[list[object]]:
        """Send to tokens so many of which are good; returns what the client says was refused."""
        notification = {"alert": ALERT, "badge": 3, "sound": "default", "expiration": EXPIRATION, "priority": priority}
        request = {"task": "send", "tokens": tokens, **notification, **wishes}
        answer = await self.run_driver(request, self.servers.accept(good))
        self.assertEqual(self.servers.payloads(), [PAYLOAD])
        return answer["refused"]

    async def send_with_bad_tokens(self, **wishes: str) -> None:
        """Send to eight tokens, two of them bad: the client names these, and each of the others gets one."""
        refused = await self.send(TOKENS, len(GOOD), **wishes)
        self.assertEqual(sorted(refused), [[token, INVALID_TOKEN] for token in BAD])
        self.assertEqual(self.servers.tokens(), TOKENS)
        self.assertEqual(self.servers.accepted(), GOOD)

    async def read_feedback(self) -> None:
        """Read the feedback service, twice."""
        self.servers.simulator.inbox.dead = {
            bytes.fromhex(BAD[0]): 1_700_000_000.0,
            bytes.fromhex(BAD[1]): 1_700_000_001.0,
        }
        answers = [await self.run_driver({"task": "feedback"}) for _ in range(2)]
        listed = [[BAD[0], 1_700_000_000], [BAD[1], 1_700_000_001]]
        self.assertEqual(answers, [{"feedback": listed}, {"feedback": []}])


@pytest.mark.interop
class ApnTests(OldClientTests):
    """apn 1.7.8 of npm: command 2, over any TLS."""

    driver = "drive_apn.js"

    async def test_bad_tokens(self) -> None:
        """It names the bad tokens and sends the rest again, though not always in order."""
        refused = await self.send(TOKENS, len(GOOD))
        self.assertCountEqual(refused, [[token, INVALID_TOKEN] for token in BAD])
        self.assertCountEqual(self.servers.accepted(), GOOD)
        self.assertEqual(self.servers.fields(), {(2, EXPIRATION, None)})
        for identifiers in self.servers.identifiers():
            self.assertEqual(identifiers, list(range(len(identifiers))))

    async def test_priority(self) -> None:
        """It sends the priority where it is not 10."""
        self.assertEqual(await self.send(GOOD, len(GOOD), priority=5), [])
        self.assertEqual(self.servers.accepted(), GOOD)
        self.assertEqual(self.servers.fields(), {(2, EXPIRATION, 5)})

    async def test_feedback(self) -> None:
        """It reads the feedback service."""
        await self.read_feedback()


@pytest.mark.interop
class ApnagentTests(OldClientTests):
    """apnagent 1.1.3 of npm: command 1, or 0, over any TLS."""

    driver = "drive_apnagent.js"

    async def test_bad_tokens(self) -> None:
        """It names the bad tokens and sends the rest again, under the identifiers they had."""
        await self.send_with_bad_tokens(mode="enhanced")
        self.assertEqual(self.servers.identifiers(), [[0, 1, 2], [3, 4, 5], [6, 7]])
        # It takes no time of ours, only for how long: an hour.
        sent = {(command, bool(expiration), priority) for command, expiration, priority in self.servers.fields()}
        self.assertEqual(sent, {(1, True, None)})

    async def test_pieces(self) -> None:
        """It understands an answer that comes in six pieces."""
        self.servers.fault = faults.byte_by_byte
        await self.send_with_bad_tokens(mode="enhanced")

    async def test_simple(self) -> None:
        """It sends command 0 on demand."""
        self.assertEqual(await self.send(GOOD, len(GOOD), mode="simple"), [])
        self.assertEqual(self.servers.accepted(), GOOD)
        self.assertEqual(self.servers.fields(), {(0, None, None)})

    async def test_feedback(self) -> None:
        """It reads the feedback service."""
        await self.read_feedback()


@pytest.mark.interop
class PushjackTests(OldClientTests):
    """pushjack 1.6.0 of PyPI: command 2, over TLS without tickets."""

    driver, old_python = "drive_pushjack.py", True
    options: ClassVar = {"tickets": False}

    async def test_bad_tokens(self) -> None:
        """It names the bad tokens and sends the rest again, each under its place in the list."""
        await self.send_with_bad_tokens()
        self.assertEqual(self.servers.identifiers(), [[0, 1, 2], [3, 4, 5], [6, 7]])
        self.assertEqual(self.servers.fields(), {(2, EXPIRATION, 10)})

    async def test_priority(self) -> None:
        """It sends the priority, whatever it is."""
        self.assertEqual(await self.send(GOOD, len(GOOD), priority=5), [])
        self.assertEqual(self.servers.accepted(), GOOD)
        self.assertEqual(self.servers.fields(), {(2, EXPIRATION, 5)})

    async def test_feedback(self) -> None:
        """It reads the feedback service."""
        await self.read_feedback()


@pytest.mark.interop
class Tapns3Tests(OldClientTests):
    """tapns3 3.0.0 of PyPI: commands 0, 1 and 2, over TLS 1.2."""

    driver, old_python = "drive_tapns3.py", True
    options: ClassVar = {"tls12": True}

    async def test_bad_tokens(self) -> None:
        """It names the bad tokens and sends the rest again, under the caller's identifiers."""
        await self.send_with_bad_tokens(mode="enhanced")
        self.assertEqual(self.servers.identifiers(), [[0, 1, 2], [3, 4, 5], [6, 7]])
        self.assertEqual(self.servers.fields(), {(1, EXPIRATION, None)})

    async def test_simple(self) -> None:
        """It sends command 0."""
        await self.send(GOOD, len(GOOD), mode="simple")
        self.assertEqual(self.servers.accepted(), GOOD)
        self.assertEqual(self.servers.fields(), {(0, None, None)})

    async def test_frame(self) -> None:
        """It sends command 2."""
        await self.send(GOOD, len(GOOD), mode="frame", priority=5)
        self.assertEqual(self.servers.accepted(), GOOD)
        self.assertEqual(self.servers.identifiers(), [list(range(len(GOOD)))])
        self.assertEqual(self.servers.fields(), {(2, EXPIRATION, 5)})

    async def test_feedback(self) -> None:
        """It reads the feedback service."""
        await self.read_feedback()


@pytest.mark.interop
class ApnsClerkTests(OldClientTests):
    """apns-clerk 0.2.0 of PyPI: command 2, over any TLS once it has a context of today."""

    driver = "drive_apns_clerk.py"
    wishes: ClassVar = {"library": "apns_clerk"}

    async def test_bad_tokens(self) -> None:
        """It names the bad token of each round, and counts anew in the next."""
        await self.send_with_bad_tokens()
        self.assertEqual(self.servers.identifiers(), [[0, 1, 2], [0, 1, 2], [0, 1]])
        self.assertEqual(self.servers.fields(), {(2, EXPIRATION, 10)})

    async def test_shutdown(self) -> None:
        """It goes on after the last accepted where a server goes down, and blames nobody for that."""
        self.servers.fault = faults.shutdown
        await self.send_with_bad_tokens()
        self.assertEqual(self.servers.identifiers(), [[0, 1], [0], [0, 1], [0], [0, 1]])

    async def test_feedback(self) -> None:
        """It reads the feedback service."""
        await self.read_feedback()


@pytest.mark.interop
class ApnsClientTests(ApnsClerkTests):
    """apns-client 0.2.1 of PyPI, which apns-clerk was made from."""

    wishes: ClassVar = {"library": "apnsclient"}
