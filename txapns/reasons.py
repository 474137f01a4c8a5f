"""
What the gateways say when they refuse, and what a sender does about it.

The two protocols refuse in different words. The binary gateway sends one status byte (:class:`Status`); the provider
API answers with an HTTP status and a reason in text (:class:`Reason`), which may also stand in the GOAWAY that ends a
connection. Both come to the caller as a pair: a number, and a text that for the binary protocol is
:func:`status_name` of the number. From the pair, :func:`action` tells what a program does next and :func:`text` tells
a person what happened.

The tables are open. Apple adds reasons without notice, and a proxy on the way answers with its own: a number or text
that is not listed here passes through as itself and is judged by its class alone.

Sources: Apple, "Handling notification responses from APNs" and "Handling error responses from Apple Push Notification
service" (channels and broadcasts); for the binary protocol, the archived "Local and Remote Notification Programming
Guide", appendix "Binary Provider API". Spellings seen on the wire but not in those pages are marked as such.
"""

from __future__ import annotations

import enum

__all__ = ["Action", "Reason", "Status", "action", "status_name", "text"]


class Action(enum.Enum):
    """What a sender does after a refusal."""

    #: Mend the request or the configuration. Unchanged, it would be refused again.
    FIX = "fix"
    #: Forget the address: delete the device token, or the channel, from the database.
    DROP = "drop"
    #: Send it again later, with a growing delay.
    RETRY = "retry"
    #: Send it again over a new connection.
    RECONNECT = "reconnect"
    #: Sign a new provider token, unless the present one is younger than 20 minutes; then send again.
    RENEW = "renew"
    #: Stop: everything sent with this credential is refused alike until the credential is mended.
    CREDENTIAL = "credential"


class Status(enum.IntEnum):
    """
    The status bytes of the binary protocol's error packet. Those between are unassigned and stand for themselves.

    :ivar action: what a sender does with the notification that the packet names.
    :ivar text: what happened and what to do, for a person.
    """

    action: Action
    text: str

    def __new__(cls, value: int, action: Action = Action.RETRY, text: str = "") -> Status:
        """Give the member its value, which alone it is looked up, compared and pickled by."""
        # Every member states all three; the defaults let mypy accept the look-up of a member by its value.
        member = int.__new__(cls, value)
        member._value_ = value
        member.action = action
        member.text = text
        return member

    NO_ERROR = 0, Action.RECONNECT, "The gateway closed the connection and named no error; send again over a new one."
    PROCESSING_ERROR = 1, Action.RETRY, "The gateway had a fault of its own; send again later."
    MISSING_DEVICE_TOKEN = 2, Action.FIX, "The notification had no device token; mend the record it was made from."
    MISSING_TOPIC = 3, Action.CREDENTIAL, "The certificate names no topic; use a push certificate of the app."
    MISSING_PAYLOAD = 4, Action.FIX, "The notification had no payload; give it one."
    INVALID_TOKEN_SIZE = 5, Action.FIX, "The device token has the wrong length; find out where it was cut or altered."
    INVALID_TOPIC_SIZE = 6, Action.CREDENTIAL, "The certificate's topic is malformed; use another push certificate."
    INVALID_PAYLOAD_SIZE = 7, Action.FIX, "The payload is too long for the binary protocol; shorten it."
    INVALID_TOKEN = 8, Action.DROP, "The device token is not valid for this app and environment; delete it there."
    # The identifier in this packet is the last notification accepted, not a refused one.
    SHUTDOWN = 10, Action.RECONNECT, "The gateway is shutting down; send what followed again over a new connection."
    PROTOCOL_ERROR = 128, Action.FIX, "The gateway could not parse the notification; mend it before sending it again."
    UNKNOWN = 255, Action.RETRY, "The gateway gave no cause; send again later, a few times at most."


