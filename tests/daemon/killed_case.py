"""A daemon that is killed and started again while programs send requests to it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.task import deferLater
from twisted.web.client import RequestNotSent, ResponseFailed, ResponseNeverReceived

from tests.daemon.daemon_case import DaemonCase

__all__ = ["GONE", "KilledCase"]

#: The errors of an HTTP client whose daemon is killed or not running.
GONE = (ConnectError, ConnectionDone, ConnectionLost, RequestNotSent, ResponseFailed, ResponseNeverReceived, OSError)
#: The variable with the seed of a run that is to be repeated.
SEED = "TXAPNS_TEST_SEED"


class KilledCase(DaemonCase):
    """
    The same, with a daemon that is killed.

    :ivar chance: what is left to chance; its seed is printed.
    :ivar killed: when the daemon was killed, so far, in UNIX seconds.
    """

    def setUp(self) -> None:
        """Choose a seed."""
        super().setUp()
        seed = int(os.environ.get(SEED) or Random().randrange(10**6))
        self.say(f"{SEED}={seed}")
        self.chance = Random(seed)
        self.killed: list[float] = []
        self._back: Deferred[None] = Deferred()
        self._back.callback(None)

    def say(self, text: str) -> None:
        """Tell what happens, for those who read the output of a failure."""
        sys.stdout.write(f"{type(self).__name__}: {text}\n")

    async def kill(self) -> None:
        """Kill the daemon, and start it again."""
        self._back = Deferred()
        self.killed.append(time.time())
        await self.daemon.end(signal.SIGKILL)
        await self.daemon.start()
        self._back.callback(None)

    async def running(self) -> None:
        """Wait until the daemon runs."""
        waiting: Deferred[None] = Deferred()
        self._back.addCallback(lambda _: waiting.callback(None))
        await waiting

    async def insist(self, method: str, path: str, body: object, headers: Mapping[str, str]) -> Any:
        """Send a request, again and again until the daemon answers that it was done; returns the body of the answer."""
        while True:
            await self.running()
            try:
                status, answer = await self.daemon.ask(method, path, body, headers)
            except GONE:
                await deferLater(reactor, 0.02)
                continue
            self.assertIn(status, (200, 201, 202), answer)
            return answer
