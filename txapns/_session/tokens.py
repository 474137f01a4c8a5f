"""
What a program may give as tokens, made into one stream of triples: identifier, notification, token.

Tokens come as a list, pairs, a mapping, a generator over a cursor, an async iterable. All of it is read lazily, one
entry at a time; an async iterable is read ahead by at most :data:`READ_AHEAD` entries, by one coroutine.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from txapns.errors import InvalidToken
from txapns.notification import Notification

__all__ = ["Pending", "ReadAhead", "Token", "Tokens", "Triple", "changed", "device_of", "settled", "triples_of"]

T = TypeVar("T")

#: A device token: hexadecimal text, or raw octets.
Token = str | bytes | bytearray | memoryview
#: One token, or a pair of the caller's identifier and a token.
Entry = Token | tuple[Hashable, Token]
#: What ``APNSClient.send`` takes.
Tokens = Mapping[Hashable, Token] | Iterable[Entry] | AsyncIterable[Entry]
#: What ``APNSClient.send_many`` takes an iterable of.
Triple = tuple[Hashable, Notification, Token]

#: How many tokens of an async iterable are kept ready.
READ_AHEAD = 1_000

# What databases and caches give for raw octets.
_OCTETS = (bytes, bytearray, memoryview)

# The hexadecimal text of a token, as a cache gives it, or a file opened as binary: in quotes, after 0x, in UTF-16. Sent
# raw it would be another token of twice the length. Fewer digits may be a raw token that somebody made up.
_SHORTEST_TEXT = 64
_TEXT = re.compile(rb"(?:[0-9A-Fa-f][\s<>:\0-]*){%d}" % _SHORTEST_TEXT)


class Pending(Exception):
    """An async iterable has yielded nothing more yet."""


def device_of(token: object) -> bytes:
    """
    Find the octets of a device token.

    :param token: hexadecimal text or raw octets.
    :returns: the octets.
    :raises InvalidToken: it is neither, or octets that are themselves hexadecimal text.
    """
    if isinstance(token, str):
        try:
            device = unhexlify(token)
        except ValueError:
            odd = token.isascii() and token.isalnum() and len(token) % 2
            fault = "an odd number of digits" if odd else "something other than hexadecimal digits"
            raise InvalidToken(f"a device token of {len(token)} characters has {fault}") from None
    elif isinstance(token, _OCTETS):
        device = bytes(token)  # of bytes, the same
        if len(device) >= _SHORTEST_TEXT and _TEXT.search(device):
            raise InvalidToken(
                f"a device token of {len(device)} octets is hexadecimal text, but bytes have to be the raw token: give "
                "token.decode(), or token.hex() if this is the raw token"
            )
    else:
        raise InvalidToken(f"a device token is hexadecimal text or raw bytes, not {type(token).__name__}")
    if not device:
        raise InvalidToken("the device token is empty")
    return device


def settled(token: Token) -> str | bytes:
    """
    Make of a token what nobody can change afterwards, for the outcomes to show.

    :param token: the token as it was given.
    :returns: the same; a copy of octets that are kept in a buffer.
    """
    return bytes(token) if isinstance(token, (bytearray, memoryview)) else token


def _pair(entry: object, position: int) -> tuple[Hashable, Token]:
    """Take a sequence of two (a tuple, a database row) for identifier and token, anything else for a token."""
    if isinstance(entry, Sequence) and not isinstance(entry, (str, *_OCTETS)) and len(entry) == 2:
        return entry[0], entry[1]
    return position, entry  # type: ignore[return-value]  # if it is no token, device_of() says so


@asynccontextmanager
async def _reading(items: AsyncIterable[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Iterate, and close the iterator at the end, so that a generator gives back what it holds."""
    iterator = aiter(items)
    try:
        yield iterator
    finally:
        close = getattr(iterator, "aclose", None)
        # One that is being torn down from the inside, by the collector of garbage, cannot be closed as well.
        if close is not None and not getattr(iterator, "ag_running", False):
            await close()


def triples_of(notification: Notification, tokens: Tokens) -> Iterable[Triple] | AsyncIterable[Triple]:
    """
    Pair one notification with many tokens.

    :param notification: the notification.
    :param tokens: tokens, pairs, or a mapping.
    :returns: triples; asynchronous if the tokens are.
    :raises TypeError: a single token was given.
    """
    if isinstance(tokens, (str, *_OCTETS)):
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


def changed(
    change: Callable[[Notification], Notification], triples: Iterable[Triple] | AsyncIterable[Triple]
) -> Iterable[Triple] | AsyncIterable[Triple]:
    """
    Change the notification in each triple.

    :param change: what to do to each.
    :param triples: identifier, notification and token of each.
    :returns: triples; asynchronous if the others are.
    """
    if isinstance(triples, AsyncIterable):
        return _changed_async(change, triples)
    return ((identifier, change(notification), token) for identifier, notification, token in triples)


async def _changed_async(
    change: Callable[[Notification], Notification], triples: AsyncIterable[Triple]
) -> AsyncIterator[Triple]:
    async with _reading(triples) as reading:
        async for identifier, notification, token in reading:
            yield identifier, change(notification), token


class ReadAhead(Generic[T]):
    """
    An iterator over an async iterable: it raises :exc:`Pending` where it would have to wait.

    :param items: the async iterable.
    :param arrived: called when there is something after there was nothing, or the end.
    """

    def __init__(self, items: AsyncIterable[T], arrived: Callable[[], None]) -> None:
        self._items = items
        self._arrived = arrived
        self._ready: deque[T] = deque()
        self._room: Deferred[None] | None = None
        self._ended = False
        self._closed = False
        self._error: Exception | None = None
        self._reading: Deferred[None] | None = None

    @property
    def available(self) -> bool:
        """Whether ``next`` would not have to wait."""
        return bool(self._ready) or self._ended

    def start(self) -> None:
        """Begin to read."""
        self._reading = Deferred.fromCoroutine(self._read())
        self._reading.addErrback(_cancelled)

    def close(self) -> None:
        """Read no more."""
        self._closed = True  # which is all that can be done where it is the iterable itself that has us close
        if self._reading is not None:
            self._reading.cancel()

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
        except Exception as error:  # the caller's own, to be told to the caller
            self._error = error
        except BaseException as error:  # so is this: asyncio's CancelledError is no Exception
            self._error = RuntimeError(type(error).__name__)
            self._error.__cause__ = error
        self._ended = True
        self._arrived()

    def __iter__(self) -> Iterator[T]:
        return self

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


def _cancelled(reason: Failure) -> None:
    """A batch that was cancelled reads no further."""
    reason.trap(CancelledError)
