"""
What an operator may do with an app on its page.

It is paused and resumed, its credential is replaced, and its dead letters are retried or purged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from txapns.daemon.errors import Malformed
from txapns.daemon.interfaces import IOutcomeLog
from txapns.daemon.operations.forms import read_credential, text
from txapns.daemon.secrets.submitted import SubmittedCredential
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

    def get(self, name: str) -> App:
        """Find an app."""

    def rotate_submitted(
        self, name: str, given: SubmittedCredential, environment: Environment, *, caller: str
    ) -> Deferred[None]:
        """Give an app, or one of its two sides, another credential."""

    def pause(self, name: str, caller: str) -> Deferred[bool]:
        """Send nothing more for an app."""

    def resume(self, name: str, caller: str) -> Deferred[bool]:
        """Send for an app again."""


class Management:
    """
    Does what an operator asks for. The log says who did.

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
            await self._apps.pause(app, caller.name)
        elif action == "resume":
            await self._apps.resume(app, caller.name)
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
            await self._apps.rotate_submitted(app, read_credential(form), _environment(form), caller=caller.name)
        else:
            raise Malformed("there is no such action", path="action")


def _environment(form: Mapping[str, bytes]) -> Environment:
    """Read of which side the credential is replaced, of an app with two."""
    name = text(form, "environment") or "production"
    found = next((each for each in Environment if each.name.lower() == name), None)
    if found is None:
        raise Malformed("there is no such environment", path="environment")
    return found
