"""From the devices that a request names to what is sent to them."""

from __future__ import annotations

import attrs
from twisted.logger import Logger

from txapns._network.clocks import IWallClock
from txapns._pushkeys import token_of
from txapns.daemon.config.sections import MatrixAppSection
from txapns.daemon.errors import NotAllowed
from txapns.daemon.faces.callers import default_headers
from txapns.daemon.faces.matrix.app_ids import AppIds
from txapns.daemon.faces.matrix.payloads import payload_of, shortened
from txapns.daemon.faces.matrix.requests import Device, Event
from txapns.daemon.interfaces import IApps
from txapns.daemon.values import App, Caller, Draft, Idempotency, Outcome, State
from txapns.devices.rules.request import MAX_PAYLOAD, MAX_VOIP_PAYLOAD
from txapns.errors import InvalidPayload
from txapns.notification import PushType
from txapns.reasons import Reason, Status, status_name

__all__ = ["Push", "Pushes", "UselessPushkey"]

# Reasons for which a token is of no use, no matter when it was registered; and those for which it may be again.
_USELESS = frozenset(
    {
        Reason.BAD_DEVICE_TOKEN.value,
        Reason.DEVICE_TOKEN_NOT_FOR_TOPIC.value,
        status_name(Status.INVALID_TOKEN_SIZE),
        status_name(Status.INVALID_TOKEN),  # also the name of our exception for what cannot be a token
    }
)
_DEAD = frozenset({Reason.UNREGISTERED.value, Reason.EXPIRED_TOKEN.value})

_COUNTS = "counts"  # collapses counts that wait for a device, here or at Apple, into the latest
_AHEAD = 86_400.0  # by how many seconds the clock of a homeserver may be ahead of ours
_LOGGED = 100  # unknown app ids that are logged, each once

_log = Logger()


class UselessPushkey(Exception):
    """Nothing can ever be sent to a pushkey, as its pusher is now."""


@attrs.frozen(eq=False)
class Push:
    """
    A notification for one device.

    :ivar since: when the pushkey was last updated, in UNIX seconds; ``None`` if that is not known.
    :ivar idempotency: recognizes the same event for the same device; ``None`` for counts, which can be sent again.
    """

    device: Device
    app: str
    token: bytes = attrs.field(repr=False)
    draft: Draft
    since: float | None
    idempotency: Idempotency | None

    def died(self, timestamp: float | None) -> bool:
        """Tell whether a token that died at some time is dead, or was registered again since."""
        return self.since is None or timestamp is None or self.since <= timestamp

    def is_useless(self, outcome: Outcome) -> bool:
        """Tell whether the outcome means that the token is of no use."""
        if outcome.state is not State.REJECTED:
            return False
        return outcome.reason in _USELESS or (outcome.reason in _DEAD and self.died(outcome.timestamp))


class Pushes:
    """
    Makes notifications for devices.

    :param app_ids: knows which app a device's app id means.
    """

    def __init__(self, wall: IWallClock, apps: IApps, app_ids: AppIds) -> None:
        self._wall = wall
        self._apps = apps
        self._app_ids = app_ids
        self._logged: set[str] = set()

    def make(self, event: Event, device: Device, caller: Caller) -> Push | None:
        """
        Make the notification for a device.

        :returns: ``None`` if there is nothing to tell the device.
        :raises UselessPushkey: the app id is unknown, the pushkey is not a token, or the pusher's data are unusable.
        :raises RequestRefused: the app cannot be used now, or not by this caller.
        """
        section = self._app_ids.find(device.app_id)
        if section is None:
            self._log_unknown(device.app_id)
            raise UselessPushkey
        if not caller.may_send(section.app):
            raise NotAllowed("the key does not allow sending for the app of a device")
        app = self._apps.get(section.app)
        token = token_of(device.pushkey)
        if token is None:
            raise UselessPushkey
        idempotency = _idempotency(event, device, app)
        payload = _payload(event, device, section, app)
        if payload is None:
            return None
        draft = Draft(payload, _headers(event, app), [token])
        return Push(device, app.name, token, draft, self._believed(device.since), idempotency)

    def _log_unknown(self, app_id: str) -> None:
        if app_id not in self._logged and len(self._logged) < _LOGGED:
            self._logged.add(app_id)
            text = "pushkeys of the unknown app id {app_id} are rejected"
            _log.warn(text, app_id=app_id[:100], face="intake.matrix")

    def _believed(self, since: float | None) -> float | None:
        """Ignore a time in the future, such as one in milliseconds."""
        return None if since is None or since > self._wall.now() + _AHEAD else since


def _idempotency(event: Event, device: Device, app: App) -> Idempotency | None:
    if not event.event_id:
        return None
    digest = device.identity(event.event_id)
    return Idempotency(f"matrix/{app.name}", digest.hex(), digest)


def _payload(event: Event, device: Device, section: MatrixAppSection, app: App) -> bytes | None:
    most = MAX_VOIP_PAYLOAD if app.push_type == PushType.VOIP else MAX_PAYLOAD
    try:
        payload = payload_of(event, device, counts=section.counts)
        return None if payload is None else shortened(payload, most)
    except InvalidPayload:
        raise UselessPushkey from None


def _headers(event: Event, app: App) -> dict[str, str]:
    headers = default_headers(app)
    if not event.urgent:
        headers["apns-priority"] = "5"  # without one it is 10, or what the push type requires
    if not (event.event_id or event.type):
        headers["apns-collapse-id"] = _COUNTS
    return headers
