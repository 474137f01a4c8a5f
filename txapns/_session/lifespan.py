"""
After how many requests a server ends its connections.

Many servers do, nginx after 1,000, and a fast client sends that many within milliseconds. By the time it reads the
server's GOAWAY it has sent hundreds more in vain, and then there is no connection until a new one is made: that cost a
third of the throughput. So the number is learned.
"""

from __future__ import annotations

import attrs

__all__ = ["ENOUGH", "Lifespan"]

#: This many answers are worth a connection; a server that gives fewer counts as faulty. It takes some milliseconds to
#: make a connection, in which it could answer a hundred, so a lower number would gain little.
ENOUGH = 10


@attrs.define
class Lifespan:
    """
    What earlier connections have shown.

    When two have ended after the same number of requests, the next ones send no more than that: such a protocol drains
    by itself, and its successor is made while its answers come. If there is no GOAWAY then, the number is forgotten.

    :ivar most: how many requests; 0 if that is not known, or below :data:`ENOUGH`.
    """

    most: int = 0
    _last: int = 0

    def ended(self, requests: int) -> None:
        """
        A connection has ended.

        :param requests: after how many requests the server ended it in an orderly way; 0 if it did not.
        """
        self.most = requests if requests == self._last and requests >= ENOUGH else 0
        self._last = requests
