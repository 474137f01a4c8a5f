"""Tests for :mod:`txapns.daemon.faces.matrix.payloads`."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.faces.matrix.matrix_case import EVENT, device
from txapns.daemon.faces.matrix.payloads import payload_of, shortened
from txapns.daemon.faces.matrix.requests import read
from txapns.errors import InvalidPayload

__all__ = ["CountsTests", "DefaultTests", "EventIdTests", "LocalizedTests", "ShortenedTests"]

TEXTS = {"sender": "@ann:example.com", "sender_display_name": "Ann", "room_name": "Room", "room_alias": "#r:e.com"}


DATA = {"format": "event_id_only", "default_payload": {"aps": {"alert": "News", "badge": 1}, "account": 7}}


class PayloadCase(SynchronousTestCase):
    """Payloads of one event for one device."""

    def payload(
        self, event: dict[str, Any], data: object = None, tweaks: object = None, *, counts: bool = True
    ) -> dict[str, Any] | None:
        """Make a payload."""
        body = {"notification": {**event, "devices": [device(data=data, tweaks=tweaks)]}}
        request = read(json.dumps(body).encode())
        [found] = request.devices
        return payload_of(request.event, found, counts=counts)

    def aps(self, event: dict[str, Any], data: object = None, tweaks: object = None) -> dict[str, Any]:
        """Make the aps of a payload."""
        payload = self.payload(event, data, tweaks)
        assert payload is not None
        return dict(payload["aps"])


class EventIdTests(PayloadCase):
    """Events of which only the id is told."""

    def test_no_type(self) -> None:
        """Without a type, whatever the pusher's format; the app counts, so there is no badge but its own."""
        event = {"event_id": "$1", "room_id": "!2", "counts": {"unread": 3, "missed_calls": 0}}
        expected = {**DATA["default_payload"], "event_id": "$1", "room_id": "!2"}
        for data in (DATA, {**DATA, "format": None}):
            self.assertEqual(self.payload(event, data), {**expected, "unread_count": 3, "missed_calls": 0})
        self.assertEqual(self.payload({"event_id": "$1"}), {"event_id": "$1"})
        self.assertEqual(self.payload(event, DATA, counts=False), expected)

    def test_format(self) -> None:
        """With a type, if the pusher's format is this one: nothing of the content is told."""
        expected = {"event_id": EVENT["event_id"], "room_id": EVENT["room_id"], "unread_count": 2, "missed_calls": 1}
        self.assertEqual(self.payload(EVENT, {"format": "event_id_only"}), expected)


class CountsTests(PayloadCase):
    """Counts."""

    def test_alone(self) -> None:
        """Counts alone are a badge, without what the app adds to events; those that are missing are 0."""
        data = {"default_payload": {"aps": {"mutable-content": 1}, "account": 7}}
        for counts, badge in (
            ({"unread": 2}, 2),
            ({"missed_calls": 1}, 1),
            ({"unread": 2, "missed_calls": 1}, 3),
            ({"unread": 0}, 0),
            ({"unread": -1, "missed_calls": 10**30}, 2**31 - 1),
            ({}, 0),
            (None, 0),
        ):
            for empty in ({}, {"id": "", "event_id": "", "type": None, "sender": ""}):
                self.assertEqual(self.payload({**empty, "counts": counts}, data), {"aps": {"badge": badge}})
        self.assertIsNone(self.payload({"counts": {"unread": 2}}, data, counts=False))

    def test_with_event(self) -> None:
        """With an event they are its badge; an event without counts has the one that the app adds."""
        self.assertEqual(self.aps(EVENT)["badge"], 3)
        self.assertEqual(self.aps({**EVENT, "counts": {}})["badge"], 0)
        self.assertNotIn("badge", self.aps({**EVENT, "counts": None}))
        self.assertEqual(self.aps({**EVENT, "counts": None}, {"default_payload": {"aps": {"badge": 9}}})["badge"], 9)
        payload = self.payload(EVENT, counts=False)
        assert payload is not None
        self.assertNotIn("badge", payload["aps"])


