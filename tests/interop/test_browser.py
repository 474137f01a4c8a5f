"""The status page of the daemon in headless Chromium."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import SkipTest, TestCase

import pytest

from tests import PROJECT
from tests.daemon.fakes import key_of
from tests.daemon.serve_admin import APPS
from tests.interop.browser import CHROMIUM, DRIVER, Browser
from tests.ports import reserve
from txapns.simulator import Authority

__all__ = ["BrowserTests"]

TAB, SPACE, ENTER = "\ue004", " ", "\ue007"


class Daemon:
    """
    A busy daemon in a process of its own: ``tests/daemon/serve_admin.py``.

    :param port: where its admin endpoint is; left out, anywhere.
    :param options: more options.
    :param seconds: for how long it has been busy.

    :ivar url: the address of its page.
    """

    def __init__(self, port: int = 0, *options: str, seconds: int = 5) -> None:
        command = [sys.executable, "-m", "tests.daemon.serve_admin", f"--port={port}", f"--seconds={seconds}", *options]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
        watch = threading.Timer(120.0, self._process.kill)
        watch.start()
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        watch.cancel()
        assert self.url, "the daemon does not start"

    def tell(self, word: str) -> None:
        """Make something happen."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """Stop it."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()  # it ends when its standard input does
        self._process.wait(120)


