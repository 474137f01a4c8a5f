"""
Tests for :mod:`txapns.daemon.operations.status_page`: what is on the page. How it looks and works is tested in a
browser.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests import PROJECT
from tests.daemon.admin_world import AdminWorld
from tests.daemon.dispatch_world import DEAD, token
from txapns.daemon.operations.status_page import TABLES, Cell, View, _Subscriber, view_of
from txapns.daemon.sending.webhook import WebhookState

__all__ = ["ColourTests", "ListenersTests", "PageTests", "ViewTests"]

STATIC = PROJECT / "txapns/daemon/operations/static"
DAY = 86_400.0


class Outline(HTMLParser):
    """
    What a page consists of.

    :ivar tags: how often there is which element.
    :ivar attributes: the names of all attributes, and what those that lead somewhere say.
    :ivar text: the text.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.attributes: set[str] = set()
        self.leads: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes.update(name for name, _ in attributes)
        self.leads.update(value or "" for name, value in attributes if name in ("href", "src"))

    def handle_data(self, data: str) -> None:
        """Text."""
        self.text += data


class StatusTestCase(SynchronousTestCase):
    """What the tests have in common."""

    def setUp(self) -> None:
        """There is a gateway with one app."""
        self.world = AdminWorld(delay=0.03)
        self.addCleanup(self.world.close)

    def view(self) -> View:
        """Look at the page as it is now."""
        self.world.advance(2.0)
        found = self.world.result(self.world.status.view())
        assert isinstance(found, View)
        return found

    def cells(self, table: str) -> list[list[str]]:
        """Read a table."""
        return [[cell.text for cell in row] for row in self.view().tables[table]]


class ViewTests(StatusTestCase):
    """What stands where."""

    def test_ready(self) -> None:
        """Where nothing is wrong the page says so, and little else."""
        view = self.view()
        self.assertEqual((view.state.text, view.state.kind, view.state.faults), ("Ready", "ok", ()))
        self.assertEqual([figure.text for figure in view.figures][:3], ["0", "–", "0"])
        self.assertEqual((view.tables["refusals"], view.tables["minutes"]), ([], []))

    def test_rows(self) -> None:
        """Each row of a table has as many cells as there are columns."""
        self.world.take([token(1), DEAD])
        for _ in range(70):
            self.world.advance(1.0)
        for name, rows in self.view().tables.items():
            self.assertEqual({len(row) for row in rows}, {len(TABLES[name][0])}, name)

    def test_work(self) -> None:
        """What was done is counted, for the app and for each minute; tokens that were refused are shortened."""
        self.world.take([token(n) for n in range(8)] + [DEAD])
        for _ in range(70):
            self.world.advance(1.0)
        self.assertEqual(self.cells("apps")[0][:8], ["chess", "Working", "0", "–", "0", "1 ready", "8", "1"])
        self.assertEqual(self.cells("minutes")[-1][1:], ["9", "8", "1", "0"])
        [refusal] = self.cells("refusals")
        self.assertEqual(refusal[1:], ["chess", "dddd…dddd", "410", "Unregistered"])
        self.assertEqual(sum(self.view().rates[1].points) * 10, 8)

    def test_not_ready(self) -> None:
        """Why it is not ready is the first thing to see."""
        self.world.apps.remove("chess")
        self.world.survey.stopping = True
        self.assertEqual(self.view().state.kind, "bad")
        self.assertEqual(self.view().state.faults, ("the daemon is shutting down", "there is no app"))

    def test_not_all_well(self) -> None:
        """An app or a webhook with something wrong is told there, too, though the daemon is ready."""
        self.world.problems["news"] = "there is no certificate"
        overview = self.world.result(self.world.survey.take())
        [hook] = overview.webhooks
        state = WebhookState("crm", 7, 0.0, "the receiver answered 500", gave_up=False)
        ill = attrs.evolve(overview, webhooks=(attrs.evolve(hook, state=state, lasting=300.0),))
        view = view_of(ill, self.world.history, 0.0)
        self.assertEqual(view.state.kind, "warn")
        self.assertEqual(view.state.faults, ("news: there is no certificate", "webhook crm: the receiver answered 500"))
        expected = [Cell("crm"), Cell("the receiver answered 500 (for 5 min)", "warn"), Cell("0"), Cell("7")]
        self.assertEqual(view.tables["webhooks"], [expected])
        gave_up = attrs.evolve(
            ill, webhooks=(attrs.evolve(hook, state=attrs.evolve(state, gave_up=True), backlog=None),)
        )
        row = view_of(gave_up, self.world.history, 0.0).tables["webhooks"][0]
        self.assertEqual((row[1].kind, row[2].text), ("bad", "unknown"))
        self.assertIn("next start", row[1].text)

    def test_certificates(self) -> None:
        """How soon a certificate expires is said in words, and marked at 30, 7 and 1 days."""
        overview = self.world.result(self.world.survey.take())
        for days, text, kind in (
            (40.0, "in 40 days", ""),
            (30.0, "in 30 days", "notice"),
            (7.5, "in 7 days", "notice"),
            (6.5, "in 6 days", "warn"),
            (1.5, "in a day", "warn"),
            (0.9, "within a day", "bad"),
            (-3.0, "expired", "bad"),
        ):
            [app] = overview.apps
            found = attrs.evolve(overview, apps=(attrs.evolve(app, expires=overview.at + days * DAY),))
            view = view_of(found, self.world.history, 0.0)
            cell = view.tables["apps"][0][-1]
            self.assertEqual((cell.text.split(", ")[1], cell.kind), (text, kind))
            self.assertRegex(cell.text, r"^20\d\d-\d\d-\d\d, ")
            self.assertEqual(view.figures[-1].text, text)
            self.assertEqual(view.state.kind, "warn" if kind == "bad" else "ok")

    def test_keys(self) -> None:
        """A signing key does not expire."""
        self.world.add_app("chess", credential=self.world.simulator.provider_token())
        self.assertEqual((self.cells("apps")[0][-1], self.view().figures[-1].text), ("none", "–"))


