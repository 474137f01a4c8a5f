"""Tests for :mod:`txapns.notification`."""

from __future__ import annotations

import copy
import json
import pickle
import string
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns import _fields, notification
from txapns.errors import InvalidNotification, InvalidPayload
from txapns.notification import Notification, Priority, PushType
from txapns.result import Accepted
from txapns.testing import MemorySimulator

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
# Half of them with keys from which the push type is derived.
aps_keys = st.sampled_from(["alert", "badge", "sound", "content-available", "event", "new-key"])
payloads = st.dictionaries(st.text(), json_values, max_size=3) | st.fixed_dictionaries(
    {"aps": st.dictionaries(aps_keys, json_values)}
)
# Whatever a header field can hold.
fields = st.text(st.characters(exclude_categories=["Cc", "Cs"])).map(lambda text: text.strip(" "))
integers = st.integers(-(2**63), 2**63)
notifications = st.builds(
    lambda payload, form, fields: Notification(payload=form(payload), **fields),
    payloads,
    st.sampled_from([dict, json.dumps, lambda document: json.dumps(document).encode()]),
    st.fixed_dictionaries(
        {},
        optional={
            "topic": fields,
            "push_type": st.sampled_from(PushType) | fields,
            "priority": st.sampled_from(Priority) | integers,
            "expiration": integers | st.datetimes(timezones=st.just(timezone.utc)) | st.timedeltas(),
            "collapse_id": fields,
            "apns_id": st.uuids() | fields,
        },
    ),
)


class VocabularyTests(SynchronousTestCase):
    """The enumerations have Apple's words."""

    def test_push_types(self) -> None:
        """There are eleven push types, each its own text in comparisons, strings and formats."""
        words = [
            "alert",
            "background",
            "complication",
            "controls",
            "fileprovider",
            "liveactivity",
            "location",
            "mdm",
            "pushtotalk",
            "voip",
            "widgets",
        ]
        self.assertEqual(sorted(PushType), words)
        self.assertEqual(sorted(map(str, PushType)), words)
        self.assertEqual(f"{PushType.ALERT}", "alert")

    def test_push_types_survive(self) -> None:
        """A push type is found by its text, and stays the same object after pickling and copying."""
        for push_type in PushType:
            found = [PushType(str(push_type)), pickle.loads(pickle.dumps(push_type)), copy.copy(push_type)]
            self.assertTrue(all(each is push_type for each in found))

    def test_priorities(self) -> None:
        """There are three priorities."""
        self.assertEqual([Priority.IMMEDIATE, Priority.CONSIDERATE, Priority.LOW], [10, 5, 1])


class PayloadTests(SynchronousTestCase):
    """The sources of the body."""

    def test_keywords(self) -> None:
        """The keywords of a payload are keywords of a notification."""
        made = Notification(alert="Hello", badge=0, thread_id="a", extra={"game": 1})
        self.assertEqual(made.body, b'{"aps":{"alert":"Hello","badge":0,"thread-id":"a"},"game":1}')

    def test_whole(self) -> None:
        """A whole payload is taken as mapping, text or bytes."""
        whole = {"mdm": "magic"}
        bodies = [Notification(payload=form).body for form in (whole, '{"mdm":"magic"}', b'{"mdm":"magic"}')]
        self.assertEqual(bodies, [b'{"mdm":"magic"}'] * 3)

    def test_nothing(self) -> None:
        """Without keywords the payload is an empty aps, which a location push needs."""
        self.assertEqual(Notification().body, b'{"aps":{}}')

    def test_raw_is_kept(self) -> None:
        """A raw payload keeps its own spacing and escapes."""
        self.assertEqual(Notification(payload='{ "a" : "\\u00e9" }').body, b'{ "a" : "\\u00e9" }')

    def test_both(self) -> None:
        """A whole payload with keywords for one is refused; the message has the keywords, not their values."""
        error = self.assertRaises(InvalidNotification, Notification, payload={}, badge=0, extra={"secret": "x"})
        self.assertEqual(str(error), "give either a payload or its keywords, not both: badge, extra")

    def test_both_but_empty(self) -> None:
        """Keywords that are None or False do not conflict with a whole payload."""
        made = Notification(payload={}, alert=None, badge=None, content_available=False)
        self.assertEqual(made.body, b"{}")

    def test_unknown_keyword(self) -> None:
        """A misspelled keyword is a TypeError, as for any function."""
        error = self.assertRaises(TypeError, Notification, allert="Hello")
        self.assertIn("allert", str(error))

    def test_bad_payload(self) -> None:
        """A payload that is not a JSON object is refused."""
        for bad in ("[]", b"\xff", {"a": b""}, "", 7):
            self.assertRaises(InvalidPayload, Notification, payload=bad)

    def test_repr_hides_content(self) -> None:
        """The representation shows the length of the payload, not its content."""
        shown = repr(Notification(alert="secret", topic="com.example.app"))
        self.assertIn("body=<26 bytes>", shown)
        self.assertIn("com.example.app", shown)
        self.assertNotIn("secret", shown)


