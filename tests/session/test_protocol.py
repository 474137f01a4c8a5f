"""Tests for :mod:`txapns._session.protocol`, by the provider API's protocol."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.session.http2_case import TIMEOUT, ProtocolCase
from txapns import errors
from txapns._session.protocol import ProtocolListener
from txapns.interfaces import IProtocolListener


class FenceTests(ProtocolCase):
    """Whatever goes wrong in a connection is the end of that connection, and of nothing else."""

    def setUp(self) -> None:
        """There is a protocol that is ready, with a notification in flight."""
        super().setUp()
        self.ready()
        self.deliver("a")

    def fail(self, *arguments: object) -> None:
        """An unexpected exception."""
        raise ZeroDivisionError("division by zero")

    def assert_cut(self) -> None:
        """It was, with one line in the log that says where."""
        self.assertTrue(self.transport.aborting)
        self.lose()
        [error] = self.events.lost
        self.assertIsInstance(error, errors.ConnectionLost)
        words = r"internal error in the connection: ZeroDivisionError: division by zero \(test_protocol.py, line \d+\)"
        self.assertRegex(str(error), words)
        self.assertEqual(self.outcomes.ended, {"a": ("uncertain", error)})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_received(self) -> None:
        """What the server says."""
        self.patch(self.events, "protocol_room", self.fail)
        self.server.limit(7)
        self.carry()
        self.assert_cut()

    def test_timer(self) -> None:
        """A time that has come: the other requests' deadlines do not stand still for it."""
        self.patch(self.protocol._requests, "cancel_through", self.fail)
        self.clock.pump([TIMEOUT / 8] * 10)
        self.assert_cut()

    def test_resumed(self) -> None:
        """A transport whose buffers are empty again."""
        self.protocol.pauseProducing()
        self.patch(self.events, "protocol_room", self.fail)
        self.protocol.resumeProducing()
        self.assert_cut()

    def test_started(self) -> None:
        """A handshake that is over."""
        self.patch(self.protocol, "started", self.fail)
        self.protocol.handshakeCompleted()
        self.assert_cut()

    def test_end(self) -> None:
        """The end itself is reported, whatever happens during it."""
        self.patch(self.protocol, "ended", self.fail)
        self.lose()
        self.assertEqual(len(self.events.lost), 1)


class ListenerTests(SynchronousTestCase):
    """What a protocol tells."""

    def test_listener(self) -> None:
        """The listener is what a protocol tells."""
        verifyObject(IProtocolListener, ProtocolListener())
