"""What an operator may do with an app on its page: pause and resume it, and retry or purge its dead letters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from txapns.daemon.errors import Malformed
from txapns.daemon.interfaces import IOutcomeLog
from txapns.daemon.values import Caller, State

__all__ = ["ACTIONS", "MOST", "IPauses", "Management"]

_log = Logger()

#: What can be done.
ACTIONS = ("pause", "resume", "retry", "purge")
#: How many dead letters are retried or purged at a time, the oldest first.
MOST = 10_000


class IPauses(Protocol):
    """Pauses and resumes apps, as :class:`~txapns.daemon.apps.Apps` does."""

    def pause(self, name: str, caller: str) -> Deferred[bool]:
        """Send nothing more for an app."""

    def resume(self, name: str) -> Deferred[bool]:
        """Send for an app again."""


class Management:
    """
    Does what an operator asks for, and logs who did.

    :param wake: called with an app's name when notifications of the app are due again.
    """

    def __init__(self, apps: IPauses, outcomes: IOutcomeLog, wake: Callable[[str], None]) -> None:
        self._apps = apps
        self._outcomes = outcomes
        self._wake = wake

    async def perform(self, action: str, app: str, caller: Caller) -> None:
        """
        Do something with an app.

        :param action: one of :data:`ACTIONS`.
        :param caller: who asks for it, and may.
        :raises Malformed: there is no such action.
        :raises RequestRefused: it cannot be done now.
        """
        who = {"caller": caller.name, "app": app}
        if action == "pause":
            if await self._apps.pause(app, caller.name):
                _log.info("{caller} paused the app {app}", **who)
        elif action == "resume":
            if await self._apps.resume(app):
                _log.info("{caller} resumed the app {app}", **who)
        elif action == "retry":
            count = await self._outcomes.retry(app, MOST)
            self._wake(app)
            _log.info("{caller} retried {count} dead letters of {app}", count=count, **who)
        elif action == "purge":
            count = await self._outcomes.purge(app, State.DEAD, MOST)
            _log.info("{caller} purged {count} notifications of {app}: {state}", count=count, state="dead", **who)
        else:
            raise Malformed("there is no such action", path="action")
