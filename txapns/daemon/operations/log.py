"""
The daemon's log: text on a terminal, otherwise JSON, one line per event. What other packages say is written only if it
is a warning or worse.

::

    {"time": "2026-01-31T12:00:00.123Z", "level": "error", "namespace": "txapns.daemon.sending.sender",
     "message": "chess is tripped: …", "app": "chess", "reason": "…"}

``twistd`` and ``twist`` have logs of their own; ``twistd --logger=txapns.daemon.operations.log.observer`` selects this
one.

Events should contain no secrets, but nothing here relies on that. Whatever looks like a key, a provider token, a
private key or a whole device token is removed from everything that is written, tracebacks included. Of an event's
fields only those in :data:`FIELDS` are written.
"""

from __future__ import annotations

import re
import sys
from datetime import datetime, timezone
from typing import Any, Literal, TextIO

import msgspec
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    formatEventAsClassicLogText,
)
from twisted.python.failure import Failure

from txapns.errors import redact

__all__ = ["FIELDS", "as_json", "as_text", "observer", "scrub"]

#: The fields of events that are written beside the message, if they are numbers or text.
FIELDS = (
    "app",
    "caller",
    "count",
    "expires",
    "face",
    "gateway",
    "key",
    "left",
    "name",
    "names",
    "node",
    "path",
    "peer",
    "reason",
    "seconds",
    "status",
)

_SECRETS = (
    (re.compile(r"(txapns_[0-9a-f]{8})_[0-9a-f]{16,}"), r"\1_…"),
    (re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL), "…"),
    (re.compile(r"\beyJ[\w-]{4,}\.[\w-]+(\.[\w-]+)?"), "…"),
    (re.compile(r"\b((?:bearer|basic) +)[\w.~+/=-]{16,}", re.IGNORECASE), r"\1…"),
    (re.compile(r"(\w+://)[^\s/@]+@"), r"\1…@"),
    (re.compile(r"(?<![\w-])[\w-]{43}=(?![\w=])"), "…"),  # a master key
)
_TOKEN = re.compile(r"(?<![0-9A-Za-z])(?:[0-9a-fA-F]{2}){20,}(?![0-9A-Za-z])")


def scrub(text: str) -> str:
    """Remove secrets and shorten device tokens."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return _TOKEN.sub(lambda match: redact(match[0]), text)


def as_json(event: LogEvent) -> str:
    """Format an event as JSON."""
    time = datetime.fromtimestamp(event.get("log_time", 0.0), timezone.utc)
    level = event.get("log_level")
    line: dict[str, Any] = {
        "time": f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z",
        "level": "info" if level is None else level.name,
        "namespace": str(event.get("log_namespace", "")),
        "message": scrub(formatEvent(event)),
    }
    for name in FIELDS:
        value = event.get(name)
        if isinstance(value, bool | int | float):
            line[name] = value
        elif isinstance(value, str):
            line[name] = scrub(value)
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        line["exception"] = scrub(failure.getTraceback())
    return msgspec.json.encode(line).decode() + "\n"


def as_text(event: LogEvent) -> str | None:
    """
    Format an event for a person.

    :returns: one line or several; ``None`` if the event has no text.
    """
    text = formatEventAsClassicLogText(event, _format_time)
    return None if text is None else scrub(text)


def _format_time(seconds: float | None) -> str:
    return "-" if seconds is None else f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%SZ}"


def observer(
    stream: TextIO | None = None, style: Literal["json", "text"] | None = None, level: str = "info"
) -> ILogObserver:
    """
    Make an observer that writes the log.

    :param stream: where to write; by default standard error.
    :param style: by default text if that is a terminal, otherwise JSON.
    :param level: the name of the lowest level that is written of what this package says.
    """
    stream = sys.stderr if stream is None else stream
    style = style or ("text" if stream.isatty() else "json")
    lowest = LogLevel.levelWithName(level)
    levels = LogLevelFilterPredicate(max(lowest, LogLevel.warn))
    levels.setLogLevelForNamespace("txapns", lowest)
    return FilteringLogObserver(FileLogObserver(stream, as_text if style == "text" else as_json), [levels])
