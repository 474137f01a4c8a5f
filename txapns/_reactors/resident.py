"""
What lives on the reactor of whichever process uses it.

There is at most one such reactor in a process. It is started when something is first used, and ends with the last thing
that lives on it, so a closed client leaves no thread, no socket and no pipe behind.

**After a fork** the thread is the parent's, and so are the connections. The child closes its copies of their
descriptors, keeps the objects so that nothing of them ever runs again, and starts a reactor of its own when it needs
one. Nothing is locked while anything is waited for, and the child makes the only lock again, so it does not matter what
the parent's threads were doing.

**At exit** everything gets a bounded time to close.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, DeferredList, succeed

from txapns._reactors.logs import forward_logs
from txapns._reactors.thread import Call, Ended, ReactorThread
from txapns.errors import ClientClosed

__all__ = ["Resident"]

T = TypeVar("T")
R = TypeVar("R")

#: How long the end of the interpreter waits for clients to close, in seconds.
EXIT_PATIENCE = 5.0


class _Process:
    """The reactor's thread of this process."""

    def __init__(self) -> None:
        # Reentrant, since a signal handler may come by.
        self._lock = threading.RLock()
        self._thread: ReactorThread | None = None
        self._exiting = False
        self._inherited: list[ReactorThread] = []

    def current(self) -> ReactorThread | None:
        """Return the thread, if there is one and it belongs to this process."""
        thread = self._thread
        return thread if thread is not None and thread.pid == os.getpid() else None

    def enter(self) -> ReactorThread:
        """
        Return the thread; start one if there is none.

        :raises ClientClosed: the interpreter is exiting.
        """
        thread = self.current()
        if thread is not None and not thread.ending:
            return thread
        with self._lock:
            if self._thread is not None and self._thread.pid != os.getpid():
                self.forked()  # by something that does not tell Python
            thread = self._thread
            if thread is None or thread.ending:
                if self._exiting:
                    raise ClientClosed("the interpreter is exiting")
                forward_logs()
                thread = ReactorThread()
                thread.start()
                self._thread = thread
            return thread

    def forked(self) -> None:
        """This process is the child."""
        self._lock = threading.RLock()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._inherited.append(thread)
            thread.disown()

    def exit(self) -> None:
        """The interpreter is exiting: let everything close."""
        self._exiting = True
        thread = self.current()
        if thread is not None:
            with suppress(Exception):
                thread.begin(partial(_closed_all, thread)).wait(EXIT_PATIENCE)
            thread.join()


def _closed_all(thread: ReactorThread) -> Deferred[Any]:
    return DeferredList([owner.closed(thread) for owner in list(thread.residents)])


_process = _Process()
atexit.register(_process.exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.forked)


class Resident(Generic[T]):
    """
    Something that lives on the reactor, and is made again in each process that uses it.

    :param make: makes it, given the reactor.
    :param close: closes it.
    :param what: its name, for messages.
    """

    def __init__(self, make: Callable[[Any], T], close: Callable[[T], Deferred[None]], what: str) -> None:
        self._make = make
        self._close = close
        self._what = what
        self.is_closed = False

    # In any thread.

    def begin(
        self, work: Callable[[T], Deferred[R]], ended: Callable[[], None] | None = None
    ) -> tuple[ReactorThread, Call[R]]:
        """
        Make a call in the reactor's thread.

        :param work: called with what lives there.
        :param ended: called when the call has ended.
        :returns: the thread, and the call to wait for.
        :raises ClientClosed: it is closed, or the interpreter is exiting.
        :raises LocalError: this is the reactor's thread.
        """
        self.check()
        thread = _process.enter()
        return thread, thread.begin(lambda: work(self._get(thread)), ended)

    def run(self, work: Callable[[T], Deferred[R]]) -> R:
        """
        Make a call in the reactor's thread, and wait for its result.

        :param work: called with what lives there.
        :returns: the result.
        :raises Exception: what the call failed with, or as :meth:`begin`.
        """
        while True:
            with suppress(Ended):
                return self.begin(work)[1].wait()

    def close(self, patience: float | None = None) -> None:
        """
        Close it in this process, and take no more calls.

        :param patience: how long to wait for that, in seconds; then it is dropped. ``None`` for as long as it takes.
        """
        self.is_closed = True
        thread = _process.current()
        if thread is not None:
            with suppress(Ended):
                try:
                    thread.begin(partial(self.closed, thread)).wait(patience)
                except TimeoutError:
                    thread.begin(partial(self._drop, thread)).wait()
            thread.join()

    def abandon(self) -> None:
        """Nobody can use it any more: close it, some time."""
        thread = _process.current()
        if thread is not None:
            thread.soon(partial(self.closed, thread))

    def check(self) -> None:
        """Raise ``ClientClosed`` if it is closed."""
        if self.is_closed:
            raise ClientClosed(f"the {self._what} is closed")

    # In the reactor's thread.

    def _get(self, thread: ReactorThread) -> T:
        self.check()
        if self not in thread.residents:
            try:
                thread.residents[self] = self._make(thread.reactor)
            except BaseException:
                thread.leave()
                raise
        made: T = thread.residents[self]
        return made

    def closed(self, thread: ReactorThread) -> Deferred[None]:
        """
        Close it, if it lives there.

        :returns: a ``Deferred`` that fires when it is closed.
        """
        if self not in thread.residents:
            thread.leave()
            return succeed(None)

        return self._close(thread.residents[self]).addBoth(lambda _: self._drop(thread))

    def _drop(self, thread: ReactorThread) -> Deferred[None]:
        thread.residents.pop(self, None)
        thread.leave()
        return succeed(None)
