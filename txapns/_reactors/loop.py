"""
A reactor on an event loop that belongs to the program.

Twisted's ``AsyncioSelectorReactor`` does the work. Where it assumes that the loop belongs to it, it is changed:

- It never stops the loop, installs no signal handlers, and does not declare its thread the one for I/O.
- It has no waker, whose two descriptors nobody would close at the end: nothing calls it from other threads.
- It looks names up with the loop's ``getaddrinfo``. So it has no threads, for which Python would wait at exit.
- Its timers are monotonic.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from contextlib import suppress

import attrs
from twisted.internet.abstract import isIPAddress
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer

__all__ = ["LoopReactor"]

_ADDRESSES: dict[int, type[IPv4Address] | type[IPv6Address]] = {
    socket.AF_INET: IPv4Address,
    socket.AF_INET6: IPv6Address,
}


class LoopReactor(AsyncioSelectorReactor):
    """
    A reactor that runs as long as an event loop runs, until :meth:`end`.

    :param loop: the event loop, of asyncio's or uvloop's.
    :raises TypeError: the loop cannot tell when sockets are ready, as Windows' ``ProactorEventLoop`` cannot.
    """

    _registerAsIOThread = False
    seconds = staticmethod(time.monotonic)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.installNameResolver(_Resolver(loop))
        self.startRunning(installSignalHandlers=False)

    def installWaker(self) -> None:
        """Install none."""

    def end(self) -> None:
        """Close all connections at once and cancel all timers."""
        self.disconnectAll()
        for call in self.getDelayedCalls():
            call.cancel()
        timer: asyncio.TimerHandle | None = self._timerHandle
        if timer is not None:
            timer.cancel()


@implementer(IHostResolution)
@attrs.define
class _Resolution:
    """A name that is being looked up."""

    name: str
    task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()


@implementer(IHostnameResolver)
@attrs.frozen(eq=False)
class _Resolver:
    """Looks names up with the event loop's ``getaddrinfo``."""

    _loop: asyncio.AbstractEventLoop

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Look up a name for a TCP connection."""
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        if isIPAddress(hostName, socket.AF_INET):  # without a thread
            resolutionReceiver.addressResolved(IPv4Address("TCP", hostName, portNumber))
            resolutionReceiver.resolutionComplete()
            return resolution
        resolution.task = self._loop.create_task(self._resolve(resolutionReceiver, hostName, portNumber))
        resolution.task.add_done_callback(lambda _: resolutionReceiver.resolutionComplete())
        return resolution

    async def _resolve(self, receiver: IResolutionReceiver, name: str, port: int) -> None:
        with suppress(OSError, UnicodeError):  # it has no addresses
            for family, _, _, _, address in await self._loop.getaddrinfo(name, port, type=socket.SOCK_STREAM):
                if family in _ADDRESSES:
                    receiver.addressResolved(_ADDRESSES[family]("TCP", *address))
