"""
A reactor in a thread of its own, for programs that call and wait.

It is never the global reactor, installs no signal handlers and does not declare its thread the one for I/O, so it gets
along with another reactor in the program, whether that runs in the main thread, in crochet's, or not at all. The thread
is a daemon, so Python does not wait for it at exit.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from importlib import import_module
from typing import Any, Generic, TypeVar, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure
from twisted.python.runtime import platform

from txapns._network.clocks import steady
from txapns.errors import APNSError, ClientClosed, LocalError

__all__ = ["Call", "Ended", "ReactorThread"]

R = TypeVar("R")

#: How long a reactor that was told to stop is waited for, in seconds: a name may be being looked up.
STOP_PATIENCE = 2.0
#: How often a waiting thread looks whether the reactor still runs, in seconds. On Windows, nothing else lets Ctrl-C
#: through.
_LOOK = 1.0

# What of select's each needs, and by which name it holds that.
_KINDS = (("epoll", "EPollReactor", ""), ("poll", "PollReactor", "poll"), ("select", "SelectReactor", "_select"))


class Ended(Exception):
    """The reactor ended before the call began."""


def make_reactor() -> Any:
    """
    Make the reactor that Twisted would choose here, without installing it.

    gevent and eventlet remove from ``select`` what would block their hub; then what they left is taken.

    :raises LocalError: they have done so after Twisted looked there, so it would block their hub.
    """
    for name, kind, held in _KINDS:
        if hasattr(select, name) and not (name == "poll" and platform.isMacOSX()):
            module = import_module(f"twisted.internet.{name}reactor")
            if held and not platform.isWindows() and getattr(module, held) is not getattr(select, name):
                raise LocalError("gevent or eventlet patched the program after Twisted was imported; do that first")
            return steady(getattr(module, kind)())
    raise LocalError("there is no reactor for this platform")


class Call(Generic[R]):
    """
    A call that one thread makes in the reactor's thread, and waits for.

    :param ended: called when it has ended.

    :ivar begun: whether it has begun.
    """

    def __init__(
        self, thread: ReactorThread, work: Callable[[], Deferred[R]], ended: Callable[[], None] | None
    ) -> None:
        self.begun = False
        self._thread = thread
        self._work = work
        self._ended = ended
        self._deferred: Deferred[Any] | None = None
        self._outcome: R | Failure | None = None
        self._done = threading.Event()

    def begin(self) -> None:
        """Begin. In the reactor's thread."""
        if self._thread.ending:
            self.finish(Failure(Ended()))
            return
        self.begun = True
        self._deferred = maybeDeferred(self._work)
        self._deferred.addBoth(self.finish)

    def cancel(self) -> None:
        """Cancel it. In the reactor's thread."""
        if self._deferred is not None:
            self._deferred.cancel()

    def finish(self, outcome: R | Failure) -> None:
        """End it. In the reactor's thread."""
        if not self._done.is_set():
            self._outcome = outcome
            self._thread.forget(self)
            self._done.set()
            if self._ended is not None:
                self._ended()

    def wait(self, patience: float | None = None) -> R:
        """
        Wait for its result.

        :param patience: for how long, in seconds; ``None`` for ever.
        :returns: the result.
        :raises Exception: what it failed with; ``TimeoutError`` after ``patience``.
        """
        end = None if patience is None else time.monotonic() + patience
        while not self._done.wait(_LOOK if end is None else min(_LOOK, max(0.0, end - time.monotonic()))):
            if end is not None and time.monotonic() >= end:
                raise TimeoutError
        if isinstance(self._outcome, Failure):
            raise _own(cast(BaseException, self._outcome.value))
        return cast(R, self._outcome)


def _own(error: BaseException) -> BaseException:
    """
    Copy an exception of ours before it is raised.

    Many calls may fail with one exception, such as that of the connection they waited for, and raising it in several
    threads would mix their tracebacks.
    """
    if not isinstance(error, APNSError):
        return error
    own = copy(error)
    own.__cause__ = error.__cause__
    return own


class ReactorThread:
    """
    A reactor, and the thread in which it runs.

    :ivar reactor: the reactor.
    :ivar pid: the process to which it belongs.
    :ivar ending: whether it takes no more calls.
    :ivar residents: what lives on it, by owner; only the reactor's thread uses it.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.reactor = make_reactor()
        self.reactor._registerAsIOThread = False
        self.ending = False
        self.residents: dict[Any, Any] = {}
        # For what must not happen while the waker is closed; reentrant, since the garbage collector may come by.
        self._lock = threading.RLock()
        self._ended = False
        self._calls: set[Call[Any]] = set()
        self._thread = threading.Thread(target=self._run, name="txapns", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _run(self) -> None:
        try:
            self.reactor.run(installSignalHandlers=False)
        finally:
            with self._lock:
                self.ending = self._ended = True
                self._release()
            for call in list(self._calls):
                call.finish(Failure(ClientClosed("the client was closed") if call.begun else Ended()))

    def _release(self) -> None:
        """Close what Twisted leaves open: the poller and the waker."""
        poller: Any = getattr(self.reactor, "_poller", None)
        if hasattr(poller, "close"):  # epoll is a descriptor itself
            poller.close()
        self.reactor.waker.connectionLost(None)

    def begin(self, work: Callable[[], Deferred[R]], ended: Callable[[], None] | None = None) -> Call[R]:
        """
        Make a call in the reactor's thread.

        :param work: what to do there.
        :param ended: called when the call has ended.
        :returns: the call, to wait for.
        :raises LocalError: this is the reactor's thread, which must not wait for itself.
        """
        if threading.current_thread() is self._thread:
            raise LocalError("a blocking call in the thread of the reactor would wait for itself for ever")
        call = Call(self, work, ended)
        self._calls.add(call)
        if not self.soon(call.begin):
            call.finish(Failure(Ended()))
        return call

    def soon(self, function: Callable[[], object]) -> bool:
        """
        Call a function in the reactor's thread, and do not wait for it.

        :returns: whether the reactor has not ended.
        """
        with self._lock:
            if not self._ended:
                # eventlet refuses to write while another of its threads writes; that wakes the reactor as well.
                with suppress(RuntimeError):
                    self.reactor.callFromThread(function)
            return not self._ended

    def forget(self, call: Call[Any]) -> None:
        """A call has ended."""
        self._calls.discard(call)

    def leave(self) -> None:
        """Something does not live here any more. When nothing does, the reactor ends. In the reactor's thread."""
        if not self.residents and not self.ending:
            self.ending = True
            self.reactor.callLater(0, self.reactor.stop)

    def join(self, patience: float = STOP_PATIENCE) -> None:
        """Wait until the thread has ended, if it is about to."""
        if self.ending:
            self._thread.join(patience)

    def disown(self) -> None:
        """
        Close this process's copies of the descriptors: after a fork, in the child.

        The poller's is first: the child shares the parent's ``epoll``, where it would unregister the parent's sockets.
        """
        readers, writers = self.reactor.getReaders(), self.reactor.getWriters()
        self._release()
        for each in {*readers, *writers}:
            if hasattr(each, "socket"):
                each.socket.close()
