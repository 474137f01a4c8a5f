"""
A daemon in a process of its own, for tests that start it, send it requests, and kill it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers

from tests.processes import interruptible
from txapns.simulator import Simulator

__all__ = ["DaemonProcess", "configuration", "listen"]

#: How long a start or a stop may take before the test gives up, in seconds.
PATIENCE = 120


def listen(simulator: Simulator, protocol: Literal["http2", "channels"] = "http2") -> Any:
    """Listen with one of a simulator's servers in this process; returns the port."""
    return reactor.listenTCP(0, simulator.tls_factory(protocol), interface="127.0.0.1")


def configuration(
    directory: Path,
    simulator: Simulator,
    port: int,
    more: str = "",
    callers: Sequence[str] = (),
    *,
    management: int | None = None,
    keys: bool = False,
) -> Path:
    """
    Write the configuration of a daemon that sends to a simulator and records the outcomes, and the credentials.

    :param more: further tables.
    :param callers: the fingerprints of client certificates that may send.
    :param management: the port of the simulator's server for channels.
    :param keys: whether the HTTP API takes only callers with a key.
    :returns: the file.
    """
    authority = simulator.authority
    (directory / "ca.pem").write_bytes(authority.ca_pem)
    for name, content in (("AuthKey.p8", authority.p8), ("server.pem", authority.server_certificate())):
        (directory / name).touch(mode=0o600)
        (directory / name).write_bytes(content)
    path = directory / "apns.toml"
    path.write_text(
        f"""
{more}
[intake.native]
listen = "tcp:port=0:interface=127.0.0.1"
keys = {json.dumps(keys)}

[admin]
listen = "tcp:port=0:interface=127.0.0.1"

[apps.chess]
gateway = "http2:host=127.0.0.1:port={port}{"" if management is None else f":management_port={management}"}"
trust_root = "ca.pem"
key = "AuthKey.p8"
key_id = "{authority.key_id}"
team_id = "{authority.team_id}"
topic = "{simulator.topic}"
outcomes = true
callers = {json.dumps(list(callers))}
"""
    )
    return path


class _Collector(Protocol):
    """Collects a body."""

    def __init__(self) -> None:
        self.body: Deferred[bytes] = Deferred()
        self._pieces: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        """Keep the data."""
        self._pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The body is complete, or the connection broke."""
        if reason.check(ResponseDone):
            self.body.callback(b"".join(self._pieces))
        else:
            self.body.errback(reason)


class DaemonProcess:
    """
    A daemon in a process of its own.

    :param config: its configuration.
    :param program: Python's arguments that run ``txapns``.
    :param prefix: what goes before the command.

    :ivar log: its standard error, of all runs.
    """

    def __init__(self, config: Path, program: Sequence[str] = ("-m", "txapns"), prefix: Sequence[str] = ()) -> None:
        self._config = config
        self._prefix = prefix
        self._program = program
        self._process: subprocess.Popen[str] | None = None
        self._addresses: dict[str, list[str]] = {}
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.retryAutomatically = False
        self._agent = Agent(reactor, connectTimeout=PATIENCE, pool=self._pool)
        self.log = config.with_name("daemon.log")

    async def start(self) -> dict[str, list[str]]:
        """Start it, and wait until it listens; returns the addresses."""
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [*self._prefix, sys.executable, *self._program, "serve", "--config", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                preexec_fn=interruptible,
            )
        line = await deferToThread(self._first_line)
        self._addresses = json.loads(line)["addresses"]
        return self._addresses

    def _first_line(self) -> str:
        assert self._process is not None and self._process.stdout is not None
        watchdog = threading.Timer(PATIENCE, self._process.kill)
        watchdog.start()
        line = self._process.stdout.readline()
        watchdog.cancel()
        if not line:
            raise AssertionError(f"the daemon does not start: {self.log.read_text()}")
        return line

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal, and wait until it is gone; returns its exit status."""
        process, self._process = self._process, None
        assert process is not None and process.stdout is not None
        process.send_signal(number)
        try:
            return await deferToThread(process.wait, PATIENCE)
        finally:
            process.kill()  # it has already ended, unless something is wrong
            process.stdout.close()
            await self._pool.closeCachedConnections()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    async def read(self, path: str) -> str:
        """Read a page of the admin endpoint."""
        [address] = self._addresses["admin"]
        response = await self._agent.request(b"GET", f"http://{address}{path}".encode())
        collector = _Collector()
        response.deliverBody(collector)
        return (await collector.body).decode()

    def port(self, key: str) -> int:
        """Return the port of a listener, by the key of the configuration."""
        return int(self._addresses[key][0].rpartition(":")[2])

    @property
    def running(self) -> bool:
        """Whether it was started and not ended."""
        return self._process is not None

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        listener: str = "intake.native",
    ) -> tuple[int, Any]:
        """Send a request to the HTTP API, or to another listener; returns status and body."""
        from io import BytesIO

        [address] = self._addresses[listener]
        fields = {name: [value] for name, value in (headers or {}).items()}
        producer = None
        if body is not None:
            fields["Content-Type"] = ["application/json"]
            producer = FileBodyProducer(BytesIO(json.dumps(body).encode()))
        url = f"http://{address}{path}".encode()
        response = await self._agent.request(method.encode(), url, Headers(fields), producer)
        collector = _Collector()
        response.deliverBody(collector)
        return response.code, json.loads(await collector.body)
