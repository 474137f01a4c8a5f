"""
Whether the store can accept new data, and keep it.

Acceptance of notifications and the readiness check ask the same object, so that they always agree. It checks four
things:

- whether the open files are those that the paths name. If a file was removed or replaced, SQLite goes on without
  noticing, and everything written since is lost with the process;
- whether the database is damaged. Parts of a damaged database can still be read and written, so a success proves
  nothing: the damage stands until the next start, which checks the whole file. The file is also checked when another
  program has written to it;
- the result of the last transaction;
- how much room is left on the disk.

A check costs a few system calls. There is one for each group of notifications, just before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path

from txapns.daemon.errors import Unavailable
from txapns.daemon.store.health import StoreHealth

__all__ = ["Health"]

_REMEDY = "accepted notifications are still sent; put the file back, or restart the daemon"
_RETRY = 10.0  # in how many seconds to retry


class Health(StoreHealth):
    """
    The health of a database in a file.

    :param reserve: with fewer free bytes than this on the disk, new data is refused.
    """

    def __init__(self, path: Path, reserve: int) -> None:
        super().__init__(str(path))
        self._path = path
        self._directory = str(path.parent)
        self._reserve = reserve
        self._files: dict[str, tuple[int, int]] = {}
        self._damage = self._loss = self._scarcity = ""

    @property
    def lost(self) -> bool:
        """Whether a file was missing or replaced at the last check."""
        return bool(self._loss)

    @property
    def refusal(self) -> str:
        """Why new data is refused, as far as known without trying to store it; empty if it is not."""
        return self._damage or self._loss or self._scarcity

    def opened(self, damaged: bool) -> None:
        """Begin again: the files were just opened."""
        paths = [Path(f"{self._path}{suffix}") for suffix in ("", "-wal", "-shm")]
        self._files = {str(path): _identity(str(path)) for path in paths if path.exists()}
        self._damage = self._failure = ""
        if damaged:
            self.damaged()
        self.look()

    def closed(self) -> None:
        """Stop checking the files: they are closed."""
        self._files = {}

    def damaged(self) -> None:
        """Remember that the database is damaged."""
        self._damage = "the database is damaged: replace it with a backup, or move it away, and restart the daemon"

    def look(self) -> None:
        """Check the files and the disk. This may be called in any thread."""
        self._loss = self._lost()
        try:
            disk = os.statvfs(self._directory)
        except OSError as error:
            self._scarcity = f"the disk cannot be checked: {error.strerror}"
        else:
            self._scarcity = "the disk is nearly full" if disk.f_bavail * disk.f_frsize < self._reserve else ""

    def _lost(self) -> str:
        """Report a file that is not in its place. Accepted notifications are in the one that is open."""
        for path, identity in self._files.items():
            try:
                found = _identity(path)
            except FileNotFoundError:
                return f"{Path(path).name} was removed while the daemon uses it: {_REMEDY}"
            except OSError as error:
                return f"{Path(path).name} cannot be checked: {error.strerror}"
            if found != identity:
                return f"{Path(path).name} was replaced by another file while the daemon uses it: {_REMEDY}"
        return ""

    def check(self) -> None:
        """Refuse new data, with :class:`Unavailable`, if by the last check it could not be kept."""
        if self.refusal:
            raise Unavailable(self.refusal, _RETRY)


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116 - before each commit, and a Path takes four calls
    return found.st_dev, found.st_ino
