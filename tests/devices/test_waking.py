"""Tests for :mod:`txapns.devices.waking`."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.devices.pushes import NOW, push
from txapns.devices import App, Capability, Device, Outcome, Permission, Push, Settings, open_app, pass_time, receive

__all__ = ["BackgroundTests", "OtherTypesTests"]

SILENT = push({"content-available": 1}, "background")
HOUR = 3_600.0


def without(*capabilities: Capability) -> App:
    """Make an app that lacks something."""
    return App(capabilities=frozenset(Capability) - set(capabilities))


class BackgroundTests(SynchronousTestCase):
    """Background pushes."""

    def test_table(self) -> None:
        """What keeps the app from running, and how it is known."""
        for given, aps, outcome, word in (
            (Device(), {"content-available": 1}, Outcome.WOKEN, "30 seconds"),
            (Device(foreground=True), {"content-available": 1}, Outcome.WOKEN, "open"),
            (Device(settings=Settings(permission=Permission.DENIED)), {"content-available": 1}, Outcome.WOKEN, ""),
            (Device(), {}, Outcome.NOTHING, "Without content-available"),
            (Device(), {"content-available": 0}, Outcome.NOTHING, "number 1"),
            (Device(), {"content-available": True}, Outcome.NOTHING, "Apple says nothing"),
            (Device(), {"content-available": 1, "alert": "Hi"}, Outcome.WOKEN, "older guide"),
            (Device(app=without(Capability.BACKGROUND)), {"content-available": 1}, Outcome.NOTHING, "background mode"),
            (Device(force_quit=True), {"content-available": 1}, Outcome.DISCARDED, "has ended the app"),
            (Device(settings=Settings(low_power=True)), {"content-available": 1}, Outcome.STORED, "several report"),
            (
                Device(settings=Settings(background_refresh=False)),
                {"content-available": 1},
                Outcome.STORED,
                "several report",
            ),
        ):
            verdict = receive(push(aps, "background"), given, NOW)
            self.assertIs(verdict.outcome, outcome, aps)
            self.assertIn(word, verdict.why)
            self.assertIsNone(verdict.presentation)

    def test_priority(self) -> None:
        """One of the lowest priority does not wake the device."""
        verdict = receive(push({"content-available": 1}, "background", priority="1"), Device(), NOW)
        self.assertIs(verdict.outcome, Outcome.STORED)

    def test_budget(self) -> None:
        """After three in an hour the next one is held back, and a newer one replaces it; an hour later it goes on."""
        device = Device()
        for expected in [Outcome.WOKEN] * 3 + [Outcome.STORED] * 2:
            verdict = receive(SILENT, device, NOW)
            device = verdict.device
            self.assertIs(verdict.outcome, expected)
        self.assertIn("replaces the one that waited", verdict.why)
        self.assertIs(receive(SILENT, device, NOW + HOUR).outcome, Outcome.WOKEN)

    def test_opened(self) -> None:
        """What was held back comes when the app is opened, and only then."""
        device = Device(settings=Settings(low_power=True))
        device = receive(SILENT, device, NOW).device
        opened = open_app(device, NOW + 60)
        [verdict] = opened.verdicts
        self.assertEqual((verdict.outcome, verdict.push), (Outcome.WOKEN, SILENT))
        self.assertTrue(opened.device.foreground)
        self.assertEqual(open_app(opened.device, NOW + 61).verdicts, ())

    def test_relaunched(self) -> None:
        """An app that the user had ended runs again after it was opened."""
        device = open_app(Device(force_quit=True), NOW).device
        self.assertIs(receive(SILENT, attrs.evolve(device, foreground=False), NOW).outcome, Outcome.WOKEN)

    def test_expires(self) -> None:
        """What is held back expires."""
        given = push({"content-available": 1}, "background", expiration=str(int(NOW) + 60))
        device = receive(given, Device(settings=Settings(low_power=True)), NOW).device
        [verdict] = pass_time(device, NOW + 60).verdicts
        self.assertEqual((verdict.outcome, verdict.device.held), (Outcome.DISCARDED, None))


class OtherTypesTests(SynchronousTestCase):
    """Pushes that are for something else than the app's notifications."""

    def check(self, given: Push, device: Device, outcome: Outcome, word: str) -> Device:
        """Check what becomes of a push; returns the device afterwards."""
        verdict = receive(given, device, NOW)
        self.assertIs(verdict.outcome, outcome, verdict.why)
        self.assertIn(word, verdict.why)
        return verdict.device

    def test_voip(self) -> None:
        """A call is reported, or iOS ends the app."""
        call = push({"alert": "Ann"}, "voip")
        self.check(call, Device(), Outcome.CALL, "never shown")
        device = Device(app=without(Capability.CALLS), foreground=True)
        device = self.check(call, device, Outcome.APP_ENDED, "reports no call")
        self.assertFalse(device.foreground)
        self.check(call, device, Outcome.APP_ENDED, "Apple does not say after how many")

    def test_table(self) -> None:
        """The other types."""
        talk = push({}, "pushtotalk", priority="10", expiration="0")
        widgets, control = push({"content-changed": True}, "widgets"), push({"content-changed": True}, "controls")
        days = tuple(NOW - number for number in range(360))
        files, management = push(b'{"container-identifier": "x"}', "fileprovider"), push(b'{"mdm": "x"}', "mdm")
        pass_push = Push({"apns-topic": "pass.com.example"}, b"{}", "ab" * 32)
        cases: list[tuple[Push, dict[str, Any], Outcome, str]] = [
            (talk, {}, Outcome.WOKEN, "who speaks"),
            (talk, {"joined": False}, Outcome.NOTHING, "no channel"),
            (push({}, "pushtotalk"), {}, Outcome.WOKEN, "expiration 0"),
            (push({}, "location"), {}, Outcome.WOKEN, "extension"),
            (push({}, "location"), {"version": (14, 8)}, Outcome.NOTHING, "15"),
            (push({}, "location"), {"app": without(Capability.LOCATION)}, Outcome.NOTHING, "entitlement"),
            (push({}, "location"), {"settings": Settings(location_always=False)}, Outcome.NOTHING, "always"),
            (push({}, "location"), {"location_pushes": days}, Outcome.NOTHING, "360"),
            (files, {}, Outcome.WOKEN, "changed"),
            (push({}, "fileprovider"), {}, Outcome.NOTHING, "container"),
            (push({}, "complication"), {}, Outcome.RELOADED, "timeline"),
            (widgets, {}, Outcome.RELOADED, "convenient"),
            (widgets, {"version": (18, 0)}, Outcome.NOTHING, "26"),
            (push({"content-changed": 1}, "widgets"), {}, Outcome.NOTHING, "Apple does not say"),
            (control, {}, Outcome.RELOADED, "control"),
            (control, {"version": (17, 0)}, Outcome.NOTHING, "18"),
            (management, {}, Outcome.WOKEN, "management server"),
            (push(json.dumps({"mdm": "x", "a": 1}).encode(), "mdm"), {}, Outcome.WOKEN, "one report"),
            (push({}, "mdm"), {}, Outcome.NOTHING, "missing"),
            (pass_push, {}, Outcome.RELOADED, "Wallet"),
        ]
        for given, facts, outcome, word in cases:
            self.check(given, Device(**facts), outcome, word)
