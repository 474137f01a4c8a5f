"""
The native face on loopback, with a spool in a directory that is gone afterwards: a process for tests and benchmarks.

It prints its address when it listens, and ends when it is told to.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.daemon.fakes import Apps, Keys, Waiting
from txapns.daemon.database import Database
from txapns.daemon.faces.http import HTTPServer
from txapns.daemon.faces.native import Native
from txapns.daemon.feedback import SQLiteFeedbackLog
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.intake import Intake
from txapns.daemon.spool import SQLiteSpool
from txapns.daemon.values import Caller, Limits

__all__ = ["main"]


async def serve(directory: Path) -> None:
    """Start everything."""
    database = Database(directory / "apns.db", reactor)
    spool, log = SQLiteSpool(database), SQLiteFeedbackLog(database)
    for each in (database, log, spool):
        await each.start()
    apps = Apps({"chess": Limits(queue=10_000_000)})
    intake = Intake(apps, spool, Identifiers(reactor.seconds), Waiting(reactor), lambda name: None)
    native = Native(intake, spool, log, apps, Keys(Caller("all", None, None)), 1.0)
    port = reactor.listenTCP(0, HTTPServer(reactor, native), interface="127.0.0.1")
    reactor.addSystemEventTrigger("before", "shutdown", database.stop)
    sys.stdout.write(f"http://127.0.0.1:{port.getHost().port}\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until the end."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as directory:
        reactor.callWhenRunning(lambda: Deferred.fromCoroutine(serve(Path(directory))))
        reactor.run()


if __name__ == "__main__":
    main()
