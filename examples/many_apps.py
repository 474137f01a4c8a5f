"""
Send for many apps whose credentials are rows of a database.

Run it while ``txapns simulate --state simulator`` runs. A real program has its table already; this one fills it with
what the simulator wrote: one app with a certificate, one with a provider token.
"""

import json
import sqlite3
from pathlib import Path

from twisted.internet.task import react

from txapns import Certificate, Gateway, Notification, ProviderToken, Session

STATE = Path("simulator")

TABLE = "CREATE TABLE app (name TEXT PRIMARY KEY, topic TEXT, certificate TEXT, key TEXT, key_id TEXT, team_id TEXT)"


def fill(database, known):
    """Add two apps."""
    certificate, key = ((STATE / known[name]).read_text() for name in ("certificate", "key"))
    database.execute(TABLE)
    database.execute("INSERT INTO app (name, topic, certificate) VALUES ('chess', ?, ?)", (known["topic"], certificate))
    database.execute(
        "INSERT INTO app (name, topic, key, key_id, team_id) VALUES ('news', ?, ?, ?, ?)",
        (known["topic"] + ".news", key, known["key_id"], known["team_id"]),
    )


def credential_of(row):
    """Read a credential from its row, without a file."""
    if row["certificate"] is not None:
        return Certificate.from_pem(row["certificate"])
    return ProviderToken.from_p8(row["key"], row["key_id"], row["team_id"])


async def push(session, gateway, database, app, notification, tokens):
    """Send for an app. The row is read each time; the connection is opened once."""
    row = database.execute("SELECT * FROM app WHERE name = ?", (app,)).fetchone()
    client = session.client(credential_of(row), gateway, topic=row["topic"])
    batch = await client.send(notification, tokens)
    print(app, batch)


async def main(reactor):
    """Send twice for each app."""
    known = json.loads((STATE / "simulator.json").read_text())
    gateway = Gateway.http2("localhost", known["http2"], trust_root=(STATE / known["ca"]).read_text())
    database = sqlite3.connect(":memory:")
    database.row_factory = sqlite3.Row
    fill(database, known)

    session = Session(reactor)
    for text in ("First", "Second"):
        for app in ("chess", "news"):
            await push(session, gateway, database, app, Notification(alert=text), ["aa" * 32, "bb" * 32])
    await session.close()


if __name__ == "__main__":
    react(main)