class DefaultTests(SynchronousTestCase):
    """Defaults for fields that the caller leaves out."""

    def derived(self, aps: object) -> tuple[str | None, int | None]:
        """Return the push type and priority derived from an aps, and check that its form makes no difference."""
        made = Notification(payload={"aps": aps})
        self.assertEqual(Notification(payload=json.dumps({"aps": aps}, separators=(",", ":"))), made)
        return made.push_type, made.priority

    def test_alert(self) -> None:
        """A payload that shows, sounds or badges is an alert, without a priority."""
        for aps in ({"alert": "a"}, {"badge": 0}, {"sound": "a"}, {"alert": "a", "content-available": 1}):
            self.assertEqual(self.derived(aps), ("alert", None))

    def test_background(self) -> None:
        """A payload that only wakes the app is a background push, which must have priority 5."""
        self.assertEqual(self.derived({"content-available": 1}), ("background", 5))
        self.assertEqual(
            Notification(content_available=True).headers(),
            ((b"apns-push-type", b"background"), (b"apns-priority", b"5")),
        )

    def test_neither(self) -> None:
        """No push type is derived from other payloads."""
        for aps in ({}, {"event": "update"}, {"content-changed": True}, None, "alert", ["alert"]):
            self.assertEqual(self.derived(aps), (None, None))
        self.assertEqual(Notification(payload={"alert": "beside aps"}).push_type, None)

    def test_given(self) -> None:
        """The caller's values stay, even if APNs will reject them."""
        made = Notification(content_available=True, push_type="voip")
        self.assertEqual((made.push_type, made.priority), ("voip", None))
        made = Notification(content_available=True, priority=10)
        self.assertEqual((made.push_type, made.priority), ("background", 10))
        made = Notification(payload={}, push_type="background", priority=Priority.IMMEDIATE)
        self.assertEqual((made.push_type, made.priority), ("background", 10))

    def test_given_background(self) -> None:
        """A background push has priority 5 also if its push type is given; without one APNs would assume 10."""
        for word in ("background", PushType.BACKGROUND):
            made = Notification(alert="Hello", push_type=word)
            self.assertEqual((made.push_type, made.priority), ("background", 5))