class Reason(str, enum.Enum):
    """
    The provider API's reasons, for notifications, broadcasts and channels. Each compares equal to its text.

    :ivar action: what a sender does about it.
    :ivar text: what happened and what to do, for a person.
    """

    action: Action
    text: str

    def __new__(cls, value: str, action: Action = Action.RETRY, text: str = "") -> Reason:
        """Give the member its value, which alone it is looked up, compared and pickled by."""
        # Every member states all three; the defaults let mypy accept the look-up of a member by its value.
        member = str.__new__(cls, value)
        member._value_ = value
        member.action = action
        member.text = text
        return member

    # Without this, str() and format() give "Reason.BAD_TOPIC", the latter depending on the version of Python.
    __str__ = str.__str__

    # 400: the request.
    BAD_COLLAPSE_ID = "BadCollapseId", Action.FIX, "The collapse identifier is longer than 64 bytes; shorten it."
    # Not DROP: a caller who mixes up sandbox and production would delete every good token it has.
    BAD_DEVICE_TOKEN = (
        "BadDeviceToken",
        Action.FIX,
        "The device token is malformed or belongs to the other environment; check the environment, then delete it.",
    )
    BAD_EXPIRATION_DATE = (
        "BadExpirationDate",
        Action.FIX,
        "The expiration is not a valid time, or is not 0 for a channel that stores nothing; correct it.",
    )
    BAD_MESSAGE_ID = "BadMessageId", Action.FIX, "The apns-id is not a UUID; correct it or leave it out."
    BAD_PRIORITY = "BadPriority", Action.FIX, "The priority is not one that this push type may have; correct it."
    BAD_TOPIC = "BadTopic", Action.FIX, "The topic is malformed; correct it."
    DEVICE_TOKEN_NOT_FOR_TOPIC = (
        "DeviceTokenNotForTopic",
        Action.FIX,
        "The device token belongs to another app; correct which topic goes with it.",
    )
    DUPLICATE_HEADERS = "DuplicateHeaders", Action.FIX, "A header field was given twice; give it once."
    IDLE_TIMEOUT = "IdleTimeout", Action.RECONNECT, "The connection was idle for too long; send again over a new one."
    INVALID_PUSH_TYPE = "InvalidPushType", Action.FIX, "The push type is unknown to the gateway; correct it."
    MISSING_DEVICE_TOKEN = "MissingDeviceToken", Action.FIX, "The request named no device token; give one."
    MISSING_TOPIC = "MissingTopic", Action.FIX, "The credential serves several topics; say which one is meant."
    PAYLOAD_EMPTY = "PayloadEmpty", Action.FIX, "The notification had no payload; give it one."
    TOPIC_DISALLOWED = "TopicDisallowed", Action.FIX, "Pushing to this topic is not allowed; correct the topic."

    # 400: broadcasts and channels.
    BAD_CHANNEL_ID = "BadChannelId", Action.FIX, "The channel identifier is not base64, or is too long; correct it."
    BAD_REQUEST_PARAMS = "BadRequestParams", Action.FIX, "The request has a key the gateway does not know; remove it."
    BAD_REQUEST_PAYLOAD = "BadRequestPayload", Action.FIX, "The request's body is not the JSON expected; correct it."
    CANNOT_CREATE_CHANNEL_CONFIG = (
        "CannotCreateChannelConfig",
        Action.FIX,
        "The app has as many channels as it may have; delete some.",
    )
    CHANNEL_NOT_REGISTERED = "ChannelNotRegistered", Action.DROP, "The channel does not exist any more; forget it."
    FEATURE_NOT_ENABLED = (
        "FeatureNotEnabled",
        Action.FIX,
        "Broadcasts are not enabled for the app; enable them in the developer account.",
    )
    MISSING_CHANNEL_ID = "MissingChannelId", Action.FIX, "The request named no channel; give its identifier."
    # Not documented; seen where the storage policy was left out.
    MISSING_CHANNEL_QUEUE_SIZE = (
        "MissingChannelQueueSize",
        Action.FIX,
        "The request named no message storage policy for the channel; give one.",
    )
    MISSING_PUSH_TYPE = "MissingPushType", Action.FIX, "The request named no push type; give one."

    # 403: the credential.
    BAD_CERTIFICATE = "BadCertificate", Action.CREDENTIAL, "The certificate is not accepted; renew or replace it."
    BAD_CERTIFICATE_ENVIRONMENT = (
        "BadCertificateEnvironment",
        Action.CREDENTIAL,
        "The certificate is for the other environment; use the gateway or the certificate that goes with it.",
    )
    BAD_ENVIRONMENT_KEY_ID_IN_TOKEN = (
        "BadEnvironmentKeyIdInToken",
        Action.CREDENTIAL,
        "The provider token's key is for the other environment; use the gateway or the key that goes with it.",
    )
    # The same, as it was seen on the wire.
    BAD_ENVIRONMENT_KEY_IN_TOKEN = (
        "BadEnvironmentKeyInToken",
        Action.CREDENTIAL,
        "The provider token's key is for the other environment; use the gateway or the key that goes with it.",
    )
    EXPIRED_PROVIDER_TOKEN = (
        "ExpiredProviderToken",
        Action.RENEW,
        "The provider token is older than an hour; a new one is needed, and if it recurs, check the clock.",
    )
    FORBIDDEN = "Forbidden", Action.FIX, "The credential does not allow this request; check what it may be used for."
    INVALID_PROVIDER_TOKEN = (
        "InvalidProviderToken",
        Action.CREDENTIAL,
        "The provider token is not accepted; check the key, its identifier, the team, and the topics it is for.",
    )
    MISSING_PROVIDER_TOKEN = (
        "MissingProviderToken",
        Action.CREDENTIAL,
        "The request came with neither certificate nor provider token; give the client a credential.",
    )
    TOPIC_MISMATCH = "TopicMismatch", Action.FIX, "The credential is not for this app; correct the topic."
    UNRELATED_KEY_ID_IN_TOKEN = (
        "UnrelatedKeyIdInToken",
        Action.RECONNECT,
        "The connection was opened with another key; send again over a new one.",
    )

    # 404, 405: the form of the request.
    BAD_PATH = "BadPath", Action.FIX, "The gateway does not serve this path; check the gateway and the device token."
    METHOD_NOT_ALLOWED = "MethodNotAllowed", Action.FIX, "The gateway does not allow this method; check the gateway."

    # 410: the address.
    EXPIRED_TOKEN = "ExpiredToken", Action.DROP, "The device token has expired; delete it."
    UNREGISTERED = (
        "Unregistered",
        Action.DROP,
        "The device token is no longer active for this topic; delete it, unless it was registered again since.",
    )

    # 413: the payload.
    PAYLOAD_TOO_LARGE = "PayloadTooLarge", Action.FIX, "The payload is longer than this push type allows; shorten it."

    # 429: too often.
    # Not RENEW: another new token is what the gateway complains about.
    TOO_MANY_PROVIDER_TOKEN_UPDATES = (
        "TooManyProviderTokenUpdates",
        Action.RETRY,
        "Provider tokens were changed within 20 minutes; keep the present one, share it, and send again later.",
    )
    TOO_MANY_REQUESTS = (
        "TooManyRequests",
        Action.RETRY,
        "Too many notifications went to this device token; send again later. Other tokens are not affected.",
    )

    # 500, 503: the gateway.
    INTERNAL_SERVER_ERROR = (
        "InternalServerError",
        Action.RETRY,
        "The gateway had a fault of its own; send again after 15 minutes.",
    )
    SERVICE_UNAVAILABLE = (
        "ServiceUnavailable",
        Action.RETRY,
        "The gateway is not available; send again after 15 minutes.",
    )
    # The same, as Apple's page on channels prints it.
    SERVICE_UNAVAILABLE_SPACED = (
        "Service Unavailable",
        Action.RETRY,
        "The gateway is not available; send again after 15 minutes.",
    )
    SHUTDOWN = "Shutdown", Action.RECONNECT, "The gateway is shutting down; send again over a new connection."


