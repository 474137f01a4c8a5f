"""
The device tokens that a program passes, as one stream of triples: identifier, notification, token.

Tokens come as a list, pairs, a mapping, a generator over a cursor, or an async iterable. All of these are read lazily,
one entry at a time; one coroutine reads an async iterable ahead, by no more than :data:`READ_AHEAD` entries.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from binascii import unhexlify
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred

from txapns.errors import InvalidToken
from txapns.notification import Notification

__all__ = [
    "Pending",
    "ReadAhead",
    "Source",
    "Token",
    "Tokens",
    "Triple",
    "checked",
    "device_of",
    "settled",
    "triples_of",
]

T = TypeVar("T")

#: A device token: hexadecimal text, or raw bytes.
Token = str | bytes | bytearray | memoryview
#: One token, or a pair of the caller's identifier and a token.
Entry = Token | tuple[Hashable, Token]
#: What ``APNSClient.send`` takes.
Tokens = Mapping[Hashable, Token] | Iterable[Entry] | AsyncIterable[Entry]
#: What ``APNSClient.send_many`` takes an iterable of.
Triple = tuple[Hashable, Notification, Token]

#: How many tokens of an async iterable are kept ready.
READ_AHEAD = 1_000

# The types that databases and caches return for raw bytes.
_BYTES = (bytes, bytearray, memoryview)

# The hexadecimal text of a token, as a cache or a file opened in binary mode returns it: in quotes, after 0x, in
# UTF-16. Sent as raw bytes, it would be another token of twice the length. Fewer digits may be a raw token made up for
# a test.
_SHORTEST_TEXT = 64
_TEXT = re.compile(rb"(?:[0-9A-Fa-f][\s<>:\0-]*){%d}" % _SHORTEST_TEXT)


class Pending(Exception):
    """An async iterable has not yielded its next item yet."""


def device_of(token: object) -> bytes:
    """
    Return the bytes of a device token.

    :param token: hexadecimal text or raw bytes.
    :returns: the bytes.
    :raises InvalidToken: it is neither, or its bytes are themselves hexadecimal text.
    """
    if isinstance(token, str):
        try:
            device = unhexlify(token)
        except ValueError:
            odd = token.isascii() and token.isalnum() and len(token) % 2
            fault = "an odd number of digits" if odd else "something other than hexadecimal digits"
            raise InvalidToken(f"a device token of {len(token)} characters has {fault}") from None
    elif isinstance(token, _BYTES):
        device = bytes(token)  # of bytes, the same
        if len(device) >= _SHORTEST_TEXT and _TEXT.search(device):
            raise InvalidToken(
                f"a device token of {len(device)} bytes is hexadecimal text, but bytes must be the raw token: pass "
                "token.decode(), or token.hex() if this is the raw token"
            )
    else:
        raise InvalidToken(f"a device token must be hexadecimal text or raw bytes, not {type(token).__name__}")
    if not device:
        raise InvalidToken("the device token is empty")
    return device


def checked(notification: Notification) -> Notification:
    """Check that something is a notification, and return it."""
    if not isinstance(notification, Notification):
        raise TypeError(f"expected a Notification, not {type(notification).__name__}")
    return notification


def settled(token: Token) -> str | bytes:
    """Copy a token that the caller could change afterwards, since the outcomes contain it."""
    return bytes(token) if isinstance(token, (bytearray, memoryview)) else token


def _pair(entry: object, position: int) -> tuple[Hashable, Token]:
    """Take a sequence of two (a tuple, a database row) as identifier and token, anything else as a token."""
    if isinstance(entry, Sequence) and not isinstance(entry, (str, *_BYTES)) and len(entry) == 2:
        return entry[0], entry[1]
    return position, cast(Token, entry)  # if it is not a token, device_of() raises


@asynccontextmanager
async def _reading(items: AsyncIterable[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Iterate, and close the iterator at the end, so that a generator releases its resources."""
    iterator = aiter(items)
    try:
        yield iterator
    finally:
        close = getattr(iterator, "aclose", None)
        # A generator that the garbage collector is closing at this moment cannot be closed again.
        if close is not None and not getattr(iterator, "ag_running", False):
            await close()


