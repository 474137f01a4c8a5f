"""Synapse, unmodified, with the daemon as its push gateway and the simulator behind that, all on loopback."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import urllib.request
from pathlib import Path
from time import time
from typing import Any
from urllib.error import URLError
from urllib.parse import quote

import pytest
from twisted.internet import reactor
from twisted.internet.defer import fail
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from tests.interop.test_daemon_faces import HOST, served
from tests.ports import reserve
from tests.processes import started
from txapns.simulator import Simulator

__all__ = ["SynapseTests"]

ENVIRONMENT = Path(__file__).parent.parent.parent / ".venv/interop-synapse"
TOKEN, DEAD = "ab" * 32, "dd" * 32
APP_ID = "com.example.chat.ios"
#: Shared with Synapse, which then registers users.
SECRET = "secret"


class Synapse:
    """
    A homeserver.

    :param case: ends it with the test.
    """

    def __init__(self, case: TestCase) -> None:
        self._case = case
        self._directory = Path(case.mktemp()).absolute()
        self._directory.mkdir()
        [self._port] = reserve()

    def _configuration(self) -> dict[str, Any]:
        return {
            "server_name": "example.com",
            "pid_file": str(self._directory / "pid"),
            "signing_key_path": str(self._directory / "signing.key"),
            "media_store_path": str(self._directory / "media"),
            "database": {"name": "sqlite3", "args": {"database": str(self._directory / "synapse.db")}},
            "listeners": [
                {"port": self._port, "bind_addresses": [HOST], "type": "http", "resources": [{"names": ["client"]}]}
            ],
            "log_config": str(self._directory / "log.json"),
            "registration_shared_secret": SECRET,
            "macaroon_secret_key": SECRET,
            "form_secret": SECRET,
            "report_stats": False,
            "trusted_key_servers": [],
            "ip_range_whitelist": [HOST],  # where push gateways may be, too
            "rc_message": {"per_second": 1_000, "burst_count": 1_000},
        }

    async def start(self) -> None:
        """Start it."""
        path = self._directory / "homeserver.yaml"
        path.write_text(json.dumps(self._configuration()))
        handler = {"class": "logging.FileHandler", "filename": str(self._directory / "synapse.log")}
        log = {"version": 1, "handlers": {"file": handler}, "root": {"level": "INFO", "handlers": ["file"]}}
        (self._directory / "log.json").write_text(json.dumps(log))
        command = [ENVIRONMENT / "bin/python", "-m", "synapse.app.homeserver", "--config-path", path]
        generating = started(self._case, [*command, "--generate-keys"], cwd=self._directory)
        self._case.assertEqual(await deferToThread(generating.wait), 0)
        running = started(self._case, command, cwd=self._directory)
        while running.poll() is None:
            try:
                await self.ask("GET", "/_matrix/client/versions")
            except URLError:
                await deferLater(reactor, 0.1)
            else:
                return
        raise AssertionError((self._directory / "synapse.log").read_text())

    async def ask(self, method: str, path: str, body: object = None, token: str | None = None) -> Any:
        """Send a request."""
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{HOST}:{self._port}{path}", data, headers, method=method)

        def send() -> bytes:
            with urllib.request.urlopen(request, timeout=120) as response:
                return bytes(response.read())

        return json.loads(await deferToThread(send))

    async def register(self, name: str) -> User:
        """Register a user."""
        path = "/_synapse/admin/v1/register"
        nonce = (await self.ask("GET", path))["nonce"]
        text = f"{nonce}\0{name}\0password\0notadmin".encode()
        mac = hmac.new(SECRET.encode(), text, hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": name, "password": "password", "admin": False, "mac": mac}
        return User(self, (await self.ask("POST", path, body))["access_token"])


class User:
    """A user's client."""

    def __init__(self, homeserver: Synapse, token: str) -> None:
        self._homeserver = homeserver
        self._token = token
        self._sent = 0

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """Send a request."""
        return await self._homeserver.ask(method, f"/_matrix/client/v3/{path}", body, self._token)

    async def set_pusher(self, url: str, token: str, **data: object) -> None:
        """Ask for notifications of a device."""
        pusher = {
            "kind": "http",
            "app_id": APP_ID,
            "pushkey": base64.b64encode(bytes.fromhex(token)).decode(),
            "app_display_name": "Chat",
            "device_display_name": "iPhone",
            "lang": "en",
            "data": {"url": url, **data},
            "append": True,
        }
        await self.ask("POST", "pushers/set", pusher)

    async def pushers(self) -> list[str]:
        """List the devices that are notified."""
        found = (await self.ask("GET", "pushers"))["pushers"]
        return [base64.b64decode(each["pushkey"]).hex() for each in found]

    async def say(self, room: str, text: str) -> str:
        """Send a message; returns the id of the event."""
        self._sent += 1
        path = f"rooms/{quote(room)}/send/m.room.message/{self._sent}"
        return str((await self.ask("PUT", path, {"msgtype": "m.text", "body": text}))["event_id"])


