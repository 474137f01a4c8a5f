"""
Tests of all rules together: each has a push in which it finds something and one in which it does not.

The modules of rules have no tests of their own beside this table.
"""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT
from tests.devices.rules.cases import CASES
from tools.findings import reference
from txapns.devices import Activity, ActivityState, Credential, Device, Grade, Push, Severity, TokenKind, answer
from txapns.devices.rules import KINDS, RULES, lint
from txapns.devices.rules.refusal import ACCEPTED, Refusal
from txapns.reasons import Reason

__all__ = ["AnswerTests", "ReferenceTests", "TableTests"]

#: The rules that were collected from Apple's documentation and from reports; there are more by now.
# fmt: off
COLLECTED = [
    "BACKGROUND_PRIORITY", "TOPIC_TYPE", "TOPIC_DOUBLE_SUFFIX", "ENVIRONMENT", "TOKEN_KIND", "LA_CERTIFICATE",
    "APS_MISSING", "APS_TYPE", "NOTHING_TO_SHOW", "KEY_OUTSIDE_APS", "KEY_SPELLING", "KEY_UNKNOWN",
    "HEADER_IN_PAYLOAD", "KEY_AS_HEADER", "ALERT_EMPTY", "ALERT_TYPE", "ALERT_NO_BODY", "ALERT_NO_TITLE",
    "LOC_ARGS_TYPE", "LOC_ARGS_NULL", "LOC_ARGS_ORPHAN", "LOC_KEY_MISSING", "SUMMARY_ARG", "BADGE_TYPE",
    "BADGE_INCREMENT", "BADGE_UNCHANGED", "NO_SOUND", "SOUND_NO_EXT", "SOUND_FORMAT", "SOUND_LONG", "SOUND_MISSING",
    "CRITICAL_NOT_1", "CRITICAL_VOLUME", "CRITICAL_ENTITLEMENT", "LEVEL_UNKNOWN", "LEVEL_TIME_SENSITIVE",
    "LEVEL_PASSIVE_SOUND", "RELEVANCE_RANGE", "CATEGORY_UNKNOWN", "NULL_VALUE", "MUTABLE_NO_TEXT", "MUTABLE_NOT_1",
    "AVAILABLE_NOT_1", "ALERT_AND_SILENT", "TYPE_MISSING", "SILENT_AS_ALERT", "BACKGROUND_VISIBLE",
    "BACKGROUND_NO_FLAG", "BACKGROUND_RATE", "STYLES_OFF", "FORCE_QUIT", "VOIP_REPORT", "VOIP_ALERT", "PTT_HEADERS",
    "PTT_NOT_JOINED", "LOCATION_BUDGET", "FILEPROVIDER_CONTAINER", "WIDGET_CHANGED", "MDM_EXTRA", "WALLET_TEXT",
    "TVOS_TEXT", "LA_EVENT", "LA_TIMESTAMP", "LA_MILLISECONDS", "LA_OLD", "LA_FUTURE", "LA_STATE", "LA_STATE_DECODE",
    "LA_DATE_FIELD", "LA_START_FIELDS", "LA_START_ALERT", "LA_START_OS", "LA_START_BUDGET", "LA_START_TWICE",
    "LA_START_TOKEN", "LA_START_CHANNEL", "LA_DISMISS_EVENT", "LA_DISMISS_4H", "LA_STALE_PAST", "LA_ENDED",
    "LA_BUDGET", "LA_KEY_ELSEWHERE", "EXPIRATION_ZERO", "EXPIRATION_UNIT", "STORED_LATEST", "COLLAPSE_QUIET",
    "COLLAPSE_NOT_THREAD", "NOT_PERMITTED", "PROVISIONAL", "FOCUS", "FOREGROUND",
]
# fmt: on

