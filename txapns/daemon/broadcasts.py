"""
Broadcasts: notifications for a channel, which reach all devices that listen to it.

A broadcast goes the way of every notification, from the intake through the queue to Apple, with the same retries and
outcomes. Two things are particular about it: its header field ``apns-channel-id``, and that its token is empty. What
Apple requires of a broadcast and the caller leaves out, the client adds; see :meth:`txapns.APNSClient.broadcast`.
"""

from __future__ import annotations

from collections.abc import Mapping

from txapns.channels import broadcast_request
from txapns.client import default_bundle_id
from txapns.daemon.errors import Malformed, NotSupported
from txapns.daemon.values import CHANNEL, App, Draft, Environment, Lane, Side
from txapns.errors import InvalidChannel
from txapns.notification import Notification

__all__ = ["broadcast_draft", "check_broadcast", "check_gateway", "side_of"]

_NO_PAYLOAD = Notification(payload={})


def broadcast_draft(
    payload: bytes,
    headers: Mapping[str, str],
    channel: str,
    request_id: str | None = None,
    not_before: float | None = None,
    lane: Lane | None = None,
    environment: Environment | None = None,
) -> Draft:
    """
    Make a draft of a broadcast.

    :param headers: its other header fields; the topic is the app's bundle id.
    :param channel: the channel's identifier.
    :param request_id: the id that the caller chose; ``None`` if the daemon chooses.
    :param not_before: the date before which it is not sent; ``None`` to send it now.
    :param lane: the lane that the caller asks for; ``None`` if the daemon chooses.
    :param environment: the side that it is for, of an app with two; ``None`` for production, or the only side.
    """
    ids = () if request_id is None else (request_id,)
    return Draft(payload, {**headers, CHANNEL: channel}, [b""], ids, not_before, lane=lane, environment=environment)


def check_gateway(app: App) -> None:
    """
    Check whether an app's gateway has broadcasts.

    :raises NotSupported: it speaks the binary protocol.
    """
    if app.gateway.protocol != "http2":
        raise NotSupported("the app's gateway speaks the binary protocol, which has no broadcasts and no channels")


def side_of(app: App, environment: Environment | None) -> Side:
    """
    Find the side of an app to which something goes that names its environment, as whoever sends to channels must.

    Each environment has channels of its own, and nothing tells of which one a channel is.

    :param environment: the environment; ``None`` for production, or the only side.
    :raises NotSupported: the app has only one side.
    """
    if app.sandbox is None:
        if environment is not None:
            raise NotSupported('the app has only one side: its environment is not "auto"')
        return Side(app.gateway, app.credential)
    return app.sides[environment or Environment.PRODUCTION]


def check_broadcast(app: App, draft: Draft, path: str) -> None:
    """
    Check what a broadcast must have beside what every notification must have.

    :param draft: the draft, which has a channel.
    :param path: the part of the request that it is.
    :raises NotSupported: the app's gateway has no broadcasts.
    :raises Malformed: it has device tokens, a collapse id or no bundle id, or no request can carry its channel.
    """
    check_gateway(app)
    if list(draft.tokens) != [b""]:
        raise Malformed(f"{path}: a broadcast is for one channel, and for no device tokens", path=path)
    if "apns-collapse-id" in draft.headers:
        path = f"{path}.headers.apns-collapse-id"
        raise Malformed(f"{path}: a broadcast has none", path=path)
    bundle_id = draft.headers.get("apns-topic") or default_bundle_id(app.credential, app.topic)
    if not bundle_id:
        path = f"{path}.headers.apns-topic"
        raise Malformed(f"{path}: it must be the bundle id, since the app has no topic of its own", path=path)
    try:
        broadcast_request(_NO_PAYLOAD, draft.headers[CHANNEL], bundle_id)
    except InvalidChannel as error:
        raise Malformed(f"{path}.channel: {error}", path=f"{path}.channel") from None
