"""
A service for Twisted applications that send to many apps, or to one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from txapns._network.proxy import Proxy, read_proxy
from txapns.client import APNSClient, Session
from txapns.credentials import Credential
from txapns.errors import ClientClosed
from txapns.gateway import Gateway
from txapns.interfaces import IMetrics
from txapns.options import ClientOptions, Options

__all__ = ["APNSService"]

if TYPE_CHECKING:
    from typing_extensions import Unpack


class APNSService(Service):
    """
    A :class:`~txapns.Session` for as long as a service runs.

    Add it to the application before what uses it: services stop in the reverse order, and it should be the last.

    :param reactor: the reactor.
    :param proxy: as for :class:`~txapns.Session`.
    :param options: the keywords of :class:`~txapns.options.ClientOptions`.
    :raises InvalidGateway: the proxy is not valid.
    :raises ValueError: an option is out of range.
    """

    def __init__(
        self, reactor: IReactorTime, *, proxy: str | Proxy | None = None, **options: Unpack[ClientOptions]
    ) -> None:
        Options(**options)
        self._reactor = reactor
        self._proxy = read_proxy(proxy)
        self._options = options
        self._session: Session | None = None

    def startService(self) -> None:
        """Start: clients may be asked for."""
        Service.startService(self)
        self._session = Session(self._reactor, proxy=self._proxy, **self._options)

    def stopService(self) -> Deferred[None]:
        """
        Stop: report what waits as unsent, wait for the answers to what is in flight, and close all connections.

        :returns: a ``Deferred`` that fires when that is done.
        """
        Service.stopService(self)
        session, self._session = self._session, None
        return succeed(None) if session is None else session.close()

    def client(
        self,
        credential: Credential,
        gateway: str | Gateway = "production",
        *,
        topic: str | None = None,
        metrics: IMetrics | None = None,
    ) -> APNSClient:
        """
        Return the client for a credential. Ask each time; an equal credential gets the same client.

        :param credential: a certificate or provider token; compared by fingerprint.
        :param gateway: as for :class:`~txapns.APNSClient`.
        :param topic: as for :class:`~txapns.APNSClient`.
        :param metrics: as for :class:`~txapns.APNSClient`, if the client does not exist yet.
        :returns: the one client for credential, gateway and topic.
        :raises ClientClosed: the service does not run.
        :raises InvalidGateway: the gateway is not valid.
        :raises CredentialError: the gateway's protocol cannot use this credential.
        """
        if self._session is None:
            raise ClientClosed("the service does not run")
        return self._session.client(credential, gateway, topic=topic, metrics=metrics)
