"""
What a notification costs over the binary protocol: ``python benchmarks/binary.py [notifications] [rounds]``.

A server in a process of its own reads and does nothing else. In turn, each over one connection with TLS on loopback,
these senders send the same bytes to it, for tokens in a list:

- ``client.send``, including the results;
- Twisted alone: a producer that writes the prepared bytes to a TLS transport. This is the floor for any client written
  with Twisted;
- pushjack and apns-clerk, which block, each in a process of its own: ``peers/``. ``make interop`` installs them.

The CPU time is that of the sending process, user and system. Medians of the rounds are printed, with the range; rates
exclude the time in which a sender only waits for an error packet at the end. The server speaks TLS 1.2, because
pushjack cannot handle the tickets of TLS 1.3.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react
from twisted.internet.utils import getProcessOutputAndValue
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from txapns import APNSClient, Certificate, Gateway, Notification
from txapns.simulator import Authority
from txapns.wire.frames import encode_framed

TOPIC = "com.example.app"
PAYLOAD = {"aps": {"alert": "x" * 100}}  # 120 bytes
EXPIRATION = 1_700_000_000
NOTIFICATION = Notification(payload=PAYLOAD, expiration=EXPIRATION, priority=10)
#: How many bytes Twisted alone writes at a time.
CHUNK = 2**16
#: The module names of the other clients, and where they are installed.
PEERS = ("pushjack", "apns_clerk")
ENVIRONMENT = Path(__file__).parent.parent / ".venv/interop"


class Reader(Protocol):
    """A server that reads."""


async def serve(state: Path) -> None:
    """Write the credentials, listen, print the port, and read until the process is ended."""
    authority = Authority()
    (state / "ca.pem").write_bytes(authority.ca_pem)
    (state / "client.pem").write_bytes(authority.client_pem(TOPIC))
    factory = TLSMemoryBIOFactory(
        authority.server_options((), tls12=True, require_certificate=True), False, Factory.forProtocol(Reader)
    )
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    print(json.dumps({"port": port.getHost().port}), flush=True)
    await Deferred()


@implementer(IPushProducer)
class Writer(Protocol):
    """
    Writes prepared bytes as fast as the transport accepts them, and closes.

    :param data: what to write.
    """

    def __init__(self, data: bytes) -> None:
        self.done: Deferred[None] = Deferred()
        self._chunks: Iterator[bytes] = (data[start : start + CHUNK] for start in range(0, len(data), CHUNK))
        self._paused = False

    def connectionMade(self) -> None:
        """Begin."""
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        """Pause: the buffers are full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Continue: the buffers are empty."""
        self._paused = False
        while not self._paused:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._paused = True
                self.transport.unregisterProducer()
                self.transport.loseConnection()
            else:
                self.transport.write(chunk)

    def stopProducing(self) -> None:
        """Do nothing: the connection is closed."""

    def connectionLost(self, reason: object) -> None:
        """Everything was read."""
        self.done.callback(None)


async def measure(count: int, send: Callable[[], Awaitable[None]], quiet: float = 0.0) -> tuple[float, float]:
    """Send notifications; returns the rate, without the quiet time at the end, and the CPU time of each in µs."""
    before, started = os.times(), time.perf_counter()
    await send()
    took, after = time.perf_counter() - started - quiet, os.times()
    cpu = after.user + after.system - before.user - before.system
    return count / took, cpu / count * 1e6


async def run_peer(name: str, state: Path, port: int, count: int) -> tuple[float, float]:
    """Let another client send; returns the same as ``measure``."""
    script = Path(__file__).parent / f"peers/{name}_peer.py"
    arguments = ["-W", "ignore", str(script), str(port), str(state), str(count), str(EXPIRATION)]
    printed, errors, status = await getProcessOutputAndValue(
        str(ENVIRONMENT / "bin/python"), arguments, env=os.environ, reactor=reactor
    )
    if status != 0:
        raise SystemExit(errors.decode())
    found = json.loads(printed)
    return found["rate"], found["cpu"]


async def compare(state: Path, port: int, count: int, rounds: int) -> None:
    """Let the senders take turns, and print the results."""
    gateway = Gateway.binary("localhost", port, trust_root=(state / "ca.pem").read_bytes())
    certificate = Certificate.from_file(state / "client.pem")
    tokens = [f"{number:064x}" for number in range(count)]
    data = b"".join(
        encode_framed(number + 1, number.to_bytes(32, "big"), NOTIFICATION.body, EXPIRATION, 10)
        for number in range(count)
    )

    async def ours() -> None:
        client = APNSClient(reactor, certificate, gateway)
        batch = await client.send(NOTIFICATION, tokens)
        if batch.accepted != count:
            raise SystemExit(f"not all were accepted: {batch}")
        await client.close()

    async def twisted() -> None:
        writer = Writer(data)
        await gateway.endpoint(reactor, certificate).connect(Factory.forProtocol(lambda: writer))
        await writer.done

    senders = {"client.send": (ours, gateway.settle_time), "Twisted alone": (twisted, 0.0)}
    peers = [name for name in PEERS if list(ENVIRONMENT.glob(f"lib/python*/site-packages/{name}"))]
    if missing := [name for name in PEERS if name not in peers]:
        print(f"without {' and '.join(missing)}: make interop installs them, pushjack up to Python 3.11")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in (*senders, *peers)}
    for _ in range(rounds):
        for name, (send, quiet) in senders.items():
            found[name].append(await measure(count, send, quiet))
        for name in peers:
            found[name].append(await run_peer(name, state, port, count))
    for name, measured in found.items():
        rates, costs = zip(*measured, strict=True)
        print(
            f"{name:16} {statistics.median(rates):9,.0f}/s ({min(rates):,.0f} to {max(rates):,.0f})"
            f" {statistics.median(costs):6.2f} µs CPU each ({min(costs):.2f} to {max(costs):.2f})"
        )
    above = [mine[1] - floor[1] for mine, floor in zip(found["client.send"], found["Twisted alone"], strict=True)]
    print(f"above Twisted alone: {statistics.median(above):.2f} µs CPU each ({min(above):.2f} to {max(above):.2f})")


def main() -> None:
    """Start the server, and compare."""
    if sys.argv[1:2] == ["--serve"]:
        react(lambda _: Deferred.fromCoroutine(serve(Path(sys.argv[2]))))
    count, rounds = ([int(argument) for argument in sys.argv[1:]] + [500_000, 5][len(sys.argv) - 1 :])[:2]
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__, "--serve", directory]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                port = json.loads(server.stdout.readline())["port"]
                react(lambda _: Deferred.fromCoroutine(compare(Path(directory), port, count, rounds)))
            finally:
                server.terminate()


if __name__ == "__main__":
    main()
