"""Tests for :mod:`txapns.simulator.strings`."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns.simulator.strings import MalformedStrings, parse_strings

__all__ = ["StringsTests"]


class StringsTests(SynchronousTestCase):
    """``.strings`` files."""

    def test_old(self) -> None:
        """The old form has comments, escapes and keys without quotation marks."""
        text = (
            '\ufeff// first\n/* a "b" = "c"; */\n"one" = "1\\n\\U00e9\\"";two="2" ;\n"th;ree" = "/* no comment */";\n'
        )
        self.assertEqual(parse_strings(text), {"one": '1\né"', "two": "2", "th;ree": "/* no comment */"})

    def test_json(self) -> None:
        """The other form is JSON."""
        self.assertEqual(parse_strings(' {"a": "b"}'), {"a": "b"})
        self.assertEqual(parse_strings(""), {})

    def test_malformed(self) -> None:
        """The message names the line."""
        for text, line in (('"a" = "b";\n"c" "d";', 2), ('"a" = "b"', 1), ('"a', 1), ('\n\n"a" = ;', 3)):
            self.assertIn(f"line {line}", str(self.assertRaises(MalformedStrings, parse_strings, text)))
        for text in ("{", '{"a": 1}'):
            self.assertRaises(MalformedStrings, parse_strings, text)

    @given(st.text(alphabet='ab"=;\\/*{}\n ', max_size=40))
    def test_anything(self, text: str) -> None:
        """Any text is read or refused."""
        with contextlib.suppress(MalformedStrings):
            self.assertIsInstance(parse_strings(text), dict)
