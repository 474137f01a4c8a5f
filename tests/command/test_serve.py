"""Tests for :mod:`txapns.command.serve`."""

from __future__ import annotations

from tests.command.case import CommandCase

__all__ = ["CheckConfigTests", "ServeTests"]


class CheckConfigTests(CommandCase):
    """``txapns check-config``."""

    def test_wrong(self) -> None:
        """A wrong configuration is reported, a line for each mistake."""
        self.world.write("apns.toml", b"limits.body = 0\nlimits.queue = 0")
        said = self.refused("check-config")
        self.assertEqual([line.split(":")[1:2] for line in said.splitlines()], [[" apns.toml"], [" limits.queue"]])


class ServeTests(CommandCase):
    """``txapns serve``."""

    def test_exclusive(self) -> None:
        """An option that would have no effect is refused."""
        for arguments in (("--directory", "d"), ("--port", "8080"), ("--check-config", "--port", "1")):
            self.assertIn("--directory and --port are for --demo.", self.refused("serve", *arguments))
        self.assertIn("--demo takes no --config.", self.refused("serve", "--demo", "--config", "apns.toml"))

    def test_port(self) -> None:
        """The demonstration needs the next port, too, so the last one is refused."""
        result = self.invoke("serve", "--demo", "--port", "65535")
        self.assertEqual((result.exit_code, result.stdout), (2, ""))
        self.assertIn("0<=x<=65534", result.stderr)
