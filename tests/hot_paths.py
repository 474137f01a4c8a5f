"""
How many calls a notification costs on each hot path: the same on every machine, and however busy it is.

``tests/test_hot_paths.py`` holds them against ``tests/hot_paths.json``. When a change makes a path shorter, or has a
good reason to make it longer, run this with each version of Python in that file, and commit what it writes::

    python -m tests.hot_paths

Counted are the calls of functions, also of those that are written in C, by ``cProfile``. Everything is in memory and in
one thread, with a clock that stands still unless a scenario advances it: the statements of the store run where they are
asked for. What plays the other side, Apple or a caller, is not counted.

Nothing that a path makes may be in a reference cycle: it would stay until the garbage collector runs, which in the
daemon is seldom.

Counted, too, are the objects that Python's garbage collector looks through for each notification in flight: it does so
again and again, and with a thousand in flight that takes longer than many calls.
"""

from __future__ import annotations

import cProfile
import gc
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.testing import StringTransport

from tests.daemon.dispatch_world import HEADERS, DispatchWorld, token
from tests.daemon.faces_world import FacesWorld
from tests.daemon.fakes import Connection, key_of
from txapns import APNSClient, Notification
from txapns._serving.http import HTTPServer
from txapns.daemon.config.sections import AppleSection, BinarySection
from txapns.daemon.faces.apple.face import Apple
from txapns.daemon.faces.binary import Binary
from txapns.daemon.faces.native.face import Native
from txapns.daemon.values import Lane, Limits, Message
from txapns.simulator import Authority
from txapns.testing import MemorySimulator
from txapns.wire.frames import encode_framed
from txapns.wire.requests import RequestSender

__all__ = ["FILE", "OBJECTS", "ROOM", "SCENARIOS", "VERSION", "Calls", "counted", "known"]

#: The figures, by version of Python.
FILE = Path(__file__).with_suffix(".json")
#: By how much more a path may cost than its figure.
ROOM = 0.05
VERSION = "{}.{}".format(*sys.version_info)
#: How many notifications are counted, after as many that are not; and how many of those that come alone.
COUNT, ALONE = 1_000, 40
T = TypeVar("T")
ALERT = "x" * 98
_NOTIFICATION = Notification(alert=ALERT)
PAYLOAD = b'{"aps":{"alert":"%s"}}' % ALERT.encode()


