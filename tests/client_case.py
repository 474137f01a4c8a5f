"""A client of a simulator, with credentials and device tokens: for the tests of what a program sees."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txapns import Notification
from txapns.simulator import Authority
from txapns.testing import MemorySimulator

AUTHORITY = Authority()
DEAD = "dd" * 32
HELLO = Notification(alert="Hello")


def tokens(count: int) -> list[str]:
    """As many device tokens, all different."""
    return [f"{number:064x}" for number in range(count)]


class ClientCase(SynchronousTestCase):
    """A simulator and a client of it."""

    def setUp(self) -> None:
        """Make them."""
        self.simulator = MemorySimulator(dead=[DEAD], authority=AUTHORITY)
        self.client = self.simulator.client()

    def received(self) -> list[str]:
        """The tokens that the server accepted, in order."""
        return [reception.token.hex() for reception in self.simulator.inbox.received if reception.reason is None]
