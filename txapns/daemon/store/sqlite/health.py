"""
Whether the store can take what is new, and keep it.

Those who accept a notification and those who answer "are you ready?" ask the same object, so that they never differ.
It knows four things:

- whether the files that are open are those that the paths name. SQLite goes on with a file that was removed or replaced
  as if nothing had been, and everything is lost with the process;
- whether the database is damaged. Some of it may still be read and written, so one success says nothing: damage stays
  until the next start, which looks through all of it, as is done when somebody else has written to the file;
- what came of the last transaction;
- how much room there is on the disk.

To look costs a few system calls. It is done for each group of notifications, just before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.logger import Logger

from txapns.daemon.errors import Unavailable

__all__ = ["Health"]

_log = Logger()

_REMEDY = "what was accepted before is still sent; put the file back, or start the daemon again"
_RETRY = 10.0  # in how many seconds it is worth another try


class Health:
    """
    The health of a database in a file.

    :param path: the file.
    :param reserve: nothing new is taken when the disk has less room than so many octets.
    """

    def __init__(self, path: Path, reserve: int) -> None:
        self._path = path
        self._directory = path.parent
        self._reserve = reserve
        self._files: dict[Path, tuple[int, int]] = {}
        self._damage = self._loss = self._scarcity = self._failure = ""
        self._failed_until = 0.0
        self._told = ""

    @property
    def lost(self) -> bool:
        """Whether a file was not where it should be when it was last looked for."""
        return bool(self._loss)

    @property
    def refusal(self) -> str:
        """Why nothing new may be stored, as far as that is known without trying; empty if it may."""
        return self._damage or self._loss or self._scarcity

    @property
    def trouble(self) -> str:
        """Why nothing new can be stored, for a person; empty if it can."""
        return self.refusal or self._failure

    def opened(self, damaged: bool) -> None:
        """
        The files were opened just now; what was before counts no more.

        :param damaged: whether they turned out to be damaged.
        """
        paths = [Path(f"{self._path}{suffix}") for suffix in ("", "-wal", "-shm")]
        self._files = {path: _identity(path) for path in paths if path.exists()}
        self._damage = self._failure = ""
        if damaged:
            self.damaged()
        self.look()

    def closed(self) -> None:
        """The files are closed; where they are does not matter any more."""
        self._files = {}

    def damaged(self) -> None:
        """The database turned out to be damaged."""
        self._damage = "the database is damaged: put a copy in its place, or move it away, and start the daemon again"

    def concluded(self, failure: str, new: bool, now: float) -> None:
        """
        A transaction is over.

        :param failure: why it could not be done; empty if it could.
        :param new: whether something new was in it. Where that fails, smaller writes may still succeed, so the failure
            counts for a while.
        :param now: the time.
        """
        if failure or new or now >= self._failed_until:
            self._failure = failure
        if failure and new and not self.refusal:
            self._failed_until = now + _RETRY

    def look(self) -> None:
        """Find out what can be found out without trying. This may be called in any thread."""
        self._loss = self._lost()
        try:
            disk = os.statvfs(self._directory)
        except OSError as error:
            self._scarcity = f"the disk cannot be checked: {error.strerror}"
        else:
            self._scarcity = "the disk is nearly full" if disk.f_bavail * disk.f_frsize < self._reserve else ""

    def _lost(self) -> str:
        """Say which of the files is not where it was; what was accepted before is in the one that is open."""
        for path, identity in self._files.items():
            try:
                found = _identity(path)
            except FileNotFoundError:
                return f"{path.name} was removed while the daemon uses it: {_REMEDY}"
            except OSError as error:
                return f"{path.name} cannot be checked: {error.strerror}"
            if found != identity:
                return f"{path.name} was replaced by another file while the daemon uses it: {_REMEDY}"
        return ""

    def check(self) -> None:
        """
        Refuse what is new if it could not be kept, as was found when it was last looked.

        :raises Unavailable: it could not.
        """
        if self.refusal:
            raise Unavailable(self.refusal, _RETRY)

    def tell(self) -> None:
        """Log trouble when it begins and when it is over, and not between."""
        trouble = self.trouble
        if trouble and trouble != self._told:
            _log.error("Nothing can be stored in {path}: {trouble}", path=str(self._path), trouble=trouble)
        elif self._told and not trouble:
            _log.info("{path} can be used again", path=str(self._path))
        self._told = trouble


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
