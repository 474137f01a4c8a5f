"""
The plugin behind ``twistd apns`` and ``twist apns``: its option, and the service made from the configuration.
"""

from __future__ import annotations

import os
import sys
from typing import ClassVar

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from txapns._network.clocks import steady
from txapns._running import stop_once
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.operations.collector import calm_collector
from txapns.daemon.service import DaemonService
from txapns.daemon.signals import heed_signals, stop_on_termination
from txapns.errors import APNSError

__all__ = ["Options", "makeService"]

_log = Logger()


class Options(usage.Options):
    """The options of ``twistd apns``. ``txapns check-config`` checks the configuration without starting anything."""

    longdesc = "The push daemon: other programs hand it notifications, it stores them and sends them to Apple."

    optParameters: ClassVar = [["config", "c", "apns.toml", "The configuration."]]


def makeService(options: Options) -> IService:
    """
    Make the daemon's service.

    :returns: the service. If it cannot start, it logs why and stops the reactor.
    :raises SystemExit: the configuration, or a file that it names, cannot be used, which it prints to standard error.
        ``twistd`` and ``twist`` print a traceback of any other exception.
    """
    from twisted.internet import reactor

    stop_once(reactor)
    path = os.path.abspath(options["config"])  # noqa: PTH100 - twistd changes the directory

    def broken(error: Exception) -> None:
        _log.critical("the daemon cannot start: {reason}", reason=str(error))
        reactor.stop()

    try:
        configuration = Configuration.from_file(options["config"])
        daemon = DaemonService(steady(reactor), configuration, os.environ, broken)
    except APNSError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None

    reactor.callWhenRunning(stop_on_termination, reactor)
    reactor.callWhenRunning(heed_signals, reactor, daemon, path)
    daemon.ready.addCallback(lambda _: calm_collector())
    return daemon
