"""A dispatcher in memory, between a queue in a file and the simulator."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import attrs
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.daemon.fakes import InlineWorker
from txapns._network.clocks import wall_clock
from txapns.daemon.errors import Malformed, Unavailable, UnknownApp
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.interfaces import IApps
from txapns.daemon.secrets.submitted import SubmittedCredential, read_submitted
from txapns.daemon.sending.context import AppState
from txapns.daemon.sending.dispatcher import Dispatcher
from txapns.daemon.sending.settling import Retries
from txapns.daemon.sending.waiting import OutcomeWaiters
from txapns.daemon.store.cluster import ICluster, SingleNode
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.feedback_log import SQLiteFeedbackLog
from txapns.daemon.store.sqlite.outcome_feed import SQLiteOutcomeFeed
from txapns.daemon.store.sqlite.outcomes import SQLiteOutcomeLog
from txapns.daemon.store.sqlite.queue import SQLiteQueue
from txapns.daemon.store.sqlite.tables import QueueState
from txapns.daemon.store.sqlite.timeline import Timeline
from txapns.daemon.store.sqlite.token_environments import SQLiteTokenEnvironments
from txapns.daemon.values import (
    App,
    Environment,
    Lane,
    Lease,
    Limits,
    Message,
    Outcome,
    Pause,
    Settlement,
    Side,
    State,
)
from txapns.gateway import Gateway
from txapns.simulator.authority import Authority
from txapns.simulator.http2 import ProviderAPIServer, Response
from txapns.simulator.servers import Simulator
from txapns.testing import MemorySimulator
from txapns.wire.requests import Request

__all__ = [
    "AUTHORITY",
    "DEAD",
    "HEADERS",
    "PAYLOAD",
    "START",
    "DictApps",
    "DispatchWorld",
    "DispatcherCase",
    "WatchedQueue",
    "token",
]

START = 1_700_000_000.0
AUTHORITY = Authority()
DEAD = b"\xdd" * 32
HEADERS = {"apns-topic": "com.example.app", "apns-push-type": "alert", "apns-priority": "10"}
_UNANSWERED = ("AnswerTimeout", "ConnectionLost", "StreamReset")
PAYLOAD = b'{"aps":{"alert":"Hello"}}'


def token(number: int) -> bytes:
    """Make a device token from a number."""
    return number.to_bytes(32, "big")


@implementer(IApps)
class DictApps:
    """Apps in a dictionary."""

    def __init__(self) -> None:
        self.revision = 0
        self._apps: dict[str, App] = {}
        self._listeners: list[Callable[[frozenset[str]], None]] = []

    def get(self, name: str) -> App:
        """Find an app."""
        if name not in self._apps:
            raise UnknownApp(f"there is no app {name}")
        return self._apps[name]

    def names(self) -> list[str]:
        """List the names."""
        return sorted(self._apps)

    def changed(self, listener: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        """Call a listener after changes."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def put(self, app: App) -> None:
        """Add or change one."""
        self._apps[app.name] = app
        self.tell(app.name)

    def remove(self, name: str) -> None:
        """Remove one."""
        del self._apps[name]
        self.tell(name)

    def pause(self, name: str, caller: str) -> Deferred[bool]:
        """Pause one."""
        app = self.get(name)
        self.put(attrs.evolve(app, pause=Pause(START, caller)))
        return succeed(app.pause is None)

    def resume(self, name: str, caller: str) -> Deferred[bool]:
        """Resume one."""
        app = self.get(name)
        self.put(attrs.evolve(app, pause=None))
        return succeed(app.pause is not None)

    def source(self, name: str) -> Literal["file", "database"]:
        """Tell where one is kept."""
        return self._apps[name].source if name in self._apps else "database"

    def rotate_submitted(
        self, name: str, given: SubmittedCredential, environment: Environment, *, caller: str
    ) -> Deferred[None]:
        """Give one another credential."""

        def rotate() -> None:
            app, credential = self.get(name), read_submitted(given, datetime.now(timezone.utc))
            if environment is Environment.PRODUCTION:
                self.put(attrs.evolve(app, credential=credential))
            elif app.sandbox is None:
                raise Malformed("it has only one side")
            else:
                self.put(attrs.evolve(app, sandbox=attrs.evolve(app.sandbox, credential=credential)))

        return maybeDeferred(rotate)

    def tell(self, *names: str) -> None:
        """Call the listeners."""
        self.revision += 1
        for listener in list(self._listeners):
            listener(frozenset(names))


