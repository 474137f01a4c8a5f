"""Tests for :mod:`txapns.devices.alerts`."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.devices.pushes import NOW, push
from txapns.devices import (
    App,
    Capability,
    Device,
    Level,
    Outcome,
    Permission,
    Platform,
    Presentation,
    Previews,
    Settings,
    Verdict,
    receive,
)

__all__ = ["AppTests", "BadgeTests", "LevelTests", "OrderTests", "PlaceTests", "ReplacementTests", "SoundTests"]

FULL = {"alert": {"title": "T", "body": "B"}, "sound": "default", "badge": 3}


def show(aps: dict[str, Any], device: Device | None = None, **fields: str) -> Verdict:
    """Send an alert to a device."""
    return receive(push(aps, **fields), device or Device(), NOW)


def presented(aps: dict[str, Any], device: Device | None = None, **fields: str) -> Presentation:
    """Send an alert to a device that shows it."""
    presentation = show(aps, device, **fields).presentation
    assert presentation is not None
    return presentation


def device(**settings: Any) -> Device:
    """Make a device with settings."""
    return Device(settings=Settings(**settings))


#: What keeps a notification back, in the order of the decisions: what of the device, the outcome, a word of why.
DECISIONS: list[tuple[dict[str, Any], dict[str, Any], Outcome, str]] = [
    ({"enabled": False}, {}, Outcome.DISCARDED, "switched off"),
    ({"permission": Permission.DENIED}, {}, Outcome.NOTHING, "denied"),
    ({"permission": Permission.PROVISIONAL}, {}, Outcome.LIST, "provisional"),
    ({}, {"foreground": True, "app": App(foreground=[])}, Outcome.NOTHING, "delegate"),
    ({"focus_criteria": ["work"]}, {}, Outcome.NOTHING, "filter"),
    ({"focus": True}, {}, Outcome.LIST, "Focus"),
    ({"lock_screen": False}, {}, Outcome.LIST, "lock screen"),
]


class OrderTests(SynchronousTestCase):
    """The decisions, in their order."""

    def test_order(self) -> None:
        """Each decides, and the first one wins over all that follow."""
        aps = {**FULL, "filter-criteria": "home"}
        settings: dict[str, Any] = {}
        other: dict[str, Any] = {}
        for changed, more, outcome, word in reversed(DECISIONS):
            for given in (Settings(**changed), more), (Settings(**settings | changed), other | more):
                verdict = show(aps, Device(settings=given[0], **given[1]))
                self.assertIs(verdict.outcome, outcome)
                self.assertIn(word, verdict.why)
            settings, other = settings | changed, other | more

    def test_permission(self) -> None:
        """Without permission nothing is seen, and nothing is remembered."""
        for permission in Permission.NOT_ASKED, Permission.DENIED:
            verdict = show(FULL, device(permission=permission))
            self.assertEqual((verdict.outcome, verdict.presentation), (Outcome.NOTHING, None))
            self.assertEqual((verdict.device.badge, verdict.device.shown), (0, ()))

    def test_provisional(self) -> None:
        """On trial, it is in the list only, without sound and badge."""
        verdict = show(FULL, device(permission=Permission.PROVISIONAL))
        assert verdict.presentation is not None
        self.assertEqual((verdict.presentation.sound, verdict.presentation.badge), (None, None))
        self.assertEqual((verdict.device.badge, len(verdict.device.shown)), (0, 1))

    def test_foreground(self) -> None:
        """The delegate of an open app decides."""
        for options, outcome, sound, badge, kept in (
            (["banner", "list", "sound", "badge"], Outcome.BANNER, "default", 3, 1),
            (["banner"], Outcome.BANNER, None, 0, 0),
            (["list"], Outcome.LIST, None, 0, 1),
            (["sound"], Outcome.BANNER, "default", 0, 0),
            (["badge"], Outcome.BADGE, None, 3, 0),
            ([], Outcome.NOTHING, None, 0, 0),
            (None, Outcome.NOTHING, None, 0, 0),
        ):
            verdict = show(FULL, Device(foreground=True, app=App(foreground=options)))
            self.assertIs(verdict.outcome, outcome)
            self.assertEqual(verdict.presentation.sound if verdict.presentation else None, sound)
            self.assertEqual((verdict.device.badge, len(verdict.device.shown)), (badge, kept))

    def test_no_delegate(self) -> None:
        """Apple and those who tried it differ on an open app without a delegate, and both are told."""
        verdict = show(FULL, Device(foreground=True, app=App(has_delegate=False)))
        self.assertIs(verdict.outcome, Outcome.NOTHING)
        self.assertIn("Apple says", verdict.why)
        self.assertIn("several report", verdict.why)

    def test_nothing(self) -> None:
        """What has nothing to show is not shown."""
        for aps in {}, {"alert": ""}, {"alert": {}}, {"category": "C"}:
            self.assertIs(show(aps).outcome, Outcome.NOTHING)

    def test_tvos(self) -> None:
        """A television shows badges only."""
        television = Device(platform=Platform.TVOS)
        verdict = show(FULL, television)
        self.assertEqual((verdict.outcome, verdict.device.badge), (Outcome.BADGE, 3))
        self.assertIs(show({"alert": "Hi"}, television).outcome, Outcome.NOTHING)


class LevelTests(SynchronousTestCase):
    """Interruption levels."""

    def test_table(self) -> None:
        """Who lights the screen and sounds, and who breaks through a summary, a Focus and the mute switch."""
        screen, listed = (Outcome.BANNER, "default"), (Outcome.LIST, None)
        silent = Outcome.BANNER, None
        for level, plain, summary, focus, muted in (
            ("passive", listed, listed, listed, listed),
            ("active", screen, listed, listed, silent),
            ("time-sensitive", screen, screen, screen, silent),
            ("critical", screen, screen, screen, screen),
        ):
            for settings, expected in (
                ({}, plain),
                ({"summary": 1}, summary),
                ({"focus": 1}, focus),
                ({"muted": 1}, muted),
            ):
                verdict = show({**FULL, "interruption-level": level}, device(**settings))
                assert verdict.presentation is not None
                self.assertEqual((verdict.outcome, verdict.presentation.sound), expected, (level, settings))
                self.assertEqual(verdict.presentation.level, Level(level))

    def test_not_allowed(self) -> None:
        """A level that is not allowed, or is none, acts as active, and it is said how well that is known."""
        without = Device(app=App(capabilities=[]))
        for level, given, word in (
            ("time-sensitive", without, "report"),
            ("time-sensitive", device(time_sensitive=False), "report"),
            ("critical", without, "Apple does not say"),
            ("critical", device(critical=False), "Apple does not say"),
            ("urgent", Device(), "Apple does not say"),
            (7, Device(), "Apple does not say"),
        ):
            verdict = show({**FULL, "interruption-level": level}, given)
            assert verdict.presentation is not None
            self.assertIs(verdict.presentation.level, Level.ACTIVE)
            self.assertIn(word, verdict.why)

    def test_critical_sound(self) -> None:
        """A critical sound makes it critical."""
        aps = {"alert": "Hi", "sound": {"critical": 1, "name": "siren.caf", "volume": 1.0}}
        presentation = presented(aps, device(muted=True))
        self.assertEqual((presentation.level, presentation.sound), (Level.CRITICAL, "siren.caf"))
        self.assertIs(presented({"alert": "Hi", "sound": {"critical": True}}).level, Level.ACTIVE)

    def test_before_levels(self) -> None:
        """Before iOS 15 there are none."""
        self.assertIsNone(presented({**FULL, "interruption-level": "passive"}, Device(version=(14, 8))).level)


class SoundTests(SynchronousTestCase):
    """Sounds."""

    def test_table(self) -> None:
        """What plays, and the word that says why it is not what was asked for."""
        app = App(sounds={"bell.caf": 2.0, "long.wav": 30.0})
        for sound, expected, word in (
            ("default", "default", ""),
            ("bell.caf", "bell.caf", ""),
            ({"name": "bell.caf"}, "bell.caf", ""),
            ({}, "default", ""),
            ("gone.caf", "default", "has no file"),
            ("long.wav", "default", "30 seconds"),
            ("bell", "default", "report"),
            ("bell.mp3", "default", "not an aiff"),
            ("", None, "Apple does not say"),
            (7, None, "Apple does not say"),
            (None, None, "does not vibrate"),
        ):
            verdict = show({"alert": "Hi", "sound": sound}, Device(app=app))
            assert verdict.presentation is not None
            self.assertEqual(verdict.presentation.sound, expected)
            self.assertIn(word, verdict.why)

    def test_unknown_app(self) -> None:
        """Where the app's sounds are not known, nothing is held against a name."""
        self.assertEqual(presented({"alert": "Hi", "sound": "gone.caf"}).sound, "gone.caf")

    def test_switched_off(self) -> None:
        """The user may want none."""
        self.assertIsNone(presented(FULL, device(sounds=False)).sound)

    def test_alone(self) -> None:
        """A sound without text is heard, and nothing is kept; a Focus swallows it."""
        verdict = show({"sound": "default"})
        self.assertEqual((verdict.outcome, verdict.device.shown), (Outcome.BANNER, ()))
        self.assertIs(show({"sound": "default"}, device(focus=True)).outcome, Outcome.NOTHING)


