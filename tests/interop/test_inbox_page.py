"""The page of the simulator's inbox in headless Chromium."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import SkipTest, TestCase

import pytest

from tests.interop.browser import CHROMIUM, DRIVER, Browser
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


@pytest.mark.interop
class InboxPageTests(TestCase):
    """What a developer sees and does."""

    def setUp(self) -> None:
        """Start a simulator, and connect to it."""
        if CHROMIUM is None or DRIVER is None:
            raise SkipTest("chromium and chromedriver are not installed")
        self.simulator = SimulatorProcess("com.example.dinner")
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
        with urllib.request.urlopen(request, timeout=30) as response:
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
            browser.run("return Promise.all(document.getAnimations().map((each) => each.finished)).then(() => 1)")
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

    def test_keyboard(self) -> None:
        """The keyboard alone reaches everything, with a visible focus, and opens, searches and composes."""
        self.send(alert="First")
        self.send(alert="Second")
        with self.browsing() as browser:
            self.shows(browser, "Second")
            reached = []
            for _ in range(16):
                browser.press(TAB)
                reached.append(browser.run("return document.activeElement.id || document.activeElement.textContent"))
                outline = "return getComputedStyle(document.activeElement).outlineStyle"
                self.assertNotEqual(browser.run(outline), "none", reached[-1])
            expected = ["Skip to the notification", "write", "strings", "clear", "search", "type", "outcome", "grade"]
            self.assertEqual(reached[:10], [*expected, "follow", "rows"])
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
