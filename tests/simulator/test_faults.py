"""Tests for :mod:`txapns.simulator.faults`: what is sent, and how our client interprets it."""

from __future__ import annotations

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.checks import check_batch
from tests.simulator.peers import DEAD_TOKEN, PAYLOAD, TOKEN, BinaryCase, BinaryPeer
from tests.simulator.test_binary import error
from tests.test_docs import rows
from txapns.notification import Notification
from txapns.result import Batch
from txapns.simulator.authority import Authority
from txapns.simulator.faults import FAULTS
from txapns.testing import MemorySimulator
from txapns.wire.frames import encode_enhanced, encode_simple

__all__ = ["CatalogueTests", "OutcomeTests", "WireTests"]

AUTHORITY = Authority()
TOKENS = {number: f"{number + 1:064x}" for number in range(10)}
#: The one that is dead.
GONE = 4


class CatalogueTests(SynchronousTestCase):
    """The names."""

    def test_documented(self) -> None:
        """Each has a docstring, and a row in the manual, in the same order."""
        named = [row[0] for row in rows("docs/simulator.rst", 3)]
        self.assertEqual(named[1:], list(FAULTS))
        for fault in FAULTS.values():
            self.assertTrue(fault.__doc__)


class WireTests(BinaryCase):
    """What a peer reads if it sends a valid notification, one for a dead token, and another valid one."""

    def play(self, name: str) -> BinaryPeer:
        """Send them to a server with this fault."""
        self.simulator.binary_fault = FAULTS[name]
        peer = self.connect()
        tokens = (TOKEN, DEAD_TOKEN, TOKEN)
        peer.transport.write(
            b"".join(encode_enhanced(number, 0, token, PAYLOAD) for number, token in enumerate(tokens, 1))
        )
        self.simulator.flush()
        return peer

    def taken(self) -> list[str | None]:
        """Return what the server recorded; everything after a fault is ignored."""
        return [reception.reason for reception in self.simulator.inbox.received]

    def reads(self, name: str, *answers: bytes) -> BinaryPeer:
        """Compare what can be read at once, and after each pause."""
        peer = self.play(name)
        self.assertEqual(self.taken(), [None, "InvalidToken"])
        for answer in answers:
            self.assertEqual(peer.read, answer)
            self.simulator.advance(0.01)
        return peer

    def test_until_then(self) -> None:
        """A server behaves correctly until there is something to refuse."""
        for name, fault in FAULTS.items():
            self.setUp()
            self.simulator.binary_fault = fault
            peer = self.connect()
            peer.transport.write(encode_enhanced(1, 0, TOKEN, PAYLOAD) * 3)
            self.simulator.advance(60)
            self.assertEqual((peer.read, peer.lost, self.taken()), (b"", None, [None] * 3), name)

    def test_no_packet(self) -> None:
        """Without an error packet the connection is closed at once."""
        for name in ("silent-close", "vanish", "half-close"):
            self.setUp()
            self.assertIsNotNone(self.reads(name, b"").lost, name)

    def test_pieces(self) -> None:
        """The packet arrives in pieces."""
        packet = error(8, 2)
        self.reads("split", packet[:3], packet)
        self.setUp()
        self.reads("byte-by-byte", *(packet[:end] for end in range(1, 7)))

    def test_reset(self) -> None:
        """The packet arrives, and the connection ends at once."""
        self.assertIsNotNone(self.reads("reset", error(8, 2)).lost)

    def test_truncated(self) -> None:
        """Half a packet arrives, then the close."""
        peer = self.reads("truncated", error(8, 2)[:3])
        self.simulator.advance(1)
        self.assertEqual(peer.read, error(8, 2)[:3])
        self.assertIsNotNone(peer.lost)

    def test_late(self) -> None:
        """The packet arrives after ten seconds, plus the delay of all error packets."""
        self.simulator.delay = 5.0
        peer = self.reads("late", b"")
        self.simulator.advance(14.9)
        self.assertEqual(peer.read, b"")
        self.simulator.advance(0.1)
        self.assertEqual(peer.read, error(8, 2))

    def test_identifiers(self) -> None:
        """The packet names another."""
        self.reads("wrong-identifier", error(8, 2 + 2**31))
        self.setUp()
        self.reads("zero-identifier", error(8, 0))

    def test_unknown_status(self) -> None:
        """The packet has an unknown status, and so has the record."""
        peer = self.play("unknown-status")
        self.assertEqual((peer.read, self.taken()), (error(77, 2), [None, "Status77"]))

    def test_shutdown(self) -> None:
        """The packet names the last accepted notification, and the server ignored the next."""
        peer = self.play("shutdown")
        self.assertEqual((peer.read, self.taken()), (error(10, 1), [None]))

    def test_shutdown_of_nothing(self) -> None:
        """A server that has accepted nothing refuses as usual."""
        self.simulator.inbox.dead[TOKEN] = 0.0
        self.assertEqual(self.play("shutdown").read, error(8, 1))

    def test_silence(self) -> None:
        """Nothing arrives, and the connection stays open."""
        for name in ("mute", "stall"):
            self.setUp()
            peer = self.reads(name, b"")
            self.simulator.advance(3_600)
            self.assertEqual((peer.read, peer.lost), (b"", None), name)

    def test_simple(self) -> None:
        """Command 0 has no error packet, so these faults just close."""
        for name in ("split", "byte-by-byte", "reset", "truncated", "late", "unknown-status", "shutdown"):
            self.setUp()
            self.simulator.binary_fault = FAULTS[name]
            peer = self.connect()
            peer.transport.write(encode_simple(TOKEN, PAYLOAD) + encode_simple(DEAD_TOKEN, PAYLOAD))
            self.simulator.advance(20)
            self.assertEqual(peer.read, b"", name)
            self.assertIsNotNone(peer.lost, name)