class FieldTests(SynchronousTestCase):
    """The header fields."""

    def test_all_set(self) -> None:
        """The fields are given in a fixed order, as bytes."""
        made = Notification(
            apns_id=uuid.UUID("123E4567-E89B-12D3-A456-426655440000"),
            collapse_id="Spiel-ß",
            expiration=0,
            priority=Priority.LOW,
            push_type=PushType.ALERT,
            topic="com.example.app",
        )
        self.assertEqual(
            made.headers(),
            (
                (b"apns-topic", b"com.example.app"),
                (b"apns-push-type", b"alert"),
                (b"apns-priority", b"1"),
                (b"apns-expiration", b"0"),
                (b"apns-collapse-id", "Spiel-ß".encode()),
                (b"apns-id", b"123e4567-e89b-12d3-a456-426655440000"),
            ),
        )

    def test_none_set(self) -> None:
        """A field that is not set is not sent: absent and empty differ."""
        self.assertEqual(Notification().headers(), ())
        self.assertEqual(Notification(topic="").headers(), ((b"apns-topic", b""),))

    def test_plain_values(self) -> None:
        """The attributes are plain text and numbers, even if given as enumerations."""
        made = Notification(push_type=PushType.MDM, priority=Priority.LOW, apns_id=uuid.UUID(int=0))
        self.assertEqual([type(value) for value in (made.push_type, made.priority, made.apns_id)], [str, int, str])

    @given(fields, integers)
    def test_unknown_pass_through(self, word: str, number: int) -> None:
        """Values unknown to Apple are sent as they are."""
        made = Notification(
            topic=word, push_type=word, collapse_id=word, apns_id=word, priority=number, expiration=number
        )
        expected = [word, word, str(number), str(number), word, word]
        self.assertEqual([value.decode() for _, value in made.headers()], expected)


class ValueTests(SynchronousTestCase):
    """A notification is a value."""

    def test_frozen(self) -> None:
        """No attribute can be changed or added."""
        made = Notification(alert="Hello")
        self.assertRaises(AttributeError, setattr, made, "topic", "com.example.app")
        self.assertRaises(AttributeError, setattr, made, "colour", "red")

    def test_equal_by_value(self) -> None:
        """Equal content makes equal notifications, however it was given."""
        one = Notification(alert="Hello", push_type=PushType.ALERT, priority=Priority.IMMEDIATE)
        other = Notification(payload=b'{"aps":{"alert":"Hello"}}', priority=10)
        self.assertEqual((one, hash(one)), (other, hash(other)))
        self.assertNotEqual(one, other.with_topic("com.example.app"))

    @given(notifications, fields)
    def test_with_topic(self, made: Notification, topic: str) -> None:
        """A copy for another topic differs in the topic alone, and shares the body."""
        other = made.with_topic(topic)
        self.assertEqual(other.to_dict(), {**made.to_dict(), "topic": topic})
        self.assertIs(other.body, made.body)

    @given(notifications, st.uuids())
    def test_with_apns_id(self, made: Notification, apns_id: uuid.UUID) -> None:
        """A copy under another identifier differs in that alone, and shares the body."""
        other = made.with_apns_id(apns_id)
        self.assertEqual(other.to_dict(), {**made.to_dict(), "apns_id": str(apns_id)})
        self.assertIs(other.body, made.body)
        self.assertEqual(made.with_apns_id(str(apns_id)), other)
        self.assertRaises(InvalidNotification, made.with_apns_id, "a\nb")

    def test_with_invalid_topic(self) -> None:
        """The copy's topic is checked like any other."""
        self.assertRaises(InvalidNotification, Notification().with_topic, "a\nb")

    @given(notifications, st.integers(0, pickle.HIGHEST_PROTOCOL))
    def test_pickle(self, made: Notification, protocol: int) -> None:
        """Notifications survive pickling, by any of the protocols."""
        other = pickle.loads(pickle.dumps(made, protocol))
        self.assertEqual((other, hash(other), other.headers()), (made, hash(made), made.headers()))

    @given(notifications)
    def test_dictionary_round_trip(self, made: Notification) -> None:
        """Notifications survive conversion to JSON."""
        self.assertEqual(Notification.from_dict(json.loads(json.dumps(made.to_dict()))), made)

    @given(st.text(string.ascii_letters, min_size=16))  # longer than a word that stands in it anyhow
    def test_repr(self, secret: str) -> None:
        """The representation does not show the payload."""
        self.assertNotIn(secret, repr(Notification(payload={"aps": {}, secret: secret})))


