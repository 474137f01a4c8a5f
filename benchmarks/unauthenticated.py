"""
What unauthenticated callers cost: ``python benchmarks/unauthenticated.py``.

Three processes: a daemon as an operator starts it (``txapns serve``, with keys); an attacker without a key; and this
one, which meanwhile sends requests with a key and asks for ``/healthz``, each time over a new connection, because an
attack could keep new connections out.

- half: 200 incomplete requests a second at an HTTP/1.1 face, some without a complete head and some without a complete
  body, and the connections stay open; one face after the other;
- unread: 1,000 connections to a face, from eight addresses, each with as many requests in a row as it accepts, and none
  of the responses is read; connections that the daemon aborts are made again after five seconds;
- settings: 30 connections to the Apple-compatible face, which begin 900 streams each and change INITIAL_WINDOW_SIZE as
  often as they can; they are made again a second after they were aborted.

Everything is on the loopback interface. ``--seconds`` is the duration of each attack.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import multiprocessing
import platform
import re
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import ngh2

from txapns.simulator import Authority

#: Incomplete requests a second; connections that read nothing; connections that change settings, and their streams.
RATE, UNREAD, CHANGERS, STREAMS = 200, 1_000, 30, 900
#: Requests a second with a key, and for ``/healthz``; how many seconds a response may take.
ASKED, PATIENCE = 20, 5.0
#: The goals: the fraction of requests with a key that are served, and the maximum of memory in MB.
SERVED, MEMORY = 0.99, 250

HALVES = (
    b"POST /v1/apps/chess/notifications HTTP/1.1\r\nHost: h\r\nContent-Le",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: text/xml\r\nContent-Length: 1000\r\n\r\n<?xml",
    b"G",
    b"GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n",
)
BODY = b'{"notifications": [{"tokens": ["' + b"ab" * 32 + b'"], "payload": {"aps": {"alert": "Hello"}}}]}'

CONFIGURATION = """
[intake.native]
listen = "tcp:port=0:interface=127.0.0.1"
[intake.pyapns]
listen = "tcp:port=0:interface=127.0.0.1"
[intake.apple]
listen = "tcp:port=0:interface=127.0.0.1"
[admin]
listen = "tcp:port=0:interface=127.0.0.1"
[apps.chess]
gateway = "http2:host=127.0.0.1:port=1"
key = "AuthKey.p8"
key_id = "ABC123DEFG"
team_id = "DEF123GHIJ"
topic = "com.example.chess"
"""


@attrs.define
class Asked:
    """
    The results of repeated requests.

    :ivar took: how long each response took, in seconds.
    :ivar failed: how often there was none, or a wrong one.
    """

    took: list[float] = attrs.Factory(list)
    failed: int = 0

    @property
    def served(self) -> float:
        """The fraction that was served."""
        return len(self.took) / max(1, len(self.took) + self.failed)

    def __str__(self) -> str:
        """Summarize the results."""
        took = sorted(self.took) or [float("nan")]
        median, slow = took[len(took) // 2] * 1e3, took[len(took) * 99 // 100] * 1e3
        count = len(self.took) + self.failed
        return f"{self.served:7.2%} of {count:5,} ({median:.0f} ms, p99 {slow:.0f} ms, longest {took[-1] * 1e3:.0f} ms)"


def memory(process: int) -> float:
    """Return the memory of a process in MB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]) / 1024


