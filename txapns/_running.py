"""
A reactor for a command: it runs until some work is done, or a signal asks for an end. Nobody who sets the wall clock
moves its timers.
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

    :param work: called with the reactor and a ``Deferred`` that fires when a signal asks for an end. The reactor goes
        on until the work has come to it.
    :returns: what the work returned; what it raised is raised.
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
            _heed_no_more()
        asked.callback(None)
        return done

    reactor.addSystemEventTrigger("before", "shutdown", ask)
    reactor.callWhenRunning(begin)
    reactor.run()
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result


def _heed_no_more() -> None:
    """Ignore further signals up to the very end: Python forgets its own ways of dealing with them a little before."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def stop_once(reactor: Any) -> None:
    """
    Have a reactor that is ending already take it calmly when it is told to stop again.

    Supervisors and process groups send a signal each, and people press Ctrl-C twice. Twisted's reactor raises an
    exception then, which would stand in the log as a critical failure of an orderly end.

    :param reactor: the reactor of a program of our own.
    """
    stop = reactor.stop

    def again() -> None:
        with suppress(ReactorNotRunning):
            stop()

    reactor.stop = again
