"""Tests for :mod:`txapns.daemon.store.postgresql.outcomes`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.outcomes_contract import OutcomeLogContract
from tests.daemon.store.postgresql.world import PostgreSQLWorld
from tests.postgresql import schema

__all__ = ["PostgreSQLOutcomeLogTests"]


class PostgreSQLOutcomeLogTests(OutcomeLogContract, SynchronousTestCase):
    """The contract."""

    def make_world(self) -> PostgreSQLWorld:
        """Make one in a schema of its own."""
        return PostgreSQLWorld(schema(self))