_TOKENS = ("ab" * 32, "cd" * 32, "ab", "", "not hexadecimal")
_TYPES = st.sampled_from((*KINDS, "Alert"))
_TOPICS = st.sampled_from(("com.example.app", "com.example.app.voip", "com.example.other", "com example"))
_FIELDS: dict[str, st.SearchStrategy[str]] = {
    "apns-push-type": _TYPES,
    "apns-topic": _TOPICS,
    "apns-priority": st.sampled_from(("1", "5", "7", "10")),
    "apns-expiration": st.sampled_from(("0", "1800000000", "1e9")),
    "apns-id": st.sampled_from(("4711", "123e4567-e89b-12d3-a456-426655440000")),
    "apns-collapse-id": st.sampled_from(("a", "a" * 65)),
}
_PAYLOADS = st.sampled_from((b"", b"[]", b"{}", b'{"aps":{"badge":1}}', b"{%b}" % (b" " * 4_095), b" " * 5_200))
_PUSHES = st.builds(Push, st.fixed_dictionaries({}, optional=_FIELDS), _PAYLOADS, st.sampled_from(_TOKENS))
_GONE = Activity(1, "Game", 0, 0, 0, state=ActivityState.DISMISSED, dismissed_at=1, token=_TOKENS[0])
_DEVICES = st.builds(
    Device,
    topic=st.sampled_from(("", "com.example.app")),
    environment=st.sampled_from((None, "production", "sandbox")),
    token_kind=st.none() | st.sampled_from(TokenKind),
    removed_since=st.none() | st.just(1.0),
    activities=st.sampled_from(((), (_GONE,))),
)
_CREDENTIALS = st.builds(Credential, st.just(("com.example.app",)), st.booleans(), st.booleans())


class TableTests(SynchronousTestCase):
    """The table of cases."""

    def test_found(self) -> None:
        """Each rule finds something in its first case."""
        for code, (faulty, _) in CASES.items():
            self.assertIn(code, faulty.codes())

    def test_messages(self) -> None:
        """A message that is to have a value has one, and no other message is given one."""
        for code, (faulty, _) in CASES.items():
            rule, messages = RULES[code], {each.message for each in faulty.findings() if each.code == code}
            self.assertEqual("{value}" in rule.message, rule.message not in messages, messages)
            self.assertFalse(any("{" in message or "not ." in message for message in messages), messages)

    def test_not_found(self) -> None:
        """It finds nothing in the second."""
        for code, (_, faultless) in CASES.items():
            self.assertNotIn(code, faultless.codes())

    def test_complete(self) -> None:
        """Every rule has cases, and all that were collected are rules."""
        self.assertEqual((CASES.keys() ^ RULES.keys(), set(COLLECTED) - RULES.keys()), (set(), set()))
        self.assertEqual((len(COLLECTED), len(RULES)), (91, 124))

    def test_facts(self) -> None:
        """The facts of a rule are there, and a rule that others report names them."""
        for code, rule in RULES.items():
            self.assertEqual(rule.code, code)
            self.assertRegex(code, r"^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$")
            self.assertRegex(rule.message, r"^(.+)\.$|^\{value\} .+\.$")
            self.assertLess(len(rule.message), 120)
            self.assertTrue(rule.source)
            self.assertTrue(set(rule.types) <= set(KINDS))
            if rule.grade in (Grade.REPORTED, Grade.SINGLE_REPORT):
                self.assertRegex(rule.source, r"#\d|openradar|Forums", code)


class ReferenceTests(SynchronousTestCase):
    """``docs/findings.rst``."""

    def test_up_to_date(self) -> None:
        """It is made of the rules as they are."""
        page = (PROJECT / "docs/findings.rst").read_text(encoding="utf-8")
        self.assertTrue(reference() == page, "run: python tools/findings.py > docs/findings.rst")

    def test_complete(self) -> None:
        """It has every rule, with its message and source."""
        page = reference()
        for code, rule in RULES.items():
            for part in (f"``{code}``", rule.message.replace("{value}", "…"), rule.source):
                self.assertIn(part, page)


class AnswerTests(SynchronousTestCase):
    """What is found, beside what Apple answers."""

    def test_errors(self) -> None:
        """An error is what Apple refuses a push for, with a reason that it documents; nothing else is one."""
        for code, rule in RULES.items():
            self.assertEqual(rule.severity is Severity.ERROR, isinstance(rule, Refusal), code)
            if isinstance(rule, Refusal):
                self.assertIn(rule.answer.reason, {each.value for each in Reason}, code)

    @given(_PUSHES, _DEVICES, _CREDENTIALS, st.sampled_from((None, "production", "sandbox")))
    def test_first(self, push: Push, device: Device, credential: Credential, environment: str | None) -> None:
        """The first error is the answer, if all is known that Apple knows."""
        push = attrs.evolve(push, headers={":path": f"/3/device/{push.token}", **push.headers})
        findings = lint(push, device, credential, environment)
        refused = [RULES[each.code] for each in findings if each.severity is Severity.ERROR]
        answered = answer(push, device, credential, environment)
        first = next((rule.answer for rule in refused if isinstance(rule, Refusal)), ACCEPTED)
        self.assertEqual(answered, attrs.evolve(first, timestamp=answered.timestamp))
