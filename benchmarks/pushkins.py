"""
What Sygnal takes with the pushkin of txapns and with its own: ``python benchmarks/pushkins.py [--help]``.

It runs where Sygnal and txapns are installed together; see docs/sygnal.rst. For each of the two, in turn, a Sygnal of
its own gets notifications over its HTTP API as a homeserver sends them, one in each request, from connections that are
kept, and sends them to the server of ``benchmarks/http2.py`` with a provider token. Printed are the posts a second, the
CPU time of Sygnal's process for each, in ms, and how many connections it had to the server.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from http2 import KEY_ID, SCENARIOS, TEAM_ID, TOPIC, Server, serving

#: Leads aioapns to the server, for which nothing else of it or of Sygnal is changed.
PROGRAM = """
import sys
from aioapns.connection import APNsProductionClientProtocol as Apple
Apple.APNS_SERVER, Apple.APNS_PORT = "localhost", int(sys.argv.pop())
from sygnal.sygnal import main
main()
"""


def configuration(kind: str, server: Server, port: int) -> dict[str, object]:
    """Describe a Sygnal with one app, whose pushkin is of this kind."""
    app = {"keyfile": str(server.state / "AuthKey.p8"), "key_id": KEY_ID, "team_id": TEAM_ID, "topic": TOPIC}
    if kind == "txapns":
        app["gateway"] = f"http2:host=localhost:port={server.port}"
        app["trust_root"] = str(server.state / "ca.pem")
    return {
        "http": {"port": port, "bind_addresses": ["127.0.0.1"]},
        "log": {"setup": {"version": 1, "disable_existing_loggers": False}},
        "metrics": {},
        "apps": {
            TOPIC: {"type": "txapns.sygnal.ApnsPushkin" if kind == "txapns" else "apns", **app},
        },
    }


def request(number: int, port: int) -> bytes:
    """Make a homeserver's request."""
    device = {
        "app_id": TOPIC,
        "pushkey": base64.b64encode(number.to_bytes(32, "big")).decode(),
        "data": {"default_payload": {"aps": {"mutable-content": 1, "alert": {"loc-key": "MSG", "loc-args": []}}}},
    }
    notification = {"event_id": "$event", "room_id": "!room:example.com", "counts": {"unread": 2}, "devices": [device]}
    body = json.dumps({"notification": {**notification, "prio": "high"}}).encode()
    head = f"POST /_matrix/push/v1/notify HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def post(port: int, numbers: Iterator[int]) -> None:
    """Post over one connection, until there are no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in numbers:
        writer.write(request(number, port))
        answer = await reader.readuntil(b"\r\n0\r\n\r\n")  # chunked
        if not (answer.startswith(b"HTTP/1.1 200 ") and b'"rejected": []' in answer):
            raise RuntimeError(answer.decode())
    writer.close()


async def post_all(port: int, count: int, window: int) -> None:
    """Post from as many connections."""
    numbers = iter(range(count))
    await asyncio.gather(*(post(port, numbers) for _ in range(window)))


async def when_listening(port: int) -> None:
    """Wait until something listens."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


def connections(process: int, port: int) -> int:
    """Count the connections of a process to a port."""
    listing = subprocess.run(["ss", "-Htnp", f"dport = :{port}"], capture_output=True, text=True, check=True).stdout
    return listing.count(f"pid={process},")


def cpu_of(process: int) -> float:
    """Read how much CPU time a process has taken, in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(kind: str, server: Server, port: int, count: int, window: int) -> tuple[float, float, int]:
    """Run one Sygnal; returns the posts a second, the CPU time of each in ms, and its connections."""
    place = server.state / "sygnal.yaml"
    place.write_text(json.dumps(configuration(kind, server, port)))
    environment = {**os.environ, "SYGNAL_CONF": str(place), "SSL_CERT_FILE": str(server.state / "ca.pem")}
    command = [sys.executable, "-c", PROGRAM, str(server.port)]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            asyncio.run(when_listening(port))
            asyncio.run(post_all(port, min(count, 500), window))  # it connects
            before, began = cpu_of(process.pid), time.monotonic()
            asyncio.run(post_all(port, count, window))
            took, cpu = time.monotonic() - began, cpu_of(process.pid) - before
            return count / took, cpu / count * 1_000, connections(process.pid, server.port)
        finally:
            process.send_signal(signal.SIGTERM)


def main() -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description="Compare the pushkins.")
    parser.add_argument("--count", type=int, default=5_000, help="how many each Sygnal sends in a round")
    parser.add_argument("--rounds", type=int, default=5, help="how often they take turns")
    parser.add_argument("--window", type=int, nargs="+", default=[1, 50, 300], help="requests at once")
    parser.add_argument("--port", type=int, default=15_000, help="where Sygnal listens")
    given = parser.parse_args()
    with serving(SCENARIOS["plain"]) as server:
        for window in given.window:
            found: dict[str, list[tuple[float, float, int]]] = {"Sygnal's own": [], "txapns": []}
            for _ in range(given.rounds):
                for kind, rounds in found.items():
                    rounds.append(measure(kind, server, given.port, given.count, window))
            for kind, rounds in found.items():
                rates, cpus, many = zip(*rounds, strict=True)
                print(
                    f"{window} at once, {kind}: {median(rates):.0f}/s ({min(rates):.0f} to {max(rates):.0f}), "
                    f"{median(cpus):.3f} ms each ({min(cpus):.3f} to {max(cpus):.3f}), {max(many)} connections"
                )
            pairs = list(zip(found["txapns"], found["Sygnal's own"], strict=True))
            print(
                f"{window} at once: {median(ours[0] / theirs[0] for ours, theirs in pairs):.2f} times the posts, "
                f"{median(ours[1] / theirs[1] for ours, theirs in pairs):.2f} of the CPU time"
            )


if __name__ == "__main__":
    main()
