"""The clients of apps: one, or one for each side."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime

from txapns._network.clocks import wall_clock
from txapns.client import APNSClient
from txapns.credentials import Credential
from txapns.daemon.interfaces import ITokenEnvironments
from txapns.daemon.sending.breaker import CircuitBreaker
from txapns.daemon.sending.context import Client
from txapns.daemon.sending.sides import SidedClient
from txapns.daemon.values import App
from txapns.gateway import Gateway
from txapns.interfaces import IMetrics

__all__ = ["Connector"]


@attrs.frozen(eq=False)
class Connector:
    """
    Makes the clients of apps. They do not retry: the queue does, and a retry survives a crash there.

    :ivar tokens: which environment device tokens are of; ``None`` if no app has two sides.
    :ivar timeout: how long Apple's answer may take, in seconds.
    :ivar metrics: called with an app's name; returns what counts for its clients. ``None`` to count nothing.
    """

    reactor: IReactorTime
    tokens: ITokenEnvironments | None
    random: Callable[[], float]
    timeout: float
    metrics: Callable[[str], IMetrics] | None

    def __call__(self, app: App) -> Client:
        """Make the client of an app; raises :exc:`APNSError` if that is not possible."""
        if app.sandbox is None:
            return self._client(app, app.gateway, app.credential)
        assert self.tokens is not None
        sides = {}
        for environment, side in app.sides.items():
            breaker = CircuitBreaker(app.name, self.reactor, self.random, side=environment.name.lower())
            sides[environment] = self._client(app, side.gateway, side.credential), breaker
        return SidedClient(app.name, self.reactor, wall_clock(self.reactor), self.tokens, sides)

    def _client(self, app: App, gateway: Gateway, credential: Credential) -> APNSClient:
        return APNSClient(
            self.reactor,
            credential,
            gateway,
            topic=app.topic,
            metrics=None if self.metrics is None else self.metrics(app.name),
            max_connections=app.limits.connections,
            timeout=self.timeout,
            retries=0,
            name=app.name,
        )