class Calls:
    """
    Counts calls.

    :ivar garbage: how many objects were in cycles afterwards, which only the garbage collector frees.
    """

    garbage = 0

    def __init__(self) -> None:
        self._profile = cProfile.Profile()
        self._counting = False

    @property
    def total(self) -> int:
        """How many there were."""
        return sum(entry.callcount for entry in self._profile.getstats())

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count; without the garbage collector, which may come anywhere."""
        gc.collect()
        gc.disable()
        self._counting = True
        self._profile.enable()
        try:
            yield
        finally:
            self._profile.disable()
            self._counting = False
            self.garbage = gc.collect()
            gc.enable()

    def apart(self, function: Callable[..., T]) -> Callable[..., T]:
        """Wrap a function of the other side: nothing is counted while it runs."""

        def wrapped(*arguments: Any) -> T:
            if not self._counting:
                return function(*arguments)
            self._profile.disable()
            try:
                return function(*arguments)
            finally:
                self._profile.enable()

        return wrapped

    def leave_out(self, simulator: MemorySimulator) -> None:
        """Count nothing of what the servers of a simulator do with what they receive."""
        factory: Any = simulator.reactor.servers[_HTTP2]
        build = factory.buildProtocol

        def buildProtocol(address: Any) -> Any:
            protocol = build(address)
            protocol.dataReceived = self.apart(protocol.dataReceived)
            return protocol

        factory.buildProtocol = buildProtocol


# The library: each way of sending, with a provider token, over TLS.


def _tokens(first: int) -> Iterator[str]:
    return (f"{number:064x}" for number in range(first, first + COUNT))


def _client(calls: Calls, send: Callable[[APNSClient, Iterator[str]], Deferred[Any]]) -> None:
    """Send with a client of the simulator."""
    simulator = MemorySimulator(authority=_AUTHORITY)
    calls.leave_out(simulator)
    client = simulator.client(credential=simulator.provider_token())
    simulator.result(send(client, _tokens(0)))
    with calls.counting():
        sending = send(client, _tokens(COUNT))
        simulator.flush()
    assert sending.called
    assert simulator.inbox.accepted == 2 * COUNT
    simulator.result(client.close())


def _same(client: APNSClient, tokens: Iterator[str]) -> Deferred[Any]:
    return client.send(_NOTIFICATION, tokens)


def _each(client: APNSClient, tokens: Iterator[str]) -> Deferred[Any]:
    return gatherResults([client.send_one(Notification(alert=ALERT), token) for token in tokens])


def _send_many(calls: Calls) -> None:
    _client(
        calls,
        lambda client, tokens: client.send_many((token, Notification(alert=ALERT, badge=1), token) for token in tokens),
    )


def _in_flight(send: Callable[[APNSClient, Iterator[str]], Deferred[Any]]) -> float:
    """Return how many objects there are for each notification that has left or waits."""
    simulator = MemorySimulator(authority=_AUTHORITY)
    client = simulator.client(credential=simulator.provider_token())
    simulator.result(send(client, _tokens(0)))
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        sending = send(client, _tokens(COUNT))
        after = len(gc.get_objects())
    finally:
        gc.enable()
    status = client.status()
    simulator.result(sending)
    simulator.result(client.close())
    return (after - before) / (status.in_flight + status.queued)


# The faces: until the caller has its answer, and the notifications are stored.


@contextmanager
def _world() -> Iterator[FacesWorld]:
    with tempfile.TemporaryDirectory() as directory:
        world = FacesWorld(Path(directory) / "world")
        world.add("chess", world.certificate, limits=Limits(queue=10**6, tokens=10_000))
        yield world
        world.stop()


def _settled(world: FacesWorld, done: Callable[[], bool]) -> None:
    """Let time pass until something is so."""
    for _ in range(100):
        if done():
            return
        world.reactor.advance(0.002)
    raise AssertionError("it did not happen")


def _native(calls: Calls, tokens: int) -> None:
    """Post to the native API over 64 connections, as far as there are as many requests."""
    with _world() as world:
        face = Native(world.intake, world.outcome_log, world.log, world.feed, world.apps, world.keys)
        server = HTTPServer(world.reactor, face)
        requests = [_request(first, tokens) for first in range(0, 2 * COUNT, tokens)]
        connections = [Connection(server, world.reactor) for _ in range(min(64, len(requests) // 2))]

        def post(some: Sequence[bytes]) -> None:
            for start in range(0, len(some), len(connections)):
                group = list(zip(connections, some[start : start + len(connections)], strict=False))
                for connection, request in group:
                    connection.write(request)
                _settled(world, lambda group=group: all(each.transport.value() for each, _ in group))
                for connection, _ in group:
                    connection.transport.clear()

        post(requests[: len(requests) // 2])
        with calls.counting():
            post(requests[len(requests) // 2 :])
        assert world.queue.waiting("chess").count == 2 * COUNT


def _request(first: int, tokens: int) -> bytes:
    headers = {"apns-topic": "com.example.chess", "apns-push-type": "alert", "apns-priority": "10"}
    notification = {
        "tokens": [f"{number:064x}" for number in range(first, first + tokens)],
        "headers": headers,
        "payload": {"aps": {"alert": ALERT}},
    }
    body = json.dumps({"notifications": [notification]}).encode()
    lines = [
        "POST /v1/apps/chess/notifications HTTP/1.1",
        "Host: gateway",
        "User-Agent: tests/1.0",
        "Accept: */*",
        f"Authorization: Bearer {key_of('all')}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _apple(calls: Calls) -> None:
    """Send as Apple's clients do, as many at a time as they may have under way, in reads of 64 KiB."""
    with _world() as world:
        options = AppleSection(listen=[], mode="queue")
        face = Apple(world.reactor, world.intake, world.apps, world.keys, world.log, options, world.limits)
        protocol, transport = face.factory().buildProtocol(None), StringTransport()
        protocol.makeConnection(transport)
        requests: RequestSender[int] = RequestSender(b"localhost")
        fields = (
            (b"authorization", b"bearer " + key_of("chess").encode()),
            (b"apns-topic", b"com.example.chess"),
            (b"apns-push-type", b"alert"),
        )
        head = requests.head(b"POST")

        @calls.apart
        def answers() -> int:
            requests.receive(transport.value())
            transport.clear()
            return len(requests)

        @calls.apart
        def written() -> bytes:
            return requests.data_to_send()

        def post(first: int) -> None:
            for number in range(first, first + COUNT):
                requests.send(number, head, b"/3/device/%064x" % number, fields, PAYLOAD)

        def exchange() -> None:
            while answers():
                if data := written():
                    for start in range(0, len(data), 1 << 16):
                        protocol.dataReceived(data[start : start + (1 << 16)])
                else:
                    world.reactor.advance(0.002)

        protocol.dataReceived(written())
        answers()
        post(0)
        exchange()
        world.reactor.advance(1.0)  # so many frames at once are too many
        post(COUNT)
        with calls.counting():
            exchange()
        assert world.queue.waiting("chess").count == 2 * COUNT