class BadgeTests(SynchronousTestCase):
    """Badges."""

    def test_table(self) -> None:
        """What the badge is afterwards, if it was 5."""
        for badge, expected, word in (
            (0, 0, ""),
            (7, 7, ""),
            (7.0, 7, ""),
            (None, 5, "stays at 5"),
            ("7", 5, "Several report"),
            (True, 5, "Several report"),
            (-1, 5, "Apple does not say"),
            (1.5, 5, "Apple does not say"),
        ):
            verdict = show({"alert": "Hi", "badge": badge}, Device(badge=5))
            self.assertEqual(verdict.device.badge, expected)
            self.assertIn(word, verdict.why)

    def test_alone(self) -> None:
        """A badge alone changes only the badge, also of a device that is set to be quiet."""
        for quiet in {}, {"focus": True}, {"lock_screen": False}:
            verdict = show({"badge": 7}, device(**quiet))
            self.assertEqual((verdict.outcome, verdict.device.badge, verdict.device.shown), (Outcome.BADGE, 7, ()))

    def test_switched_off(self) -> None:
        """Where the user has switched it off, the rest is shown."""
        verdict = show(FULL, device(badges=False))
        self.assertEqual((verdict.outcome, verdict.device.badge), (Outcome.BANNER, 0))


class PlaceTests(SynchronousTestCase):
    """Where it is shown."""

    def test_table(self) -> None:
        """The lock screen, a banner, or Notification Center."""
        for locked, settings, outcome, kept in (
            (True, {}, Outcome.BANNER, 1),
            (False, {}, Outcome.BANNER, 1),
            (True, {"lock_screen": False}, Outcome.LIST, 1),
            (True, {"banners": False}, Outcome.BANNER, 1),
            (False, {"banners": False}, Outcome.LIST, 1),
            (False, {"lock_screen": False}, Outcome.BANNER, 1),
            (True, {"notification_center": False}, Outcome.BANNER, 0),
            (True, {"notification_center": False, "lock_screen": False}, Outcome.BADGE, 0),
        ):
            verdict = show(FULL, attrs.evolve(device(**settings), locked=locked))
            self.assertEqual((verdict.outcome, len(verdict.device.shown)), (outcome, kept))

    def test_previews(self) -> None:
        """Its text may be hidden, always or on the lock screen."""
        for previews, locked, hidden in (
            (Previews.ALWAYS, True, False),
            (Previews.WHEN_UNLOCKED, True, True),
            (Previews.WHEN_UNLOCKED, False, False),
            (Previews.NEVER, False, True),
        ):
            given = attrs.evolve(device(previews=previews), locked=locked)
            self.assertEqual(presented(FULL, given).hidden, hidden)

    def test_priority(self) -> None:
        """One that is not urgent may come later."""
        for priority, words in ("10", 0), ("5", 1), ("1", 2):
            why = show(FULL, priority=priority).why
            self.assertEqual(("may come later" in why) + ("does not wake" in why), words)

    def test_bounded(self) -> None:
        """A device keeps a limited number."""
        phone = Device()
        for number in range(103):
            phone = show({"alert": str(number)}, phone).device
        self.assertEqual((len(phone.shown), phone.shown[0].body), (100, "3"))