class DictionaryTests(SynchronousTestCase):
    """Notifications in a task queue."""

    def test_written(self) -> None:
        """The dictionary has the payload as text and the fields that are set."""
        made = Notification(alert="Grüße", topic="com.example.app", expiration=0)
        self.assertEqual(
            made.to_dict(),
            {
                "payload": '{"aps":{"alert":"Grüße"}}',
                "topic": "com.example.app",
                "push_type": "alert",
                "expiration": 0,
            },
        )

    def test_all_fields(self) -> None:
        """Every field has its key."""
        made = Notification(
            payload={}, topic="t", push_type="p", priority=1, expiration=2, collapse_id="c", apns_id="a"
        )
        self.assertEqual(
            made.to_dict(),
            {
                "payload": "{}",
                "topic": "t",
                "push_type": "p",
                "priority": 1,
                "expiration": 2,
                "collapse_id": "c",
                "apns_id": "a",
            },
        )

    def test_refused(self) -> None:
        """A dictionary that is not a notification's is refused, with the reason."""
        cases: list[tuple[Any, str]] = [
            ({}, "the dictionary has no payload"),
            ({"payload": None}, "the dictionary has no payload"),
            ({"payload": "{}", "colour": 1, "alert": "secret"}, "the dictionary has unknown keys: 'alert', 'colour'"),
            ({"payload": "{}", 7: 1}, "the dictionary has unknown keys: 7"),
            ({"payload": "{}", "priority": "5"}, "priority must be an integer, not str"),
            ([("payload", "{}")], "from_dict() takes a mapping, not list"),
        ]
        for values, message in cases:
            error = self.assertRaises(InvalidNotification, Notification.from_dict, values)
            self.assertEqual(str(error), message)

    def test_refused_payload(self) -> None:
        """A payload that is not a JSON object is refused as such."""
        self.assertRaises(InvalidPayload, Notification.from_dict, {"payload": "[]"})


APP = "com.example.app"
NOW = 1_700_000_000
TOMORROW = datetime.fromtimestamp(NOW + 86_400, timezone.utc)
MDM_TOPIC = "com.apple.mgmt.External.0e5d3a1c"

