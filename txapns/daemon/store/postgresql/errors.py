"""
What PostgreSQL's errors mean: for callers whether to try again, and for operators what to do.

A server says in five characters, the SQLSTATE, what is wrong. Where no connection can be made there is no SQLSTATE,
only a text, which is in English unless the server speaks another language. Neither has a password in it, but such texts
name hosts and addresses: the log has them, callers do not.
"""

from __future__ import annotations

import re

import attrs
import psycopg

from txapns.daemon.errors import DaemonError, DatabaseError

__all__ = ["FULL", "Explanation", "Unusable", "explained", "in_words", "retried"]

#: What :func:`explained` says of a full disk.
FULL = "the database's disk is full"


class Unusable(Exception):
    """
    A server that answers cannot be used as it is, or what is needed to connect to it is missing.

    :param reason: why, for an operator.
    """

    def __init__(self, reason: DaemonError) -> None:
        super().__init__(str(reason))
        self.reason = reason


@attrs.frozen
class Explanation:
    """
    What an error means.

    :ivar text: for callers and operators.
    :ivar retry_after: in how many seconds to try again.
    :ivar lost: whether the connection must not be used again.
    :ivar detail: what the server or libpq says, for operators.
    """

    text: str
    retry_after: float
    lost: bool = False
    detail: str = ""


_AWAY = Explanation("the database is away", 5.0, lost=True)
_SLOW = Explanation("the database is too slow", 5.0)
_READ_ONLY = Explanation(
    "the database is read-only: a standby, or default_transaction_read_only is on", 10.0, lost=True
)
_OCCUPIED = Explanation("the database has no connection left (max_connections)", 5.0, lost=True)
_STARTING = Explanation("the database is starting or stopping", 2.0, lost=True)
_CONTENDED = Explanation("too many transactions at once changed the same rows", 1.0)
_PASSWORD = Explanation("the database does not accept the user or the password", 60.0, lost=True)
_NO_DATABASE = Explanation("the database does not exist", 60.0, lost=True)
_FORBIDDEN = Explanation("the database's user lacks a right", 60.0)
_DAMAGED = Explanation("the database is damaged", 300.0, lost=True)
_UNUSABLE = Explanation("the database cannot be used as it is", 60.0, lost=True)
_NOT_ADMITTED = Explanation("the database does not admit this host or user (pg_hba.conf)", 60.0, lost=True)
_NOT_VERIFIED = Explanation("the database's server cannot be verified", 60.0, lost=True)

_STATES = {
    "08": _AWAY,  # the connection failed
    "25006": _READ_ONLY,
    "25P03": _AWAY,  # idle in a transaction for too long
    "28": _PASSWORD,
    "3D": _NO_DATABASE,
    "3F": Explanation("the schema is missing from the database, or its user may not use it", 300.0),
    "40": _CONTENDED,
    "42501": _FORBIDDEN,
    "42P01": Explanation("a table is missing from the database", 300.0),
    "42703": Explanation("a column is missing from a table of the database", 300.0),
    "53100": Explanation(FULL, 10.0),
    "53200": Explanation("the database is out of memory", 10.0),
    "53300": _OCCUPIED,
    "53": Explanation("the database is out of some resource", 10.0),
    "55P03": Explanation("a lock in the database was not released in time", 5.0),
    "57014": _SLOW,  # statement_timeout, or somebody cancelled it
    "57": _STARTING,  # shut down by an administrator, or because another process of it crashed
    "58": Explanation("the database cannot use its disk", 10.0),
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
}

# In the texts that come without a SQLSTATE. The first that matches counts.
_TEXTS = (
    (r"too many clients|remaining connection slots|too many connections", _OCCUPIED),
    (r"password authentication failed|no password supplied|role .* does not exist|authentication failed", _PASSWORD),
    (r"no pg_hba.conf entry", _NOT_ADMITTED),
    (r"certificate verify failed|does not match host name|root certificate|server does not support SSL", _NOT_VERIFIED),
    (r"database .* does not exist", _NO_DATABASE),
    (r"session is read-only|read-write", _READ_ONLY),
    (r"starting up|shutting down|not yet accepting|recovery mode|not accepting connections", _STARTING),
)


def explained(error: BaseException | None) -> Explanation | None:
    """
    Explain an error of psycopg's, or why there is no connection.

    :returns: what it means; ``None`` if the statement is at fault.
    """
    if isinstance(error, Unusable):
        return attrs.evolve(_UNUSABLE, detail=str(error))
    if not isinstance(error, psycopg.Error):
        return None
    state, text = error.sqlstate, str(error)
    if state is not None:
        found = _STATES.get(state) or _STATES.get(state[:2])
    elif isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        found = next((found for pattern, found in _TEXTS if re.search(pattern, text)), _AWAY)
    else:
        found = None
    return None if found is None else attrs.evolve(found, detail=_shortened(text))


def _shortened(text: str) -> str:
    """Keep the lines of a text that are not hints, on one line."""
    lines = [line.strip() for line in text.splitlines()]
    return "; ".join(line for line in lines if line and not line.startswith(("Is the server", "Multiple connection")))


def in_words(error: psycopg.Error | Unusable, where: str) -> DaemonError:
    """Translate an error for the operator who starts the daemon or runs a command."""
    if isinstance(error, Unusable):
        return error.reason
    found = explained(error)
    if found is None:
        return DatabaseError(f"{where}: {_shortened(str(error)) or type(error).__name__}")
    return DatabaseError(": ".join(filter(None, (where, found.text, found.detail))))


def retried(error: BaseException) -> bool:
    """
    Tell whether to try a failed transaction again at once.

    It met another one in the same rows, or both created the same table, or a plan was out of date.
    """
    if isinstance(error, psycopg.errors.UniqueViolation):
        return error.diag.schema_name == "pg_catalog"
    if isinstance(error, psycopg.errors.FeatureNotSupported):
        return "cached plan" in str(error)
    return isinstance(error, psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected)
