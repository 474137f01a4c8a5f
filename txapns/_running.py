"""
The reactor for a command: it runs until some work is done or a signal stops it. Setting the wall clock does not move
its timers.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.python.failure import Failure

from txapns._network.clocks import steady

__all__ = ["run", "stop_once"]

T = TypeVar("T")


def run(work: Callable[[Any, Deferred[None]], Coroutine[Deferred[Any], Any, T]]) -> T:
    """
    Run the reactor until some work is done.

    :param work: called with the reactor and a ``Deferred`` that fires when a signal asks it to stop. The reactor keeps
        running until the work has ended.
    :returns: what the work returned; an exception of the work is raised.
    """
    from twisted.internet import reactor

    steady(reactor)
    stop_once(reactor)
    asked: Deferred[None] = Deferred()
    done: Deferred[None] = Deferred()
    results: list[T | Failure] = []

    def begin() -> None:
        Deferred.fromCoroutine(work(reactor, asked)).addBoth(end)

    def end(result: T | Failure) -> None:
        results.append(result)
        done.callback(None)
        reactor.stop()  # a signal may have stopped it already

    def ask() -> Deferred[None]:
        if not results:
            _ignore_signals()
        asked.callback(None)
        return done

    reactor.addSystemEventTrigger("before", "shutdown", ask)
    reactor.callWhenRunning(begin)
    reactor.run()
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result


def _ignore_signals() -> None:
    """Ignore further signals: near the end of a program, Python restores their default actions."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def stop_once(reactor: Any) -> None:
    """
    Let a reactor ignore being stopped again while it is stopping.

    A supervisor and a process group may send a signal each, and people press Ctrl-C twice. Twisted's reactor then
    raises an exception, which would appear in the log as a critical failure of an orderly shutdown.
    """
    stop = reactor.stop

    def again() -> None:
        with suppress(ReactorNotRunning):
            stop()

    reactor.stop = again
