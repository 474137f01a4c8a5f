"""Tests for :mod:`txapns.payload`."""

from __future__ import annotations

import importlib.util
import json
import json.encoder
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns import payload
from txapns.errors import InvalidPayload
from txapns.payload import MAX_DEPTH, aps, decode, encode, half_character, joined

# Keyword, what is given, and the aps that Apple's table asks for, as JSON: 1 and true are not the same there.
KEYS: list[tuple[str, object, str]] = [
    ("alert", "Hello", '{"alert":"Hello"}'),
    ("alert", {"title": "Chess", "body": "Your move"}, '{"alert":{"title":"Chess","body":"Your move"}}'),
    ("badge", 3, '{"badge":3}'),
    ("badge", 0, '{"badge":0}'),
    ("sound", "default", '{"sound":"default"}'),
    ("sound", {"critical": 1, "name": "a.caf", "volume": 0.5}, '{"sound":{"critical":1,"name":"a.caf","volume":0.5}}'),
    ("thread_id", "game", '{"thread-id":"game"}'),
    ("category", "INVITE", '{"category":"INVITE"}'),
    ("content_available", True, '{"content-available":1}'),
    ("content_available", False, "{}"),
    ("mutable_content", True, '{"mutable-content":1}'),
    ("mutable_content", False, "{}"),
    ("target_content_id", "w1", '{"target-content-id":"w1"}'),
    ("interruption_level", "time-sensitive", '{"interruption-level":"time-sensitive"}'),
    ("relevance_score", 0.25, '{"relevance-score":0.25}'),
    ("relevance_score", 0, '{"relevance-score":0}'),
    ("filter_criteria", "work", '{"filter-criteria":"work"}'),
    ("stale_date", 1_700_000_000, '{"stale-date":1700000000}'),
    ("content_state", {"score": 1}, '{"content-state":{"score":1}}'),
    ("content_state", {}, '{"content-state":{}}'),
    ("timestamp", 1_700_000_000, '{"timestamp":1700000000}'),
    ("event", "update", '{"event":"update"}'),
    ("dismissal_date", 0, '{"dismissal-date":0}'),
    ("attributes_type", "Game", '{"attributes-type":"Game"}'),
    ("attributes", {"home": "A"}, '{"attributes":{"home":"A"}}'),
    ("input_push_token", True, '{"input-push-token":1}'),
    ("input_push_token", False, "{}"),
    ("input_push_channel", "dGVzdA==", '{"input-push-channel":"dGVzdA=="}'),
    ("content_changed", True, '{"content-changed":true}'),
    ("content_changed", False, "{}"),
    ("url_args", ["a", "b"], '{"url-args":["a","b"]}'),
    ("url_args", (), '{"url-args":[]}'),
    ("ptt_push_type", "service-update", '{"ptt-push-type":"service-update"}'),
]

# The keys of an alert, each with a value of its JSON type.
ALERT: dict[str, object] = {
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
    "sound": "chime.aiff",
    "action": "View",
    "action-loc-key": "VIEW",
    "summary-arg": "chess",
    "summary-arg-count": 2,
}

