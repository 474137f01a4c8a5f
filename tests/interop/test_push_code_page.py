"""The test in JavaScript on ``docs/test-your-push-code.rst``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT
from tests.interop.programs import NODE_ENVIRONMENT, command
from tests.test_docs import TIMEOUT, write_named

__all__ = ["NodeTests"]


@pytest.mark.interop
class NodeTests(SynchronousTestCase):
    """What Node says of it."""

    def test_passes(self) -> None:
        """It passes, in a file of the name that the page says."""
        node, *_ = command("drive_node_apn.js")
        directory = Path(self.mktemp())
        [name] = write_named("docs/test-your-push-code.rst", directory, "javascript")
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        modules = {"NODE_PATH": str(NODE_ENVIRONMENT / "node_modules"), "PYTHONPATH": str(PROJECT), "PATH": path}
        assert shutil.which("txapns", path=path), "the command is not installed"
        done = subprocess.run(
            [node, "--test", name],
            cwd=directory,
            env={**os.environ, **modules},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("# fail 0", done.stdout)
