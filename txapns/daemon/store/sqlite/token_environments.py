"""Which environment device tokens are of, in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress

from twisted.internet.defer import Deferred
from zope.interface import implementer

from txapns._network.clocks import wall_clock
from txapns.daemon.interfaces import ITokenEnvironments
from txapns.daemon.store.queue_time import milliseconds
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.schema import Schema
from txapns.daemon.store.sqlite.tables import array
from txapns.daemon.store.sqlite.tokens import THESE, packed
from txapns.daemon.store.token_environments import APPS, PruningRound
from txapns.daemon.values import TokenEnvironment, TokenKind

__all__ = ["TOKENS", "SQLiteTokenEnvironments"]

#: The table of what is known of tokens.
TOKENS = Schema(
    "tokens",
    (
        """
CREATE TABLE token_environment (
    app TEXT NOT NULL,
    token BLOB NOT NULL,
    kind INTEGER NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (app, token)
) WITHOUT ROWID;
CREATE INDEX token_environment_until ON token_environment (app, until)
""",
    ),
)

# The plus keeps SQLite from reading all tokens of the app that count.
_LOOK_UP = f"""
SELECT token, kind, until FROM token_environment WHERE app = ? AND token IN ({THESE}) AND +until > ?
"""  # noqa: S608 - ours

_NOTE = """
INSERT INTO token_environment VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET kind = excluded.kind, until = excluded.until
"""

# From one app to the next, whatever the number of their tokens.
_APPS = """
WITH RECURSIVE each(app) AS (
    SELECT min(app) FROM token_environment WHERE app > ?
    UNION ALL SELECT (SELECT min(app) FROM token_environment WHERE app > each.app) FROM each WHERE app IS NOT NULL
)
SELECT app FROM each WHERE app IS NOT NULL LIMIT ?
"""

# Those that count the least long, up to the date, or up to the first that is too many. To find that takes as long as
# many are kept, whatever the number of those that are too many.
_FORGET = """
DELETE FROM token_environment WHERE app = ?1 AND token IN (
    SELECT token FROM token_environment WHERE app = ?1 AND until <= max(?2, coalesce(
        (SELECT until FROM token_environment WHERE app = ?1 ORDER BY until DESC LIMIT 1 OFFSET ?3), 0
    )) ORDER BY until LIMIT ?4
)
"""


@implementer(ITokenEnvironments)
class SQLiteTokenEnvironments:
    """What is known of tokens, in SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wall = wall_clock(database.clock)
        self._round = PruningRound()

    def start(self) -> Deferred[None]:
        """Create the table if it is missing."""
        return self._database.prepare(TOKENS)

    def known(self, app: str, tokens: Sequence[bytes]) -> Deferred[Mapping[bytes, TokenEnvironment]]:
        """See :meth:`ITokenEnvironments.known`."""
        blob, places = packed(tokens)
        arguments = [app, blob, array(places), milliseconds(self._wall.now())]

        def read(connection: sqlite3.Connection) -> dict[bytes, TokenEnvironment]:
            found = {}
            for token, kind, until in connection.execute(_LOOK_UP, arguments):
                with suppress(TypeError, ValueError):  # a damaged row is left out
                    found[token] = TokenEnvironment(TokenKind(kind), until / 1000)
            return found

        return self._database.read(read)

    def note(self, app: str, found: Mapping[bytes, TokenEnvironment | None]) -> Deferred[None]:
        """See :meth:`ITokenEnvironments.note`."""
        rows = [(app, token, int(each.kind), milliseconds(each.until)) for token, each in found.items() if each]
        forgotten = [(app, token) for token, each in found.items() if each is None]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(_NOTE, rows)
            connection.executemany("DELETE FROM token_environment WHERE app = ? AND token = ?", forgotten)

        return self._database.write(write)

    def prune(self, before: float, most: int = 100_000, limit: int = 500) -> Deferred[int]:
        """See :meth:`ITokenEnvironments.prune`."""
        after = self._round.after

        def write(connection: sqlite3.Connection) -> tuple[list[str], int]:
            apps = [app for (app,) in connection.execute(_APPS, [after, APPS])]
            rows = [(app, milliseconds(before) - 1, most, limit) for app in apps]
            return apps, sum(connection.execute(_FORGET, row).rowcount for row in rows)

        return self._database.write(write).addCallback(self._round.stepped)