# What begins with a byte order mark, and the words for it; and those for half of a surrogate pair.
MARKED = "\ufeff{}", b"\xef\xbb\xbf{}"
MARK = "; it begins with a byte order mark, or is UTF-16, and must be UTF-8 without a mark"
HALF = (
    "the payload has half of a surrogate pair at {}, which UTF-8 cannot express: "
    "a text was cut in the middle of a character"
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
json_objects = st.dictionaries(st.text(), json_values, max_size=5)


def error_of(call: Callable[[Any], object], value: object) -> str:
    """Return the error message for a value, and check that no chained exception shows more."""
    try:
        call(value)
    except InvalidPayload as error:
        # A traceback shows the context too, and the exceptions of json and of codecs quote what they met.
        assert error.__suppress_context__ or error.__context__ is None
        return str(error)
    raise AssertionError("it was not refused")


class ApsTests(SynchronousTestCase):
    """Payloads from keywords."""

    def test_every_key(self) -> None:
        """Each keyword becomes its key with the JSON type of Apple's table; 0 and empty values are sent."""
        made = [(keyword, value, encode(aps(**{keyword: value})).decode()) for keyword, value, _ in KEYS]  # type: ignore[arg-type]
        self.assertEqual(made, [(keyword, value, f'{{"aps":{aps_json}}}') for keyword, value, aps_json in KEYS])

    def test_table_is_complete(self) -> None:
        """The table above has all keywords, and each is documented."""
        keywords = list(payload.Keywords.__annotations__)
        self.assertEqual(set(keywords), {keyword for keyword, _, _ in KEYS} | {"extra"})
        self.assertEqual(re.findall(r":ivar (\w+):", str(payload.Keywords.__doc__)), keywords)

    def test_none_is_absent(self) -> None:
        """A keyword given as None leaves its key out."""
        self.assertEqual(aps(**dict.fromkeys(payload.Keywords.__annotations__)), {"aps": {}})  # type: ignore[arg-type]

    def test_unknown_keyword(self) -> None:
        """An unknown keyword gives Python's usual message, even if its value is None."""
        for value in ("Hello", None):
            error = self.assertRaises(TypeError, aps, badge=1, allert=value)
            self.assertEqual(str(error), "aps() got an unexpected keyword argument 'allert'")

    def test_order(self) -> None:
        """Keywords make the same bytes in any order."""
        self.assertEqual(encode(aps(sound="a", alert="b", badge=1)), encode(aps(badge=1, alert="b", sound="a")))

    def test_flags_by_truth(self) -> None:
        """A flag is sent as in Apple's table, whatever its true or false value."""
        loose: dict[str, Any] = {"content_available": 2, "mutable_content": 0, "content_changed": 1}
        self.assertEqual(encode(aps(**loose)), b'{"aps":{"content-available":1,"content-changed":true}}')

    def test_alert_keys(self) -> None:
        """An alert's keys, known or not, are sent as they are."""
        alert = {**ALERT, "new-key": {"loc-key": "x"}}
        self.assertEqual(decode(encode(aps(alert=alert))), {"aps": {"alert": alert}})

    def test_extra(self) -> None:
        """The app's own keys stand beside aps."""
        self.assertEqual(aps(badge=1, extra={"game": "4711"}), {"aps": {"badge": 1}, "game": "4711"})

    def test_unknown_aps_key(self) -> None:
        """A key of aps that has no keyword can be given by extra."""
        extra = {"aps": {"new-key": "x"}, "room": 1}
        self.assertEqual(aps(badge=1, extra=extra), {"aps": {"badge": 1, "new-key": "x"}, "room": 1})

    def test_extra_is_left_alone(self) -> None:
        """The caller's mapping is not changed, and need not be a dictionary."""
        extra = {"aps": {"new": 1}, "game": 1}
        aps(badge=1, extra=MappingProxyType(extra))
        self.assertEqual(extra, {"aps": {"new": 1}, "game": 1})

    def test_extra_replaces_aps(self) -> None:
        """An aps in extra that is not a mapping is an error."""
        self.assertEqual(
            error_of(lambda extra: aps(extra=extra), {"aps": "secret"}),
            "the aps in extra must be a mapping, not str; it would replace aps",
        )

    def test_key_twice(self) -> None:
        """A key given both by keyword and in extra is an error that names it."""
        self.assertEqual(
            error_of(lambda extra: aps(badge=1, sound="a", extra=extra), {"aps": {"sound": "secret", "badge": 2}}),
            "given both by keyword and in the aps of extra: badge, sound",
        )


class EncodeTests(SynchronousTestCase):
    """Payloads to bytes."""

    def test_compact_utf8(self) -> None:
        """There are no spaces and no escapes, because gateways count bytes."""
        self.assertEqual(
            encode({"aps": {"alert": "Grüße, 🌍"}, "a": [1, 2]}), '{"aps":{"alert":"Grüße, 🌍"},"a":[1,2]}'.encode()
        )

    @given(json_objects)
    def test_round_trip(self, document: dict[str, object]) -> None:
        """Any JSON object is read back as it was written."""
        self.assertEqual(decode(encode(document)), document)
        self.assertEqual(json.loads(encode(document)), document)

    @given(json_objects, st.booleans(), st.sampled_from([None, 2]))
    def test_raw_passes_through(self, document: dict[str, object], ascii_only: bool, indent: int | None) -> None:
        """JSON that was made elsewhere is sent unchanged, as text or as bytes."""
        text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
        self.assertEqual([encode(text), encode(text.encode())], [text.encode()] * 2)

    def test_empty_object(self) -> None:
        """The empty object, which updates Wallet passes, is a payload."""
        self.assertEqual([encode({}), encode("{}"), encode(b"{}")], [b"{}"] * 3)

    def test_any_mapping(self) -> None:
        """Other mappings are written like dictionaries, at any depth."""
        inner: Mapping[str, object] = MappingProxyType({"b": (1, 2)})
        self.assertEqual(encode(MappingProxyType({"a": inner})), b'{"a":{"b":[1,2]}}')

    def test_buffers(self) -> None:
        """The types in which databases return bytes are accepted."""
        self.assertEqual([encode(bytearray(b"{}")), encode(memoryview(b"{}"))], [b"{}"] * 2)

    def test_any_length(self) -> None:
        """The length is not checked."""
        self.assertEqual(len(encode({"a": "x" * 100_000})), 100_008)


class InvalidTests(SynchronousTestCase):
    """Invalid payloads, and messages that do not show their content."""

    def test_messages(self) -> None:
        """For each kind of mistake the message has the type or the position."""
        cases: list[tuple[object, str]] = [
            (None, "the payload must be a mapping, str or bytes, not NoneType"),
            (["secret"], "the payload must be a mapping, str or bytes, not list"),
            ("", "the payload is not JSON: Expecting value: line 1 column 1 (char 0)"),
            (b'{"a":"secret"', "the payload is not JSON: Expecting ',' delimiter: line 1 column 14 (char 13)"),
            ('{"a":1} secret', "the payload is not JSON: Extra data: line 1 column 9 (char 8)"),
            *((form, f"the payload is not JSON: Expecting value: line 1 column 1 (char 0){MARK}") for form in MARKED),
            ('["secret"]', "the payload is JSON, but not an object: it does not begin with a brace"),
            (b'"secret"', "the payload is JSON, but not an object: it does not begin with a brace"),
            ("null", "the payload is JSON, but not an object: it does not begin with a brace"),
            ('{"secret":NaN}', "the payload is not JSON: NaN is not a number in JSON"),
            ('{"secret":-Infinity}', "the payload is not JSON: -Infinity is not a number in JSON"),
            (b'{"a":"secret\xff"}', "the payload is not UTF-8: invalid start byte at byte 12"),
            ("{}".encode("utf-16"), f"the payload is not UTF-8: invalid start byte at byte 0{MARK}"),
            (
                {"a": datetime.now(timezone.utc)},
                "the payload cannot be written as JSON: it holds a value of type datetime",
            ),
            ({"a": b"secret"}, "the payload cannot be written as JSON: it holds a value of type bytes"),
            ({"a": {"secret"}}, "the payload cannot be written as JSON: it holds a value of type set"),
        ]
        self.assertEqual([(value, error_of(encode, value)) for value, _ in cases], cases)

    def test_utf16_without_a_mark(self) -> None:
        """UTF-16 without a mark is recognized."""
        for encoding in ("utf-16-le", "utf-16-be"):
            self.assertTrue(error_of(encode, '{"a":1}'.encode(encoding)).endswith(MARK))

    def test_not_a_number(self) -> None:
        """Python's NaN and infinities are not JSON numbers."""
        for value in (float("nan"), float("inf"), float("-inf")):
            self.assertIn("not JSON compliant", error_of(encode, {"secret": value}))

    def test_keys(self) -> None:
        """A key of a type that JSON does not have is an error that names the type."""
        message = error_of(encode, {("secret",): 1})
        self.assertIn("keys must be str", message)
        self.assertNotIn("secret", message)

    def test_circle(self) -> None:
        """A payload that contains itself is refused."""
        circle: dict[str, object] = {}
        circle["secret"] = circle
        self.assertEqual(error_of(encode, circle), "the payload cannot be written as JSON: Circular reference detected")

    def test_without_c(self) -> None:
        """Where Python's JSON encoder is not written in C, the bytes and the errors are the same."""
        alert = MappingProxyType({"title": "Ä", "body": 'a "b"'})
        payload = {"aps": {"alert": alert, "badge": 1, "relevance-score": 0.5}, "a": [None, True]}
        circle: dict[str, object] = {}
        circle["secret"] = circle
        self.patch(json.encoder, "c_make_encoder", None)
        spec = importlib.util.find_spec("txapns.payload")
        assert spec is not None and spec.loader is not None
        other = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(other)
        self.assertEqual(other.encode(payload), encode(payload))
        self.assertEqual(error_of(other.encode, circle), error_of(encode, circle))

    def test_too_deep(self) -> None:
        """Nesting that is too deep is refused, in either form."""
        deep: dict[str, object] = {}
        for _ in range(200_000):
            deep = {"a": deep}
        self.assertEqual(error_of(encode, deep), "the payload is nested too deeply")
        self.assertEqual(error_of(encode, '{"a":' * 200_000), "the payload is nested too deeply")

    def test_depth(self) -> None:
        """The limit is that of devices, whatever the interpreter could read or write."""
        deep: dict[str, object] = {}
        for _ in range(MAX_DEPTH - 1):
            deep = {"a": deep}
        self.assertEqual(decode(encode(deep)), deep)
        for deeper in ({"a": deep}, {"a": [deep]}, json.dumps({"a": deep})):
            self.assertEqual(error_of(encode, deeper), "the payload is nested too deeply")
        self.assertEqual(
            error_of(decode, b'{"a":' + b"[" * 512 + b"]" * 512 + b"}"), "the payload is nested too deeply"
        )
        self.assertEqual(len(decode(encode({"a": [[]] * 1_000}))["a"]), 1_000)  # type: ignore[arg-type]

    def test_endless_number(self) -> None:
        """An integer of more digits than Python converts is refused, in either form."""
        self.assertIn("Exceeds the limit", error_of(encode, {"a": 10**5000}))
        self.assertIn("Exceeds the limit", error_of(encode, '{"a":' + "9" * 5000 + "}"))

    @given(st.binary() | st.text(st.characters()))
    def test_any_text(self, raw: bytes | str) -> None:
        """Any bytes or text are either sent unchanged or refused as a payload."""
        try:
            self.assertEqual(encode(raw), raw if isinstance(raw, bytes) else joined(raw).encode())
        except InvalidPayload as error:
            self.assertTrue(str(error).startswith("the payload "))


class SurrogateTests(SynchronousTestCase):
    """Surrogate pairs, and halves of them."""

    def test_pair(self) -> None:
        """A pair of surrogates is the character, in a mapping, in text and as escapes, in a value and in a key."""
        pair, whole = "\ud83c\udf55", {"aps": {"alert": "\U0001f355"}, "\U0001f355": 1}
        split = {"aps": {"alert": pair}, pair: 1}
        text = json.dumps(split, ensure_ascii=False)
        forms = split, text, text.encode("utf-8", "surrogatepass"), json.dumps(split), json.dumps(split).encode()
        self.assertEqual([json.loads(encode(form)) for form in forms], [whole] * 5)
        self.assertEqual(encode(split), encode(whole))

    def test_half(self) -> None:
        """Half of a pair is refused in every form; the message has the path to its text, never the text."""
        documents: list[tuple[dict[str, object], str]] = [
            ({"aps": {"alert": "Secret \ud83c"}}, "aps.alert"),
            ({"aps": {"alert": {"title": "Hi", "body": "\udf55 secret"}}}, "aps.alert.body"),
            ({"aps": {"alert": {"loc-args": ["a", "b\udf55\ud83c"]}}}, "aps.alert.loc-args[1]"),
            ({"aps": {"alert": "\ud83c\ud83c\udf55"}}, "aps.alert"),
            ({"aps": {"alert": "\ud83c\udf55\udf55"}}, "aps.alert"),
            ({"aps": {"alert": "\\ud83c\udf55"}}, "aps.alert"),
            ({"aps": {"alert": "\ud83c\\udf55"}}, "aps.alert"),
            ({"a\nb": ["\ud83c"]}, "'a\\nb'[0]"),
            ({"a": {"\ud83c": 1}}, "a"),
            ({"\ud83c": 1}, "the top level"),
        ]
        for document, path in documents:
            text, escaped = json.dumps(document, ensure_ascii=False), json.dumps(document)
            forms = document, text, text.encode("utf-8", "surrogatepass"), escaped, escaped.encode()
            self.assertEqual(
                {error_of(encode, form) for form in forms},
                {HALF.format(path)},
            )

    def test_half_in_a_key_twice(self) -> None:
        """JSON text is sent unchanged, so half of a pair is found even if its key is repeated."""
        self.assertIn(" at a,", error_of(encode, b'{"a":"\\ud83c","a":"b"}'))

    def test_escaped_backslash(self) -> None:
        """Text that only looks like an escape is accepted."""
        for body in (b'{"a":"\\\\ud83c"}', b'{"a":"\\\\\\\\ud83c"}'):
            self.assertEqual(encode(body), body)

    def test_half_escaped_half_not(self) -> None:
        """A pair of which only one half is an escape is refused."""
        self.assertIn("at character 6", error_of(encode, '{"a":"\ud83c\\udf55"}'))

    def test_any_document(self) -> None:
        """Half of a pair is found in any JSON; without one, or without JSON, the result is None."""
        whole = json.dumps({"notifications": [{}, {"payload": {"aps": {"alert": "\ud83c"}}}]}).encode()
        self.assertEqual(half_character(whole), "notifications[1].payload.aps.alert")
        for other in (b"{}", b"", b"\xff", "[" * 100_000, json.dumps("\U0001f355")):
            self.assertEqual(half_character(other), None)

    @given(st.text(st.sampled_from('a\\"\ud83c\udf55\U0001f355u')))
    def test_every_way_agrees(self, text: str) -> None:
        """Text with halves in any order gives the same result as a mapping, as JSON text and as escapes."""
        document = {"aps": {"alert": text}}
        forms = document, json.dumps(document, ensure_ascii=False), json.dumps(document), json.dumps(document).encode()
        results = set()
        for form in forms:
            try:
                results.add(str(decode(encode(form))))
            except InvalidPayload as error:
                results.add(str(error))
        self.assertEqual(len(results), 1)
        self.assertEqual(joined(joined(text)), joined(text))


class NamesTests(SynchronousTestCase):
    """The public names of the module."""

    def test_all(self) -> None:
        """The public names are exact."""
        public = [name for name, value in vars(payload).items() if getattr(value, "__module__", "") == payload.__name__]
        self.assertEqual(sorted(name for name in public if name[0] != "_"), sorted(payload.__all__))
