"""
The factory of sessions, and when the next may be tried.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress, IConnector, IReactorTime
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
    Builds the sessions of one gateway and credential, and reconnects with back-off.

    It differs from its base in what resets the delay: not a connection that was made, but a session that did what it is
    for. :class:`~txapns._session.connection.Connection` stands in for the connector, so that the sessions are opened
    through endpoints, where a factory hears nothing of connections that failed or were lost.

    :param gateway: where to connect.
    :param credential: what to authenticate with.
    :param events: who is told how the sessions fare.
    :param clock: the reactor, or a ``Clock``.
    :param timeout: how long an answer may take, in seconds.
    :param backoff: the delays, which several factories may share.
    :param ping_interval: after how many seconds without a word from an HTTP/2 server it is asked for a sign of life;
        ``None`` for never.
    """

    noisy = False
    # The delays are the Backoff's: the base class is to neither lengthen nor vary them.
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
    ) -> None:
        self._gateway = gateway
        self._credential = credential
        self._events = events
        self._timeout = timeout
        self._ping_interval = ping_interval
        self._backoff = backoff or Backoff()
        self._allowance = Allowance()
        self._lifespan = Lifespan()
        self.clock: Any = timers(clock)

    def buildProtocol(self, addr: IAddress | None) -> GatewayProtocol:
        """
        Make the session for a new connection.

        :param addr: the server's address.
        :returns: the protocol that the gateway speaks.
        """
        gateway = self._gateway
        session: GatewayProtocol
        if gateway.protocol == "binary":
            session = EnhancedNotificationProtocol(
                self._events,
                self.clock,
                self._credential,
                self._timeout,
                settle_time=gateway.settle_time,
                barrier=gateway.barrier,
                command=gateway.command,
                allowance=self._allowance,
            )
        else:
            session = ProviderAPIProtocol(
                self._events,
                self.clock,
                gateway.host,
                self._credential,
                self._timeout,
                ping_interval=self._ping_interval,
                lifespan=self._lifespan,
            )
        session.factory = self
        return session

    def retry(self, connector: IConnector | None = None) -> None:
        """
        Have the connector connect again, after the next delay.

        :param connector: whose ``connect`` to call; left out, the last one's.
        """
        if self.continueTrying:
            self.delay = self._backoff.next_delay()
        super().retry(connector)  # type: ignore[no-untyped-call]

    def hurry(self) -> None:
        """What the next attempt waits for is over: it follows at once."""
        if self._callID is not None:
            self._callID.reset(0)

    def resetDelay(self) -> None:
        """
        A session proved itself.

        The base class would also try again after ``stopTrying``, and forget a call it has yet to make; a session that
        drains may prove itself as late as that.
        """
        self._backoff.reset()
        self.retries = 0
