"""
What the nodes tell one another of the apps' circuits, in the rows of the apps.

The columns ``rest_until``, ``trouble``, ``trips`` and ``since`` of an app are those of a
:class:`~txapns.daemon.store.cluster.Circuit`, in the cluster's time; ``rest_until`` is 0 while the circuit is closed.
Whoever leases looks at ``rest_until``, too. So what one node reports holds for all of them from its commit on, even
before they are told.

A report of trouble does not shorten a pause, nor lengthen it: several nodes find the same trouble at the same time, as
several chunks of one node do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns.daemon.errors import Unavailable
from txapns.daemon.store.cluster import Circuit
from txapns.daemon.store.listeners import Listeners
from txapns.daemon.store.postgresql.cluster_time import ClusterTime
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.schema import Connection

__all__ = ["POLL", "Circuits"]

_log = Logger()

#: How often the reports of the others are read, in seconds.
POLL = 1.0

_READ = "SELECT name, trouble, trips, since, rest_until FROM queue_app WHERE rest_until > 0"

_OPEN = """
UPDATE queue_app SET rest_until = %(until)s, trouble = %(trouble)s, trips = %(trips)s, since = %(since)s
WHERE name = %(name)s AND (rest_until <= %(now)s OR (%(trips)s AND NOT trips))
"""

_CLOSE = (
    "UPDATE queue_app SET rest_until = 0, trouble = '', trips = false, since = 0 WHERE name = %s AND rest_until > 0"
)

#: A circuit as it is stored: trouble, whether it trips, since, and the end of the pause.
_Row = tuple[str, bool, int, int]


class Circuits:
    """The circuits of all apps. Between :meth:`start` and :meth:`stop` it reads what other nodes report."""

    def __init__(self, database: Database, time: ClusterTime) -> None:
        self._database = database
        self._time = time
        self._watchers: Listeners[str, Circuit | None] = Listeners("circuits")
        self._known: dict[str, _Row] = {}
        # What is not written yet, by app; and of which apps something was reported since the last poll began.
        self._reports: dict[str, _Row | None] = {}
        self._fresh: set[str] = set()
        self._writing = False
        self._loop = LoopingCall(self._poll)
        self._loop.clock = database.clock

    def start(self) -> None:
        """Begin to read."""
        self._loop.start(POLL, now=False).addErrback(_broken)

    def stop(self) -> None:
        """Read no more."""
        if self._loop.running:
            self._loop.stop()

    def watch(self, listener: Callable[[str, Circuit | None], None]) -> Callable[[], None]:
        """See :meth:`ICluster.watch`."""
        ending = self._watchers.subscribe(listener)
        for app, row in self._known.items():
            listener(app, self._circuit(row))
        return ending

    def report(self, app: str, circuit: Circuit | None) -> None:
        """See :meth:`ICluster.report`."""
        due = self._time.due
        self._reports[app] = (
            None if circuit is None else (circuit.reason, circuit.trips, due(circuit.since), max(1, due(circuit.until)))
        )
        self._fresh.add(app)
        self._write()

    def _write(self) -> None:
        """Write what was reported, unless that is being done; at the next poll, if the database does not allow it."""
        if self._writing or not self._reports:
            return
        self._writing = True
        reports, self._reports = self._reports, {}
        now = self._time.now()

        def written(_: object) -> None:
            for app, row in reports.items():
                self._know(app, row)
            self._writing = False
            self._write()

        def failed(failure: Failure) -> None:
            self._writing = False
            self._reports = {**reports, **self._reports}
            _not_now(failure)

        self._database.write(lambda connection: _store(connection, reports, now)).addCallbacks(written, failed)

    def _poll(self) -> Deferred[None]:
        self._write()
        self._fresh = set(self._reports)
        return self._database.read(_read).addCallbacks(self._found, _not_now)

    def _found(self, rows: dict[str, _Row]) -> None:
        """Tell what has changed, except of apps that were reported meanwhile: the rows may be older than the report."""
        if self._writing:
            return
        for app in sorted(self._known.keys() | rows.keys()):
            row = rows.get(app)
            if app in self._fresh or row == self._known.get(app):
                continue
            self._know(app, row)
            self._watchers.tell(app, None if row is None else self._circuit(row))

    def _know(self, app: str, row: _Row | None) -> None:
        if row is None:
            self._known.pop(app, None)
        else:
            self._known[app] = row

    def _circuit(self, row: _Row) -> Circuit:
        trouble, trips, since, until = row
        return Circuit(trouble, trips, self._time.seconds(since), self._time.seconds(until))


def _store(connection: Connection, reports: Mapping[str, _Row | None], now: int) -> None:
    for app in sorted(reports):  # in one order on all nodes, or two might wait for each other
        row = reports[app]
        if row is None:
            connection.execute(_CLOSE, [app])
        else:
            values = dict(zip(("trouble", "trips", "since", "until"), row, strict=True))
            connection.execute(_OPEN, {**values, "name": app, "now": now})


def _read(connection: Connection) -> dict[str, _Row]:
    return {name: (trouble, trips, since, until) for name, trouble, trips, since, until in connection.execute(_READ)}


def _not_now(failure: Failure) -> None:
    """Leave it to the next poll."""
    if failure.check(Unavailable) is None:
        _log.failure("The circuits of apps cannot be shared with other nodes", failure)


def _broken(failure: Failure) -> None:
    _log.failure("A bug: the circuits of apps are no longer shared with other nodes", failure)
