"""
Broadcast channels: requests about them are passed on to Apple, and answered when Apple has answered.

::

    GET    /v1/apps/<app>/channels              list the app's channels
    POST   /v1/apps/<app>/channels              make one
    GET    /v1/apps/<app>/channels/<channel>    read one's properties
    DELETE /v1/apps/<app>/channels/<channel>    delete one

An identifier is base64, so in a path its slashes are written ``%2F``. All of this needs a key that allows sending for
the app, and nothing more: a program makes a channel for each match or flight that it broadcasts, and deletes it
afterwards. With the app's own credential it could do the same at Apple.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns import reasons
from txapns._serving.http import Answer, Request
from txapns._serving.operations import Operation, parameter
from txapns._session.channels import Channels
from txapns.channels import LIVE_ACTIVITY, Channel
from txapns.daemon.errors import (
    Malformed,
    NoAnswer,
    NotAllowed,
    NotSupported,
    RejectedByApple,
    RequestRefused,
    Unavailable,
    UnknownChannel,
)
from txapns.daemon.faces.native.broadcasts import ChannelId
from txapns.daemon.faces.native.json_api import ENVIRONMENTS, encode, json_body, parameters
from txapns.daemon.intake import MAX_HEADER
from txapns.daemon.values import Caller, Environment
from txapns.errors import APNSError, InvalidChannel, OutcomeUnknown, QueueFull, RequestRejected, WireError
from txapns.reasons import Action, Reason

__all__ = ["CHANNEL", "OPERATIONS", "ChannelOperations"]

_T = TypeVar("_T")

_log = Logger()

#: The parameter in a path that names a channel.
CHANNEL = parameter("channel", "path", "The channel's identifier.", type="string", minLength=1, maxLength=MAX_HEADER)

_ENVIRONMENT = parameter(
    "environment",
    "query",
    "Of an app with two sides, the one whose channels are meant; by default, production.",
    type="string",
    enum=["production", "sandbox"],
)

_BUSY = 5.0  # in how many seconds a caller may ask again if Apple does not say
_REPAIRED = 60.0  # in how many seconds an operator may have repaired something


class _NewChannel(Struct, forbid_unknown_fields=True):
    """A request to make a channel."""

    # A float, because 1.0 is a whole number in JSON, too.
    storage_policy: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            multiple_of=1,
            description="What it stores for devices that cannot be reached: 0 nothing, 1 the latest broadcast.",
        ),
    ] = 0
    push_type: Annotated[str, Meta(description="Apple supports no other.")] = LIVE_ACTIVITY


class _Channel(Struct):
    """A channel."""

    channel: ChannelId
    storage_policy: Annotated[int, Meta(description="What it stores: 0 nothing, 1 the latest broadcast.")]
    push_type: str


class _Channels(Struct):
    """All channels of an app."""

    channels: list[ChannelId]


_new_channel = msgspec.json.Decoder(_NewChannel)


class ChannelOperations:
    """
    The operations of channels.

    :param channels: returns the channels of an app.
    """

    def __init__(self, channels: Callable[[str, Environment | None], Channels]) -> None:
        self._channels = channels

    def list(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        """List the channels of an app."""
        found = self._found(request, caller, app).list()
        return _answered(found, lambda channels: Answer(200, encode(_Channels(channels))))

    def create(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        """Make a channel."""
        channels = self._found(request, caller, app)
        asked = json_body(_new_channel, request)

        def made(channel: Channel) -> Answer:
            _log.info(
                "{caller} made the channel {channel} of the app {app}",
                caller=caller.name,
                channel=channel.channel_id,
                app=app,
            )
            return Answer(201, _channel(channel))

        return _answered(channels.create(int(asked.storage_policy), push_type=asked.push_type), made)

    def read(self, request: Request, caller: Caller, app: str, channel_id: str) -> Deferred[Answer]:
        """Read the properties of a channel."""
        found = self._found(request, caller, app).read(channel_id)
        return _answered(found, lambda channel: Answer(200, _channel(channel)))

    def delete(self, request: Request, caller: Caller, app: str, channel_id: str) -> Deferred[Answer]:
        """Delete a channel."""

        def deleted(_: None) -> Answer:
            _log.info(
                "{caller} deleted the channel {channel} of the app {app}",
                caller=caller.name,
                channel=channel_id,
                app=app,
            )
            return Answer(204)

        return _answered(self._found(request, caller, app).delete(channel_id), deleted)

    def _found(self, request: Request, caller: Caller, app: str) -> Channels:
        if not caller.may_send(app):
            raise NotAllowed("the key does not allow sending for this app")
        name = parameters(request, "environment").get("environment", UNSET)
        if name not in ENVIRONMENTS:
            raise Malformed("the environment is production or sandbox", path="environment")
        channels = self._channels(app, ENVIRONMENTS[name])
        if channels.bundle_id is None:
            raise NotSupported("the app has no topic: give it its bundle id")
        return channels


def _channel(channel: Channel) -> bytes:
    return encode(_Channel(channel.channel_id, channel.storage_policy, channel.push_type))


def _answered(asked: Deferred[_T], answer: Callable[[_T], Answer]) -> Deferred[Answer]:
    """Write Apple's answer, or refuse the request for the reason that there is none."""

    def failed(failure: Failure) -> Answer:
        error = failure.value
        if not isinstance(error, APNSError):
            failure.raiseException()
        raise _refusal(error) from None

    return asked.addCallbacks(answer, failed)


