"""A run of the tests ends, and says where, if a worker dies or a test hangs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT

__all__ = ["AssertionTests", "RunTests"]

TESTS = {
    "test_killed.py": "import os, signal\ndef test_killed(): os.kill(os.getpid(), signal.SIGKILL)",
    "test_hangs.py": "import threading\ndef test_hangs(): threading.Event().wait()",
    "test_passes.py": "def test_passes(): pass",
}


class AssertionTests(SynchronousTestCase):
    """What the tests assert is what is checked."""

    def test_tolerance(self) -> None:
        """Tolerances are given to ``assertApproximates``: Twisted's ``assertAlmostEqual`` ignores ``delta``."""
        ignored = re.compile(r"\bassert(Not)?AlmostEqual\(")
        for path in (PROJECT / "tests").rglob("*.py"):
            self.assertNotRegex(path.read_text(), ignored, str(path))


@pytest.mark.campaign
class RunTests(SynchronousTestCase):
    """Runs with the project's options."""

    def test_ends(self) -> None:
        """The test that a worker died of and the one that hung are named, each once, and the run fails."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        for name, text in TESTS.items():
            (directory / name).write_text(text)
        command = [sys.executable, "-m", "pytest", "-c", PROJECT / "pyproject.toml", "-n", "3", "--dist", "loadfile"]
        command += ["-o", "faulthandler_timeout=3", "-p", "no:cacheprovider", "--basetemp", f"{directory}/scratch"]
        done = subprocess.run(
            [*command, "--rootdir", directory, directory],
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        crashed = re.findall(r"^worker '\w+' crashed while running '(\S+)'$", done.stdout, re.MULTILINE)
        self.assertEqual(sorted(crashed), ["test_hangs.py::test_hangs", "test_killed.py::test_killed"])
        self.assertIn("in test_hangs", done.stdout + done.stderr)
