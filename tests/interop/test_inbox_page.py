"""The page of the simulator's inbox in headless Chromium."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import SkipTest, TestCase

import pytest

from tests.interop.browser import CHROMIUM, DRIVER, Browser
from tests.ports import reserve
from txapns import Gateway, Notification, ProviderToken
from txapns.blocking import APNSClient
from txapns.simulator.process import HOST, SimulatorProcess

__all__ = ["InboxPageTests"]

TAB, ENTER, ESCAPE, DOWN, END = "\ue004", "\ue007", "\ue00c", "\ue015", "\ue010"
PICTURES = os.environ.get("TXAPNS_TEST_PICTURES", "")
ANN, BEN = "a1b2c3d4" * 8, "b5b6b7b8" * 8
BURST = 2_000

# Measures how long the page was busy at a stretch, and how long after its sending a notification is seen.
WATCH = """
    window.tasks = [];
    new PerformanceObserver((list) => tasks.push(...list.getEntries().map((each) => Math.round(each.duration))))
        .observe({type: "longtask", buffered: false});
    window.seen = {};
    new MutationObserver(() => {
        const subject = document.querySelector("#subject").textContent;
        if (!(subject in seen)) seen[subject] = Date.now();
    }).observe(document.querySelector("#subject"), {childList: true, characterData: true, subtree: true});
"""
OUTSIDE = """
    return performance.getEntriesByType("resource").map((each) => each.name)
        .filter((name) => !name.startsWith(location.origin));
