"""
What the HTTP/2 servers do wrong by chance: everything that has been seen of Apple's, or of the network between.

Where :mod:`~txapns.simulator.faults` plays one fault of the binary protocol at a time, :class:`RandomFaults` plays all
of the provider API's, to some of the requests, and goes on. A client that loses nothing here, and sends nothing twice
but what it calls uncertain, is to be trusted::

    simulator.http2_fault = RandomFaults(Random(1), rate=0.01)

From the shell it is ``txapns simulate --random-faults 1``: one request in a hundred. The record says what was truly
taken, also where the provider was never told.
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
#: What is answered to what has no fault of its own.
_TROUBLE = (
    Response(500, "InternalServerError"),
    Response(503, "ServiceUnavailable"),
    Response(503, "Shutdown"),
    Response(429, "TooManyRequests"),
    Response(400, "NeverHeardOf"),
    Response(502),
)
#: What a GOAWAY says besides.
_LAST_WORDS = (b"", b'{"reason":"Shutdown"}', b"Maximum active streams violated for this endpoint.", b"\xff")
#: Limits of streams, and windows for streams in octets, that are announced in between.
_LIMITS = (1, 5, 100, 1_000)
_WINDOWS = (100, 16_384, 65_535)

_Wrong = Callable[[RequestServer, Request, Response], "Response | None"]


class RandomFaults:
    """
    A server that does wrong by chance.

    :param chance: where chance comes from.
    :param rate: which part of the requests it is done to, 0 to 1.
    :param drastic: which part of that concerns the whole connection, with all that is under way on it.
    """

    def __init__(self, chance: Random, rate: float, drastic: float = 0.01) -> None:
        self._chance = chance
        self._rate = rate
        self._drastic = drastic
        self._wrongs: tuple[_Wrong, ...] = (self.refuse, self.reset, self.forget, self.trouble)
        self._drastic_wrongs: tuple[_Wrong, ...] = (
            self.goaway,
            self.cut,
            self.garbage,
            self.stall,
            self.limit,
            self.window,
        )
        # By connection: the last stream that a GOAWAY left, and the last one dealt with, which it may not take back.
        self._last: WeakKeyDictionary[RequestServer, int] = WeakKeyDictionary()
        self._processed: WeakKeyDictionary[RequestServer, int] = WeakKeyDictionary()

    def __call__(self, server: RequestServer, request: Request, response: Response) -> Response | None:
        """Be the fault of a simulator; see :data:`~txapns.simulator.requests.Fault`."""
        if request.stream > self._last.get(server, request.stream):
            return None  # a GOAWAY has said that this will not be dealt with
        wrong = self._choose() if self._chance.random() < self._rate else None
        if wrong not in (self.goaway, self.refuse):
            self._processed[server] = max(self._processed.get(server, 0), request.stream)
        return response if wrong is None else wrong(server, request, response)

    def _choose(self) -> _Wrong:
        drastic = self._chance.random() < self._drastic
        return self._chance.choice(self._drastic_wrongs if drastic else self._wrongs)

    def goaway(self, server: RequestServer, request: Request, response: Response) -> Response | None:
        """Say GOAWAY: no further streams, and perhaps not even those that came last."""
        if server in self._last:
            return response
        last = max(request.stream + 2 * self._chance.randint(-10, 10), self._processed.get(server, 0), 0)
        self._last[server] = last
        code = self._chance.choice((0, _ENHANCE_YOUR_CALM))
        server.requests.goaway(code, last_stream=last, debug=self._chance.choice(_LAST_WORDS))
        return response if request.stream <= last else None

    def refuse(self, server: RequestServer, request: Request, response: Response) -> None:
        """Refuse the stream: it was not processed."""
        server.requests.reset(request.stream, _REFUSED_STREAM)

    def forget(self, server: RequestServer, request: Request, response: Response) -> None:
        """Never answer, though the notification may have been taken."""
        if response.well and self._chance.random() < 0.5:
            server.take(request)

    def reset(self, server: RequestServer, request: Request, response: Response) -> None:
        """Drop the stream, though the notification may have been taken."""
        self.forget(server, request, response)
        server.requests.reset(request.stream, _INTERNAL_ERROR)

    def cut(self, server: RequestServer, request: Request, response: Response) -> None:
        """Cut the connection, though the notification may have been taken."""
        self.forget(server, request, response)
        server.abort()

    def garbage(self, server: RequestServer, request: Request, response: Response) -> None:
        """Speak nonsense, though the notification may have been taken."""
        self.forget(server, request, response)
        assert server.transport is not None
        server.transport.write(self._chance.randbytes(50))

    def stall(self, server: RequestServer, request: Request, response: Response) -> None:
        """Deal with nothing from now on, though the connection stays."""
        self.forget(server, request, response)
        server.stall()

    def limit(self, server: RequestServer, request: Request, response: Response) -> Response:
        """Answer, and announce another limit of streams."""
        server.requests.limit(self._chance.choice(_LIMITS))
        return response

    def window(self, server: RequestServer, request: Request, response: Response) -> Response:
        """Answer, and announce another window for each stream."""
        server.requests.window(self._chance.choice(_WINDOWS))
        return response

    def trouble(self, server: RequestServer, request: Request, response: Response) -> Response:
        """Answer something for which the notification is not to blame, or what nobody has heard of."""
        return self._chance.choice(_TROUBLE)
