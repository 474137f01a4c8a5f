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

from txapns.credentials import Certificate
from txapns.daemon.apps import Apps
from txapns.daemon.config import Configuration, ListenerSection, TLSSection
from txapns.daemon.faces.apple import Apple
from txapns.daemon.faces.binary import Binary
from txapns.daemon.faces.http import Bounds, HTTPServer, IApplication
from txapns.daemon.faces.native import Native
from txapns.daemon.faces.pyapns import Pyapns
from txapns.daemon.interfaces import IFeedbackLog, IIntake, IKeys, ISpool
from txapns.daemon.listening import Listener, tls_options
from txapns.daemon.material import server_certificate

__all__ = ["Collaborators", "Front"]


@attrs.frozen
class Collaborators:
    """
    What the faces need of the gateway.

    :ivar intake: where notifications go.
    :ivar spool: knows what became of them.
    :ivar feedback: the dead tokens.
    :ivar apps: the apps.
    :ivar keys: who may call.
    :ivar wake: called with an app's name when something is to be sent for it again.
    """

    intake: IIntake
    spool: ISpool
    feedback: IFeedbackLog
    apps: Apps
    keys: IKeys
    wake: Callable[[str], None]


class Front:
    """
    All that listens.

    :param reactor: the reactor.
    :param configuration: which faces there are, and where.
    :param others: what they need.
    :param now: the time, for the certificates that are shown.
    :raises APNSError: a certificate cannot be used; the message names its file.
    """

    def __init__(self, reactor: Any, configuration: Configuration, others: Collaborators, now: datetime) -> None:
        self._reactor = reactor
        self._clock = IReactorTime(reactor)
        self._others = others
        self._now = now
        limits = configuration.limits
        self._bounds = Bounds(body=limits.body, clients=limits.clients, idle=limits.idle, request=limits.request)
        self._listeners: list[Listener] = []
        self._servers: list[HTTPServer | Apple | Binary] = []
        self._make(configuration)

    def _make(self, configuration: Configuration) -> None:
        intake, others = configuration.intake, self._others
        keys = others.keys if intake.native.keys else None
        native = Native(
            others.intake, others.spool, others.feedback, others.apps, keys, intake.native.wait, others.wake
        )
        self.serve("intake.native", intake.native, native)
        if intake.pyapns is not None:
            keys = others.keys if intake.pyapns.keys else None
            pyapns = Pyapns(self._clock, others.intake, others.apps, keys, others.feedback, intake.pyapns)
            self.serve("intake.pyapns", intake.pyapns, pyapns)
        if intake.apple is not None:
            apple = Apple(
                self._clock, others.intake, others.apps, others.keys, others.feedback, intake.apple, self._bounds
            )
            self._listen("intake.apple", intake.apple.listen, apple.factory(self._shown(intake.apple.tls)))
            self._servers.append(apple)
        if intake.binary is not None:
            binary = Binary(self._clock, others.intake, others.apps, others.feedback, intake.binary, self._bounds)
            shown = self._shown(intake.binary.tls)
            self._listen("intake.binary", intake.binary.listen, binary.factory(shown))
            self._listen("intake.binary.feedback", intake.binary.feedback, binary.feedback_factory(shown))
            self._servers.append(binary)

    def serve(self, key: str, section: ListenerSection, application: IApplication) -> None:
        """
        Have an application answer HTTP at the endpoints of a section.

        :param key: the section's key.
        :param section: the section.
        :param application: what answers.
        """
        server = HTTPServer(self._clock, application, self._bounds)
        shown = self._shown(section.tls)
        self._servers.append(server)
        tls = None if shown is None else tls_options(shown, server.acceptableProtocols())
        self._listeners.append(Listener(self._reactor, key, section.listen, server, tls))

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
        for listener in self._listeners:
            await listener.start()
        return {listener.key: listener.addresses for listener in self._listeners}

    def refuse(self) -> None:
        """Tell who asks for something new to come again later. What was asked for before is still answered."""
        for server in self._servers:
            server.drain()

    async def close(self) -> None:
        """Listen no more, and close all connections."""
        await DeferredList([listener.stop() for listener in self._listeners], consumeErrors=True)
        await gatherResults([server.close() for server in self._servers])
