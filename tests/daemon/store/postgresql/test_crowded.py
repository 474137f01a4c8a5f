"""Tests for :mod:`tests.daemon.store.postgresql.crowded`: it finds what reads a whole table."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.postgresql import test_feedback_log, test_outcome_feed, test_outcomes, test_queue
from tests.daemon.store.postgresql import test_superseding as test_supersede
from tests.daemon.store.postgresql.crowded import STATEMENTS, attempt, attempt_emptied, check, crowded, problems
from tests.daemon.store.statements import run
from txapns.daemon.store.postgresql.arrays import bigints, byteas

__all__ = ["CONTRACTS", "CrowdedTests", "MillionTests"]

#: The modules with the contracts of what grows.
CONTRACTS = (test_feedback_log, test_outcome_feed, test_outcomes, test_queue, test_supersede)


@pytest.mark.loopback
class CrowdedTests(SynchronousTestCase):
    """Statements for which there is an index, and others."""

    def test_problems(self) -> None:
        """What has no index touches more than is allowed, and what has one does not."""
        for statement, dear in (
            ("SELECT count(*) FROM queue", True),
            ("SELECT number FROM queue WHERE number > 0 AND status = 500 ORDER BY number LIMIT 10", True),
            ("SELECT * FROM feedback_token ORDER BY token DESC LIMIT 1", True),
            ("SELECT * FROM outcome_entry WHERE number = 7", True),
            ("DELETE FROM idempotency WHERE digest = '\\x07'", True),
            ("SELECT number FROM queue WHERE number > 0 ORDER BY number LIMIT 10", False),
            ("SELECT count(*) FROM feedback_token WHERE app = 'chess' AND token = '\\x07'", False),
        ):
            for counted in (False, True):
                found = crowded(counted).explained(statement, False, None)
                assert found is not None
                self.assertEqual(any(problems(found)), dear, statement)

    def test_check(self) -> None:
        """One of the program's that touches too much is an error, which shows it with its plan."""
        asked = ("SELECT * FROM idempotency WHERE digest = %s", True), [b"7"]
        self.patch(STATEMENTS, "new", lambda: iter([asked]))
        self.assertIn("WHERE digest = ", str(self.assertRaises(AssertionError, check)))

    def test_many_items(self) -> None:
        """How many items a test puts into an array makes no difference: the first of them are tried."""
        statement = "SELECT token FROM queue WHERE number = ANY(%(numbers)s) AND token = ANY(%(tokens)s)"
        parameters = {"numbers": bigints(range(1, 9_001)), "tokens": byteas([b"a", b""] * 4_500)}
        found = crowded(True).explained(statement, False, parameters)
        assert found is not None
        self.assertTrue(any(problems(found)))
        attempt(crowded(True), statement, False, parameters)

    def test_emptied(self) -> None:
        """What finds its rows by an index is told apart from what would read all of one, although nothing waits yet."""
        for statement, dear in (
            ("SELECT token FROM queue WHERE app = 7 AND token = '\\x07'", False),
            ("SELECT token FROM queue WHERE number = ANY('{7}')", False),
            ("SELECT token FROM queue WHERE due > 7", True),
            ("SELECT token FROM queue, unnest('{7,8}'::bigint[]) AS wanted (id) WHERE number = id", True),
            ("SELECT token FROM queue", True),
        ):
            try:
                attempt_emptied(statement, False, None)
            except AssertionError:
                self.assertTrue(dear, statement)
            else:
                self.assertFalse(dear, statement)


@pytest.mark.campaign
@pytest.mark.loopback
class MillionTests(SynchronousTestCase):
    """A million rows of each kind."""

    def test_million(self) -> None:
        """What the contracts execute touches as little there."""
        self.assertEqual(run(*CONTRACTS), [])
        for (statement, reads), parameters in STATEMENTS.all():
            attempt(crowded(True, 1_000_000), statement, reads, parameters)
