"""
The faces of the configuration and the admin endpoint, each listening at its endpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import attrs
from twisted.internet.defer import DeferredList, gatherResults
from twisted.internet.interfaces import IProtocolFactory, IReactorTime

from txapns._network.clocks import wall_clock
from txapns._serving.connections import ServerConnections
from txapns._serving.descriptors import share
from txapns._serving.http import HTTPServer, IApplication
from txapns._serving.limits import ConnectionLimits, MemoryBudget
from txapns._serving.target import Hosts
from txapns._serving.tls import certified_names, tls_options
from txapns.credentials import Certificate
from txapns.daemon.apps import Apps
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.config.sections import (
    AppleSection,
    BinarySection,
    HTTPSection,
    NativeSection,
    PyapnsSection,
    TLSSection,
)
from txapns.daemon.errors import RequestRefused
from txapns.daemon.faces.apple.face import Apple
from txapns.daemon.faces.binary import Binary
from txapns.daemon.faces.native.face import Native
from txapns.daemon.faces.pyapns import Pyapns
from txapns.daemon.interfaces import IFeedbackLog, IIntake, IKeys, IOutcomeLog
from txapns.daemon.listener import Listener
from txapns.daemon.operations.admin import LIMITS as ADMIN_LIMITS
from txapns.daemon.operations.admin import Admin
from txapns.daemon.operations.metrics import DaemonMetrics
from txapns.daemon.secrets.credentials import server_certificate

__all__ = ["FaceDependencies", "Listeners"]

_PER_APP = 2  # connections for each one to Apple: it is replaced while the old one drains
_MIN_CLIENTS = 4  # connections that each listener accepts, however few file descriptors there are


@attrs.frozen
class FaceDependencies:
    """
    The parts of the daemon that faces use.

    :ivar wake: called with an app's name when the app has something to send again.
    :ivar admin: the application behind the admin endpoint.
    """

    intake: IIntake
    outcomes: IOutcomeLog
    feedback: IFeedbackLog
    apps: Apps
    keys: IKeys
    wake: Callable[[str], None]
    metrics: DaemonMetrics
    admin: Admin


class Listeners:
    """
    All listeners of the daemon.

    :param parts: the parts of the daemon that the faces use.
    :param now: the time, to check the server certificates.
    :raises APNSError: a certificate cannot be used; the message names its file.
    """

    def __init__(self, reactor: Any, configuration: Configuration, parts: FaceDependencies, now: datetime) -> None:
        self._reactor = reactor
        self._clock = IReactorTime(reactor)
        self._parts = parts
        self._now = now
        limits, faces = configuration.limits, configuration.intake
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
        self._connections: list[ServerConnections] = []
        self._make_native(faces.native)
        if faces.pyapns is not None:
            self._make_pyapns(faces.pyapns)
        if faces.apple is not None:
            self._make_apple(faces.apple)
        if faces.binary is not None:
            self._make_binary(faces.binary)
        admin_limits = attrs.evolve(ADMIN_LIMITS, unread=self._limits.unread, unfinished=self._limits.unfinished)
        self._admin = self._serve("admin", configuration.admin, parts.admin, admin_limits, guarded=True)

    def _make_native(self, section: NativeSection) -> None:
        parts = self._parts
        native = Native(
            parts.metrics.intake("native", parts.intake),
            parts.outcomes,
            parts.feedback,
            parts.apps,
            parts.keys if section.keys else None,
            section.wait,
            parts.wake,
            parts.apps,
        )
        self._serve("intake.native", section, parts.metrics.application("native", native), self._limits)

    def _make_pyapns(self, section: PyapnsSection) -> None:
        parts = self._parts
        intake = parts.metrics.intake("pyapns", parts.intake, refusals=True)
        keys = parts.keys if section.keys else None
        pyapns = Pyapns(wall_clock(self._reactor), intake, parts.apps, keys, parts.feedback, section)
        self._serve("intake.pyapns", section, parts.metrics.application("pyapns", pyapns), self._limits, guarded=True)

    def _make_apple(self, section: AppleSection) -> None:
        parts = self._parts
        intake = parts.metrics.intake("apple", parts.intake, refusals=True)
        apple = Apple(self._clock, intake, parts.apps, parts.keys, parts.feedback, section, self._limits)
        self._servers.append(apple)
        self._connections.append(apple.server)
        self._listen("intake.apple", section.listen, apple.factory(self._certificate(section.tls)))

    def _make_binary(self, section: BinarySection) -> None:
        parts = self._parts
        intake = parts.metrics.intake("binary", parts.intake, refusals=True)
        binary = Binary(self._clock, intake, parts.apps, parts.feedback, section, self._limits)
        self._servers.append(binary)
        self._connections += [binary.notifications, binary.dead]
        certificate = self._certificate(section.tls)
        self._listen("intake.binary", section.listen, binary.factory(certificate))
        self._listen("intake.binary.feedback", section.feedback, binary.feedback_factory(certificate))

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
        Serve an application by HTTP/1.1 at the endpoints of a section; returns the server.

        Requests from web pages are refused unless keys are asked for; with ``guarded`` in any case.
        """
        certificate = self._certificate(section.tls)
        names = () if certificate is None else certified_names(certificate)
        hosts = Hosts([*section.hosts, *names]) if guarded or not section.keys else None
        server = HTTPServer(self._clock, application, limits, key, hosts)
        self._servers.append(server)
        if section.listen:
            self._connections.append(server)
        encrypted = certificate and server.encrypted(tls_options(certificate, server.acceptableProtocols()))
        self._listen(key, section.listen, encrypted or server)
        return server

    def _listen(self, key: str, endpoints: Sequence[str], factory: IProtocolFactory) -> None:
        self._listeners.append(Listener(self._reactor, key, endpoints, factory))

    def _certificate(self, section: TLSSection | None) -> Certificate | None:
        return None if section is None else server_certificate(section, self._now)

    async def start(self) -> dict[str, list[str]]:
        """
        Listen.

        :returns: the addresses, by the keys of the configuration.
        :raises ConfigurationError: an endpoint cannot listen.
        """
        self._fit_descriptors()
        for listener in self._listeners:
            await listener.start()
        return {listener.key: listener.addresses for listener in self._listeners}

    def _fit_descriptors(self) -> None:
        """Accept fewer connections than the configuration allows if there are too few file descriptors."""
        clients = sum(each.limits.clients for each in self._connections)
        part = share(clients, _PER_APP * sum(map(self._connections_to_apple, self._parts.apps.names())))
        if part < 1:
            for each in self._connections:
                limits = each.limits
                each.limits = attrs.evolve(
                    limits,
                    clients=max(_MIN_CLIENTS, int(part * limits.clients)),
                    unauthenticated=max(_MIN_CLIENTS, int(part * limits.unauthenticated)),
                )

    def _connections_to_apple(self, app: str) -> int:
        try:
            return self._parts.apps.get(app).limits.connections
        except RequestRefused:
            return 1  # it may become usable while the daemon runs

    def refuse(self) -> None:
        """Refuse new requests, with a hint to come back later. Earlier requests still get their answers."""
        for server in self._servers:
            if server is not self._admin:  # which still has to answer that the daemon is not ready
                server.drain()

    async def close(self) -> None:
        """Stop listening and close all connections."""
        await DeferredList([listener.stop() for listener in self._listeners], consumeErrors=True)
        await gatherResults([server.close() for server in self._servers])