class WatchedQueue(SQLiteQueue):
    """
    A queue that remembers what it was given, and whose disk is full while a test wants it.

    :ivar full: whether outcomes cannot be stored.
    :ivar broken: what every method fails with; ``None`` for nothing.
    :ivar refused: how often they could not.
    :ivar uncertain: for each id, how many attempts had no answer.
    """

    def __init__(self, database: Database, state: QueueState, noted: Callable[[Iterable[str]], None]) -> None:
        super().__init__(database, state, noted)
        self.full = False
        self.broken: Exception | None = None
        self.refused = 0
        self.uncertain: Counter[str] = Counter()
        self._ids: dict[int, str] = {}

    def lease(self, app: str, count: int, *arguments: Any) -> Deferred[Lease]:
        """Lease what is due."""

        def remember(leased: Lease) -> Lease:
            self._ids.update((each.number, each.apns_id) for each in leased)
            return leased

        if self.broken is not None:
            return fail(self.broken)
        return super().lease(app, count, *arguments).addCallback(remember)

    def reclaim(self) -> Deferred[None]:
        """Give back all leases, as their ends would."""
        return self.release(self._leases.numbers())

    def settle(self, settlements: Sequence[Settlement], accepted: Sequence[int] = ()) -> Deferred[None]:
        """Store what came of attempts, if there is room."""
        if self.full or self.broken is not None:
            self.refused += 1
            return fail(self.broken or Unavailable("the disk is full", 10.0))
        self.uncertain.update(self._ids[each.number] for each in settlements if each.reason in _UNANSWERED)
        return super().settle(settlements, accepted)


