"""Tests for :mod:`txapns.command.tables`."""

from __future__ import annotations

import io
import os
import re
import sys

from twisted.trial.unittest import SynchronousTestCase

from txapns.command.tables import print_rows

__all__ = ["RowsTests"]

ROWS = [
    {"name": "a", "apps": ["x", "y"], "manage": True, "problem": None},
    {"name": "long", "apps": [], "manage": False, "problem": "bad\x1b[1m\nword"},
]


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


class RowsTests(SynchronousTestCase):
    """Lists."""

    def shown(self, file: io.StringIO, as_json: bool = False) -> str:
        """Write a list to a file; returns what was written."""
        self.patch(sys, "stdout", file)
        self.patch(os, "environ", {"TERM": "dumb", "COLUMNS": "80"})
        print_rows([], as_json)
        self.assertEqual(file.getvalue(), "")
        print_rows(ROWS, as_json)
        return file.getvalue()

    def test_json(self) -> None:
        """A program gets the values as they are."""
        first = '{"name": "a", "apps": ["x", "y"], "manage": true, "problem": null}\n'
        self.assertTrue(self.shown(io.StringIO(), as_json=True).startswith(first))

    def test_columns(self) -> None:
        """In a pipe there are columns of words, and nothing that moves the cursor."""
        self.assertEqual(
            self.shown(io.StringIO()),
            "name  apps  manage  problem\na     x,y   yes     -\nlong  -     no      bad�[1m�word\n",
        )

    def test_terminal(self) -> None:
        """A person gets a table."""
        lines = re.sub(r"\x1b\[\d+m", "", self.shown(Screen())).splitlines()
        self.assertEqual(len(lines), 6)
        self.assertRegex(lines[1], "^. name . apps . manage . problem +.$")
        self.assertRegex(lines[4], "^. long . - +. no +. bad�.1m�word .$")
