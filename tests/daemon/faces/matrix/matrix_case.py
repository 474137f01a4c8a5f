"""What the tests of the face for Matrix have in common."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.faces_world import FacesWorld
from tests.daemon.fakes import Connection, Response
from txapns._serving.http import HTTPServer
from txapns._serving.limits import ConnectionLimits
from txapns.daemon.config.sections import MatrixAppSection, MatrixSection
from txapns.daemon.faces.matrix.face import PATH, Matrix
from txapns.daemon.values import Leased

__all__ = ["ANN", "APP_ID", "BOB", "EVENT", "EXAMPLE", "MatrixCase", "device", "key_of_token"]

ANN, BOB = "aa" * 32, "bb" * 32
APP_ID = "org.matrix.matrixConsole.ios"

#: The event of the specification's example, without its devices.
EVENT: dict[str, Any] = {
    "event_id": "$3957tyerfgewrf384",
    "room_id": "!slw48wfj34rtnrf:example.com",
    "type": "m.room.message",
    "sender": "@exampleuser:matrix.org",
    "sender_display_name": "Major Tom",
    "room_name": "Mission Control",
    "room_alias": "#exampleroom:matrix.org",
    "prio": "high",
    "content": {"msgtype": "m.text", "body": "I'm floating in a most peculiar way."},
    "counts": {"unread": 2, "missed_calls": 1},
}
#: The example of the specification.
EXAMPLE: dict[str, Any] = {
    "notification": {
        **EVENT,
        "devices": [
            {
                "app_id": APP_ID,
                "pushkey": "V2h5IG9uIGVhcnRoIGRpZCB5b3UgZGVjb2RlIHRoaXM/",
                "pushkey_ts": 12345678,
                "data": {},
                "tweaks": {"sound": "bing"},
            }
        ],
    }
}


def key_of_token(token: str) -> str:
    """Encode a token as most apps for Matrix do."""
    return base64.b64encode(bytes.fromhex(token)).decode()


class MatrixCase(SynchronousTestCase):
    """A face with the real intake and queue, and one connection to it."""

    options = MatrixSection(
        app_ids={
            APP_ID: MatrixAppSection(app="chess"),
            "com.example.news.*": MatrixAppSection(app="news", counts=False),
            "com.example.later": MatrixAppSection(app="later"),
        }
    )
    keys = False

    def setUp(self) -> None:
        """Start it."""
        self.world = FacesWorld(Path(self.mktemp()))
        self.addCleanup(self.world.stop)
        self.face = Matrix(
            self.world.reactor,
            self.world.intake,
            self.world.apps,
            self.world.keys if self.keys else None,
            self.world.log,
            self.options,
        )
        self.server = HTTPServer(self.world.reactor, self.face, ConnectionLimits())
        self.connection = Connection(self.server, self.world.reactor)
        self.addCleanup(lambda: self.connection.lose())

    def send(self, body: object, **more: Any) -> None:
        """Send a request, and give the face time to store what it asks for, but not to answer."""
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Host": "gateway", "Content-Type": "application/json", "Content-Length": str(len(encoded)), **more}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.connection.write(f"POST {PATH.decode()} HTTP/1.1\r\n{head}\r\n".encode() + encoded)
        for _ in range(5):
            self.world.reactor.advance(0.002)

    def answered(self) -> Response:
        """Let Apple be silent, and read the answer."""
        self.world.reactor.advance(self.options.wait)
        return self.connection.answer()

    def notify(self, *devices: dict[str, Any], **more: Any) -> Response:
        """Notify devices of the example's event, or of another; Apple is silent."""
        self.send({"notification": {**EVENT, "devices": list(devices), **more}})
        return self.answered()

    def rejected(self, *devices: dict[str, Any], **more: Any) -> list[str]:
        """Do the same; returns the pushkeys that are rejected."""
        response = self.notify(*devices, **more)
        self.assertEqual((response.status, list(response.json)), (200, ["rejected"]), response.body)
        return list(response.json["rejected"])

    def lease(self, app: str = "chess") -> list[Leased]:
        """Lease everything that waits."""
        return self.world.lease(app)


def device(token: str = ANN, app_id: str = APP_ID, **more: Any) -> dict[str, Any]:
    """Describe a device."""
    return {"app_id": app_id, "pushkey": key_of_token(token), **more}