@contextmanager
def daemon() -> Iterator[tuple[int, dict[str, int], str]]:
    """Run a daemon; yields its process, its ports by the keys of the configuration, and an API key."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "AuthKey.p8").touch(mode=0o600)
        (directory / "AuthKey.p8").write_bytes(Authority().p8)
        config = directory / "apns.toml"
        config.write_text(CONFIGURATION)
        command = [sys.executable, "-m", "txapns"]
        adding = [*command, "keys", "add", "caller", "--all-apps", "--config", str(config)]
        key = subprocess.run(adding, check=True, capture_output=True, text=True).stdout.strip()
        serving = [*command, "serve", "--config", str(config)]
        with (directory / "log").open("w") as log:
            process = subprocess.Popen(serving, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            addresses = re.findall(r'"([a-z.]+)": \["127\.0\.0\.1:(\d+)"', process.stdout.readline())
            yield process.pid, {name: int(port) for name, port in addresses}, key
        finally:
            process.terminate()
            process.wait(60)
            process.stdout.close()
            lines = (directory / "log").read_text().splitlines()
            faults = [line for line in lines if "Traceback" in line]
            print("\n".join([f"log: {len(lines)} lines, {len(faults)} with tracebacks", *faults[:1]]))


# The attacker, in a process of its own.


async def held(port: int, data: bytes) -> None:
    """Send some bytes, and wait until the daemon closes."""
    with suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(OSError):
            writer.write(data)
            await reader.read()
        writer.transport.abort()


async def half(port: int) -> None:
    """Send incomplete requests."""
    tasks = set()
    begun = time.monotonic()
    for count in range(10**9):
        task = asyncio.ensure_future(held(port, HALVES[count % len(HALVES)]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        await asyncio.sleep(max(0.0, begun + count / RATE - time.monotonic()))


async def greedy(port: int, number: int) -> None:
    """Send requests without end from one of eight addresses, and read nothing."""
    request = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
    while True:
        with suppress(OSError):
            address = f"127.0.0.{2 + number % 8}", 0
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1, local_addr=address)
            reader._transport.pause_reading()
            with suppress(OSError):
                while True:
                    writer.write(request * 1_000)
                    await writer.drain()
            writer.transport.abort()
        await asyncio.sleep(5)


async def unread(port: int) -> None:
    """Run many connections that read nothing."""
    await asyncio.gather(*[greedy(port, number) for number in range(UNREAD)])


async def changer(port: int) -> None:
    """Begin many streams, and change the window of all of them again and again."""
    head = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/3/device/ab"), (b":authority", b"x")]
    h2 = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration(peer_max_concurrent_streams=STREAMS))
    h2.initiate_connection({})
    for _ in range(STREAMS):
        h2.send_request(head)
    changes = b"".join(b"\0\0\6\4\0\0\0\0\0\0\4" + size.to_bytes(4, "big") for size in (1_000, 65_535)) * 1_000
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with suppress(OSError):
        writer.write(h2.data_to_send())
        while not reader.at_eof():
            writer.write(changes)
            await writer.drain()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(reader.read(65_536), 0.001)
    writer.transport.abort()


async def settings(port: int) -> None:
    """Run several connections that change settings."""

    async def again() -> None:
        while True:
            with suppress(OSError):
                await changer(port)
            await asyncio.sleep(1)

    await asyncio.gather(*[again() for _ in range(CHANGERS)])


def attack(kind: Callable[[int], Awaitable[None]], port: int) -> None:
    """Attack until the process is ended."""
    asyncio.run(kind(port))


# The requests meanwhile.


async def ask(port: int, data: bytes) -> bool:
    """Send a request over a new connection; returns whether the response is right."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        return (await reader.readline()).split()[1:2] in ([b"200"], [b"202"])
    finally:
        writer.transport.abort()


async def ask_again(port: int, data: bytes, seconds: float) -> Asked:
    """Send requests at a rate that does not depend on the responses."""
    asked = Asked()

    async def once() -> None:
        begun = time.monotonic()
        try:
            served = await asyncio.wait_for(ask(port, data), PATIENCE)
        except (OSError, asyncio.TimeoutError):
            served = False
        if served:
            asked.took.append(time.monotonic() - begun)
        else:
            asked.failed += 1

    tasks = []
    for _ in range(int(seconds * ASKED)):
        tasks.append(asyncio.ensure_future(once()))
        await asyncio.sleep(1 / ASKED)
    await asyncio.gather(*tasks)
    return asked


async def watch(process: int, seconds: float) -> float:
    """Follow the memory of a process; returns the peak in MB."""
    most = 0.0
    for _ in range(int(seconds * 10)):
        most = max(most, memory(process))
        await asyncio.sleep(0.1)
    return most


def post(path: str, kind: str, authorization: str, body: bytes) -> bytes:
    """Write a request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\nContent-Type: {kind}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def requests(key: str) -> dict[str, bytes]:
    """Return a request with a key for each face of HTTP/1.1."""
    basic = base64.b64encode(f"any:{key}".encode()).decode()
    call = xmlrpc.client.dumps(("chess",), "feedback").encode()
    return {
        "intake.native": post("/v1/apps/chess/notifications", "application/json", f"Bearer {key}", BODY),
        "intake.pyapns": post("/", "text/xml", f"Basic {basic}", call),
        "admin": b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    }


def run(kind: Any, face: str, seconds: float) -> bool:
    """Attack a face of a new daemon; returns whether the goals are reached."""
    with daemon() as (process, ports, key):
        attacker = multiprocessing.Process(target=attack, args=(kind, ports[face]), daemon=True)
        attacker.start()
        served = face if face in requests(key) else "intake.native"
        healthz = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

        async def meanwhile() -> tuple[Asked, Asked, float]:
            return await asyncio.gather(
                ask_again(ports[served], requests(key)[served], seconds),
                ask_again(ports["admin"], healthz, seconds),
                watch(process, seconds),
            )

        keyed, healthy, most = asyncio.run(meanwhile())
        attacker.kill()
        attacker.join()
        print(f"{kind.__name__}, {face}:")
        print(f"  with a key  {keyed}\n  /healthz    {healthy}\n  memory      {most:.0f} MB at most", flush=True)
    return most < MEMORY and (kind is unread or (keyed.served >= SERVED and not healthy.failed))


def main() -> None:
    """Attack, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="the duration of each attack")
    parser.add_argument("--only", choices=("half", "unread", "settings"), help="only one kind of attack")
    given = parser.parse_args()
    print(f"Python {platform.python_version()}, {given.seconds:g} s each")
    faces = ("intake.native", "intake.pyapns", "admin")
    plan = [(half, face) for face in faces] + [(unread, face) for face in faces] + [(settings, "intake.apple")]
    well = [run(kind, face, given.seconds) for kind, face in plan if given.only in (None, kind.__name__)]
    sys.exit(0 if all(well) else "not all goals are reached")


if __name__ == "__main__":
    main()
