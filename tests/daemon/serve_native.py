"""
The native face on loopback, with a queue in a temporary directory: a process for tests and benchmarks.

It prints its address when it listens, and runs until it gets a signal. With ``--dead`` it plays Apple as well: every
notification is accepted at once, except for one token, which is dead. The app ``chess`` has one side, and ``play`` two.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests import processes
from tests.daemon.channels_world import UNKNOWN
from tests.daemon.fakes import Keys, Waiting
from txapns._network.clocks import wall_clock
from txapns._serving.http import HTTPServer
from txapns.daemon.apps import Apps
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.config.sections import AppLimitsSection
from txapns.daemon.faces.native.face import Native
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.intake import Intake
from txapns.daemon.secrets.credentials import read_certificate
from txapns.daemon.secrets.master_key import Secrets
from txapns.daemon.sending.channels import AppChannels
from txapns.daemon.store.apps import AppSettings, SandboxSettings
from txapns.daemon.store.sqlite.apps import SQLiteAppStore
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.store import SQLiteStore
from txapns.daemon.values import Caller, Lane, Settlement, State
from txapns.simulator import Authority, Simulator

__all__ = ["main"]

TOPIC = "com.example.chess"


async def settle(store: SQLiteStore, waiting: Waiting, app: str, dead: str) -> None:
    """Settle everything that is due as if Apple had answered."""
    due = [each for lane in Lane for each in await store.queue.lease(app, 1_000, reactor.seconds() + 60, None, lane)]
    for each in due:
        is_dead = each.token.hex() == dead
        state, answer = (State.REJECTED, (410, "Unregistered")) if is_dead else (State.ACCEPTED, (200, ""))
        if each.content.channel == UNKNOWN:
            state, answer = State.REJECTED, (400, "ChannelNotRegistered")
        environment = each.content.environment if app == "play" else None
        timestamp, unique_id = (each.accepted_at, "") if is_dead else (None, f"of {each.apns_id}")
        await store.queue.settle(
            [Settlement(each.number, state, *answer, timestamp, unique_id=unique_id, environment=environment)]
        )
        [outcome] = await store.outcomes.outcomes([each.number])
        waiting.tell(outcome)


def gateway(authority: Authority) -> str:
    """Start what manages channels; returns the gateway that has it, to which nothing is sent."""
    simulator = Simulator(reactor, topic=TOPIC, authority=authority)
    managing = reactor.listenTCP(0, simulator.tls_factory("channels"), interface="127.0.0.1").getHost().port
    return f"http2:host=127.0.0.1:port=1:management_port={managing}"


async def serve(directory: Path, dead: str | None) -> None:
    """Start everything."""
    database = Database(directory / "apns.db", reactor)
    store = SQLiteStore(database)
    configuration = Configuration.from_text("", directory)
    secrets = Secrets(configuration.secrets.master_key_file, {})
    secrets.create()
    apps = Apps(reactor, configuration, SQLiteAppStore(database), secrets, database.worker)
    for each in (store, apps):
        await each.start()
    authority = Authority()
    certificate = read_certificate(authority.client_pem(TOPIC), None, datetime.now(timezone.utc))
    production, sandbox = gateway(authority), gateway(authority)
    common: Any = {"topic": TOPIC, "outcomes": True, "limits": AppLimitsSection(queue=10_000_000)}
    common.update(gateway=production, trust_root=authority.ca_pem.decode())
    both = AppSettings(environment="auto", sandbox=SandboxSettings(gateway=sandbox), **common)
    for name, settings in (("chess", AppSettings(**common)), ("play", both)):
        await apps.put(name, settings, certificate, caller="tests")
    store.outcome_feed.keep(["chess", "play"])
    waiting = Waiting(reactor)

    def wake(app: str) -> None:
        if dead is not None:
            Deferred.fromCoroutine(settle(store, waiting, app, dead))

    intake = Intake(apps, store.queue, Identifiers(wall_clock(reactor)), waiting, wake)
    keys = Keys(Caller("all", None, None, manage=True))
    native = Native(
        intake,
        store.outcomes,
        store.feedback,
        store.outcome_feed,
        apps,
        keys,
        1.0,
        stored=apps,
        channels_of=AppChannels(reactor, apps).of,
    )
    port = reactor.listenTCP(0, HTTPServer(reactor, native), interface="127.0.0.1")
    reactor.addSystemEventTrigger("before", "shutdown", database.stop)
    sys.stdout.write(f"http://127.0.0.1:{port.getHost().port}\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dead", help="a token in hexadecimal")
    parser.add_argument("--directory", help="where to make the directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        processes.serve(lambda: serve(Path(directory), options.dead))


if __name__ == "__main__":
    main()