@pytest.mark.interop
class BrowserTests(TestCase):
    """What an operator sees and does."""

    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        """Start a daemon."""
        if CHROMIUM is None or DRIVER is None:
            raise SkipTest("chromium and chromedriver are not installed")
        cls.daemon = Daemon(seconds=130)

    @classmethod
    def tearDownClass(cls) -> None:
        """Stop it."""
        cls.daemon.stop()

    @contextmanager
    def browsing(self, width: int = 1280, *, javascript: bool = True) -> Iterator[Browser]:
        """Open the page; afterwards the console has no errors and no violations of the policy."""
        browser = Browser(width, javascript=javascript)
        try:
            browser.open(self.daemon.url)
            if javascript:
                self.live(browser)
            yield browser
            self.assertEqual(browser.complaints(), [])
        finally:
            browser.close()

    def live(self, browser: Browser) -> None:
        """Wait until events have come."""
        browser.until(lambda: browser.text("#link") == "live" and browser.run("return !!document.querySelector('svg')"))

    def test_live(self) -> None:
        """The page updates itself, draws the charts, and is never reloaded."""
        with self.browsing() as browser:
            browser.run("window.mark = 1")
            first = {name: browser.text(name) for name in ("#time", "#apps")}
            browser.until(lambda: all(browser.text(name) != text for name, text in first.items()))
            curves = browser.run(
                "return [...document.querySelectorAll('svg .curve')].map(each => each.getAttribute('d'))"
            )
            self.assertEqual(len(curves), 4)
            self.assertTrue(all(curve.count("L") >= 10 for curve in curves))
            self.assertEqual(browser.run("return window.mark"), 1)

    def test_told(self) -> None:
        """Problems appear at the top, in the title and for screen readers, without a click."""
        with self.browsing() as browser:
            self.assertNotIn("Not ready", browser.text("[role=status]"))
            self.daemon.tell("trouble")
            browser.until(lambda: "the disk is full" in browser.text("[role=status]"))
            self.assertIn("Not ready", browser.run("return document.title"))
            self.daemon.tell("well")
            browser.until(lambda: "Not ready" not in browser.text("[role=status]"))
            self.assertNotIn("Not ready", browser.run("return document.title"))

    def test_same_with_and_without_script(self) -> None:
        """The script makes the same elements, classes and roles as the server."""
        outline = """
            const walk = (each) => [each.localName, each.className, each.getAttribute("role"), each.dataset.label,
                                    [...each.children].map(walk)];
            return JSON.stringify(walk(document.querySelector("#webhooks")));
        """
        with self.browsing(javascript=False) as plain, self.browsing() as live:
            served = plain.run(outline)
            self.assertEqual(json.loads(live.run(outline)), json.loads(served))
            head = "return document.querySelector('#apps tr th').outerHTML"
            self.assertEqual(live.run(head), plain.run(head))

    def test_without_script(self) -> None:
        """Without JavaScript everything is shown as text and tables, and nothing that needs scripts."""
        with self.browsing(javascript=False) as browser:
            self.assertIn("weather.beta", browser.text("#apps"))
            self.assertIn("not live", browser.text("#link"))
            self.assertGreaterEqual(browser.run("return document.querySelectorAll('#minutes tr').length"), 2)
            hidden = "return getComputedStyle(document.querySelector('{}')).display"
            for selector in ("#updating", ".ends"):
                self.assertEqual(browser.run(hidden.format(selector)), "none")

    def test_keyboard(self) -> None:
        """The keyboard reaches all controls in the order of the page, with a visible focus."""
        with self.browsing() as browser:
            browser.run("document.querySelector('#updating').click()")  # an update may put apps in another order
            reached = [""]
            while reached[-1] != "Liveness" and len(reached) < 50:
                browser.press(TAB)
                reached.append(browser.run("return document.activeElement.textContent"))
                outline = "return getComputedStyle(document.activeElement).outlineStyle"
                self.assertNotEqual(browser.run(outline), "none", reached[-1])
            self.assertEqual(reached[1:6], ["Skip to content", "Update live", "As a table", "", "Search"])
            self.assertEqual(sorted(reached[6:10]), sorted(APPS))
            self.assertLessEqual(set(reached[10:-3]), set(APPS))  # those of the latest failures
            self.assertEqual(reached[-3:], ["Metrics", "Readiness", "Liveness"])

    def test_operated(self) -> None:
        """The keyboard opens the table, stops the updates of the page, and starts them again."""
        with self.browsing() as browser:
            for _ in range(2):
                browser.press(TAB)
            browser.press(SPACE)
            self.assertEqual(browser.text("#link"), "not updated")
            self.assertEqual(browser.run("return document.activeElement.textContent"), "Update live")
            time = browser.text("#time")
            self.daemon.tell("trouble")
            self.daemon.tell("well")
            browser.run("return new Promise((done) => setTimeout(done, 3000))")
            self.assertEqual(browser.text("#time"), time)
            browser.press(ENTER)
            browser.until(lambda: browser.text("#time") != time)
            browser.until(lambda: "Not ready" not in browser.text("[role=status]"))
            browser.press(TAB)
            browser.press(ENTER)
            self.assertTrue(browser.run("return document.querySelector('details').open"))

    def test_widths(self) -> None:
        """Nothing overflows sideways, however narrow the screen."""
        out = """
            return [...document.querySelectorAll("main *, header *, footer *")].filter((each) => {
                const box = each.getBoundingClientRect();
                return box.width > 1 && (box.right > innerWidth + 0.5 || box.left < -0.5);
            }).map((each) => each.outerHTML.slice(0, 80));
        """
        with self.browsing() as browser:
            browser.run("document.querySelector('details').open = true")
            for width in (320, 390, 768, 1024, 1280, 1920):
                browser.resize(width)
                self.assertEqual(browser.run("return document.documentElement.scrollWidth"), width)
                self.assertEqual(browser.run(out), [], width)

    def test_search(self) -> None:
        """The keyboard searches the list, whose events then bring only what was found; a page number is kept, too."""
        with self.browsing() as browser:
            self.assertEqual(browser.text("#apps tr:first-child th .value"), "notes")  # its certificate expires
            browser.run("document.querySelector('#search').focus()")
            for letter in "WEATHER":
                browser.press(letter)
            browser.press(ENTER)
            browser.until(lambda: "match" in browser.text("#shown"))
            self.live(browser)
            time = browser.text("#time")
            browser.until(lambda: browser.text("#time") != time)
            self.assertEqual(browser.text("#shown"), "1 to 1 of 1 that match “WEATHER”")
            self.assertEqual(browser.run("return document.querySelectorAll('#apps tr').length"), 1)
            self.assertEqual(browser.run("return document.querySelector('#search').value"), "WEATHER")

    def test_dark(self) -> None:
        """The page follows the preference for dark mode."""
        with self.browsing() as browser:
            background = "return getComputedStyle(document.body).backgroundColor"
            light = browser.run(background)
            browser.prefer_dark()
            browser.until(lambda: browser.run(background) != light)

    def test_key(self) -> None:
        """A key entered as a password is valid for the page and everything it loads."""
        daemon = Daemon(0, "--keys")
        browser = Browser()
        try:
            browser.open(daemon.url.replace("//", f"//any:{key_of('cleaner')}@"))
            self.live(browser)
            self.assertEqual(browser.run("return document.styleSheets.length"), 1)
            self.assertEqual(browser.complaints(), [])
        finally:
            browser.close()
            daemon.stop()

    def test_app(self) -> None:
        """The page of an app is reached, looks up, pauses and resumes by keyboard, with scripts and without."""
        daemon = Daemon(0, "--keys", seconds=60)
        for width, javascript in ((1280, True), (390, False)):
            browser = Browser(width, javascript=javascript)
            try:
                browser.open(daemon.url.replace("//", f"//any:{key_of('boss')}@"))
                self.assertEqual(browser.run("return document.documentElement.scrollWidth"), width)
                if javascript:
                    browser.run("document.querySelector('#updating').click()")  # so that no app moves under the focus
                browser.run("[...document.querySelectorAll('#apps a')].find((each) => each.text == 'chess').focus()")
                browser.press(ENTER)
                browser.until(lambda: browser.text("h1") == "chess")  # noqa: B023
                reached = []
                for _ in range(7):
                    browser.press(TAB)
                    reached.append(browser.run("return document.activeElement.textContent"))
                self.assertEqual(
                    reached, ["Skip to content", "Reload", "All apps", "Pause", "Another credential", "", "Look up"]
                )
                self.assertIn("Bad", browser.text("#failures"))
                browser.run("document.querySelector('#pause').focus()")
                browser.press(ENTER)
                browser.until(lambda: "Paused: by boss" in browser.text("#state"))  # noqa: B023
                browser.run("document.querySelector('#resume').focus()")
                browser.press(ENTER)
                browser.until(lambda: "Paused" not in browser.text("#state"))  # noqa: B023
                browser.run("document.querySelector('#what').focus()")
                for letter in "dd" * 32:
                    browser.press(letter)
                browser.press(ENTER)
                browser.until(lambda: browser.run("return !!document.querySelector('#found')"))  # noqa: B023
                self.assertIn("device token dddd…dddd", browser.text("#found"))
                self.assertIn("410 Unregistered", browser.text("#device"))
                self.assertEqual(browser.run("return document.documentElement.scrollWidth"), width)
                self.assertEqual(browser.complaints(), [])
            finally:
                browser.close()
        daemon.stop()

    def test_credential(self) -> None:
        """The keyboard replaces a credential; what cannot be one is refused on a page that leads back."""
        daemon = Daemon(0, "--keys")
        for app, width, javascript in (("news", 1280, True), ("chess", 390, False)):
            browser = Browser(width, javascript=javascript)
            try:
                browser.open(daemon.url.replace("//", f"//any:{key_of('boss')}@") + f"/apps/{app}")
                self.replace_credential(browser, "nonsense")
                browser.until(lambda: browser.run("return !!document.querySelector('#back')"))  # noqa: B023
                self.assertIn("changed nothing", browser.text("[role=alert]"))
                self.assertEqual(browser.run("return document.documentElement.scrollWidth"), width)
                browser.run("document.querySelector('#back').focus()")
                browser.press(ENTER)
                browser.until(lambda: browser.run("return !!document.querySelector('#figures')"))  # noqa: B023
                self.replace_credential(browser, Authority().p8.decode())
                browser.until(lambda: "ABC123DEFG" in browser.text("body"))  # noqa: B023
                self.assertIn("ABC123DEFG (key)", browser.text("#figures"))
                complaints = [each for each in browser.complaints() if "400 (Bad Request)" not in each]
                self.assertEqual(complaints, [])
            finally:
                browser.close()
        daemon.stop()

    def replace_credential(self, browser: Browser, pasted: str) -> None:
        """Fill in and submit the form with another credential."""
        browser.run("document.querySelector('#manage summary').focus()")
        browser.press(ENTER)
        names = []
        for field, letters in (("file", ""), ("pasted", ""), ("key_id", "ABC123DEFG"), ("team_id", "DEF123GHIJ")):
            browser.press(TAB)
            self.assertEqual(browser.run("return document.activeElement.id"), field)
            names.append(browser.label(f"#{field}"))
            for letter in letters:
                browser.press(letter)
        self.assertEqual(
            names,
            [
                "File: a .p8, PEM or PKCS#12",
                "Or what is in it: a .p8 or PEM",
                "Key ID, for a .p8",
                "Team ID, for a .p8",
            ],
        )
        browser.run(f"document.querySelector('#pasted').value = {json.dumps(pasted)}")
        width = "return document.documentElement.scrollWidth - innerWidth"
        self.assertEqual(browser.run(width), 0)
        browser.press(ENTER)

    def test_nodes(self) -> None:
        """The page of a node among others says so, keeps the table of them up to date, and warns of differences."""
        daemon = Daemon(0, "--nodes")
        wide, narrow = Browser(), Browser(320)
        try:
            for browser in (wide, narrow):
                browser.open(daemon.url)
                self.live(browser)
                self.assertEqual(browser.text("h1"), "Push daemon push-1")
                self.assertIn("– Push daemon push-1", browser.run("return document.title"))
                self.assertEqual(browser.text("#nodes tr:first-child th"), "push-1 (this one)")
            daemon.tell("upgrade")
            for browser in (wide, narrow):
                browser.until(lambda: "different versions" in browser.text("[role=status]"))  # noqa: B023
                self.assertEqual(browser.text("#nodes tr:nth-child(2) td:nth-child(3) .notice"), "0.2")
                self.assertEqual(browser.text("#nodes tr:nth-child(2) td:last-child .warn"), "+4.0 s")
                self.assertEqual(browser.complaints(), [])
            self.assertEqual(narrow.run("return document.documentElement.scrollWidth"), 320)
            label = "return getComputedStyle(document.querySelector('#nodes td'), '::before').content"
            self.assertEqual(narrow.run(label), '"State"')
        finally:
            wide.close()
            narrow.close()
            daemon.stop()

    def test_connected_again(self) -> None:
        """The page says when the daemon is gone, and reconnects when it is back."""
        [port] = reserve()  # no other program is given it meanwhile
        daemon = Daemon(port)
        browser = Browser()
        try:
            browser.open(daemon.url)
            self.live(browser)
            daemon.stop()
            browser.until(lambda: browser.text("#link") == "disconnected; reconnecting")
            daemon = Daemon(port)
            browser.until(lambda: browser.text("#link") == "live")
        finally:
            browser.close()
            daemon.stop()
