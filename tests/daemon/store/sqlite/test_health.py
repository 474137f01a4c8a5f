"""Tests for :mod:`txapns.daemon.store.sqlite.health`."""

from __future__ import annotations

from pathlib import Path

from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.errors import Unavailable
from txapns.daemon.store.sqlite.health import Health

__all__ = ["HealthTests"]


class HealthTests(SynchronousTestCase):
    """The health of a store in some files."""

    def setUp(self) -> None:
        """Create the files that SQLite has open."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.paths = [self.directory / f"apns.db{suffix}" for suffix in ("", "-wal", "-shm")]
        for path in self.paths:
            path.touch()
        self.health = Health(self.paths[0], 0)
        self.health.opened(damaged=False)

    def look(self) -> str:
        """Check, and return the trouble."""
        self.health.look()
        return self.health.trouble

    def test_sound(self) -> None:
        """Nothing is wrong."""
        self.assertEqual((self.health.check(), self.health.refusal, self.look()), (None, "", ""))

    def test_removed(self) -> None:
        """The removal of any of the files is reported with its name; put back, it is fine again."""
        for path in self.paths:
            away = path.rename(self.directory / "away")
            self.health.look()
            error = self.assertRaises(Unavailable, self.health.check)
            self.assertIn(f"{path.name} was removed", str(error))
            self.assertEqual((self.health.refusal, self.look()), (str(error), str(error)))
            away.rename(path)
            self.assertEqual(self.look(), "")

    def test_replaced(self) -> None:
        """Another file in its place is reported, even with the same content."""
        for path in self.paths:
            away = path.rename(self.directory / "away")
            path.touch()
            self.assertIn(f"{path.name} was replaced", self.look())
            away.replace(path)
            self.assertEqual(self.look(), "")

    def test_unreachable(self) -> None:
        """If a file cannot be checked, nothing is accepted either."""
        away = self.directory.rename(self.mktemp())
        self.directory.touch()
        self.assertIn("cannot be checked: Not a directory", self.look())
        self.directory.unlink()
        away.rename(self.directory)
        self.assertEqual(self.look(), "")

    def test_closed(self) -> None:
        """Once closed, they may be removed."""
        self.health.closed()
        for path in self.paths:
            path.unlink()
        self.assertEqual(self.look(), "")

    def test_damaged(self) -> None:
        """Damage stands until the files are opened again, whatever succeeds meanwhile."""
        self.health.damaged()
        self.health.concluded("", True, 0.0)
        self.assertIn("the database is damaged", self.look())
        self.assertRaises(Unavailable, self.health.check)
        self.health.opened(damaged=True)
        self.assertIn("the database is damaged", self.look())
        self.health.opened(damaged=False)
        self.assertEqual(self.look(), "")

    def test_transactions(self) -> None:
        """A failed transaction is trouble, but does not refuse the next."""
        self.health.concluded("the disk is full", False, 5.0)
        self.assertEqual((self.health.check(), self.look()), (None, "the disk is full"))
        self.health.concluded("", False, 5.0)
        self.assertEqual(self.look(), "")

    def test_small(self) -> None:
        """After new data failed, a success without any does not end the trouble at once; one with new data does."""
        for now, new, found in ((5.0, False, "the disk is full"), (15.0, False, ""), (5.0, True, "")):
            self.health.concluded("the disk is full", True, 5.0)
            self.health.concluded("", new, now)
            self.assertEqual((self.health.check(), self.look()), (None, found))

    def test_room(self) -> None:
        """With too little room on the disk, new data is refused."""
        health = Health(self.paths[0], 2**80)
        health.opened(damaged=False)
        self.assertEqual(str(self.assertRaises(Unavailable, health.check)), "the disk is nearly full")

    def test_told(self) -> None:
        """The beginning, the change and the end of trouble are logged."""
        seen: list[LogEvent] = []
        globalLogPublisher.addObserver(seen.append)
        self.addCleanup(globalLogPublisher.removeObserver, seen.append)
        for failure in ("", "the disk is full", "the disk is full", "another", "", ""):
            self.health.concluded(failure, True, 0.0)
            self.health.tell()
        path = self.paths[0]
        expected = [
            f"Nothing can be stored in {path}: the disk is full",
            f"Nothing can be stored in {path}: another",
            f"{path} can be used again",
        ]
        self.assertEqual([formatEvent(event) for event in seen], expected)
