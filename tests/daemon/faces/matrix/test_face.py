"""Tests for :mod:`txapns.daemon.faces.matrix.face`."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import fail
from zope.interface.verify import verifyObject

from tests.daemon.faces.matrix.matrix_case import ANN, APP_ID, BOB, EVENT, EXAMPLE, MatrixCase, device, key_of_token
from tests.daemon.fakes import Connection, key_of
from tests.daemon.store.contract import START
from txapns._serving.http import HTTPServer, IApplication
from txapns._serving.limits import ConnectionLimits
from txapns.daemon.config.sections import MatrixAppSection, MatrixSection
from txapns.daemon.errors import Unavailable
from txapns.daemon.faces.matrix.face import PATH
from txapns.daemon.faces.matrix.requests import MAX_BODY, MAX_DEVICES
from txapns.daemon.values import Limits, State

__all__ = ["ErrorTests", "HostileTests", "KeyTests", "NotifyTests", "PatientTests", "RejectedTests", "RepeatedTests"]

NOTIFY = PATH.decode()
ANN_KEY, BOB_KEY = key_of_token(ANN), key_of_token(BOB)

#: Any JSON, and what users can choose of a request.
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
APS = st.dictionaries(st.sampled_from(["alert", "badge", "sound"]), ANYTHING)
DEFAULT = st.dictionaries(st.just("aps"), APS | ANYTHING) | ANYTHING
USERS = {
    name: ANYTHING | st.sampled_from(["m.room.message", "m.room.member", "m.call.invite", "invite", "low"])
    for name in ("type", "sender", "sender_display_name", "room_name", "room_alias", "membership", "prio")
}
CONTENT = st.dictionaries(st.sampled_from(["msgtype", "body", "offer"]), ANYTHING | st.just("m.image")) | ANYTHING


class NotifyTests(MatrixCase):
    """What is sent."""

    def test_interface(self) -> None:
        """The face implements IApplication."""
        verifyObject(IApplication, self.face)

    def test_example(self) -> None:
        """The specification's example is on the disk, and answered when Apple has accepted it."""
        self.send(EXAMPLE)
        [leased] = self.lease()
        self.assertEqual(self.connection.read(), [])
        self.world.settle(leased, State.ACCEPTED, 200)
        response = self.connection.answer()
        self.assertEqual((response.status, response.headers["content-type"]), (200, "application/json"))
        self.assertEqual(response.json, {"rejected": []})
        self.assertEqual(leased.token, b"Why on earth did you decode this?")
        self.assertEqual(dict(leased.content.headers), {"apns-push-type": "alert"})
        alert = {
            "loc-key": "MSG_FROM_USER_IN_ROOM_WITH_CONTENT",
            "loc-args": ["Major Tom", "Mission Control", "I'm floating in a most peculiar way."],
        }
        self.assertEqual(
            json.loads(leased.payload),
            {
                "aps": {"badge": 3, "alert": alert, "sound": "bing"},
                "room_id": "!slw48wfj34rtnrf:example.com",
                "event_id": "$3957tyerfgewrf384",
            },
        )

    def test_event_id_only(self) -> None:
        """So is a request of which only the required fields are there, as homeservers send it for this format."""
        default = {"aps": {"mutable-content": 1, "alert": {"loc-key": "Notification"}}}
        data = {"format": "event_id_only", "default_payload": default}
        devices = [device(data=data)]
        self.send({"notification": {"event_id": "$1", "room_id": "!2", "counts": {"unread": 0}, "devices": devices}})
        [leased] = self.lease()
        self.assertEqual(json.loads(leased.payload), {**default, "event_id": "$1", "room_id": "!2", "unread_count": 0})
        self.assertEqual(self.answered().json, {"rejected": []})

    def test_several(self) -> None:
        """Each device gets it once, in the app that its app id means."""
        news = device(BOB, "com.example.news.ios")
        self.assertEqual(self.rejected(device(), device(BOB), device(), news), [])
        self.assertEqual([each.token.hex() for each in self.lease()], [ANN, BOB])
        [leased] = self.lease("news")
        self.assertEqual(leased.token.hex(), BOB)
        self.assertNotIn("badge", json.loads(leased.payload)["aps"])

    def test_pushkeys(self) -> None:
        """A token in hexadecimal is not taken for base64."""
        self.assertEqual(self.rejected({"app_id": APP_ID, "pushkey": ANN}, {"app_id": APP_ID, "pushkey": BOB_KEY}), [])
        self.assertEqual([each.token.hex() for each in self.lease()], [ANN, BOB])

    def test_headers(self) -> None:
        """Low priority is 5, the push type is the app's if it has one, and only the latest counts are kept."""
        self.assertEqual(self.rejected(device(), prio="low"), [])
        self.world.add("chess", self.world.certificate, push_type="alert")
        counts = {"id": "", "type": None, "sender": "", "counts": {"unread": 7}, "devices": [device(BOB)]}
        self.send({"notification": counts})
        self.assertEqual(self.answered().json, {"rejected": []})
        event, counted = self.lease()
        self.assertEqual(dict(event.content.headers), {"apns-priority": "5", "apns-push-type": "alert"})
        self.assertEqual(dict(counted.content.headers), {"apns-push-type": "alert", "apns-collapse-id": "counts"})
        self.assertEqual(counted.payload, b'{"aps":{"badge":7}}')

    def test_turns(self) -> None:
        """A request for many devices does not hold up one for a single device."""
        many = [device(f"{number:064x}") for number in range(MAX_DEVICES)]
        first, self.connection = self.connection, Connection(self.server, self.world.reactor)
        body = json.dumps({"notification": {**EVENT, "devices": many}}).encode()
        first.write(f"POST {NOTIFY} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        self.assertEqual(self.rejected(device()), [])
        self.assertEqual(first.answer().json, {"rejected": []})
        leased = [each.token.hex() for each in self.lease()]
        self.assertEqual((leased[0], sorted(leased[1:])), (ANN, [f"{number:064x}" for number in range(MAX_DEVICES)]))
        first.lose()

    def test_nothing_to_do(self) -> None:
        """Without devices, or with nothing to tell them, nothing is sent."""
        self.assertEqual(self.rejected(), [])
        self.send({"notification": {"counts": {"unread": 1}, "devices": [device(app_id="com.example.news.ios")]}})
        self.assertEqual(self.answered().json, {"rejected": []})
        self.assertEqual(self.lease("news"), [])


class RejectedTests(MatrixCase):
    """Which pushkeys are rejected."""

    def reject(self, status: int, reason: str, since: float | None = None, **more: Any) -> list[str]:
        """Notify two devices, of which Apple rejects the first; returns the rejected pushkeys."""
        self.send({"notification": {**EVENT, "devices": [device(**more), device(BOB)]}})
        first, second = self.lease()
        self.world.settle(second, State.ACCEPTED, 200)
        self.world.settle(first, State.REJECTED, status, reason, since)
        return list(self.connection.answer().json["rejected"])

    def test_by_apple(self) -> None:
        """Those that Apple says are of no use, and no others."""
        for number, (status, reason, expected) in enumerate(
            (
                (400, "BadDeviceToken", [ANN_KEY]),
                (400, "DeviceTokenNotForTopic", [ANN_KEY]),
                (8, "InvalidToken", [ANN_KEY]),
                (0, "InvalidToken", [ANN_KEY]),
                (400, "TopicDisallowed", []),
                (400, "BadTopic", []),
                (403, "TopicMismatch", []),
                (413, "PayloadTooLarge", []),
                (410, "Unregistered", [ANN_KEY]),
            )
        ):
            self.patch(self.world.log, "known", lambda *arguments: fail(Unavailable("locked", 1)))
            with self.subTest(reason=reason, status=status):
                self.send({"notification": {**EVENT, "event_id": f"${number}", "devices": [device(), device(BOB)]}})
                first, second = self.lease()
                self.world.settle(second, State.ACCEPTED, 200)
                self.world.settle(first, State.REJECTED, status, reason, START - 5 if status == 410 else None)
                self.assertEqual(self.connection.answer().json, {"rejected": expected})

    def test_registered_again(self) -> None:
        """A token that died before its pushkey was updated is not dead; a date in the future does not count."""
        self.assertEqual(self.reject(410, "Unregistered", START - 100, pushkey_ts=int(START) - 50), [])
        self.assertEqual(self.rejected(device(pushkey_ts=int(START) - 50), event_id="$2"), [])
        self.assertEqual(len(self.lease()), 1)
        self.assertEqual(self.rejected(device(pushkey_ts=int(START) - 150), event_id="$3"), [ANN_KEY])
        self.assertEqual(self.rejected(device(pushkey_ts=int(START) * 1_000), event_id="$3"), [ANN_KEY])
        self.assertEqual(self.rejected(device(pushkey_ts="today"), event_id="$3"), [ANN_KEY])
        self.assertEqual(self.lease(), [])

    def test_known(self) -> None:
        """For a token in the feedback log nothing is sent; the other devices are notified."""
        self.world.kill(bytes.fromhex(ANN))
        self.assertEqual(self.rejected(device(), device(BOB)), [ANN_KEY])
        self.assertEqual([each.token.hex() for each in self.lease()], [BOB])

    def test_later(self) -> None:
        """If Apple answers too late, the next request is answered with it."""
        self.assertEqual(self.rejected(device()), [])
        [leased] = self.lease()
        self.world.settle(leased, State.REJECTED, 410, "Unregistered", START - 5)
        self.assertEqual(self.rejected(device(), event_id="$2"), [ANN_KEY])
        self.assertEqual(self.lease(), [])

    def test_useless(self) -> None:
        """An unknown app id, what is no token, and data that fit into no payload; the other devices are notified."""
        useless: list[dict[str, Any]] = [
            device(app_id="com.example.unknown"),
            device(app_id=""),
            {"app_id": APP_ID, "pushkey": ""},
            {"app_id": APP_ID, "pushkey": "not base64!"},
            {"app_id": APP_ID, "pushkey": "a"},
            {"app_id": APP_ID, "pushkey": "ab" * 600},
            device("c1" * 32, data=[]),
            device("c2" * 32, data={"default_payload": ["x"]}),
            device("c3" * 32, data={"default_payload": {"aps": "x"}}),
            device("c4" * 32, data={"default_payload": {"x": "y" * 70_000}}),
        ]
        expected = list(dict.fromkeys(each["pushkey"] for each in useless))
        self.assertEqual(self.rejected(device(BOB), *useless), expected)
        self.assertEqual([each.token.hex() for each in self.lease()], [BOB])
        self.assertEqual(self.rejected(device(BOB), *useless), expected)

    def test_of_use_elsewhere(self) -> None:
        """A pushkey that is of no use to one app is not rejected if it is to another one in the same request."""
        self.assertEqual(self.rejected(device(app_id="com.example.unknown"), device()), [])


class RepeatedTests(MatrixCase):
    """Requests that a homeserver repeats."""

    def test_repeated(self) -> None:
        """Nothing is sent twice, whatever was counted since, and the repetition is answered like the first."""
        self.assertEqual(self.rejected(device()), [])
        [leased] = self.lease()
        self.assertEqual(self.rejected(device(), counts={"unread": 5}), [])
        self.world.settle(leased, State.REJECTED, 400, "BadDeviceToken")
        self.assertEqual(self.rejected(device(), counts={"unread": 6}), [ANN_KEY])
        self.assertEqual(self.lease(), [])

    def test_at_once(self) -> None:
        """Nor if it is repeated while the first is being answered."""
        self.send({"notification": {**EVENT, "devices": [device()]}})
        first, self.connection = self.connection, Connection(self.server, self.world.reactor)
        self.send({"notification": {**EVENT, "devices": [device()]}})
        [leased] = self.lease()
        self.world.settle(leased, State.REJECTED, 410, "Unregistered", START)
        for each in (first, self.connection):
            self.assertEqual(each.answer().json, {"rejected": [ANN_KEY]})
        first.lose()

    def test_others(self) -> None:
        """Another event, device, app or account on the device is something else."""
        self.rejected(device())
        self.rejected(device(), event_id="$2")
        self.rejected(device(BOB))
        self.rejected(device(data={"default_payload": {"account": 2}}))
        self.rejected(device(data={"default_payload": {"account": 2}}))
        self.assertEqual(len(self.lease()), 4)
        self.rejected(device(app_id="com.example.news"), device(app_id="com.example.news.ios"))
        self.assertEqual(len(self.lease("news")), 1)

    def test_counts(self) -> None:
        """Counts alone are sent each time: a device that had 2, then 1, then 2 again shows 2."""
        for unread in (2, 1, 2):
            self.count(unread)
            self.assertEqual([each.payload for each in self.lease()], [b'{"aps":{"badge":%d}}' % unread])

    def test_latest_counts(self) -> None:
        """Of the counts that wait for a device only the latest are sent; of events each is."""
        self.rejected(device())
        self.rejected(device(), event_id="$2")
        for unread in (2, 1, 7):
            self.count(unread)
        badges = [json.loads(each.payload)["aps"]["badge"] for each in self.lease()]
        self.assertEqual(badges, [3, 3, 7])

    def count(self, unread: int) -> None:
        """Tell a device how much is unread."""
        self.send({"notification": {"counts": {"unread": unread}, "devices": [device()]}})
        self.assertEqual(self.answered().json, {"rejected": []})

    def test_full(self) -> None:
        """If one app takes no more, the others' devices are notified once, and told of when there is room again."""
        self.world.add("news", self.world.provider_token, limits=Limits(queue=1, tokens=1))
        news = [device(token, "com.example.news.ios") for token in (ANN, BOB)]
        others = [device("cc" * 32), device("dd" * 32, "com.example.unknown")]
        response = self.notify(*news, *others)
        self.assertEqual((response.status, response.json["errcode"]), (429, "M_LIMIT_EXCEEDED"))
        self.assertEqual((response.headers["retry-after"], response.json["retry_after_ms"]), ("5", 5_000))
        [leased] = self.lease()
        self.world.settle(leased, State.REJECTED, 400, "BadDeviceToken")
        self.world.add("news", self.world.provider_token)
        self.assertEqual(self.rejected(*news, *others), [each["pushkey"] for each in others])
        self.assertEqual(self.lease(), [])
        self.assertEqual([each.token.hex() for each in self.lease("news")], [ANN, BOB])


class ErrorTests(MatrixCase):
    """Requests that are not answered with a list."""

    def test_not_now(self) -> None:
        """What can be accepted later is 503: an app that does not exist yet, and a daemon that stops."""
        response = self.notify(device(app_id="com.example.later"), device())
        self.assertEqual((response.status, response.json["errcode"]), (503, "M_UNKNOWN"))
        self.assertEqual(len(self.lease()), 1)
        self.world.intake.stop()
        response = self.notify(device(BOB))
        self.assertEqual((response.status, response.json["errcode"]), (503, "M_UNKNOWN"))
        self.assertEqual(response.headers["retry-after"], "10")

    def test_disk_fails(self) -> None:
        """If Apple does not answer in time, and it is unknown whether a notification is on the disk, that is 503."""
        self.patch(self.world.queue, "on_disk", lambda: fail(Unavailable("the disk is broken", 7.0)))
        response = self.notify(device())
        self.assertEqual((response.status, response.headers["retry-after"]), (503, "7"))

    def test_wrong(self) -> None:
        """What is not a request is 400, and says which part is wrong."""
        devices = [device()]
        for body, code, words in (
            (b"", "M_NOT_JSON", "JSON"),
            (b"{", "M_NOT_JSON", "JSON"),
            (b'"\xff"', "M_BAD_JSON", "object"),
            (b"7", "M_BAD_JSON", "object"),
            ([], "M_BAD_JSON", "object"),
            ({}, "M_BAD_JSON", "notification"),
            ({"notification": []}, "M_BAD_JSON", "notification"),
            ({"notification": {}}, "M_BAD_JSON", "devices"),
            ({"notification": {"devices": {}}}, "M_BAD_JSON", "notification.devices"),
            ({"notification": {"devices": [7]}}, "M_BAD_JSON", "notification.devices[0]"),
            ({"notification": {"devices": [{"app_id": APP_ID}]}}, "M_BAD_JSON", "pushkey"),
            ({"notification": {"devices": [{"app_id": 7, "pushkey": ""}]}}, "M_BAD_JSON", "devices[0].app_id"),
            ({"notification": {"devices": devices, "event_id": 7}}, "M_BAD_JSON", "notification.event_id"),
            ({"notification": {"devices": devices, "counts": 7}}, "M_BAD_JSON", "notification.counts"),
            ({"notification": {"devices": devices, "counts": {"unread": "7"}}}, "M_BAD_JSON", "counts.unread"),
            (b"[" * 100_000, "M_BAD_JSON", ""),
        ):
            self.send(body)
            response = self.connection.answer()
            self.assertEqual((response.status, response.json["errcode"]), (400, code), body)
            self.assertIn(words, response.json["error"], body)
        self.assertEqual(self.lease(), [])

    def test_too_much(self) -> None:
        """Many devices are 413, and so is a long body, which is not read."""
        response = self.notify(*[device(f"{number:064x}") for number in range(MAX_DEVICES + 1)])
        self.assertEqual((response.status, response.json["errcode"]), (413, "M_TOO_LARGE"))
        head = f"POST {NOTIFY} HTTP/1.1\r\nHost: h\r\n"
        for field, body in (
            (f"Content-Length: {MAX_BODY + 1}", b""),
            ("Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (MAX_BODY + 1, b" " * (MAX_BODY + 1))),
        ):
            self.connection.write(f"{head}{field}\r\n\r\n".encode() + body)
            response = self.connection.answer()
            self.assertEqual((response.status, response.json["errcode"]), (413, "M_TOO_LARGE"))
            self.assertEqual(self.connection.closed, not body)
            self.connection = Connection(self.server, self.world.reactor)
        self.assertEqual(self.lease(), [])

    def test_unrecognized(self) -> None:
        """Another path is 404, and another method 405."""
        response = self.connection.request("POST", "/_matrix/push/v2/notify", b"", key=None)
        self.assertEqual((response.status, response.json["errcode"]), (404, "M_UNRECOGNIZED"))
        response = self.connection.request("GET", NOTIFY, key=None)
        self.assertEqual((response.status, response.json["errcode"]), (405, "M_UNRECOGNIZED"))
        self.assertEqual(response.headers["allow"], "POST")

    def test_bug(self) -> None:
        """What should not happen is 500, and in the log."""
        self.world.intake.wait = lambda *arguments: fail(ZeroDivisionError())
        response = self.notify(device())
        self.assertEqual((response.status, response.json["errcode"]), (500, "M_UNKNOWN"))


class KeyTests(MatrixCase):
    """A face that requires keys, which a proxy adds."""

    keys = True

    def test_keys(self) -> None:
        """The key is in a header field or in the path, and must allow sending for the app."""
        body = json.dumps({"notification": {**EVENT, "devices": []}}).encode()
        for path in (NOTIFY, f"/{key_of('nobody')}{NOTIFY}"):
            response = self.connection.request("POST", path, body, key=None)
            self.assertEqual((response.status, response.json["errcode"]), (401, "M_UNKNOWN_TOKEN"))
            self.assertEqual(response.headers["www-authenticate"], 'Bearer realm="txapns"')
            self.connection = Connection(self.server, self.world.reactor)
        self.assertEqual(self.connection.request("POST", NOTIFY, body).status, 200)
        self.assertEqual(self.connection.request("POST", f"/{key_of('chess')}{NOTIFY}", body, key=None).status, 200)
        news = {"notification": {**EVENT, "devices": [device(app_id="com.example.news.ios"), device()]}}
        response = self.connection.request("POST", NOTIFY, json.dumps(news).encode(), key="manager")
        self.assertEqual((response.status, response.json["errcode"]), (403, "M_FORBIDDEN"))
        self.assertEqual(self.lease(), [])


class PatientTests(MatrixCase):
    """How long an answer waits for Apple's."""

    options = MatrixSection(wait=0.0, app_ids={APP_ID: MatrixAppSection(app="chess")})

    def test_no_wait(self) -> None:
        """It need not wait at all."""
        self.assertEqual(self.rejected(device()), [])
        self.assertEqual(len(self.lease()), 1)


class HostileTests(MatrixCase):
    """Requests with anything in them."""

    options = MatrixSection(wait=0.0, app_ids={APP_ID: MatrixAppSection(app="chess")})

    @settings(deadline=None, suppress_health_check=[HealthCheck.differing_executors], max_examples=30)
    @given(
        st.fixed_dictionaries({}, optional=USERS),
        CONTENT,
        st.dictionaries(st.sampled_from(["default_payload", "format"]), DEFAULT) | ANYTHING,
        ANYTHING,
    )
    def test_users(self, fields: dict[str, Any], content: object, data: object, tweaks: object) -> None:
        """Whatever users can choose, it is no error: the device is notified, or its pushkey is rejected."""
        devices = [device(data=data, tweaks=tweaks), device(BOB)]
        number = self.world.reactor.seconds()
        self.send({"notification": {"event_id": f"${number}", **fields, "content": content, "devices": devices}})
        response = self.connection.answer()
        self.assertEqual(response.status, 200, response.body)
        self.assertIn(response.json["rejected"], ([], [ANN_KEY]))
        leased = self.lease()
        self.assertEqual(len(leased), 2 - len(response.json["rejected"]) if leased else 0)
        for each in leased:
            self.assertIsInstance(json.loads(each.payload), dict)
            self.world.settle(each, State.ACCEPTED, 200)

    @settings(deadline=None, suppress_health_check=[HealthCheck.differing_executors], max_examples=30)
    @given(ANYTHING | st.fixed_dictionaries({"notification": ANYTHING}), st.data())
    def test_bodies(self, body: object, data: st.DataObject) -> None:
        """Whatever the body is, the answer is one of Matrix, and the connection goes on."""
        encoded = json.dumps(body).encode()
        start = data.draw(st.integers(0, len(encoded)))
        encoded = encoded[:start] + data.draw(st.binary(max_size=4)) + encoded[start:]
        server = HTTPServer(self.world.reactor, self.face, ConnectionLimits())
        self.connection = Connection(server, self.world.reactor)
        self.send(encoded)
        response = self.connection.answer()
        if response.status == 200:
            self.assertEqual(response.json, {"rejected": []})
        else:
            self.assertEqual((response.status, set(response.json)), (400, {"errcode", "error"}))
        self.connection.lose()
