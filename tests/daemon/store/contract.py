"""
What the contract tests of a store have in common.

Each duty of a store has a contract, with nothing in it that only one kind of database has. A test case derives from the
contract and says how to make a store. The date is :data:`START` when it begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import DatedClock
from txapns._network.clocks import wall_clock
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.values import Leased, Message, Outcome, Settlement, State

__all__ = [
    "HEADERS",
    "ID",
    "LONGEST",
    "OTHER",
    "PAYLOAD",
    "START",
    "TOKENS",
    "StoreContract",
    "World",
    "message",
    "result",
]

START = 1_700_000_000.0
LONGEST = 10.0  # for how many seconds something is put off over a restart
HEADERS = {"apns-topic": "com.example.chess", "apns-push-type": "alert"}
PAYLOAD = b'{"aps":{"alert":"Hello \xc3\xbc"}}'

ID = "0f0e0d0c-0b0a-4909-8807-060504030201"
OTHER = "ffffffff-ffff-4fff-bfff-ffffffffffff"
TOKENS = [b"1", b"2", b"3", b"4"]


class World(Protocol):
    """A store, in a directory of its own."""

    clock: DatedClock
    queue: Any
    outcome_log: Any
    log: Any
    feed: Any
    tokens: Any

    def restart(self) -> None:
        """Stop everything, and start again from what is stored."""

    def stop(self) -> None:
        """Stop everything."""

    def flows(self) -> set[str]:
        """Tell the callers of the flows that are stored."""


def result(clock: Clock, deferred: Deferred[Any]) -> Any:
    """Let a little time pass until there is a result, and return or raise it."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    for _ in range(5):
        if not found:
            clock.advance(0.002)
    assert found, "nothing came of it"
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return found[0]


def message(world: World, count: int = 1, app: str = "chess", start: int = 0, **more: Any) -> Message:
    """Make a message for some devices, in a lane and from a caller if they are given."""
    tokens = [(start + n).to_bytes(32, "big") for n in range(count)]
    return Message(app, PAYLOAD, HEADERS, tokens, Identifiers(wall_clock(world.clock)).take(count), **more)


class StoreContract:
    """What the contracts share. A class that derives from one is a test case, too."""

    def make_world(self) -> World:
        """Make an empty store, and start it."""
        raise NotImplementedError

    def setUp(self) -> None:
        """Make one."""
        self.world = self.make_world()

    def tearDown(self) -> None:
        """Stop it."""
        self.world.stop()

    def do(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the queue, and wait for the result."""
        return result(self.world.clock, getattr(self.world.queue, name)(*arguments, **options))

    def ask(self, name: str, *arguments: Any) -> Any:
        """Call a method of the outcome log, and wait for the result."""
        return result(self.world.clock, getattr(self.world.outcome_log, name)(*arguments))

    def read(self, name: str, *arguments: Any) -> Any:
        """Call a method of the feedback log, and wait for the result."""
        return result(self.world.clock, getattr(self.world.log, name)(*arguments))

    def result(self, deferred: Deferred[Any]) -> Any:
        """Wait for a result."""
        return result(self.world.clock, deferred)

    def accept(self, count: int = 1, app: str = "chess", start: int = 0) -> list[str]:
        """Accept one message, and return its ids."""
        [receipt] = self.do("accept", [message(self.world, count, app, start)])
        return list(receipt.apns_ids)

    def lease(self, count: int = 100, app: str = "chess", seconds: float = 60.0) -> list[Leased]:
        """Lease for some time."""
        return list(self.do("lease", app, count, self.now + seconds))

    def outcome(self, apns_id: str) -> Outcome:
        """Look up the latest notification with an id."""
        found = self.ask("latest", apns_id)
        assert isinstance(found, Outcome)
        return found

    def settle(self, leased: Sequence[Leased], state: State, *arguments: Any) -> None:
        """Settle all of these in the same way."""
        self.do("settle", [Settlement(each.number, state, *arguments) for each in leased])

    @property
    def case(self) -> SynchronousTestCase:
        """The test case itself."""
        assert isinstance(self, SynchronousTestCase)
        return self

    @property
    def now(self) -> float:
        """The time, by the reactor's clock."""
        return float(self.world.clock.seconds())

    @property
    def date(self) -> float:
        """The date, by the wall clock."""
        return self.world.clock.now()
