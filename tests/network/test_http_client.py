"""Tests for :mod:`txapns._network.http_client`; those of the webhook send requests with it."""

from __future__ import annotations

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.error import SchemeNotSupported
from twisted.web.iweb import IAgent
from zope.interface.verify import verifyObject

from txapns._network.http_client import http_agent
from txapns._network.trust import platform_trust

__all__ = ["AgentTests"]


class AgentTests(SynchronousTestCase):
    """What sends requests."""

    def test_scheme(self) -> None:
        """It speaks HTTP and HTTPS, and nothing else."""
        agent = http_agent(MemoryReactorClock(), platform_trust(), 10.0)
        verifyObject(IAgent, agent)
        self.failureResultOf(agent.request(b"GET", b"ftp://example.com/"), SchemeNotSupported)
