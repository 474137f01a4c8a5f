"""
The faces of the configuration and the admin endpoint, each listening at its endpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import partial
from operator import attrgetter
from typing import Any

import attrs
from twisted.internet.defer import DeferredList, gatherResults
from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.logger import Logger

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
    LimitsSection,
    MatrixSection,
    NativeSection,
    PyapnsSection,
    TLSSection,
)
from txapns.daemon.errors import RequestRefused
from txapns.daemon.faces.apple.face import Apple
from txapns.daemon.faces.binary import Binary
from txapns.daemon.faces.matrix.face import Matrix
from txapns.daemon.faces.native.face import Native
from txapns.daemon.faces.pyapns import Pyapns
from txapns.daemon.interfaces import IFeedbackLog, IIntake, IKeys, IOutcomeFeed, IOutcomeLog
from txapns.daemon.listener import Listener
from txapns.daemon.operations.admin import LIMITS as ADMIN_LIMITS
from txapns.daemon.operations.admin import Admin
from txapns.daemon.operations.metrics import DaemonMetrics
from txapns.daemon.secrets.credentials import server_certificate
from txapns.daemon.sending.channels import AppChannels
from txapns.errors import APNSError

__all__ = ["FaceDependencies", "Listeners", "tls_section"]

_log = Logger()

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
    feed: IOutcomeFeed
    apps: Apps
    keys: IKeys
    wake: Callable[[str], None]
    channels: AppChannels
    metrics: DaemonMetrics
    admin: Admin


@attrs.define(eq=False)
class _Listening:
    """
    A listener that can be given another certificate.

    :ivar factory: makes the factory of its connections, with a certificate or for plain text.
    :ivar certificate: the one that it shows; ``None`` without TLS.
    """

    listener: Listener
    factory: Callable[[Certificate | None], IProtocolFactory]
    certificate: Certificate | None


class Listeners:
    """
    All listeners of the daemon.

    :param parts: the parts of the daemon that the faces use.
    :raises APNSError: a certificate cannot be used; the message names its file.
    """

    def __init__(self, reactor: Any, configuration: Configuration, parts: FaceDependencies) -> None:
        self._reactor = reactor
        self._clock = IReactorTime(reactor)
        self._parts = parts
        faces = configuration.intake
        self._limits = _connection_limits(configuration.limits)
        self._listeners: list[_Listening] = []
        self._servers: list[HTTPServer | Apple | Binary] = []
        self._connections: list[ServerConnections] = []
        self._make_native(faces.native)
        if faces.pyapns is not None:
            self._make_pyapns(faces.pyapns)
        if faces.apple is not None:
            self._make_apple(faces.apple)
        if faces.binary is not None:
            self._make_binary(faces.binary)
        if faces.matrix is not None:
            self._make_matrix(faces.matrix)
        self._admin = self._serve("admin", configuration.admin, parts.admin, self._admin_limits, guarded=True)

    def _make_native(self, section: NativeSection) -> None:
        parts = self._parts
        native = Native(
            parts.metrics.intake("native", parts.intake),
            parts.outcomes,
            parts.feedback,
            parts.feed,
            parts.apps,
            parts.keys if section.keys else None,
            section.wait,
            parts.wake,
            parts.apps,
            parts.channels.of,
        )
        self._serve("intake.native", section, native, self._limits, metrics="native")

    def _make_pyapns(self, section: PyapnsSection) -> None:
        parts = self._parts
        intake = parts.metrics.intake("pyapns", parts.intake, refusals=True)
        keys = parts.keys if section.keys else None
        pyapns = Pyapns(wall_clock(self._reactor), intake, parts.apps, keys, parts.feedback, section)
        self._serve("intake.pyapns", section, pyapns, self._limits, metrics="pyapns", guarded=True)

    def _make_apple(self, section: AppleSection) -> None:
        parts = self._parts
        intake = parts.metrics.intake("apple", parts.intake, refusals=True)
        apple = Apple(
            self._clock,
            intake,
            parts.apps,
            parts.keys,
            parts.feedback,
            section,
            self._limits,
            parts.channels.of,
        )
        self._servers.append(apple)
        self._connections.append(apple.server)
        self._listen("intake.apple", section.listen, apple.factory, section.tls)

    def _make_binary(self, section: BinarySection) -> None:
        parts = self._parts
        intake = parts.metrics.intake("binary", parts.intake, refusals=True)
        binary = Binary(self._clock, intake, parts.apps, parts.feedback, section, self._limits)
        self._servers.append(binary)
        self._connections += [binary.notifications, binary.dead]
        self._listen("intake.binary", section.listen, binary.factory, section.tls)
        self._listen("intake.binary.feedback", section.feedback, binary.feedback_factory, section.tls)

    def _make_matrix(self, section: MatrixSection) -> None:
        parts = self._parts
        intake = parts.metrics.intake("matrix", parts.intake)
        keys = parts.keys if section.keys else None
        matrix = Matrix(self._clock, intake, parts.apps, keys, parts.feedback, section)
        self._serve("intake.matrix", section, matrix, self._limits, metrics="matrix", guarded=True)

    def _serve(
        self,
        key: str,
        section: HTTPSection,
        application: IApplication,
        limits: ConnectionLimits,
        *,
        metrics: str | None = None,
        guarded: bool = False,
    ) -> HTTPServer:
        """
        Serve an application by HTTP/1.1 at the endpoints of a section; returns the server.

        Requests from web pages are refused unless keys are asked for; with ``guarded`` in any case. What is refused is
        counted if the face has a name in the metrics.
        """
        refused = None if metrics is None else partial(self._parts.metrics.refused, metrics)
        server = HTTPServer(self._clock, application, limits, key, refused=refused)

        def factory(certificate: Certificate | None) -> IProtocolFactory:
            names = () if certificate is None else certified_names(certificate)
            server.hosts = Hosts([*section.hosts, *names]) if guarded or not section.keys else None
            if certificate is None:
                return server
            return server.encrypted(tls_options(certificate, server.acceptableProtocols()))

        self._servers.append(server)
        if section.listen:
            self._connections.append(server)
        self._listen(key, section.listen, factory, section.tls)
        return server

    def _listen(
        self,
        key: str,
        endpoints: Sequence[str],
        factory: Callable[[Certificate | None], IProtocolFactory],
        tls: TLSSection | None,
    ) -> None:
        certificate = self._certificate(tls)
        listener = Listener(self._reactor, key, endpoints, factory(certificate))
        self._listeners.append(_Listening(listener, factory, certificate))

    def _certificate(self, section: TLSSection | None) -> Certificate | None:
        now = datetime.fromtimestamp(wall_clock(self._reactor).now(), timezone.utc)
        return None if section is None else server_certificate(section, now)

    @property
    def _admin_limits(self) -> ConnectionLimits:
        return attrs.evolve(ADMIN_LIMITS, unread=self._limits.unread, unfinished=self._limits.unfinished)

    async def start(self) -> dict[str, list[str]]:
        """
        Listen.

        :returns: the addresses, by the keys of the configuration.
        :raises ConfigurationError: an endpoint cannot listen.
        """
        self._fit_descriptors()
        for each in self._listeners:
            await each.listener.start()
        return {each.listener.key: each.listener.addresses for each in self._listeners}

    def reconfigure(self, configuration: Configuration) -> None:
        """
        Take up what another configuration says of limits and certificates, for further requests and connections.

        The files of certificates are read again. A certificate that cannot be used is logged, and the listener keeps
        the one that it has.
        """
        unread, unfinished = self._limits.unread, self._limits.unfinished
        unread.most = unfinished.most = configuration.limits.unread
        self._limits = attrs.evolve(_connection_limits(configuration.limits), unread=unread, unfinished=unfinished)
        for each in self._connections:
            each.limits = self._admin_limits if each is self._admin else self._limits
        self._fit_descriptors()
        for listening in self._listeners:
            self._renew(listening, tls_section(configuration, listening.listener.key))

    def _renew(self, listening: _Listening, section: TLSSection | None) -> None:
        key = listening.listener.key
        if listening.certificate is None or section is None:
            return  # whether there is TLS is decided at the start
        try:
            certificate = self._certificate(section)
            assert certificate is not None
            if certificate.fingerprint != listening.certificate.fingerprint:
                listening.listener.replace(listening.factory(certificate))
                listening.certificate = certificate
                expires = f"{certificate.expires:%Y-%m-%d}"
                _log.info("{key} shows a new certificate, which expires on {expires}", key=key, expires=expires)
        except APNSError as error:
            _log.error("{key} goes on with its certificate: {reason}", key=key, reason=str(error))

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
        await DeferredList([each.listener.stop() for each in self._listeners], consumeErrors=True)
        await gatherResults([server.close() for server in self._servers])


def tls_section(configuration: Configuration, key: str) -> TLSSection | None:
    """Find the ``tls`` table of a listener, by its key in the configuration."""
    listener = attrgetter(key.removesuffix(".feedback"))(configuration)
    return None if listener is None else listener.tls


def _connection_limits(limits: LimitsSection) -> ConnectionLimits:
    return ConnectionLimits(
        body=limits.body,
        clients=limits.clients,
        unauthenticated=limits.unauthenticated,
        idle=limits.idle,
        request=limits.request,
        unread=MemoryBudget(limits.unread),
        unfinished=MemoryBudget(limits.unread),
    )
