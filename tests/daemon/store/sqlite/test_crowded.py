"""Tests for :mod:`tests.daemon.store.sqlite.crowded`: it finds what reads a whole table."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.sqlite import test_feedback_log as test_feedback
from tests.daemon.store.sqlite import test_outcome_feed, test_outcomes, test_placing, test_queue, test_superseding
from tests.daemon.store.sqlite.crowded import STATEMENTS, STEPS, attempt, check, crowded
from tests.daemon.store.statements import run

__all__ = ["CONTRACTS", "CrowdedTests", "MillionTests"]

#: The modules with the contracts of what grows.
CONTRACTS = (test_feedback, test_outcome_feed, test_outcomes, test_placing, test_queue, test_superseding)


class CrowdedTests(SynchronousTestCase):
    """Statements for which there is an index, and others."""

    def test_costs(self) -> None:
        """What has no index takes more steps than are allowed, whatever its plan says, and what has one does not."""
        for statement, dear in (
            ("SELECT count(*) FROM queue_delivery", True),
            ("SELECT number FROM queue_delivery WHERE number > 0 AND status = 500 ORDER BY number LIMIT 10", True),
            ("SELECT * FROM feedback_token ORDER BY token DESC LIMIT 1", True),
            ("SELECT * FROM outcome_entry WHERE number = 7", True),
            ("DELETE FROM queue_key WHERE key = '7'", True),
            ("SELECT * FROM token_environment WHERE token = x'07'", True),
            ("SELECT number FROM queue_delivery WHERE number > 0 ORDER BY number LIMIT 10", False),
            ("SELECT count(*) FROM feedback_token WHERE app = 'chess' AND token = x'07'", False),
        ):
            self.assertEqual(crowded().steps(statement, ()) > STEPS, dear, statement)

    def test_check(self) -> None:
        """One of the program's that takes too many steps is an error, which shows it with its plan."""
        self.patch(STATEMENTS, "new", lambda: iter([("SELECT * FROM queue_key WHERE key = ?", ["7"])]))
        error = self.assertRaises(AssertionError, check)
        self.assertIn("WHERE key = ?", str(error))
        self.assertIn("SCAN queue_key", str(error))


@pytest.mark.campaign
class MillionTests(SynchronousTestCase):
    """A million rows of each kind."""

    def test_million(self) -> None:
        """What the contracts execute takes as few steps there, but for what looks at each of 5,000 apps."""
        self.assertEqual(run(*CONTRACTS), [])
        costs = crowded(1_000_000, 5_000)
        for statement, parameters in STATEMENTS.all():
            attempt(costs, statement, parameters, 40 * 5_000)
