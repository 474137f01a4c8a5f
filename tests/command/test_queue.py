"""Tests for :mod:`txapns.command.queue`, while the daemon is not running."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.command.processes import txapns
from tests.daemon.store.contract import message
from tests.daemon.store.sqlite.world import SQLiteWorld
from txapns.daemon.values import Settlement, State

__all__ = ["QueueTests"]


@pytest.mark.campaign
class QueueTests(SynchronousTestCase):
    """``txapns queue`` while the daemon is not running."""

    def setUp(self) -> None:
        """Make a database with three dead letters and one waiting notification."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.config = self.directory / "apns.toml"
        self.config.write_text("intake.native.listen = 'tcp:port=1:interface=127.0.0.1'")
        self.world = SQLiteWorld(self.directory / "apns.db")
        self.world.queue.accept([message(self.world, 3)])
        self.world.clock.advance(0.01)
        leased = self.successResultOf(self.world.queue.lease("chess", 9, self.world.clock.seconds() + 60))
        self.world.queue.settle([Settlement(each.number, State.DEAD, 0, "no connection") for each in leased])
        self.world.queue.accept([message(self.world)])
        self.world.clock.advance(0.01)
        self.world.stop()

    def run_queue(self, *arguments: str, stdin: str = "") -> str:
        """Run the command; returns its output."""
        done = txapns("queue", *arguments, "--config", str(self.config), stdin=stdin)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout

    def refused(self, *arguments: str) -> str:
        """Run the command, which must fail; returns its error message."""
        done = txapns("queue", *arguments, "--config", str(self.config))
        self.assertEqual((done.returncode, done.stdout), (2, ""), done)
        self.assertNotIn("Traceback", done.stderr)
        return done.stderr

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """List as JSON."""
        return [json.loads(line) for line in self.run_queue("list", *arguments, "--json").splitlines()]

    def test_life(self) -> None:
        """Dead letters are listed, some retried, and the rest deleted."""
        first, *rest = self.rows("chess")
        self.assertEqual((len(rest), first["state"], first["reason"]), (2, "dead", "no connection"))
        self.assertEqual(self.run_queue("retry", "chess", "--limit", "1"), "waiting again: 1\n")
        self.assertEqual(
            [row["id"] for row in self.rows("chess", "--after", str(first["cursor"]))], [row["id"] for row in rest]
        )
        self.assertIn(first["id"], [row["id"] for row in self.rows("chess", "--state", "waiting")])
        self.assertTrue(self.run_queue("purge", "chess", stdin="y\n").endswith("[y/N]: deleted: 2\n"))
        self.assertEqual(self.run_queue("purge", "chess", "--state", "waiting", "--yes"), "deleted: 2\n")
        self.assertEqual(self.run_queue("list", "chess"), "")

    def test_not_sure(self) -> None:
        """After a "no" nothing is deleted."""
        done = txapns("queue", "purge", "chess", "--config", str(self.config), stdin="n\n")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(self.rows("chess")), 3)

    def test_no_answer(self) -> None:
        """If standard input has no answer, nothing is deleted, and the command says how to do without."""
        done = txapns("queue", "purge", "chess", "--config", str(self.config))
        self.assertEqual(done.returncode, 1)
        self.assertIn("nothing was deleted; give --yes if nobody can answer", done.stderr)
        self.assertEqual(len(self.rows("chess")), 3)

    def test_running(self) -> None:
        """If a daemon has the database open, it is asked at the address in the configuration."""
        self.world.start()
        self.addCleanup(self.world.stop)
        self.assertIn("no connection to the daemon at http://127.0.0.1:1: ", self.refused("list", "chess"))
        self.config.write_text("intake.native.listen = []")
        self.assertIn("give --url", self.refused("list", "chess"))

    def test_nothing_there(self) -> None:
        """There is no configuration, or no database yet, which is not made."""
        self.config.write_text("database.path = 'other.db'")
        self.assertIn("there is no database", self.refused("list", "chess"))
        self.assertFalse((self.directory / "other.db").exists())
        self.config.unlink()
        self.assertIn(
            "No such file or directory; give --config FILE, or try the daemon with txapns serve --demo",
            self.refused("list", "chess"),
        )

    def test_unknown_app(self) -> None:
        """An app that never was is refused; one that is only configured has an empty queue."""
        for command in (("list",), ("retry",), ("purge", "--yes")):
            self.assertEqual(self.refused(*command, "nope"), "Error: there is no app nope\n")
        self.config.write_text("[apps.new]\ncertificate = 'a.pem'")
        self.assertEqual(self.run_queue("list", "new"), "")
