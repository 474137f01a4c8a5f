"""Tests for :mod:`txapns.devices.texts`."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.devices.pushes import push
from txapns.devices.texts import Texts, texts_of

__all__ = ["TextsTests"]

STRINGS = {"HI": "Hi %@", "SWAP": "%2$@ beats %1$@", "FULL": "%d %% of %@", "TITLE": "News", "SUB": "of %@"}


class TextsTests(SynchronousTestCase):
    """Texts of alerts."""

    def texts(self, alert: Any, strings: dict[str, str] | None = STRINGS) -> Texts:
        """Find the texts of an alert."""
        return texts_of(push({"alert": alert}), strings)

    def test_plain(self) -> None:
        """Texts that are there are shown; what is no text is not."""
        self.assertEqual(self.texts("Hi"), Texts(body="Hi"))
        alert = {"title": "T", "subtitle": "S", "body": "B"}
        self.assertEqual(self.texts(alert), Texts("T", "S", "B"))
        for nothing in {}, "", 7, [], None, {"body": 7}, {"title": None}:
            self.assertFalse(self.texts(nothing))

    def test_arguments(self) -> None:
        """Arguments are put in one after the other, or by number."""
        for key, arguments, expected in (
            ("HI", ["Ann"], "Hi Ann"),
            ("SWAP", ["Ann", "Bob"], "Bob beats Ann"),
            ("FULL", ["7", "ten"], "7 % of ten"),
            ("HI", ["%@"], "Hi %@"),
            ("HI", [], "Hi %@"),
            ("HI", [None], "Hi <null>"),
            ("SWAP", ["Ann"], "%2$@ beats Ann"),
        ):
            self.assertEqual(self.texts({"loc-key": key, "loc-args": arguments}), Texts(body=expected))

    def test_all_three(self) -> None:
        """Title and subtitle have keys of their own."""
        alert = {
            "title-loc-key": "TITLE",
            "subtitle-loc-key": "SUB",
            "subtitle-loc-args": ["it"],
            "loc-key": "TITLE",
        }
        self.assertEqual(self.texts(alert), Texts("News", "of it", "News"))

    def test_live_activity(self) -> None:
        """In the alert of a Live Activity the texts themselves are objects."""
        alert = {"title": {"loc-key": "HI", "loc-args": ["Ann"]}, "body": {"loc-key": "TITLE"}}
        self.assertEqual(self.texts(alert), Texts("Hi Ann", "", "News"))

    def test_unknown(self) -> None:
        """Where the app lacks the text, or its texts are not known, the key is shown, and it is said."""
        for strings, word in ({}, "one report says"), (None, "not known here"):
            texts = self.texts({"loc-key": "HI", "loc-args": ["Ann"]}, strings)
            self.assertEqual(texts.body, "HI")
            [note] = texts.notes
            self.assertIn(word, note)

    def test_wrong_arguments(self) -> None:
        """Arguments that are not an array of strings are not put in."""
        for arguments in '["Ann"]', {"1": "Ann"}, [7], 7:
            texts = self.texts({"loc-key": "HI", "loc-args": arguments})
            self.assertEqual(texts.body, "Hi %@")
            self.assertEqual(len(texts.notes), 1)

    @given(st.text(alphabet="%@$12d x"), st.lists(st.text()))
    def test_any(self, text: str, arguments: list[str]) -> None:
        """Any text takes any arguments."""
        texts = self.texts({"loc-key": "K", "loc-args": arguments}, {"K": text})
        self.assertIsInstance(texts.body, str)
