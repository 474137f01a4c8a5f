"""Tests for :mod:`txapns.command.main`: how commands are found and described, and which libraries they need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT
from tests.checks import invoke
from tests.command.processes import TIMEOUT, refused, run_without, txapns
from txapns import __version__

__all__ = ["MissingTests", "UsageTests"]


class UsageTests(SynchronousTestCase):
    """Errors in the command line are reported before a file is read or a port opened."""

    def test_version(self) -> None:
        """``--version`` prints the version."""
        result = txapns("--version")
        self.assertEqual((result.returncode, result.stdout), (0, f"txapns {__version__}\n"))

    def test_help(self) -> None:
        """Each command describes itself."""
        result = txapns("--help")
        self.assertEqual((result.returncode, result.stdout[:6]), (0, "Usage:"))
        for name in ("simulate", "send", "inspect", "lint", "doctor"):
            described = invoke(name, "--help")
            self.assertEqual((described.exit_code, described.output[:6]), (0, "Usage:"))
            self.assertNotRegex(result.stdout + described.output, r"[^]]\.\.\.\n")

    def test_summaries(self) -> None:
        """The help text of the whole has the first sentence of each command's own, and imports no command for it."""
        names = (
            "[name for name in sys.modules if name == 'rich.table' or name.startswith(('twisted', 'txapns.daemon'))]"
        )
        program = f"""
import sys
from click import Context
from txapns.command.main import main
context = Context(main)
said = " ".join(main.get_help(context).split())
print({names})
summaries = {{name: main.get_command(context, name).get_short_help_str(1000) for name in main.list_commands(context)}}
print([name for name, summary in summaries.items() if f"{{name}} {{summary}}" not in said])
"""
        result = subprocess.run(
            [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=TIMEOUT, check=True
        )
        self.assertEqual(result.stdout, "[]\n[]\n")

    def test_incomplete(self) -> None:
        """Options that are missing, or that exclude each other, are named."""
        here = str(Path(__file__))
        certificate = "--certificate", here
        send = "send", "--tokens", here
        for arguments, sentence in (
            (("simulate",), "Missing option '--state'"),
            (("simulate", "--state", "x", "--http2", "70000"), "70000 is not in the range"),
            (("simulate", "--state", "x", "--fault", "rudeness"), "'rudeness' is not one of 'silent-close', "),
            (("send",), "either --token or --tokens"),
            ((*send, "--token", "aa"), "either --token or --tokens"),
            ((*send, "--alert", "x"), "either --certificate or --key"),
            ((*send, "--alert", "x", *certificate, "--key", here), "either --certificate or --key"),
            ((*send, "--alert", "x", "--key", here), "--key needs --key-id and --team-id"),
            (("send", "--certificate", "nowhere", "--tokens", here), "'nowhere': No such file"),
            (("send", "--tokens", "nowhere"), "'nowhere': No such file"),
        ):
            self.assertIn(sentence, refused(*arguments))


class MissingTests(SynchronousTestCase):
    """The command without packages that only a part of it needs."""

    def test_command_line(self) -> None:
        """Without the packages for the command line it says what to install, and nothing else."""
        sentence = 'The txapns command needs click and rich: pip install "txapns[cli]"\n'
        for name in ("click", "rich"):
            self.assertEqual(run_without(name), (2, "", sentence))

    def test_daemon(self) -> None:
        """The daemon's commands say what to install; the others work, and only they are listed."""
        sentence = 'Error: The daemon needs msgspec: pip install "txapns[daemon]"\n'
        self.assertEqual(run_without("msgspec", "apps", "list"), (2, "", sentence))
        status, said, _ = run_without("msgspec", "--help")
        listed = [f"\n  {name} " in said for name in ("simulate", "send", "keys")]
        self.assertEqual((status, listed), (0, [True, True, False]))
        for command in ("simulate", "send"):
            status, said, _ = run_without("msgspec", command, "--help")
            self.assertEqual((status, said[:6]), (0, "Usage:"))

    def test_sending_needs_nothing_of_the_daemon(self) -> None:
        """Sending imports nothing of the daemon."""
        names = "[name for name in sys.modules if 'txapns.daemon' in name or name == 'msgspec']"
        program = f"import sys, txapns.command.main, txapns.command.send, txapns.command.simulate; print({names})"
        result = subprocess.run(
            [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=TIMEOUT, check=True
        )
        self.assertEqual(result.stdout, "[]\n")
