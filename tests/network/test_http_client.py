"""Tests for :mod:`txapns._network.http_client`; those of the webhook send requests with it."""

from __future__ import annotations

from twisted.internet.interfaces import IConsumer
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.error import SchemeNotSupported
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface.verify import verifyObject

from txapns._network.http_client import Body, http_agent
from txapns._network.trust import platform_trust

__all__ = ["AgentTests", "BodyTests"]


class BodyTests(SynchronousTestCase):
    """A body in memory."""

    def test_written(self) -> None:
        """It is written at once, with its length known before."""
        body, transport = Body(b"hello"), StringTransport()
        verifyObject(IBodyProducer, body)
        self.assertEqual(body.length, 5)
        self.assertIsNone(self.successResultOf(body.startProducing(IConsumer(transport))))
        self.assertEqual(transport.value(), b"hello")


class AgentTests(SynchronousTestCase):
    """What sends requests."""

    def test_scheme(self) -> None:
        """It speaks HTTP and HTTPS, and nothing else."""
        agent = http_agent(MemoryReactorClock(), platform_trust(), 10.0)
        verifyObject(IAgent, agent)
        self.failureResultOf(agent.request(b"GET", b"ftp://example.com/"), SchemeNotSupported)
