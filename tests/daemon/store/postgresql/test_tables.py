"""Tests for :mod:`txapns.daemon.store.postgresql.tables`: what each step makes of rows that are there."""

from __future__ import annotations

import attrs
import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.postgresql.opened import OpenedDatabase
from txapns.daemon.store.postgresql.tables import QUEUE

__all__ = ["MigrationTests"]

_ROWS = """
INSERT INTO lane (name) VALUES ('chess'), ('news');
INSERT INTO queue (number, message, due, accepted_at, app, apns_id, token)
SELECT n, n, 1, 1, 1 + n % 2, md5(n::text)::uuid, '' FROM generate_series(1, 4) AS n;
INSERT INTO outcome SELECT n, n, 1, 1, 1, NULL, 1 + n % 2, 1, 0, n, md5(n::text)::uuid, '', ''
FROM generate_series(1, 4) AS n
"""


@pytest.mark.loopback
class MigrationTests(SynchronousTestCase):
    """Tables of an earlier version."""

    def test_flows(self) -> None:
        """What waits, and what can be retried, is in the normal lane of its app."""
        opened = OpenedDatabase(self)
        opened.result(opened.database.prepare(attrs.evolve(QUEUE, steps=QUEUE.steps[:3], breaking=())))
        for statement in _ROWS.split(";"):
            opened.execute(statement)
        opened.result(opened.database.prepare(QUEUE))
        names = "JOIN flow ON flow.id = flow JOIN queue_app ON queue_app.id = flow.app AND flow.app = {0}.app"
        for table, found in (("queue", [1, 2, 3, 4]), ("outcome", [4])):
            rows = opened.execute(f"SELECT number, lane, caller FROM {table} {names.format(table)} ORDER BY number")
            self.assertEqual(rows, [(number, 1, "anybody") for number in found])
