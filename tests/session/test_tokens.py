"""Tests for :mod:`txapns._session.tokens`."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns import Notification
from txapns._session.tokens import device_of, triples_of
from txapns.errors import InvalidToken, redact
from txapns.testing import MemorySimulator

HEX = "ab12" * 16
HELLO = Notification(alert="Hello")
BUFFERS: list[Callable[[Any], Any]] = [bytes, bytearray, memoryview]


class DeviceTests(SynchronousTestCase):
    """The bytes of one token."""

    def test_octets(self) -> None:
        """Text is hexadecimal, and bytes are raw, in whatever buffer they come."""
        self.assertEqual([device_of(buffer(bytes(range(32)))) for buffer in BUFFERS], [bytes(range(32))] * 3)
        self.assertEqual([device_of(HEX), device_of(HEX.upper())], [bytes.fromhex(HEX)] * 2)

    def test_hexadecimal_octets(self) -> None:
        """Hexadecimal text as bytes is refused with the remedy, since it would be sent as another token."""
        text = HEX.encode()
        shapes = [text, text.upper(), text * 3, text + b"\n", text + b"\r\n", b"\xef\xbb\xbf" + text]
        shapes += [
            b"<" + text + b">",
            b'"' + text + b'"',
            b"0x" + text,
            text + b"\0",
            b"{length = 32, bytes = 0x" + text + b"}",
        ]
        shapes += [HEX.encode("utf-16"), HEX.encode("utf-16-be"), b":".join(text[i : i + 2] for i in range(0, 64, 2))]
        for shape in shapes:
            for buffer in BUFFERS:
                error = self.assertRaises(InvalidToken, device_of, buffer(shape))
                self.assertIn(f"of {len(shape)} bytes", str(error))
                self.assertIn("token.decode()", str(error))
                self.assertNotIn("ab12", str(error))

    def test_short_octets(self) -> None:
        """Bytes shorter than the text of a token are raw, whatever they look like; so are 64 that are not text."""
        for token in (b"a" * 32, HEX.encode()[:63], bytes(64), b"\xab" * 64, b"g" * 64, b"a" * 63 + b"g" + b"a" * 63):
            self.assertEqual(device_of(token), token)

    def test_other_types(self) -> None:
        """What is neither text nor bytes is refused by its type."""
        for other in (None, 17, [1, 2], object):
            self.assertIn(type(other).__name__, str(self.assertRaises(InvalidToken, device_of, other)))

    @given(st.text() | st.binary())
    @example(HEX.encode())
    def test_anything(self, token: str | bytes) -> None:
        """Any text and any bytes are a token or refused as one, and only text changes its form."""
        try:
            self.assertEqual(device_of(token), bytes.fromhex(token) if isinstance(token, str) else token)
        except InvalidToken as error:
            self.assertNotIn(redact(token).partition("…")[0] or "…", str(error))


class BatchTests(SynchronousTestCase):
    """Tokens on their way through a client."""

    def test_buffers(self) -> None:
        """Tokens in buffers are sent, and their outcomes contain copies, so a batch can be pickled."""
        token = bytes(range(32))
        simulator = MemorySimulator(dead=[token])
        batch = simulator.result(simulator.client().send(HELLO, [buffer(token) for buffer in BUFFERS]))
        self.assertEqual([batch.failed[n].token for n in range(3)], [token] * 3)
        self.assertEqual([type(batch.failed[n].token) for n in range(3)], [bytes] * 3)
        self.assertEqual(len(pickle.loads(pickle.dumps(batch.failed))), 3)

    def test_one(self) -> None:
        """A single token may be a buffer."""
        simulator = MemorySimulator()
        accepted = simulator.result(simulator.client().send_one(HELLO, memoryview(bytes(32))))
        self.assertEqual(accepted.token, bytes(32))

    def test_hexadecimal_octets(self) -> None:
        """A token that is refused for its form stops nothing."""
        simulator = MemorySimulator()
        batch = simulator.result(simulator.client().send(HELLO, [HEX.encode(), HEX]))
        self.assertEqual((batch.accepted, list(batch.unsent)), (1, [0]))
        self.assertIn("token.decode()", str(batch.unsent[0].error))

    def test_no_pair(self) -> None:
        """Two bytes are a token and no pair, and bytes alone are no iterable of tokens."""
        for buffer in BUFFERS:
            self.assertEqual(next(iter(triples_of(HELLO, [buffer(b"ab")])))[0], 0)  # type: ignore[call-overload]
            self.assertRaises(TypeError, triples_of, HELLO, buffer(bytes(32)))


class RedactTests(SynchronousTestCase):
    """Tokens in log lines."""

    def test_buffers(self) -> None:
        """A token is shortened alike in whatever form it is, and what is none is no error."""
        raw = bytes.fromhex(HEX)
        self.assertEqual({redact(form) for form in (HEX, *(buffer(raw) for buffer in BUFFERS))}, {"ab12…ab12"})
        self.assertEqual(redact(17), "…")  # type: ignore[arg-type]
