"""Tests for :mod:`txapns.devices.activities`."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from tests.devices.pushes import NOW, STATE, activity_push
from txapns.devices import (
    Activity,
    ActivityState,
    App,
    Capability,
    Device,
    Outcome,
    Platform,
    Settings,
    Verdict,
    pass_time,
    receive,
)

__all__ = ["EndTests", "ModelTests", "StartTests", "TimeTests", "UpdateTests"]

HOUR = 3_600.0


def send(event: str, device: Device, when: float = NOW, aps: dict[str, Any] | None = None, **options: Any) -> Verdict:
    """Send a push for a Live Activity whose timestamp is now, if nothing else is given."""
    return receive(activity_push(event, when, aps, **options), device, when)


def started(**facts: Any) -> Device:
    """Make a device on which a Live Activity has just started."""
    return send("start", Device(**facts)).device


def activity_of(device: Device) -> Activity:
    """Return the latest activity of a device."""
    return device.activities[-1]


class Cases(SynchronousTestCase):
    """A case that looks at verdicts."""

    def check(self, verdict: Verdict, outcome: Outcome, word: str) -> None:
        """Check an outcome, and that its reason has a word in it."""
        self.assertIs(verdict.outcome, outcome, verdict.why)
        self.assertIn(word, verdict.why)


class StartTests(Cases):
    """Starts."""

    def test_started(self) -> None:
        """A complete start makes an activity, and shows its alert."""
        verdict = send("start", Device())
        self.check(verdict, Outcome.ACTIVITY_STARTED, "token for updates")
        activity = activity_of(verdict.device)
        self.assertEqual((activity.kind, activity.content, activity.number), ("Match", STATE, 1))
        self.assertEqual((activity.state, activity.ends_at), (ActivityState.ACTIVE, NOW + 8 * HOUR))
        assert verdict.presentation is not None
        self.assertEqual((verdict.presentation.title, verdict.presentation.activity), ("Kick-off", activity))

    def test_not_started(self) -> None:
        """What keeps one from starting, and how it is known."""
        cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
            ({"alert": None}, {}, "several report"),
            ({"alert": {}}, {}, "an alert with text"),
            ({"attributes": None}, {}, "attributes"),
            ({"attributes-type": ""}, {}, "attributes-type"),
            ({"content-state": []}, {}, "content-state"),
            ({"event": "begin"}, {}, "Apple does not say"),
            ({"timestamp": None}, {}, "no timestamp"),
            ({"timestamp": "7"}, {}, "no timestamp"),
            ({"timestamp": 1e308}, {}, "no timestamp"),
            ({"timestamp": NOW * 1_000}, {}, "a report says"),
            ({}, {"version": (17, 1)}, "17.2"),
            ({}, {"version": (16, 0)}, "16.1"),
            ({}, {"platform": Platform.VISIONOS}, "17.2"),
            ({}, {"token_outdated": True}, "a report says"),
            ({}, {"activity_starts": (NOW - 1,) * 10}, "several report"),
            ({}, {"settings": Settings(live_activities=False)}, "Apple does not say"),
            ({}, {"app": App(capabilities=frozenset(Capability) - {Capability.LIVE_ACTIVITIES})}, "no Live Activities"),
            ({}, {"app": App(activities={"Race": frozenset()})}, "no attributes of the type Match"),
            ({}, {"app": App(activities={"Match": frozenset({"minute"})})}, "cannot decode"),
            ({"input-push-channel": "abcd"}, {"version": (17, 4)}, "iOS 18"),
        ]
        for aps, facts, word in cases:
            verdict = send("start", Device(**facts), aps=aps)
            self.check(verdict, Outcome.ACTIVITY_IGNORED, word)
            self.assertEqual((verdict.device.activities, verdict.answer.status), ((), 200))

    def test_broadcast(self) -> None:
        """A broadcast starts nothing."""
        self.check(send("start", Device(), channel="abcd"), Outcome.ACTIVITY_IGNORED, "broadcast")

    def test_platform(self) -> None:
        """Some systems have none."""
        verdict = send("start", Device(platform=Platform.MACOS))
        self.check(verdict, Outcome.NOTHING, "Apple says that there are no pushes of the type liveactivity on macOS")

    def test_second(self) -> None:
        """A second start makes a second activity, with a token of its own."""
        verdict = send("start", started())
        self.check(verdict, Outcome.ACTIVITY_STARTED, "a report says that this one appears beside it")
        self.assertEqual([each.number for each in verdict.device.activities], [1, 2])
        self.assertEqual(len({each.token for each in verdict.device.activities}), 2)

    def test_odd(self) -> None:
        """What is odd about a start is told, as well as it is known."""
        verdict = send("start", Device(), aps={"stale-date": NOW - 1, "dismissal-date": NOW + 1})
        self.check(verdict, Outcome.ACTIVITY_STARTED, "a report says that it may never be shown")
        self.assertIn("dismissal date has no effect here, several report", verdict.why)
        self.assertIs(activity_of(verdict.device).state, ActivityState.STALE)

    def test_budget_returns(self) -> None:
        """An hour later there may be more."""
        device = Device(activity_starts=(NOW,) * 10)
        self.assertIs(send("start", device, NOW + HOUR).outcome, Outcome.ACTIVITY_STARTED)

    def test_sound(self) -> None:
        """Its alert may make a sound, unless the device is muted."""
        for settings, sound in (Settings(), "default"), (Settings(muted=True), None):
            verdict = send("start", Device(settings=settings), aps={"sound": "default"})
            assert verdict.presentation is not None
            self.assertEqual(verdict.presentation.sound, sound)


class UpdateTests(Cases):
    """Updates."""

    def test_updated(self) -> None:
        """A newer state is drawn; only with an alert does the screen light."""
        verdict = send("update", started(), NOW + 9, {"content-state": {"home": 2}, "stale-date": NOW + 60})
        self.check(verdict, Outcome.ACTIVITY_UPDATED, "It is updated.")
        activity = activity_of(verdict.device)
        self.assertEqual((activity.content, activity.timestamp, activity.stale_at), ({"home": 2}, NOW + 9, NOW + 60))
        self.assertIn("the screen lights", send("update", started(), NOW, {"alert": "Goal!"}).why)

    def test_not_updated(self) -> None:
        """What an update fails for."""
        app = App(activities={"Match": frozenset({"home"})})
        for aps, word in (
            ({"timestamp": int(NOW) - 1}, "newer"),
            ({"content-state": None}, "no content-state"),
            ({"content-state": {"away": 1}}, "cannot decode"),
        ):
            device = started(app=app)
            verdict = send("update", device, NOW, aps)
            self.check(verdict, Outcome.ACTIVITY_IGNORED, word)
            self.assertEqual(verdict.device, device)
        self.check(send("update", Device()), Outcome.ACTIVITY_IGNORED, "no Live Activity for this token")

    def test_notes(self) -> None:
        """What is only reported, or not published, is told so."""
        device = started()
        verdict = send("update", device, NOW, {"dismissal-date": NOW})
        self.assertIn("equal state is not drawn again", verdict.why)
        self.assertIn("no effect here, several report", verdict.why)
        again = send("update", verdict.device, NOW + 3, {"content-state": {}})
        self.assertIn("Apple does not say how many", again.why)
        calm = send("update", verdict.device, NOW + 3, {"content-state": {}}, priority="5")
        self.assertNotIn("Apple does not say", calm.why)
        off = attrs.evolve(verdict.device, settings=Settings(frequent_updates=False))
        self.assertIn("Frequent updates are switched off", send("update", off, NOW + 3).why)

    def test_token(self) -> None:
        """An update goes to the activity whose token it has."""
        device = send("start", started()).device
        first, second = device.activities
        device = send("update", device, NOW, {"content-state": {"home": 7}}, token=first.token).device
        self.assertEqual([each.content for each in device.activities], [{"home": 7}, STATE])
        device = send("update", device, NOW, {"content-state": {"home": 8}}).device
        self.assertEqual([each.content for each in device.activities], [{"home": 7}, {"home": 8}])
        self.assertNotEqual(first.token, second.token)

    def test_channel(self) -> None:
        """A broadcast goes to all activities of its channel, and to no other."""
        device = started()
        for _ in range(2):
            device = send("start", device, aps={"input-push-channel": "abcd"}).device
        verdict = send("update", device, NOW, {"content-state": {"home": 7}}, channel="abcd")
        self.check(verdict, Outcome.ACTIVITY_UPDATED, "updated")
        self.assertEqual([each.content for each in verdict.device.activities], [STATE, {"home": 7}, {"home": 7}])
        verdict = send("update", device, NOW, channel="efgh")
        self.check(verdict, Outcome.ACTIVITY_IGNORED, "no Live Activity for this channel")


class EndTests(Cases):
    """Ends."""

    def test_dismissal(self) -> None:
        """How long it stays on the lock screen."""
        for date, stays, state in (
            (None, 4 * HOUR, ActivityState.ENDED),
            (NOW - 1, 0.0, ActivityState.DISMISSED),
            (NOW + HOUR, HOUR, ActivityState.ENDED),
            (NOW + 5 * HOUR, 4 * HOUR, ActivityState.ENDED),
            ("soon", 4 * HOUR, ActivityState.ENDED),
        ):
            verdict = send("end", started(), NOW, {"dismissal-date": date})
            self.check(verdict, Outcome.ACTIVITY_ENDED, "It ends")
            activity = activity_of(verdict.device)
            self.assertEqual((activity.state, activity.dismissed_at), (state, NOW + stays))

    def test_old(self) -> None:
        """It ends also with an old timestamp, and keeps its newer state."""
        verdict = send("end", started(), NOW, {"timestamp": int(NOW) - 9, "content-state": {"home": 9}})
        self.check(verdict, Outcome.ACTIVITY_ENDED, "A report says")
        self.assertEqual(activity_of(verdict.device).content, STATE)

    def test_last_state(self) -> None:
        """The state of the end is the last one; without any, the one before stays."""
        for content, expected in ({"home": 9}, {"home": 9}), (None, STATE):
            device = send("end", started(), NOW, {"content-state": content}).device
            self.assertEqual(activity_of(device).content, expected)

    def test_over(self) -> None:
        """After the end nothing has an effect, and once it is dismissed its token is dead."""
        device = send("end", started()).device
        token = activity_of(device).token
        for event in "update", "end":
            self.check(send(event, device, NOW + 1), Outcome.ACTIVITY_IGNORED, "over")
        verdict = send("update", device, NOW + 4 * HOUR, token=token)
        self.check(verdict, Outcome.REFUSED, "410 Unregistered")
        self.assertEqual(verdict.answer.timestamp, NOW + 4 * HOUR)


class TimeTests(Cases):
    """What time alone does."""

    def test_life(self) -> None:
        """It gets stale, ends after eight hours, and leaves after four more, in this order."""
        device = send("start", Device(), aps={"stale-date": NOW + HOUR}).device
        self.assertEqual(pass_time(device, NOW + HOUR - 1).verdicts, ())
        change = pass_time(device, NOW + 12 * HOUR)
        seen = [(each.outcome, each.presentation and each.presentation.shown_at) for each in change.verdicts]
        self.assertEqual(
            seen,
            [
                (Outcome.ACTIVITY_STALE, NOW + HOUR),
                (Outcome.ACTIVITY_ENDED, NOW + 8 * HOUR),
                (Outcome.ACTIVITY_DISMISSED, NOW + 12 * HOUR),
            ],
        )
        self.assertIs(activity_of(change.device).state, ActivityState.DISMISSED)

    def test_fresh(self) -> None:
        """An update makes a stale activity active."""
        device = send("start", Device(), aps={"stale-date": NOW + 1}).device
        device = send("update", device, NOW + 2).device
        self.assertEqual((activity_of(device).state, activity_of(device).stale_at), (ActivityState.ACTIVE, None))

    def test_bounded(self) -> None:
        """Of those that are gone only the latest are remembered."""
        device = Device()
        for number in range(30):
            when = NOW + number * HOUR
            device = send("start", device, when).device
            device = send("end", device, when, {"dismissal-date": 0}).device
        self.assertEqual([each.number for each in device.activities], list(range(11, 31)))


class Model(RuleBasedStateMachine):
    """One Live Activity at a time, beside the four states in a few lines."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.device = Device()
        self.started = self.timestamp = self.dismissed = 0.0
        self.stale: float | None = None
        self.state: ActivityState | None = None
        self.content: dict[str, int] = {}

    def pass_time(self) -> None:
        """Say what time has done."""
        end = self.started + 8 * HOUR
        if self.state is ActivityState.ACTIVE and self.stale is not None and self.now >= self.stale:
            self.state = ActivityState.STALE
        if self.state in (ActivityState.ACTIVE, ActivityState.STALE) and self.now >= end:
            self.state, self.dismissed = ActivityState.ENDED, end + 4 * HOUR
        if self.state is ActivityState.ENDED and self.now >= self.dismissed:
            self.state = ActivityState.DISMISSED

    @rule(stale=st.none() | st.integers(-1, 3))
    def start(self, stale: int | None) -> None:
        """Start one unless one is running."""
        if self.state not in (ActivityState.ACTIVE, ActivityState.STALE) and len(self.device.activity_starts) < 10:
            aps = {} if stale is None else {"stale-date": self.now + stale * HOUR}
            self.device = send("start", self.device, self.now, aps).device
            self.started, self.timestamp, self.content = self.now, float(int(self.now)), STATE
            self.set(stale)

    def set(self, stale: int | None) -> None:
        """Note when it gets stale, and whether it is."""
        self.stale = None if stale is None else self.now + stale * HOUR
        self.state = ActivityState.STALE if stale is not None and stale <= 0 else ActivityState.ACTIVE

    @rule(age=st.integers(-3, 9), stale=st.none() | st.integers(-1, 3), home=st.integers(0, 9))
    def update(self, age: int, stale: int | None, home: int) -> None:
        """Send an update, which may be older than the last or too far ahead."""
        timestamp = int(self.now - age * HOUR)
        aps = {"timestamp": timestamp, "content-state": {"home": home}}
        aps.update({} if stale is None else {"stale-date": self.now + stale * HOUR})
        verdict = send("update", self.device, self.now, aps)
        self.device = verdict.device
        running = self.state in (ActivityState.ACTIVE, ActivityState.STALE)
        taken = running and timestamp >= self.timestamp
        assert (verdict.outcome is Outcome.ACTIVITY_UPDATED) == taken, verdict
        if taken:
            self.timestamp, self.content = timestamp, {"home": home}
            self.set(stale)

    @rule(stays=st.none() | st.integers(-1, 6))
    def end(self, stays: int | None) -> None:
        """End it."""
        aps = {} if stays is None else {"dismissal-date": self.now + stays * HOUR}
        verdict = send("end", self.device, self.now, {**aps, "content-state": None})
        self.device = verdict.device
        running = self.state in (ActivityState.ACTIVE, ActivityState.STALE)
        assert (verdict.outcome is Outcome.ACTIVITY_ENDED) == running
        if running:
            self.state, self.dismissed = (
                ActivityState.ENDED,
                self.now + min(4 if stays is None else max(stays, 0), 4) * HOUR,
            )
            self.pass_time()

    @rule(hours=st.integers(0, 30).map(lambda half: half / 2))
    def wait(self, hours: float) -> None:
        """Let time pass, in one step or in many."""
        self.now += hours * HOUR
        for part in range(3):
            self.device = pass_time(self.device, self.now - (2 - part) * hours * HOUR / 3).device
        self.pass_time()

    @invariant()
    def same(self) -> None:
        """The device has the state of the model."""
        activities = self.device.activities
        assert (activities[-1].state if activities else None) is self.state
        assert not activities or activities[-1].content == self.content
        assert sum(each.is_running for each in activities) <= 1


class ModelTests(SynchronousTestCase):
    """The states of a Live Activity, whatever the order of events."""

    def test_states(self) -> None:
        """They are those of a model in a few lines."""
        run_state_machine_as_test(Model)
