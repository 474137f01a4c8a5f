"""The apps in SQLite."""

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
from txapns.daemon.store.rows import printable
from txapns.daemon.store.sqlite.counted import CountedStore, CountedTable, counted, counting
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.schema import lenient
from txapns.daemon.values import Pause

__all__ = ["AppTable", "SQLiteAppStore"]


@implementer(IAppTable)
class AppTable(CountedTable):
    """The table of the apps. Whatever somebody else wrote into a row, the other rows can be read."""

    table = "app"
    schema = counted(
        "apps",
        table,
        """
        CREATE TABLE app (
            name TEXT PRIMARY KEY,
            settings BLOB NOT NULL,      -- JSON
            encrypted BLOB NOT NULL,     -- the credential, encrypted with the master key
            kind TEXT NOT NULL,          -- certificate or key
            fingerprint TEXT NOT NULL,   -- of the credential
            expires REAL,                -- when the certificate does; NULL for a key
            created_at REAL NOT NULL,
            changed_at REAL NOT NULL
        )
        """,
        f"""
        CREATE TABLE app_pause (
            name TEXT PRIMARY KEY,       -- of an app in the database or in the configuration
            since REAL NOT NULL,
            caller TEXT NOT NULL
        );
        {counting("app_pause", "app")}
        """,
        f"""
        CREATE TABLE app_sandbox (
            name TEXT PRIMARY KEY,       -- of an app whose sandbox side has a credential of its own
            encrypted BLOB NOT NULL,
            kind TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            expires REAL,
            changed_at REAL NOT NULL
        );
        {counting("app_sandbox", "app")}
        """,
    )

    def rows(self) -> list[AppRow]:
        """See :meth:`IAppTable.rows`."""
        with lenient(self._connection):
            rows = self._connection.execute(
                "SELECT CAST(app.name AS TEXT), CAST(settings AS BLOB), CAST(app.encrypted AS BLOB),"
                " CAST(app_sandbox.encrypted AS BLOB) FROM app LEFT JOIN app_sandbox USING (name) ORDER BY app.name"
            ).fetchall()
        return [AppRow(printable(name), *row) for name, *row in rows]

    def listed(self) -> list[StoredApp]:
        """See :meth:`IAppTable.listed`."""
        with lenient(self._connection):
            rows = self._connection.execute(
                "SELECT CAST(name AS TEXT), CAST(settings AS BLOB), kind, fingerprint, expires, created_at, changed_at"
                " FROM app ORDER BY name"
            ).fetchall()
        return [StoredApp.from_row(*row) for row in rows]

    def created_at(self, name: str) -> float | None:
        """See :meth:`IAppTable.created_at`."""
        row = self._connection.execute("SELECT created_at FROM app WHERE name = ?", [name]).fetchone()
        return None if row is None else row[0]

    def put(
        self,
        name: str,
        settings: AppSettings,
        credential: EncryptedCredential,
        created_at: float,
        changed_at: float,
    ) -> None:
        """See :meth:`IAppTable.put`."""
        row = name, msgspec.json.encode(settings), *credential.columns, created_at, changed_at
        self._connection.execute("INSERT OR REPLACE INTO app VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def set_credential(self, name: str, credential: EncryptedCredential, changed_at: float) -> bool:
        """See :meth:`IAppTable.set_credential`."""
        changed = self._connection.execute(
            "UPDATE app SET encrypted = ?, kind = ?, fingerprint = ?, expires = ?, changed_at = ? WHERE name = ?",
            [*credential.columns, changed_at, name],
        )
        return changed.rowcount > 0

    def sandboxes(self) -> dict[str, StoredCredential]:
        """See :meth:`IAppTable.sandboxes`."""
        with lenient(self._connection):
            rows = self._connection.execute(
                "SELECT CAST(name AS TEXT), CAST(kind AS TEXT), CAST(fingerprint AS TEXT), CAST(expires AS REAL),"
                " CAST(changed_at AS REAL) FROM app_sandbox"
            ).fetchall()
        return {printable(name): StoredCredential(*row) for name, *row in rows}

    def put_sandbox(self, name: str, credential: EncryptedCredential | None, changed_at: float) -> None:
        """See :meth:`IAppTable.put_sandbox`."""
        self._connection.execute("DELETE FROM app_sandbox WHERE name = ?", [name])
        if credential is not None:
            row = name, *credential.columns, changed_at
            self._connection.execute("INSERT INTO app_sandbox VALUES (?, ?, ?, ?, ?, ?)", row)

    def settings(self, name: str) -> bytes | None:
        """See :meth:`IAppTable.settings`."""
        row = self._connection.execute("SELECT CAST(settings AS BLOB) FROM app WHERE name = ?", [name]).fetchone()
        return None if row is None else bytes(row[0])

    def reencrypt(self, function: Callable[[bytes, str], bytes]) -> int:
        """See :meth:`IAppTable.reencrypt`."""
        count = 0
        for table, named in (("app", str), ("app_sandbox", sandbox_name)):
            rows = self._connection.execute(f"SELECT name, encrypted FROM {table}").fetchall()  # noqa: S608 - ours
            update = f"UPDATE {table} SET encrypted = ? WHERE name = ?"  # noqa: S608 - ours
            for name, encrypted in rows:
                self._connection.execute(update, [function(encrypted, named(name)), name])
            count += len(rows)
        return count

    def remove(self, name: str) -> bool:
        """See :meth:`IAppTable.remove`."""
        self.resume(name)
        self.put_sandbox(name, None, 0.0)
        return self._connection.execute("DELETE FROM app WHERE name = ?", [name]).rowcount > 0

    def pauses(self) -> dict[str, Pause]:
        """See :meth:`IAppTable.pauses`."""
        with lenient(self._connection):
            rows = self._connection.execute(
                "SELECT CAST(name AS TEXT), CAST(since AS REAL), CAST(caller AS TEXT) FROM app_pause"
            ).fetchall()
        return {printable(name): Pause(since, printable(caller)) for name, since, caller in rows}

    def pause(self, name: str, pause: Pause) -> bool:
        """See :meth:`IAppTable.pause`."""
        row = name, pause.since, pause.caller
        added = self._connection.execute("INSERT INTO app_pause VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row)
        return added.rowcount > 0

    def resume(self, name: str) -> bool:
        """See :meth:`IAppTable.resume`."""
        return self._connection.execute("DELETE FROM app_pause WHERE name = ?", [name]).rowcount > 0


@implementer(IAppStore)
class SQLiteAppStore(CountedStore[AppTable]):
    """The apps in the daemon's database."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, AppTable)