# Every kind: a class method, its arguments, and the push type, topic and payload that Apple's tables ask for.
KINDS: list[tuple[str, tuple[Any, ...], dict[str, Any], str, str | None, dict[str, Any]]] = [
    ("alert", (), {"body": "Your move"}, "alert", None, {"aps": {"alert": {"body": "Your move"}}}),
    ("background", (), {"extra": {"game": 1}}, "background", None, {"aps": {"content-available": 1}, "game": 1}),
    ("location", (APP,), {}, "location", f"{APP}.location-query", {"aps": {}}),
    ("location", (APP, {"who": "Ann"}), {}, "location", f"{APP}.location-query", {"who": "Ann"}),
    ("voip", (APP, {"caller": "Ann"}), {}, "voip", f"{APP}.voip", {"caller": "Ann"}),
    ("complication", (APP, '{"steps":9}'), {}, "complication", f"{APP}.complication", {"steps": 9}),
    (
        "fileprovider",
        (APP, "NSFileProviderWorkingSetContainerItemIdentifier", "work"),
        {},
        "fileprovider",
        f"{APP}.pushkit.fileprovider",
        {"container-identifier": "NSFileProviderWorkingSetContainerItemIdentifier", "domain": "work"},
    ),
    ("mdm", ("magic",), {}, "mdm", None, {"mdm": "magic"}),
    ("mdm", ("magic",), {"topic": MDM_TOPIC}, "mdm", MDM_TOPIC, {"mdm": "magic"}),
    (
        "live_activity_start",
        (APP,),
        {
            "attributes_type": "Game",
            "attributes": {"home": "A"},
            "content_state": {"score": 0},
            "alert": {"title": "Kick-off", "sound": "whistle.caf"},
            "input_push_token": True,
        },
        "liveactivity",
        f"{APP}.push-type.liveactivity",
        {
            "aps": {
                "event": "start",
                "timestamp": NOW,
                "attributes-type": "Game",
                "attributes": {"home": "A"},
                "content-state": {"score": 0},
                "alert": {"title": "Kick-off", "sound": "whistle.caf"},
                "input-push-token": 1,
            }
        },
    ),
    (
        "live_activity_update",
        (APP, {"score": 1}),
        {"stale_date": timedelta(minutes=1), "relevance_score": 75},
        "liveactivity",
        f"{APP}.push-type.liveactivity",
        {
            "aps": {
                "event": "update",
                "timestamp": NOW,
                "content-state": {"score": 1},
                "stale-date": NOW + 60,
                "relevance-score": 75,
            }
        },
    ),
    (
        "live_activity_end",
        (APP, {"score": 2}),
        {"dismissal_date": TOMORROW, "timestamp": 1_699_999_990.5},
        "liveactivity",
        f"{APP}.push-type.liveactivity",
        {
            "aps": {
                "event": "end",
                "timestamp": 1_699_999_990,
                "content-state": {"score": 2},
                "dismissal-date": NOW + 86_400,
            }
        },
    ),
    (
        "live_activity_end",
        (APP,),
        {},
        "liveactivity",
        f"{APP}.push-type.liveactivity",
        {"aps": {"event": "end", "timestamp": NOW}},
    ),
    ("push_to_talk", (APP, {"activeSpeaker": "Ann"}), {}, "pushtotalk", f"{APP}.voip-ptt", {"activeSpeaker": "Ann"}),
    (
        "push_to_talk",
        (APP,),
        {"ptt_push_type": "service-update"},
        "pushtotalk",
        f"{APP}.voip-ptt",
        {"aps": {"ptt-push-type": "service-update"}},
    ),
    ("widgets", (APP,), {}, "widgets", f"{APP}.push-type.widgets", {"aps": {"content-changed": True}}),
    ("controls", (APP,), {}, "controls", f"{APP}.push-type.controls", {"aps": {"content-changed": True}}),
]


