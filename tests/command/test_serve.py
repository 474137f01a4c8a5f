"""Tests for :mod:`txapns.command.serve`."""

from __future__ import annotations

from tests.command.case import CommandCase

__all__ = ["CheckConfigTests"]


class CheckConfigTests(CommandCase):
    """``txapns check-config``."""

    def test_wrong(self) -> None:
        """A wrong configuration is reported, a line for each mistake."""
        self.world.write("apns.toml", b"limits.body = 0\nlimits.queue = 0")
        said = self.refused("check-config")
        self.assertEqual([line.split(":")[1:2] for line in said.splitlines()], [[" apns.toml"], [" limits.queue"]])
