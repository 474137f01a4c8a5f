"""Tests for :mod:`txapns.daemon.operations.management`; those of the admin endpoint say what comes of it."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.admin_world import AdminWorld
from txapns.daemon.errors import Malformed
from txapns.daemon.operations.management import ACTIONS, Management
from txapns.daemon.values import Caller

__all__ = ["ManagementTests"]


class ManagementTests(SynchronousTestCase):
    """What can be done with an app."""

    def test_actions(self) -> None:
        """Each action can be done, also where there is nothing to do; others are refused."""
        world = AdminWorld()
        self.addCleanup(world.close)
        management = Management(world.apps, world.outcome_log, world.dispatcher.wake)
        for action in ACTIONS:
            world.result(Deferred.fromCoroutine(management.perform(action, "chess", Caller("ann"))))
        with self.assertRaises(Malformed):
            world.result(Deferred.fromCoroutine(management.perform("explode", "chess", Caller("ann"))))
