"""A cluster: nodes, a primary with a synchronous standby, the simulator, and what must hold at the end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.cluster.callers import CALLERS, Book, Load
from tests.cluster.hosts import hosts
from tests.cluster.processes import LedgerSimulator, Node
from tests.postgresql import Host, Schema, execute, pair, speaks_tls
from txapns import Certificate

__all__ = ["DEPTH", "ClusterCase"]

#: How many notifications of an app may be in flight at a time, on all nodes together.
IN_FLIGHT = 2_000
#: The metric of how many wait for an app.
DEPTH = "apns_daemon_queue"
#: The variable with the seed of a run that is to be repeated.
SEED = "TXAPNS_TEST_SEED"

_FACES = """
[secrets]
master_key_file = "../master.key"

[intake.native]
listen = "tcp:port=0:interface={address}"
keys = {keys}
allow_without_keys = true
allow_without_tls = true

[intake.apple]
listen = "tcp:port=0:interface={address}"
mode = "{mode}"
tls.certificate = "{credentials}/server.pem"

[intake.binary]
listen = "tcp:port=0:interface={address}"
feedback = "tcp:port=0:interface={address}"
tls.certificate = "{credentials}/server.pem"

[intake.pyapns]
listen = "tcp:port=0:interface={address}"
keys = false
allow_without_keys = true
allow_without_tls = true

[intake.matrix]
listen = "tcp:port=0:interface={address}"
wait = 1.0
app_ids."com.example.app".app = "chess"
allow_without_keys = true
allow_without_tls = true

