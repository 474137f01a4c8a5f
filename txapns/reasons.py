"""
Why a gateway rejects a notification, and what the sender does about it.

The two protocols say it differently. A binary gateway sends one status byte (:class:`Status`); the provider API answers
with an HTTP status and a reason in text (:class:`Reason`), which may also come in the GOAWAY that ends a connection.
The caller receives both as a pair: a number, and a text that for the binary protocol is :func:`status_name` of the
number. From the pair, :func:`action` tells a program what to do next and :func:`text` tells a person what happened.

The tables are open. Apple adds reasons without notice, and a proxy on the way may answer with its own: a number or text
that is not listed here passes through unchanged, and only the class of its status counts.

Sources: Apple, "Handling notification responses from APNs" and "Handling error responses from Apple Push Notification
service" (channels and broadcasts); for the binary protocol, the archived "Local and Remote Notification Programming
Guide", appendix "Binary Provider API". Spellings seen on the wire but not in those pages are marked as such.
"""

from __future__ import annotations

import enum

__all__ = ["Action", "Reason", "Status", "action", "status_name", "text"]


class Action(enum.Enum):
    """What a sender does after a rejection."""

    #: Correct the request or the configuration. Unchanged, it would be rejected again.
    FIX = "fix"
    #: Delete the device token, or the channel, from the database.
    DROP = "drop"
    #: Send it again later, with a growing delay.
    RETRY = "retry"
    #: Send it again over a new connection.
    RECONNECT = "reconnect"
    #: Sign a new provider token, unless the present one is younger than 20 minutes; then send again.
    RENEW = "renew"
    #: Stop: every notification sent with this credential is rejected until the credential is replaced.
    CREDENTIAL = "credential"


class Status(enum.IntEnum):
    """
    The status bytes of the binary protocol's error packet. Other numbers are unassigned and pass through unchanged.

    :ivar action: what a sender does with the notification that the packet names.
    :ivar text: what happened and what to do, for a person.
    """

    action: Action
    text: str

    def __new__(cls, value: int, action: Action = Action.RETRY, text: str = "") -> Status:
        """Make a member whose value is the first argument alone, for look-up, comparison and pickling."""
        # Every member states all three; the defaults let mypy accept looking up a member by its value.
        member = int.__new__(cls, value)
        member._value_ = value
        member.action = action
        member.text = text
        return member

    NO_ERROR = 0, Action.RECONNECT, "The gateway closed the connection without an error; send again over a new one."
    PROCESSING_ERROR = 1, Action.RETRY, "The gateway had an internal error; send again later."
    MISSING_DEVICE_TOKEN = 2, Action.FIX, "The notification had no device token; correct the record it came from."
    MISSING_TOPIC = 3, Action.CREDENTIAL, "The certificate has no topic; use a push certificate of the app."
    MISSING_PAYLOAD = 4, Action.FIX, "The notification had no payload; give it one."
    INVALID_TOKEN_SIZE = 5, Action.FIX, "The device token has the wrong length; find out where it was cut or altered."
    INVALID_TOPIC_SIZE = 6, Action.CREDENTIAL, "The certificate's topic is malformed; use another push certificate."
    INVALID_PAYLOAD_SIZE = 7, Action.FIX, "The payload is too long for the binary protocol; shorten it."
    INVALID_TOKEN = 8, Action.DROP, "The device token is not valid for this app and environment; delete it there."
    # The identifier in this packet is the last notification accepted, not a rejected one.
    SHUTDOWN = 10, Action.RECONNECT, "The gateway is shutting down; resend what followed over a new connection."
    PROTOCOL_ERROR = (
        128,
        Action.FIX,
        "The gateway could not parse the notification; correct it, then send it again.",
    )
    UNKNOWN = 255, Action.RETRY, "The gateway gave no reason; send again later, but only a few times."


