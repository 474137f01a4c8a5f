"""Tests for :mod:`txapns.daemon.store.sqlite.outcome_feed`."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import START, StoreContract
from tests.daemon.store.outcome_feed_contract import OutcomeFeedContract
from tests.daemon.store.sqlite.world import SQLiteWorld
from txapns.daemon.values import State

__all__ = ["SQLiteOutcomeFeedTests", "StepTests"]

_LOAD = """
WITH RECURSIVE series(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM series WHERE n < {last})
INSERT INTO outcome_entry
SELECT 1, n, n, randomblob(32), randomblob(16), 1, 200, '', NULL, 1, {date}, {date} + n, NULL, NULL FROM series
"""


class SQLiteOutcomeFeedTests(OutcomeFeedContract, SynchronousTestCase):
    """The contract."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))


class StepTests(StoreContract, SynchronousTestCase):
    """How many steps SQLite takes, with few entries and with many."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))

    def setUp(self) -> None:
        """Count the steps on both connections."""
        super().setUp()
        self.world.feed.keep(["chess", "news"])
        self.count = 0
        for perform in (self.world.database.read, self.world.database.write):
            self.result(perform(lambda connection: connection.set_progress_handler(self.step, 1)))

    def step(self) -> int:
        """Count one."""
        self.count += 1
        return 0

    def steps(self, name: str, *arguments: Any) -> int:
        """Count the steps of a method of the feed."""
        before = self.count
        self.result(getattr(self.world.feed, name)(*arguments))
        return self.count - before

    def load(self, first: int, last: int) -> None:
        """Record entries of an app that was seen."""

        def load(connection: sqlite3.Connection) -> None:
            connection.set_progress_handler(None, 1)
            connection.execute(_LOAD.format(first=first, last=last, date=int(START * 1000)))
            connection.execute("UPDATE outcome_head SET cursor = ? WHERE app = 1", [last])
            connection.set_progress_handler(self.step, 1)

        self.result(self.world.database.write(load))

    def measured(self, middle: int) -> dict[str, int]:
        """Use every method, and count the steps of each."""
        calls: list[tuple[str, Any]] = [
            ("after", ("chess", middle, 10)),
            ("after", ("news", 0, 10)),
            ("take", (None, "web", 10)),
            ("take", (["chess", "news"], "web", 10)),
            ("behind", (None, "web")),
            ("confirm", ("web", {"chess": middle})),
            ("take", (["chess"], "web", 10)),
            ("prune", (START - 1, 10**7, 10)),
            ("prune", (START + 0.005, 10**7, 10)),
            ("prune", (START - 1, middle, 10)),
        ]
        found = {f"{name} {arguments}": self.steps(name, *arguments) for name, arguments in calls}
        before = self.count
        self.accept(10)
        self.settle(self.lease(), State.ACCEPTED, 200)
        return {**found, "settle": self.count - before}

    def check(self, few: int, many: int) -> None:
        """Compare the steps: the number of entries changes nothing but the size of numbers."""
        self.accept(1)
        self.accept(1, "news")
        for app in ("chess", "news"):
            self.settle(self.lease(app=app), State.ACCEPTED, 200)
        self.load(2, few)
        first = self.measured(few // 2)
        self.load(few + 11, many)
        second = self.measured(few // 2)
        for (name, before), after in zip(first.items(), second.values(), strict=True):
            self.assertLess(after, before + 50, name)
            self.assertLess(after, 5_000, name)

    def test_thousands(self) -> None:
        """Twenty thousand entries cost what a thousand do."""
        self.check(1_000, 20_000)

    @pytest.mark.campaign
    def test_million(self) -> None:
        """A million entries cost what a thousand do."""
        self.check(1_000, 1_000_000)
