"""
Every exception of the daemon, in one tree, which is a branch of :class:`~txapns.errors.APNSError`.

::

    DaemonError
    ├── ConfigurationError         the configuration cannot be used
    ├── SecretError                the master key cannot be used, or does not open what it should
    ├── DatabaseError              the database cannot be used
    │   ├── DatabaseInUse          another process has it open
    │   ├── DatabaseExposed        others than its owner can read the file
    │   ├── DatabaseCorrupt        the file is damaged, or not the daemon's database
    │   └── DatabaseVersion        a newer version of the daemon wrote it
    ├── NotAnswered                a command could not do its work with the running daemon
    └── RequestRefused             what a caller is told instead of being accepted: nothing was stored
        ├── Malformed              400: the request cannot be understood
        ├── NotAuthenticated       401: nobody knows who the caller is
        ├── NotAllowed             403: the caller may not do this
        ├── UnknownApp             404: there is no such app
        ├── AppExists              409: there is an app by this name already
        ├── KeyConflict            409: the idempotency key was used for another request
        ├── TooLarge               413: more than the limits allow
        ├── UnsupportedMediaType   415: the body is not of the type that is expected
        ├── AppQueueFull              429: as much as the app's limit allows is waiting already
        └── Unavailable            503: it cannot be stored now

A :class:`RequestRefused` is for the caller and says what the caller has to do. The others are for the operator.
Messages name files, apps and limits; never a key, a passphrase or a whole device token.
"""

from __future__ import annotations

from txapns.errors import APNSError

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
    "NotAllowed",
    "NotAnswered",
    "NotAuthenticated",
    "RequestRefused",
    "SecretError",
    "TooLarge",
    "Unavailable",
    "UnknownApp",
    "UnsupportedMediaType",
    "in_words",
]


class DaemonError(APNSError):
    """The root of the daemon's exceptions."""


class ConfigurationError(DaemonError, ValueError):
    """The configuration cannot be used. The message names the key, what was found and what is allowed: mend that."""


class SecretError(DaemonError):
    """The master key is no key, or not the one that it was encrypted with. Restore the key from where its copy is."""


class DatabaseError(DaemonError):
    """The database cannot be used. The message says which file and why; nothing in the file was changed."""


class DatabaseInUse(DatabaseError):
    """Another process has the database open, probably another gateway. Stop that one first, or give this its own."""


class DatabaseExposed(DatabaseError):
    """Others than the owner can read or write the database's file, which has device tokens in it: ``chmod 600`` it."""


class DatabaseCorrupt(DatabaseError):
    """
    The file is damaged, or is something else than the daemon's database.

    Keep the file (and the ones beside it that end in ``-wal`` and ``-shm``), check the disk, and try
    ``sqlite3 FILE .recover``; or move all three away and start with an empty one: what waited is lost then.
    """


class DatabaseVersion(DatabaseError):
    """A newer version of the daemon wrote the database. Run that version, or restore the copy made before it."""


class NotAnswered(DaemonError):
    """
    A command could not do its work with the running daemon, which cannot be reached, or refused it.

    The message says which. Give the address of its HTTP API with ``--url``, and a key that may manage.
    """


class RequestRefused(DaemonError):
    """
    What a caller is told instead of being accepted. Nothing of the request was stored.

    :cvar status: the HTTP status that says the same.
    :ivar retry_after: after how many seconds the same request may be tried again; ``None`` where that is no use.
    :ivar path: which part of the request it is about, such as ``notifications[3].tokens[7]``; nothing for all of it.
    """

    status = 400

    def __init__(self, message: str, retry_after: float | None = None, path: str = "") -> None:
        super().__init__(message, retry_after, path)
        self.retry_after = retry_after
        self.path = path

    def __str__(self) -> str:
        """The message alone."""
        return str(self.args[0])


class Malformed(RequestRefused, ValueError):
    """The request cannot be understood; the message says where. Mend it."""

    status = 400


class NotAuthenticated(RequestRefused):
    """The request has no key, or one that nobody knows. Give a key made by ``txapns keys add``."""

    status = 401


class NotAllowed(RequestRefused):
    """The caller is known and may not do this, for example because the key is for another app."""

    status = 403


class UnknownApp(RequestRefused, LookupError):
    """There is no app by this name. Look at ``txapns apps list``."""

    status = 404


class AppExists(RequestRefused):
    """There is an app by this name already. Choose another name, or change the one there is."""

    status = 409


class KeyConflict(RequestRefused):
    """The idempotency key was used before, for another request. Choose a new key for each new request."""

    status = 409


class TooLarge(RequestRefused):
    """The request has more in it than the limits allow, which the message names. Divide it."""

    status = 413


class UnsupportedMediaType(RequestRefused):
    """The body is not of the type that is expected. Name that in the Content-Type, and send it."""

    status = 415


class AppQueueFull(RequestRefused):
    """As many notifications of the app are waiting as its limit allows. Try again after ``retry_after`` seconds."""

    status = 429


class Unavailable(RequestRefused):
    """
    It cannot be stored now. Try again after ``retry_after`` seconds.

    The message says why. Where it is a full disk, make room; where another process holds the database, end it (a
    backup has to use ``sqlite3 FILE .backup``); nothing else has to be done, and the daemon need not be restarted.
    """

    status = 503


def in_words(error: BaseException) -> str:
    """
    Say what went wrong, for an operator.

    :param error: what was raised.
    :returns: its message if it is ours. The message of any other may contain a secret, so only its type is given.
    """
    return str(error) if isinstance(error, APNSError) else f"{type(error).__name__}; the daemon's log has more of it"
