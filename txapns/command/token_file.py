"""Device tokens: those of a file, read as they are sent, and those of the command line."""

from __future__ import annotations

import os
import stat
from codecs import getincrementaldecoder
from collections.abc import AsyncIterator, Iterator, Sequence
from io import IncrementalNewlineDecoder
from typing import IO, Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._texts import encoding_of
from txapns.command.streams import Unusable, name_of

__all__ = ["CHUNK", "TokenFile", "TokenList", "TokenSource", "no_tokens", "tokens_from"]

#: How many bytes of the file are read at a time.
CHUNK = 65_536
# A byte order mark is in the middle of a file where two files were put together.
_MARK = "\ufeff"


@implementer(IReadDescriptor)
class TokenFile:
    """
    The device tokens in a file, each with the number of its line, read only as far as they are asked for.

    The file may be a pipe that is silent for long, so the reactor reports when there is something to read.

    :param file: the file, of which nothing has been read; only its descriptor is used.

    :ivar number: the number of the last line that was yielded or skipped.
    :ivar consumed: how many bytes of the file have been processed.
    :ivar given: how many tokens have been yielded.
    :ivar complete: whether all tokens have been yielded.
    """

    def __init__(self, reactor: Any, file: IO[bytes]) -> None:
        self.number = 0
        self.consumed = 0
        self.given = 0
        self.complete = False
        self._reactor = reactor
        self._file = file
        self._arriving: Deferred[bytes] = Deferred()
        self._ended = False

    @property
    def size(self) -> int | None:
        """The size of the file in bytes; ``None`` if it is not a regular file."""
        status = os.fstat(self._file.fileno())
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def end(self) -> None:
        """Yield no more tokens."""
        self._ended = True
        self._reactor.removeReader(self)
        self._arrived(b"")

    async def __aiter__(self) -> AsyncIterator[tuple[int, str]]:
        """Yield pairs of line number and token; blank lines and comments count as lines."""
        rest = ""
        chunk = await self._beginning()
        characters = getincrementaldecoder(encoding_of(chunk))("backslashreplace")
        decoder = IncrementalNewlineDecoder(characters, translate=True)
        while chunk:
            *lines, rest = (rest + decoder.decode(chunk)).split("\n")
            for pair in self._tokens(lines):
                yield pair
            self.consumed += len(chunk)
            chunk = await self._read()
        if last := rest + decoder.decode(b"", True):  # the last line may not end with a newline
            for pair in self._tokens([last]):
                yield pair
        self.complete = not self._ended

    async def _beginning(self) -> bytes:
        """Read enough to recognize the encoding, or the whole file."""
        beginning = b""
        while len(beginning) < 4 and (chunk := await self._read()):
            beginning += chunk
        return beginning

    def _tokens(self, lines: list[str]) -> Iterator[tuple[int, str]]:
        for line in lines:
            if self._ended:
                return
            self.number += 1
            token = line.replace(_MARK, "").strip()
            if token and not token.startswith("#"):
                self.given += 1
                yield self.number, token

    def _read(self) -> Deferred[bytes]:
        self._arriving = Deferred()
        if self._ended:
            self._arrived(b"")
        elif self.size is None:
            self._reactor.addReader(self)
        else:
            self.doRead()  # reading a regular file does not block, and not every reactor can watch one
        return self._arriving

    def _arrived(self, result: bytes | Failure) -> None:
        if not self._arriving.called:
            self._arriving.callback(result)

    # IReadDescriptor

    def fileno(self) -> int:
        """Return the file's descriptor."""
        return self._file.fileno()

    def logPrefix(self) -> str:
        """Name the reader in the reactor's log."""
        return "tokens"

    def doRead(self) -> None:
        """Read: there are bytes, or the end."""
        self._reactor.removeReader(self)
        try:
            result: bytes | Failure = os.read(self.fileno(), CHUNK)
        except OSError:
            result = Failure()
        self._arrived(result)

    def connectionLost(self, reason: Failure) -> None:
        """The other end of the pipe was closed, or the reactor cannot watch such a file."""
        self._arrived(b"" if reason.check(ConnectionDone) else reason)


class TokenList:
    """
    Device tokens that are known already, each with its number, from 1. It can be used like a :class:`TokenFile`.

    :param tokens: the tokens.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.number = self.given = self.consumed = 0
        self.complete = False
        self.size: int | None = len(tokens)
        self._tokens = tokens
        self._ended = False

    def end(self) -> None:
        """Yield no more tokens."""
        self._ended = True

    async def __aiter__(self) -> AsyncIterator[tuple[int, str]]:
        """Yield pairs of number and token."""
        for number, token in enumerate(self._tokens, 1):
            if self._ended:
                return
            self.number = self.given = self.consumed = number
            yield number, token
        self.complete = True


#: What the command line says of the tokens: a file of them, or the tokens themselves.
TokenSource: TypeAlias = "IO[bytes] | Sequence[str]"


def tokens_from(reactor: Any, source: TokenSource) -> TokenFile | TokenList:
    """Make an asynchronous iterable of tokens."""
    return TokenList(source) if isinstance(source, Sequence) else TokenFile(reactor, source)


def no_tokens(source: TokenSource) -> Unusable:
    """Make the error for a file that has no tokens in it."""
    name = "the command line" if isinstance(source, Sequence) else name_of(source)
    return Unusable(f"{name}: there are no device tokens in it")
