"""The processes of a cluster: the nodes, and the simulator with its ledger."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from unittest import TestCase

import attrs
from twisted.internet.threads import deferToThread

from tests import PROJECT
from tests.command.processes import environment
from tests.daemon.daemon_process import DaemonProcess
from tests.postgresql import Host
from tests.processes import started

__all__ = ["LedgerSimulator", "Node", "Reception"]


class Node(DaemonProcess):
    """
    ``txapns serve``.

    :param name: its name.
    :param config: its configuration.
    :param host: where it runs.
    :param program: Python's arguments that run ``txapns``.
    """

    def __init__(self, name: str, config: Path, host: Host, program: tuple[str, ...] = ("-m", "txapns")) -> None:
        super().__init__(config, program, host.prefix)
        self.name = name
        self.host = host
        #: Whether it takes notifications.
        self.ready = False

    async def start(self) -> dict[str, list[str]]:
        """Start it, and wait until it listens; returns the addresses."""
        addresses = await super().start()
        self.ready = True
        return addresses

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal, and wait until it is gone; returns its exit status."""
        self.ready = False
        return await super().end(number)

    async def gauges(self, name: str) -> dict[str, float]:
        """Read the values of one metric, by the name of the app."""
        lines = (await self.read("/metrics")).splitlines()
        found = [line.split() for line in lines if line.startswith(f"{name}{{")]
        return {labels.partition('app="')[2].partition('"')[0]: float(value) for labels, value in found}


@attrs.frozen
class Reception:
    """
    What the simulator has received.

    :ivar at: when, on the system's monotonic clock.
    :ivar node: the name of the node that sent it.
    :ivar token: for which device, in hexadecimal.
    :ivar apns_id: under which id.
    :ivar reason: why it was rejected, if it was.
    """

    at: float
    node: str
    token: str
    apns_id: str
    reason: str


class LedgerSimulator:
    """
    The simulator, with a port for each node.

    :param case: the test, after which it ends.
    :param directory: the directory for the credentials and the ledger.
    :param names: the names of the nodes.
    :param host: where it runs.
    :param addresses: the IP addresses of all servers with a certificate of its authority.
    :param delay: how long an answer takes, in seconds; more than 0.
    :param streams: how many answers may be due at a time on one connection.

    :ivar received: what has arrived so far, by token, in order.
    :ivar rejected: what was rejected.
    """

    def __init__(
        self,
        case: TestCase,
        directory: Path,
        names: list[str],
        host: Host,
        addresses: set[str],
        delay: float,
        streams: int,
    ) -> None:
        self.directory = directory
        self.host = host
        self._names = names
        arguments = [str(directory), str(delay), str(streams), host.address, str(len(names)), *sorted(addresses)]
        command = [*host.prefix, sys.executable, "-m", "tests.cluster.ledger_simulator", *arguments]
        self._process = started(
            case, command, stdout=subprocess.PIPE, text=True, cwd=PROJECT, env=environment(PYTHONUNBUFFERED="1")
        )
        self.received: defaultdict[str, list[Reception]] = defaultdict(list)
        self.rejected: list[Reception] = []
        self.ports: dict[str, int] = {}
        self.key_id = self.team_id = ""
        self._ledger = directory / "ledger"
        self._read = 0

    async def start(self) -> None:
        """Wait until it listens."""
        assert self._process.stdout is not None
        ready = json.loads(await deferToThread(self._process.stdout.readline))
        self.ports = dict(zip(self._names, ready["ports"], strict=True))
        self.key_id, self.team_id = ready["key_id"], ready["team_id"]

    def app(self, node: str) -> str:
        """Write the configuration of a node's app ``chess``."""
        return f"""
[apps.chess]
gateway = "http2:host={self.host.address}:port={self.ports[node]}"
trust_root = "{self.directory}/ca.pem"
key = "{self.directory}/AuthKey.p8"
key_id = "{self.key_id}"
team_id = "{self.team_id}"
topic = "com.example.app"
"""

    def look(self) -> None:
        """Read what was added to the ledger since the last look."""
        with self._ledger.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode().splitlines():
            at, number, token, apns_id, reason = line.split("\t")
            reception = Reception(float(at), self._names[int(number)], token, apns_id, reason)
            (self.rejected if reason else self.received[token]).append(reception)
