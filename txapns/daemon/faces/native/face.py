"""
The native face: JSON over HTTP/1.1.

The modules beside this one implement its operations: :mod:`~txapns.daemon.faces.native.notifications`,
:mod:`~txapns.daemon.faces.native.broadcasts`, :mod:`~txapns.daemon.faces.native.channels`,
:mod:`~txapns.daemon.faces.native.outcomes`, :mod:`~txapns.daemon.faces.native.queue` and
:mod:`~txapns.daemon.faces.native.apps`. This one authenticates callers, routes requests by the tables of those modules,
and serves the OpenAPI document of all of them at ``/v1/openapi.json``.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import implementer

from txapns._serving.authorization import bearer_token
from txapns._serving.http import Answer, IApplication, Request
from txapns._serving.operations import Operation, Router, parameter
from txapns._session.channels import Channels
from txapns.daemon.apps import Apps
from txapns.daemon.errors import NotAuthenticated, RequestRefused
from txapns.daemon.faces.native import apps as apps_operations
from txapns.daemon.faces.native import broadcasts, channels, notifications
from txapns.daemon.faces.native import outcomes as outcome_operations
from txapns.daemon.faces.native import queue as queue_operations
from txapns.daemon.faces.native.json_api import fault, refused, refused_later
from txapns.daemon.faces.native.openapi import document
from txapns.daemon.interfaces import IApps, IFeedbackLog, IIntake, IKeys, IOutcomeFeed, IOutcomeLog
from txapns.daemon.sending.channels import no_channels
from txapns.daemon.values import ANYBODY, Caller, Environment

__all__ = ["Native", "openapi"]

_SEGMENTS = {
    "app": parameter("app", "path", "The app's name.", type="string", minLength=1),
    "id": notifications.ID,
    "channel": channels.CHANNEL,
}


def _ignore(app: str) -> None:
    """Do nothing."""


@implementer(IApplication)
class Native:
    """
    Answers the requests of the native face.

    :param keys: the keys that callers show; ``None`` if none are required, which allows all but changing apps.
    :param patience: how long a caller can wait for outcomes, in seconds.
    :param wake: called with an app's name when notifications of the app are due again.
    :param stored: the same apps, if callers may change them.
    :param channels_of: returns the channels of an app, by its name and its side; see :meth:`AppChannels.of`.
    """

    def __init__(
        self,
        intake: IIntake,
        outcomes: IOutcomeLog,
        feedback: IFeedbackLog,
        feed: IOutcomeFeed,
        apps: IApps,
        keys: IKeys | None,
        patience: float = 30.0,
        wake: Callable[[str], None] = _ignore,
        stored: Apps | None = None,
        channels_of: Callable[[str, Environment | None], Channels] = no_channels,
    ) -> None:
        self._keys = keys
        self._openapi = openapi()
        self._router = Router(
            {
                notifications.NotificationOperations(
                    intake, outcomes, feedback, apps, patience
                ): notifications.OPERATIONS,
                broadcasts.BroadcastOperations(intake, apps, patience): broadcasts.OPERATIONS,
                channels.ChannelOperations(channels_of): channels.OPERATIONS,
                outcome_operations.OutcomeOperations(feed, apps): outcome_operations.OPERATIONS,
                queue_operations.QueueOperations(outcomes, apps, wake): queue_operations.OPERATIONS,
                apps_operations.AppOperations(None if keys is None else stored): apps_operations.OPERATIONS,
                self: _OPERATIONS,
            },
            fault,
        )

    def begun(self, request: Request) -> Answer | None:
        """Authenticate the caller."""
        if self._keys is None:
            request.context = ANYBODY
            return None
        key = bearer_token(request.authorization)
        try:
            if key is None:
                raise NotAuthenticated("a key is required: Authorization: Bearer txapns_…")
            request.context = self._keys.check(key)
        except RequestRefused as refusal:
            return refused(refusal)
        request.mark_authenticated()
        return None

    def received(self, request: Request) -> Answer | Deferred[Answer]:
        """Route the request to its operation."""
        request.mark_authenticated()  # with a key again: there may be a place for it by now
        try:
            result = self._router.answer(request, request.context)
        except RequestRefused as refusal:
            return refused(refusal)
        return result if isinstance(result, Answer) else result.addErrback(refused_later)

    def fault(self, status: int, message: str, request: Request | None = None) -> Answer:
        """See :meth:`IApplication.fault`."""
        return fault(status, message)

    def describe(self, request: Request, caller: Caller) -> Answer:
        """Serve the OpenAPI document."""
        return Answer(200, self._openapi)


_OPERATIONS = (
    Operation(
        "GET",
        "/v1/openapi.json",
        Native.describe,
        "describe",
        "Get this document.",
        {200: ("The document.", (dict,))},
        (401,),
    ),
)


def openapi() -> bytes:
    """Make the OpenAPI document of the face, in JSON."""
    return document(
        [
            *notifications.OPERATIONS,
            *broadcasts.OPERATIONS,
            *channels.OPERATIONS,
            *outcome_operations.OPERATIONS,
            *queue_operations.OPERATIONS,
            *apps_operations.OPERATIONS,
            *_OPERATIONS,
        ],
        _SEGMENTS,
        {**notifications.EXTRAS, **broadcasts.EXTRAS, **apps_operations.EXTRAS},
    )
