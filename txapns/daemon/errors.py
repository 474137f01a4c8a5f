"""
The daemon's exceptions. Their root is an :class:`~txapns.errors.APNSError`.

::

    DaemonError
    ├── ConfigurationError         the configuration cannot be used
    ├── SecretError                the master key cannot be used, or does not decrypt what is stored
    ├── DatabaseError              the database cannot be used
    │   ├── DatabaseInUse          another process has it open
    │   ├── DatabaseExposed        other users can read the file
    │   ├── DatabaseCorrupt        the file is damaged, or not the daemon's database
    │   └── DatabaseVersion        a newer version of the daemon wrote it
    ├── NotAnswered                a command got no answer from the running daemon, or a refusal
    └── RequestRefused             the daemon refuses a request, and stored nothing of it
        ├── Malformed              400: the request cannot be understood
        ├── NotAuthenticated       401: the caller is unknown
        ├── NotAllowed             403: the caller may not do this
        ├── UnknownApp             404: the app does not exist
        ├── UnknownChannel         404: Apple knows no such channel
        ├── AppExists              409: the app exists already
        ├── KeyConflict            409: the idempotency key was used for another request
        ├── NotSupported           409: the app's gateway has no such service
        ├── NotRecorded            409: the app's outcomes are not recorded
        ├── TooLarge               413: the request exceeds a limit
        ├── UnsupportedMediaType   415: the body is not of the expected type
        ├── RejectedByApple        422: Apple rejects what was passed on
        ├── AppQueueFull           429: the app's queue is full
        ├── Unavailable            503: the request cannot be served now
        └── NoAnswer               504: no answer of Apple's came to what was passed on

A :class:`RequestRefused` is for the caller and says what to do. The others are for the operator. Messages name files,
apps and limits, but never a key, a passphrase or a whole device token.
"""

from __future__ import annotations

from txapns.errors import APNSError
from txapns.reasons import Reason

__all__ = [
    "AppExists",
    "AppQueueFull",
    "ConfigurationError",
    "DaemonError",
    "DatabaseCorrupt",
    "DatabaseError",
    "DatabaseExposed",
    "DatabaseInUse",
    "DatabaseVersion",
    "KeyConflict",
    "Malformed",
    "NoAnswer",
    "NotAllowed",
    "NotAnswered",
    "NotAuthenticated",
    "NotRecorded",
    "NotSupported",
    "RejectedByApple",
    "RequestRefused",
    "SecretError",
    "TooLarge",
    "Unavailable",
    "UnknownApp",
    "UnknownChannel",
    "UnsupportedMediaType",
    "in_words",
]


class DaemonError(APNSError):
    """The root of the daemon's exceptions."""


class ConfigurationError(DaemonError, ValueError):
    """The configuration cannot be used. The message names the key, what was found and what is allowed."""


class SecretError(DaemonError):
    """The master key is invalid, or not the one that a credential was encrypted with. Restore it from its copy."""


class DatabaseError(DaemonError):
    """The database cannot be used. The message says which file and why. Nothing in the file was changed."""


class DatabaseInUse(DatabaseError):
    """Another process has the database open, probably another daemon. Stop that one, or use another file."""


class DatabaseExposed(DatabaseError):
    """Other users can read or write the database's file, which contains device tokens. ``chmod 600`` it."""


class DatabaseCorrupt(DatabaseError):
    """
    The file is damaged, or not a database of the daemon.

    Keep the file and its neighbours that end in ``-wal`` and ``-shm``, check the disk, and try
    ``sqlite3 FILE .recover``. Or move all three away and start with an empty database: then the queue is lost.
    """


class DatabaseVersion(DatabaseError):
    """A newer version of the daemon wrote the database. Run that version, or restore a copy from before the upgrade."""


class NotAnswered(DaemonError):
    """
    The running daemon cannot be reached, or refused what a command asked for.

    The message says which. Give the address of the HTTP API with ``--url``, and a key that may manage.
    """


class RequestRefused(DaemonError):
    """
    The daemon refuses a request. Nothing of it was stored.

    :cvar status: the HTTP status.
    :ivar retry_after: after how many seconds to try the same request again; ``None`` if that does not help.
    :ivar path: the part of the request it is about, such as ``notifications[3].tokens[7]``; empty for all of it.
    :ivar reason: Apple's reason, if it was Apple who rejected it.
    """

    status = 400
    reason = ""

    def __init__(self, message: str, retry_after: float | None = None, path: str = "") -> None:
        super().__init__(message, retry_after, path)
        self.retry_after = retry_after
        self.path = path

    def __str__(self) -> str:
        """Return the message alone."""
        return str(self.args[0])


class Malformed(RequestRefused, ValueError):
    """The request cannot be understood. The message says which part of it; correct that."""


class NotAuthenticated(RequestRefused):
    """The request has no key, or an unknown one. Use a key made by ``txapns keys add``."""

    status = 401


class NotAllowed(RequestRefused):
    """The caller is known but may not do this, for example because the key is for another app."""

    status = 403


class UnknownApp(RequestRefused, LookupError):
    """There is no app of this name. See ``txapns apps list``."""

    status = 404


class UnknownChannel(RequestRefused, LookupError):
    """Apple knows no such channel of the app: it was deleted, or is of the other environment. Forget it."""

    status = 404
    reason = Reason.CHANNEL_NOT_REGISTERED.value


class AppExists(RequestRefused):
    """There is an app of this name already. Choose another name, or change the existing app."""

    status = 409


class KeyConflict(RequestRefused):
    """The idempotency key was used for another request. Use a new key for each new request."""

    status = 409


class NotSupported(RequestRefused):
    """The app's gateway has no such service. Give the app another gateway."""

    status = 409


class NotRecorded(RequestRefused):
    """The outcomes of the app are not recorded. Give the app ``outcomes = true``; those from then on are."""

    status = 409


class TooLarge(RequestRefused):
    """The request exceeds the limit that the message names. Split it."""

    status = 413


class UnsupportedMediaType(RequestRefused):
    """The body is not of the expected type. Send that, and name it in the Content-Type."""

    status = 415


class RejectedByApple(RequestRefused):
    """
    Apple rejects a request about channels. The message has Apple's reason and what to do.

    :param reason: Apple's reason, such as ``"CannotCreateChannelConfig"``.
    """

    status = 422

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class AppQueueFull(RequestRefused):
    """The app's queue is full. Try again after ``retry_after`` seconds."""

    status = 429


class Unavailable(RequestRefused):
    """
    The request cannot be served now. Try again after ``retry_after`` seconds.

    The message says why. If the disk is full, make room. If another process has locked the database, end it (for a
    backup, use ``sqlite3 FILE .backup``). The daemon need not be restarted.
    """

    status = 503


class NoAnswer(RequestRefused):
    """
    A request about channels was passed on, and no answer of Apple's came: it may have been done.

    List the channels. To read, list or delete again does no harm.
    """

    status = 504


def in_words(error: BaseException) -> str:
    """
    Say what went wrong, for an operator.

    :returns: its message if it is ours. The message of any other may contain a secret, so only its type is given.
    """
    return str(error) if isinstance(error, APNSError) else f"{type(error).__name__}; the daemon's log has more of it"
