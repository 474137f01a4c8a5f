"""
What cannot go on in a forked process.

A reactor that runs while its process is forked goes on in the parent, and in the child nobody runs it, so whatever uses
it there would wait for ever. Worse, what it writes there goes out over the parent's connections. So in the child,
everything that has such a reactor raises.

A reactor that does not run yet is no reason: twistd loads the application, and with it the clients, before it forks to
become a daemon, and then runs the reactor in the child.
"""

from __future__ import annotations

import os
from weakref import WeakSet

from txapns.errors import ClientElsewhere

__all__ = ["Home"]


class Home:
    """
    The process of something that has a reactor.

    :param what: a name for it.
    :param reactor: the reactor, or a ``Clock``.
    """

    def __init__(self, what: str, reactor: object) -> None:
        self._what = what
        self._reactor = reactor
        self._left = False
        _homes.add(self)

    def check(self) -> None:
        """
        Check that this is the process.

        :raises ClientElsewhere: it is another one.
        """
        if self._left:
            raise ClientElsewhere(
                f"the {self._what} was made before this process was forked, and its reactor runs in the parent: make "
                f"a {self._what} in each process, or use txapns.blocking"
            )

    def forked(self) -> None:
        """This is the child."""
        self._left = self._left or bool(getattr(self._reactor, "running", False))


_homes: WeakSet[Home] = WeakSet()


def _forked() -> None:
    for home in list(_homes):
        home.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
