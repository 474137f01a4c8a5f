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
from typing import Any

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

    :param daemon: the daemon, which listens.
    :param path: the file of its configuration.
    """

    def reload() -> None:
        try:
            configuration = Configuration.from_file(path)
        except ConfigurationError as error:
            for line in str(error).splitlines():
                _log.error("the configuration stays as it was: {reason}", reason=line)
        else:
            daemon.reload(configuration).addErrback(_failed)

    def drain() -> None:
        _log.info("the daemon accepts nothing more, and stops when what waits is sent")
        daemon.drain().addErrback(_failed).addCallback(lambda _: reactor.stop())

    for name, function in (("SIGHUP", reload), ("SIGUSR1", drain)):
        _on_signal(reactor, name, function)


def stop_on_termination(reactor: Any) -> None:
    """
    Let ``SIGTERM`` stop the reactor and nothing else.

    ``twistd`` would end the process by the same signal again, which a supervisor takes for a failure.
    """
    _on_signal(reactor, "SIGTERM", reactor.stop)


def _on_signal(reactor: Any, name: str, function: Callable[[], object]) -> None:
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), lambda number, frame: reactor.callFromThread(function))


def _failed(failure: Failure) -> None:
    _log.failure("what a signal asked for failed", failure)
