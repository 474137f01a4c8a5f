"""Tests for :mod:`txapns.simulator.feedback`, with a peer that reads bytes."""

from __future__ import annotations

from twisted.internet.interfaces import IHandshakeListener
from zope.interface.verify import verifyObject

from tests.simulator.peers import DEAD_TOKEN, FEEDBACK, TOKEN, BinaryCase
from txapns.simulator.feedback import FeedbackServer
from txapns.simulator.inbox import Inbox
from txapns.wire.feedback import FeedbackParser, encode

__all__ = ["FeedbackTests"]


class FeedbackTests(BinaryCase):
    """The feedback service."""

    def read(self) -> list[tuple[bytes, int]]:
        """Read the list, which ends with the connection."""
        peer = self.connect(FEEDBACK)
        self.assertIsNotNone(peer.lost)
        parser = FeedbackParser()
        tuples = parser.receive(peer.read)
        self.assertEqual(parser.pending, 0)
        return [(entry.token, entry.timestamp) for entry in tuples]

    def test_interface(self) -> None:
        """The server sends first, after the handshake."""
        verifyObject(IHandshakeListener, FeedbackServer(self.simulator.reactor, Inbox(self.simulator.wall)))

    def test_once(self) -> None:
        """A dead token is listed once, with the second in which it died; then the list is empty."""
        self.simulator.inbox.dead[TOKEN] = 1_700_000_000.9
        self.assertEqual(self.read(), [(DEAD_TOKEN, 0), (TOKEN, 1_700_000_000)])
        self.assertEqual(self.read(), [])

    def test_new(self) -> None:
        """A token that dies later is listed later."""
        self.read()
        self.simulator.inbox.dead[TOKEN] = 7.0
        self.assertEqual(self.read(), [(TOKEN, 7)])

    def test_not_written(self) -> None:
        """It writes as fast as the provider reads, and what was not written is listed to the next provider."""
        self.simulator.inbox.dead[TOKEN] = 7.0
        self.simulator.feedback_fault = lambda server, _: server.pauseProducing()
        peer = self.connect(FEEDBACK)
        self.assertEqual(peer.read, encode(0, DEAD_TOKEN))
        peer.transport.loseConnection()
        self.simulator.flush()
        self.assertIsNotNone(peer.lost)
        self.simulator.feedback_fault = None
        self.assertEqual(self.read(), [(TOKEN, 7)])
