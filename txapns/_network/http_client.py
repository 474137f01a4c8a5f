"""Requests to other HTTP servers: one connection for each, and no redirect is followed."""

from __future__ import annotations

from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS
from twisted.web.error import SchemeNotSupported
from twisted.web.iweb import IAgent, IAgentEndpointFactory
from zope.interface import implementer

from txapns._network.trust import Trust

__all__ = ["http_agent"]


def http_agent(reactor: Any, trust: Trust, timeout: float) -> IAgent:
    """Make what sends requests. Connecting may take ``timeout`` seconds."""
    return cast(IAgent, Agent.usingEndpointFactory(reactor, _Endpoints(reactor, trust, timeout)))


@implementer(IAgentEndpointFactory)
class _Endpoints:
    def __init__(self, reactor: Any, trust: Trust, timeout: float) -> None:
        self._reactor = reactor
        self._policy = BrowserLikePolicyForHTTPS(trust.root())
        self._timeout = timeout

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        if uri.scheme not in (b"http", b"https"):
            raise SchemeNotSupported(f"the scheme {uri.scheme!r} is not supported")
        host = uri.host.decode("ascii")
        endpoint: IStreamClientEndpoint = HostnameEndpoint(self._reactor, host, uri.port, self._timeout)
        if uri.scheme == b"https":
            endpoint = wrapClientTLS(self._policy.creatorForNetloc(uri.host, uri.port), endpoint)
        return _QuietEndpoint(endpoint)


@implementer(IStreamClientEndpoint)
@attrs.frozen(eq=False)
class _QuietEndpoint:
    """An endpoint whose factories do not log each connection: two lines for each request would help nobody."""

    _endpoint: IStreamClientEndpoint

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        if isinstance(factory, Factory):
            factory.noisy = False
        return self._endpoint.connect(factory)
