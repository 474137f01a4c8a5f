"""Read the text of a configuration, and compare what is said about its mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.config.configuration import Configuration
from txapns.daemon.errors import ConfigurationError

__all__ = ["COUNT", "HERE", "FaultsCase", "read"]

HERE = Path("/etc/txapns")
COUNT = "a whole number from 1 to 1000000000000"
ENDPOINT = 'an endpoint such as "tcp:port=8080:interface=127.0.0.1"'


def read(text: str) -> Configuration:
    """Read a configuration that is in /etc/txapns."""
    return Configuration.from_text(text, HERE)


class FaultsCase(SynchronousTestCase):
    """The messages about mistakes."""

    def check(self, wrong: Mapping[str, list[str]]) -> None:
        """Each mistake is a line: the key, what was found, what is allowed."""
        for text, lines in wrong.items():
            error = self.assertRaises(ConfigurationError, read, text)
            self.assertEqual(str(error).split("\n"), [f"apns.toml: {line}" for line in lines], text)
