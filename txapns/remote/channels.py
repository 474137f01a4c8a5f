"""
Broadcasts and channels by way of the daemon: generators, as in :mod:`txapns.remote.asking`, and what programs call.

A broadcast has an idempotency key, so it is asked for again when an answer is lost. Making a channel has none, and is
asked once: if the answer is lost, there may be a channel, and the list tells.
"""

from __future__ import annotations

import json
import operator
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import quote

import attrs

from txapns.channels import LIVE_ACTIVITY, Channel, StoragePolicy, broadcast_request
from txapns.errors import DaemonRefused, InvalidNotification, RequestRejected
from txapns.notification import Notification
from txapns.remote.asking import Daemon, Request, Steps, outcome_of
from txapns.remote.sending import Environment, described, entry
from txapns.result import Accepted, Rejection

__all__ = ["AsyncChannels", "Channels", "broadcast"]

T = TypeVar("T")

_ANY_APP = "app"  # the daemon knows which
_CHANNEL, _TOPIC = "apns-channel-id", "apns-topic"


def broadcast(
    daemon: Daemon, notification: Notification, channel_id: str, key: str | None, environment: Environment | None
) -> Steps[Accepted | Rejection]:
    """
    Broadcast, and ask until there is an outcome.

    :raises InvalidChannel: the channel cannot be sent.
    """
    fields = broadcast_request(notification, channel_id, _ANY_APP).headers()
    headers = {name.decode(): value.decode() for name, value in fields if name != _CHANNEL.encode()}
    if notification.topic is not None:
        headers[_TOPIC] = notification.topic
    written = entry({"channel": channel_id, "headers": headers}, notification, environment)
    body, key = b'{"wait":true,"broadcasts":[%b]}' % written, key or uuid.uuid4().hex
    while True:
        answer = yield from daemon.ask(Request("POST", daemon.path("broadcasts"), content=body, key=key))
        outcome = outcome_of(answer["broadcasts"][0]["outcome"])
        if outcome.state != "waiting":
            break
        yield 0.0
    if outcome.state == "accepted":
        return Accepted(channel_id, "", outcome.apns_id, outcome.unique_id)
    found = described((channel_id, notification, ""), outcome)
    if isinstance(found, Rejection):
        return found
    raise found.error


@attrs.frozen
class _Asking:
    """The requests about the channels of an app."""

    daemon: Daemon

    def create(self, storage_policy: int, push_type: str, environment: Environment | None) -> Steps[Channel]:
        try:
            policy = operator.index(storage_policy)
        except TypeError:
            raise InvalidNotification(f"a storage policy must be an integer, not {storage_policy!r}") from None
        content = json.dumps({"storage_policy": policy, "push_type": str(push_type)}).encode()
        return _channel((yield from self._ask("POST", environment, content=content, once=True)))

    def read(self, channel_id: str, environment: Environment | None) -> Steps[Channel]:
        return _channel((yield from self._ask("GET", environment, channel_id)))

    def delete(self, channel_id: str, environment: Environment | None) -> Steps[None]:
        yield from self._ask("DELETE", environment, channel_id)

    def list(self, environment: Environment | None) -> Steps[list[str]]:
        return list((yield from self._ask("GET", environment))["channels"])

    def _ask(
        self,
        method: str,
        environment: Environment | None,
        *named: str,
        content: bytes | None = None,
        once: bool = False,
    ) -> Steps[Any]:
        path = "/".join([self.daemon.path("channels"), *(quote(each, safe="") for each in named)])
        parameters: dict[str, int | str] = {} if environment is None else {"environment": environment}
        try:
            return (yield from self.daemon.ask(Request(method, path, parameters, content, once=once)))
        except DaemonRefused as refused:
            if refused.reason:
                raise RequestRejected(str(refused), reason=refused.reason) from refused
            raise


def _channel(found: dict[str, Any]) -> Channel:
    return Channel(found["channel"], found["storage_policy"], found["push_type"])


class Channels:
    """
    The channels of the app: ``client.channels``. The daemon passes each request on to Apple. Of an app with two sides,
    ``environment`` says whose channels are meant, ``"production"`` or ``"sandbox"``; left out, those of production. The
    methods raise

    - :exc:`~txapns.errors.RequestRejected`: Apple rejected it; the status is 0, since the daemon tells only the reason.
    - :exc:`~txapns.errors.OutcomeUnknown`: no answer came, from Apple or from the daemon. It is safe to read, list or
      delete again; if a channel was created, it is in the list.
    - another :exc:`~txapns.errors.APNSError`: it was not done.

    :param run: takes the steps.
    """

    def __init__(self, daemon: Daemon, run: Callable[[Steps[Any]], Any]) -> None:
        self._asking = _Asking(daemon)
        self._run = run

    def create(
        self,
        storage_policy: int = StoragePolicy.NO_MESSAGE_STORED,
        *,
        push_type: str = LIVE_ACTIVITY,
        environment: Environment | None = None,
    ) -> Channel:
        """
        Make a channel.

        :param storage_policy: a :class:`~txapns.StoragePolicy`, or another number.
        :param push_type: what will be sent to it. Apple supports no other.
        :param environment: the side that it is made on.
        :returns: the channel.
        """
        made: Channel = self._run(self._asking.create(storage_policy, push_type, environment))
        return made

    def read(self, channel_id: str, *, environment: Environment | None = None) -> Channel:
        """
        Read a channel's properties.

        :param channel_id: its identifier.
        :param environment: the side that has it.
        :returns: the channel.
        """
        found: Channel = self._run(self._asking.read(channel_id, environment))
        return found

    def delete(self, channel_id: str, *, environment: Environment | None = None) -> None:
        """
        Delete a channel permanently.

        :param channel_id: its identifier.
        :param environment: the side that has it.
        """
        self._run(self._asking.delete(channel_id, environment))

    def list(self, *, environment: Environment | None = None) -> list[str]:
        """
        List the channels of the app.

        :param environment: the side that has them.
        :returns: their identifiers, in Apple's order.
        """
        found: list[str] = self._run(self._asking.list(environment))
        return found


class AsyncChannels:
    """
    The channels of the app, for coroutines of asyncio; the same as :class:`Channels`.

    :param run: takes the steps.
    """

    def __init__(self, daemon: Daemon, run: Callable[[Steps[Any]], Awaitable[Any]]) -> None:
        self._asking = _Asking(daemon)
        self._run = run

    async def create(
        self,
        storage_policy: int = StoragePolicy.NO_MESSAGE_STORED,
        *,
        push_type: str = LIVE_ACTIVITY,
        environment: Environment | None = None,
    ) -> Channel:
        """Make a channel; see :meth:`Channels.create`."""
        made: Channel = await self._run(self._asking.create(storage_policy, push_type, environment))
        return made

    async def read(self, channel_id: str, *, environment: Environment | None = None) -> Channel:
        """Read a channel's properties; see :meth:`Channels.read`."""
        found: Channel = await self._run(self._asking.read(channel_id, environment))
        return found

    async def delete(self, channel_id: str, *, environment: Environment | None = None) -> None:
        """Delete a channel permanently; see :meth:`Channels.delete`."""
        await self._run(self._asking.delete(channel_id, environment))

    async def list(self, *, environment: Environment | None = None) -> list[str]:
        """List the channels of the app; see :meth:`Channels.list`."""
        found: list[str] = await self._run(self._asking.list(environment))
        return found
