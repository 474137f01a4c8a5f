"""Tests for :mod:`txapns.simulator.random_faults`: each fault alone, with a peer that shows what it reads."""

from __future__ import annotations

from random import Random

from tests.simulator.peers import GOOD, HTTP2Case
from txapns.simulator.random_faults import RandomFaults

__all__ = ["ConnectionFaultTests", "RateTests", "RequestFaultTests"]


class FaultCase(HTTP2Case):
    """A connection to a server with faults."""

    def setUp(self) -> None:
        """Make a source of faults."""
        super().setUp()
        self.faults = RandomFaults(Random(1), 0.0)

    def play(self, name: str) -> int:
        """Send a request to a server that always has this fault; returns its stream."""
        self.simulator.http2_fault = getattr(self.faults, name)
        self.peer = self.connect(self.simulator.certificate())
        stream = self.peer.send(GOOD)
        self.simulator.flush()
        return stream

    @property
    def accepted(self) -> object:
        """How many notifications the server accepted."""
        return self.simulator.counters()["accepted"]


class RequestFaultTests(FaultCase):
    """Faults of one request."""

    def test_refused(self) -> None:
        """A refused stream has no response, and its notification is not accepted."""
        stream = self.play("refuse")
        self.assertNotIn(stream, self.peer.answers)
        self.assertEqual((self.accepted, self.peer.lost), (0, None))

    def test_no_response(self) -> None:
        """Forgotten and reset requests have no response; some of their notifications are accepted, some are not."""
        for name in ("forget", "reset"):
            before = self.simulator.counters()["received"]
            for _ in range(20):
                self.assertNotIn(self.play(name), self.peer.answers)
                self.assertIsNone(self.peer.lost)
            after = self.simulator.counters()["received"]
            assert isinstance(before, int)
            assert isinstance(after, int)
            self.assertTrue(0 < after - before < 20, name)

    def test_error(self) -> None:
        """An error is not the notification's fault, and it is not accepted."""
        for _ in range(20):
            stream = self.play("error")
            self.assertIn(self.peer.answers[stream][":status"], {"400", "429", "500", "502", "503"})
        self.assertEqual(self.accepted, 0)


class ConnectionFaultTests(FaultCase):
    """Faults of a whole connection."""

    def test_goaway(self) -> None:
        """After GOAWAY the connection is about to end."""
        self.play("goaway")
        self.assertEqual(len(self.peer.goaways), 1)

    def test_cut(self) -> None:
        """The connection is aborted, without a response."""
        stream = self.play("cut")
        self.assertNotIn(stream, self.peer.answers)
        self.assertIsNotNone(self.peer.lost)

    def test_stall(self) -> None:
        """The connection stays open, and later requests have no response either."""
        stream = self.play("stall")
        later = self.peer.send(GOOD)
        self.simulator.advance(100)
        self.assertEqual((self.peer.answers, self.peer.lost), ({}, None))
        self.assertGreater(later, stream)

    def test_limit(self) -> None:
        """Another limit of streams is announced, and the request has its response."""
        stream = self.play("limit")
        self.assertEqual(self.peer.answers[stream][":status"], "200")
        self.assertIn(self.peer.limits[-1], {1, 5, 100, 1_000})
        self.assertEqual(self.accepted, 1)


class RateTests(FaultCase):
    """How often something goes wrong."""

    def answered(self, rate: float, seed: int = 1) -> list[int]:
        """Send 50 requests over one connection; returns the streams that were accepted."""
        self.simulator.http2_fault = RandomFaults(Random(seed), rate, drastic=0.0)
        peer = self.connect(self.simulator.certificate())
        for _ in range(50):
            peer.send(GOOD)
            self.simulator.flush()
        return [stream for stream, answer in peer.answers.items() if answer[":status"] == "200"]

    def test_rate(self) -> None:
        """The rate is the fraction of requests with a fault."""
        self.assertEqual(len(self.answered(0.0)), 50)
        self.assertEqual(self.answered(1.0), [])
        self.assertTrue(10 < len(self.answered(0.5)) < 40)

    def test_repeatable(self) -> None:
        """The same seed gives the same faults, and another one gives others."""
        self.assertEqual(self.answered(0.5), self.answered(0.5))
        self.assertNotEqual(self.answered(0.5), self.answered(0.5, seed=2))
