"""Nodes of two versions share a database while an upgrade is under way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from twisted.internet.threads import deferToThread

from tests.cluster.processes import Node
from tests.cluster.test_sharing import SharingCase
from tests.command.processes import environment
from txapns.daemon.store.postgresql.nodes import NODES

__all__ = ["UpgradeTests"]

# Programs whose tables have one step more, or two, the second of which others cannot use.
_LATER = """
import attrs
from txapns.daemon.store.postgresql import nodes
steps = *nodes.NODES.steps, "ALTER TABLE node ADD COLUMN rack text", "ALTER TABLE node RENAME rack TO stand"
nodes.NODES = attrs.evolve(nodes.NODES, steps=steps[:{known}], breaking={breaking})
from txapns.command.main import main
main()
"""
_KNOWN = NODES.known
_ADDING = _LATER.format(known=_KNOWN + 1, breaking=())
_BREAKING = _LATER.format(known=_KNOWN + 2, breaking=(_KNOWN + 2,))


@pytest.mark.campaign
@pytest.mark.loopback
class UpgradeTests(SharingCase):
    """This version is the old one."""

    names = ("n1", "n2", "n3")

    async def send(self, *nodes: Node) -> None:
        """Have each node accept something, which is sent."""
        for node in nodes:
            body = {"wait": True, "notifications": [{"tokens": ["aa" * 32], "payload": {"aps": {"alert": "Hi"}}}]}
            status, answer = await node.ask("POST", "/v1/apps/chess/notifications", body)
            self.assertEqual(200, status, answer)
            self.assertEqual("accepted", answer["notifications"][0]["outcomes"][0]["state"])

    async def run_later(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a later program."""
        command = [
            sys.executable,
            "-c",
            program,
            *map(str, arguments),
            "--config",
            str(self.directory / "n3/apns.toml"),
        ]
        return await deferToThread(
            lambda: subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)
        )

    async def test_upgrade(self) -> None:
        """
        Where a step only adds something, old nodes go on after the migration, and start again; only then does a new one
        start beside them. Where others cannot use it, they have to stop first, and do not start any more.
        """
        old, restarted, new = self.nodes.values()
        self.assertEqual(0, await new.end())
        refused = await self.run_later(_ADDING, "serve")
        self.assertIn("`txapns database migrate`", refused.stderr)
        migrated = await self.run_later(_ADDING, "database", "migrate")
        self.assertEqual(0, migrated.returncode, migrated.stderr)
        new = self.nodes["n3"] = Node("n3", self.directory / "n3/apns.toml", new.host, ("-c", _ADDING))
        await new.start()
        self.assertEqual(0, await restarted.end())
        await restarted.start()
        await self.send(old, restarted, new)
        refused = await self.run_later(_BREAKING, "database", "migrate")
        self.assertIn("stop them first: n1, n2, n3", refused.stderr)
        for node in (old, restarted, new):
            self.assertEqual(0, await node.end())
        migrated = await self.run_later(_BREAKING, "database", "migrate")
        self.assertEqual(0, migrated.returncode, migrated.stderr)
        with self.assertRaisesRegex(AssertionError, f"needs a program that knows version {_KNOWN + 2}"):
            await old.start()
