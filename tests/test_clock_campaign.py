"""The wall clock is set, by an hour and by a day, forward and back, at every state of a send: nothing comes of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txapns import APNSClient, Batch, Gateway, Notification
from txapns._network.backoff import Backoff
from txapns._network.clocks import SteadyReactor
from txapns._session import backlog, pool
from txapns.simulator import Authority, Response
from txapns.testing import MemoryReactor, MemorySimulator

AUTHORITY = Authority()
ALERT = Notification(alert="Hi")
HOUR, DAY = 3_600.0, 86_400.0
#: Time passes in such steps, in seconds; so what happens may be noticed as much later.
TICK = 0.25
PORTS = {"http2": 2197, "binary": 2195}


class World:
    """
    A simulator, a client of it, and a wall clock.

    :ivar simulator: the simulator.
    :ivar reactor: what the client has as its reactor.
    """

    def __init__(self, protocol: str) -> None:
        self.simulator = MemorySimulator(authority=AUTHORITY)
        self.simulator.reactor.rightNow = 1_800_000_000.0
        self.protocol = protocol
        self.reactor: Any = self.simulator.reactor
        self.options: dict[str, Any] = {}
        self._client: APNSClient | None = None

    @property
    def client(self) -> APNSClient:
        """The client, made when it is asked for."""
        if self._client is None:
            gateway: Gateway = self.simulator.gateway(self.protocol)
            certificate = self.simulator.certificate()
            self._client = APNSClient(self.reactor, certificate, gateway, topic=self.simulator.topic, **self.options)
        return self._client

    def send(self, count: int = 1, **more: Any) -> Deferred[Batch]:
        """Send to this many devices."""
        return self.client.send(ALERT, [f"{number:064x}" for number in range(1, count + 1)], **more)

    def step(self, seconds: float) -> None:
        """Set the wall clock."""
        self.simulator.wall.step(seconds)

    def tick(self) -> None:
        """Let a little time pass."""
        self.simulator.advance(TICK)

    def later(self, seconds: float, deed: Callable[[], object]) -> None:
        """Have something happen on the other side, where the clock is right."""
        self.simulator.reactor.callLater(seconds, deed)

    def mute(self) -> None:
        """Have the server answer nothing."""
        self.simulator.http2_fault = lambda server, request, response: None
        self.simulator.binary_fault = lambda server, notification, status: server.stall()

    def absent(self, seconds: float) -> None:
        """Stop listening for this long."""
        servers = self.simulator.reactor.servers
        port = PORTS[self.protocol]
        self.later(seconds, partial(servers.__setitem__, port, servers.pop(port)))


@attrs.define
class Bare:
    """
    A reactor as Twisted's are, for a client whose network is in memory: its timers go by the wall clock.

    :ivar memory: the network.
    :ivar wall: what its time is.
    """

    memory: MemoryReactor
    wall: Clock = attrs.Factory(Clock)

    def seconds(self) -> float:
        """Tell the time by the wall clock."""
        seconds: float = self.wall.seconds()
        return seconds

    def callLater(self, *arguments: Any, **more: Any) -> Any:
        """Call something when the wall clock has come to that time."""
        return self.wall.callLater(*arguments, **more)

    def __getattr__(self, name: str) -> Any:
        """All else is the network's."""
        return getattr(self.memory, name)


class BareWorld(World):
    """
    The same with a bare reactor, of which ``txapns._network.clocks.timers`` makes the client's; a monitor looks at it.
    """

    def __init__(self, protocol: str) -> None:
        super().__init__(protocol)
        memory = self.simulator.reactor
        self.bare = Bare(memory)
        self.bare.wall.rightNow = memory.seconds()
        self.reactor = SteadyReactor(self.bare, memory.seconds)

    def step(self, seconds: float) -> None:
        """Set the wall clock, and with it the time of the reactor."""
        super().step(seconds)
        self.bare.wall.rightNow += seconds

    def tick(self) -> None:
        """Let a little time pass, on both clocks, and carry what comes of it."""
        super().tick()
        self.client.status()
        self.bare.wall.advance(TICK)
        while any(call.getTime() <= self.bare.seconds() for call in self.bare.wall.getDelayedCalls()):
            self.bare.wall.advance(0)
            self.simulator.flush()
        self.simulator.flush()


#: What goes on in a world, and how long it has when the clock is set.
Scene: TypeAlias = "Callable[[World], Deferred[Any]]"


def waiting(world: World) -> Deferred[Any]:
    """Nothing listens; the next attempt waits for its time."""
    world.absent(6.0)
    return world.send()


def connecting(world: World) -> Deferred[Any]:
    """There is no answer."""
    connect = world.simulator.reactor.connectTCP

    def connect_tcp(*arguments: Any, **more: Any) -> Any:
        connector = connect(*arguments, **more)
        connector.stopConnecting()
        return connector

    world.simulator.reactor.connectTCP = connect_tcp  # type: ignore[method-assign]
    return world.send()


def starting(world: World) -> Deferred[Any]:
    """A server takes the connection, and says nothing."""
    world.simulator.reactor.servers[PORTS[world.protocol]] = Factory.forProtocol(Protocol)
    return world.send()


def in_flight(world: World) -> Deferred[Any]:
    """An answer takes its time."""
    world.simulator.delay = 5.0
    return world.send()


def unanswered(world: World) -> Deferred[Any]:
    """No answer comes, and the time for it passes."""
    world.mute()
    return world.send(3)


