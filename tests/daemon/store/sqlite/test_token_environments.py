"""Tests for :mod:`txapns.daemon.store.sqlite.token_environments`."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import START, StoreContract
from tests.daemon.store.sqlite.world import SQLiteWorld
from tests.daemon.store.token_environments_contract import TokenEnvironmentsContract, known
from txapns.daemon.values import TokenKind

__all__ = ["SQLiteTokenEnvironmentsTests", "StepTests"]

_LOAD = """
WITH RECURSIVE series(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM series WHERE n < {last})
INSERT INTO token_environment
SELECT CASE n % 10 WHEN 0 THEN 'app-' || n % 1000 ELSE 'chess' END, CAST('token ' || n AS BLOB), 1 + n % 3,
    {date} + n FROM series
"""


class SQLiteTokenEnvironmentsTests(TokenEnvironmentsContract, SynchronousTestCase):
    """The contract."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))

    def test_damaged(self) -> None:
        """A row that another program has damaged is as if nothing were known of its token."""
        self.note({b"1": known(TokenKind.SANDBOX), b"2": known(TokenKind.SANDBOX), b"3": known(TokenKind.SANDBOX)})

        def damage(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE token_environment SET kind = 9 WHERE token = ?", [b"1"])
            connection.execute("UPDATE token_environment SET until = 'Friday' WHERE token = ?", [b"2"])

        self.result(self.world.database.write(damage))
        self.assertEqual(list(self.known()), [b"3"])


class StepTests(StoreContract, SynchronousTestCase):
    """How many steps SQLite takes, with few tokens and with many."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))

    def setUp(self) -> None:
        """Count the steps on both connections."""
        super().setUp()
        self.count = 0
        for perform in (self.world.database.read, self.world.database.write):
            self.result(perform(lambda connection: connection.set_progress_handler(self.step, 1)))

    def step(self) -> int:
        """Count one."""
        self.count += 1
        return 0

    def load(self, first: int, last: int) -> None:
        """Take note of many."""

        def load(connection: sqlite3.Connection) -> None:
            connection.set_progress_handler(None, 1)
            connection.execute(_LOAD.format(first=first, last=last, date=int(START * 1000)))
            connection.set_progress_handler(self.step, 1)

        self.result(self.world.database.write(load))

    def measured(self) -> dict[str, int]:
        """Use every method, and count the steps of each."""
        tokens = [b"token %d" % n for n in range(100)]
        calls: list[tuple[str, Any]] = [
            ("known", ("chess", tokens)),
            ("known", ("nobody", tokens)),
            ("note", ("chess", {b"token 1": known(TokenKind.SANDBOX), b"token 2": None, b"new": None})),
            ("prune", (START - 1, 500, 1)),
            ("prune", (START + 1, 500, 1)),
            ("prune", (START - 1, 50, 1)),
        ]
        found = {}
        for name, arguments in calls:
            before = self.count
            self.result(getattr(self.world.tokens, name)(*arguments))
            found[f"{name} {arguments}"] = self.count - before
        return found

    def check(self, few: int, many: int) -> None:
        """Compare the steps: the number of tokens changes nothing but the size of numbers."""
        self.load(1, few)
        first = self.measured()
        self.load(few + 11, many)
        second = self.measured()
        for (name, before), after in zip(first.items(), second.values(), strict=True):
            self.assertLess(after, before + 3_000, name)
            self.assertLess(after, 20_000, name)

    def test_thousands(self) -> None:
        """Twenty thousand tokens cost what two thousand do."""
        self.check(2_000, 20_000)

    @pytest.mark.campaign
    def test_million(self) -> None:
        """A million tokens cost what two thousand do."""
        self.check(2_000, 1_000_000)