class OutcomeTests(SynchronousTestCase):
    """How our client interprets each fault, for ten notifications of which one is for a dead token."""

    def send(self, name: str, *, barrier: bool) -> Batch:
        """Send them to a server with this fault."""
        self.simulator = MemorySimulator(authority=AUTHORITY, dead=[TOKENS[GONE]])
        self.simulator.binary_fault = FAULTS[name]
        client = self.simulator.client(self.simulator.gateway("binary", barrier=barrier))
        batch = self.simulator.result(client.send(Notification(alert="Hello"), TOKENS))
        self.simulator.advance(60)
        self.simulator.result(client.close())
        return batch

    def test_told(self) -> None:
        """If the packet names a notification, all outcomes are known, with a settle time and with a barrier."""
        expected = {"unknown-status": "Status77"}
        for name in ("split", "byte-by-byte", "reset", "unknown-status", "shutdown"):
            for barrier in (False, True):
                batch = self.send(name, barrier=barrier)
                check_batch(self, batch, TOKENS, self.simulator)
                self.assertEqual((batch.accepted, list(batch.failed)), (9, [GONE]), name)
                self.assertEqual(batch.failed[GONE].reason, expected.get(name, "InvalidToken"))

    def test_not_told(self) -> None:
        """If no notification is named, all are uncertain."""
        for name in ("silent-close", "vanish", "half-close", "truncated", "wrong-identifier", "zero-identifier"):
            for barrier in (False, True):
                batch = self.send(name, barrier=barrier)
                check_batch(self, batch, TOKENS, self.simulator)
                self.assertEqual((batch.accepted, len(batch.uncertain)), (0, 10), name)

    def test_late(self) -> None:
        """A packet that arrives after the settle time is logged; a barrier waits for it."""
        with capturedLogs() as events:
            batch = self.send("late", barrier=False)
        self.assertEqual(batch.accepted, 10)
        self.assertEqual([event["identifier"] for event in events if "settle_time" in event], [GONE + 1])
        batch = self.send("late", barrier=True)
        check_batch(self, batch, TOKENS, self.simulator)
        self.assertEqual((batch.accepted, list(batch.failed)), (9, [GONE]))

    def test_silence(self) -> None:
        """Silence settles; only a barrier shows that the server ignored them."""
        for name in ("mute", "stall"):
            self.assertEqual(self.send(name, barrier=False).accepted, 10)
            batch = self.send(name, barrier=True)
            check_batch(self, batch, TOKENS, self.simulator)
            self.assertEqual(len(batch.uncertain), 10)