def _binary(calls: Calls) -> None:
    """Write notifications to the binary bridge, each with a payload of its own, in reads of 64 KiB."""
    with _world() as world:
        options = BinarySection(listen=[], feedback=[], app="chess")
        face = Binary(world.reactor, world.intake, world.apps, world.log, options, world.limits)
        protocol, transport = face.factory().buildProtocol(None), StringTransport()
        protocol.makeConnection(transport)

        def write(data: bytes, count: int) -> None:
            for start in range(0, len(data), 1 << 16):
                protocol.dataReceived(data[start : start + (1 << 16)])
                _settled(world, lambda: transport.producerState == "producing")
            _settled(world, lambda: world.queue.waiting("chess").count == count)

        def frames(first: int) -> bytes:
            return b"".join(
                encode_framed(number, number.to_bytes(32, "big"), PAYLOAD[:-4] + b'%d"}}' % number, 2_000_000_000, 10)
                for number in range(first, first + COUNT)
            )

        some, others = frames(1), frames(1 + COUNT)
        write(some, COUNT)
        with calls.counting():
            write(others, 2 * COUNT)


# From the queue to Apple, and back.


def _relay(calls: Calls) -> None:
    """Lease, send and settle what waits."""
    world = DispatchWorld()
    try:
        calls.leave_out(world.simulator)
        world.start()
        for first in range(0, 2 * COUNT, 100):
            tokens = [token(number) for number in range(first, first + 100)]
            message = Message("chess", PAYLOAD, HEADERS, tokens, world.ids.take(100))
            world.result(world.queue.accept([message]))
            if first == COUNT - 100:
                world.dispatcher.wake("chess")
                world.drain()
        with calls.counting():
            world.dispatcher.wake("chess")
            world.drain()
        assert world.state().accepted == 2 * COUNT
    finally:
        world.close()


def _alone(calls: Calls) -> None:
    """Accept, lease, send and settle notifications of which each comes when nothing else waits."""
    world = DispatchWorld()
    try:
        calls.leave_out(world.simulator)
        world.start()
        world.accept()
        world.drain()
        with calls.counting():
            for _ in range(ALONE):
                world.accept(lane=Lane.URGENT)
                world.drain()
        assert world.state().accepted == ALONE + 1
    finally:
        world.close()


_AUTHORITY = Authority()
_HTTP2 = 2197
#: Each way of sending with objects in flight, by name.
OBJECTS = {
    "client.send, objects in flight": _same,
    "client.send_one, new notifications, objects in flight": _each,
}
#: Each path, by name: what counts its calls.
SCENARIOS: dict[str, Callable[[Calls], None]] = {
    "client.send": partial(_client, send=_same),
    "client.send_many, from keywords": _send_many,
    "client.send_one, new notifications": partial(_client, send=_each),
    "native API, 100 devices": partial(_native, tokens=100),
    "native API, 1 device": partial(_native, tokens=1),
    "Apple-compatible face": _apple,
    "binary bridge": _binary,
    "sender, from the queue to Apple and back": _relay,
    "store and sender, notifications that come alone": _alone,
}


def counted(name: str) -> float:
    """
    Count the calls of a path for each notification, or the objects.

    :raises AssertionError: the path leaves objects in cycles.
    """
    if name in OBJECTS:
        return _in_flight(OBJECTS[name])
    calls = Calls()
    scenario = SCENARIOS[name]
    scenario(calls)
    assert not calls.garbage, f"{name}: {calls.garbage} objects are in cycles"
    return calls.total / (ALONE if scenario is _alone else COUNT)


def known() -> dict[str, dict[str, float]]:
    """Read the figures, by version of Python."""
    found: dict[str, dict[str, float]] = json.loads(FILE.read_text()) if FILE.exists() else {}
    return found


def main() -> None:
    """Write the figures for this version of Python, and say what has changed."""
    found = known()
    before, now = found.get(VERSION, {}), {name: round(counted(name), 1) for name in (*SCENARIOS, *OBJECTS)}
    for name, figure in now.items():
        sys.stdout.write(f"{name:48} {before.get(name, float('nan')):8.1f} -> {figure:8.1f}\n")
    FILE.write_text(json.dumps({**found, VERSION: now}, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
