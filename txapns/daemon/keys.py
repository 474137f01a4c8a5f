"""
The keys that callers show: ``txapns_<id>_<secret>``.

::

    txapns_3f9a01c7_6d1f…0be4
           └─ id ─┘ └ secret: 256 random bits in hexadecimal

The id is no secret: logs and lists show it. Of the whole the database has only the SHA-256, which is enough for what
nobody can guess, so a key is shown once, when it is made. What callers show is compared in constant time, and so it is
where the id is not known at all.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import sqlite3
from collections.abc import Iterable
from typing import Literal, TypeAlias

import attrs
import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from txapns.daemon.config import NAME
from txapns.daemon.errors import Malformed, NotAuthenticated
from txapns.daemon.interfaces import IKeys
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.polling import ChangePoller, Instant, changes, counted
from txapns.daemon.store.sqlite.schema import Schema, lenient
from txapns.daemon.values import Caller

__all__ = ["PART", "Keys", "StoredKey", "add_key", "list_keys", "remove_key"]

#: Their table in the database.
PART = Schema(
    "keys",
    (
        ";\n".join(
            (
                """
                CREATE TABLE api_key (
                    id TEXT PRIMARY KEY,
                    label TEXT NOT NULL UNIQUE,
                    digest BLOB NOT NULL,        -- SHA-256
                    send TEXT,                   -- JSON list of apps; NULL for all
                    feedback TEXT,               -- likewise
                    manage INTEGER NOT NULL,
                    created_at REAL NOT NULL
                )
                """,
                *counted("api_key"),
            )
        ),
    ),
)

_KEY = re.compile(r"txapns_([0-9a-f]{8})_[0-9a-f]{64}")
_NOBODY = bytes(32)


_Rest: TypeAlias = tuple[str | None, str | None, Literal[0, 1], Instant, bytes]

_log = Logger()


@attrs.frozen
class StoredKey:
    """
    A key as far as the database knows it.

    :ivar caller: whom it tells, by its id, and what that allows.
    :ivar label: what the operator calls it.
    :ivar created_at: when it was made, in UNIX seconds.
    :ivar digest: the SHA-256 of the key.
    :ivar problem: why the rest cannot be read, in which case it allows nothing; empty if it can.
    """

    caller: Caller
    label: str
    created_at: float
    digest: bytes = attrs.field(repr=False)
    problem: str = ""


def add_key(
    connection: sqlite3.Connection,
    label: str,
    *,
    send: Iterable[str] | None = (),
    feedback: Iterable[str] | None = (),
    manage: bool = False,
    now: float,
) -> str:
    """
    Make a key.

    :param connection: to the database, in a transaction.
    :param label: what to call it; there must be no other of that label.
    :param send: the names of the apps that it may send to; ``None`` for all.
    :param feedback: the names of the apps whose outcomes and dead tokens it may read; ``None`` for all.
    :param manage: whether it may look after the apps and their queues.
    :param now: UNIX seconds.
    :returns: the key. It cannot be shown again.
    :raises Malformed: the label cannot be one, or there is one already.
    """
    if not NAME.fullmatch(label):
        raise Malformed("a key's label has 1 to 100 letters, digits, dots, hyphens and underscores")
    identifier = secrets.token_hex(4)
    key = f"txapns_{identifier}_{secrets.token_hex(32)}"
    row = identifier, label, _digest(key), _listed(send), _listed(feedback), manage, now
    try:
        connection.execute("INSERT INTO api_key VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    except sqlite3.IntegrityError:
        raise Malformed(f"there is a key called {label} already") from None
    return key


def list_keys(connection: sqlite3.Connection) -> list[StoredKey]:
    """
    List the keys, by label.

    :param connection: to the database.
    """
    with lenient(connection):
        rows = connection.execute(
            "SELECT CAST(id AS TEXT), CAST(label AS TEXT), send, feedback, manage, created_at, digest"
            " FROM api_key ORDER BY label"
        ).fetchall()
    return [_stored(*row) for row in rows]


def _stored(identifier: object, label: object, *rest: object) -> StoredKey:
    try:
        send, feedback, manage, created_at, digest = msgspec.convert(rest, _Rest)
        caller = Caller(str(identifier), _names(send), _names(feedback), bool(manage))
        return StoredKey(caller, str(label), created_at, digest)
    except msgspec.MsgspecError as error:
        nobody = Caller(str(identifier), frozenset(), frozenset(), False)
        return StoredKey(nobody, str(label), 0.0, b"", f"its row in the database cannot be read: {error}")


def remove_key(connection: sqlite3.Connection, key: str) -> None:
    """
    Forget a key. Whoever shows it is turned away within a second or so.

    :param connection: to the database, in a transaction.
    :param key: its id or its label.
    :raises Malformed: there is no such key.
    """
    # A label could be the id of another key: the id comes first.
    for column in ("id", "label"):
        if connection.execute(f"DELETE FROM api_key WHERE {column} = ?", (key,)).rowcount:  # noqa: S608 - one of these two
            return
    raise Malformed("there is no key of this id or label")


@implementer(IKeys)
class Keys:
    """
    The keys in the database, in memory and never older than a second or so.

    :param clock: tells when to look for changes.
    :param database: the database, open.
    """

    def __init__(self, clock: IReactorTime, database: Database) -> None:
        self._database = database
        self._keys: dict[str, StoredKey] = {}
        self._changes = -1
        self._watch = ChangePoller(clock, database, self._look, self._found)

    def start(self) -> Deferred[None]:
        """
        Make the table if need be, read them, and watch them.

        :raises DaemonError: the database cannot be used.
        """
        return self._database.prepare(PART).addCallback(lambda _: self._watch.start())

    def stop(self) -> Deferred[None]:
        """ChangePoller no more."""
        return self._watch.stop()

    def refresh(self) -> Deferred[None]:
        """Read them at once, if they have changed."""
        return self._watch.look()

    def check(self, key: str) -> Caller:
        """See :meth:`IKeys.check`."""
        match = _KEY.fullmatch(key)
        stored = self._keys.get(match[1]) if match else None
        if hmac.compare_digest(_digest(key), stored.digest if stored else _NOBODY) and stored:
            return stored.caller
        raise NotAuthenticated("the key is not known")

    def _look(self, connection: sqlite3.Connection) -> tuple[int, list[StoredKey] | None]:
        number = changes(connection, "api_key")
        return number, None if number == self._changes else list_keys(connection)

    def _found(self, found: tuple[int, list[StoredKey] | None]) -> None:
        number, keys = found
        if keys is not None:
            self._changes = number
            self._keys = {stored.caller.name: stored for stored in keys if not stored.problem}
            for stored in keys:
                if stored.problem:
                    _log.error("the key {label} cannot be used: {problem}", label=stored.label, problem=stored.problem)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _listed(names: Iterable[str] | None) -> str | None:
    return None if names is None else json.dumps(sorted(set(names)))


def _names(listed: str | None) -> frozenset[str] | None:
    return None if listed is None else msgspec.json.decode(listed, type=frozenset[str])
