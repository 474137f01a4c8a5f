"""
The signals that a running daemon heeds, besides those that stop the reactor.

``SIGHUP``
    Read the configuration again, and use it as far as that does not need a restart.
``SIGUSR1``
    Drain: refuse new requests, send what waits, and stop.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import attrs
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns.daemon.config.configuration import Configuration
from txapns.daemon.errors import ConfigurationError
from txapns.daemon.service import DaemonService

__all__ = ["heed_signals", "stop_on_termination"]

_log = Logger()


def heed_signals(reactor: Any, daemon: DaemonService, path: str) -> None:
    """
    Heed the signals from now on, where the platform has them.

    What comes before the daemon listens is done as soon as it does. What comes while it stops is ignored, and so is a
    request to drain while it drains.

    :param path: the file of its configuration.
    """
    signals = _Signals(reactor, daemon, path)
    for name, function in (("SIGHUP", signals.reload), ("SIGUSR1", signals.drain)):
        _on_signal(reactor, name, partial(signals.when_ready, function))


@attrs.define(eq=False)
class _Signals:
    """What the signals ask for."""

    reactor: Any
    daemon: DaemonService
    path: str
    draining: bool = False

    def when_ready(self, function: Callable[[], object]) -> None:
        self.daemon.ready.addCallback(lambda _: self.daemon.running and function()).addErrback(self._failed)

    def reload(self) -> None:
        try:
            reloading = self.daemon.reload(Configuration.from_file(self.path))
        except ConfigurationError as error:
            for line in str(error).splitlines():
                _log.error("the configuration stays as it was: {reason}", reason=line)
        else:
            reloading.addErrback(self._failed)

    def drain(self) -> None:
        if self.draining:
            return
        self.draining = True
        _log.info("the daemon accepts nothing more, and stops when what waits is sent")
        self.daemon.drain().addErrback(self._failed).addCallback(lambda _: self.reactor.stop())

    def _failed(self, failure: Failure) -> None:
        if self.daemon.running:  # otherwise it failed because the daemon stops
            _log.failure("what a signal asked for failed", failure)


def stop_on_termination(reactor: Any) -> None:
    """
    Let ``SIGTERM`` stop the reactor and nothing else.

    ``twistd`` would end the process by the same signal again, which a supervisor takes for a failure. So would another
    one that comes when the reactor has stopped.
    """
    _on_signal(reactor, "SIGTERM", partial(_stop, reactor))
    if hasattr(signal, "pthread_sigmask"):
        reactor.addSystemEventTrigger("after", "shutdown", signal.pthread_sigmask, signal.SIG_BLOCK, [signal.SIGTERM])


def _stop(reactor: Any) -> None:
    with suppress(ReactorNotRunning):  # it is stopping already
        reactor.stop()


def _on_signal(reactor: Any, name: str, function: Callable[[], object]) -> None:
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), lambda number, frame: reactor.callFromThread(function))
