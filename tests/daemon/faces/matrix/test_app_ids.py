"""Tests for :mod:`txapns.daemon.faces.matrix.app_ids`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.config.sections import MatrixAppSection
from txapns.daemon.faces.matrix.app_ids import AppIds

__all__ = ["AppIdTests"]


class AppIdTests(SynchronousTestCase):
    """Which app an app id means."""

    def find(self, app_id: str, *patterns: str) -> str | None:
        """Find the pattern that an app id matches."""
        names = {f"app-{number}": pattern for number, pattern in enumerate(patterns)}
        found = AppIds({pattern: MatrixAppSection(app=name) for name, pattern in names.items()}).find(app_id)
        return None if found is None else names[found.app]

    def test_exact(self) -> None:
        """An app id that is written out comes before patterns; nothing else in it is a pattern."""
        patterns = ("*", "com.example.a", "com.example.*")
        self.assertEqual(self.find("com.example.a", *patterns), "com.example.a")
        self.assertIsNone(self.find("com-example.a", "com.example.a"))
        self.assertIsNone(self.find("a", "[a-z]", "A", "."))
        self.assertIsNone(self.find("com.example.ab", "com.example.a"))

    def test_patterns(self) -> None:
        """A star stands for any characters and a question mark for one; of several patterns the longest is meant."""
        patterns = ("*", "com.*", "com.example.?", "com.example.a*")
        self.assertEqual(self.find("com.example.b", *patterns), "com.example.?")
        self.assertEqual(self.find("com.example.a", *patterns), "com.example.a*")
        self.assertEqual(self.find("com.example.", *patterns), "com.*")
        self.assertEqual(self.find("\n", *patterns), "*")
        self.assertIsNone(self.find("com.example.bb", "com.example.?"))

    def test_long(self) -> None:
        """An app id that is too long is unknown, and no pattern takes long."""
        self.assertEqual(self.find("a" * 64, "*"), "*")
        self.assertIsNone(self.find("a" * 65, "*"))
        self.assertIsNone(self.find("a" * 64, "*" * 50 + "b", "*a" * 20 + "*b"))
