"""
The factory that makes the protocols, and decides when to connect again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ReconnectingClientFactory

from txapns._network.backoff import Backoff
from txapns._network.clocks import timers
from txapns._session.binary import Allowance, EnhancedNotificationProtocol
from txapns._session.http2 import ProviderAPIProtocol
from txapns._session.lifespan import Lifespan
from txapns._session.protocol import GatewayProtocol
from txapns.credentials import Credential
from txapns.gateway import Gateway
from txapns.interfaces import IProtocolListener

__all__ = ["APNSClientFactory"]


class APNSClientFactory(ReconnectingClientFactory):
    """
    Builds the protocols of one gateway and credential, and reconnects with back-off.

    It differs from its base in what resets the delay: not a connection that was made, but a protocol that proved
    itself. :class:`~txapns._session.connection.Connection` stands in for the connector, because connections are opened
    through endpoints, which do not tell a factory about connections that failed or were lost.

    :param events: receives what happens to the protocols.
    :param clock: the reactor, or a ``Clock``.
    :param timeout: how long an answer may take, in seconds.
    :param backoff: the delays, which several factories may share.
    :param ping_interval: after this many seconds of silence from an HTTP/2 server, a PING is sent; ``None`` for never.
    :param topic: the topic of notifications without one.
    """

    noisy = False
    # The delays come from Backoff: the base class must neither lengthen nor vary them.
    factor = 1.0
    jitter = 0.0

    def __init__(
        self,
        gateway: Gateway,
        credential: Credential,
        events: IProtocolListener,
        clock: IReactorTime,
        timeout: float = 30.0,
        backoff: Backoff | None = None,
        *,
        ping_interval: float | None = 60.0,
        topic: str | None = None,
    ) -> None:
        self.clock: Any = timers(clock)
        self._backoff = backoff or Backoff()
        self._make: Callable[[], GatewayProtocol]
        if gateway.protocol == "binary":
            self._make = partial(
                EnhancedNotificationProtocol,
                events,
                self.clock,
                credential,
                timeout,
                settle_time=gateway.settle_time,
                barrier=gateway.barrier,
                command=gateway.command,
                allowance=Allowance(),
            )
        else:
            self._make = partial(
                ProviderAPIProtocol,
                events,
                self.clock,
                gateway.host,
                credential,
                timeout,
                ping_interval=ping_interval,
                lifespan=Lifespan(),
                topic=topic,
            )

    def buildProtocol(self, addr: IAddress | None) -> GatewayProtocol:
        """Make the protocol for a new connection."""
        protocol = self._make()
        protocol.factory = self
        return protocol

    def retry(self, connector: Any = None) -> None:
        """Let the connector connect again after the next delay. Nothing but its ``connect`` is called."""
        if self.continueTrying:
            self.delay = self._backoff.next_delay()
        super().retry(connector)  # type: ignore[no-untyped-call]

    def hurry(self) -> None:
        """Make the next attempt at once: the reason to wait is gone."""
        if self._callID is not None:
            self._callID.reset(0)

    def resetDelay(self) -> None:
        """
        Start over with the shortest delay: a protocol proved itself.

        The base class would also try again after ``stopTrying``, and drop a call that is pending; a draining protocol
        may prove itself as late as that.
        """
        self._backoff.reset()
        self.retries = 0