class DispatchWorld:
    """
    A dispatcher and everything around it. Time passes when a test says so.

    :ivar simulator: APNs.
    :ivar clock: the time.
    :ivar apps: the apps; ``chess`` is one.
    :ivar queue: the queue.
    :ivar dispatcher: the dispatcher, once it was started.
    :ivar cluster: what the dispatcher knows of other nodes; a test may replace it before the start.
    :ivar noted: for which apps dead tokens were noted, in order.
    """

    def __init__(self, **options: Any) -> None:
        self._directory = tempfile.TemporaryDirectory()
        options.setdefault("authority", AUTHORITY)
        self.simulator = MemorySimulator(dead=[DEAD], **options)
        self.clock = self.simulator.reactor
        self.clock.rightNow = START
        self.apps = DictApps()
        self.cluster: ICluster = SingleNode(self.clock)
        self.noted: list[str] = []
        self.database = Database(Path(self._directory.name) / "db", self.clock, lambda name: InlineWorker())
        self.log = SQLiteFeedbackLog(self.database)
        self.log.subscribe(self.noted.append)
        state = QueueState(Timeline(self.clock))
        self.queue = WatchedQueue(self.database, state, self.log.announce)
        self.outcome_log = SQLiteOutcomeLog(self.database, state)
        self.feed = SQLiteOutcomeFeed(self.database, state.recording)
        self.tokens = SQLiteTokenEnvironments(self.database)
        for each in (self.database, self.log, self.feed, self.tokens, self.queue):
            self.result(each.start())
        self.outcomes = OutcomeWaiters(self.clock, self.outcome_log)
        self.ids = Identifiers(wall_clock(self.clock))
        self.numbers = 0
        self.dispatcher: Dispatcher
        self.add_app("chess")

    def close(self) -> None:
        """Stop all."""
        self.result(self.dispatcher.stop(0.0))
        self.result(self.database.stop())
        self._directory.cleanup()

    def start(self, **options: Any) -> Dispatcher:
        """Start a dispatcher, or another one."""
        options.setdefault("retries", Retries(2.0, 900.0, 0.5, random=lambda: 0.5))
        options.setdefault("tokens", self.tokens)
        self.dispatcher = Dispatcher(self.clock, self.queue, self.apps, self.outcomes, cluster=self.cluster, **options)
        self.result(self.dispatcher.start())
        return self.dispatcher

    def crash(self, **options: Any) -> None:
        """Lose the dispatcher and its connections without settling anything, and start another one."""
        lost = self.dispatcher
        self.queue.full = True  # nothing more that the lost one learns is stored
        for session in self.simulator.sessions:
            if session.transport is not None and not session.transport.disconnected:  # type: ignore[attr-defined]
                session.abort()  # type: ignore[attr-defined]
        lost.stop(0.0)
        self.advance(0.1)
        self.queue.full = False
        self.result(self.queue.reclaim())
        self.start(**options)

    def add_app(self, name: str, **changes: Any) -> App:
        """Add or change an app."""
        fields: dict[str, Any] = {
            "gateway": self.simulator.gateway(),
            "credential": self.simulator.certificate(),
            "topic": self.simulator.topic,
            "limits": Limits(),
            "source": "database",
            **changes,
        }
        app = App(name, **fields)
        self.apps.put(app)
        return app

    def add_sandbox(self, port: int = 2199) -> tuple[Simulator, Side]:
        """Start another simulator, which is Apple's sandbox; returns it and the side of an app there."""
        sandbox = Simulator(self.clock, authority=self.simulator.authority, dead=[DEAD])
        sandbox.environment = "sandbox"
        self.clock.servers[port] = sandbox.tls_factory("http2")
        gateway = Gateway.http2("127.0.0.1", port, trust_root=sandbox.authority.ca_pem)
        return sandbox, Side(gateway, self.simulator.certificate())

    def accept(
        self,
        count: int = 1,
        app: str = "chess",
        *,
        tokens: Iterable[bytes] | None = None,
        payload: bytes = PAYLOAD,
        lane: Lane = Lane.NORMAL,
        **headers: str,
    ) -> list[str]:
        """Accept a message as the intake does; returns the ids. Header fields are named without ``apns-``."""
        if tokens is None:
            tokens = [token(self.numbers + n) for n in range(count)]
            self.numbers += count
        tokens = list(tokens)
        named = {f"apns-{name.replace('_', '-')}": value for name, value in headers.items()}
        message = Message(app, payload, {**HEADERS, **named}, tokens, self.ids.take(len(tokens)), lane=lane)
        [receipt] = self.result(self.queue.accept([message]))
        if hasattr(self, "dispatcher"):
            (self.dispatcher.hurry if lane is Lane.URGENT else self.dispatcher.wake)(app)
        return list(receipt.apns_ids)

    def result(self, deferred: Deferred[Any], step: float = 0.002) -> Any:
        """Let a little time pass until there is a result."""
        found: list[Any] = []
        deferred.addBoth(found.append)
        for _ in range(200):
            if found:
                break
            self.clock.advance(step)
        assert found, "there was no result"
        return found[0] if not hasattr(found[0], "raiseException") else found[0].raiseException()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    def drain(self, within: float = 60.0, app: str = "chess") -> None:
        """Let time pass until nothing waits."""
        end = self.clock.seconds() + within
        while self.queue.waiting(app).count:
            assert self.clock.seconds() < end, f"{self.queue.waiting(app).count} still wait: {self.state(app)}"
            self.advance(0.05)

    def outcome(self, apns_id: str) -> Outcome:
        """Find the outcome of a notification."""
        found = self.result(self.outcome_log.latest(apns_id))
        assert isinstance(found, Outcome)
        return found

    def state(self, app: str = "chess") -> AppState:
        """What the dispatcher knows of an app."""
        found = self.dispatcher.state(app)
        assert found is not None
        return found

    def received(self, *, accepted: bool = True) -> Counter[str]:
        """How often each id came to the simulator, and was accepted or rejected."""
        receptions = self.simulator.inbox.received
        return Counter([each.headers["apns-id"] for each in receptions if (each.reason is None) is accepted])


class DispatcherCase(SynchronousTestCase):
    """A started dispatcher, with one app and nothing to send."""

    options: dict[str, Any] = {}  # noqa: RUF012  # read only
    started: dict[str, Any] = {}  # noqa: RUF012

    def setUp(self) -> None:
        """Start it."""
        self.world = DispatchWorld(**self.options)
        self.world.start(**self.started)
        self.addCleanup(self.world.close)

    def states(self, ids: list[str]) -> list[State]:
        """The states of notifications."""
        return [self.world.outcome(apns_id).state for apns_id in ids]

    def answer(self, reply: Callable[[Request], Response | None]) -> None:
        """Answer requests from the next connection on; ``None`` is the usual answer."""

        def fault(server: ProviderAPIServer, request: Request, response: Response) -> Response:
            return reply(request) or response

        self.world.simulator.http2_fault = fault
