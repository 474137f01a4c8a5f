"""Tests for :mod:`txapns.devices.phone`."""

from __future__ import annotations

import json

import attrs
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from tests.devices.pushes import NOW, TOKEN, activity_push, push
from txapns.devices import (
    Answer,
    App,
    Device,
    Outcome,
    Permission,
    Platform,
    Push,
    Settings,
    TokenKind,
    answer,
    come_online,
    open_app,
    pass_time,
    receive,
)
from txapns.devices.phone import LONGEST_STORED
from txapns.devices.rules.request import PUSH_TYPES

__all__ = ["AnyTests", "DisabledTests", "OfflineTests", "RefusedTests", "StorageTests", "TypeTests"]

HOUR = 3_600.0


class RefusedTests(SynchronousTestCase):
    """What Apple refuses."""

    def test_refused(self) -> None:
        """Nothing happens on the device, and the answer says why."""
        device = Device()
        verdict = receive(push({"alert": "Hi"}, priority="7"), device, NOW)
        self.assertIs(verdict.outcome, Outcome.REFUSED)
        self.assertEqual(verdict.answer, Answer(400, "BadPriority"))
        self.assertIn("400 BadPriority", verdict.why)
        self.assertEqual(verdict.device, device)
        self.assertIsNone(verdict.presentation)

    def test_answered(self) -> None:
        """If it is known what the server answered, that counts."""
        verdict = receive(push({"alert": "Hi"}), Device(), NOW, answered=Answer(503, "ServiceUnavailable"))
        self.assertEqual((verdict.outcome, verdict.answer.status), (Outcome.REFUSED, 503))
        verdict = receive(push({"alert": "Hi"}, priority="7"), Device(), NOW, answered=Answer(200))
        self.assertIs(verdict.outcome, Outcome.BANNER)

    def test_findings(self) -> None:
        """The verdict has what the rules find in the push, and the push."""
        given = push({"alert": "Hi", "bagde": 1})
        verdict = receive(given, Device(), NOW)
        self.assertIn("KEY_UNKNOWN", [each.code for each in verdict.findings])
        self.assertIs(verdict.push, given)

    def test_environment(self) -> None:
        """A token that is valid elsewhere is refused, and one of another kind."""
        for device, reason in (
            (Device(environment="sandbox"), "BadDeviceToken"),
            (Device(token_kind=TokenKind.VOIP), "DeviceTokenNotForTopic"),
            (Device(removed_since=5.0), "Unregistered"),
        ):
            verdict = receive(push({"alert": "Hi"}), device, NOW, environment="production")
            self.assertEqual((verdict.outcome, verdict.answer.reason), (Outcome.REFUSED, reason))


class DisabledTests(SynchronousTestCase):
    """What the user has switched off."""

    def test_discarded(self) -> None:
        """Apple accepts alerts and background pushes, and they are thrown away; other types are not concerned."""
        nowhere = Settings(banners=False, lock_screen=False, notification_center=False)
        for settings, word in (Settings(enabled=False), "switched off"), (nowhere, "several report"):
            device = Device(settings=settings)
            for sent in push({"alert": "Hi"}), push({"content-available": 1}, "background"):
                verdict = receive(sent, device, NOW)
                self.assertEqual((verdict.outcome, verdict.answer.status), (Outcome.DISCARDED, 200))
                self.assertIn(word, verdict.why)
            self.assertIs(receive(push({}, "voip"), device, NOW).outcome, Outcome.CALL)


