"""A daemon's directory, and the command that works on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import Result
from twisted.trial.unittest import SynchronousTestCase

from tests.checks import invoke
from tests.daemon.world import world_of
from txapns.command.streams import UNUSABLE
from txapns.daemon.secrets.master_key import VARIABLE
from txapns.simulator import Authority

__all__ = ["AUTHORITY", "CommandCase"]

AUTHORITY = Authority()


class CommandCase(SynchronousTestCase):
    """The directory of a daemon, which a test may run, and the command."""

    def setUp(self) -> None:
        """Start it."""
        self.world = world_of(self)
        self.config("")
        self.pem = self.world.write("a.pem", AUTHORITY.client_pem())
        self.p8 = self.world.write("a.p8", AUTHORITY.p8)

    def config(self, text: str) -> None:
        """Write the configuration."""
        self.world.configure(text)
        self.world.write("apns.toml", text.encode())

    def invoke(self, *arguments: str | Path, stdin: bytes = b"", **environment: str | None) -> Result:
        """Run the command."""
        given = {"TXAPNS_CONFIG": str(self.world.directory / "apns.toml"), VARIABLE: None, "TXAPNS_PASSPHRASE": None}
        given |= environment
        return invoke(*arguments, input=stdin, env=given)

    def txapns(self, *arguments: str | Path, stdin: bytes = b"", **environment: str | None) -> str:
        """Run the command; returns its output."""
        result = self.invoke(*arguments, stdin=stdin, **environment)
        self.assertEqual((result.exit_code, result.stderr), (0, ""), result.output)
        return result.stdout

    def refused(self, *arguments: str | Path, stdin: bytes = b"", **environment: str | None) -> str:
        """Run the command, which must fail without output; returns its error message."""
        result = self.invoke(*arguments, stdin=stdin, **environment)
        self.assertEqual((result.exit_code, result.stdout), (UNUSABLE, ""), result.output)
        return result.stderr

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command that lists something."""
        return [json.loads(line) for line in self.txapns(*arguments, "--json").splitlines()]
