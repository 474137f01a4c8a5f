"""
What the HTTP/2 servers do wrong at random: everything that has been seen of Apple's servers, or of the network.

While :mod:`~txapns.simulator.faults` injects one fault of the binary protocol at a time, :class:`RandomFaults` injects
all those of the provider API into some of the requests. A client is reliable if it loses nothing here, and sends twice
only what it calls uncertain::

    simulator.http2_fault = RandomFaults(Random(1), rate=0.01)

In the shell it is ``txapns simulate --random-faults 1``: one request in a hundred. The record holds what was accepted,
even if the provider never got the response.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from weakref import WeakKeyDictionary

from txapns.simulator.requests import RequestServer, Response
from txapns.wire.requests import Request

__all__ = ["RandomFaults"]

#: Codes of HTTP/2 errors.
_INTERNAL_ERROR, _REFUSED_STREAM, _ENHANCE_YOUR_CALM = 2, 7, 11
#: The responses to requests that have no fault of their own.
_ERRORS = (
    Response(500, "InternalServerError"),
    Response(503, "ServiceUnavailable"),
    Response(503, "Shutdown"),
    Response(429, "TooManyRequests"),
    Response(400, "NeverHeardOf"),
    Response(502),
)
#: The debug data of a GOAWAY.
_DEBUG_DATA = (b"", b'{"reason":"Shutdown"}', b"Maximum active streams violated for this endpoint.", b"\xff")
#: Limits of streams, and windows of streams in bytes, to be announced.
_LIMITS = (1, 5, 100, 1_000)
_WINDOWS = (100, 16_384, 65_535)

_Act = Callable[[RequestServer, Request, Response], "Response | None"]


class RandomFaults:
    """
    Random faults of a server.

    :param random: the source of randomness.
    :param rate: the fraction of requests with a fault, 0 to 1.
    :param drastic: the fraction of faults that concern the whole connection, with all requests under way on it.
    """

    def __init__(self, random: Random, rate: float, drastic: float = 0.01) -> None:
        self._random = random
        self._rate = rate
        self._drastic = drastic
        self._faults: tuple[_Act, ...] = (self.refuse, self.reset, self.forget, self.error)
        drastic_faults = self.goaway, self.cut, self.garbage, self.stall, self.limit, self.window
        self._drastic_faults: tuple[_Act, ...] = drastic_faults
        # By connection: the last stream that a GOAWAY named, and the last one processed, which it must not revoke.
        self._last: WeakKeyDictionary[RequestServer, int] = WeakKeyDictionary()
        self._processed: WeakKeyDictionary[RequestServer, int] = WeakKeyDictionary()

    def __call__(self, server: RequestServer, request: Request, response: Response) -> Response | None:
        """Inject a fault; see :data:`~txapns.simulator.requests.Fault`."""
        if request.stream > self._last.get(server, request.stream):
            return None  # a GOAWAY has said that this will not be processed
        act = self._choose() if self._random.random() < self._rate else None
        if act not in (self.goaway, self.refuse):
            self._processed[server] = max(self._processed.get(server, 0), request.stream)
        return response if act is None else act(server, request, response)

    def _choose(self) -> _Act:
        drastic = self._random.random() < self._drastic
        return self._random.choice(self._drastic_faults if drastic else self._faults)

    def goaway(self, server: RequestServer, request: Request, response: Response) -> Response | None:
        """Send GOAWAY: no further streams, and perhaps not the most recent ones either."""
        if server in self._last:
            return response
        last = max(request.stream + 2 * self._random.randint(-10, 10), self._processed.get(server, 0), 0)
        self._last[server] = last
        code = self._random.choice((0, _ENHANCE_YOUR_CALM))
        server.requests.goaway(code, last_stream=last, debug=self._random.choice(_DEBUG_DATA))
        return response if request.stream <= last else None

    def refuse(self, server: RequestServer, request: Request, response: Response) -> None:
        """Refuse the stream: it was not processed."""
        server.requests.reset(request.stream, _REFUSED_STREAM)

    def forget(self, server: RequestServer, request: Request, response: Response) -> None:
        """Never respond, though the notification may have been accepted."""
        if response.is_success and self._random.random() < 0.5:
            server.take(request)

    def reset(self, server: RequestServer, request: Request, response: Response) -> None:
        """Reset the stream, though the notification may have been accepted."""
        self.forget(server, request, response)
        server.requests.reset(request.stream, _INTERNAL_ERROR)

    def cut(self, server: RequestServer, request: Request, response: Response) -> None:
        """Abort the connection, though the notification may have been accepted."""
        self.forget(server, request, response)
        server.abort()

    def garbage(self, server: RequestServer, request: Request, response: Response) -> None:
        """Send garbage, though the notification may have been accepted."""
        self.forget(server, request, response)
        assert server.transport is not None
        server.transport.write(self._random.randbytes(50))

    def stall(self, server: RequestServer, request: Request, response: Response) -> None:
        """Ignore everything from now on, but leave the connection open."""
        self.forget(server, request, response)
        server.stall()

    def limit(self, server: RequestServer, request: Request, response: Response) -> Response:
        """Respond, and announce another limit of streams."""
        server.requests.limit(self._random.choice(_LIMITS))
        return response

    def window(self, server: RequestServer, request: Request, response: Response) -> Response:
        """Respond, and announce another window for each stream."""
        server.requests.window(self._random.choice(_WINDOWS))
        return response

    def error(self, server: RequestServer, request: Request, response: Response) -> Response:
        """Respond with an error that is not the notification's fault, or with an unknown one."""
        return self._random.choice(_ERRORS)
