"""Server-sent events: a response that goes on for as long as the browser reads it."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer, IReactorTime
from zope.interface import implementer

from txapns._serving.http import Request

__all__ = ["EventStream"]


@implementer(IPushProducer)
class EventStream:
    """
    The response to one browser.

    :param request: its request.
    :param clock: the reactor, or a ``Clock``.

    :ivar blocked: since when the browser has not been reading, by the clock; ``None`` if it reads.
    """

    def __init__(self, request: Request, clock: IReactorTime) -> None:
        self._request: Any = request  # Twisted's base class is not typed
        self._clock = clock
        self.blocked: float | None = None

    def begin(self) -> None:
        """Start the response."""
        self._request.registerProducer(self, True)
        # If the connection breaks, the browser reconnects after this many milliseconds.
        self.write(b"retry: 5000\n\n")

    def write(self, data: bytes) -> None:
        """Send something, unless what was sent before has not been read yet."""
        if self.blocked is None:
            self._request.write(data)

    def end(self) -> None:
        """End the response."""
        self._request.unregisterProducer()
        self._request.finish()

    def drop(self) -> None:
        """Close the connection, and discard what was not read."""
        self._request.channel.transport.abortConnection()

    # IPushProducer

    def pauseProducing(self) -> None:
        """See :meth:`IPushProducer.pauseProducing`."""
        if self.blocked is None:
            self.blocked = self._clock.seconds()

    def resumeProducing(self) -> None:
        """See :meth:`IPushProducer.resumeProducing`."""
        self.blocked = None

    def stopProducing(self) -> None:
        """See :meth:`IPushProducer.stopProducing`."""
