"""Tests for :mod:`txapns.daemon.store.postgresql.queue`."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.lanes_contract import LanesContract
from tests.daemon.store.lanes_machine import LanesMachine
from tests.daemon.store.postgresql.world import PostgreSQLWorld
from tests.daemon.store.queue_contract import QueueContract
from tests.daemon.store.queue_machine import QueueMachine
from tests.daemon.store.schedule_contract import ScheduleContract
from tests.postgresql import schema

__all__ = [
    "LanesModelTests",
    "ModelTests",
    "PostgreSQLLanesMachine",
    "PostgreSQLLanesTests",
    "PostgreSQLQueueMachine",
    "PostgreSQLQueueTests",
    "PostgreSQLScheduleTests",
]


class PostgreSQLQueueTests(QueueContract, SynchronousTestCase):
    """The contract."""

    def make_world(self) -> PostgreSQLWorld:
        """Make one in a schema of its own."""
        return PostgreSQLWorld(schema(self))


class PostgreSQLScheduleTests(ScheduleContract, SynchronousTestCase):
    """The contract of what is sent later."""

    def make_world(self) -> PostgreSQLWorld:
        """Make one in a schema of its own."""
        return PostgreSQLWorld(schema(self))


class PostgreSQLLanesTests(LanesContract, SynchronousTestCase):
    """The contract of lanes and callers."""

    def make_world(self) -> PostgreSQLWorld:
        """Make one in a schema of its own."""
        return PostgreSQLWorld(schema(self))


class TemporaryWorld(PostgreSQLWorld):
    """A store whose schema is dropped at its end."""

    def __init__(self) -> None:
        super().__init__(schema())

    def stop(self) -> None:
        """Close it for good."""
        super().stop()
        self.place.drop()

    def restart(self) -> None:
        """Close it, and open it again."""
        super().stop()
        self.start()


class PostgreSQLQueueMachine(QueueMachine):
    """The machine with one of these."""

    world: TemporaryWorld
    given_back = 1  # a claim may go on where the node's last one ended, for a moment

    def make_world(self) -> TemporaryWorld:
        """Make one."""
        return TemporaryWorld()

    def lead(self) -> float:
        """By how much the database's clock is ahead of the reactor's."""
        return self.world.ahead


ModelTests = PostgreSQLQueueMachine.TestCase
ModelTests.settings = settings(
    max_examples=15, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


class PostgreSQLLanesMachine(LanesMachine):
    """The machine of lanes and callers with one of these."""

    def make_world(self) -> TemporaryWorld:
        """Make one."""
        return TemporaryWorld()


LanesModelTests = PostgreSQLLanesMachine.TestCase
LanesModelTests.settings = settings(
    max_examples=10, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
