"""Tests for the files of the inbox's page; a browser tests how it looks and works."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT
from txapns.devices.push import SUFFIXES
from txapns.devices.rules.request import PUSH_TYPES
from txapns.simulator.web.pages import pages

__all__ = ["PageTests"]

STATIC = PROJECT / "txapns/simulator/web/static"


class Outline(HTMLParser):
    """
    What a page consists of.

    :ivar elements: the elements and their attributes, in order.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.elements.append((tag, dict(attributes)))

    def values(self, name: str) -> list[str]:
        """Return all values of an attribute."""
        return [attributes[name] or "" for _, attributes in self.elements if name in attributes]


class PageTests(SynchronousTestCase):
    """The page, its styles and its modules."""

    def setUp(self) -> None:
        """Read the page."""
        self.page = Outline((STATIC / "index.html").read_text())

    def test_nothing_inline(self) -> None:
        """There are no inline scripts, styles or handlers, which the policy forbids."""
        for tag, attributes in self.page.elements:
            self.assertNotEqual(tag, "style")
            self.assertEqual(tag == "script", "src" in attributes and tag != "img")
            self.assertEqual([name for name in attributes if name == "style" or name.startswith("on")], [])

    def test_nothing_from_elsewhere(self) -> None:
        """Everything that the files lead to is among those that the simulator serves."""
        served = {path.decode() for path in pages()}
        for lead in self.page.values("src") + self.page.values("href"):
            self.assertIn(lead if lead.startswith("#") else f"/{lead}", served | {"#detail", "#phone-title"})
        for file in STATIC.iterdir():
            text = file.read_text().replace("http://www.w3.org/2000/svg", "").replace("https://api.sandbox", "")
            self.assertNotIn("://", text, file.name)
            self.assertNotIn("@import", text, file.name)
            for word in ("innerHTML", "outerHTML", "insertAdjacent", "eval(", "document.write"):
                self.assertNotIn(word, text, file.name)
            for module in re.findall(r'from "\./([\w.]+)"', text):
                self.assertIn(f"/{module}", served, file.name)

    def test_facts(self) -> None:
        """What the page knows of push types is what the rules know, and no file says it again."""
        facts = pages()[b"/facts.js"].body.decode()
        found = dict(re.findall(r"^export const (\w+) = (.*);$", facts, re.MULTILINE))
        self.assertEqual(json.loads(found["SUFFIXES"]), SUFFIXES)
        self.assertEqual(set(json.loads(found["TYPES"])), PUSH_TYPES)
        self.assertEqual(json.loads(found["LIMITS"]), {"": 4_096, "voip": 5_120, "broadcast": 5_120})
        for file in STATIC.glob("*.js"):
            text = file.read_text()
            for word in (*[f'"{suffix}"' for suffix in SUFFIXES.values()], "4096", "5120"):
                self.assertNotIn(word, text, file.name)

    def test_labelled(self) -> None:
        """What refers to an element by its identifier refers to one that there is, once."""
        identifiers = self.page.values("id")
        self.assertEqual(len(set(identifiers)), len(identifiers))
        script = "".join(file.read_text() for file in STATIC.glob("*.js"))
        for names in self.page.values("aria-labelledby"):
            for name in names.split():
                self.assertTrue(name in identifiers or f'id: "{name}"' in script, name)

    def test_places(self) -> None:
        """The modules look only for elements that there are."""
        identifiers = self.page.values("id")
        for file in STATIC.glob("*.js"):
            for name in re.findall(r'place\("([\w-]+)"\)', file.read_text()):
                self.assertIn(name, identifiers, file.name)

    def test_contrast(self) -> None:
        """Text has a contrast of 4.5 to 1 or better, in light and dark mode."""
        palettes = re.findall(r":root \{(.*?)\}", (STATIC / "inbox.css").read_text(), re.DOTALL)
        self.assertEqual(len(palettes), 2)
        for palette in palettes:
            colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", palette))
            names = ("text", "muted", "accent", "ok", "warn", "bad")
            pairs = [(name, back) for name in names for back in ("page", "card")]
            pairs += [(name, f"{name}-back") for name in ("ok", "warn", "bad")] + [("text", "plain-back")]
            for name, back in pairs:
                bright, dark = sorted((_luminance(colours[name]), _luminance(colours[back])), reverse=True)
                self.assertGreaterEqual((bright + 0.05) / (dark + 0.05), 4.5, f"{name} on {back}")


def _luminance(colour: str) -> float:
    """Compute the relative luminance of a colour (WCAG 2.2)."""
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
