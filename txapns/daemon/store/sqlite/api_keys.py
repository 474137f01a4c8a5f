"""The API keys in SQLite."""

from __future__ import annotations

import sqlite3
from typing import Literal, TypeAlias

import msgspec
from zope.interface import implementer

from txapns.daemon.errors import Malformed
from txapns.daemon.store.keys import IKeyStore, IKeyTable, StoredKey
from txapns.daemon.store.rows import Instant
from txapns.daemon.store.sqlite.counted import CountedStore, CountedTable, counted
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.schema import lenient
from txapns.daemon.values import Caller, Lane

__all__ = ["KeyTable", "SQLiteKeyStore"]

_Columns: TypeAlias = tuple[str | None, str | None, Literal[0, 1], Instant, bytes, Lane | None]


@implementer(IKeyTable)
class KeyTable(CountedTable):
    """The table of the keys. Whatever somebody else wrote into a row, the other rows can be read."""

    table = "api_key"
    schema = counted(
        "keys",
        table,
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
        "ALTER TABLE api_key ADD COLUMN lane INTEGER",  # NULL if it is not bound to one
    )

    def listed(self) -> list[StoredKey]:
        """See :meth:`IKeyTable.listed`."""
        with lenient(self._connection):
            rows = self._connection.execute(
                "SELECT CAST(id AS TEXT), CAST(label AS TEXT), send, feedback, manage, created_at, digest, lane"
                " FROM api_key ORDER BY label"
            ).fetchall()
        return [_stored(*row) for row in rows]

    def add(self, key: StoredKey) -> None:
        """See :meth:`IKeyTable.add`."""
        caller = key.caller
        send, feedback = _list(caller.send), _list(caller.feedback)
        row = caller.name, key.label, key.digest, send, feedback, caller.manage, key.created_at, caller.lane
        try:
            self._connection.execute("INSERT INTO api_key VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError:
            raise Malformed(f"there is a key called {key.label} already") from None

    def remove(self, key: str) -> bool:
        """See :meth:`IKeyTable.remove`."""
        # A label could be the id of another key: the id comes first.
        by_id, by_label = "DELETE FROM api_key WHERE id = ?", "DELETE FROM api_key WHERE label = ?"
        return any(self._connection.execute(statement, (key,)).rowcount for statement in (by_id, by_label))


@implementer(IKeyStore)
class SQLiteKeyStore(CountedStore[KeyTable]):
    """The keys in the daemon's database."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, KeyTable)


def _stored(identifier: object, label: object, *rest: object) -> StoredKey:
    try:
        send, feedback, manage, created_at, digest, lane = msgspec.convert(rest, _Columns)
        caller = Caller(str(identifier), _names(send), _names(feedback), bool(manage), lane)
        return StoredKey(caller, str(label), created_at, digest)
    except msgspec.MsgspecError as error:
        problem = f"its row in the database cannot be read: {error}"
        return StoredKey(Caller(str(identifier)), str(label), 0.0, b"", problem)


def _list(names: frozenset[str] | None) -> str | None:
    return None if names is None else msgspec.json.encode(sorted(names)).decode()


def _names(listed: str | None) -> frozenset[str] | None:
    return None if listed is None else msgspec.json.decode(listed, type=frozenset[str])