class OfflineTests(SynchronousTestCase):
    """Devices that are offline."""

    def test_stored(self) -> None:
        """A push waits, and is shown when the device comes online."""
        given = push({"alert": "Hi"})
        verdict = receive(given, Device(online=False), NOW)
        self.assertIs(verdict.outcome, Outcome.STORED)
        self.assertEqual(verdict.device.shown, ())
        device, [later] = attrs.astuple(come_online(verdict.device, NOW + 5), recurse=False)
        self.assertEqual((later.outcome, later.push), (Outcome.BANNER, given))
        self.assertEqual([each.body for each in device.shown], ["Hi"])
        self.assertEqual(come_online(device, NOW + 6).verdicts, ())

    def test_latest(self) -> None:
        """Only the latest one waits; Apple says both, so it can be several."""
        for keeps_all, expected in (False, ["two"]), (True, ["one", "two"]):
            device = Device(online=False, keeps_all=keeps_all)
            for body in "one", "two":
                verdict = receive(push({"alert": body}), device, NOW)
                device = verdict.device
            self.assertEqual([each.body for each in come_online(device, NOW).device.shown], expected)
            self.assertEqual("thrown away" in verdict.why, not keeps_all)

    def test_collapse(self) -> None:
        """Where several wait, one with the same collapse ID replaces the earlier."""
        device = Device(online=False, keeps_all=True)
        for body, name in ("one", "a"), ("two", "b"), ("three", "a"):
            device = receive(push({"alert": body}, collapse_id=name), device, NOW).device
        self.assertEqual([each.body for each in come_online(device, NOW).device.shown], ["two", "three"])

    def test_expirations(self) -> None:
        """A push waits until it expires, and 30 days at most; with expiration 0 it does not wait."""
        for expiration, waits in (
            ("0", None),
            (str(int(NOW) - 1), None),
            (str(int(NOW) + 60), 60.0),
            ("9" * 9_000, LONGEST_STORED),
            (None, LONGEST_STORED),
        ):
            fields = {} if expiration is None else {"expiration": expiration}
            verdict = receive(push({"alert": "Hi"}, **fields), Device(online=False), NOW)
            if waits is None:
                self.assertIs(verdict.outcome, Outcome.DISCARDED)
                continue
            self.assertIs(verdict.outcome, Outcome.STORED)
            [(just, late)] = [(NOW + waits - 1, NOW + waits)]
            self.assertEqual(pass_time(verdict.device, just).verdicts, ())
            [expired] = pass_time(verdict.device, late).verdicts
            self.assertIs(expired.outcome, Outcome.DISCARDED)
            [expired] = come_online(verdict.device, late).verdicts
            self.assertIs(expired.outcome, Outcome.DISCARDED)

    def test_activity(self) -> None:
        """What is for a Live Activity waits as anything else."""
        device = receive(activity_push("start", NOW), Device(online=False), NOW).device
        [verdict] = come_online(device, NOW + 9).verdicts
        self.assertIs(verdict.outcome, Outcome.ACTIVITY_STARTED)
        self.assertEqual(verdict.device.activities[0].started, NOW + 9)


class TypeTests(SynchronousTestCase):
    """What depends on the push type."""

    def test_platforms(self) -> None:
        """Types that do not exist on a platform do nothing there."""
        for push_type, platform, there in (
            ("voip", Platform.IOS, True),
            ("voip", Platform.WATCHOS, False),
            ("complication", Platform.WATCHOS, True),
            ("complication", Platform.IPADOS, False),
            ("location", Platform.IPADOS, True),
            ("location", Platform.MACOS, False),
            ("pushtotalk", Platform.TVOS, False),
        ):
            verdict = receive(push({}, push_type), Device(platform=platform), NOW)
            self.assertEqual(verdict.outcome is not Outcome.NOTHING, there)
            self.assertEqual("Apple says that there are no pushes" in verdict.why, not there)

    def test_no_type(self) -> None:
        """Without a type the payload tells what it is, and the verdict says that it may get lost."""
        for aps, outcome in ({"alert": "Hi"}, Outcome.BANNER), ({"content-available": 1}, Outcome.WOKEN):
            verdict = receive(push(aps, None), Device(), NOW)
            self.assertIs(verdict.outcome, outcome)
            self.assertIn("Without a push type", verdict.why)

    def test_unknown_type(self) -> None:
        """Of a type that is too new nothing is known."""
        verdict = receive(push({"alert": "Hi"}, "telepathy"), Device(), NOW, answered=Answer(200))
        self.assertIs(verdict.outcome, Outcome.NOTHING)

    def test_alert_and_wake(self) -> None:
        """An alert may wake the app as well, whether or not it is seen."""
        denied = Device(settings=Settings(permission=Permission.DENIED))
        both = push({"alert": "Hi", "content-available": 1})
        for device, outcome, woken in (
            (Device(), Outcome.BANNER, True),
            (Device(force_quit=True), Outcome.BANNER, False),
            (denied, Outcome.WOKEN, True),
            (attrs.evolve(denied, app=App(capabilities=[])), Outcome.NOTHING, False),
        ):
            verdict = receive(both, device, NOW)
            self.assertEqual((verdict.outcome, "The app is woken" in verdict.why), (outcome, woken))
        silent = receive(push({"content-available": 1}), Device(), NOW)
        self.assertIs(silent.outcome, Outcome.WOKEN)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(
    [
        "alert",
        "badge",
        "sound",
        "thread-id",
        "category",
        "content-available",
        "mutable-content",
        "interruption-level",
        "filter-criteria",
        "timestamp",
        "event",
        "content-state",
        "attributes-type",
        "attributes",
        "stale-date",
        "dismissal-date",
        "input-push-channel",
        "content-changed",
    ]
)
LIKELY = st.sampled_from(
    [1, 0, True, "start", "update", "end", NOW, NOW + 10 * HOUR, {"title": "T"}, {"loc-key": "K", "loc-args": [None]}]
)
APS = st.dictionaries(KEYS, JSON | LIKELY, max_size=9)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "apns-topic": st.sampled_from(["com.example.app", "pass.com.example", "com.example.app.voip"]),
        "apns-push-type": st.sampled_from(sorted(PUSH_TYPES)) | st.text(max_size=5),
        "apns-priority": st.sampled_from(["1", "5", "10", "x"]),
        "apns-expiration": st.sampled_from(["0", "1", "1.5", "9" * 20, str(int(NOW) + 60)]),
        "apns-collapse-id": st.sampled_from(["a", "b"]),
    },
)
DEVICES = st.builds(
    Device,
    platform=st.sampled_from(Platform),
    version=st.sampled_from([(14, 0), (16, 1), (17, 2), (26, 4)]),
    online=st.booleans(),
    locked=st.booleans(),
    foreground=st.booleans(),
    force_quit=st.booleans(),
    settings=st.builds(
        Settings,
        permission=st.sampled_from(Permission),
        notification_center=st.booleans(),
        focus=st.booleans(),
        focus_criteria=st.none() | st.just(frozenset({"work"})),
    ),
    app=st.builds(
        App,
        strings=st.none() | st.just({"K": "%2$@ and %@"}),
        sounds=st.none() | st.just({"a.caf": 40.0}),
        activities=st.none() | st.just({"T": frozenset({"k"})}),
    ),
)


