"""
All that listens: the faces of the configuration, each at its endpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import attrs
from twisted.internet.defer import DeferredList, gatherResults
from twisted.internet.interfaces import IProtocolFactory, IReactorTime

from txapns._network.clocks import wall_clock
from txapns.credentials import Certificate
from txapns.daemon.apps import Apps
from txapns.daemon.config import (
    AppleSection,
    BinarySection,
    Configuration,
    HTTPSection,
    PyapnsSection,
    TLSSection,
)
from txapns.daemon.errors import RequestRefused
from txapns.daemon.faces.apple import Apple
from txapns.daemon.faces.binary import Binary
from txapns.daemon.faces.native.face import Native
from txapns.daemon.faces.pyapns import Pyapns
from txapns.daemon.interfaces import IFeedbackLog, IIntake, IKeys, IQueue
from txapns.daemon.operations.admin import LIMITS as ADMIN_LIMITS
from txapns.daemon.operations.admin import Admin
from txapns.daemon.operations.metrics import DaemonMetrics
from txapns.daemon.secrets.credentials import server_certificate
from txapns.daemon.serving.connections import ConnectionLimits, MemoryBudget, ServerConnections
from txapns.daemon.serving.descriptors import share
from txapns.daemon.serving.endpoints import Listener
from txapns.daemon.serving.http import HTTPServer, IApplication
from txapns.daemon.serving.target import Hosts
from txapns.daemon.serving.tls import certified_names, tls_options

__all__ = ["FaceDependencies", "Listeners"]

_TWICE = 2  # a connection to Apple is replaced while the old one ends
_LEAST = 4  # connections that each listener takes, however few descriptors there are


@attrs.frozen
class FaceDependencies:
    """
    What the faces need of the daemon.

    :ivar intake: where notifications go.
    :ivar queue: knows what became of them.
    :ivar feedback: the dead tokens.
    :ivar apps: the apps.
    :ivar keys: who may call.
    :ivar wake: called with an app's name when something is to be sent for it again.
    :ivar metrics: counts what comes in.
    :ivar admin: answers those who look after the daemon.
    """

    intake: IIntake
    queue: IQueue
    feedback: IFeedbackLog
    apps: Apps
    keys: IKeys
    wake: Callable[[str], None]
    metrics: DaemonMetrics
    admin: Admin


class Listeners:
    """
    All that listens.

    :param reactor: the reactor.
    :param configuration: which faces there are, and where.
    :param others: what they need.
    :param now: the time, for the certificates that are shown.
    :raises APNSError: a certificate cannot be used; the message names its file.
    """

    def __init__(self, reactor: Any, configuration: Configuration, others: FaceDependencies, now: datetime) -> None:
        self._reactor = reactor
        self._clock = IReactorTime(reactor)
        self._others = others
        self._now = now
        limits = configuration.limits
        self._limits = ConnectionLimits(
            body=limits.body,
            clients=limits.clients,
            unauthenticated=limits.unauthenticated,
            idle=limits.idle,
            request=limits.request,
            unread=MemoryBudget(limits.unread),
            unfinished=MemoryBudget(limits.unread),
        )
        self._listeners: list[Listener] = []
        self._servers: list[HTTPServer | Apple | Binary] = []
        self._factories: list[ServerConnections] = []
        self._make(configuration)

    def _make(self, configuration: Configuration) -> None:
        intake, others = configuration.intake, self._others
        native = Native(
            others.metrics.intake("native", others.intake),
            others.queue,
            others.feedback,
            others.apps,
            others.keys if intake.native.keys else None,
            intake.native.wait,
            others.wake,
            others.apps,
        )
        self._serve("intake.native", intake.native, others.metrics.application("native", native), self._limits)
        if intake.pyapns is not None:
            self._make_pyapns(intake.pyapns)
        if intake.apple is not None:
            self._make_apple(intake.apple)
        if intake.binary is not None:
            self._make_binary(intake.binary)
        admin_limits = attrs.evolve(ADMIN_LIMITS, unread=self._limits.unread, unfinished=self._limits.unfinished)
        self._admin = self._serve("admin", configuration.admin, others.admin, admin_limits, guarded=True)

    def _make_pyapns(self, section: PyapnsSection) -> None:
        others = self._others
        intake = others.metrics.intake("pyapns", others.intake, refusals=True)
        keys = others.keys if section.keys else None
        pyapns = Pyapns(wall_clock(self._reactor), intake, others.apps, keys, others.feedback, section)
        self._serve("intake.pyapns", section, others.metrics.application("pyapns", pyapns), self._limits, guarded=True)

    def _make_apple(self, section: AppleSection) -> None:
        others = self._others
        intake = others.metrics.intake("apple", others.intake, refusals=True)
        apple = Apple(self._clock, intake, others.apps, others.keys, others.feedback, section, self._limits)
        self._servers.append(apple)
        self._factories.append(apple.server)
        self._listen("intake.apple", section.listen, apple.factory(self._shown(section.tls)))

    def _make_binary(self, section: BinarySection) -> None:
        others = self._others
        intake = others.metrics.intake("binary", others.intake, refusals=True)
        binary = Binary(self._clock, intake, others.apps, others.feedback, section, self._limits)
        self._servers.append(binary)
        self._factories += [binary.notifications, binary.dead]
        shown = self._shown(section.tls)
        self._listen("intake.binary", section.listen, binary.factory(shown))
        self._listen("intake.binary.feedback", section.feedback, binary.feedback_factory(shown))

    def _serve(
        self,
        key: str,
        section: HTTPSection,
        application: IApplication,
        limits: ConnectionLimits,
        *,
        guarded: bool = False,
    ) -> HTTPServer:
        """
        Have an application answer HTTP/1.1 at the endpoints of a section; returns the server.

        Web pages are kept out where no keys are asked for; with ``guarded`` in any case.
        """
        shown = self._shown(section.tls)
        names = () if shown is None else certified_names(shown)
        hosts = Hosts([*section.hosts, *names]) if guarded or not section.keys else None
        server = HTTPServer(self._clock, application, limits, key, hosts)
        self._servers.append(server)
        if section.listen:
            self._factories.append(server)
        encrypted = shown and server.encrypted(tls_options(shown, server.acceptableProtocols()))
        self._listen(key, section.listen, encrypted or server)
        return server

    def _listen(self, key: str, endpoints: Sequence[str], factory: IProtocolFactory) -> None:
        self._listeners.append(Listener(self._reactor, key, endpoints, factory))

    def _shown(self, section: TLSSection | None) -> Certificate | None:
        return None if section is None else server_certificate(section, self._now)

    async def start(self) -> dict[str, list[str]]:
        """
        Listen.

        :returns: the addresses, by the keys of the configuration.
        :raises ConfigurationError: an address cannot be had.
        """
        self._fit()
        for listener in self._listeners:
            await listener.start()
        return {listener.key: listener.addresses for listener in self._listeners}

    def _fit(self) -> None:
        """Take fewer connections than the configuration allows, where there are too few file descriptors."""
        clients = sum(factory.limits.clients for factory in self._factories)
        part = share(clients, _TWICE * sum(map(self._connections, self._others.apps.names())))
        if part < 1:
            for factory in self._factories:
                limits = factory.limits
                clients, unauthenticated = (
                    max(_LEAST, int(part * most)) for most in (limits.clients, limits.unauthenticated)
                )
                factory.limits = attrs.evolve(limits, clients=clients, unauthenticated=unauthenticated)

    def _connections(self, app: str) -> int:
        """Tell how many connections to Apple an app may have."""
        try:
            return self._others.apps.get(app).limits.connections
        except RequestRefused:
            return 1  # it may be mended while the daemon runs

    def refuse(self) -> None:
        """Tell who asks for something new to come again later. What was asked for before is still answered."""
        for server in self._servers:
            if server is not self._admin:  # who asks whether the daemon is ready is still to be told that it is not
                server.drain()

    async def close(self) -> None:
        """Listen no more, and close all connections."""
        await DeferredList([listener.stop() for listener in self._listeners], consumeErrors=True)
        await gatherResults([server.close() for server in self._servers])
