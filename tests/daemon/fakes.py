"""Small fakes of parts of the daemon for tests of other parts, and a client of its HTTP faces."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from txapns._network.clocks import IWallClock
from txapns._serving.http import HTTPServer
from txapns.credentials import Certificate
from txapns.daemon.errors import NotAuthenticated, UnknownApp
from txapns.daemon.interfaces import IApps, IKeys
from txapns.daemon.store.cluster import Circuit, ICluster, NodeStatus
from txapns.daemon.store.workers import IWorker
from txapns.daemon.values import App, Caller, Limits, Outcome, Side
from txapns.gateway import Gateway
from txapns.simulator import Authority

__all__ = [
    "Apps",
    "Cluster",
    "Connection",
    "DatedClock",
    "InlineWorker",
    "Keys",
    "Response",
    "SlowWorker",
    "Waiting",
    "key_of",
]

T = TypeVar("T")


@implementer(IWallClock)
class DatedClock(Clock):
    """
    A clock for tests that also has a wall clock, which can be set as people and NTP set one.

    :param date: the date at the start.

    :ivar ahead: by how many seconds the wall clock is ahead of the other.
    """

    def __init__(self, date: float = 1_700_000_000.0) -> None:
        super().__init__()
        self.advance(1_000.0)
        self.ahead = date - self.seconds()

    def now(self) -> float:
        """Return the date."""
        return self.seconds() + self.ahead


@implementer(IApps)
class Apps:
    """
    Some apps.

    :param limits: the limits of each app, by name.
    :param recorded: the apps whose outcomes are recorded.
    """

    revision = 0
    _credential: Certificate | None = None

    def __init__(self, limits: Mapping[str, Limits], recorded: Collection[str] = ()) -> None:
        if Apps._credential is None:
            Apps._credential = Certificate.from_pem(Authority().client_pem())
        self._apps = {
            name: App(name, Gateway.parse("sandbox"), Apps._credential, limits=each, outcomes=name in recorded)
            for name, each in limits.items()
        }

    def get(self, name: str) -> App:
        """See :meth:`IApps.get`."""
        if name not in self._apps:
            raise UnknownApp("there is no such app")
        return self._apps[name]

    def names(self) -> list[str]:
        """See :meth:`IApps.names`."""
        return sorted(self._apps)

    def divide(self, name: str) -> None:
        """Give an app a sandbox side."""
        app = self._apps[name]
        self._apps[name] = attrs.evolve(app, sandbox=Side(app.gateway, app.credential))

    def remove(self, name: str) -> None:
        """Remove an app."""
        del self._apps[name]

    def changed(self, listener: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        """See :meth:`IApps.changed`; they never change."""
        return lambda: None


@implementer(IWorker)
class InlineWorker:
    """Runs functions at once, without a thread."""

    def run(self, function: Callable[[], T]) -> Deferred[T]:
        """Run a function now."""
        return maybeDeferred(function)

    def stop(self) -> None:
        """Do nothing."""


@implementer(IWorker)
class SlowWorker:
    """Runs its functions when the test says so."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.left: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        self.stopped = False

    def run(self, function: Callable[[], T]) -> Deferred[T]:
        """Run a function later."""
        deferred: Deferred[T] = Deferred()
        self.left.append((function, deferred))
        return deferred

    def stop(self) -> None:
        """Do nothing."""
        self.stopped = True

    def work(self) -> None:
        """Run everything that was submitted."""
        while self.left:
            self.step()

    def step(self) -> None:
        """Run what was submitted first."""
        function, deferred = self.left.pop(0)
        try:
            found = function()
        except Exception:
            deferred.errback()
        else:
            deferred.callback(found)


