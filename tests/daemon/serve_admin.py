"""
The admin endpoint of a busy daemon in memory, on loopback: a process for tests, and for looking at the page.

The gateway is the simulator. The clock first advances by a quarter of an hour at once, then as fast as real time. The
process prints its address when it listens, and reads commands from its standard input: ``trip`` makes the gateway
refuse the credential of an app, ``trouble`` and ``well`` make the database fail and recover, ``upgrade`` gives another
version to the other node, ``end`` ends it.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from datetime import datetime, timedelta, timezone
from random import Random

import attrs
from twisted.internet import reactor
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall
from twisted.protocols.basic import LineReceiver

from tests.daemon.admin_world import AdminWorld, Nodes
from tests.daemon.dispatch_world import DEAD, token
from tests.daemon.fakes import Keys
from txapns.daemon.store.cluster import SingleNode
from txapns.daemon.values import Caller
from txapns.simulator import Response
from txapns.simulator.http2 import ProviderAPIServer
from txapns.wire.requests import Request

__all__ = ["main"]

QUARTER = 930  # seconds
APPS = {
    "chess": 320.0,
    "news": 20.2,
    "weather.beta": 5.5,
    "notes": 0.4,
}  # in how many days their certificates expire


class Scene:
    """
    The daemon and what happens in it.

    :param now: when it begins.
    :param keys: whether the admin endpoint requires a key: ``cleaner``'s, who may look, or ``boss``'s, who may manage.
    :param nodes: whether there are other nodes.
    """

    def __init__(self, now: float, keys: bool, nodes: bool) -> None:
        allowed = Keys(Caller("cleaner", frozenset(), None), Caller("boss", manage=True)) if keys else None
        self.world = AdminWorld(keys=allowed, now=now, delay=0.03, cluster=Nodes if nodes else SingleNode)
        self.tripped: set[str] = set()
        self._random = Random(7)
        self._seconds = 0
        for name, days in APPS.items():
            self._add(name, days)
        self.world.simulator.http2_fault = self._refuse

    def _add(self, name: str, days: float) -> None:
        expires = datetime.fromtimestamp(self.world.clock.seconds(), timezone.utc) + timedelta(
            days=days, seconds=QUARTER
        )
        self.world.add_app(name, credential=attrs.evolve(self.world.simulator.certificate(), expires=expires))

    def _refuse(self, server: ProviderAPIServer, request: Request, response: Response | None) -> Response | None:
        headers = dict(request.headers)
        if headers.get(b"apns-collapse-id", b"").decode() in self.tripped:
            return Response(403, "BadCertificateEnvironment")
        chance = self._random.random()
        if chance < 0.02:
            return Response(429, "TooManyRequests")
        return Response(400, "BadDeviceToken") if chance < 0.03 else response

    def second(self) -> None:
        """Send what is due in one second."""
        self._seconds += 1
        many = 14 + 9 * math.sin(self._seconds / 70) + self._random.randrange(5)
        for name, share in (("chess", 1.0), ("news", 0.4), ("weather.beta", 0.2)):
            tokens = [token(self._random.randrange(1 << 62) << 190) for _ in range(int(many * share))]
            if self._random.random() < 0.03:
                tokens.append(DEAD)
            if tokens:
                self.world.accept(app=name, tokens=tokens, collapse_id=name)
                self.world.metrics.received("native", name, len(tokens))

    def obey(self, word: str) -> None:
        """Carry out a command."""
        if word == "trip":
            self.tripped.add("weather.beta")
        elif word == "trouble":
            self.world.store.broken = "the disk is full"
        elif word == "upgrade":
            own, other = self.world.store.cluster.found
            self.world.store.cluster.found = [own, attrs.evolve(other, version="0.2", clock_offset=4.0)]
        elif word == "well":
            self.world.store.broken = ""
        else:
            reactor.stop()


class _Words(LineReceiver):
    delimiter = b"\n"

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def lineReceived(self, line: bytes) -> None:
        """Carry out a command."""
        self._scene.obey(line.decode())

    def connectionLost(self, reason: object = None) -> None:
        """The parent process is gone."""
        if reactor.running:
            reactor.stop()


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=QUARTER, help="how much time has passed at the start")
    parser.add_argument("--keys", action="store_true", help="ask for a key")
    parser.add_argument("--nodes", action="store_true", help="be one of two nodes")
    options = parser.parse_args()
    scene = Scene(time.time() - options.seconds, options.keys, options.nodes)
    for _ in range(options.seconds):
        scene.second()
        scene.world.advance(1.0)
    port = reactor.listenTCP(options.port, scene.world.server, interface="127.0.0.1")
    LoopingCall(scene.second).start(1.0)
    LoopingCall(lambda: scene.world.advance(max(0.0, time.time() - scene.world.clock.seconds()))).start(0.05)
    StandardIO(_Words(scene))
    sys.stdout.write(f"http://127.0.0.1:{port.getHost().port}\n")
    sys.stdout.flush()
    reactor.run()


if __name__ == "__main__":
    main()
