"""Tests for :mod:`txapns.daemon.faces.native.notifications`."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import fail
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from tests.daemon.faces.native.native_case import ANN, BOB, PATH, PATIENCE, NativeCase, submission
from tests.daemon.fakes import Connection, key_of
from txapns._serving.http import HTTPServer, IApplication
from txapns._serving.limits import ConnectionLimits
from txapns.daemon.errors import Unavailable
from txapns.daemon.interfaces import IKeys
from txapns.daemon.values import Environment, Lane, Settlement, State

__all__ = ["AcceptTests", "FeedbackTests", "OutcomeTests", "PlaceTests", "SideTests", "SubmissionTests"]


class AcceptTests(NativeCase):
    """``POST /v1/apps/<app>/notifications``."""

    def test_interfaces(self) -> None:
        """The face implements IApplication, and the keys of the tests implement IKeys."""
        verifyObject(IApplication, self.native)
        verifyObject(IKeys, self.keys)

    def test_accepted(self) -> None:
        """The answer comes when it is on the disk, not before, and has the ids in the order of the tokens."""
        body = submission(ANN, BOB)
        head = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key_of('all')}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.connection.write(head.encode() + body)
        self.assertEqual((self.connection.read(), self.world.queue.waiting("chess").count), ([], 2))
        response = self.connection.answer()
        self.assertEqual((response.status, response.headers["content-type"]), (202, "application/json"))
        [accepted] = response.json["notifications"]
        leased = self.lease()
        self.assertEqual(
            [(each.token.hex(), each.apns_id) for each in leased], [*zip([ANN, BOB], accepted["ids"], strict=True)]
        )
        expected = {"apns-topic": "com.example.chess", "apns-push-type": "alert", "apns-priority": "10"}
        self.assertEqual(dict(leased[0].content.headers), expected)

    def test_payload_untouched(self) -> None:
        """The payload is stored byte for byte: spaces, order, escapes, numbers, repeated keys."""
        payload = '{ "b" :1.50,"a":1e400, "a":"\\u00e9é\\/",\n"c":12345678901234567890123456789}'.encode()
        body = b'{"notifications":[{"tokens":["%s"],"payload":%s}]}' % (ANN.encode(), payload)
        self.assertEqual(self.post(body).status, 202)
        self.assertEqual(self.lease()[0].payload, payload)

    def test_own_id(self) -> None:
        """An apns-id that the caller chose is kept; it can be given only with one token."""
        own = str(uuid.uuid4())
        notification = {"tokens": [ANN], "payload": {}, "headers": {"apns-id": own}}
        response = self.post(json.dumps({"notifications": [notification]}).encode())
        self.assertEqual(response.json["notifications"], [{"ids": [own]}])
        notification["tokens"] = [ANN, BOB]
        response = self.post(json.dumps({"notifications": [notification]}).encode())
        self.assertEqual(response.json["error"]["path"], "notifications[0].headers.apns-id")

    def test_id_of_another(self) -> None:
        """If callers of two apps choose the same apns-id, each gets the outcome of its own notification."""
        own = str(uuid.uuid4())
        body = json.dumps({"notifications": [{"tokens": [ANN], "payload": {}, "headers": {"apns-id": own}}]}).encode()
        for app in ("news", "chess"):
            self.assertEqual(self.post(body, path=f"/v1/apps/{app}/notifications").status, 202)
        told = [self.get(f"/v1/notifications/{own}", key=key).json["app"] for key in ("all", "reader")]
        self.assertEqual(told, ["chess", "news"])

    def test_validate_only(self) -> None:
        """The request is checked as others are, and nothing is stored."""
        response = self.post(submission(validate_only=True))
        self.assertEqual((response.status, response.json["valid"]), (200, True))
        self.assertEqual(self.post(submission("xx", validate_only=True)).status, 400)
        self.assertEqual(self.post(submission(*[ANN] * 4, validate_only=True)).status, 413)
        self.assertEqual(self.world.queue.waiting("chess").count, 0)

    def test_findings(self) -> None:
        """With validate_only it is said what is wrong with each notification, as the app would send it."""
        good = {"aps": {"alert": {"title": "T", "body": "B"}, "sound": "default"}}
        notifications = [
            {"tokens": [ANN], "payload": good},
            {"tokens": [ANN], "payload": {"aps": {**good["aps"], "badge": "3"}}},
            {"tokens": [ANN], "payload": good, "headers": {"apns-priority": 7}},
        ]
        response = self.post(json.dumps({"validate_only": True, "notifications": notifications}).encode())
        self.assertEqual(response.status, 200)
        badge, priority = response.json["findings"]
        self.assertEqual((badge["notification"], badge["code"], badge["path"]), (1, "BADGE_TYPE", "aps.badge"))
        self.assertEqual((badge["severity"], badge["message"]), ("warning", 'A badge must be a number, not "3".'))
        self.assertEqual((priority["notification"], priority["code"], priority["severity"]), (2, "PRIORITY", "error"))

    def test_later(self) -> None:
        """A request may have a date before which nothing is sent, and a rate."""
        now = self.clock.now()
        whole = {"notifications": [{"tokens": [ANN, BOB], "payload": {}}], "not_before": now + 10.5, "rate": 1.0}
        self.assertEqual(self.post(json.dumps(whole).encode()).status, 202)
        for seconds, tokens in ((10.0, []), (0.6, [ANN]), (1.0, [BOB])):
            self.clock.advance(seconds)
            self.assertEqual([each.token.hex() for each in self.lease()], tokens)
        for field, value in (
            ("not_before", now + 31 * 86_400.0),
            ("not_before", -1.0),
            ("not_before", "tomorrow"),
            ("rate", 0),
            ("rate", 1.5),
            ("rate", 10**7),
        ):
            response = self.post(json.dumps({**whole, "validate_only": True, field: value}).encode())
            self.assertEqual((response.status, response.json["error"]["path"]), (400, field), value)

    def test_lane(self) -> None:
        """A request may choose its lane; otherwise it is chosen for it."""
        whole = {"notifications": [{"tokens": [ANN], "payload": {}}]}
        for field in ({"lane": "bulk"}, {}, {"lane": "normal"}):
            self.assertEqual(self.post(json.dumps({**whole, **field}).encode()).status, 202)
        self.assertEqual([each.content.lane for each in self.lease()], [Lane.BULK, Lane.URGENT, Lane.NORMAL])
        for value in ("first", 1, None):
            response = self.post(json.dumps({**whole, "lane": value}).encode())
            self.assertEqual((response.status, response.json["error"]["path"]), (400, "lane"), value)

    def test_half_a_character(self) -> None:
        """A text that was cut in the middle of a character is refused with its path, anywhere in the request."""
        for half in (r"\ud83c", r"\uD83c!", r"\udf55", r"\ud83c\ud83c", r"\ud83c\n"):
            for text, path in (
                ('"tokens":["TOKEN"],"payload":{"aps":{"alert":{"title":"HALF"}}}', ".payload.aps.alert.title"),
                ('"tokens":["TOKEN"],"payload":{"aps":{"HALF":1}}', ".payload.aps"),
                ('"tokens":["HALF"],"payload":{}', ".tokens[0]"),
                ('"tokens":["TOKEN"],"payload":{},"headers":{"apns-topic":"HALF"}', ".headers.apns-topic"),
            ):
                good = '{"tokens":["TOKEN"],"payload":{"a":"\\ud83c\\udf55 \\\\ud83c"}}'
                body = f'{{"notifications":[{good},{{{text}}}]}}'.replace("TOKEN", ANN).replace("HALF", half)
                response = self.post(body.encode())
                self.assertEqual((response.status, response.json["error"]["path"]), (400, f"notifications[1]{path}"))
                self.assertIn("half of a surrogate pair", response.json["error"]["message"])
        self.assertEqual(self.post(b'{"\\ud83c":1}').status, 400)
        self.assertEqual(self.world.queue.waiting("chess").count, 0)

    def test_faults(self) -> None:
        """An error names the path of what is wrong; all or nothing is accepted."""
        good = {"tokens": [ANN], "payload": {}}
        cases: list[tuple[Any, str]] = [
            ([], ""),
            ({}, ""),
            ({"notifications": []}, "notifications"),
            ({"notifications": [good], "notification": 1}, ""),
            ({"notifications": [good], "wait": "yes"}, "wait"),
            ({"notifications": [good, {"payload": {}}]}, "notifications[1]"),
            ({"notifications": [good, {"tokens": [ANN, 5], "payload": {}}]}, "notifications[1].tokens[1]"),
            ({"notifications": [good, {"tokens": [ANN, ANN[:-1]], "payload": {}}]}, "notifications[1].tokens[1]"),
            ({"notifications": [good, {"tokens": [ANN, "ü"], "payload": {}}]}, "notifications[1].tokens[1]"),
            ({"notifications": [good, {"tokens": [""], "payload": {}}]}, "notifications[1].tokens[0]"),
            ({"notifications": [good, {"tokens": [], "payload": {}}]}, "notifications[1].tokens"),
            ({"notifications": [good, {"tokens": [ANN], "payload": "{}"}]}, "notifications[1].payload"),
            (
                {"notifications": [good, {**good, "headers": {"apns-priority": 1.5}}]},
                "notifications[1].headers.apns-priority",
            ),
            (
                {"notifications": [good, {**good, "headers": {"apns-topic": "\n"}}]},
                "notifications[1].headers.apns-topic",
            ),
            ({"notifications": [good, {**good, "headers": {"authorization": "x"}}]}, "notifications[1].headers"),
        ]
        for body, path in cases:
            response = self.post(json.dumps(body).encode())
            error = response.json["error"]
            self.assertEqual((response.status, error["code"], error.get("path", "")), (400, "malformed", path), body)
        self.assertEqual(self.world.queue.waiting("chess").count, 0)

    def test_no_json(self) -> None:
        """Bodies that are not JSON, or malicious JSON."""
        payload = b'{"notifications":[{"tokens":["aa"],"payload":%s}]}'
        bodies = [
            b" ",
            b"\xff\xfe",
            b"{" * 90_000,
            b"[" * 90_000,
            b'{"notifications":[{"tokens":["\xff"],"payload":{}}]}',
            payload % (b'{"a":' * 9_000 + b"1" + b"}" * 9_000),
            payload % b'{"a":"\xff"}',
            payload % b'{"a":NaN}',
        ]
        for body in bodies:
            response = self.post(body)
            self.assertEqual((response.status, response.code), (400, "malformed"), body[:60])

    def test_content_type(self) -> None:
        """Only bodies declared as JSON are read: no page of another site can make a browser send that."""
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            response = self.post(headers={"Content-Type": kind})
            self.assertEqual((response.status, response.code), (415, "unsupported_media_type"))
        self.assertEqual(self.post(headers={"Content-Type": "Application/JSON; charset=utf-8"}).status, 202)

    def test_too_many(self) -> None:
        """Too many tokens in one request are an error; a full queue can be retried."""
        response = self.post(submission(*[ANN] * 4))
        self.assertEqual((response.status, response.code, "retry-after" in response.headers), (413, "too_large", False))
        self.assertEqual([self.post(submission(ANN, BOB)).status for _ in range(2)], [202, 202])
        response = self.post(submission(ANN, BOB))
        self.assertEqual((response.status, response.code), (429, "app_queue_full"))
        self.assertRegex(response.headers["retry-after"], r"^[1-9][0-9]*$")
        self.assertEqual(self.world.queue.waiting("chess").count, 4)

    def test_cannot_be_stored(self) -> None:
        """If it cannot be stored, the caller may retry."""
        self.patch(self.world.queue, "accept", lambda *arguments, **options: fail(Unavailable("the disk is full", 0.4)))
        response = self.post()
        self.assertEqual((response.status, response.code), (503, "unavailable"))
        self.assertEqual(response.headers["retry-after"], "1")

    def test_idempotency(self) -> None:
        """A request with the same key and body is accepted once; keys of other callers and apps are different."""
        headers = {"Idempotency-Key": "order 7"}
        first = self.post(headers=headers)
        second = self.post(headers=headers)
        self.assertEqual((first.json, first.status), (second.json, second.status))
        other = [
            self.post(headers=headers, key="sender"),
            self.post(headers=headers, path="/v1/apps/news/notifications"),
        ]
        self.assertEqual([each.status for each in other], [202, 202])
        self.assertEqual(len({json.dumps(each.json) for each in [first, *other]}), 3)
        response = self.post(submission(BOB), headers=headers)
        self.assertEqual((response.status, response.code), (409, "key_conflict"))
        self.assertEqual((self.world.queue.waiting("chess").count, self.world.queue.waiting("news").count), (2, 1))

    def test_unfit_idempotency(self) -> None:
        """A key that is empty, too long or not printable is refused."""
        for unfit in ("", "a" * 256, "ü", "a\tb"):
            response = self.post(headers={"Idempotency-Key": unfit})
            self.assertEqual((response.status, response.json["error"]["path"]), (400, "Idempotency-Key"))

    def test_wait(self) -> None:
        """A caller that waits gets the outcomes known when the time is over, and 200 if all are known."""
        for known, status in ((1, 202), (2, 200)):
            body = submission(ANN, BOB, wait=True)
            head = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key_of('sender')}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self.connection.write(head.encode() + body)
            self.clock.pump([0.002] * 5)
            leased = self.lease()
            self.assertEqual(self.connection.read(), [])
            for each in leased[:known]:
                self.result(self.world.queue.settle([Settlement(each.number, State.REJECTED, 400, "BadDeviceToken")]))
                [outcome] = self.result(self.world.outcome_log.outcomes([each.number]))
                self.waiting.tell(outcome)
            self.clock.advance(PATIENCE)
            [response] = self.connection.read()
            [accepted] = response.json["notifications"]
            states = ["rejected"] * known + ["waiting"] * (2 - known)
            self.assertEqual((response.status, [each["state"] for each in accepted["outcomes"]]), (status, states))
            self.assertEqual([each["id"] for each in accepted["outcomes"]], accepted["ids"])
            self.assertEqual(accepted["outcomes"][0]["reason"], "BadDeviceToken")

    def test_wait_while_the_disk_fails(self) -> None:
        """If some have no outcome, and it is unknown whether they are on the disk, the answer is 503."""
        self.patch(self.world.queue, "on_disk", lambda: fail(Unavailable("the disk is broken", 7.0)))
        body = submission(ANN, wait=True)
        head = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key_of('sender')}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.connection.write(head.encode() + body)
        self.clock.pump([0.002] * 5)
        self.clock.advance(PATIENCE)
        [response] = self.connection.read()
        self.assertEqual((response.status, response.headers["retry-after"]), (503, "7"))

    def test_preferred_wait(self) -> None:
        """A caller may prefer to wait less, and not more; what cannot be understood is ignored."""
        body = submission(ANN, wait=True)
        for fields, seconds in (
            (["wait=1"], 1.0),
            (["respond-async", 'Wait="1"; x=2'], 1.0),
            (["wait=0"], 0.0),
            (["wait=99999"], PATIENCE),
            (["wait=soon", "await=1", "x; wait=1"], PATIENCE),
        ):
            head = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key_of('sender')}\r\n"
            head += "".join(f"Prefer: {each}\r\n" for each in fields)
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self.connection.write(head.encode() + body)
            self.clock.pump([0.002] * 5)
            if seconds:
                self.clock.advance(seconds - 0.1)
                self.assertEqual(self.connection.read(), [], fields)
            self.clock.advance(0.1)
            [response] = self.connection.read()
            self.assertEqual(response.status, 202, fields)

    def test_wait_with_one_id(self) -> None:
        """Two notifications with the same id in one request each have their own outcome."""
        own = str(uuid.uuid4())
        notifications = [{"tokens": [token], "payload": {}, "headers": {"apns-id": own}} for token in (ANN, BOB)]
        body = json.dumps({"notifications": notifications, "wait": True}).encode()
        head = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key_of('sender')}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.connection.write(head.encode() + body)
        self.clock.pump([0.002] * 5)
        for each, answer in zip(
            self.lease(), ((State.REJECTED, 410, "Unregistered"), (State.ACCEPTED, 200)), strict=True
        ):
            self.result(self.world.queue.settle([Settlement(each.number, *answer)]))
            [outcome] = self.result(self.world.outcome_log.outcomes([each.number]))
            self.waiting.tell(outcome)
        self.clock.advance(PATIENCE)
        [response] = self.connection.read()
        accepted = response.json["notifications"]
        self.assertEqual([each["ids"] for each in accepted], [[own], [own]])
        self.assertEqual([each["outcomes"][0]["status"] for each in accepted], [410, 200])

    def test_gone(self) -> None:
        """A request is accepted even if its caller disconnects before the answer, and nothing is logged."""
        for body in (submission(), submission(wait=True)):
            head = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key_of('all')}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            connection = Connection(self.server, self.clock)
            connection.write(head.encode() + body)
            connection.lose()
        self.clock.pump([0.002] * 5)
        self.clock.advance(PATIENCE)
        self.assertEqual(len(self.lease()), 2)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_broken(self) -> None:
        """An internal error is in the log; the caller gets status 500."""
        self.patch(self.world.queue, "accept", lambda *arguments, **options: fail(ZeroDivisionError("secret")))
        with capturedLogs() as events:
            response = self.post()
        self.assertEqual((response.status, response.code), (500, "internal"))
        self.assertNotIn(b"secret", response.body)
        self.assertIn("ZeroDivisionError: secret", formatEvent(events[-1]))


class PlaceTests(NativeCase):
    """The places of authenticated callers, when they are taken while a request arrives."""

    def test_place_while_arriving(self) -> None:
        """A caller that found none when its key was read gets one that is free when its request is complete."""
        server = HTTPServer(self.clock, self.native, ConnectionLimits(clients=4, unauthenticated=4))
        body = submission()
        fields = f"Host: here\r\nAuthorization: Bearer {key_of('all')}\r\nContent-Type: application/json\r\n"
        head = f"POST {PATH} HTTP/1.1\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode()
        for _ in range(3):
            Connection(server, self.clock).write(head + body)
        late = Connection(server, self.clock)
        late.write(head)
        self.assertFalse(late.channel.authenticated)
        self.clock.advance(1)
        late.write(body)
        self.assertTrue(late.channel.authenticated)


class SideTests(NativeCase):
    """Apps with two sides."""

    def test_named(self) -> None:
        """A notification may name the side that it is for."""
        self.apps.divide("chess")
        sides = ("production", "sandbox", None)
        notifications = [
            {"tokens": [ANN], "payload": {}, **({} if side is None else {"environment": side})} for side in sides
        ]
        self.assertEqual(self.post(json.dumps({"notifications": notifications}).encode()).status, 202)
        self.assertEqual([each.content.environment for each in self.lease()], [*Environment, None])

    def test_refused(self) -> None:
        """What is no environment is refused, and so is any if the app has only one side, also if it is only checked."""
        for change, status in (
            ({"environment": "both"}, 400),
            ({"headers": {"txapns-environment": "sandbox"}}, 400),
            ({"environment": "production"}, 409),
            ({"environment": "sandbox"}, 409),
        ):
            body = {"notifications": [{"tokens": [ANN], "payload": {}, **change}]}
            said = [self.post(json.dumps({**body, "validate_only": only}).encode()) for only in (False, True)]
            self.assertEqual([each.status for each in said], [status] * 2)
        self.assertEqual(said[0].json["error"]["code"], "not_supported")
        self.assertEqual(self.lease(), [])


class OutcomeTests(NativeCase):
    """``GET /v1/notifications/<id>``."""

    def test_outcomes(self) -> None:
        """It has what is known; what is not known is omitted."""
        [apns_id] = self.post(path="/v1/apps/news/notifications").json["notifications"][0]["ids"]
        accepted_at = self.clock.now()
        found = self.get(f"/v1/notifications/{apns_id}", key="reader").json
        self.assertApproximates(found.pop("accepted_at"), accepted_at, 0.05)
        self.assertEqual(found, {"id": apns_id, "app": "news", "state": "waiting", "attempts": 0})
        accepted = Settlement(
            self.lease("news")[0].number, State.ACCEPTED, 200, unique_id="E77A", environment=Environment.SANDBOX
        )
        self.result(self.world.queue.settle([accepted]))
        found = self.get(f"/v1/notifications/{apns_id.upper()}").json
        self.assertEqual((found["state"], found["status"], found["attempts"]), ("accepted", 200, 1))
        self.assertEqual((found["unique_id"], found["environment"]), ("E77A", "sandbox"))
        self.assertGreaterEqual(found["settled_at"], found["accepted_at"])

    def test_dead(self) -> None:
        """A dead token has the time of its death."""
        [apns_id] = self.kill(ANN)
        found = self.get(f"/v1/notifications/{apns_id}").json
        self.assertEqual((found["state"], found["status"], found["reason"]), ("rejected", 410, "Unregistered"))
        self.assertLess(found["timestamp"], found["accepted_at"])

    def test_unknown(self) -> None:
        """An unknown or malformed id is not found."""
        for apns_id in (str(uuid.uuid4()), "x", "%ff%00", "a" * 5000):
            self.assertEqual(self.get(f"/v1/notifications/{apns_id}").status, 404)

    def test_another_app(self) -> None:
        """An id of an app that the key may not read is answered like an unknown one."""
        [apns_id] = self.post().json["notifications"][0]["ids"]
        for key in ("reader", "sender"):
            found, none = (self.get(f"/v1/notifications/{each}", key=key) for each in (apns_id, str(uuid.uuid4())))
            self.assertEqual((found.status, found.headers, found.body), (404, none.headers, none.body))


class FeedbackTests(NativeCase):
    """``GET /v1/apps/<app>/feedback``."""

    def test_pages(self) -> None:
        """Tokens are listed in the order in which they became known; the cursor tells where to continue."""
        self.kill(ANN)
        self.kill(BOB)
        self.kill(ANN, app="news")
        first = self.get("/v1/apps/chess/feedback?limit=1").json
        [dead] = first["tokens"]
        self.assertEqual((dead["token"], dead["reason"], dead["cursor"]), (ANN, "Unregistered", first["cursor"]))
        self.assertLess(dead["timestamp"], dead["noted_at"])
        second = self.get(f"/v1/apps/chess/feedback?after={first['cursor']}").json
        self.assertEqual([each["token"] for each in second["tokens"]], [BOB])
        last = self.get(f"/v1/apps/chess/feedback?after={second['cursor']}&limit=10000").json
        self.assertEqual(last, {"tokens": [], "cursor": second["cursor"]})

    def test_unfit(self) -> None:
        """A misspelt parameter would lose a cursor, so it is an error."""
        unfit = [
            "after=-1",
            "after=x",
            "after=",
            f"after={2**63}",
            "limit=0",
            "limit=10001",
            "aftr=1",
            "after=1&after=2",
            "x",
            "%",
        ]
        for query in unfit:
            response = self.get(f"/v1/apps/chess/feedback?{query}")
            self.assertEqual((response.status, response.code), (400, "malformed"), query)


class SubmissionTests(NativeCase):
    """Any request."""

    @settings(deadline=None)
    @given(
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([ANN])),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(
                    st.sampled_from(["notifications", "tokens", "payload", "headers", "apns-topic", "wait", "x"]),
                    inner,
                    max_size=4,
                ),
            ),
        )
    )
    def test_any_json(self, document: object) -> None:
        """It is refused with a message, or accepted; there is no internal error."""
        response = self.post(json.dumps(document).encode(), path="/v1/apps/news/notifications")
        self.assertIn(response.status, (200, 202, 400))
        self.assertIsInstance(response.json, dict)

    @settings(deadline=None)
    @given(st.binary(max_size=200))
    def test_any_octets(self, body: bytes) -> None:
        """The same for bytes that are hardly ever JSON."""
        self.assertEqual(self.post(body or b"-").status, 400)

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.dictionaries(
            st.text(max_size=5),
            st.one_of(st.integers(), st.text(max_size=9), st.floats(allow_nan=False, allow_infinity=False)),
            max_size=3,
        ),
        st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=3),
        st.booleans(),
    )
    def test_round_trip(self, payload: dict[str, object], tokens: list[bytes], escaped: bool) -> None:
        """Payload and tokens are stored as they were sent."""
        text = json.dumps(payload, ensure_ascii=escaped)
        try:
            written = text.encode()
        except UnicodeEncodeError:
            return
        if re.search(rb"\\ud[89a-f]", written):
            return  # pairs of surrogates and halves of them, which are another matter
        body = b'{"notifications":[{"payload":%s,"tokens":%s}]}' % (
            written,
            json.dumps([each.hex() for each in tokens]).encode(),
        )
        self.assertEqual(self.post(body, path="/v1/apps/news/notifications").status, 202)
        leased = self.lease("news")
        self.assertEqual([each.token for each in leased], tokens)
        self.assertEqual({each.payload for each in leased}, {written})
