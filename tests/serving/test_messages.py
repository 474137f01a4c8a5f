"""Tests for :mod:`txapns._serving.messages`."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns._serving import messages
from txapns._serving.messages import BadBody, Body, ChunkedBody, Head, SizedBody
from txapns._serving.target import BadHead

__all__ = ["BodyTests", "HeadTests"]

END = b"\r\n\r\n"
HEAD = b"GET / HTTP/1.1\r\nHost: h\r\n"

_SOME = [
    *(b"A: b", b"X: \r\r\nContent-Length: 5", b"Host: other", b"Connection: close", b"Expect: 100-continue"),
    *(b"Content-Length: 5", b"Content-Length: 07", b"content-length:%d" % 10**11, b"Content-Length: -1"),
    *(b"Content-Length: ", b"Content-Length: 5\t", b"Content-Length: 5\r\n 6", b"Transfer-Encoding: chunked"),
]


class HeadTests(SynchronousTestCase):
    """Heads."""

    def test_example(self) -> None:
        """The example of the module's docstring is read as it says."""
        assert messages.__doc__ is not None
        example = messages.__doc__.partition("::\n\n")[2].partition("\n\nWith")[0]
        raw = "".join(line.strip() for line in example.split("\n")).replace("␍", "\r").replace("␊", "\n").encode()
        head, _, body = raw.partition(b"\r\n\r\n")
        found = Head(head + END)
        self.assertEqual((found.method, found.target), (b"POST", b"/v1/apps/chess/notifications"))
        self.assertEqual((found.version, found.length, body), (b"HTTP/1.1", 5, b"hello"))
        self.assertEqual(found.fields, {b"host": [b"localhost"], b"content-length": [b"5"]})

    def test_fields(self) -> None:
        """Names are in lower case, values without the spaces around them, and repeated ones are all there."""
        fields = Head(HEAD + b"A:b\r\na: \t c d\xe4 \t\r\nX-Empty:" + END).fields
        self.assertEqual(fields, {b"host": [b"h"], b"a": [b"b", b"c d\xe4"], b"x-empty": [b""]})

    def test_malformed(self) -> None:
        """What is not HTTP/1.1, or could be read in two ways, is refused."""
        for line in (b"", b"GET /", b"GET / HTTP/1.2", b"GET / x HTTP/1.1", b"G\xe4T / HTTP/1.1", b"GET / RTSP/1.0"):
            self.assertRaises(BadHead, Head, line + b"\r\nHost: h" + END)
        for field in (b"A", b": b", b"A : b", b" A: b", b"A: b\r\n c", b"A: b\nC: d", b"A: b\rC: d", b"A: \0"):
            self.assertRaises(BadHead, Head, HEAD + field + END)
        self.assertRaises(BadHead, Head, HEAD + b"\r\n".join([b"A: b"] * 100) + END)

    def test_persistent(self) -> None:
        """A connection is used again, unless the request or its version asks for the contrary."""
        for field, persistent in ((b"A: b", True), (b"Connection: keep-alive", True), (b"Connection: x, Close", False)):
            self.assertEqual(Head(HEAD + field + END).persistent, persistent)
            self.assertFalse(Head((HEAD + field + END).replace(b"/1.1", b"/1.0")).persistent)

    def read(self, read: Callable[[bytes], Head], data: bytes) -> tuple[object, ...] | None:
        """Read a head; ``None`` if it is refused."""
        try:
            head = read(data)
        except BadHead:
            return None
        asked = head.method, head.target, head.uri, head.named, head.version
        return *asked, head.fields, head.length, head.persistent, head.expects

    def test_following(self) -> None:
        """One that is the same is not read again, and of one that has another length only that is."""
        for field in (b"Content-Length: 5", b"content-length:5", b"A: b\r\nContent-Length: 5\r\nContent-Lengthy: 7"):
            head = Head(HEAD + field + END)
            self.assertIs(head.following(HEAD + field + END), head)
            longer = head.following(HEAD + field.replace(b"5", b"123456789") + END)
            shorter = longer.following(HEAD + field.replace(b"5", b"0") + END)
            self.assertEqual([each.length for each in (head, longer, shorter)], [5, 123456789, 0])
            self.assertEqual([each.fields[b"content-length"] for each in (head, shorter)], [[b"5"], [b"0"]])

    @given(
        st.lists(
            st.sampled_from(_SOME),
            max_size=4,
        ).map(lambda fields: HEAD + b"".join([field + b"\r\n" for field in fields]) + b"\r\n"),
        st.integers(0, 99),
        st.integers(0, 99),
        st.binary(max_size=3),
    )
    def test_followed(self, data: bytes, begin: int, end: int, other: bytes) -> None:
        """Whatever head follows another is read as if it were the first, or refused as that would be."""
        following = data[:begin] + other + data[max(begin, len(data) - end) :]
        if self.read(Head, data) is not None:
            head = Head(data)
            for each in (data.replace(b"5", b"66"), following, data):
                self.assertEqual(self.read(head.following, each), self.read(Head, each))

    @given(st.binary(max_size=80))
    def test_anything(self, data: bytes) -> None:
        """Every head is either read or refused."""
        for each in (data, HEAD + data):
            try:
                head = Head(each + END)
            except BadHead:
                continue
            self.assertTrue(head.method and head.target)


