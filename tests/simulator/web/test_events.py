"""Tests for :mod:`txapns.simulator.web.events`."""

from __future__ import annotations

import json
from typing import Any

from tests.daemon.fakes import Connection
from tests.simulator.web.web_case import WebCase

__all__ = ["EventsTests"]

A, B = "aa" * 32, "bb" * 32


class EventsTests(WebCase):
    """``/v1/events``."""

    def watch(self, query: str = "", headers: str = "") -> Connection:
        """Begin to watch."""
        connection = self.connect()
        connection.write(f"GET /v1/events{query} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        return connection

    def events(self, connection: Connection) -> list[tuple[str, Any]]:
        """Read the events that a browser was sent; comments have no name."""
        text = connection.transport.value().decode()
        connection.transport.clear()
        body = text.partition("\r\n\r\n")[2] if text.startswith("HTTP/") else text
        chunks = "".join(body.split("\r\n")[1::2])
        found = []
        for block in filter(None, chunks.split("\n\n")):
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            found.append((fields.get("event", ""), json.loads(fields["data"]) if "data" in fields else None))
        return [each for each in found if each[1] is not None]

    def ids(self, connection: Connection) -> list[int]:
        """Read the numbers of what a browser was told of."""
        return [entry["id"] for _, data in self.events(connection) for entry in data["received"]]

    def test_received(self) -> None:
        """What comes is told soon, to all who watch, as the list has it."""
        first, second = self.watch(), self.watch()
        self.send(A, B)
        self.simulator.advance(0.2)
        [(name, data)] = self.events(first)
        self.assertEqual((name, data["missed"]), ("received", 0))
        self.assertEqual(data["received"], self.get("/v1/received")["received"])
        self.assertEqual(self.ids(second), [1, 2])

    def test_goes_on(self) -> None:
        """A browser begins with what is new, or where it left off."""
        self.send(A, B, A)
        watching = [self.watch(), self.watch("?after=1"), self.watch(headers="Last-Event-ID: 2\r\n")]
        self.simulator.advance(0.2)
        self.assertEqual([self.ids(each) for each in watching], [[], [2, 3], [3]])

    def test_cleared(self) -> None:
        """Browsers are told what was removed."""
        connection = self.watch()
        self.send(A)
        self.ask("DELETE", "/v1/received")
        self.send(B)
        self.simulator.advance(0.2)
        (_, cleared), (_, received) = self.events(connection)[-2:]
        self.assertEqual((cleared, [entry["id"] for entry in received["received"]]), ({"id": 1}, [2]))

    def test_many(self) -> None:
        """What comes in masses is told in several events, and nothing is left out."""
        connection = self.watch()
        for _ in range(250):
            self.inbox.note("http2", bytes.fromhex(A), b"{}", {}, None)
        self.simulator.advance(0.5)
        events = self.events(connection)
        self.assertEqual([len(data["received"]) for _, data in events], [100, 100, 50])

    def test_slow(self) -> None:
        """Nothing is written to a browser that does not read; if it reads again it is told the rest, or dropped."""
        reader, stalled = self.watch(), self.watch()
        for each in (reader, stalled):
            self.events(each)
            each.transport.producer.pauseProducing()
        self.send(A)
        self.simulator.advance(5)
        self.assertEqual(self.ids(reader), [])
        reader.transport.producer.resumeProducing()
        self.simulator.advance(26)
        self.assertEqual(self.ids(reader), [1])
        self.assertTrue(stalled.transport.disconnected)

    def test_limit(self) -> None:
        """Only so many may watch, and one that leaves makes room."""
        watching = [self.watch() for _ in range(16)]
        self.assertEqual(self.ask("GET", "/v1/events").status, 503)
        watching[0].lose()
        self.connections.remove(watching[0])
        self.assertIn(b"200 OK", self.watch().transport.value())
