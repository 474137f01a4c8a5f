"""The API keys in PostgreSQL."""

from __future__ import annotations

from zope.interface import implementer

from txapns.daemon.errors import Malformed
from txapns.daemon.store.keys import IKeyStore, IKeyTable, StoredKey
from txapns.daemon.store.postgresql.counted import CountedStore, CountedTable, counted
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.values import Caller, Lane

__all__ = ["KeyTable", "PostgreSQLKeyStore"]


@implementer(IKeyTable)
class KeyTable(CountedTable):
    """The table of the keys."""

    table = "api_key"
    schema = counted(
        "keys",
        table,
        """
        CREATE TABLE api_key (
            id text PRIMARY KEY,
            label text COLLATE "C" NOT NULL UNIQUE,
            digest bytea NOT NULL,       -- SHA-256
            send text[],                 -- names of apps; NULL for all
            feedback text[],             -- likewise
            manage boolean NOT NULL,
            created_at double precision NOT NULL CHECK (created_at BETWEEN 0 AND 253402300799)
        )
        """,
        "ALTER TABLE api_key ADD lane smallint CHECK (lane IN (0, 1, 2))",  # NULL if it is not bound to one
    )

    def listed(self) -> list[StoredKey]:
        """See :meth:`IKeyTable.listed`."""
        rows = self._connection.execute(
            "SELECT id, label, send, feedback, manage, created_at, digest, lane FROM api_key ORDER BY label"
        )
        return [
            StoredKey(
                Caller(identifier, _names(send), _names(feedback), manage, None if lane is None else Lane(lane)),
                label,
                created_at,
                digest,
            )
            for identifier, label, send, feedback, manage, created_at, digest, lane in rows
        ]

    def add(self, key: StoredKey) -> None:
        """See :meth:`IKeyTable.add`."""
        caller = key.caller
        send, feedback = _list(caller.send), _list(caller.feedback)
        added = self._connection.execute(
            "INSERT INTO api_key (id, label, digest, send, feedback, manage, created_at, lane)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [caller.name, key.label, key.digest, send, feedback, caller.manage, key.created_at, caller.lane],
        )
        if not added.rowcount:
            raise Malformed(f"there is a key called {key.label} already")

    def remove(self, key: str) -> bool:
        """See :meth:`IKeyTable.remove`."""
        # A label could be the id of another key: the id comes first.
        by_id, by_label = "DELETE FROM api_key WHERE id = %s", "DELETE FROM api_key WHERE label = %s"
        return any(self._connection.execute(statement, [key]).rowcount for statement in (by_id, by_label))


@implementer(IKeyStore)
class PostgreSQLKeyStore(CountedStore[KeyTable]):
    """The keys in the daemon's database."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, KeyTable)


def _list(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)


def _names(listed: list[str] | None) -> frozenset[str] | None:
    return None if listed is None else frozenset(listed)