class PageTests(StatusTestCase):
    """The page as it is sent."""

    def page(self) -> str:
        """Get it."""
        self.world.advance(2.0)
        text = self.world.result(self.world.status.html())
        assert isinstance(text, bytes)
        return text.decode()

    def test_structure(self) -> None:
        """It has landmarks, one main heading, and a caption for each table, and says what language it is in."""
        page = self.page()
        self.assertTrue(page.startswith("<!DOCTYPE html>\n<html"))
        outline = Outline(page)
        for tag in ("header", "main", "footer", "nav", "h1", "title"):
            self.assertEqual(outline.tags[tag], 1, tag)
        self.assertEqual((outline.tags["caption"], outline.tags["table"]), (len(TABLES), len(TABLES)))
        self.assertIn('lang="en"', page)
        self.assertIn('role="status"', page)

    def test_nothing_inline(self) -> None:
        """No script, style or handler stands in it, and nothing comes from elsewhere."""
        outline = Outline(self.page())
        self.assertNotIn("style", outline.tags)
        self.assertEqual([name for name in outline.attributes if name == "style" or name.startswith("on")], [])
        self.assertEqual((outline.tags["script"], outline.tags["link"]), (1, 2))
        leads = {"status.js", "status.css", "icon.svg", "metrics", "readyz", "healthz", "#main"}
        self.assertEqual(outline.leads, leads)

    def test_without_script(self) -> None:
        """All that is known stands in it from the beginning."""
        self.world.take([token(1), DEAD])
        self.world.drain()
        text = Outline(self.page()).text
        for word in ("chess", "Working", "dddd…dddd", "Unregistered", "crm", "Ready"):
            self.assertIn(word, text)

    def test_empty(self) -> None:
        """A table with nothing in it says so."""
        self.world.apps.remove("chess")
        text = Outline(self.page()).text
        self.assertIn(TABLES["apps"][2], text)
        self.assertIn(TABLES["refusals"][2], text)

    def test_escaped(self) -> None:
        """What Apple or an operator writes is text, whatever it looks like."""
        self.world.problems["<script>alert(1)</script>"] = "<b>bold</b>"
        page = self.page()
        self.assertNotIn("<b>", page)
        self.assertEqual(Outline(page).tags["script"], 1)
        self.assertIn("<b>bold</b>", Outline(page).text)

    def test_secrets(self) -> None:
        """Neither whole tokens nor the addresses of webhooks are in it, nor in the events."""
        self.world.take([DEAD])
        self.world.drain()
        for text in (self.page(), self.world.result(self.world.status.json()).decode()):
            self.assertIsNone(re.search("[0-9a-f]{16}", text))
            self.assertNotIn("hush", text)
            self.assertNotIn("horse", text)


