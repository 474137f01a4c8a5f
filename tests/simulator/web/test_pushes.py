"""Tests for :mod:`txapns.simulator.web.pushes`."""

from __future__ import annotations

import json

from tests.simulator.web.web_case import WebCase
from txapns.simulator.web.pushes import MAX_LATE

__all__ = ["PushTests"]

A = "aa" * 32
HEADERS = {"apns-topic": "com.example.app", "apns-push-type": "alert"}


class PushTests(WebCase):
    """``/v1/push``, ``/v1/lint`` and ``/v1/strings``."""

    def test_send(self) -> None:
        """A push by hand is judged and recorded like any other."""
        push = {"token": A, "headers": HEADERS, "payload": {"aps": {"alert": "Hi"}}}
        response = self.ask("POST", "/v1/push", push)
        self.assertEqual((response.status, response.json["outcome"]), (201, "banner"))
        self.assertEqual(self.get("/v1/received")["received"], [response.json])
        for changes, reason in (
            ({"headers": {}}, "MissingTopic"),
            ({"token": "aa"}, "BadDeviceToken"),
            ({"token": ""}, "MissingDeviceToken"),
            ({"payload": "no JSON"}, "PayloadEmpty"),
            ({"headers": {**HEADERS, "APNS-Priority": "3"}}, "BadPriority"),
        ):
            response = self.ask("POST", "/v1/push", {**push, **changes})
            self.assertEqual(
                (response.json["answer"]["reason"], response.json["outcome"]), (reason, "refused"), changes
            )

    def test_planned(self) -> None:
        """A planned answer is given to a push by hand, too."""
        self.ask("POST", "/v1/answers", {"token": A, "status": 503, "reason": "Shutdown", "times": 1})
        response = self.ask("POST", "/v1/push", {"token": A, "headers": HEADERS, "payload": {"aps": {}}})
        self.assertEqual(response.json["answer"], {"status": 503, "reason": "Shutdown"})

    def test_late(self) -> None:
        """A planned delay holds the answer back; who leaves meanwhile sends nothing, and only so many may wait."""
        push = {"token": A, "headers": HEADERS, "payload": {"aps": {"alert": "Hi"}}}
        body = json.dumps(push)
        head = "POST /v1/push HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        self.ask("POST", "/v1/answers", {"status": 503, "reason": "Shutdown", "delay": 20})
        staying, *leaving = [self.connect() for _ in range(MAX_LATE)]
        for connection in (staying, *leaving):
            connection.write(request)
        self.simulator.advance(19.9)
        self.assertEqual((staying.read(), self.get("/v1/received")["received"]), ([], []))
        self.assertEqual(self.ask("POST", "/v1/push", push).status, 503)
        for connection in leaving:
            connection.lose()
        self.simulator.advance(0.2)
        [response] = staying.read()
        self.assertEqual((response.status, response.json["answer"]), (201, {"status": 503, "reason": "Shutdown"}))
        self.assertEqual(self.get("/v1/received")["received"], [response.json])

    def test_no_connection(self) -> None:
        """A push by hand comes by no connection: what only ends one waits for another push."""
        self.ask("POST", "/v1/answers", {"drop": True, "times": 1})
        self.ask("POST", "/v1/answers", {"goaway": True, "times": 1})
        response = self.ask("POST", "/v1/push", {"token": A, "headers": HEADERS, "payload": {"aps": {"alert": "Hi"}}})
        self.assertEqual(response.json["answer"]["status"], 200)
        self.assertEqual([each["given"] for each in self.get("/v1/answers")["answers"]], [0, 0])

    def test_not_finite(self) -> None:
        """A payload with numbers that JSON has not is none, and hides nothing else."""
        for number in ("NaN", "1e999", "-1e999"):
            payload = f'{{"aps": {{"alert": "Hi", "badge": {number}}}}}'
            response = self.ask("POST", "/v1/push", {"token": A, "headers": HEADERS, "payload": payload})
            self.assertEqual((response.status, response.json["payload"]), (201, None), number)
            self.assertEqual([each["code"] for each in response.json["findings"]], ["PAYLOAD_NOT_JSON"])
            self.assertIn("A payload must be a JSON object in UTF-8", response.json["why"])
            self.assertEqual(self.get("/v1/received")["received"][-1], response.json)

    def test_nested(self) -> None:
        """A payload may be nested as deeply as devices read it, and all of it is shown."""
        headers = {"apns-topic": "com.example.app.push-type.liveactivity", "apns-push-type": "liveactivity"}
        for depth, outcome in (90, "activity started"), (509, "activity started"), (510, "refused"):
            state = "[" * depth + "]" * depth
            payload = (
                '{"aps": {"timestamp": 1, "event": "start", "attributes-type": "Game", "attributes": {},'
                f' "content-state": {{"x": {state}}}, "alert": {{"title": "Game", "body": "It begins"}}}}}}'
            )
            response = self.ask("POST", "/v1/push", {"token": A, "headers": headers, "payload": payload})
            self.assertEqual((response.status, response.json["outcome"]), (201, outcome), depth)
            self.assertEqual(self.get("/v1/received")["received"][-1], response.json)
            devices = self.get("/v1/devices")["devices"]
            self.assertEqual([each["token"] for each in devices], [A])
            (shown,) = [each["content"] for each in devices[0]["activities"][-1:]]
            if outcome != "refused":
                self.assertEqual(shown, json.loads(payload)["aps"]["content-state"])

    def test_huge(self) -> None:
        """What is far longer than any server takes is refused, so what is kept has a bound; a little more is judged."""
        push = {"token": A, "headers": HEADERS, "payload": "x" * 5_121}
        response = self.ask("POST", "/v1/push", push)
        self.assertEqual((response.status, response.json["answer"]["reason"]), (201, "PayloadTooLarge"))
        for changes in ({"payload": "é" * 8_193}, {"headers": {"a": "x" * 16_384}}, {"token": "a" * 16_385}):
            self.assertEqual(self.ask("POST", "/v1/push", {**push, **changes}).status, 413)
        self.assertEqual(len(self.inbox.received), 1)

    def test_lint(self) -> None:
        """The findings are told without sending anything."""
        push = {"headers": {**HEADERS, "apns-push-type": "background"}, "payload": {"aps": {"content-available": 1}}}
        for more in ({}, {"token": A}):
            findings = self.ask("POST", "/v1/lint", {**push, **more}).json["findings"]
            self.assertTrue(any(finding["severity"] == "error" for finding in findings), findings)
        self.assertEqual(self.get("/v1/received")["received"], [])

    def test_strings(self) -> None:
        """Texts that a payload names are shown as the app has them, from either form of a ``.strings`` file."""
        for body in (
            {"text": '/* People see this */ "INVITE" = "%@ invites \\"you\\"";'},
            {"text": '{"INVITE": "%@ invites \\"you\\""}'},
            {"strings": {"INVITE": '%@ invites "you"'}},
        ):
            self.assertEqual(self.ask("POST", "/v1/strings", body).json, {"strings": 1})
            payload = {"aps": {"alert": {"loc-key": "INVITE", "loc-args": ["Ada"]}}}
            response = self.ask("POST", "/v1/push", {"token": A, "headers": HEADERS, "payload": payload})
            self.assertEqual(response.json["presentation"]["body"], 'Ada invites "you"')

    def test_refused(self) -> None:
        """What cannot be understood is refused."""
        for path, body in (
            ("/v1/push", {"tokens": []}),
            ("/v1/push", {"headers": {"a": 1}}),
            ("/v1/push", {"headers": {":path": "/"}}),
            ("/v1/push", {"headers": {"a": "b\r\nc: d"}}),
            ("/v1/push", {"token": 3}),
            ("/v1/lint", {"headers": []}),
            ("/v1/strings", {}),
            ("/v1/strings", {"strings": {"a": 1}}),
            ("/v1/strings", {"strings": [], "text": ""}),
            ("/v1/strings", {"text": '"a" = "b"'}),
        ):
            self.assertEqual(self.ask("POST", path, body).status, 400, (path, body))
