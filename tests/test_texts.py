"""Tests for :mod:`txapns._texts`."""

from __future__ import annotations

import codecs

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns._texts import encoding_of, first_line, utf8

#: The encodings in which a file may come, each with the mark at its beginning.
ENCODINGS = [
    ("utf-8", b""),
    ("utf-8", codecs.BOM_UTF8),
    ("utf-16-le", codecs.BOM_UTF16_LE),
    ("utf-16-be", codecs.BOM_UTF16_BE),
    ("utf-16-le", b""),
    ("utf-16-be", b""),
]


class TextTests(SynchronousTestCase):
    """Files from an editor, a shell, or Windows."""

    @given(st.text())
    def test_encodings(self, text: str) -> None:
        """A text that begins with ASCII is read in every encoding, with or without a mark."""
        text = "ab" + text
        for encoding, mark in ENCODINGS:
            self.assertEqual(utf8(mark + text.encode(encoding)).decode(), text)

    @given(st.text())
    def test_marks(self, text: str) -> None:
        """Any other text is read if it has a mark."""
        for encoding, mark in ENCODINGS[1:4]:
            self.assertEqual(utf8(mark + text.encode(encoding)).decode(), text)

    @given(st.binary())
    def test_anything(self, content: bytes) -> None:
        """Bytes in no encoding are unchanged, except for a mark."""
        if encoding_of(content) == "utf-8":
            self.assertEqual(utf8(content), content)
        else:
            utf8(content)

    def test_first_line(self) -> None:
        """A passphrase may end with a line end, or with further lines, in any encoding."""
        for encoding, mark in ENCODINGS:
            for content in ("a b", "a b\n", "a b\r\n", "a b\nc\n"):
                self.assertEqual(first_line(mark + content.encode(encoding)), b"a b")
        self.assertEqual(first_line(b"gr\xfc\xdfe\n"), b"gr\xfc\xdfe")