def triples_of(notification: Notification, tokens: Tokens) -> Iterable[Triple] | AsyncIterable[Triple]:
    """
    Pair one notification with many tokens.

    :returns: triples, as an async iterable if the tokens are one.
    :raises TypeError: a single token was given, or something else than a notification.
    """
    checked(notification)
    if isinstance(tokens, (str, *_BYTES)):
        raise TypeError("send() takes an iterable of tokens; send_one() takes a single one")
    if isinstance(tokens, AsyncIterable):
        return _triples_of_async(notification, tokens)
    if not isinstance(tokens, Iterable):
        raise TypeError(f"send() takes an iterable of tokens, not {type(tokens).__name__}")
    entries = tokens.items() if isinstance(tokens, Mapping) else tokens
    return _triples_of(notification, entries)


def _triples_of(notification: Notification, entries: Iterable[Entry]) -> Iterator[Triple]:
    for position, entry in enumerate(entries):
        identifier, token = (position, entry) if isinstance(entry, str) else _pair(entry, position)
        yield identifier, notification, token


async def _triples_of_async(notification: Notification, entries: AsyncIterable[Entry]) -> AsyncIterator[Triple]:
    position = 0
    async with _reading(entries) as reading:
        async for entry in reading:
            identifier, token = _pair(entry, position)
            yield identifier, notification, token
            position += 1


class Source(Iterator[T]):
    """
    An iterator over what arrives by and by. ``next`` raises :exc:`Pending` when it would have to wait.
    """

    @property
    @abstractmethod
    def available(self) -> bool:
        """Whether ``next`` does not have to wait."""

    @abstractmethod
    def start(self, arrived: Callable[[], None]) -> None:
        """
        Begin.

        :param arrived: to be called when the first item arrives after there were none, and at the end.
        """

    @abstractmethod
    def close(self) -> None:
        """Nothing more is wanted."""

    @abstractmethod
    def left(self) -> Iterable[T]:
        """After it was closed: what arrived, and was not taken."""


class ReadAhead(Source[T]):
    """A source that reads an async iterable ahead."""

    def __init__(self, items: AsyncIterable[T]) -> None:
        self._items = items
        self._ready: deque[T] = deque()
        self._room: Deferred[None] | None = None
        self._ended = False
        self._closed = False
        self._error: Exception | None = None
        self._reading: Deferred[None] | None = None

    @property
    def available(self) -> bool:
        """Whether ``next`` does not have to wait."""
        return bool(self._ready) or self._ended

    def start(self, arrived: Callable[[], None]) -> None:
        """Start reading."""
        self._arrived = arrived
        self._reading = Deferred.fromCoroutine(self._read())
        self._reading.addErrback(lambda reason: reason.trap(CancelledError))  # when it is closed

    def close(self) -> None:
        """Stop reading."""
        self._closed = True  # all that is possible when the iterable itself closes the client
        if self._reading is not None:
            self._reading.cancel()

    def left(self) -> Iterable[T]:
        """What was read, and not taken."""
        return self._ready

    async def _read(self) -> None:
        try:
            async with _reading(self._items) as reading:
                async for item in reading:
                    if self._closed:
                        break
                    self._ready.append(item)
                    if len(self._ready) == 1:
                        self._arrived()
                    if len(self._ready) >= READ_AHEAD:
                        self._room = Deferred()
                        await self._room
        except (GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:  # raised by the caller's iterable, so reported to the caller
            self._error = error
        except BaseException as error:  # also asyncio's CancelledError, which is not an Exception
            self._error = RuntimeError(type(error).__name__)
            self._error.__cause__ = error
        self._ended = True
        self._arrived()

    def __next__(self) -> T:
        if self._ready:
            item = self._ready.popleft()
            if not self._ready and self._room is not None:
                room, self._room = self._room, None
                room.callback(None)
            return item
        if not self._ended:
            raise Pending
        if self._error is not None:
            raise self._error
        raise StopIteration
