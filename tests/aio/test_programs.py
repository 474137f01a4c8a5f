"""Programs on asyncio, each a process of its own, which leave nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.trial.unittest import SkipTest

from tests import PROJECT
from tests.aio.case import EXPECTED, AioCase
from tests.command.processes import environment
from tests.interop.test_frameworks import FRAMEWORKS

__all__ = ["ProgramTests", "UvloopTests"]

#: How long a program may take with all its cases, in seconds; on a busy machine that is long.
PATIENCE = 120


class ProgramCase(AioCase):
    """The cases of ``program.py``."""

    def check(self, runner: str, expected: dict[str, list[Any]], *packages: Path) -> None:
        """Run them; the outcomes are exact, there is no warning, and no thread, socket or global reactor is left."""
        command = [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.aio.program", runner]
        path = os.pathsep.join(map(str, [PROJECT, *packages]))
        variables = environment(PYTHONPATH=path, SIMULATOR=str(self.simulator.state.absolute()))
        done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=PATIENCE, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(json.loads(done.stdout), {**expected, "reactor": False, "threads": 1, "left": []})


class ProgramTests(ProgramCase):
    """On asyncio's own loop."""

    def test_asyncio(self) -> None:
        """``asyncio.run``, several times in a row."""
        self.check("asyncio", EXPECTED)

    def test_select(self) -> None:
        """A loop that has only ``select``, and is ended by hand."""
        self.check("select", EXPECTED)

    def test_threads(self) -> None:
        """Loops in four threads at once."""
        self.check("threads", EXPECTED)

    def test_running(self) -> None:
        """A loop that runs already, as in a notebook."""
        self.check("running", EXPECTED)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_forked(self) -> None:
        """A child cannot use the client of its parent, and says so at once; the parent goes on using it."""
        self.check("forked", {case: [0, 1, outcome] for case, outcome in EXPECTED.items()})


@pytest.mark.interop
class UvloopTests(ProgramCase):
    """On uvloop's loop."""

    def test_uvloop(self) -> None:
        """``uvloop.run``, several times in a row."""
        if not (FRAMEWORKS / "installed").exists():
            raise SkipTest("not installed: run make interop")
        self.check("uvloop", EXPECTED, FRAMEWORKS)
