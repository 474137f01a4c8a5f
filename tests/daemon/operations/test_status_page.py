"""Tests for :mod:`txapns.daemon.operations.status_page`; a browser tests how the page looks and works."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT
from tests.daemon.admin_world import AdminWorld, Nodes
from tests.daemon.dispatch_world import DEAD, token
from txapns.daemon.operations.app_list import Query
from txapns.daemon.operations.view import TABLES

__all__ = ["ColourTests", "PageTests"]

STATIC = PROJECT / "txapns/daemon/operations/static"


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


class PageTests(SynchronousTestCase):
    """The page as it is sent."""

    def setUp(self) -> None:
        """There is a daemon with one app."""
        self.world = AdminWorld(delay=0.03)
        self.addCleanup(self.world.close)

    def page(self) -> str:
        """Fetch the page."""
        self.world.advance(2.0)
        text = self.world.result(self.world.status.html())
        assert isinstance(text, bytes)
        return text.decode()

    def test_structure(self) -> None:
        """It has landmarks, one main heading, a caption for each table, and a language."""
        page = self.page()
        self.assertTrue(page.startswith("<!DOCTYPE html>\n<html"))
        outline = Outline(page)
        for tag in ("header", "main", "footer", "form", "h1", "title"):
            self.assertEqual(outline.tags[tag], 1, tag)
        self.assertEqual(outline.tags["nav"], 2)
        tables = len(TABLES) - 1  # not that of the nodes
        self.assertEqual((outline.tags["caption"], outline.tags["table"]), (tables, tables))
        self.assertIn('lang="en"', page)
        self.assertIn('role="status"', page)

    def test_nodes(self) -> None:
        """The page of a node has its name in the title, and a table of all nodes; other pages do not speak of nodes."""
        self.assertNotIn("node", self.page())
        self.world = AdminWorld(cluster=Nodes)
        self.addCleanup(self.world.close)
        page = self.page()
        self.assertIn("<title>Ready – Push daemon push-1</title>", page)
        self.assertIn('<section aria-labelledby="nodes-title"><h2 id="nodes-title">Nodes</h2>', page)
        text = Outline(page).text
        for word in ("push-1 (this one)", "push-2", "Alive", "the other figures are of this node"):
            self.assertIn(word, text)

    def test_nothing_inline(self) -> None:
        """There are no inline scripts, styles or handlers, and nothing comes from elsewhere."""
        outline = Outline(self.page())
        self.assertNotIn("style", outline.tags)
        self.assertEqual([name for name in outline.attributes if name == "style" or name.startswith("on")], [])
        self.assertEqual((outline.tags["script"], outline.tags["link"]), (1, 2))
        leads = {"status.js", "status.css", "icon.svg", "metrics", "readyz", "healthz", "#main", "", "apps/chess"}
        self.assertEqual(outline.leads, leads)

    def test_without_script(self) -> None:
        """The page is complete without JavaScript."""
        self.world.take([token(1), DEAD])
        self.world.drain()
        text = Outline(self.page()).text
        for word in ("chess", "Working", "dddd…dddd", "Unregistered", "crm", "Ready"):
            self.assertIn(word, text)

    def test_empty(self) -> None:
        """An empty table says so."""
        self.world.apps.remove("chess")
        text = Outline(self.page()).text
        self.assertIn(TABLES["apps"][2], text)
        self.assertIn(TABLES["failures"][2], text)

    def test_many(self) -> None:
        """Of many apps a page shows some, with links to the others; what is searched for stays in the field."""
        for number in range(120):
            self.world.add_app(f"app{number:03}")
        self.world.problems["app117"] = "it is ill"
        page = self.page()
        text = Outline(page).text
        self.assertLess(text.index("app117"), text.index("app000"))
        self.assertIn("1 to 50 of 121", text)
        self.assertNotIn("app050", text)
        self.assertIn("?page=2", Outline(page).leads)
        found = self.world.result(self.world.status.html(Query("APP11", 7)))
        self.assertIn(b'value="APP11"', found)
        self.assertIn("1 to 10 of 10 that match “APP11”", Outline(found.decode()).text)

    def test_in_parts(self) -> None:
        """Between a few rows of the page the reactor has a turn."""
        for number in range(60):
            self.world.add_app(f"app{number:03}")
        self.page()
        done: list[bytes] = []
        self.world.status.html().addCallback(done.append)
        self.assertEqual(done, [])
        self.world.clock.pump([0.0] * 8)
        self.assertEqual(len(done), 1)

    def test_escaped(self) -> None:
        """Text from Apple or an operator is escaped."""
        self.world.problems["<script>alert(1)</script>"] = "<b>bold</b>"
        page = self.page()
        self.assertNotIn("<b>", page)
        self.assertEqual(Outline(page).tags["script"], 1)
        self.assertIn("<b>bold</b>", Outline(page).text)

    def test_secrets(self) -> None:
        """Neither the page nor the events have whole tokens or the addresses of webhooks."""
        self.world.take([DEAD])
        self.world.drain()
        for text in (self.page(), self.world.result(self.world.status.json()).decode()):
            self.assertIsNone(re.search("[0-9a-f]{16}", text))
            self.assertNotIn("hush", text)
            self.assertNotIn("horse", text)


def luminance(colour: str) -> float:
    """Compute the relative luminance of a colour (WCAG 2.2)."""
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class ColourTests(SynchronousTestCase):
    """The style's colours."""

    def test_contrast(self) -> None:
        """Text has a contrast of 4.5 to 1 or better, in light and dark mode."""
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
