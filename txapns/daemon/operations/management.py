"""
What an operator may do with an app on its page.

It is paused and resumed, its credential is replaced, and its dead letters are retried or purged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Literal, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from txapns.credentials import Credential
from txapns.daemon.errors import Malformed
from txapns.daemon.interfaces import IOutcomeLog
from txapns.daemon.operations.forms import read_credential, text
from txapns.daemon.secrets.submitted import master_key_failed, read_submitted
from txapns.daemon.values import App, Caller, Environment, State

__all__ = ["ACTIONS", "MOST", "IManagedApps", "Management"]

_log = Logger()

#: What can be done.
ACTIONS = ("pause", "resume", "retry", "purge", "rotate")
#: How many dead letters are retried or purged at a time, the oldest first.
MOST = 10_000


class IManagedApps(Protocol):
    """Changes apps, as :class:`~txapns.daemon.apps.Apps` does."""

    def source(self, name: str) -> Literal["file", "database"]:
        """Tell where an app is kept."""

    def now(self) -> datetime:
        """Tell at what time a certificate has to be valid."""

    def read(self, make: Callable[[], Credential]) -> Deferred[Credential]:
        """Read a credential in a thread."""

    def get(self, name: str) -> App:
        """Find an app."""

    def rotate(self, name: str, credential: Credential, environment: Environment) -> Deferred[None]:
        """Give an app, or one of its two sides, another credential."""

    def pause(self, name: str, caller: str) -> Deferred[bool]:
        """Send nothing more for an app."""

    def resume(self, name: str) -> Deferred[bool]:
        """Send for an app again."""


class Management:
    """
    Does what an operator asks for, and logs who did.

    :param wake: called with an app's name when notifications of the app are due again.
    """

    def __init__(self, apps: IManagedApps, outcomes: IOutcomeLog, wake: Callable[[str], None]) -> None:
        self._apps = apps
        self._outcomes = outcomes
        self._wake = wake

    async def perform(self, action: str, app: str, caller: Caller, form: Mapping[str, bytes]) -> None:
        """
        Do something with an app.

        :param action: one of :data:`ACTIONS`.
        :param caller: who asks for it, and may.
        :param form: what else the form says.
        :raises Malformed: there is no such action, or the form is not filled in.
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
            if form.get("sure") != b"yes":
                raise Malformed("say that you are sure", path="sure")
            count = await self._outcomes.purge(app, State.DEAD, MOST)
            _log.info("{caller} purged {count} notifications of {app}: {state}", count=count, state="dead", **who)
        elif action == "rotate":
            which = await self._rotate(app, form)
            _log.info("{caller} replaced the {which} of the app {app}", which=which, **who)
        else:
            raise Malformed("there is no such action", path="action")

    async def _rotate(self, app: str, form: Mapping[str, bytes]) -> str:
        """Replace a credential; returns which."""
        name = text(form, "environment") or "production"
        environment = {each.name.lower(): each for each in Environment}.get(name)
        if environment is None:
            raise Malformed("there is no such environment", path="environment")
        given, sandbox = read_credential(form), environment is Environment.SANDBOX
        reading = self._apps.read(
            lambda: read_submitted(given, self._apps.now(), gateway="sandbox" if sandbox else None)
        )
        await reading.addCallback(partial(self._apps.rotate, app, environment=environment)).addErrback(
            master_key_failed
        )
        return "sandbox credential" if sandbox else "credential"
