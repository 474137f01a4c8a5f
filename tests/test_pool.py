"""Tests for txapns.pool: who waits, in which order, and how long."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txapns import Notification
from txapns.batch import Sending, SingleSending
from txapns.delivery import IOutcomes
from txapns.errors import ConnectFailed, CredentialRefused
from txapns.interfaces import IConnectionEvents, IWork
from txapns.pool import Pool
from txapns.simulator import Authority, Verdict
from txapns.testing import MemorySimulator

AUTHORITY = Authority()
HELLO = Notification(alert="Hello", topic="com.example.app")


class PoolTests(SynchronousTestCase):
    """The pool of a client of the simulator."""

    def setUp(self) -> None:
        """Make both."""
        self.simulator = MemorySimulator(authority=AUTHORITY)
        self.client = self.simulator.client()

    def test_interfaces(self) -> None:
        """Pool, batch and single notification are what the others take them for."""
        pool = Pool(self.simulator.reactor, self.simulator.gateway(), self.simulator.certificate(), 30.0, 600.0)
        verifyObject(IConnectionEvents, pool)
        sending = Sending(self.simulator.reactor, pool, [], lambda again: self.client.send_many([]))
        verifyObject(IWork, sending)
        verifyObject(IOutcomes, sending)
        verifyObject(IOutcomes, SingleSending(pool))

    def test_in_order(self) -> None:
        """Single notifications go out in the order in which they were asked for."""
        for number in range(100):
            self.client.send_one(HELLO, f"{number:064x}")
        self.assertEqual(self.client.status().queued, 100)
        self.simulator.advance(1)
        received = [int.from_bytes(reception.token, "big") for reception in self.simulator.devices.received]
        self.assertEqual(received, list(range(100)))

    def test_window(self) -> None:
        """Large payloads are paced by the server's window: no more leave than it has room for."""
        self.simulator.window_updates = False
        large = Notification(alert="x" * 4_000, topic="com.example.app")
        self.client.send(large, [f"{number:064x}" for number in range(100)])
        self.simulator.advance(1)
        self.assertEqual(self.simulator.counters()["accepted"], 16)
        self.assertEqual(self.client.status().in_flight, 1)

    def test_patience_with_a_stuck_server(self) -> None:
        """A server that takes nothing for the timeout has everything that waits reported unsent."""
        self.simulator.concurrency = 0
        sending = self.client.send(HELLO, [f"{number:064x}" for number in range(10)])
        self.simulator.advance(29)
        self.assertNoResult(sending)
        self.simulator.advance(2)
        batch = self.successResultOf(sending)
        self.assertEqual(len(batch.unsent), 10)
        self.assertIsInstance(batch.unsent[0].error, ConnectFailed)
        self.assertIn("took nothing for 30 s", str(batch.unsent[0].error))

    def test_refused_credential_ends_all_that_waits(self) -> None:
        """When the provider token is refused, the one that was asked failed, and nothing else is tried."""
        self.simulator.http2_fault = lambda server, request, verdict: Verdict(403, "InvalidProviderToken")
        client = self.simulator.client(credential=self.simulator.provider_token())
        batches = [client.send(HELLO, [f"{number:064x}" for number in range(10)]) for _ in range(3)]
        results = [self.simulator.result(batch, within=1) for batch in batches]
        self.assertEqual([len(batch.failed) for batch in results], [1, 0, 0])
        self.assertEqual([len(batch.unsent) for batch in results], [9, 10, 10])
        error = results[2].unsent[0].error
        assert isinstance(error, CredentialRefused)
        self.assertEqual(error.reason, "InvalidProviderToken")
        self.assertEqual(client.status().last_error, error)

    def test_usable_again(self) -> None:
        """After everything was given up, the next batch is tried anew."""
        server = self.simulator.reactor.servers.pop(2197)
        self.assertEqual(len(self.simulator.result(self.client.send(HELLO, ["aa" * 32])).unsent), 1)
        self.simulator.advance(70)
        self.simulator.reactor.servers[2197] = server
        self.assertEqual(self.simulator.result(self.client.send(HELLO, ["aa" * 32])).accepted, 1)

    def test_one_attempt_at_least(self) -> None:
        """A batch that comes during a long back-off waits for the next attempt."""
        server = self.simulator.reactor.servers.pop(2197)
        self.simulator.result(self.client.send(HELLO, ["aa" * 32]))
        self.simulator.result(self.client.send(HELLO, ["aa" * 32]), within=61)
        self.simulator.advance(0.5 if self.client.status().connections[0] == "connecting" else 0.0)
        sending = self.client.send(HELLO, ["aa" * 32])
        self.assertEqual(self.client.status().connections[0], "waiting")
        self.simulator.reactor.servers[2197] = server
        self.assertEqual(self.simulator.result(sending, within=61).accepted, 1)