def unread(world: World) -> Deferred[Any]:
    """The connection is dead: after a while a sign of life is asked for, and none comes."""
    world.options["ping_interval"] = 10.0
    dead: Deferred[None] = Deferred()

    def stall(batch: Batch) -> Deferred[None]:
        world.simulator.sessions[0].dataReceived = lambda data: None  # type: ignore[method-assign]

        def look() -> None:
            if world.client.status().connections == ("ready",):
                world.later(TICK, look)
            else:
                dead.callback(None)

        look()
        return dead

    return world.send().addCallback(stall)


def backing_off(world: World) -> Deferred[Any]:
    """A connection broke, and what comes then waits for the next."""
    world.simulator.http2_fault = lambda server, request, response: server.abort()
    world.simulator.binary_fault = lambda server, notification, status: server.abort()

    def mend(batch: Batch) -> Deferred[Batch]:
        world.simulator.http2_fault = world.simulator.binary_fault = None
        return world.send(2)

    return world.send().addCallback(mend)


def retrying(world: World) -> Deferred[Any]:
    """APNs asks to wait, and the notification is sent again later."""
    asked: list[object] = []

    def once(server: Any, request: object, response: Any) -> Any:
        asked.append(request)
        return response if len(asked) > 2 else Response(429, "TooManyRequests")

    def once_binary(server: Any, notification: object, status: Any) -> Any:
        asked.append(notification)
        return status if len(asked) > 2 else 1

    world.simulator.http2_fault = once
    world.simulator.binary_fault = once_binary
    return world.send()


def deadline(world: World) -> Deferred[Any]:
    """A batch has a deadline, and most of it waits."""
    world.mute()
    world.simulator.concurrency = 2
    return world.send(1_000_000 if world.protocol == "binary" else 10, deadline=10.0)


def closing(world: World) -> Deferred[Any]:
    """The client is closed, and what is in flight is not answered."""
    world.mute()
    sending = world.send()
    closed: Deferred[None] = Deferred()
    world.later(1.0, lambda: world.client.close().chainDeferred(closed))
    return gatherResults([sending, closed])


def idle(world: World) -> Deferred[Any]:
    """All is done, and the connection is closed after a while."""
    world.options["idle_timeout"] = 10.0
    closed: Deferred[None] = Deferred()

    def look(batch: Batch | None = None) -> None:
        if world.client.status().connections == ("idle",):
            closed.callback(None)
        else:
            world.later(TICK, look)

    return gatherResults([world.send().addCallback(look), closed])


#: The scenes over either protocol, and when the clock is set.
SCENES: dict[str, list[tuple[Scene, float]]] = {
    "http2": [
        (waiting, 4.0),
        (connecting, 10.0),
        (starting, 10.0),
        (in_flight, 2.0),
        (unanswered, 10.0),
        (unread, 5.0),
        (unread, 13.0),
        (backing_off, 0.5),
        (retrying, 0.5),
        (retrying, 2.0),
        (deadline, 5.0),
        (closing, 5.0),
        (idle, 5.0),
    ],
    "binary": [
        (waiting, 4.0),
        (connecting, 10.0),
        (in_flight, 1.0),
        (backing_off, 0.5),
        (retrying, 0.5),
        (retrying, 2.0),
        (closing, 1.5),
        (idle, 5.0),
    ],
}


def told(result: object) -> object:
    """What a result says, without what differs each time."""
    if isinstance(result, list):
        return [told(each) for each in result]
    if not isinstance(result, Batch):
        return result
    others = [(type(each).__name__, str(getattr(each, "error", each))) for each in result.outcomes[:5]]
    return str(result), others


class ClockCampaignTests(SynchronousTestCase):
    """Each scene with the clock left alone, and set."""

    def setUp(self) -> None:
        """Leave no delay to chance."""
        for module in (pool, backlog):
            self.patch(module, "Backoff", partial(Backoff, jitter=0.0))

    def play(self, world: World, scene: Scene, moment: float, *steps: float) -> tuple[float, object]:
        """Play a scene, and set the clock on the way; tell how long it took, and how it ended."""
        results: list[object] = []
        began = world.simulator.reactor.seconds()
        scene(world).addBoth(results.append)
        left = list(steps)
        while not results:
            passed = world.simulator.reactor.seconds() - began
            self.assertLess(passed, 150.0, f"{scene.__name__}: no end after {steps}")
            if left and passed >= moment:
                world.step(left.pop(0))
            world.tick()
        took = world.simulator.reactor.seconds() - began
        self.assertEqual(left, [], f"{scene.__name__} was over before the clock was set")
        world.client.close()
        for _ in range(160):
            world.tick()
        self.assertEqual(world.simulator.reactor.getDelayedCalls(), [], scene.__name__)
        return took, told(results[0])

    def campaign(self, make: type[World]) -> None:
        """Play all scenes."""
        for protocol, scenes in SCENES.items():
            for scene, moment in scenes:
                took, ended = self.play(make(protocol), scene, moment)
                for steps in ((-HOUR,), (HOUR,), (-DAY,), (DAY,), (DAY, -DAY - HOUR)):
                    now_took, now_ended = self.play(make(protocol), scene, moment, *steps)
                    what = f"{protocol}, {scene.__name__}, set by {steps}"
                    self.assertEqual(now_ended, ended, what)
                    self.assertLessEqual(abs(now_took - took), 2 * TICK, what)

    def test_steady(self) -> None:
        """Where the reactor is monotonic, the wall clock has no part in how long anything takes."""
        self.campaign(World)

    def test_bare(self) -> None:
        """It is the same with the wall clock, if the client's status is polled."""
        self.campaign(BareWorld)
