"""What the health of every store is made of."""

from __future__ import annotations

from twisted.logger import Logger

__all__ = ["StoreHealth"]

_log = Logger()

_RETRY = 10.0  # for how many seconds a failure to store new data stands, although other writes succeed


class StoreHealth:
    """
    Whether a store can accept new data, by what became of the last transaction.

    A class that derives from it knows further reasons to refuse new data.

    :param where: where the store is, for the log.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._failure = ""
        self._failed_until = 0.0
        self._told = ""

    @property
    def refusal(self) -> str:
        """Why new data is refused, as far as known without trying to store it; empty if it is not."""
        return ""

    @property
    def trouble(self) -> str:
        """Why nothing new can be stored, as text for an operator; empty if it can."""
        return self.refusal or self._failure

    @property
    def explanation(self) -> str:
        """What :attr:`trouble` says, for the log, which only operators read."""
        return self.trouble

    def concluded(self, failure: str, new: bool, now: float) -> None:
        """
        Take note of the end of a transaction.

        :param failure: why it failed; empty if it did not.
        :param new: whether it had new data. If it fails then, smaller writes may still succeed, so this failure stands
            for some time.
        """
        if failure or new or now >= self._failed_until:
            self._failure = failure
        if failure and new and not self.refusal:
            self._failed_until = now + _RETRY

    def tell(self) -> None:
        """Log the beginning and the end of trouble."""
        trouble = self.trouble
        if trouble and trouble != self._told:
            _log.error("Nothing can be stored in {where}: {reason}", where=self._where, reason=self.explanation)
        elif self._told and not trouble:
            _log.info("{where} can be used again", where=self._where)
        self._told = trouble
