"""
The outcome feed of an app: what became of its notifications, one after the other.

::

    GET /v1/apps/<app>/outcomes?after=&limit=     the outcomes, by cursor

It is there for apps whose settings say so.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from twisted.internet.defer import Deferred

from txapns._serving.http import Answer, Request
from txapns._serving.operations import Operation
from txapns.daemon.errors import NotAllowed, NotRecorded
from txapns.daemon.faces.native.json_api import encode, page, parameters
from txapns.daemon.faces.native.openapi import PAGING
from txapns.daemon.faces.native.submissions import OutcomeBody, outcome_values
from txapns.daemon.interfaces import IApps, IOutcomeFeed
from txapns.daemon.values import Caller, RecordedOutcome

__all__ = ["OPERATIONS", "OutcomeOperations"]


class _RecordedOutcome(OutcomeBody, kw_only=True, omit_defaults=True):
    """What became of one notification for one device."""

    cursor: Annotated[int, Meta(description="Its place among those of the app: 1, 2, 3 and so on, without gaps.")]
    token: Annotated[str, Meta(description="The device token, in hexadecimal; empty for a broadcast.")]


class _Outcomes(Struct):
    """Some of the outcomes."""

    outcomes: list[_RecordedOutcome]
    cursor: Annotated[int, Meta(description="Where to continue: give it as 'after'.")]


class OutcomeOperations:
    """The operations of the outcome feed."""

    def __init__(self, feed: IOutcomeFeed, apps: IApps) -> None:
        self._feed = feed
        self._apps = apps

    def read(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        """Read outcomes."""
        if not caller.may_read(app):
            raise NotAllowed("the key does not allow reading the outcomes of this app")
        cursor, limit = page(parameters(request, "after", "limit"))
        if not self._apps.get(app).outcomes:
            raise NotRecorded(f"the outcomes of the app {app} are not recorded; set outcomes = true for it")

        def read(found: list[RecordedOutcome]) -> Answer:
            return Answer(200, encode(_Outcomes(list(map(_body, found)), found[-1].cursor if found else cursor)))

        return self._feed.after(app, cursor, limit).addCallback(read)


def _body(recorded: RecordedOutcome) -> _RecordedOutcome:
    return _RecordedOutcome(*outcome_values(recorded.outcome), cursor=recorded.cursor, token=recorded.token.hex())


#: What :class:`OutcomeOperations` answers.
OPERATIONS = (
    Operation(
        "GET",
        "/v1/apps/{app}/outcomes",
        OutcomeOperations.read,
        "outcomes",
        "Read outcomes, if they are recorded.",
        {200: ("Those after the cursor.", (_Outcomes,))},
        (400, 401, 403, 404, 409, 503),
        parameters=PAGING,
    ),
)
