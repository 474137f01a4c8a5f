"""Tests for :mod:`txapns._reactors.logs`: each in a process of its own, since a log is the whole process's."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.command.processes import TIMEOUT, environment

__all__ = ["ForwardTests"]

_LOGGING = "import logging; logging.basicConfig(format='logging %(levelname)s %(name)s: %(message)s', level='INFO')\n"
_FORWARD = "from txapns._reactors.logs import forward_logs; forward_logs(); forward_logs()\n"
_LOG = """
from twisted.logger import Logger
Logger("txapns.x").debug("never")
Logger("txapns.x").warn("careful {name}", name="Ann")
Logger("elsewhere").warn("not ours")
"""
_BEGIN = """
from twisted.logger import globalLogBeginner, textFileLogObserver
import sys
globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
"""
_PYTHON = "from twisted.python.log import PythonLoggingObserver; PythonLoggingObserver().start()\n"


class ForwardTests(SynchronousTestCase):
    """Who gets to know what."""

    def said(self, *parts: str) -> list[str]:
        """Run a program; returns what it wrote to its standard error."""
        command = [sys.executable, "-c", "".join(parts)]
        ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=TIMEOUT, check=True)
        return ended.stderr.splitlines()

    def test_logging(self) -> None:
        """While nobody listens to Twisted's log, our messages go to logging, each once."""
        self.assertEqual(self.said(_LOGGING, _FORWARD, _LOG), ["logging WARNING txapns.x: careful Ann"])

    def test_nothing_configured(self) -> None:
        """What logging does without a configuration it does with ours, too."""
        self.assertEqual(self.said(_FORWARD, _LOG), ["careful Ann"])

    def test_begun(self) -> None:
        """Where Twisted's log was begun, before or afterwards, it has them, and logging does not."""
        for parts in ((_BEGIN, _FORWARD), (_FORWARD, _BEGIN)):
            ours = [line for line in self.said(_LOGGING, *parts, _LOG) if "careful" in line]
            self.assertEqual(len(ours), 1, ours)
            self.assertNotIn("logging", ours[0])

    def test_logging_by_twisted(self) -> None:
        """Where Twisted's own observer passes everything on to logging, nothing comes twice."""
        for parts in ((_PYTHON, _FORWARD), (_FORWARD, _PYTHON)):
            ours = [line for line in self.said(_LOGGING, *parts, _LOG) if "careful" in line]
            self.assertEqual(ours, ["logging WARNING twisted: careful Ann"])

    def test_critical(self) -> None:
        """A critical failure is where Twisted puts it, and only there."""
        said = self.said(_LOGGING, _FORWARD, "from twisted.logger import Logger; Logger('txapns.x').critical('broken')")
        self.assertEqual([line.strip() for line in said], ["broken"])
