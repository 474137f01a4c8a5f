"""
The connections of the Apple face.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory, IReactorTime

from txapns._network.clocks import wall_clock
from txapns._serving.connections import LINGER, ServerConnections
from txapns._serving.limits import ConnectionLimits
from txapns._serving.tls import ServerTLS
from txapns._session.channels import Channels
from txapns.credentials import Certificate
from txapns.daemon.config.sections import AppleSection
from txapns.daemon.faces.apple.connection import AppleConnection, AppleContext
from txapns.daemon.faces.callers import Callers
from txapns.daemon.interfaces import IApps, IFeedbackLog, IIntake, IKeys
from txapns.daemon.sending.channels import no_channels
from txapns.daemon.values import Environment

__all__ = ["Apple"]


class Apple:
    """
    The face.

    :param clock: the reactor, or a ``Clock``.
    :param channels_of: returns the channels of an app, by its name and its side; see :meth:`AppChannels.of`.
    """

    def __init__(
        self,
        clock: IReactorTime,
        intake: IIntake,
        apps: IApps,
        keys: IKeys,
        feedback: IFeedbackLog,
        options: AppleSection,
        limits: ConnectionLimits,
        channels_of: Callable[[str, Environment | None], Channels] = no_channels,
    ) -> None:
        self.callers = Callers(apps)
        self._keys = options.keys
        context = AppleContext(clock, wall_clock(clock), intake, self.callers, keys, feedback, options, channels_of)
        self.server = ServerConnections(clock, lambda: AppleConnection(context), limits, "intake.apple")

    def factory(self, certificate: Certificate | None = None) -> IProtocolFactory:
        """Make a factory for an endpoint. Without a certificate, it speaks HTTP/2 in plain text."""
        if certificate is None:
            return self.server
        known = self._known if self._keys else lambda fingerprint: True
        return self.server.encrypted(ServerTLS(certificate, known, required=False, protocols=[b"h2"]))

    def drain(self) -> None:
        """Accept no more requests (GOAWAY); each connection answers those that are under way, and closes."""
        self.server.drain()

    def close(self, grace: float = LINGER) -> Deferred[None]:
        """Close all connections; see :meth:`ServerConnections.close`."""
        return self.server.close(grace)

    def _known(self, fingerprint: str) -> bool:
        return bool(self.callers.by_certificate(fingerprint))