class ListenersTests(StatusTestCase):
    """Those who go on looking."""

    def listen(self) -> Any:
        """Have one more."""
        connection = self.world.connect()
        connection.write(b"GET /events HTTP/1.1\r\nHost: gateway\r\n\r\n")
        self.world.advance(0.01)
        return connection

    def events(self, connection: Any) -> list[Any]:
        """Read the events that came since."""
        text = connection.transport.value()
        connection.transport.clear()
        return [json.loads(line[6:]) for line in text.split(b"\n") if line.startswith(b"data: ")]

    def test_fails(self) -> None:
        """A look that fails is logged, and the next event comes all the same."""

        def depth(app: str) -> int:
            raise ValueError("unlucky")

        connection = self.listen()
        self.events(connection)
        working, self.world.queue.depth = self.world.queue.depth, depth  # type: ignore[method-assign]
        self.world.clock.pump([1.0] * 4)
        self.assertEqual((self.events(connection), len(self.flushLoggedErrors(ValueError)) > 0), ([], True))
        self.world.queue.depth = working  # type: ignore[method-assign]
        self.world.clock.pump([1.0] * 4)
        self.assertNotEqual(self.events(connection), [])

    def test_events(self) -> None:
        """There is one at once, and then one every other second, that has all that is on the page."""
        connection = self.listen()
        self.assertIn(b"text/event-stream", connection.transport.value())
        [event] = self.events(connection)
        self.assertEqual(event["tables"]["apps"][0][0], {"text": "chess", "kind": ""})
        self.world.take([token(1)])
        for _ in range(10):
            self.world.advance(1.0)
        events = self.events(connection)
        self.assertEqual(len(events), 5)
        self.assertEqual(events[-1]["tables"]["apps"][0][6]["text"], "1")

    def test_nobody(self) -> None:
        """Where nobody looks, nothing is looked for."""
        connection = self.listen()
        self.assertEqual(len(self.world.status.listeners), 1)
        connection.lose()
        self.assertEqual(len(self.world.status.listeners), 0)
        calls: list[None] = []
        self.world.queue.depths = lambda: calls.append(None)  # type: ignore[assignment, method-assign, func-returns-value]
        self.world.advance(60.0)
        self.assertEqual(calls, [])

    def test_shared(self) -> None:
        """However many look, it is looked for once."""
        connections = [self.listen() for _ in range(20)]
        for each in connections:
            self.events(each)
        self.world.advance(2.0)
        self.assertEqual(len({json.dumps(self.events(each)) for each in connections}), 1)

    def test_slow(self) -> None:
        """Who does not read misses some, and is dropped when he does not for long; the others are not."""
        slow, other, recovering = (self.listen() for _ in range(3))
        for each in (slow, recovering):
            each.transport.producer.pauseProducing()
            self.events(each)
        self.world.advance(2.0)
        self.world.advance(2.0)
        self.assertEqual((self.events(slow), self.events(recovering)), ([], []))
        recovering.transport.producer.resumeProducing()
        for _ in range(6):
            self.world.advance(2.0)
        self.assertTrue(self.events(recovering))
        self.assertEqual([each.transport.disconnected for each in (slow, other, recovering)], [True, False, False])

    def test_heartbeat(self) -> None:
        """Where there is nothing to tell for some time, there is a sign of life."""
        connection = self.listen()
        self.events(connection)
        self.world.queue.depths = Deferred  # type: ignore[method-assign]
        for _ in range(20):
            self.world.advance(1.0)
        self.assertIn(b": still here", connection.transport.value())
        self.assertEqual(self.events(connection), [])

    def test_stop(self) -> None:
        """When the daemon ends, so do the events, and the connection is of use again."""
        connection = self.listen()
        self.world.status.listeners.stop()
        self.assertTrue(connection.transport.value().endswith(b"0\r\n\r\n"))
        self.assertEqual(len(self.world.status.listeners), 0)

    def test_interface(self) -> None:
        """A listener is told when it is too slow."""
        verifyObject(IPushProducer, _Subscriber(None, self.world.clock))  # type: ignore[arg-type]


def luminance(colour: str) -> float:
    """Tell how bright a colour is (WCAG 2.2, relative luminance)."""
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class ColourTests(SynchronousTestCase):
    """The colours of the style."""

    def test_contrast(self) -> None:
        """Text can be read on what is behind it, in the light and in the dark: 4.5 to 1 or better."""
        style = (STATIC / "status.css").read_text()
        palettes = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
        self.assertEqual(len(palettes), 2)
        for palette in palettes:
            colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", palette))
            pairs = [
                (name, back)
                for name in ("text", "muted", "accent", "ok", "notice", "warn", "bad")
                for back in ("page", "card")
            ]
            pairs += [(name, f"{name}-back") for name in ("ok", "notice", "warn", "bad")]
            for name, back in pairs:
                bright, dark = sorted((luminance(colours[name]), luminance(colours[back])), reverse=True)
                self.assertGreaterEqual((bright + 0.05) / (dark + 0.05), 4.5, f"{name} on {back}")

    def test_nothing_from_elsewhere(self) -> None:
        """Neither style nor script nor icon fetches anything."""
        for name in ("status.css", "status.js", "icon.svg"):
            text = (STATIC / name).read_text().replace("http://www.w3.org/2000/svg", "")
            self.assertNotIn("://", text, name)
            self.assertNotIn("@import", text, name)
        self.assertNotIn("innerHTML", (STATIC / "status.js").read_text())
