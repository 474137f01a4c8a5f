"""
The log of a program that knows nothing of Twisted.

Twisted's log goes nowhere until a program begins it, except for critical failures, which go to standard error. So as
long as nobody listens to Twisted's log, what txapns logs goes to the standard library's ``logging``, to the logger with
the name of the module. As soon as somebody listens, such as twistd, crochet or a program that calls
``globalLogBeginner``, they get everything, and ``logging`` gets nothing from here. So nothing is lost, and nothing is
logged twice.
"""

from __future__ import annotations

import logging
from typing import cast

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner, globalLogPublisher

__all__ = ["forward_logs"]


def forward_logs() -> None:
    """Forward the log to ``logging`` from now on. To call it again does nothing."""
    globalLogPublisher.addObserver(cast(ILogObserver, _forward))


def _forward(event: LogEvent) -> None:
    level = event["log_level"]
    if level is LogLevel.critical or not event["log_namespace"].startswith("txapns") or _heard():
        return
    number = getattr(logging, level.name.upper())
    logger = logging.getLogger(event["log_namespace"])
    if logger.isEnabledFor(number):
        logger.log(number, "%s", formatEvent(event))


def _heard() -> bool:
    """Whether anybody listens to Twisted's log but this module, and Twisted itself before the log is begun."""
    known = (_forward, globalLogBeginner._temporaryObserver)
    return any(observer not in known for observer in globalLogPublisher._observers)