[admin]
listen = "tcp:port=0:interface={address}"
allow_without_keys = true
allow_without_tls = true
"""


class ClusterCase(TestCase):
    """Tests with three nodes."""

    timeout = 500
    names = ("n1", "n2", "n3")
    #: How long Apple's answer takes, in seconds.
    delay = 0.02
    #: How many answers may be due at a time on one connection.
    streams = 1000
    #: How requests of Apple's clients are answered, and whether the HTTP API takes only callers with a key.
    mode, keys = "queue", "false"

    async def setUp(self) -> None:
        """Start the simulator, the servers of the database, and the nodes."""
        self.directory = Path(self.mktemp()).absolute()
        credentials = self.directory / "credentials"
        credentials.mkdir(parents=True)
        self.hosts = hosts(self)
        places = {name: self.hosts.host(name) for name in (*self.names, "simulator", "primary", "standby")}
        addresses = {host.address for host in places.values()}
        self.simulator = LedgerSimulator(
            self, credentials, list(self.names), places["simulator"], addresses, self.delay, self.streams
        )
        await self.simulator.start()
        await deferToThread(self.make_database, places)
        self.seed = int(os.environ.get(SEED) or Random().randrange(10**6))
        self.chance = Random(self.seed)
        self.say(f"{SEED}={self.seed}")
        self.book = Book()
        #: How many notifications were in flight at the kills.
        self.under_way = 0
        self.nodes: dict[str, Node] = {}
        self.addCleanup(self.kill_nodes)
        for name in self.names:
            self.nodes[name] = Node(name, self.configure(name), places[name], self.program(name))
        await self.start(*self.names[:1])  # it makes the tables
        await self.start(*self.names[1:])

    def make_database(self, places: Mapping[str, Host]) -> None:
        """Start a primary and a standby."""
        pem = (self.simulator.directory / "server.pem").read_bytes()
        trust = b"local all all trust\nlocal replication all trust\nhost all all all trust\n"
        files = {"server.pem": pem, "pg_hba.conf": trust}
        tls = {"ssl": "on", "ssl_cert_file": "server.pem", "ssl_key_file": "server.pem"} if speaks_tls() else {}
        self.primary, self.standby = pair(self, files, (places["primary"], places["standby"]), **tls)
        #: Where the database is for this process, which no node's trouble concerns.
        self.place = Schema(self.primary.url, "txapns")

    def database(self, name: str) -> Schema:
        """Tell where a node finds the database."""
        servers = ",".join(f"{host}:{port}" for host, port in self.hosts.ports(name, [self.primary, self.standby]))
        trust = f"sslrootcert={self.simulator.directory}/ca.pem" if speaks_tls() else "sslmode=disable"
        return Schema(f"postgresql://postgres@{servers}/postgres?{trust}", "txapns")

    async def kill_nodes(self) -> None:
        """Kill the nodes that still run."""
        for node in self.nodes.values():
            if node.running:
                await node.end(signal.SIGKILL)

    def program(self, name: str) -> tuple[str, ...]:
        """Choose Python's arguments that run a node."""
        return ("-m", "txapns")

    def configure(self, name: str, more: str = "") -> Path:
        """Write a node's configuration."""
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        faces = _FACES.format(
            address=self.hosts.host(name).address,
            credentials=self.simulator.directory,
            mode=self.mode,
            keys=self.keys,
        )
        database = self.database(name)
        certificate = Certificate.from_pem((self.simulator.directory / "client.pem").read_bytes())
        path = directory / "apns.toml"
        path.write_text(
            f"""
[database]
url = "{database.url}"
schema = "{database.name}"
[node]
name = "{name}"
{faces}
{self.simulator.app(name)}
callers = ["{certificate.fingerprint}"]
limits.in_flight = {IN_FLIGHT}
{more}
"""
        )
        return path

    def say(self, text: str) -> None:
        """Tell what happens, for those who read the output of a failure."""
        sys.stdout.write(f"{text}\n")

    async def start(self, *names: str) -> None:
        """Start nodes, at the same time."""
        await gatherResults([Deferred.fromCoroutine(self.nodes[name].start()) for name in names], consumeErrors=True)

    def load(self, requests: int, size: int = 100) -> Load:
        """Make programs for all faces, which make so many requests each."""
        simulator = self.simulator
        directory, key = simulator.directory, (simulator.key_id, simulator.team_id)
        callers = [kind(directory, *key, self.book) for kind in CALLERS]
        return Load(callers, self.nodes, self.chance, requests, size)

    async def until_accepted(self, count: int) -> None:
        """Wait until callers were told of so many notifications that they are accepted."""
        while len(self.book.accepted) < count:
            await deferLater(reactor, 0.005)

    async def kill(self, name: str) -> None:
        """Kill a node, and note what it had in flight."""
        node = self.nodes[name]
        await node.end(signal.SIGKILL)
        under_way = await self.in_flight(name)
        self.under_way += under_way
        self.say(f"killed {name} with {under_way} in flight and {len(self.book.accepted)} accepted")

    async def in_flight(self, *names: str) -> int:
        """Count what nodes have leased and not settled, in the database."""
        statement = """
            SELECT count(*) FROM {0}.queue WHERE number IN (SELECT unnest(numbers) FROM {0}.lease
                WHERE node IN (SELECT incarnation FROM {0}.node WHERE name = ANY(%s)))"""
        [(count,)] = await self.execute(statement, list(names))
        return int(count)

    async def count(self, table: str) -> int:
        """Count the rows of a table."""
        [(count,)] = await self.execute(f"SELECT count(*) FROM {{0}}.{table}")
        return int(count)

    def execute(self, statement: str, *parameters: object) -> Deferred[list[tuple[Any, ...]]]:
        """Execute a statement in the database; ``{0}`` stands for the schema."""
        return deferToThread(execute, self.place.url, statement.format(self.place.name), *parameters)

    async def fail_over(self) -> None:
        """Kill the primary, and promote the standby."""
        await deferToThread(self.primary.kill)
        self.place = Schema(self.standby.url, self.place.name)
        # Leases do not wait for the disk, so those of the last moment are not known any more.
        self.under_way += IN_FLIGHT
        self.say(f"killed the primary with {len(self.book.accepted)} accepted")
        await deferToThread(self.standby.promote)

    async def settled(self) -> None:
        """Wait until nothing waits and nothing is leased, and the simulator has seen all that was accepted."""
        while await self.count("queue") or await self.count("lease"):
            await deferLater(reactor, 0.1)
        self.simulator.look()
        while self.book.accepted.keys() - self.simulator.received.keys():
            await deferLater(reactor, 0.1)
            self.simulator.look()

    async def check_books(self) -> None:
        """Hold what callers were told against what the simulator received and what is stored."""
        self.simulator.look()
        self.assertEqual([], self.simulator.rejected)
        received = self.simulator.received
        self.assertEqual(self.book.accepted.keys(), received.keys() & self.book.accepted.keys(), "lost")
        several = {token: {each.apns_id for each in received[token]} for token in received}
        wrong = [token for token, told in self.book.accepted.items() if told and told not in several[token]]
        self.assertEqual([], wrong, "sent under an id that the caller was not told")
        more = sum(len(ids) - 1 for ids in several.values())
        twice = sum(len(each) for each in received.values()) - len(received)
        self.say(f"{twice} of {len(received)} twice; {self.under_way} in flight at kills; {self.book.again} again")
        self.assertLessEqual(more, self.book.again, "more ids than notifications")
        self.assertLessEqual(twice, self.under_way + self.book.again, "more than can have been under way")
        await self.check_depths()

    async def check_depths(self) -> None:
        """All nodes that say how many wait say that none does."""
        depths: list[float] = [1.0]
        while any(depths):
            await deferLater(reactor, 0.1)
            each = [await node.gauges(DEPTH) for node in self.nodes.values()]
            depths = [gauges["chess"] for gauges in each if gauges] or [1.0]

    async def stop_nodes(self) -> None:
        """Stop the nodes, in good order."""
        for node in self.nodes.values():
            self.assertEqual(0, await node.end(), node.log.read_text())
            self.assertNotIn("Traceback", node.log.read_text())
