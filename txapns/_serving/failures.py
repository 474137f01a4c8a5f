"""
What is logged of a connection that fails: one line for each, and only so many lines in a second.

Anybody can make connections fail, so neither a traceback nor an unlimited number of lines may come of it.
"""

from __future__ import annotations

import traceback

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["FailureLog", "described", "openssl_reasons"]

_LINES = 10  # lines in a second, for each face
_LENGTH = 300  # characters of an exception's message

_log = Logger()


class FailureLog:
    """
    Logs the failures of the connections to one face.

    :param clock: the reactor, or a ``Clock``.
    """

    def __init__(self, clock: IReactorTime, face: str) -> None:
        self._clock = clock
        self._face = face
        self._second = -1
        self._count = 0

    def add(self, peer: str, what: str) -> None:
        """Log a failure, unless there were too many in this second: then only their number is logged, later."""
        second = int(self._clock.seconds())
        if self._second != second:
            if self._count > _LINES:
                _log.warn("{face}: {count} more connections failed", face=self._face, count=self._count - _LINES)
            self._second, self._count = second, 0
        self._count += 1
        if self._count <= _LINES:
            _log.warn("{face}: the connection of {peer} failed: {reason}", face=self._face, peer=peer, reason=what)


def described(reason: Failure) -> str:
    """Say in one line what went wrong, and where in our own code."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(reason.getTracebackObject())]
    ours = [each for each in frames if "/txapns/" in each[0].co_filename.replace("\\", "/")] or frames
    where = "".join(f" (line {line} of {code.co_filename}, {code.co_name})" for code, line in ours[-1:])
    return f"{type(reason.value).__name__}: {reason.getErrorMessage()[:_LENGTH]}{where}".replace("\n", " ")


def openssl_reasons(reason: Failure) -> str:
    """Say why OpenSSL ended a connection."""
    arguments = getattr(reason.value, "args", ())
    causes = arguments[0] if arguments and isinstance(arguments[0], list) else []
    return "; ".join(str(cause[-1]) for cause in causes) or "the peer has gone"
