"""Tests that ``make bench`` works: with next to nothing to send, so that the figures mean nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import TestCase
from xml.etree import ElementTree

import pytest
from docutils.core import publish_doctree

from tests import PROJECT
from tests.postgresql import TEMPORARY

__all__ = ["GoalsTests", "StoreTests"]


class GoalsTests(TestCase):
    """The command that measures what has a goal."""

    def setUp(self) -> None:
        """Make a directory for what it writes, which the user that PostgreSQL runs as can enter."""
        directory = tempfile.TemporaryDirectory(dir=TEMPORARY)
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.directory.chmod(0o755)

    def goals(self, *arguments: str) -> str:
        """Run it; returns what it printed."""
        command = [sys.executable, str(PROJECT / "benchmarks/goals.py"), *arguments]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def measure(self, *arguments: str) -> list[dict[str, Any]]:
        """Measure quickly; returns the rows."""
        written = self.directory / "goals.json"
        where = ["--directory", str(self.directory), "--docs", str(self.directory), "--json", str(written)]
        self.goals("--quick", *where, *arguments)
        rows: list[dict[str, Any]] = json.loads(written.read_text())["rows"]
        return rows

    def test_rows(self) -> None:
        """
        Each row has a figure, what it was held against, and what the rest of the machine did. The page and the plot for
        the documentation have all rows and no errors.
        """
        rows = self.measure("--rows", "help")
        assert [row["goal"]["name"] for row in rows] == ["help", "import"], "both are measured together"
        for row in rows:
            assert row["figure"] > 0
            assert row["reached"] == (row["figure"] <= row["goal"]["wanted"])
            assert row["others"][0] >= 0
        page = (self.directory / "goals.rst").read_text()
        document = publish_doctree(page, settings_overrides={"report_level": 2, "halt_level": 2})
        [plot] = [node["uri"] for node in document.findall() if node.tagname == "image"]
        assert "txapns --help" in page
        drawn = ElementTree.parse(self.directory / plot)
        assert any("txapns --help" in (each.text or "") for each in drawn.iter("{http://www.w3.org/2000/svg}text"))

    def test_names(self) -> None:
        """Each row has a name of its own, by which it can be asked for, and no other."""
        names = [line.split()[0] for line in self.goals("--list").splitlines()]
        assert len(names) == len(set(names)) > 10
        with pytest.raises(AssertionError, match="no rows nonsense"):
            self.goals("--rows", "nonsense")

    @pytest.mark.campaign
    def test_all(self) -> None:
        """All rows can be measured where the programs that they need are installed, and say so where they are not."""
        for row in self.measure():
            assert "figure" in row or row["missing"].startswith("needs "), row


class StoreTests(TestCase):
    """The command that measures the queue by itself."""

    def test_nothing_else_waits(self) -> None:
        """It settles what it has accepted, and ends, even if nothing else waits."""
        command = [sys.executable, str(PROJECT / "benchmarks/store.py"), "--waiting", "0", "--count", "1050"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count("0 more wait: lease and settle") == 3