def _refusal(error: APNSError) -> RequestRefused:
    if isinstance(error, RequestRejected):
        return _rejected(error)
    if isinstance(error, InvalidChannel):
        return Malformed(str(error), path="channel")
    if isinstance(error, OutcomeUnknown | WireError):
        return NoAnswer(f"no answer of Apple's came, so it may have been done: {error}")
    if isinstance(error, QueueFull):
        return Unavailable("too many requests about channels of this app wait already", _BUSY)
    return Unavailable(f"Apple was not asked: {error}", _BUSY)


def _rejected(error: RequestRejected) -> RequestRefused:
    action = reasons.action(error.status, error.reason)
    if error.reason == Reason.CHANNEL_NOT_REGISTERED:
        return UnknownChannel(str(error))
    if error.reason in (Reason.BAD_CHANNEL_ID, Reason.MISSING_CHANNEL_ID):
        return Malformed(str(error), path="channel")
    if action in (Action.CREDENTIAL, Action.RENEW):
        return Unavailable(f"Apple does not accept the app's credential: {error}", _REPAIRED)
    if action in (Action.RETRY, Action.RECONNECT):
        return Unavailable(str(error), _BUSY if error.retry_after is None else error.retry_after)
    return RejectedByApple(str(error), error.reason)


_ERRORS = (400, 401, 403, 404, 409, 422, 503, 504)

#: What :class:`ChannelOperations` answers.
OPERATIONS = (
    Operation(
        "GET",
        "/v1/apps/{app}/channels",
        ChannelOperations.list,
        "channels",
        "List the app's broadcast channels.",
        {200: ("All of them.", (_Channels,))},
        _ERRORS,
        parameters=(_ENVIRONMENT,),
    ),
    Operation(
        "POST",
        "/v1/apps/{app}/channels",
        ChannelOperations.create,
        "create_channel",
        "Make a broadcast channel.",
        {201: ("It is made.", (_Channel,))},
        (*_ERRORS, 413, 415),
        body=_NewChannel,
        parameters=(_ENVIRONMENT,),
    ),
    Operation(
        "GET",
        "/v1/apps/{app}/channels/{channel}",
        ChannelOperations.read,
        "channel",
        "Read the properties of a broadcast channel.",
        {200: ("They are these.", (_Channel,))},
        _ERRORS,
        parameters=(_ENVIRONMENT,),
    ),
    Operation(
        "DELETE",
        "/v1/apps/{app}/channels/{channel}",
        ChannelOperations.delete,
        "delete_channel",
        "Delete a broadcast channel for good.",
        {204: ("It is deleted.", ())},
        _ERRORS,
        parameters=(_ENVIRONMENT,),
    ),
)
