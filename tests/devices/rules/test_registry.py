"""Tests for :mod:`txapns.devices.rules.registry`."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.devices.rules.cases import CASES
from txapns.devices import Credential, Device, Finding, Push
from txapns.devices.rules import KINDS, RULES, lint

__all__ = ["LintTests"]

_NAMES = ("alert", "badge", "sound", "loc-args", "loc-key", "title", "body", "event", "timestamp", "content-state")
_MORE_NAMES = ("stale-date", "dismissal-date", "attributes", "content-available", "interruption-level", "headers")
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from((1, "start", "+1", "a.b")),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(_NAMES + _MORE_NAMES) | st.text(), inner),
)
_OBJECTS = st.dictionaries(st.sampled_from(_NAMES + _MORE_NAMES) | st.text(), _VALUES)
_PAYLOADS = st.binary() | st.builds(lambda aps, own: json.dumps({**own, "aps": aps}).encode(), _OBJECTS, _OBJECTS)
_FIELDS = ("apns-push-type", "apns-topic", "apns-priority", "apns-expiration", "apns-collapse-id", "apns-id", "badge")
_HEADERS = st.dictionaries(
    st.sampled_from(_FIELDS) | st.text(), st.sampled_from(KINDS) | st.sampled_from(("5", "0", "9" * 5_000)) | st.text()
)
_PUSHES = st.builds(Push, _HEADERS, _PAYLOADS, st.text(), st.sampled_from(("", "Y2hhbm5lbA==")))
_DEVICES = [each.device for cases in CASES.values() for each in cases if each.device is not None]
_BOTH = (False, True)
_CREDENTIALS = [Credential(topics, alone, listed) for topics in ((), ("a",)) for alone in _BOTH for listed in _BOTH]


class LintTests(SynchronousTestCase):
    """What is found in a push."""

    def found(self, headers: dict[str, str], payload: bytes) -> list[Finding]:
        """Lint one."""
        return lint(Push(headers, payload))

    def test_nothing(self) -> None:
        """Nothing is found in a push that has all it needs."""
        headers = {"apns-topic": "com.example.app", "apns-push-type": "alert", "apns-priority": "10"}
        payload = b'{"aps":{"alert":{"title":"Chess","body":"Your move"},"sound":"default","badge":3},"game":"4711"}'
        self.assertEqual(self.found(headers, payload), [])

    def test_finding(self) -> None:
        """A finding has what its rule says, the place, and the value."""
        (finding,) = self.found({}, b'{"aps": {"badge": "3"}}')
        rule = RULES["BADGE_TYPE"]
        self.assertEqual(
            finding,
            Finding(
                "BADGE_TYPE",
                rule.severity,
                'A badge must be a number, not "3".',
                "aps.badge",
                rule.grade,
                rule.source,
            ),
        )

    def test_bounded(self) -> None:
        """A rule finds no more than ten places in a push."""
        payload = json.dumps({"aps": {"badge": 1, **{f"own-{number}": 1 for number in range(1_000)}}}).encode()
        codes = [finding.code for finding in self.found({}, payload)]
        self.assertEqual(codes, ["PAYLOAD_TOO_LARGE", *["KEY_UNKNOWN"] * 10])

    def test_shown(self) -> None:
        """What is shown of a payload is short, and can be printed and encoded."""
        for value in (r'"\ud800\u0007"', '"' + "é" * 3_000 + '"', "[" * 500 + "]" * 500, "9" * 4_300):
            for finding in self.found({}, b'{"aps": {"badge": 1, "sound": {"volume": %s}}}' % value.encode()):
                self.assertTrue(finding.message.isprintable(), finding)
                self.assertLess(len(finding.message.encode()), 200)

    @given(_PUSHES, st.sampled_from(_DEVICES), st.sampled_from(_CREDENTIALS))
    def test_never_raises(self, push: Push, device: Device, credential: Credential) -> None:
        """Any push can be linted, whatever its header fields and bytes, for any device and credential."""
        for finding in lint(push) + lint(push, device, credential, "sandbox", now=1_800_000_000.0):
            json.dumps(finding.to_dict(), ensure_ascii=False).encode()
