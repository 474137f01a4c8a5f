"""Blocking clients in a program that runs Twisted by crochet; prints a line of JSON for each job."""

from __future__ import annotations

import json
import logging
import sys
import time

import crochet
from twisted.logger import Logger

from tests.blocking_job import client_of, exercise, leave

crochet.setup()
STATE = sys.argv[1]
log = Logger("txapns.test")
seen: list[str] = []


class Handler(logging.Handler):
    """Remembers messages."""

    def emit(self, record: logging.LogRecord) -> None:
        """Remember one."""
        seen.append(record.getMessage())


@crochet.wait_for(timeout=120)
def inner() -> None:
    """Wait for the reactor."""


@crochet.wait_for(timeout=120)
def outer() -> str:
    """Wait for the reactor in the reactor's thread, which crochet refuses."""
    try:
        inner()
    except RuntimeError as error:
        return type(error).__name__
    raise AssertionError("crochet does not know its thread any more")


logging.getLogger().addHandler(Handler())
client = client_of(STATE)
print(json.dumps(exercise(client)))
assert outer() == "RuntimeError"
log.warn("once")
patience = time.monotonic() + 120
while "once" not in seen and time.monotonic() < patience:  # crochet logs in a thread of its own
    time.sleep(0.01)
print(json.dumps(exercise(client)))
client.close()
inner()
assert seen.count("once") == 1, seen
leave(STATE)
