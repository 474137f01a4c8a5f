"""Tests for :mod:`txapns.command.queue_access`."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyClass

from tests.command.processes import txapns
from tests.daemon.fakes import Apps, Keys, Waiting, key_of
from tests.daemon.store.contract import message
from txapns._network.clocks import wall_clock
from txapns._serving.http import HTTPServer
from txapns.command.queue_access import IQueueAccess, RemoteQueue, StoredQueue, address, agent
from txapns.daemon.config.sections import NativeSection, TLSSection
from txapns.daemon.errors import ConfigurationError, NotAnswered
from txapns.daemon.faces.native.face import Native
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.intake import Intake
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.store import SQLiteStore
from txapns.daemon.values import Caller, Limits, Settlement, State

__all__ = ["AddressTests", "RemoteTests"]


class AddressTests(SynchronousTestCase):
    """Where the HTTP API is, by the configuration."""

    def test_addresses(self) -> None:
        """The first address without TLS is used."""
        for listen, url in {
            "tcp:port=8080:interface=127.0.0.1": "http://127.0.0.1:8080",
            "tcp:8080": "http://127.0.0.1:8080",
            "tcp:8080:interface=0.0.0.0": "http://127.0.0.1:8080",
            "tcp:80:interface=192.0.2.1": "http://192.0.2.1:80",
            r"tcp6:port=8080:interface=\:\:1": "http://[::1]:8080",
            r"tcp6:port=8080:interface=\:\:": "http://[::1]:8080",
            "unix:/run/apns.sock:mode=660": "unix:/run/apns.sock",
            "unix:address=/run/apns.sock": "unix:/run/apns.sock",
        }.items():
            self.assertEqual(address(NativeSection(listen=(listen,))), url)
        listen = ("systemd:domain=INET:index=0", "tcp:port=0", "tcp:port=81")
        self.assertEqual(address(NativeSection(listen=listen)), "http://127.0.0.1:81")

    def test_unknown(self) -> None:
        """If there is no such address, ``--url`` is required."""
        for section in (
            NativeSection(listen=()),
            NativeSection(listen=("systemd:domain=INET:index=0",)),
            NativeSection(tls=TLSSection(certificate=Path("a"))),
        ):
            self.assertRaises(ConfigurationError, address, section)

    def test_schemes(self) -> None:
        """A URL of another kind is refused."""
        for url in ("ftp://a", "localhost:8080", ""):
            error = self.assertRaises(ConfigurationError, agent, reactor, url)
            self.assertEqual(str(error), "--url must begin with http://, https:// or unix:")

    def test_interfaces(self) -> None:
        """Both implement the interface."""
        verifyClass(IQueueAccess, RemoteQueue)
        verifyClass(IQueueAccess, StoredQueue)


class Echo(Protocol):
    """Sends back what it receives."""

    def dataReceived(self, data: bytes) -> None:
        """Send it."""
        self.transport.write(data)


@pytest.mark.loopback
class RemoteTests(TestCase):
    """The queue of a running daemon."""

    async def setUp(self) -> None:
        """Start the parts of a daemon that are needed, with two dead letters, on a socket."""
        self.store = SQLiteStore(Database(Path(self.mktemp()), reactor))
        await self.store.start()
        self.addCleanup(self.store.stop)
        queue = self.store.queue
        apps = Apps({"chess": Limits(), "a b/ü": Limits()})
        intake = Intake(apps, queue, Identifiers(wall_clock(reactor)), Waiting(reactor), lambda name: None)
        keys = Keys(Caller("all", None, None), Caller("operator", manage=True))
        self.listen(
            HTTPServer(
                reactor, Native(intake, self.store.outcomes, self.store.feedback, self.store.outcome_feed, apps, keys)
            )
        )
        await queue.accept([message(self, 2)])
        leased = await queue.lease("chess", 9, reactor.seconds() + 60)
        await queue.settle([Settlement(each.number, State.DEAD, 503, "Shutdown") for each in leased])

    clock = reactor

    def listen(self, factory: Factory) -> None:
        """Listen at a socket."""
        self.url = f"unix:{os.path.relpath(self.mktemp())}"
        port = reactor.listenUNIX(self.url.removeprefix("unix:"), factory)
        self.addCleanup(port.stopListening)

    def remote(self, key: str | None = "operator") -> RemoteQueue:
        """Ask it with a key."""
        return RemoteQueue(reactor, agent(reactor, self.url), self.url, key and key_of(key))

    async def test_operations(self) -> None:
        """They have the same results as those on the database."""
        remote, stored = self.remote(), StoredQueue(self.store, ())
        for limit, after in ((10, 0), (1, 0), (1, 1), (10, 2)):
            ours, others = [await each.listed("chess", "dead", limit, after) for each in (remote, stored)]
            # Due times are told by the present difference of two clocks, which are not read at the same moment.
            self.assertEqual(*([msgspec.structs.replace(each, due=0.0) for each in found] for found in (ours, others)))
            for one, other in zip(ours, others, strict=True):
                self.assertApproximates(one.due, other.due, 60.0)
        self.assertEqual(await remote.retry("chess", 1), 1)
        self.assertEqual(await remote.purge("chess", "waiting", 10), 1)
        self.assertEqual(await remote.purge("chess", "dead", 10), 1)
        self.assertEqual(await stored.listed("chess", "dead", 10, 0), [])
        self.assertEqual(await remote.listed("a b/ü", "waiting", 10, 0), [])

    async def failed(self, remote: RemoteQueue, app: str = "chess") -> str:
        """Ask, which must fail; returns the error message."""
        failure = await self.assertFailure(Deferred.fromCoroutine(remote.retry(app, 1)), NotAnswered)
        return str(failure)

    async def test_refused(self) -> None:
        """The daemon's error message is passed on."""
        refusal = await self.failed(self.remote(None))
        self.assertIn("401: a key is required", refusal)
        self.assertTrue(refusal.endswith("; give --key-file, or set TXAPNS_KEY"), refusal)
        self.assertIn("403: the key does not allow managing", await self.failed(self.remote("all")))
        self.assertIn("404: there is no such app", await self.failed(self.remote(), "chest"))

    async def test_not_there(self) -> None:
        """Nothing listens, or something else does, or the connection is closed."""
        self.url = "http://127.0.0.1:1"
        self.assertEqual(
            await self.failed(self.remote()),
            "no connection to the daemon at http://127.0.0.1:1: Connection refused; is it running?",
        )
        self.url = f"unix:{self.mktemp()}"
        self.assertIn(f"no connection to the daemon at {self.url}: No such file", await self.failed(self.remote()))
        for answer, words in (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "is not a txapns daemon"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", "is not a txapns daemon"),
            (b"", "cannot be asked"),
        ):

            class Other(Protocol):
                def dataReceived(self, data: bytes, answer: bytes = answer) -> None:
                    self.transport.write(answer)
                    self.transport.loseConnection()

            self.listen(Factory.forProtocol(Other))
            self.assertIn(words, await self.failed(self.remote()))

    async def test_not_tls(self) -> None:
        """What answers does not speak TLS: the message has OpenSSL's reason, not its data."""
        port = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.url = f"https://127.0.0.1:{port.getHost().port}"
        said = await self.failed(self.remote())
        self.assertIn(f"no connection to the daemon at {self.url}: TLS failed: ", said)
        self.assertNotIn("[(", said)

    async def test_command(self) -> None:
        """The command asks the running daemon with a key from a file, and shows only a part of a token."""
        key = Path(self.mktemp())
        key.write_text(f"{key_of('operator')}\n")
        there = ["--url", self.url, "--key-file", str(key)]
        said = await deferToThread(txapns, "queue", "list", "chess", "--limit", "1", *there)
        self.assertIn("0000…0000  1         Shutdown", said.stdout)
        self.assertEqual(said.stderr, "There may be more: --after 1\n")
        said = await deferToThread(txapns, "queue", "retry", "chess", *there)
        self.assertEqual((said.stdout, said.stderr), ("waiting again: 2\n", ""))
        said = await deferToThread(txapns, "queue", "retry", "chess", "--url", self.url, TXAPNS_KEY=key_of("all"))
        self.assertEqual((said.returncode, said.stdout), (2, ""))
        self.assertIn("403", said.stderr)