class ReplacementTests(SynchronousTestCase):
    """Collapse IDs and threads."""

    def test_replaced(self) -> None:
        """One with the same collapse ID replaces the other while it is shown."""
        phone = Device()
        for body, name, replaces, kept in (
            ("one", "a", "", ["one"]),
            ("two", "b", "", ["one", "two"]),
            ("three", "a", "a", ["two", "three"]),
        ):
            verdict = show({"alert": body}, phone, collapse_id=name)
            assert verdict.presentation is not None
            phone = verdict.device
            self.assertEqual(verdict.presentation.replaces, replaces)
            self.assertEqual([each.body for each in phone.shown], kept)
        self.assertIn("one report says", verdict.why)

    def test_not_replaced(self) -> None:
        """Others stay, also of one thread."""
        phone = Device()
        for _ in range(2):
            phone = show({"alert": "Hi", "thread-id": "chat"}, phone).device
        self.assertEqual([(each.thread, each.replaces) for each in phone.shown], [("chat", "")] * 2)
        apart = show({"alert": "Hi", "thread-id": "chat"}, device(grouped=False))
        self.assertIn("switched off grouping", apart.why)


class AppTests(SynchronousTestCase):
    """What depends on the app."""

    def test_buttons(self) -> None:
        """Only a category that the app has registered has buttons."""
        for categories, category, expected in (
            (None, "REPLY", None),
            (["REPLY"], "REPLY", True),
            ([], "REPLY", False),
            (None, None, False),
            (None, 7, False),
        ):
            given = Device(app=App(categories=categories))
            self.assertIs(presented({"alert": "Hi", "category": category}, given).buttons, expected)

    def test_extension(self) -> None:
        """The extension runs for alerts with text, if the app has one."""
        without = Device(app=App(capabilities=frozenset(Capability) - {Capability.EXTENSION}))
        for aps, given, word in (
            ({"alert": "Hi", "mutable-content": 1}, Device(), "to change or hide it first"),
            ({"alert": "Hi", "mutable-content": 1}, without, "has no extension"),
            ({"badge": 1, "mutable-content": 1}, Device(), "does not run"),
        ):
            self.assertIn(word, show(aps, given).why)
        self.assertNotIn("extension", show({"alert": "Hi", "mutable-content": True}).why)

    def test_title_alone(self) -> None:
        """It is not known whether a title is shown without a body."""
        verdict = show({"alert": {"title": "T"}})
        self.assertIs(verdict.outcome, Outcome.BANNER)
        self.assertIn("Apple does not say", verdict.why)
