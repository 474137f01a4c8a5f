"""
Where the daemon listens: the endpoints of the configuration.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocol, IProtocolFactory, IReactorCore
from zope.interface import implementer

from txapns._network.endpoints import url_host
from txapns.daemon.config.endpoints import with_mode
from txapns.daemon.errors import ConfigurationError

__all__ = ["Listener"]


@implementer(IProtocolFactory)
class _Replaceable:
    """A factory in front of another, which can be replaced while ports listen with it."""

    def __init__(self, current: IProtocolFactory) -> None:
        self.current = current

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        """See :class:`IProtocolFactory`."""
        return self.current.buildProtocol(addr)

    def doStart(self) -> None:
        """See :class:`IProtocolFactory`."""
        self.current.doStart()

    def doStop(self) -> None:
        """See :class:`IProtocolFactory`."""
        self.current.doStop()


class Listener:
    """
    Listens for one face, at one endpoint or several.

    :param key: its key in the configuration, for messages.
    """

    def __init__(
        self,
        reactor: IReactorCore,
        key: str,
        endpoints: Sequence[str],
        factory: IProtocolFactory,
    ) -> None:
        self.key = key
        self._reactor = reactor
        self._endpoints = endpoints
        self._factory = _Replaceable(factory)
        self._ports: list[IListeningPort] = []

    async def start(self) -> None:
        """
        Listen.

        :raises ConfigurationError: an address is not available.
        """
        for text in self._endpoints:
            endpoint = serverFromString(self._reactor, with_mode(text))
            try:
                self._ports.append(await endpoint.listen(self._factory))
            except (CannotListenError, OSError) as error:
                raise ConfigurationError(f"{self.key}.listen: {text}: {error}") from None

    def replace(self, factory: IProtocolFactory) -> None:
        """Make further connections with another factory. Existing ones remain."""
        for _ in self._ports:
            factory.doStart()
            self._factory.doStop()
        self._factory.current = factory

    @property
    def addresses(self) -> list[str]:
        """The addresses: ``host:port``, or the path of a socket."""
        found = []
        for port in self._ports:
            address: Any = port.getHost()
            is_path = hasattr(address, "name")
            found.append(os.fsdecode(address.name) if is_path else f"{url_host(address.host)}:{address.port}")
        return found

    def stop(self) -> Deferred[None]:
        """Stop listening. Existing connections remain."""
        ports, self._ports = self._ports, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports]).addCallback(lambda _: None)
