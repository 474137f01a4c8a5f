"""What is asked of one node holds on all of them."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.cluster.case import DEPTH, ClusterCase
from tests.cluster.processes import Node
from tests.command.processes import txapns
from tests.postgresql import Host, Schema, schema
from txapns import Accepted, APNSClient, Gateway, Notification, ProviderToken, Rejection

__all__ = ["ChangeTests", "IdleNodeTests", "OperationsTests"]

#: How long a change may take to be in use everywhere on a busy machine, in seconds; on an idle one it takes two.
PATIENCE = 120.0
HELLO = {"payload": {"aps": {"alert": "Hi"}}}


class SharingCase(ClusterCase):
    """Tests that kill nothing: they need no server of their own."""

    def make_database(self, places: Mapping[str, Host]) -> None:
        """Use the server of this process."""
        self.place = schema(self)

    def database(self, name: str) -> Schema:
        """Tell where a node finds the database."""
        return self.place


@pytest.mark.cluster
class ChangeTests(SharingCase):
    """Apps, their credentials, and API keys."""

    keys = "true"

    async def command(self, name: str, *arguments: str | Path) -> str:
        """Run ``txapns`` with the configuration of a node; returns its output."""
        config = self.directory / name / "apns.toml"
        done = await deferToThread(lambda: txapns(*arguments, "--config", config))
        self.assertEqual(0, done.returncode, done.stderr)
        return done.stdout.strip()

    async def everywhere(self, what: str, path: str, key: str, wanted: Any, find: Any) -> None:
        """
        Assert that all nodes give the wanted answer soon.

        :param what: what was changed.
        :param find: finds in status and body what is compared with ``wanted``.
        """
        began = time.monotonic()
        for node in self.nodes.values():
            while True:
                asked = time.monotonic()
                status, body = await node.ask("GET", path, headers={"Authorization": f"Bearer {key}"})
                found = find(status, body)
                if found == wanted:
                    break
                self.assertLess(asked - began, PATIENCE, f"{node.name} does not know of {what}: {found}")
                await deferLater(reactor, 0.02)
            self.say(f"{what}: {node.name} after {asked - began:.2f} s")

    async def test_changes(self) -> None:
        """A key, an app, its rotated credential and their removal are soon in use on all nodes."""
        credentials = self.simulator.directory
        key = await self.command("n1", "keys", "add", "operator", "--may", "manage")
        await self.everywhere("the key", "/v1/apps", key, 200, lambda status, body: status)

        def mail(status: int, body: Mapping[str, Any]) -> str | None:
            found = [each["credential"] for each in body.get("apps", []) if each["name"] == "mail"]
            return found[0] if found else None

        token = "--key", credentials / "AuthKey.p8", "--key-id", self.simulator.key_id
        team = "--team-id", self.simulator.team_id, "--topic", "com.example.app"
        await self.command("n2", "apps", "add", "mail", *token, *team)
        await self.everywhere("the app", "/v1/apps", key, "key", mail)
        await self.command("n3", "apps", "rotate", "mail", "--certificate", credentials / "client.pem")
        await self.everywhere("the credential", "/v1/apps", key, "certificate", mail)
        await self.command("n1", "apps", "remove", "mail")
        await self.everywhere("the app's removal", "/v1/apps", key, None, mail)
        await self.command("n2", "keys", "remove", "operator")
        await self.everywhere("the key's removal", "/v1/apps", key, 401, lambda status, body: status)


@pytest.mark.campaign
@pytest.mark.loopback
class OperationsTests(SharingCase):
    """What operators see of the nodes."""

    async def exporters(self) -> list[str]:
        """Scrape all nodes; returns those that export what is the same on all, as soon as there is one."""
        while True:
            found = [node.name for node in self.nodes.values() if node.running and await node.gauges(DEPTH)]
            if found:
                return found
            await deferLater(reactor, 0.1)

    async def gone(self, node: Node) -> list[str]:
        """Ask a node that is ready which others are gone."""
        answer = json.loads(await node.read("/readyz"))
        self.assertEqual((True, node.name), (answer["ready"], answer["node"]))
        return [reason for reason in answer["reasons"] if "is gone" in reason]

    async def test_killed(self) -> None:
        """One node speaks for all, in whose place another steps; the others tell that it is gone."""
        body = {"notifications": [{"tokens": ["aa"], **HELLO}]}
        await self.nodes["n1"].ask("POST", "/v1/apps/chess/notifications", body)
        [first] = await self.exporters()
        for _ in range(5):
            self.assertEqual([first], await self.exporters())
        rest = [node for node in self.nodes.values() if node.name != first]
        for node in self.nodes.values():
            self.assertEqual([], await self.gone(node))
            page = ""
            while any(name not in page for name in self.nodes):
                page = await node.read("/")
            self.assertIn(f"Push daemon {node.name}", page)
        await self.nodes[first].end(signal.SIGKILL)
        [second] = await self.exporters()
        self.assertIn(second, [node.name for node in rest])
        for node in rest:
            while not (reasons := await self.gone(node)):
                await deferLater(reactor, 0.1)
            self.assertRegex("; ".join(reasons), f"^node {first} is gone: it was last heard of [0-9]+ s ago$")
        self.assertEqual([second], await self.exporters())


@pytest.mark.campaign
@pytest.mark.loopback
class IdleNodeTests(SharingCase):
    """Callers that wait for the outcome at a node that sends nothing itself."""

    names = ("n1", "n2")
    mode = "relay"

    def program(self, name: str) -> tuple[str, ...]:
        """Have the first node send nothing."""
        idle = (
            "from txapns.command.main import main\n"
            "from txapns.daemon.sending.dispatcher import Dispatcher\n"
            "Dispatcher.wake = Dispatcher.hurry = Dispatcher.expect = lambda self, app: None\n"
            "main()\n"
        )
        return ("-c", idle) if name == "n1" else super().program(name)

    @property
    def idle(self) -> Node:
        """The node that sends nothing."""
        return self.nodes["n1"]

    async def senders(self) -> set[str]:
        """Tell which nodes have sent."""
        self.simulator.look()
        return {each.node for found in self.simulator.received.values() for each in found}

    async def test_wait(self) -> None:
        """A request with ``wait`` is answered with the outcome; so is one of an Apple client, also if Apple says no."""
        body = {"wait": True, "notifications": [{"tokens": ["aa" * 32, "bb" * 32], **HELLO}]}
        status, answer = await self.idle.ask("POST", "/v1/apps/chess/notifications", body)
        self.assertEqual(200, status, answer)
        states = [each["state"] for each in answer["notifications"][0]["outcomes"]]
        self.assertEqual(["accepted", "accepted"], states)
        client = self.client()
        hello = Notification(alert="Hi", push_type="alert")
        self.assertIsInstance(await client.send_one(hello, "aa" * 32), Accepted)
        refused = await client.send_one(hello, "cc" * 4)
        assert isinstance(refused, Rejection)
        self.assertEqual("BadDeviceToken", str(refused.reason))
        self.assertEqual({"n2"}, await self.senders())

    def client(self) -> APNSClient:
        """Make a client of the idle node."""
        directory = self.simulator.directory
        p8, trust_root = (directory / "AuthKey.p8").read_bytes(), (directory / "ca.pem").read_bytes()
        token = ProviderToken.from_p8(p8, self.simulator.key_id, self.simulator.team_id)
        gateway = Gateway.http2(self.idle.host.address, self.idle.port("intake.apple"), trust_root=trust_root)
        client = APNSClient(reactor, token, gateway, topic="com.example.app")
        self.addCleanup(client.close)
        return client
