"""
Tokens that the calling thread pulls, on their way to the reactor's thread.

A database cursor, a queryset or a generator belongs to the thread that made it, and may be slow. So the calling thread
iterates over it, and only puts what it gets into a queue; the batch takes it out in the reactor's thread. A token can
be sent as soon as it is in the queue, however long the next one takes. When there are :data:`AHEAD` in the queue the
calling thread waits until half of them are gone, so memory stays flat and the two threads change places seldom.

No lock is taken for a token. Appending to a deque and popping from it are atomic, and two rules make that enough:

- The reactor is woken when the queue has one token after an append. Whoever empties the queue has seen all that was in
  it, so whatever comes later is announced.
- The calling thread says that it waits *before* it looks at the queue's length for the last time; the reactor looks
  whether somebody waits *after* it took a token. One of the two sees the other.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from txapns._session.tokens import Pending, Source

__all__ = ["AHEAD", "Feed"]

T = TypeVar("T")

#: How many items may wait in the queue.
AHEAD = 2_000
#: The calling thread goes on when no more than these wait.
_LOW = AHEAD // 2
#: How often the calling thread looks whether it still has to wait, in seconds; it is woken, so this is for Windows,
#: where nothing else lets Ctrl-C through.
_LOOK = 1.0


class Feed(Source[T]):
    """
    A source that one thread fills from an iterator while the reactor's thread reads it.

    :param items: the iterator.
    """

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._queue: deque[T] = deque()
        self._ended = False
        self._closed = False
        self._error: Exception | None = None
        self._waiting = False
        self._room = threading.Semaphore(0)
        self._announce: Callable[[], None] = _nothing

    # In the calling thread.

    def pull(self) -> bool:
        """
        Pull a first item, so that the batch is not announced before there is something to send.

        :returns: whether there was one.
        """
        try:
            self._queue.append(next(self._items))
        except StopIteration:
            self._ended = True
        except Exception as error:  # raised by the caller's iterable, so the batch reports it
            self._error = error
            self._ended = True
        return not self._ended

    def open(self) -> None:
        """Items are wanted, again."""
        self._closed = False

    def run(self, call: Callable[[Callable[[], None]], object]) -> None:
        """
        Pull the other items, until there are none, or no more are wanted.

        :param call: calls a function in the reactor's thread, soon.
        """
        queue, append = self._queue, self._queue.append
        try:
            for item in self._items:
                append(item)
                length = len(queue)
                if length == 1:
                    call(self._arrived)
                elif length >= AHEAD:
                    self._wait()
                if self._closed:
                    return
        except Exception as error:  # raised by the caller's iterable, so the batch reports it
            self._error = error
        self._ended = True
        call(self._arrived)

    def end(self) -> None:
        """There is nothing more, and what there is shall not be sent."""
        self._queue.clear()
        self._ended = True

    def _wait(self) -> None:
        """Wait until the queue has room."""
        self._waiting = True
        while len(self._queue) > _LOW and not self._closed:
            self._room.acquire(timeout=_LOOK)
        self._waiting = False

    # In the reactor's thread.

    @property
    def available(self) -> bool:
        """Whether ``next`` does not have to wait."""
        return bool(self._queue) or self._ended

    def start(self, arrived: Callable[[], None]) -> None:
        """Begin. There are items, or there will be."""
        self._announce = arrived

    def _arrived(self) -> None:
        if not self._closed:
            self._announce()

    def close(self) -> None:
        """Nothing more is wanted."""
        self._closed = True
        self._room.release()

    def left(self) -> Iterable[T]:
        """What was pulled, and not taken. What the calling thread still pulls is not in it."""
        return list(self._queue)

    def __next__(self) -> T:
        queue = self._queue
        if queue:
            item = queue.popleft()
            if self._waiting and len(queue) <= _LOW:
                self._waiting = False
                self._room.release()
            return item
        if not self._ended:
            raise Pending
        if queue:  # the last came between the two looks
            return queue.popleft()
        if self._error is not None:
            raise self._error
        raise StopIteration


def _nothing() -> None:
    """Do nothing: the batch has not begun, and will take what there is."""