@pytest.mark.interop
class SynapseTests(TestCase):
    """Synapse 1.163."""

    timeout = 300

    async def setUp(self) -> None:
        """Start everything, if Synapse is installed."""
        if not (ENVIRONMENT / "installed").exists():
            raise SkipTest("not installed: run make interop")
        self.simulator = Simulator(reactor, topic="com.example.app")
        faces = f"""
            [intake.matrix]
            listen = "tcp:port=0:interface={HOST}"
            app_ids."{APP_ID}".app = "chess"
        """
        self.daemon = await served(self.simulator, faces, Path(self.mktemp()), self.addCleanup)
        self.url = f"http://{HOST}:{self.daemon.addresses['intake.matrix']}/_matrix/push/v1/notify"
        self.homeserver = Synapse(self)
        await self.homeserver.start()
        self.ann, self.bob = await self.homeserver.register("ann"), await self.homeserver.register("bob")
        await self.ann.ask("PUT", "profile/@ann:example.com/displayname", {"displayname": "Ann"})
        self.read = 0

    async def payload(self) -> dict[str, Any]:
        """Wait for the next notification; returns its payload."""
        while len(self.simulator.inbox.received) <= self.read:
            await deferLater(reactor, 0.02)
        self.read += 1
        return dict(json.loads(self.simulator.inbox.received[self.read - 1].payload))

    async def test_notifications(self) -> None:
        """An invitation, messages in both formats, counts, a gateway that fails at first, and a dead token."""
        await self.bob.set_pusher(self.url, TOKEN, default_payload={"aps": {"mutable-content": 1}, "account": 7})
        inviting = {"invite": ["@bob:example.com"], "is_direct": True}
        room = (await self.ann.ask("POST", "createRoom", inviting))["room_id"]
        invited = await self.payload()
        self.assertEqual(invited["aps"]["alert"]["loc-key"], "USER_INVITE_TO_CHAT")
        await self.bob.ask("POST", f"rooms/{quote(room)}/join", {})

        event = await self.ann.say(room, "Hello")
        alert = {"loc-key": "MSG_FROM_USER_WITH_CONTENT", "loc-args": ["Ann", "Hello"]}
        aps = {"mutable-content": 1, "alert": alert, "badge": 1, "sound": "default"}
        self.assertEqual(await self.payload(), {"aps": aps, "account": 7, "event_id": event, "room_id": room})

        await self.bob.ask("POST", f"rooms/{quote(room)}/receipt/m.read/{quote(event)}", {})
        self.assertEqual(await self.payload(), {"aps": {"badge": 0}})

        # It is stored, but Synapse does not get to know that, and repeats its request: nothing is sent twice.
        wait = self.daemon.service.intake.wait
        self.patch(self.daemon.service.intake, "wait", lambda *arguments: fail(ConnectionError("lost")))
        event = await self.ann.say(room, "Are you there?")
        self.assertEqual((await self.payload())["event_id"], event)
        self.daemon.service.intake.wait = wait

        await self.bob.set_pusher(self.url, TOKEN, format="event_id_only", default_payload={"aps": {"alert": "News"}})
        await self.bob.set_pusher(self.url, DEAD, format="event_id_only")
        self.simulator.inbox.dead[bytes.fromhex(DEAD)] = time()
        event = await self.ann.say(room, "Well?")
        expected = {"event_id": event, "room_id": room, "unread_count": 1}
        found = [await self.payload(), await self.payload()]
        self.assertEqual(sorted(found, key=len), [expected, {**expected, "aps": {"alert": "News"}}])
        while await self.bob.pushers() != [TOKEN]:
            await deferLater(reactor, 0.1)
        event = await self.ann.say(room, "Good night")
        self.assertEqual((await self.payload())["event_id"], event)
        self.assertEqual(len(self.simulator.inbox.received), self.read)
