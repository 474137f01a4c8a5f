"""
After how many requests a server ends its connections.

Many servers do, nginx after 1,000, and a fast client has sent these in milliseconds. By the time that the server's
GOAWAY is read, hundreds more were sent in vain, and then there is no connection until a new one is made: a third of the
rate was lost to that. So the number is learned.
"""

from __future__ import annotations

import attrs

__all__ = ["ENOUGH", "Lifespan"]

#: So many answers are worth a connection; fewer are taken for a server that is not well. It takes some milliseconds to
#: make a connection, in which it could answer a hundred, so a lower number would help nobody much.
ENOUGH = 10


@attrs.define
class Lifespan:
    """
    What is known of it from the connections before.

    When two have ended after the same number of requests, the next send no more than that: such a session drains by
    itself, and its successor is made while its answers come. Where that brings no GOAWAY, the number is forgotten.

    :ivar most: how many requests; 0 where that is not known, or there are fewer than :data:`ENOUGH`.
    """

    most: int = 0
    _last: int = 0

    def ended(self, requests: int) -> None:
        """
        A connection came to its end.

        :param requests: after how many requests the server ended it in good order; 0 if it did not.
        """
        self.most = requests if requests == self._last and requests >= ENOUGH else 0
        self._last = requests
