"""
The feedback service, from Apple's side: on connection it lists the dead tokens, then closes.

Reading is destructive: what was listed is not listed again.
"""

from __future__ import annotations

from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from txapns.simulator.devices import Devices
from txapns.wire import feedback

__all__ = ["FeedbackServer"]


@implementer(IHandshakeListener)
class FeedbackServer(Protocol):
    """
    One connection of a provider.

    :param devices: the devices.
    """

    def __init__(self, devices: Devices) -> None:
        self._devices = devices

    def handshakeCompleted(self) -> None:
        """List what was not listed before."""
        assert self.transport is not None
        for token, since in self._devices.unlisted():
            self.transport.write(feedback.encode(int(since), token))
        self.transport.loseConnection()
