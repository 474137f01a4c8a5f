"""Tests for :mod:`txapns._pushkeys`."""

from __future__ import annotations

import base64

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns._pushkeys import token_of

__all__ = ["PushkeyTests"]


class PushkeyTests(SynchronousTestCase):
    """Device tokens as apps for Matrix write them."""

    @given(st.binary(min_size=32, max_size=100))
    @example(b"\xfb\xff\xbf" * 12)
    def test_same_token(self, token: bytes) -> None:
        """A token is the same in all its forms: hexadecimal and base64, in both alphabets, with and without padding."""
        forms = {token.hex(), token.hex().upper()}
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(token).decode()
            forms |= {text, text.rstrip("=")}
        self.assertEqual({token_of(form) for form in forms}, {token})

    def test_hexadecimal(self) -> None:
        """What is hexadecimal is not read as base64, which it is, too."""
        self.assertEqual(token_of("aB" * 32), b"\xab" * 32)
        self.assertEqual(token_of("abc"), base64.b64decode("abc="))

    def test_neither(self) -> None:
        """Anything else is not a token."""
        for pushkey in (
            "",
            "=",
            "a",
            "aaaaa",
            "a b=",
            "aa\n",
            "é" * 4,
            "\ud800",
            "aa=aa",
            "token:1",
            "QQ===",
            "ab" * 600,
        ):
            self.assertIsNone(token_of(pushkey), pushkey)

    @given(st.text())
    def test_anything(self, pushkey: str) -> None:
        """No text makes it fail."""
        token_of(pushkey)
