"""Tests for :mod:`txapns.daemon.store.postgresql.token_environments`."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.postgresql.world import PostgreSQLWorld
from tests.daemon.store.token_environments_contract import TokenEnvironmentsContract
from tests.postgresql import schema

__all__ = ["PostgreSQLTokenEnvironmentsTests"]


@pytest.mark.loopback
class PostgreSQLTokenEnvironmentsTests(TokenEnvironmentsContract, SynchronousTestCase):
    """The contract. The plans are with those of the queue."""

    def make_world(self) -> PostgreSQLWorld:
        """Make one in a schema of its own."""
        return PostgreSQLWorld(schema(self))
