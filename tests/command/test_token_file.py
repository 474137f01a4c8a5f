"""Tests for :mod:`txapns.command.token_file`."""

from __future__ import annotations

import codecs
import os
from pathlib import Path
from typing import IO

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from txapns.command.token_file import CHUNK, TokenFile, TokenList

__all__ = ["TokenFileTests", "TokenListTests"]


class TokenFileTests(TestCase):
    """The file of tokens, read as far as it is needed."""

    timeout = 300

    def lines(self, content: bytes) -> TokenFile:
        """Open a file with this content."""
        path = Path(self.mktemp())
        path.write_bytes(content)
        file = path.open("rb")
        self.addCleanup(file.close)
        return TokenFile(reactor, file)

    async def test_numbers(self) -> None:
        """Blank lines and comments count, spaces are stripped, and the last line needs no newline."""
        lines = self.lines(b"# one\n\naa \r\n\tbb\n#\ncc")
        self.assertEqual([pair async for pair in lines], [(3, "aa"), (4, "bb"), (6, "cc")])
        self.assertEqual((lines.number, lines.given, lines.complete), (6, 3, True))
        lines = self.lines(b"aa\nbb\n")
        self.assertEqual([pair async for pair in lines], [(1, "aa"), (2, "bb")])
        self.assertEqual((lines.number, lines.complete), (2, True))

    async def test_across_reads(self) -> None:
        """Lines that span several reads are whole."""
        tokens = [f"{number:x}" * 7 for number in range(1, 20_000)]
        lines = self.lines("\n".join(tokens).encode())
        self.assertGreater(lines.size, 2 * CHUNK)
        self.assertEqual([token async for _, token in lines], tokens)

    async def test_not_text(self) -> None:
        """Bytes that are not text are yielded as printable text that is not a token."""
        self.assertEqual([pair async for pair in self.lines(b"\xff\xfd\n")], [(1, r"\xff\xfd")])

    async def test_windows(self) -> None:
        """Byte order marks and line ends are not parts of tokens, and UTF-16 is read; so are concatenated files."""
        text = "# one\r\n\r\naa\r\nbb\r\n"
        marked, wide = codecs.BOM_UTF8 + text.encode(), text.encode("utf-16")
        big, little, old = text.encode("utf-16-be"), text.encode("utf-16-le"), text.replace("\r\n", "\r").encode()
        for content in (marked, wide, codecs.BOM_UTF16_BE + big, little, old):
            self.assertEqual([pair async for pair in self.lines(content)], [(3, "aa"), (4, "bb")])
        self.assertEqual([pair async for pair in self.lines(marked * 2)], [(3, "aa"), (4, "bb"), (7, "aa"), (8, "bb")])
        tokens = [f"{number:x}" * 7 for number in range(1, 20_000)]
        for wide in ("\n".join(tokens).encode("utf-16"), "\r\n".join(["", *tokens]).encode()):
            self.assertEqual([token async for _, token in self.lines(wide)], tokens)

    async def test_short(self) -> None:
        """A file may be shorter than what the encoding is recognized by."""
        for content, pairs in ((b"", []), (b"\n", []), (b"aa", [(1, "aa")])):
            self.assertEqual([pair async for pair in self.lines(content)], pairs)

    async def test_lazy(self) -> None:
        """Only one chunk is read ahead."""
        lines = self.lines(b"aa\n" * CHUNK)
        tokens = lines.__aiter__()
        self.assertEqual(await anext(tokens), (1, "aa"))
        self.assertEqual(os.lseek(lines._file.fileno(), 0, os.SEEK_CUR), CHUNK)
        await tokens.aclose()

    async def test_end(self) -> None:
        """After ``end()`` no token is yielded, even if more were read."""
        lines = self.lines(b"aa\nbb\n")
        given = []
        async for pair in lines:
            given.append(pair)
            lines.end()
        self.assertEqual(given, [(1, "aa")])
        self.assertEqual((lines.number, lines.complete), (1, False))

    def pipe(self) -> tuple[TokenFile, IO[bytes]]:
        """Open a pipe; returns the tokens, and the end to write to."""
        read, write = os.pipe()
        file, other = os.fdopen(read, "rb"), os.fdopen(write, "wb", buffering=0)
        self.addCleanup(file.close)
        self.addCleanup(other.close)
        return TokenFile(reactor, file), other

    def test_interface(self) -> None:
        """The reactor can watch it."""
        verifyObject(IReadDescriptor, self.lines(b""))

    async def test_pipe(self) -> None:
        """The size of a pipe is unknown; its tokens are yielded as they are written, until it is closed."""
        lines, other = self.pipe()
        self.assertIsNone(lines.size)
        other.write(b"aa\nb")
        tokens = lines.__aiter__()
        self.assertEqual(await anext(tokens), (1, "aa"))
        second = Deferred.fromCoroutine(anext(tokens))
        self.assertNoResult(second)
        other.write(b"b\ncc")
        self.assertEqual(await second, (2, "bb"))
        other.close()
        self.assertEqual([pair async for pair in tokens], [(3, "cc")])

    async def test_end_of_silence(self) -> None:
        """``end()`` ends the wait for a silent pipe."""
        lines, _ = self.pipe()
        tokens = lines.__aiter__()
        first = Deferred.fromCoroutine(anext(tokens, None))
        self.assertNoResult(first)
        lines.end()
        self.assertIsNone(await first)

    async def test_unwatchable(self) -> None:
        """If the reactor cannot watch the file, the reader gets an error, and not the end of the tokens."""
        lines, _ = self.pipe()
        first = Deferred.fromCoroutine(anext(lines.__aiter__()))
        self.assertNoResult(first)
        reactor.removeReader(lines)
        lines.connectionLost(Failure(OSError("not a socket")))
        with self.assertRaises(OSError):
            await first

    async def test_unreadable(self) -> None:
        """An error of the file is raised to the reader."""

        class Directory:
            """A file that can be opened, but not read."""

            descriptor = os.open(".", os.O_RDONLY)

            def fileno(self) -> int:
                """Its descriptor."""
                return self.descriptor

        self.addCleanup(os.close, Directory.descriptor)
        lines = TokenFile(reactor, Directory())
        with self.assertRaises(IsADirectoryError):
            await anext(lines.__aiter__())


class TokenListTests(TestCase):
    """Tokens of the command line."""

    timeout = 300

    async def test_numbers(self) -> None:
        """They are numbered from 1."""
        tokens = TokenList(["aa", "", "#"])
        self.assertEqual([pair async for pair in tokens], [(1, "aa"), (2, ""), (3, "#")])
        self.assertEqual((tokens.number, tokens.given, tokens.consumed, tokens.size), (3, 3, 3, 3))
        self.assertTrue(tokens.complete)

    async def test_end(self) -> None:
        """It can be ended early."""
        tokens = TokenList(["aa", "bb", "cc"])
        found = []
        async for number, _ in tokens:
            found.append(number)
            if number == 2:
                tokens.end()
        self.assertEqual((found, tokens.number, tokens.complete), ([1, 2], 2, False))
