"""The apps in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from zope.interface import implementer

from txapns.daemon.store.apps import (
    AppRow,
    AppSettings,
    EncryptedCredential,
    IAppStore,
    IAppTable,
    StoredApp,
    StoredCredential,
    sandbox_name,
)
from txapns.daemon.store.postgresql.counted import CountedStore, CountedTable, counted, counting
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.rows import printable
from txapns.daemon.values import Pause

__all__ = ["AppTable", "PostgreSQLAppStore"]

_PUT = """
INSERT INTO app (name, settings, encrypted, kind, fingerprint, expires, created_at, changed_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (name) DO UPDATE SET
    settings = excluded.settings, encrypted = excluded.encrypted, kind = excluded.kind,
    fingerprint = excluded.fingerprint, expires = excluded.expires, created_at = excluded.created_at,
    changed_at = excluded.changed_at
"""

_SET_CREDENTIAL = """
UPDATE app SET encrypted = %s, kind = %s, fingerprint = %s, expires = %s, changed_at = %s WHERE name = %s
"""


@implementer(IAppTable)
class AppTable(CountedTable):
    """The table of the apps."""

    table = "app"
    schema = counted(
        "apps",
        table,
        """
        CREATE TABLE app (
            name text COLLATE "C" PRIMARY KEY,
            settings json NOT NULL,
            encrypted bytea NOT NULL,    -- the credential, encrypted with the master key
            kind text NOT NULL CHECK (kind IN ('certificate', 'key')),
            fingerprint text NOT NULL,   -- of the credential
            expires double precision,    -- when the certificate does; NULL for a key
            created_at double precision NOT NULL CHECK (created_at BETWEEN 0 AND 253402300799),
            changed_at double precision NOT NULL CHECK (changed_at BETWEEN 0 AND 253402300799)
        )
        """,
        f"""
        CREATE TABLE app_pause (
            name text COLLATE "C" PRIMARY KEY,  -- of an app in the database or in the configuration
            since double precision NOT NULL CHECK (since BETWEEN 0 AND 253402300799),
            caller text NOT NULL
        );
        {counting("app_pause", "app")};
        """,
        f"""
        CREATE TABLE app_sandbox (
            name text COLLATE "C" PRIMARY KEY,  -- of an app whose sandbox side has a credential of its own
            encrypted bytea NOT NULL,
            kind text NOT NULL CHECK (kind IN ('certificate', 'key')),
            fingerprint text NOT NULL,
            expires double precision,
            changed_at double precision NOT NULL CHECK (changed_at BETWEEN 0 AND 253402300799)
        );
        {counting("app_sandbox", "app")};
        """,
    )

    def rows(self) -> list[AppRow]:
        """See :meth:`IAppTable.rows`."""
        rows = self._connection.execute(
            "SELECT name, settings::text, app.encrypted, app_sandbox.encrypted"
            " FROM app LEFT JOIN app_sandbox USING (name) ORDER BY name"
        )
        return [AppRow(printable(name), settings.encode(), *row) for name, settings, *row in rows]

    def listed(self) -> list[StoredApp]:
        """See :meth:`IAppTable.listed`."""
        rows = self._connection.execute(
            "SELECT name, settings::text, kind, fingerprint, expires, created_at, changed_at FROM app ORDER BY name"
        )
        return [StoredApp.from_row(name, settings.encode(), *columns) for name, settings, *columns in rows]

    def created_at(self, name: str) -> float | None:
        """See :meth:`IAppTable.created_at`."""
        row = self._connection.execute("SELECT created_at FROM app WHERE name = %s", [name]).fetchone()
        return None if row is None else float(row[0])

    def put(
        self,
        name: str,
        settings: AppSettings,
        credential: EncryptedCredential,
        created_at: float,
        changed_at: float,
    ) -> None:
        """See :meth:`IAppTable.put`."""
        row = name, msgspec.json.encode(settings).decode(), *credential.columns, created_at, changed_at
        self._connection.execute(_PUT, row)

    def set_credential(self, name: str, credential: EncryptedCredential, changed_at: float) -> bool:
        """See :meth:`IAppTable.set_credential`."""
        return self._connection.execute(_SET_CREDENTIAL, [*credential.columns, changed_at, name]).rowcount > 0

    def sandboxes(self) -> dict[str, StoredCredential]:
        """See :meth:`IAppTable.sandboxes`."""
        rows = self._connection.execute("SELECT name, kind, fingerprint, expires, changed_at FROM app_sandbox")
        return {printable(name): StoredCredential(*row) for name, *row in rows}

    def put_sandbox(self, name: str, credential: EncryptedCredential | None, changed_at: float) -> None:
        """See :meth:`IAppTable.put_sandbox`."""
        self._connection.execute("DELETE FROM app_sandbox WHERE name = %s", [name])
        if credential is not None:
            row = name, *credential.columns, changed_at
            self._connection.execute("INSERT INTO app_sandbox VALUES (%s, %s, %s, %s, %s, %s)", row)

    def settings(self, name: str) -> bytes | None:
        """See :meth:`IAppTable.settings`."""
        row = self._connection.execute("SELECT settings::text FROM app WHERE name = %s", [name]).fetchone()
        return None if row is None else str(row[0]).encode()

    def reencrypt(self, function: Callable[[bytes, str], bytes]) -> int:
        """See :meth:`IAppTable.reencrypt`."""
        count = 0
        for table, named in (("app", str), ("app_sandbox", sandbox_name)):
            select = f"SELECT name, encrypted FROM {table} ORDER BY name FOR UPDATE"
            update = f"UPDATE {table} SET encrypted = %s WHERE name = %s"
            rows = self._connection.execute(select.encode()).fetchall()
            for name, encrypted in rows:
                self._connection.execute(update.encode(), [function(encrypted, named(name)), name])
            count += len(rows)
        return count

    def remove(self, name: str) -> bool:
        """See :meth:`IAppTable.remove`."""
        self.resume(name)
        self.put_sandbox(name, None, 0.0)
        return self._connection.execute("DELETE FROM app WHERE name = %s", [name]).rowcount > 0

    def pauses(self) -> dict[str, Pause]:
        """See :meth:`IAppTable.pauses`."""
        rows = self._connection.execute("SELECT name, since, caller FROM app_pause")
        return {printable(name): Pause(since, printable(caller)) for name, since, caller in rows}

    def pause(self, name: str, pause: Pause) -> bool:
        """See :meth:`IAppTable.pause`."""
        row = name, pause.since, pause.caller
        added = self._connection.execute("INSERT INTO app_pause VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", row)
        return added.rowcount > 0

    def resume(self, name: str) -> bool:
        """See :meth:`IAppTable.resume`."""
        return self._connection.execute("DELETE FROM app_pause WHERE name = %s", [name]).rowcount > 0


@implementer(IAppStore)
class PostgreSQLAppStore(CountedStore[AppTable]):
    """The apps in the daemon's database."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, AppTable)