class KindTests(SynchronousTestCase):
    """The class methods that make notifications of each kind."""

    def setUp(self) -> None:
        """Stop the clock."""
        self.patch(_fields, "_now", lambda: NOW + 0.75)

    def make(self, method: str, *arguments: Any, **keywords: Any) -> Notification:
        """Call a class method."""
        made = getattr(Notification, method)(*arguments, **keywords)
        assert isinstance(made, Notification)
        return made

    def test_every_kind(self) -> None:
        """Push type, topic and payload are those of Apple's tables."""
        for method, arguments, keywords, *expected in KINDS:
            made = self.make(method, *arguments, **keywords)
            # As JSON, for 1 and true are equal in Python.
            found, expected[2] = (
                json.dumps(payload, sort_keys=True) for payload in (json.loads(made.body), expected[2])
            )
            self.assertEqual([made.push_type, made.topic, found], expected, method)

    def test_table_is_complete(self) -> None:
        """The table has all push types, and every class method that makes a notification, except from_dict."""
        self.assertEqual({push_type for _, _, _, push_type, *_ in KINDS}, set(PushType))
        methods = {name for name, member in vars(Notification).items() if isinstance(member, classmethod)}
        public = {name for name in methods if not name.startswith("_")}
        self.assertEqual({method for method, *_ in KINDS}, public - {"from_dict"})

    def test_urgency(self) -> None:
        """Background pushes have priority 5, calls and talk have a single attempt, the rest is left to APNs."""
        expected = {"background": (5, None), "voip": (10, 0), "pushtotalk": (10, 0)}
        for method, arguments, keywords, push_type, *_ in KINDS:
            made = self.make(method, *arguments, **keywords)
            self.assertEqual((made.priority, made.expiration), expected.get(push_type, (None, None)), method)

    def test_fields(self) -> None:
        """Every kind accepts the header fields, which replace its defaults."""
        fields = {
            "topic": "t",
            "push_type": "new",
            "priority": 1,
            "expiration": NOW,
            "collapse_id": "c",
            "apns_id": "a",
        }
        for method, arguments, keywords, *_ in KINDS:
            made = self.make(method, *arguments, **{**keywords, **fields})
            self.assertEqual(made.to_dict(), {"payload": made.body.decode(), **fields}, method)

    def test_none_stands(self) -> None:
        """A default can also be removed."""
        made = Notification.voip(APP, {"caller": "Ann"}, topic=None, priority=None, expiration=None)
        self.assertEqual(made.headers(), ((b"apns-push-type", b"voip"),))
        made = Notification.live_activity_end(APP, timestamp=None)
        self.assertEqual(made.body, b'{"aps":{"event":"end"}}')

    def test_accepted(self) -> None:
        """The simulator, which has its own table, accepts every kind."""
        simulator = MemorySimulator(topic=APP)
        client = simulator.client(credential=simulator.provider_token())
        for method, arguments, keywords, *_ in KINDS:
            made = self.make(method, *arguments, **{**keywords, "expiration": 0})
            if made.topic != MDM_TOPIC:
                outcome = simulator.result(client.send_one(made, "aa" * 32))
                self.assertIsInstance(outcome, Accepted, method)

    def test_alert_keys(self) -> None:
        """Each keyword of an alert becomes its key; the other keywords stay beside it."""
        text: dict[str, Any] = {
            "title": "Chess",
            "subtitle": "Game 4711",
            "body": "Your move",
            "launch-image": "move.png",
            "title-loc-key": "TITLE",
            "title-loc-args": ["a"],
            "subtitle-loc-key": "SUBTITLE",
            "subtitle-loc-args": ["b"],
            "loc-key": "BODY",
            "loc-args": ["c", "d"],
        }
        keywords = {key.replace("-", "_"): value for key, value in text.items()}
        sound = {"critical": 1, "name": "default", "volume": 0.5}
        made = Notification.alert(**keywords, sound=sound, badge=0, extra={"game": 4711})
        self.assertEqual(json.loads(made.body), {"aps": {"alert": text, "badge": 0, "sound": sound}, "game": 4711})

    def test_alert_without_text(self) -> None:
        """An alert without text may still sound or badge; it has no empty text."""
        self.assertEqual(Notification.alert(badge=3, title=None).body, b'{"aps":{"badge":3}}')

    def test_times(self) -> None:
        """For each invalid time of a Live Activity, the message has its name."""
        naive = datetime(2030, 1, 1)  # noqa: DTZ001
        for name in ("timestamp", "stale_date", "dismissal_date"):
            error = self.assertRaises(InvalidNotification, Notification.live_activity_end, APP, **{name: naive})
            self.assertEqual(str(error), f"{name} is a datetime without a time zone; it must have one")

    def test_unknown_keyword(self) -> None:
        """A misspelled keyword is a TypeError for the class methods too."""
        for method in ("alert", "background"):
            error = self.assertRaises(TypeError, getattr(Notification, method), allert="Hello")
            self.assertIn("allert", str(error))

    def test_no_bundle_identifier(self) -> None:
        """Without a bundle identifier it fails, rather than make a wrong topic."""
        self.assertRaises(TypeError, Notification.voip, None, {"caller": "Ann"})


class NamesTests(SynchronousTestCase):
    """The public names of the module."""

    def test_all(self) -> None:
        """The public names are exact."""
        public = [
            name
            for name, value in vars(notification).items()
            if getattr(value, "__module__", "") == notification.__name__
        ]
        self.assertEqual(sorted(name for name in public if name[0] != "_"), sorted(notification.__all__))