class AnyTests(SynchronousTestCase):
    """Whatever comes."""

    @given(
        st.lists(st.tuples(HEADERS, APS.map(lambda aps: json.dumps({"aps": aps}).encode()) | st.binary()), max_size=4),
        DEVICES,
    )
    def test_never_raises(self, pushes: list[tuple[dict[str, str], bytes]], device: Device) -> None:
        """There is a verdict on every push, with a sentence; refused is what Apple refuses, and nothing else."""
        for number, (headers, payload) in enumerate(pushes):
            given = Push(headers, payload, TOKEN)
            for answered in None, Answer(200):
                verdict = receive(given, device, NOW + number, answered=answered)
                refused = answered is None and not answer(given, device).is_success
                self.assertEqual(verdict.outcome is Outcome.REFUSED, refused)
                self.assertTrue(verdict.why.endswith("."))
                self.assertNotIn(TOKEN, verdict.why + repr(verdict))
            device = verdict.device
        device = come_online(open_app(device, NOW + HOUR).device, NOW + 40 * 24 * HOUR).device
        self.assertEqual((device.stored, device.background_pushes), ((), ()))
        self.assertFalse(any(each.is_running and each.started < NOW + HOUR for each in device.activities))


class Storage(RuleBasedStateMachine):
    """One device that goes off and on, beside a plain list of what should wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.sent = 0
        self.device = Device()
        self.waiting: list[tuple[str, float]] = []
        self.seen: list[str] = []

    @rule(life=st.none() | st.integers(0, 50))
    def send(self, life: int | None) -> None:
        """Send an alert that lives so long, or not at all for 0, or for ever."""
        self.sent += 1
        body = f"number {self.sent}"
        fields = {} if life is None else {"expiration": str(int(self.now) + life if life else 0)}
        verdict = receive(push({"alert": body}, **fields), self.device, self.now)
        self.device = verdict.device
        if self.device.online:
            self.seen.append(body)
            assert verdict.outcome is Outcome.BANNER
        elif life == 0:
            assert verdict.outcome is Outcome.DISCARDED
        else:
            assert verdict.outcome is Outcome.STORED
            kept = self.waiting if self.device.keeps_all else []
            self.waiting = [*kept, (body, self.now + (LONGEST_STORED if life is None else life))]

    @rule(keeps_all=st.booleans())
    def go_offline(self, keeps_all: bool) -> None:
        """Lose the connection; what waits already stays."""
        self.device = attrs.evolve(self.device, online=False, keeps_all=keeps_all)

    @rule()
    @precondition(lambda self: not self.device.online)
    def go_online(self) -> None:
        """Get all that has not expired."""
        change = come_online(self.device, self.now)
        self.device = change.device
        alive = [body for body, until in self.waiting if until > self.now]
        assert [each.presentation.body for each in change.verdicts if each.presentation] == alive
        self.seen += alive
        self.waiting = []

    @rule(seconds=st.integers(0, 100))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds
        change = pass_time(self.device, self.now)
        self.device = change.device
        alive = [each for each in self.waiting if each[1] > self.now]
        assert len(change.verdicts) == len(self.waiting) - len(alive)
        self.waiting = alive

    @invariant()
    def same(self) -> None:
        """The device has seen, and waits for, what it should."""
        assert [each.body for each in self.device.shown] == self.seen[-100:]
        assert [(json.loads(each.push.payload)["aps"]["alert"], each.until) for each in self.device.stored] == (
            self.waiting
        )


class StorageTests(SynchronousTestCase):
    """Storage, whatever the order of events."""

    def test_model(self) -> None:
        """What waits and what arrives is what a plain list says."""
        run_state_machine_as_test(Storage)
