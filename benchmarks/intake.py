"""
What a request to the daemon's HTTP API costs, and how many a second it accepts.

    python benchmarks/intake.py [--seconds 5] [--directory DIR]

First the parts, in memory and in one thread: HTTP alone, then with the key, with JSON, and with all checks and ids.
Then a process on loopback, with its SQLite database in a temporary directory, called over persistent connections:
requests with one token at concurrency 64, and with 100 tokens at concurrency 8. Nothing is sent to Apple. Costs are CPU
time; on loopback, that of the serving process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT))

from tests.daemon.fakes import Apps, Keys, Waiting, key_of  # noqa: E402
from txapns._network.clocks import SystemWallClock  # noqa: E402
from txapns._serving.http import Answer, HTTPServer  # noqa: E402
from txapns.daemon.faces.native.face import Native  # noqa: E402
from txapns.daemon.identifiers import Identifiers  # noqa: E402
from txapns.daemon.intake import Intake  # noqa: E402
from txapns.daemon.values import Caller, Estimate, Limits, Receipt  # noqa: E402

ROUNDS = 3_000


def request_of(tokens: int) -> bytes:
    """Write a request, as a common client would."""
    notification = {
        "tokens": [os.urandom(32).hex() for _ in range(tokens)],
        "headers": {"apns-topic": "com.example.chess", "apns-push-type": "alert", "apns-priority": "10"},
        "payload": {"aps": {"alert": {"title": "Chess", "body": "It is your turn."}, "badge": 1, "sound": "default"}},
    }
    body = json.dumps({"notifications": [notification]}).encode()
    lines = [
        "POST /v1/apps/chess/notifications HTTP/1.1",
        "Host: 127.0.0.1:8080",
        "User-Agent: benchmark/1.0",
        "Accept: */*",
        "Accept-Encoding: gzip, deflate",
        f"Authorization: Bearer {key_of('all')}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


# The parts.


class Constant(Native):
    """
    Stops somewhere on the way, and answers the same always.

    :param checks: whether it looks at the key.
    """

    def __init__(self, intake: Any, apps: Apps, keys: Keys, checks: bool) -> None:
        super().__init__(intake, None, None, None, apps, keys)  # type: ignore[arg-type]
        self._checks = checks

    def begun(self, request: Any) -> Answer | None:
        """Look, or do not."""
        return super().begun(request) if self._checks else None

    def received(self, request: Any) -> Answer:
        """Answer."""
        return Answer(202, b'{"notifications":[{"ids":["018bcfe5-6800-7000-8a3c-5d6e7f809112"]}]}')


class Nothing:
    """An intake and a queue that accept everything and store nothing."""

    def accept(self, things: Any, *others: Any, **options: Any) -> Deferred[list[Receipt]]:
        """Accept it."""
        if isinstance(things, str):
            groups = [["018bcfe5-6800-7000-8a3c-5d6e7f809112" for _ in draft.tokens] for draft in others[0]]
        else:
            groups = [list(message.apns_ids) for message in things]
        return succeed([Receipt(range(len(ids)), ids) for ids in groups])

    def waiting(self, app: str) -> Estimate:
        """Nothing ever waits."""
        return Estimate(0, 0.0)


def measure(server: HTTPServer, data: bytes) -> float:
    """Send requests in memory, and return the microseconds for each."""
    transport = StringTransport()
    channel = server.buildProtocol(None)
    channel.makeConnection(transport)
    begun = time.process_time()
    for _ in range(ROUNDS):
        channel.dataReceived(data)
        transport.clear()
    spent = time.process_time() - begun
    channel.connectionLost(None)
    return spent / ROUNDS * 1e6


def parts() -> None:
    """Print what the parts cost."""
    clock = Clock()
    clock.rightNow = time.time()
    apps, keys = Apps({"chess": Limits(queue=10**9)}), Keys(Caller("all", None, None))
    intake = Intake(apps, Nothing(), Identifiers(SystemWallClock()), Waiting(clock), lambda name: None)  # type: ignore[arg-type]
    steps = {
        "HTTP": Constant(intake, apps, keys, False),
        "and the key": Constant(intake, apps, keys, True),
        "and JSON": Native(Nothing(), None, None, None, apps, keys),  # type: ignore[arg-type]
        "and checks and ids": Native(intake, None, None, None, apps, keys),  # type: ignore[arg-type]
    }
    for tokens in (1, 100):
        data = request_of(tokens)
        for name, application in steps.items():
            spent = min(measure(HTTPServer(clock, application), data) for _ in range(3))
            print(f"{tokens:>4} tokens  {name:<20} {spent:>8.1f} µs a request")


# On loopback.


class Asking(Protocol):
    """
    A connection that asks again and again.

    :param data: the request.
    :param latencies: where to put how long each answer took.
    """

    def __init__(self, data: bytes, latencies: list[float]) -> None:
        self._data = data
        self._latencies = latencies
        self._buffer = b""
        self._asked = 0.0
        self.stopped = False

    def connectionMade(self) -> None:
        """Begin."""
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self.transport.write(self._data)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        """Look for the end of an answer."""
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        assert head.startswith(b"HTTP/1.1 202 "), self._buffer
        self._buffer = b""
        self._latencies.append(time.perf_counter() - self._asked)
        if not self.stopped:
            self._ask()


def processor_seconds(process: int) -> float:
    """Tell how much processor time a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(port: int, process: int, tokens: int, concurrency: int, seconds: float) -> None:
    """Call for some time, and print what came of it."""
    latencies: list[float] = []
    endpoint = HostnameEndpoint(reactor, "127.0.0.1", port)  # type: ignore[arg-type]
    callers = [await connectProtocol(endpoint, Asking(request_of(tokens), latencies)) for _ in range(concurrency)]
    await deferLater(reactor, 1.0)  # type: ignore[arg-type]
    latencies.clear()
    before, begun = processor_seconds(process), time.perf_counter()
    await deferLater(reactor, seconds)  # type: ignore[arg-type]
    spent, count = time.perf_counter() - begun, len(latencies)
    used = processor_seconds(process) - before
    found = sorted(latencies)
    for caller in callers:
        caller.stopped = True
    await deferLater(reactor, 0.5)  # type: ignore[arg-type]
    for caller in callers:
        caller.transport.loseConnection()
    print(
        f"{tokens:>4} tokens  concurrency {concurrency:<3} {count / spent:>8,.0f} requests/s"
        f" {count * tokens / spent:>9,.0f} notifications/s  processor {used / count * 1e6:>6.0f} µs a request"
        f"  median {found[count // 2] * 1e3:.1f} ms, p99 {found[count * 99 // 100] * 1e3:.1f} ms"
    )


async def loopback(seconds: float, directory: str | None) -> None:
    """Start the process, and call it."""
    command = [sys.executable, "-m", "tests.daemon.serve_native", *(["--directory", directory] if directory else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        try:
            await load(port, process.pid, 1, 64, seconds)
            await load(port, process.pid, 100, 8, seconds)
        finally:
            process.terminate()


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to call for")
    parser.add_argument("--directory", help="where the database is, in a directory that is gone afterwards")
    options = parser.parse_args()
    parts()

    def finished(result: object) -> object:
        reactor.stop()  # type: ignore[attr-defined]
        return None if result is None else print(result)

    reactor.callWhenRunning(  # type: ignore[attr-defined]
        lambda: Deferred.fromCoroutine(loopback(options.seconds, options.directory)).addBoth(finished)
    )
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