@implementer(ICluster)
class Cluster:
    """
    A cluster of which a test says what happens to it.

    :ivar duties: the duties that this node has while it is alive.
    :ivar asked: the duties that were asked for.
    :ivar reports: what was reported of circuits, in order.
    """

    shared = True
    node = "a"
    trouble = ""

    def __init__(self) -> None:
        self.alive = True
        self.digest = ""
        self.in_flight: Callable[[], int] = lambda: 0
        self.duties: set[str] = set()
        self.asked: set[str] = set()
        self.reports: list[tuple[str, Circuit | None]] = []
        self.listeners: list[Callable[[], None]] = []
        self.watchers: list[Callable[[str, Circuit | None], None]] = []

    def nodes(self) -> Deferred[list[NodeStatus]]:
        """See :meth:`ICluster.nodes`."""
        return succeed([NodeStatus(self.node, "", self.digest, 0.0, 0.0, 0.0, self.in_flight(), self.alive, True)])

    def owns(self, duty: str) -> bool:
        """See :meth:`ICluster.owns`."""
        self.asked.add(duty)
        return self.alive and duty in self.duties

    def resign(self, duty: str) -> None:
        """See :meth:`ICluster.resign`."""
        self.asked.discard(duty)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """See :meth:`ICluster.subscribe`."""
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def report(self, app: str, circuit: Circuit | None) -> None:
        """See :meth:`ICluster.report`."""
        self.reports.append((app, circuit))

    def watch(self, listener: Callable[[str, Circuit | None], None]) -> Callable[[], None]:
        """See :meth:`ICluster.watch`."""
        self.watchers.append(listener)
        return lambda: self.watchers.remove(listener)

    def become(self, *, alive: bool = True, duties: Iterable[str] = ()) -> None:
        """End this node's life or begin a new one, or change its duties."""
        self.alive, self.duties = alive, set(duties)
        for listener in list(self.listeners):
            listener()

    def tell(self, app: str, circuit: Circuit | None) -> None:
        """Report a circuit as another node does."""
        for watcher in list(self.watchers):
            watcher(app, circuit)


def key_of(name: str) -> str:
    """Return the key of a caller."""
    return f"txapns_{name}_secret"


@implementer(IKeys)
class Keys:
    """
    Some keys; see :func:`key_of`.

    :param callers: the callers with a key.
    """

    def __init__(self, *callers: Caller) -> None:
        self._callers = {key_of(caller.name): caller for caller in callers}

    def check(self, key: str) -> Caller:
        """See :meth:`IKeys.check`."""
        if key not in self._callers:
            raise NotAuthenticated("the key is not known")
        return self._callers[key]


class Waiting:
    """
    Outcomes for callers that wait.

    :param clock: ends the waits.

    :ivar asked: the numbers of each wait, and whether they were fresh.
    """

    def __init__(self, clock: Clock) -> None:
        self.asked: list[tuple[list[int], bool]] = []
        self._clock = clock
        self._found: dict[int, Outcome] = {}

    def wait(self, numbers: Sequence[int], timeout: float, *, fresh: bool) -> Deferred[Mapping[int, Outcome]]:
        """Wait until the timeout."""
        self.asked.append((list(numbers), fresh))
        done: Deferred[Mapping[int, Outcome]] = Deferred()
        self._clock.callLater(timeout, lambda: done.callback({k: v for k, v in self._found.items() if k in numbers}))
        return done

    def tell(self, outcome: Outcome) -> None:
        """Remember an outcome."""
        self._found[outcome.number] = outcome


@attrs.frozen
class Response:
    """A response as a caller sees it."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error."""
        return str(self.json["error"]["code"])


class Connection:
    """
    A connection to an HTTP face, in memory.

    :param server: the face.
    :param clock: its clock.
    """

    def __init__(self, server: HTTPServer, clock: Clock) -> None:
        self.clock = clock
        self.transport = StringTransport()
        self.channel = server.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    @property
    def closed(self) -> bool:
        """Whether the face has closed it, or begun to."""
        return self.transport.disconnecting

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.channel.dataReceived(data)

    def lose(self) -> None:
        """Lose the connection."""
        from twisted.internet.error import ConnectionDone
        from twisted.python.failure import Failure

        self.channel.connectionLost(Failure(ConnectionDone()))

    def read(self) -> list[Response]:
        """Read all responses received so far."""
        data = self.transport.value()
        self.transport.clear()
        found = []
        while data:
            head, _, data = data.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            length = 0 if getattr(self, "_head", False) else int(headers.get("content-length", "0"))
            found.append(Response(int(first.split()[1]), headers, data[:length]))
            data = data[length:]
        return found

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        key: str | None = "all",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a request and read its response, for which a little time may pass."""
        fields = {"Host": "gateway", **({} if key is None else {"Authorization": f"Bearer {key_of(key)}"})}
        if body is not None:
            fields.update({"Content-Type": "application/json", "Content-Length": str(len(body))})
        fields.update(headers or {})
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._head = method == "HEAD"
        self.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (body or b""))
        return self.answer()

    def answer(self) -> Response:
        """Let a little time pass until there is a response."""
        for _ in range(20):
            if self.transport.value():
                break
            self.clock.advance(0.002)
        [response] = self.read()
        return response
