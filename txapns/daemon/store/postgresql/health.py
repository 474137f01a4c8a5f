"""
Whether the database can accept new data.

Acceptance of notifications and the readiness check ask the same object, so that they always agree. While there is no
connection, new data is refused at once, and somebody tries to connect from time to time; outcomes of accepted
notifications are tried at any time. Otherwise the end of the last transaction decides.
"""

from __future__ import annotations

from txapns.daemon.store.health import StoreHealth

__all__ = ["Health"]


class Health(StoreHealth):
    """
    The health of a database on a server.

    :ivar detail: what the last failure was in the words of the server or of libpq, for the log.
    """

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.detail = ""
        self._away = ""

    @property
    def refusal(self) -> str:
        """Why new data is refused without trying to store it; empty if it is not."""
        return self._away

    @property
    def explanation(self) -> str:
        """What :attr:`trouble` says, with the details."""
        return f"{self.trouble}: {self.detail}" if self.trouble and self.detail else self.trouble

    def away(self, reason: str) -> None:
        """Refuse new data, since there is no connection."""
        self._away = reason

    def back(self) -> None:
        """Take new data again: there is a connection."""
        self._away = self._failure = self.detail = ""
        self._failed_until = 0.0