class LocalizedTests(PayloadCase):
    """The texts of events."""

    def test_texts(self) -> None:
        """Each kind of event has a key and arguments, with and without a room, as in Sygnal."""
        unnamed = {"room_name": None, "room_alias": ""}
        emote, image = {"msgtype": "m.emote", "body": "waves"}, {"msgtype": "m.image", "body": "a.png"}
        video = {"offer": {"sdp": "v=0\r\nm=video 9"}}
        invited = {"user_is_target": True, "membership": "invite"}
        for kind, more, key, arguments in (
            ("message", {"content": {"msgtype": "m.text", "body": "Hi"}}, "MSG_FROM_USER_IN_ROOM_WITH_CONTENT", "ARH"),
            ("message", {"content": {"msgtype": "m.file", "body": "Hi"}}, "MSG_FROM_USER_IN_ROOM_WITH_CONTENT", "ARH"),
            (
                "message",
                {"content": {"msgtype": "m.text", "body": "Hi"}, **unnamed},
                "MSG_FROM_USER_WITH_CONTENT",
                "AH",
            ),
            ("message", {"content": {"body": "Hi"}}, "MSG_FROM_USER_IN_ROOM", "AR"),
            ("message", {"content": {"msgtype": 7, "body": "Hi"}}, "MSG_FROM_USER_IN_ROOM_WITH_CONTENT", "ARH"),
            ("message", {"content": {"msgtype": "m.text", "body": ["Hi"]}}, "MSG_FROM_USER_IN_ROOM", "AR"),
            ("message", {"content": "Hi"}, "MSG_FROM_USER_IN_ROOM", "AR"),
            ("message", unnamed, "MSG_FROM_USER", "A"),
            ("message", {"room_name": None}, "MSG_FROM_USER_IN_ROOM", "A#"),
            ("encrypted", {}, "MSG_FROM_USER_IN_ROOM", "AR"),
            ("message", {"content": emote}, "ACTION_FROM_USER_IN_ROOM", "RAw"),
            ("message", {"content": emote, **unnamed}, "ACTION_FROM_USER", "Aw"),
            ("message", {"content": image}, "IMAGE_FROM_USER_IN_ROOM", "AaR"),
            ("message", {"content": image, **unnamed}, "IMAGE_FROM_USER", "Aa"),
            ("message", {"content": {"msgtype": "m.image"}}, "MSG_FROM_USER_IN_ROOM", "AR"),
            ("m.call.invite", {"content": video}, "VIDEO_CALL_FROM_USER", "A"),
            ("m.call.invite", {"content": {"offer": {"sdp": "m=audio"}}}, "VOICE_CALL_FROM_USER", "A"),
            ("m.call.invite", {"content": {"offer": 7}}, "VOICE_CALL_FROM_USER", "A"),
            ("member", invited, "USER_INVITE_TO_NAMED_ROOM", "AR"),
            ("member", {**invited, "room_name": ""}, "USER_INVITE_TO_NAMED_ROOM", "A#"),
            ("member", {**invited, **unnamed}, "USER_INVITE_TO_CHAT", "A"),
            ("com.example.other", {}, "MSG_FROM_USER", "A"),
            ("message", {"sender_display_name": None, **unnamed}, "MSG_FROM_USER", "@"),
            ("message", {"sender_display_name": 7, "sender": None, **unnamed}, "MSG_FROM_USER", " "),
        ):
            event = {"event_id": "$1", "type": kind if "." in kind else f"m.room.{kind}", **TEXTS, **more}
            with self.subTest(kind=kind, more=more):
                alert = self.aps(event)["alert"]
                self.assertEqual((alert["loc-key"], "".join(each[0] for each in alert["loc-args"])), (key, arguments))

    def test_long_names(self) -> None:
        """Names are cut, texts are not."""
        event = {**EVENT, "sender_display_name": "é" * 2_000, "room_name": "x" * 2_000}
        event["content"] = {"msgtype": "m.text", "body": "y" * 2_000}
        self.assertEqual([len(each) for each in self.aps(event)["alert"]["loc-args"]], [1_024, 1_024, 2_000])

    def test_members(self) -> None:
        """Of events about members that are not invitations of the user only the counts are told."""
        for more in ({}, {"user_is_target": True}, {"membership": "invite"}, {"user_is_target": 1}):
            event = {"event_id": "$1", "type": "m.room.member", **TEXTS, **more}
            self.assertIsNone(self.payload(event))
            self.assertEqual(self.payload({**event, "counts": {"unread": 1}}), {"aps": {"badge": 1}})

    def test_sound(self) -> None:
        """The sound is that of the push rule, unless the app has one of its own; of another type it is ignored."""
        self.assertEqual(self.aps(EVENT, tweaks={"sound": "bing"})["sound"], "bing")
        own = {"default_payload": {"aps": {"sound": "own"}}}
        self.assertEqual(self.aps(EVENT, own, {"sound": "bing"})["sound"], "own")
        for tweaks in ({"sound": 7}, {"sound": ""}, "loud", {"highlight": True}):
            self.assertNotIn("sound", self.aps(EVENT, tweaks=tweaks))


