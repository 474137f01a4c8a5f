"""Tests for :mod:`txapns.simulator.web.answers`."""

from __future__ import annotations

from typing import Any

from tests.simulator.web.web_case import WebCase
from txapns import Notification

__all__ = ["AnswerTests"]

A, B = "aa" * 32, "bb" * 32


class AnswerTests(WebCase):
    """``/v1/answers``."""

    def plan(self, **facts: Any) -> Any:
        """Plan an answer; returns it."""
        response = self.ask("POST", "/v1/answers", facts)
        self.assertEqual(response.status, 201, response.body)
        return response.json

    def answers(self) -> list[Any]:
        """Return status and reason of each answer that was given."""
        received = self.get("/v1/received")["received"]
        return [(entry["token"], entry["answer"]["status"], entry["answer"]["reason"]) for entry in received]

    def test_once(self) -> None:
        """An answer for a token is given as many times as asked for, and then no longer."""
        planned = self.plan(token=A.upper(), status=400, reason="BadDeviceToken", times=2)
        self.assertEqual((planned["id"], planned["token"], planned["times"]), (1, A, 2))
        for _ in range(3):
            self.send(A, B)
        bad = (A, 400, "BadDeviceToken")
        good = [(A, 200, None), (B, 200, None)]
        self.assertEqual(sorted(self.answers(), key=str), sorted([bad, bad, *good, good[1], good[1]], key=str))
        self.assertEqual(self.get("/v1/answers"), {"answers": []})

    def test_rule(self) -> None:
        """An answer can be for a topic or a push type; the earliest that fits is given."""
        self.plan(push_type="background", status=500, reason="InternalServerError")
        self.plan(topic="com.example.app", status=429, reason="TooManyRequests")
        client = self.simulator.client(credential=self.simulator.provider_token(), retries=0)
        self.clients.append(client)
        for notification in (Notification(content_available=True), Notification(alert="Hi")):
            self.simulator.result(client.send(notification, [A]))
        self.assertEqual([status for _, status, _ in self.answers()], [500, 429])

    def test_timestamp(self) -> None:
        """A planned 410 has a timestamp."""
        self.plan(status=410, reason="Unregistered", timestamp=1_700_000_000)
        client = self.simulator.client()
        self.clients.append(client)
        batch = self.simulator.result(client.send(Notification(alert="Hi"), [A]))
        [rejection] = batch.failed.values()
        self.assertEqual((rejection.reason, rejection.timestamp.timestamp()), ("Unregistered", 1.7e9))

    def test_chance(self) -> None:
        """By chance some get the answer, and some do not."""
        self.plan(status=400, reason="BadTopic", chance=0.5)
        tokens = [f"{number:064x}" for number in range(200)]
        self.send(*tokens)
        refused = self.simulator.counters()["rejected"]["BadTopic"]
        self.assertTrue(0 < refused < 200, refused)

    def test_delay(self) -> None:
        """An answer can come late."""
        self.plan(delay=7, times=1)
        before = self.simulator.reactor.seconds()
        self.send(A)
        self.assertGreaterEqual(self.simulator.reactor.seconds() - before, 7)
        self.assertEqual(self.answers(), [(A, 200, None)])

    def test_goaway(self) -> None:
        """With a GOAWAY the connection ends after the answer, and the next one is sent over another."""
        client = self.simulator.client()
        self.clients.append(client)
        self.plan(goaway=True, times=1)
        self.send(A, client=client)
        self.send(B, client=client)
        self.assertEqual([entry["connection"] for entry in self.get("/v1/received")["received"]], [1, 2])

    def test_drop(self) -> None:
        """A dropped connection answers nothing; the notification may have been taken."""
        client = self.simulator.client()
        self.clients.append(client)
        self.plan(drop=True, times=1)
        batch = self.simulator.result(client.send(Notification(alert="Hi"), [A]))
        self.assertEqual((batch.accepted, list(batch.uncertain)), (0, [0]))
        self.assertEqual(self.answers(), [(A, 200, None)])

    def test_binary(self) -> None:
        """Over the binary protocol an error packet is given; the same plan may have both statuses."""
        self.plan(token=A, status=410, reason="Unregistered", error_packet=8)
        gateway = self.simulator.gateway("binary", barrier=True)
        for where, reason in (("http2", "Unregistered"), (gateway, "InvalidToken")):
            client = self.simulator.client(where)
            self.clients.append(client)
            batch = self.simulator.result(client.send(Notification(alert="Hi"), [A, B]))
            self.assertEqual((batch.accepted, [each.reason for each in batch.failed.values()]), (1, [reason]))
        [planned] = self.get("/v1/answers")["answers"]
        self.assertEqual((planned["given"], planned["error_packet"]), (2, 8))

    def test_removed(self) -> None:
        """Answers are listed, and removed one by one or all together."""
        for status in (500, 503, 502):
            self.plan(status=status)
        self.assertEqual([each["status"] for each in self.get("/v1/answers")["answers"]], [500, 503, 502])
        self.assertEqual(self.ask("DELETE", "/v1/answers/2").json, {"deleted": 1})
        for number in ("2", "x", "0", "9" * 5_000):
            self.assertEqual(self.ask("DELETE", f"/v1/answers/{number}").status, 404)
        self.assertEqual(self.ask("DELETE", "/v1/answers").json, {"deleted": 2})

    def test_refused(self) -> None:
        """A plan that makes no sense is refused."""
        for facts, path in (
            ({}, ""),
            ({"status": 99}, "status"),
            ({"status": "500"}, "status"),
            ({"status": 200, "reason": "BadTopic"}, "reason"),
            ({"status": 500, "token": "zz"}, "token"),
            ({"status": 500, "times": 0}, "times"),
            ({"status": 500, "chance": 2}, "chance"),
            ({"status": 500, "chance": True}, "chance"),
            ({"delay": 9_999}, "delay"),
            ({"drop": "yes"}, "drop"),
            ({"status": 500, "tokens": []}, "tokens"),
            ({"status": 500, "reason": 5}, "reason"),
            ({"error_packet": 0}, "error_packet"),
            ({"error_packet": 256}, "error_packet"),
            ({"error_packet": 10}, "error_packet"),
            ({"error_packet": 8, "reason": "InvalidToken"}, "reason"),
        ):
            response = self.ask("POST", "/v1/answers", facts)
            self.assertEqual((response.status, response.json["error"]["path"]), (400, path), facts)
        self.assertEqual(self.ask("POST", "/v1/answers", b"[]").status, 400)
        self.assertEqual(self.ask("POST", "/v1/answers", b"{}", {"Content-Type": "text/plain"}).status, 415)