"""


CONTROLS = (
    "return [...document.querySelectorAll('input[id], select[id], textarea[id], button[id]')].map((each) => each.id)"
)
# What a screen reader is told of controls: their roles and names.
MAIN = {
    "main": ("main", ""),
    "#link": ("status", ""),
    "#write": ("button", "Compose"),
    "#planning": ("button", "Answers…"),
    "#clear": ("button", "Clear"),
    "#search": ("searchbox", "Search what was received"),
    "#type": ("combobox", "Push type"),
    "#grade": ("combobox", "Findings"),
    "#follow": ("checkbox", "Follow the latest"),
    "#rows": ("listbox", "Notifications, the latest first"),
    "#detail": ("region", "Dinner"),
    "#size": ("meter", "62 of 4,096 bytes, 2 %"),
    "[data-form=text]": ("button", "Formatted"),
    "#large": ("button", "Large text"),
    "aside": ("complementary", "Phone"),
    "#device-state": ("combobox", "Device"),
    "#device-focus": ("checkbox", "Focus is on"),
    "#device-version": ("textbox", "Version"),
    "#device-app-capabilities": ("group", "Capabilities"),
}
COMPOSE = {
    "#compose": ("dialog", "Compose"),
    "#compose-token": ("textbox", "Device token"),
    "#compose-type": ("combobox", "Push type"),
    "#compose-json": ("textbox", "Payload as JSON"),
    "#compose-findings": ("group", "Findings"),
    "#compose-mutable": ("checkbox", "mutable-content"),
}
PLANS = {
    "#plans": ("dialog", "Planned answers"),
    "#plan-list": ("list", "Planned answers"),
    "#plan-usual": ("combobox", "Answer over HTTP/2"),
    "#plan-chance": ("textbox", "Chance in %"),
    "#plan-drop": ("checkbox", "Drop the connection"),
}


@pytest.mark.interop
class InboxPageTests(TestCase):
    """What a developer sees and does."""

    def setUp(self) -> None:
        """Start a simulator."""
        if CHROMIUM is None or DRIVER is None:
            raise SkipTest("chromium and chromedriver are not installed")
        [web] = reserve()  # no other program is given it while a test has nothing listen there
        self.start(web)

    def start(self, web: int) -> None:
        """Start a simulator, whose page is at a port, and connect to it."""
        self.simulator = SimulatorProcess("com.example.dinner", ["--web", str(web)])
        self.simulator.start()
        self.addCleanup(self.simulator.stop)
        gateway = Gateway.http2(HOST, self.simulator.ports["http2"], trust_root=self.simulator.files["ca"].read_bytes())
        key = ProviderToken.from_file(self.simulator.files["key"], self.simulator.key_id, self.simulator.team_id)
        self.client = APNSClient(key, gateway, topic=self.simulator.topic)
        self.addCleanup(self.client.close)
        self.url = f"http://127.0.0.1:{self.simulator.ports['web']}/"

    @contextmanager
    def browsing(self, width: int = 1440) -> Iterator[Browser]:
        """Open the page; afterwards the console has no errors, and nothing came from elsewhere."""
        browser = Browser(width)
        try:
            browser.open(self.url)
            browser.until(lambda: browser.text("#link") == "live")
            browser.run(WATCH)
            yield browser
            self.assertEqual(browser.complaints(), [])
            self.assertEqual(browser.run(OUTSIDE), [])
        finally:
            browser.close()

    def send(self, token: str = ANN, **keywords: Any) -> None:
        """Send a notification."""
        self.client.send(Notification(**keywords), [token])

    def ask(self, path: str, method: str = "GET", body: object = None) -> Any:
        """Ask the control API."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)

    def latest(self) -> Mapping[str, Any]:
        """Return what the simulator says of the latest notification."""
        found: Mapping[str, Any] = self.ask("v1/received?limit=1")["received"][0]
        return found

    def shows(self, browser: Browser, subject: str) -> None:
        """Wait until a notification is shown."""
        browser.until(lambda: browser.text("#subject") == subject)

    def picture(self, browser: Browser, name: str) -> None:
        """Take a picture, if pictures are asked for."""
        if PICTURES:
            browser.prefer_stillness()
            browser.photograph(Path(PICTURES) / f"{name}.png")

    def test_received(self) -> None:
        """What comes is shown at once, with everything that the simulator knows of it, and found by the search."""
        with self.browsing() as browser:
            self.assertIn("Nothing has come yet", browser.text("#empty"))
            self.send(alert={"title": "Dinner", "body": "The table is set"}, sound="bell.caf", extra={"price": 12.5})
            self.shows(browser, "Dinner")
            entry = self.latest()
            self.assertIn(entry["topic"], browser.text("#meta"))
            self.assertIn("200 accepted", browser.text("#verdict"))
            payload = browser.text("#payload")
            self.assertEqual(json.loads(payload), entry["payload"])
            self.assertIn('\n    "alert": {\n      "title": "Dinner",\n', payload)
            self.assertRegex(browser.text("#size-text"), r"^\d+ of 4,096 bytes, \d %$")
            for name, value in entry["headers"].items():
                self.assertEqual(value in browser.text("#headers"), name != "authorization", name)
            for value in (entry["provider_token"]["key_id"], entry["provider_token"]["team_id"], "not kept"):
                self.assertIn(value, browser.text("#bearer"))
            for value in (f"number {entry['connection']}", entry["client"]["address"], "HTTP/2"):
                self.assertIn(value, browser.text("#way"))
            browser.run("document.querySelector('[data-form=octets]').click()")
            self.assertRegex(browser.text("#payload"), r'^0000  7b 22 .{41}  \{"')
            self.send(BEN, alert="أهلا", push_type="alert")
            self.shows(browser, "أهلا")
            self.assertEqual(browser.run("return document.querySelector('#subject').dir"), "auto")
            browser.run(
                "const s = document.querySelector('#search'); s.value = 'PRICE dinner';"
                "s.dispatchEvent(new Event('input', {bubbles: true}))"
            )
            self.assertEqual(browser.text("#count"), "1 of 2")
            self.assertEqual(browser.run("return document.querySelectorAll('[role=option]').length"), 1)

    def test_phone(self) -> None:
        """The verdict and the phone say what the simulator says, in any direction of writing, and of texts by key."""
        with self.browsing() as browser:
            self.send(alert={"title": "Anna", "body": "Are you coming tonight?"}, thread_id="kitchen", sound="default")
            self.send(alert="Lunch is served", badge=1)
            self.send(alert={"title": "عشاء", "body": "الطاولة جاهزة"}, thread_id="hall", sound="default")
            self.shown(browser, "عشاء")
            direction = "return getComputedStyle(document.querySelector('.new .shown-body')).direction"
            self.assertEqual(browser.run(direction), "rtl")
            self.ask("v1/strings", "POST", {"text": '"READY" = "%@ is ready";'})
            alert = {
                "title-loc-key": "READY",
                "title-loc-args": ["Dinner"],
                "subtitle": "Table 4",
                "body": "The lasagne is out of the oven. Come before it gets cold.",
            }
            options = {"thread_id": "kitchen", "badge": 3, "sound": "bell.caf", "interruption_level": "time-sensitive"}
            self.send(alert=alert, collapse_id="dinner", **options)
            self.shown(browser, "Dinner is ready")
            self.assertEqual(browser.text(".new .more"), "1 more in kitchen")
            self.assertEqual(browser.text(".new .level"), "Time Sensitive")
            motion = "return getComputedStyle(document.querySelector('.new .card')).animationName"
            self.assertEqual(browser.run(motion), "arrive")
            browser.prefer_stillness()
            browser.until(lambda: browser.run(motion) == "none")
            self.picture(browser, "inbox")
            self.send(alert={**alert, "body": "It gets cold"}, collapse_id="dinner", **options)
            browser.until(lambda: browser.text(".new .shown-body") == "It gets cold")
            self.assertEqual(browser.text(".new .more"), "1 more in kitchen")
            browser.run("document.querySelector('[data-screen=home]').click()")
            self.assertEqual(browser.text(".banner .shown-title"), "Dinner is ready")
            self.assertEqual(browser.text("#phone .badge"), "3")

    def shown(self, browser: Browser, title: str) -> None:
        """Wait for a notification; list, verdict and phone then say the same of it as the control API."""
        self.shows(browser, title)
        entry = self.latest()
        shown = entry["presentation"]
        self.assertEqual(shown["title"], title)
        self.assertEqual(browser.text("[aria-selected=true] .tag"), entry["outcome"])
        lines = browser.run("return [...document.querySelectorAll('#verdict dd')].map((each) => each.textContent)")
        self.assertEqual((lines[0], lines[2]), ("200 accepted", entry["why"]))
        self.assertTrue(lines[1].startswith(entry["outcome"].capitalize()), lines[1])
        codes = "return [...document.querySelectorAll('#findings .code')].map((each) => each.textContent)"
        self.assertEqual(sorted(browser.run(codes)), sorted(each["code"] for each in entry["findings"]))
        for part in filter(shown.get, ("title", "subtitle", "body")):
            self.assertEqual(browser.text(f".new .shown-{part}"), shown[part])

    def test_activity(self) -> None:
        """The card of a Live Activity has its values, counts down to being stale, and stays until it is dismissed."""
        topic, now = self.simulator.topic, int(time.time())
        with self.browsing() as browser:
            browser.prefer_dark()
            browser.run("document.querySelector('#dark').click()")
            self.client.send(
                Notification.live_activity_start(
                    topic,
                    attributes_type="Match",
                    attributes={"home": "Ajax", "away": "Feyenoord"},
                    content_state={"score": "0 : 0"},
                    timestamp=now,
                    stale_date=now + 600,
                    alert={"title": "Kick-off", "body": "Ajax against Feyenoord"},
                ),
                [ANN],
            )
            browser.until(lambda: browser.text("#verdict").count("Activity started"))
            for text in ("Match", "home", "Ajax", "score", "0 : 0"):
                self.assertIn(text, browser.text(".activity"))
            self.assertRegex(browser.text(".activity .status"), r"^Active · stale in \d+ min \d+ s · ends in \d+ h")
            self.picture(browser, "inbox-activity")
            self.send(alert="Meanwhile")
            self.shows(browser, "Meanwhile")
            self.assertIn("0 : 0", browser.text(".activity"))
            state = {"score": "2 : 1"}
            end = Notification.live_activity_end(topic, content_state=state, timestamp=now + 1, dismissal_date=now - 60)
            self.client.send(end, [ANN])
            browser.until(lambda: "Activity ended" in browser.text("#verdict"))
            browser.until(lambda: browser.run("return document.querySelectorAll('.activity').length") == 0)

    def test_device(self) -> None:
        """What waits while a device is switched off is shown when it is on again."""
        switch = """
            const choice = document.querySelector("#device-state");
            choice.value = "{}";
            choice.dispatchEvent(new Event("change"));
        """
        self.send(alert="Before")
        with self.browsing() as browser:
            self.shows(browser, "Before")
            browser.until(lambda: browser.run("return document.querySelector('#device-state').value") == "online")
            browser.run(switch.format("offline"))
            browser.until(lambda: self.ask(f"v1/devices/{ANN}")["state"] == "offline")
            self.send(alert="Waiting")
            self.shows(browser, "Waiting")
            self.assertIn("PhoneStored", browser.text("#verdict"))
            self.assertIn("1 at Apple", browser.text("#effects"))
            browser.run(switch.format("online"))
            browser.until(lambda: "PhoneBanner" in browser.text("#verdict"))

    def test_compose(self) -> None:
        """By keyboard one opens the box, types, reads findings, and sends; what came is copied in three forms."""
        self.send(alert="Before")
        with self.browsing() as browser:
            self.shows(browser, "Before")
            browser.press("c")
            browser.until(lambda: browser.run("return document.activeElement.id") == "compose-title")
            browser.press("!")
            self.assertIn('"title": "Dinner!"', browser.run("return document.querySelector('#compose-json').value"))
            browser.run(
                "const each = document.querySelector('#compose-sound'); each.value = 'ping';"
                "each.dispatchEvent(new Event('input'))"
            )
            browser.until(lambda: "SOUND_NO_EXT" in browser.text("#compose-findings"))
            self.picture(browser, "inbox-compose")
            browser.press(ENTER)
            self.shows(browser, "Dinner!")
            self.assertIn("by hand", browser.text("#way"))
            browser.press(ESCAPE)
            browser.run("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
            copied = {}
            for way in ("curl", "txapns", "apns"):
                browser.run(f"window.copied = ''; document.querySelector('[data-copy={way}]').click()")
                copied[way] = browser.until(lambda: browser.run("return copied"))
            self.assertIn(f"https://api.sandbox.push.apple.com/3/device/{ANN}", copied["curl"])
            self.assertEqual(json.loads(copied["apns"])["Simulator Target Bundle"], self.simulator.topic)
            made: dict[str, Any] = {}
            exec(copied["txapns"].rpartition("batch =")[0], made)  # our own page made it
            self.assertEqual(json.loads(made["notification"].body), self.latest()["payload"])

    def test_simulator(self) -> None:
        """Before anything has come the page says where to send, and the compose box has the topic."""
        with self.browsing() as browser:
            for value in (f"port {self.simulator.ports['http2']}", self.simulator.topic, self.simulator.key_id):
                self.assertIn(value, browser.text("#where"))
            browser.press("c")
            browser.until(lambda: browser.run("return document.activeElement.id") == "compose-title")
            self.assertEqual(browser.run("return document.querySelector('#compose-topic').value"), self.simulator.topic)
            self.set(browser, "#compose-type", "voip")
            topic = browser.run("return document.querySelector('#compose-topic').value")
            self.assertEqual(topic, f"{self.simulator.topic}.voip")

    def test_answers(self) -> None:
        """Answers are planned, listed as they are given, and removed; a mistake is said."""
        self.send(alert="Before")
        with self.browsing() as browser:
            self.shows(browser, "Before")
            browser.run("document.querySelector('#planning').click()")
            self.assertEqual(browser.run("return document.querySelector('#plan-token').value"), ANN)
            self.set(browser, "#plan-usual", "410 Unregistered")
            for name, value in (("times", "2"), ("chance", "100"), ("error_packet", "8")):
                self.set(browser, f"#plan-{name}", value)
            browser.press(ENTER)
            self.assertEqual(browser.run("return document.activeElement.id"), "plan-usual")
            browser.run("document.querySelector('#plans [type=submit]').click()")
            listed = "410 Unregistered, error packet 8 · for token a1b2c3d4…c3d4 · 2 more times, given 0 timesRemove"
            browser.until(lambda: browser.text("#plan-list") == listed)
            self.picture(browser, "inbox-answers")
            [plan] = self.ask("v1/answers")["answers"]
            facts = {name: plan[name] for name in ("token", "status", "reason", "error_packet", "times", "chance")}
            wanted = {"token": ANN, "status": 410, "reason": "Unregistered", "error_packet": 8, "times": 2, "chance": 1}
            self.assertEqual(facts, wanted)
            self.send(alert="Refused")
            browser.until(lambda: "1 more times, given 1 times" in browser.text("#plan-list"))
            self.assertEqual(self.latest()["answer"], {"status": 410, "reason": "Unregistered"})
            self.set(browser, "#plan-chance", "120")
            browser.run("document.querySelector('#plans [type=submit]').click()")
            browser.until(lambda: browser.text("#plan-problem") == "chance must be a number from 0 to 1")
            browser.run("document.querySelector('#plan-list button').click()")
            browser.until(lambda: not browser.run("return document.querySelector('#plan-none').hidden"))
            self.assertEqual(self.ask("v1/answers"), {"answers": []})
            self.assertTrue(browser.run("return document.querySelector('#plan-all').hidden"))
            browser.press(ESCAPE)
            # The browser itself says in the console that a request was refused.
            self.assertRegex("".join(browser.complaints()), "^[^ ]+/v1/answers - .*status of 400 [^ ]* ?[^ ]*$")

    def set(self, browser: Browser, selector: str, value: str) -> None:
        """Give a control a value, as its user does."""
        browser.run(
            f"const each = document.querySelector({json.dumps(selector)}); each.value = {json.dumps(value)};"
            "each.dispatchEvent(new Event('input', {bubbles: true}));"
            "each.dispatchEvent(new Event('change', {bubbles: true}))"
        )

    def test_settings(self) -> None:
        """Every setting of a device that the control API has can be changed on the page."""
        self.send(alert="Before")
        with self.browsing() as browser:
            self.shows(browser, "Before")
            browser.until(lambda: browser.run("return document.querySelector('#device-platform').value") == "iOS")
            device = self.ask(f"v1/devices/{ANN}")
            controls = set(
                browser.run("return [...document.querySelectorAll('#switches [id]')].map((each) => each.id)")
            )
            shown = {each.removeprefix("device-") for each in controls}
            known = {"environment", "platform", "version", "topic", "token_kind", "token_outdated", "state", "locked"}
            known |= {"foreground", "force_quit", "joined", "badge", "keeps_all", *device["settings"]}
            # The app's sounds, strings and types of activities are more than a control has room for.
            known |= {f"app-{name}" for name in device["app"]} - {"app-sounds", "app-strings", "app-activities"}
            self.assertEqual(shown, known)
            for selector, value, path in (
                ("#device-platform", "macOS", ("platform",)),
                ("#device-version", "14.2", ("version",)),
                ("#device-environment", "sandbox", ("environment",)),
                ("#device-token_kind", "voip", ("token_kind",)),
                ("#device-badge", "7", ("badge",)),
                ("#device-focus_criteria", "work, home", ("settings", "focus_criteria")),
                ("#device-app-categories", "GAME", ("app", "categories")),
            ):
                self.set(browser, selector, value)
                written = {"version": [14, 2], "badge": 7, "focus_criteria": ["home", "work"], "categories": ["GAME"]}
                self.becomes(browser, path, written.get(path[-1], value))
            browser.run("document.querySelector('#device-app-capabilities [value=calls]').click()")
            capabilities = [each for each in device["app"]["capabilities"] if each != "calls"]
            self.becomes(browser, ("app", "capabilities"), capabilities)
            self.set(browser, "#device-environment", "")
            self.becomes(browser, ("environment",), None)
            browser.run("document.querySelector('#device-critical').click()")
            self.becomes(browser, ("settings", "critical"), False)

    def becomes(self, browser: Browser, path: Sequence[str], value: object) -> None:
        """Wait until a field of the device has a value."""

        def has() -> bool:
            found = self.ask(f"v1/devices/{ANN}")
            for name in path:
                found = found[name]
            return bool(found == value)

        browser.until(has)

    def test_markup(self) -> None:
        """Markup in whatever is shown is text: it makes no element, runs nothing, and loads nothing."""
        evil = "<script>hacked=1</script><img src=x onerror=hacked=1><svg onload=hacked=1>"
        alert = {"title": evil, "subtitle": evil, "body": evil, "loc-key": evil, "loc-args": [evil]}
        content = {
            "aps": {"alert": alert, "thread-id": evil, "category": evil, "sound": evil, evil: evil},
            evil: [evil],
        }
        headers = {
            "apns-topic": evil,
            "apns-push-type": "alert",
            "apns-collapse-id": evil,
            "user-agent": evil,
            evil: evil,
        }
        activity = {"timestamp": 1, "event": "start", "attributes-type": evil, "attributes": {evil: evil}}
        activity |= {"content-state": {evil: {evil: evil}}, "alert": {"title": evil, "body": evil}}
        topic = f"{self.simulator.topic}.push-type.liveactivity"
        live = {"apns-topic": topic, "apns-push-type": "liveactivity", "apns-priority": "10"}
        good = {"apns-topic": self.simulator.topic, "apns-push-type": "alert", "apns-collapse-id": evil[:60]}
        pushes: list[dict[str, Any]] = [
            {"token": ANN, "headers": headers, "payload": content},
            {"token": ANN, "headers": good, "payload": content},
            {"token": ANN, "headers": live, "payload": {"aps": activity}},
            {"token": evil, "headers": {**good, "apns-push-type": evil}, "payload": evil},
            {"token": ANN, "headers": good, "payload": content},
        ]
        self.ask("v1/answers", "POST", {"status": 500, "reason": evil, "push_type": evil, "topic": evil})
        self.ask("v1/answers", "POST", {"status": 400, "reason": evil, "topic": evil})
        self.ask("v1/strings", "POST", {"strings": {evil: evil}})
        self.ask(f"v1/devices/{ANN}", "PUT", {"topic": "", "app": {"categories": [evil]}})
        with self.browsing() as browser:
            before = browser.run("return document.querySelectorAll('script, img, svg').length")
            for push in pushes:
                number = f"Number {self.ask('v1/push', 'POST', push)['id']} "
                browser.until(partial(self.begins, browser, "#meta", number))
                for screen in ("home", "lock"):
                    browser.run(f"document.querySelector('[data-screen={screen}]').click()")
            self.assertEqual(browser.text("#subject"), evil)
            self.assertIn(evil, browser.text(".new .shown-title"))
            self.assertIn(evil, browser.text(".activity"))
            for opening, filled in (("#again", "#compose-findings"), ("#planning", "#plan-list")):
                browser.run(f"document.querySelector('{opening}').click()")
                browser.until(partial(browser.text, filled))
                browser.run("document.querySelectorAll('dialog').forEach((each) => each.close())")
            self.assertIn(evil, browser.text("#plan-list"))
            self.assertEqual(browser.run("return document.querySelectorAll('script, img, svg').length"), before)
            self.assertEqual(browser.run("return document.querySelectorAll('[onerror], [onload]').length"), 0)
            self.assertFalse(browser.run("return 'hacked' in window"))

    def begins(self, browser: Browser, selector: str, text: str) -> bool:
        """Whether the text of an element begins with this."""
        return browser.text(selector).startswith(text)

    def test_screen_reader(self) -> None:
        """A screen reader is told what each of the main controls is, and what it is for."""
        self.send(alert={"title": "Dinner", "body": "The table is set"})
        with self.browsing() as browser:
            self.shows(browser, "Dinner")
            browser.until(lambda: browser.run("return document.querySelector('#device-platform').value") == "iOS")
            browser.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            self.told(browser, MAIN)
            self.assertIn("Dinner", browser.label("#rows [role=option]"))
            unnamed = [
                each
                for each in browser.run(CONTROLS)
                if browser.run(f"return document.getElementById('{each}').checkVisibility()")
                and not browser.label(f"#{each}")
            ]
            self.assertEqual(unnamed, [])
            browser.run("document.querySelector('#write').click()")
            self.told(browser, COMPOSE)
            browser.run("document.querySelector('#compose').close(); document.querySelector('#planning').click()")
            self.told(browser, PLANS)

    def told(self, browser: Browser, wanted: Mapping[str, tuple[str, str]]) -> None:
        """Compare what a screen reader is told."""
        found = {selector: (browser.role(selector), browser.label(selector)) for selector in wanted}
        self.assertEqual(found, wanted)

    def test_started_anew(self) -> None:
        """A page that is kept open shows what a simulator has that was started anew at the same port, and only that."""
        browser = Browser(1440)
        try:
            browser.open(self.url)
            for text in ("Once", "Twice"):
                self.send(alert=text)
                self.shows(browser, text)
            self.client.close()
            self.simulator.stop()
            browser.until(lambda: "reconnecting" in browser.text("#link"))
            self.start(self.simulator.ports["web"])
            self.send(alert="Anew")
            self.shows(browser, "Anew")
            self.assertEqual((browser.text("#link"), browser.text("#count")), ("live", "1 received"))
        finally:
            browser.close()

    def test_keyboard(self) -> None:
        """The keyboard alone reaches everything, with a visible focus, and opens, searches and composes."""
        self.send(alert="First")
        self.send(alert="Second")
        with self.browsing() as browser:
            self.shows(browser, "Second")
            reached = []
            for _ in range(17):
                browser.press(TAB)
                reached.append(browser.run("return document.activeElement.id || document.activeElement.textContent"))
                outline = "return getComputedStyle(document.activeElement).outlineStyle"
                self.assertNotEqual(browser.run(outline), "none", reached[-1])
            expected = ["Skip to the notification", "write", "planning", "strings", "clear", "search"]
            self.assertEqual(reached[:11], [*expected, "type", "outcome", "grade", "follow", "rows"])
            self.assertEqual(reached[-1], "Octets")
            browser.run("document.querySelector('#rows').focus()")
            browser.press(DOWN)
            self.shows(browser, "First")
            active = "const each = document.querySelector('#rows'); return each.getAttribute('aria-activedescendant')"
            chosen = browser.run(f"{active}".replace("return ", "return document.getElementById(") + ").ariaSelected")
            self.assertEqual(chosen, "true")
            self.send(alert="Third")
            browser.until(lambda: browser.text("#count") == "3 received")
            self.assertEqual(browser.text("#subject"), "First")
            browser.press(ENTER)
            self.assertEqual(browser.run("return document.activeElement.id"), "detail")
            browser.press("/")
            self.assertEqual(browser.run("return document.activeElement.id"), "search")

    def test_narrow(self) -> None:
        """On a narrow screen list and detail are pages of their own, and nothing overflows sideways."""
        self.send(alert={"title": "Long", "body": "word" * 200}, thread_id="t" * 60)
        with self.browsing(390) as browser:
            self.shows(browser, "Long")
            for view in ("list", "detail"):
                self.assertEqual(browser.run("return document.body.dataset.view"), view)
                self.assertEqual(browser.run("return document.documentElement.scrollWidth"), 390)
                self.picture(browser, f"narrow-{view}")
                browser.run("document.querySelector('#rows').focus()")
                browser.press(ENTER)
            browser.press(ESCAPE)
            self.assertEqual(browser.run("return document.body.dataset.view"), "list")

    def test_burst(self) -> None:
        """Of thousands the list stays short, and the latest is shown; how smooth that was is printed."""
        with self.browsing() as browser:
            self.send(alert="Ready")
            sent = browser.run("return Date.now()")
            self.send(alert="Soon")
            self.shows(browser, "Soon")
            delay = browser.run("return seen.Soon") - sent
            triples = ((n, Notification(alert=f"Number {n}", sound="default"), f"{n % 50:064x}") for n in range(BURST))
            batch = self.client.send_many(triples)
            self.assertEqual(batch.accepted, BURST)
            last = self.latest()["payload"]["aps"]["alert"]
            self.shows(browser, last)
            self.assertEqual(browser.text("#count"), f"{BURST:,} received")
            self.assertLess(browser.run("return document.querySelectorAll('[role=option]').length"), 40)
            tasks = browser.run("return tasks")
            longest = max(tasks, default=0)
            print(f"\nseen after {delay} ms; {BURST} at once: {len(tasks)} long tasks, the longest {longest} ms")  # noqa: T201