_STATUSES = {member.value: member for member in Status}
_STATUS_NAMES = {member.value: member.name.title().replace("_", "") for member in Status}
_REASONS = {member.value: member for member in Reason}

_ADVICE = {
    Action.FIX: "Mend the request or the configuration before sending it again.",
    Action.DROP: "Delete the device token.",
    Action.RETRY: "Send it again later, waiting longer each time.",
}


def status_name(status: int) -> str:
    """
    Name a status byte of the binary protocol in the manner of the provider API's reasons.

    :param status: the second byte of an error packet.
    :returns: for example ``"InvalidToken"`` for 8; ``"Status77"`` for 77, which is unassigned.
    """
    return _STATUS_NAMES.get(status, f"Status{status}")


def action(status: int, reason: str) -> Action:
    """
    Tell what a sender does after a refusal.

    :param status: an HTTP status, or a status byte of the binary protocol; 0 if the reason came without one, as in a
        GOAWAY.
    :param reason: the reason in the gateway's own words, or :func:`status_name` of a status byte.
    :returns: what the tables say. What they do not list is judged by its class: 410 drops the token, 429 is retried,
        other statuses from 400 to 499 are the request's fault, and anything else is retried.
    """
    known = _known(status, reason)
    if known is not None:
        return known.action
    if status == 410:
        return Action.DROP
    if 400 <= status <= 499 and status != 429:
        return Action.FIX
    return Action.RETRY


def text(status: int, reason: str) -> str:
    """
    Tell a person what happened and what to do.

    :param status: as for :func:`action`.
    :param reason: as for :func:`action`.
    :returns: one sentence or two; for a reason that is not listed they quote it.
    """
    known = _known(status, reason)
    if known is not None:
        return known.text
    said = f"the unlisted reason {reason!r}" if reason else "no reason"
    return f"The gateway answered {status} with {said}. {_ADVICE[action(status, reason)]}"


def _known(status: int, reason: str) -> Status | Reason | None:
    """
    Find the table's entry for a refusal by either protocol.

    The numbers of the protocols overlap from 200 to 255 and so do some names: MissingTopic is the certificate's fault
    as status 3 and the request's as a 400. Number and name together are never ambiguous.
    """
    if reason == status_name(status):
        return _STATUSES.get(status)
    if reason in _REASONS:
        return _REASONS[reason]
    return _STATUSES.get(status) if status < 200 else None
