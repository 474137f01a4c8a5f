"""
Fill a daemon's database, for ``rows/store.py``: ``fill_peer.py CONFIG NOTIFICATIONS APPS``.

There are as many dead tokens as notifications that wait, half of both for one app, the others for all. Those that wait
are due in twenty days; some of the one app were given up. The ids are random. Printed is the id of one of them.
"""

import os
import sys
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from txapns.credentials import ProviderToken
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.secrets.master_key import Secrets
from txapns.daemon.store.apps import AppSettings, add_app
from txapns.daemon.store.factory import visiting_tables
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.store import SQLiteStore
from txapns.daemon.values import Message, Settlement, State
from txapns.simulator import Authority

CONFIG, COUNT, APPS = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
PAYLOAD = b'{"aps":{"alert":"Your move"}}'
LATER = time.time() + 20 * 86_400
DIED = time.time() - 3_600
#: How many devices a message has.
SIZE = 500


def add_apps():
    """Add the apps: one is called chess."""
    configuration = Configuration.from_file(CONFIG)
    secrets = Secrets(configuration.secrets.master_key_file, {})
    secrets.create()
    key = ProviderToken.from_p8(Authority().p8, "ABC123DEFG", "DEF123GHIJ")
    names = ["chess", *(f"app{number:05}" for number in range(1, APPS))]
    with visiting_tables(configuration) as tables:
        for name in names:
            settings = AppSettings(gateway="http2:host=localhost:port=1", topic=f"com.example.{name}", outcomes=True)
            add_app(tables.apps, secrets, name, settings, key, now=datetime.now(timezone.utc))
    return names


def message(app, size, not_before=None):
    """Make a message for some devices."""
    ids = [str(uuid.UUID(bytes=os.urandom(16))) for _ in range(size)]
    headers = {"apns-topic": f"com.example.{app}", "apns-push-type": "alert"}
    return Message(app, PAYLOAD, headers, [os.urandom(32) for _ in range(size)], ids, not_before)


async def accept(store, names, count, not_before=None):
    """Accept notifications, half of them for the first app."""
    share = max(1, count // 2 // len(names))
    messages = [message(name, share, not_before) for name in names]
    messages += [message(names[0], SIZE, not_before) for _ in range(count // 2 // SIZE)]
    for start in range(0, len(messages), 20):
        await store.queue.accept(messages[start : start + 20])
    return messages[-1].apns_ids[0]


async def settle(store, clock, app, state, status, reason):
    """Settle all that is due for an app."""
    while leased := await store.queue.lease(app, 2_000, clock.seconds() + 60):
        timestamp = DIED if status == 410 else None
        await store.queue.settle([Settlement(each.number, state, status, reason, timestamp) for each in leased])


async def main(reactor):
    """Fill it."""
    names = add_apps()
    store = SQLiteStore(Database(CONFIG.parent / "apns.db", reactor))
    await store.start()
    store.outcome_feed.keep(["chess"])
    await accept(store, names, COUNT)
    for name in names:
        await settle(store, reactor, name, State.REJECTED, 410, "Unregistered")
    await accept(store, names[:1], COUNT // 20)
    await settle(store, reactor, "chess", State.DEAD, 0, "ConnectFailed")
    print(await accept(store, names, COUNT, LATER))
    await store.stop()


react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