class Reason(str, enum.Enum):
    """
    The provider API's reasons, for notifications, broadcasts and channels. Each compares equal to its text.

    :ivar action: what a sender does about it.
    :ivar text: what happened and what to do, for a person.
    """

    action: Action
    text: str

    def __new__(cls, value: str, action: Action = Action.RETRY, text: str = "") -> Reason:
        """Make a member whose value is the first argument alone, for look-up, comparison and pickling."""
        # Every member states all three; the defaults let mypy accept looking up a member by its value.
        member = str.__new__(cls, value)
        member._value_ = value
        member.action = action
        member.text = text
        return member

    # Without this, str() and, in some versions of Python, format() give "Reason.BAD_TOPIC".
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
    BAD_PRIORITY = "BadPriority", Action.FIX, "The priority is not allowed for this push type; correct it."
    BAD_TOPIC = "BadTopic", Action.FIX, "The topic is malformed; correct it."
    DEVICE_TOKEN_NOT_FOR_TOPIC = (
        "DeviceTokenNotForTopic",
        Action.FIX,
        "The device token belongs to another app; use the topic of that app.",
    )
    DUPLICATE_HEADERS = "DuplicateHeaders", Action.FIX, "A header field was given twice; give it once."
    IDLE_TIMEOUT = "IdleTimeout", Action.RECONNECT, "The connection was idle for too long; send again over a new one."
    INVALID_PUSH_TYPE = "InvalidPushType", Action.FIX, "The gateway does not know the push type; correct it."
    MISSING_DEVICE_TOKEN = "MissingDeviceToken", Action.FIX, "The request had no device token; give one."
    MISSING_TOPIC = "MissingTopic", Action.FIX, "The credential is for several topics; give the topic."
    PAYLOAD_EMPTY = "PayloadEmpty", Action.FIX, "The notification had no payload; give it one."
    TOPIC_DISALLOWED = "TopicDisallowed", Action.FIX, "Pushing to this topic is not allowed; correct the topic."

    # 400: broadcasts and channels.
    BAD_CHANNEL_ID = "BadChannelId", Action.FIX, "The channel identifier is not base64, or is too long; correct it."
    BAD_REQUEST_PARAMS = "BadRequestParams", Action.FIX, "The request has a key the gateway does not know; remove it."
    BAD_REQUEST_PAYLOAD = "BadRequestPayload", Action.FIX, "The request's body is not the JSON expected; correct it."
    CANNOT_CREATE_CHANNEL_CONFIG = (
        "CannotCreateChannelConfig",
        Action.FIX,
        "The app has the maximum number of channels; delete some.",
    )
    CHANNEL_NOT_REGISTERED = (
        "ChannelNotRegistered",
        Action.DROP,
        "The channel no longer exists; delete it.",
    )
    FEATURE_NOT_ENABLED = (
        "FeatureNotEnabled",
        Action.FIX,
        "Broadcasts are not enabled for the app; enable them in the developer account.",
    )
    MISSING_CHANNEL_ID = "MissingChannelId", Action.FIX, "The request had no channel identifier; give one."
    # Not documented; seen if the storage policy was left out.
    MISSING_CHANNEL_QUEUE_SIZE = (
        "MissingChannelQueueSize",
        Action.FIX,
        "The request had no message storage policy for the channel; give one.",
    )
    MISSING_PUSH_TYPE = "MissingPushType", Action.FIX, "The request had no push type; give one."

    # 403: the credential.
    BAD_CERTIFICATE = "BadCertificate", Action.CREDENTIAL, "The certificate is not accepted; renew or replace it."
    BAD_CERTIFICATE_ENVIRONMENT = (
        "BadCertificateEnvironment",
        Action.CREDENTIAL,
        "The certificate is for the other environment; use the matching gateway or certificate.",
    )
    BAD_ENVIRONMENT_KEY_ID_IN_TOKEN = (
        "BadEnvironmentKeyIdInToken",
        Action.CREDENTIAL,
        "The provider token's key is for the other environment; use the matching gateway or key.",
    )
    # The same, as seen on the wire.
    BAD_ENVIRONMENT_KEY_IN_TOKEN = (
        "BadEnvironmentKeyInToken",
        Action.CREDENTIAL,
        "The provider token's key is for the other environment; use the matching gateway or key.",
    )
    EXPIRED_PROVIDER_TOKEN = (
        "ExpiredProviderToken",
        Action.RENEW,
        "The provider token is older than an hour; sign a new one. If it recurs, check the clock.",
    )
    FORBIDDEN = "Forbidden", Action.FIX, "The credential does not allow this request; check what it is for."
    INVALID_PROVIDER_TOKEN = (
        "InvalidProviderToken",
        Action.CREDENTIAL,
        "The provider token is not accepted; check the key, its identifier, the team, and the topics it is for.",
    )
    MISSING_PROVIDER_TOKEN = (
        "MissingProviderToken",
        Action.CREDENTIAL,
        "The request had neither certificate nor provider token; give the client a credential.",
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
    # Not RENEW: the gateway complains about too many new tokens.
    TOO_MANY_PROVIDER_TOKEN_UPDATES = (
        "TooManyProviderTokenUpdates",
        Action.RETRY,
        "Provider tokens were changed within 20 minutes; keep and share the current one, and send again later.",
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
        "The gateway had an internal error; send again after 15 minutes.",
    )
    SERVICE_UNAVAILABLE = (
        "ServiceUnavailable",
        Action.RETRY,
        "The gateway is not available; send again after 15 minutes.",
    )
    # The same, as printed on Apple's page on channels.
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
    Action.FIX: "Correct the request or the configuration before sending it again.",
    Action.DROP: "Delete the device token.",
    Action.RETRY: "Send it again later, waiting longer each time.",
}


def status_name(status: int) -> str:
    """
    Name a status byte of the binary protocol in the style of the provider API's reasons.

    :param status: the second byte of an error packet.
    :returns: for example ``"InvalidToken"`` for 8; ``"Status77"`` for 77, which is unassigned.
    """
    return _STATUS_NAMES.get(status, f"Status{status}")


def action(status: int, reason: str) -> Action:
    """
    Tell what a sender does after a rejection.

    :param status: an HTTP status, or a status byte of the binary protocol; 0 if the reason came without one, as in a
        GOAWAY.
    :param reason: the gateway's reason, or :func:`status_name` of a status byte.
    :returns: what the tables say. For other reasons the status decides: 410 drops the token, 429 is retried, other
        statuses from 400 to 499 are the request's fault, and anything else is retried.
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
    :returns: one or two sentences, which quote a reason that is not listed.
    """
    known = _known(status, reason)
    if known is not None:
        return known.text
    given = f"the unlisted reason {reason!r}" if reason else "no reason"
    return f"The gateway answered {status} with {given}. {_ADVICE[action(status, reason)]}"


def _known(status: int, reason: str) -> Status | Reason | None:
    """
    Find the table's entry for a rejection by either protocol.

    The protocols' numbers overlap from 200 to 255, and so do some names: MissingTopic is the certificate's fault as
    status 3 and the request's as a 400. Number and name together are never ambiguous.
    """
    if reason == status_name(status):
        return _STATUSES.get(status)
    if reason in _REASONS:
        return _REASONS[reason]
    return _STATUSES.get(status) if status < 200 else None
