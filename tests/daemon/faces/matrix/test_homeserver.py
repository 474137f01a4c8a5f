"""A homeserver, a daemon in a process of its own, and a simulator."""

from __future__ import annotations

import json
import signal
from collections import Counter
from time import time
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.daemon.daemon_case import DEAD, DaemonCase
from tests.daemon.faces.matrix.matrix_case import ANN, APP_ID, BOB, EVENT, device, key_of_token
from txapns.daemon.faces.matrix.face import PATH

__all__ = ["HomeserverTests"]

FACE = f"""
[intake.matrix]
listen = "tcp:port=0:interface=127.0.0.1"
wait = 60.0
app_ids."{APP_ID}".app = "chess"
app_ids."com.example.later".app = "later"
"""


@pytest.mark.loopback
@pytest.mark.campaign
class HomeserverTests(DaemonCase):
    """Requests of a homeserver."""

    def setUp(self) -> None:
        """Turn the face on."""
        super().setUp()
        self.once: Counter[tuple[str, str]] = Counter()
        self.config.write_text(FACE + self.config.read_text())

    async def notify(self, *devices: dict[str, Any], **more: Any) -> tuple[int, Any]:
        """Notify devices of an event."""
        body = {"notification": {**EVENT, "devices": list(devices), **more}}
        status, answer = await self.daemon.ask("POST", PATH.decode(), body, listener="intake.matrix")
        return status, answer

    def received(self) -> Counter[tuple[str, str]]:
        """Count what came to each device about each event."""
        received = self.simulator.inbox.received
        return Counter((each.token.hex(), json.loads(each.payload)["event_id"]) for each in received)

    async def test_homeserver(self) -> None:
        """Every device is notified once of an event, though Apple, the daemon and other devices fail."""
        await self.daemon.start()
        dead, ann, unknown = device(DEAD), device(), device("ee" * 32, "com.example.unknown")
        expected = (200, {"rejected": [dead["pushkey"], unknown["pushkey"]]})
        asked = [Deferred.fromCoroutine(self.notify(dead, ann, unknown)) for _ in range(3)]
        self.assertEqual(await gatherResults(asked), [expected] * 3)
        self.once.update([(ANN, EVENT["event_id"]), (DEAD, EVENT["event_id"])])
        self.assertEqual(self.received(), self.once)

        # It is killed, and remembers what it sent, and which token is dead. Now it does not wait for Apple.
        await self.daemon.end(signal.SIGKILL)
        self.config.write_text(self.config.read_text().replace("wait = 60.0", "wait = 0.0"))
        await self.daemon.start()
        self.assertEqual(await self.notify(dead, ann, unknown), expected)
        self.assertEqual(await self.notify(dead, event_id="$2"), (200, {"rejected": [dead["pushkey"]]}))

        # What has to wait for its app is repeated; the other device is notified at once, and not again.
        later = device("cc" * 32, "com.example.later")
        for _ in range(2):
            status, answer = await self.notify(later, ann, event_id="$3")
            self.assertEqual((status, answer["errcode"]), (503, "M_UNKNOWN"))
        await self.sent((ANN, "$3"))

        # What Apple answers later is told with the next event.
        self.simulator.inbox.dead[bytes.fromhex(BOB)] = time() - 1
        self.assertEqual(await self.notify(device(BOB), ann, event_id="$4"), (200, {"rejected": []}))
        await self.sent((ANN, "$4"), (BOB, "$4"))
        while BOB not in await self.known_dead():
            await deferLater(reactor, 0.02)
        self.assertEqual(await self.notify(device(BOB), event_id="$5"), (200, {"rejected": [key_of_token(BOB)]}))
        self.assertEqual(await self.daemon.end(), 0)
        self.assertEqual(self.received(), self.once)
        log = self.daemon.log.read_text()
        self.assertEqual(log.count("com.example.unknown"), 2)  # once for each start
        self.assertNotIn("Traceback", log)

    async def sent(self, *pairs: tuple[str, str]) -> None:
        """Wait until devices are notified of events, once."""
        self.once.update(pairs)
        while not self.received() >= self.once:
            await deferLater(reactor, 0.02)

    async def known_dead(self) -> list[str]:
        """List the tokens in the feedback log."""
        _, answer = await self.daemon.ask("GET", "/v1/apps/chess/feedback")
        return [each["token"] for each in answer["tokens"]]
