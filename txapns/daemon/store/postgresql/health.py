"""
Whether the database can accept new data.

Acceptance of notifications and the readiness check ask the same object, so that they always agree. While there is no
connection, new data is refused at once, and somebody tries to connect from time to time; outcomes of accepted
notifications are tried at any time. Otherwise the end of the last transaction decides.
"""

from __future__ import annotations

from twisted.logger import Logger

__all__ = ["Health"]

_log = Logger()

_RETRY = 10.0  # for how many seconds a failure to store new data stands, although other writes succeed


class Health:
    """
    The health of a database.

    :param where: where it is, for the log.

    :ivar refusal: why new data is refused without trying to store it; empty if it is not.
    """

    def __init__(self, where: str) -> None:
        self.refusal = ""
        self._where = where
        self._failure = ""
        self._failed_until = 0.0
        self._told = ""

    @property
    def trouble(self) -> str:
        """Why nothing new can be stored, as text for an operator; empty if it can."""
        return self.refusal or self._failure

    def opened(self) -> None:
        """Begin again: the database was just connected to."""
        self.refusal = self._failure = ""
        self._failed_until = 0.0

    def away(self, reason: str) -> None:
        """Refuse new data, since there is no connection."""
        self.refusal = reason
        self.tell()

    def back(self) -> None:
        """Take new data again: there is a connection."""
        self.opened()
        self.tell()

    def concluded(self, failure: str, new: bool, now: float) -> None:
        """
        Take note of the end of a transaction.

        :param failure: why it failed; empty if it did not.
        :param new: whether it had new data. If it fails then, smaller writes may still succeed, so this failure stands
            for some time.
        """
        if failure or new or now >= self._failed_until:
            self._failure = failure
        if failure and new:
            self._failed_until = now + _RETRY
        self.tell()

    def tell(self) -> None:
        """Log the beginning and the end of trouble."""
        trouble = self.trouble
        if trouble and trouble != self._told:
            _log.error("Nothing can be stored in {where}: {reason}", where=self._where, reason=trouble)
        elif self._told and not trouble:
            _log.info("{where} can be used again", where=self._where)
        self._told = trouble
