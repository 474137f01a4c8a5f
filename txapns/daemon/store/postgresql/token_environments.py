"""Which environment device tokens are of, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from txapns._network.clocks import wall_clock
from txapns.daemon.interfaces import ITokenEnvironments
from txapns.daemon.store.postgresql.arrays import bigints, byteas
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.schema import Connection, Schema
from txapns.daemon.store.queue_time import milliseconds
from txapns.daemon.store.token_environments import APPS, PruningRound
from txapns.daemon.values import TokenEnvironment, TokenKind

__all__ = ["TOKENS", "PostgreSQLTokenEnvironments"]

#: The table of what is known of tokens.
TOKENS = Schema(
    "tokens",
    (
        """
CREATE TABLE token_environment (
    until bigint NOT NULL,
    app text COLLATE "C" NOT NULL,
    kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 3),
    token bytea NOT NULL,
    PRIMARY KEY (app, token)
);
CREATE INDEX token_environment_until ON token_environment (app, until);
""",
    ),
)

_LOOK_UP = """
SELECT token, kind, until FROM token_environment
WHERE app = %(app)s AND token = ANY(%(tokens)s) AND until + 0 > %(now)s
"""

# In the order of the tokens, or two nodes might wait for each other.
_NOTE = """
INSERT INTO token_environment (app, token, kind, until)
SELECT %(app)s, token, kind, until FROM unnest(%(tokens)s, %(kinds)s, %(untils)s) AS found (token, kind, until)
ORDER BY token
ON CONFLICT (app, token) DO UPDATE SET kind = excluded.kind, until = excluded.until
"""

# Given in their order.
_FORGET_THESE = """
DELETE FROM token_environment WHERE (app, token) IN (
    SELECT entry.app, entry.token FROM unnest(%(tokens)s) AS gone (token)
    CROSS JOIN LATERAL (
        SELECT app, token FROM token_environment WHERE app = %(app)s AND token_environment.token = gone.token FOR UPDATE
    ) AS entry
)
"""

# From one app to the next, whatever the number of their tokens.
_APPS = """
WITH RECURSIVE each(app) AS (
    (SELECT app FROM token_environment WHERE app > %(after)s ORDER BY app LIMIT 1)
    UNION ALL
    SELECT (SELECT app FROM token_environment WHERE app > each.app ORDER BY app LIMIT 1)
    FROM each WHERE each.app IS NOT NULL
)
SELECT app FROM each WHERE app IS NOT NULL LIMIT %(apps)s
"""

# Those that count the least long, up to the date, or up to the first that is too many. To find that takes as long as
# many are kept, whatever the number of those that are too many.
_FORGET = """
DELETE FROM token_environment WHERE app = %(app)s AND token = ANY(ARRAY(
    SELECT token FROM token_environment WHERE app = %(app)s AND until <= greatest(%(before)s::bigint, coalesce(
        (SELECT until FROM token_environment WHERE app = %(app)s ORDER BY until DESC LIMIT 1 OFFSET %(most)s), 0
    )) ORDER BY until LIMIT %(limit)s
))
"""


@implementer(ITokenEnvironments)
class PostgreSQLTokenEnvironments:
    """What is known of tokens, in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wall = wall_clock(database.clock)
        self._round = PruningRound()

    def start(self) -> Deferred[None]:
        """Create the table if it is missing."""
        return self._database.prepare(TOKENS)

    def known(self, app: str, tokens: Sequence[bytes]) -> Deferred[Mapping[bytes, TokenEnvironment]]:
        """See :meth:`ITokenEnvironments.known`."""
        values = {"app": app, "tokens": byteas(tokens), "now": milliseconds(self._wall.now())}

        def read(connection: Connection) -> dict[bytes, TokenEnvironment]:
            rows = connection.execute(_LOOK_UP, values, prepare=True, binary=True)
            return {token: TokenEnvironment(TokenKind(kind), until / 1000) for token, kind, until in rows}

        return self._database.read(read)

    def note(self, app: str, found: Mapping[bytes, TokenEnvironment | None]) -> Deferred[None]:
        """See :meth:`ITokenEnvironments.note`."""
        kept = {token: each for token, each in found.items() if each is not None}
        values = {
            "app": app,
            "tokens": byteas(kept),
            "kinds": bigints([each.kind for each in kept.values()]),
            "untils": bigints([milliseconds(each.until) for each in kept.values()]),
        }
        forgotten = {"app": app, "tokens": byteas(sorted(token for token, each in found.items() if each is None))}

        def write(connection: Connection) -> None:
            if kept:
                connection.execute(_NOTE, values, prepare=True)
            if len(kept) < len(found):
                connection.execute(_FORGET_THESE, forgotten, prepare=True)

        return self._database.write(write)

    def prune(self, before: float, most: int = 100_000, limit: int = 500) -> Deferred[int]:
        """See :meth:`ITokenEnvironments.prune`."""
        after = {"after": self._round.after, "apps": APPS}
        values = {"before": milliseconds(before) - 1, "most": most, "limit": limit}

        def write(connection: Connection) -> tuple[list[str], int]:
            apps = [app for (app,) in connection.execute(_APPS, after, prepare=True)]
            each = [connection.execute(_FORGET, {"app": app, **values}, prepare=True).rowcount for app in apps]
            return apps, sum(each)

        return self._database.write(write).addCallback(self._round.stepped)
