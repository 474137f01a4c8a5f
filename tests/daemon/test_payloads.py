"""Tests for :mod:`txapns.daemon.payloads`."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns import payload as payloads
from txapns.daemon.payloads import decode
from txapns.errors import InvalidPayload

__all__ = ["DecodeTests"]

# What is nearly JSON: an object, in which some pieces are left out or put in.
_PIECES = st.sampled_from(
    [b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"u", b"d800", b"0", b"-", b".", b"e", b"+"]
)
_OTHERS = st.sampled_from(
    [b"\xed\xa0\x80", b"\xc3", b"\xef\xbb\xbf", b"NaN", b"true", b"\0", b"\n", b" ", b"1" * 4_400]
)
_OBJECTS = st.sampled_from([b'{"a":"b"}', b'{"aps":{"alert":"x","badge":1}}', b'{"a":[1,2.5,-3e5,null,true]}'])
_CHANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1), _PIECES | _OTHERS | st.just(b"")), max_size=4)


def result(read: Callable[[bytes], object], payload: bytes) -> object:
    """Read a payload; returns what it is, or what is wrong with it."""
    try:
        return read(payload)
    except InvalidPayload as error:
        return str(error)


class DecodeTests(SynchronousTestCase):
    """Payloads, read with the parser that is fast."""

    def check(self, payload: bytes) -> None:
        """Read a payload in both ways."""
        self.assertEqual(result(decode, payload), result(payloads.decode, payload))

    @given(_OBJECTS, _CHANGES)
    def test_same(self, payload: bytes, changes: list[tuple[int, int, bytes]]) -> None:
        """It accepts what the library accepts, and says the same of what it does not."""
        for at, left_out, piece in changes:
            payload = payload[:at] + piece + payload[at + left_out :]
        self.check(payload)

    @given(st.binary(max_size=30))
    @example(b'{"a":1e400}')
    @example(b'{"a":' + b"1" * 5_000 + b"}")
    @example(b'{"a":"\\ud800"}')
    @example(b'{"a":' + b"[" * 511 + b"]" * 511 + b"}")
    @example(b'{"a":' + b"[" * 512 + b"]" * 512 + b"}")
    @example(b'{"a":' + b"[" * 5_000)
    @example(b'{"a":1,"a":2}')
    @example(b"[]")
    def test_anything(self, payload: bytes) -> None:
        """So it is with any bytes."""
        self.check(payload)