class DefaultTests(PayloadCase):
    """What the app adds to each payload."""

    def test_merged(self) -> None:
        """What is told about the event is added, or replaces it; an alert that is a text is the body."""
        default = {"aps": {"mutable-content": 1, "alert": {"title": "T", "loc-key": "X"}, "badge": 9}, "event_id": "x"}
        payload = self.payload(EVENT, {"default_payload": default})
        assert payload is not None
        aps = payload.pop("aps")
        alert = aps.pop("alert")
        self.assertEqual(aps, {"mutable-content": 1, "badge": 3})
        self.assertEqual((alert["title"], alert["loc-key"]), ("T", "MSG_FROM_USER_IN_ROOM_WITH_CONTENT"))
        self.assertEqual(payload, {"event_id": EVENT["event_id"], "room_id": EVENT["room_id"]})
        self.assertEqual(self.aps(EVENT, {"default_payload": {"aps": {"alert": "T"}}})["alert"]["body"], "T")
        self.assertEqual(
            set(self.aps(EVENT, {"default_payload": {"aps": {"alert": 7}}})["alert"]), {"loc-key", "loc-args"}
        )

    def test_missing(self) -> None:
        """It may be missing, or null."""
        for data in (None, {}, {"default_payload": None}, {"default_payload": {}}, {"default_payload": {"aps": None}}):
            self.assertEqual(self.aps(EVENT, data)["badge"], 3)

    def test_wrong(self) -> None:
        """If it is not an object, there is no payload."""
        for data in ([], "x", 7, {"default_payload": []}, {"default_payload": "x"}, {"default_payload": {"aps": []}}):
            with self.assertRaises(InvalidPayload):
                self.payload(EVENT, data)


class ShortenedTests(SynchronousTestCase):
    """Payloads that are too long."""

    MOST = 300

    def short(self, *texts: str, **more: Any) -> list[str]:
        """Shorten arguments; returns them."""
        payload = {"aps": {"alert": {"loc-key": "K", "loc-args": list(texts)}}, **more}
        return list(json.loads(shortened(payload, self.MOST))["aps"]["alert"]["loc-args"])

    def test_short(self) -> None:
        """One that is not too long is not changed."""
        self.assertEqual(self.short("a" * 200), ["a" * 200])

    def test_longest(self) -> None:
        """The longest texts are cut to the same length, and the others are not."""
        first, second, third = self.short("a" * 1_000, "b" * 500, "c" * 20)
        self.assertEqual((len(first), len(third)), (len(second), 20))
        self.assertGreater(len(first), 100)

    def test_alerts(self) -> None:
        """An alert that is a text is cut, too, and so is its body."""
        for alert in ("x" * 1_000, {"body": "x" * 1_000, "title": "T"}):
            payload = {"aps": {"alert": alert, "badge": 1}, "event_id": "$1"}
            encoded = shortened(payload, self.MOST)
            self.assertEqual(len(encoded), self.MOST)
            self.assertEqual({**json.loads(encoded), "aps": 0}, {**payload, "aps": 0})

    def test_rest(self) -> None:
        """What is too long even so is left to Apple, without its texts."""
        self.assertEqual(self.short("a" * 10, more="x" * 1_000), [""])
        self.assertEqual(len(shortened({"aps": {"alert": 7}, "more": "x" * 1_000}, self.MOST)), 1_029)

    @settings(deadline=None)
    @given(st.lists(st.text(max_size=20).map(lambda text: text * 30), min_size=1, max_size=5), st.text(max_size=10))
    def test_any_text(self, texts: list[str], more: str) -> None:
        """It fits as soon as it can, each text is a beginning of what it was, and no room is wasted."""
        payload = {"aps": {"alert": {"loc-args": texts}}, "more": more}
        encoded = shortened(payload, self.MOST)
        found = json.loads(encoded)["aps"]["alert"]["loc-args"]
        self.assertLessEqual(len(encoded), self.MOST)
        self.assertTrue(all(text.startswith(each) for text, each in zip(texts, found, strict=True)))
        if found != texts:
            self.assertGreater(len(encoded), self.MOST - 6 * len(texts) - 1)