class BodyTests(SynchronousTestCase):
    """Bodies, split anywhere."""

    def read(self, body: Body, raw: bytes, *places: int) -> tuple[bytes, bytes]:
        """Read pieces; returns the body and what follows it, if it is complete."""
        found: list[bytes] = []
        left = b""
        for begin, end in zip([0, *places], [*places, len(raw)], strict=True):
            left += raw[begin:end]
            if not body.complete:
                left = body.read(left, found.append)
        self.assertNotIn(b"", found)
        return b"".join(found), left

    def test_example(self) -> None:
        """The chunked example of the module's docstring is read."""
        assert messages.__doc__ is not None
        [example] = [part for part in messages.__doc__.split("``") if part.startswith("5")]
        raw = example.replace("␍", "\r").replace("␊", "\n").encode()
        self.assertEqual(self.read(ChunkedBody(), raw), (b"hello", b""))

    @given(st.lists(st.binary(min_size=1, max_size=20), max_size=4), st.binary(max_size=9), st.data())
    def test_split(self, chunks: list[bytes], more: bytes, data: st.DataObject) -> None:
        """A body is the same however it is split, and so is what follows."""
        whole = b"".join(chunks)
        raw = b"".join(b"%X;a=b\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\nA: b\r\n\r\n"
        bodies: list[tuple[Body, bytes]] = [(ChunkedBody(), raw + more), (SizedBody(len(whole)), whole + more)]
        for body, sent in bodies:
            places = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=8)))
            self.assertEqual(self.read(body, sent, *places), (whole, more))
            self.assertTrue(body.complete)

    def test_malformed(self) -> None:
        """A chunked body that two servers could read differently is refused as soon as that is certain."""
        for raw in (
            b"x",
            b"\r\n",
            b"-1\r\n",
            b"0x1\r\n",
            b"1 \r\n",
            b" 1\r\n",
            b"f" * 17 + b"\r\n",
            b"1;a\nb\r\n",
            b"1;" + b"a" * 17_000,
            b"1\r\nab",
            b"1\r\na\n",
            b"0\r\nA\r\n",
            b"0\r\nA: b\nC: d\r\n",
            b"0\r\n" + b"A: b\r\n" * 3_000,
            b"0\r\nA: " + b"b" * 17_000,
        ):
            ends = [len(raw) - 1] if len(raw) < 1_000 and not raw.endswith(b"x") else []
            with self.assertRaises(BadBody, msg=raw[:20]):
                self.read(ChunkedBody(), raw + b"\r\n" * (raw == b"x"), *ends)
