"""
The queue in PostgreSQL, which any number of nodes share.

Whoever accepts adds rows, whoever sends leases them; see :mod:`txapns.daemon.store.postgresql.tables`. All times in the
tables are the cluster's; see :mod:`txapns.daemon.store.postgresql.cluster_time`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import msgspec
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from txapns.daemon.interfaces import IQueue
from txapns.daemon.store.acceptance import Acceptance, flow_of, packed
from txapns.daemon.store.polling import ChangePoller
from txapns.daemon.store.postgresql.acceptance import Numbers, add, find_apps, recognize
from txapns.daemon.store.postgresql.counts import NodeCounts, read_counts
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.flows import hold_flows
from txapns.daemon.store.postgresql.lease_book import Found, LeaseKey
from txapns.daemon.store.postgresql.leases import (
    ENDED,
    FROM_MARK,
    Claim,
    Claimed,
    Marks,
    claim,
    free,
    places,
    renew,
)
from txapns.daemon.store.postgresql.partitions import create_ahead
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.store.postgresql.settlement import Conclusion, conclude
from txapns.daemon.store.postgresql.state import QueueState
from txapns.daemon.store.postgresql.superseding import lock_apps, supersede
from txapns.daemon.store.postgresql.tables import QUEUE
from txapns.daemon.store.queue import StoredQueue
from txapns.daemon.store.queue_time import milliseconds
from txapns.daemon.store.settlement import Report, Settled
from txapns.daemon.store.turns import Turns
from txapns.daemon.values import (
    Content,
    Depth,
    Estimate,
    Idempotency,
    Lane,
    Lease,
    Leased,
    Message,
    Receipt,
    Settlement,
)

__all__ = ["PostgreSQLQueue"]

_BOUND = """
UPDATE queue SET due = %(latest)s WHERE number = ANY(ARRAY(
    SELECT number FROM flow CROSS JOIN LATERAL (
        SELECT number FROM queue WHERE flow = flow.id AND due > %(latest)s
        AND CASE WHEN %(untried)s THEN attempts = 0 AND not_before IS NULL ELSE attempts > 0 END
        ORDER BY flow, due LIMIT %(limit)s
    ) AS put_off LIMIT %(limit)s
))
"""

_PART = 10_000  # how many are changed in one transaction

# Scalar subqueries, since with each of them the server looks once into the index for each flow.

_FIND_NEXT = f"""
WITH taken AS MATERIALIZED (
    SELECT unnest(numbers) AS number FROM lease
    WHERE app = (SELECT id FROM queue_app WHERE name = %(app)s) AND NOT {ENDED}
)
SELECT min((
    SELECT due FROM queue WHERE flow = flow.id AND {FROM_MARK} AND number NOT IN (SELECT number FROM taken)
    ORDER BY flow, due, number LIMIT 1
)) FROM flow WHERE app = (SELECT id FROM queue_app WHERE name = %(app)s)
"""

_FIRST_DUE = f"(SELECT due FROM queue WHERE flow = flow.id AND {FROM_MARK} ORDER BY flow, due LIMIT 1)"

_FIND_APPS = f"""
SELECT name FROM queue_app WHERE id IN (SELECT app FROM flow WHERE {_FIRST_DUE} <= %(now)s) ORDER BY name
"""

_DEPTHS = f"""
SELECT name,
    (SELECT coalesce(sum(waiting), 0)::bigint FROM queue_count WHERE app = queue_app.id),
    (SELECT coalesce(sum(cardinality(numbers)), 0)::bigint FROM lease WHERE app = queue_app.id AND NOT {ENDED}),
    (SELECT min({_FIRST_DUE}) FROM flow WHERE app = queue_app.id)
FROM queue_app ORDER BY name
"""

_headers = msgspec.json.Decoder(dict[str, str]).decode


@implementer(IQueue)
class PostgreSQLQueue(StoredQueue[Connection]):
    """
    The queue in PostgreSQL.

    :param state: what it shares with the outcome log.
    :param noted: called with the apps of which tokens were noted as dead.
    :param longest: for how many seconds a retry may be delayed over a restart.
    """

    def __init__(
        self,
        database: Database,
        state: QueueState,
        noted: Callable[[Iterable[str]], None],
        longest: float = 900.0,
    ) -> None:
        super().__init__(database, state, state.time, noted)
        self._database = database
        self._state = state
        self._longest = longest
        self._clock = database.clock
        self._numbers = Numbers()  # of the thread that accepts
        self._marks, self._turns = Marks(), Turns()  # of the thread that leases
        self._poller: ChangePoller[tuple[NodeCounts, int | None]] = ChangePoller(
            database.clock, self._look, self._looked
        )

    def start(self) -> Deferred[None]:
        """Create the tables if they are missing, and count what waits. The node must be alive."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        await self._database.prepare(QUEUE)
        await self._database.write(lambda connection: create_ahead(connection, self._time.date(), self._state.day))
        now = self._time.now()
        await self._bound(now + milliseconds(self._longest), untried=False)
        await self._bound(now, untried=True)
        await self._poller.start()
        self._state.running = True

    async def _bound(self, latest: int, untried: bool) -> None:
        """Delay nothing for longer than usual or asked for, whatever the clock said in an earlier run."""
        values = {"latest": latest, "untried": untried, "limit": _PART}
        while await self._database.write(lambda connection: connection.execute(_BOUND, values).rowcount) == _PART:
            pass

    def stop(self) -> Deferred[None]:
        """Finish the work submitted so far."""
        stopping = super().stop()
        return self._poller.stop().addCallback(lambda _: stopping)

    def joined(self) -> None:
        """Take note that the node has begun another life, with another incarnation: its leases have ended."""
        self._state.leases.clear()

    # Accepting.

    def accept(
        self, messages: Sequence[Message], idempotency: Idempotency | None = None, *, durable: bool = True
    ) -> Deferred[list[Receipt]]:
        """See :meth:`IQueue.accept`."""
        return self._state.waiting.during(super().accept(messages, idempotency, durable=durable))

    def _store(
        self, connection: Connection, acceptances: list[Acceptance]
    ) -> Sequence[list[Receipt] | Exception | None]:
        messages = [message for each in acceptances for message in each.messages]
        names = {message.app for message in messages}
        apps = self._state.apps
        if names - apps.keys():
            apps = {**apps, **find_apps(connection, names)}
        lock_apps(connection, {apps[message.app] for message in messages if message.collapse_id is not None})
        flows = hold_flows(connection, set(map(flow_of, messages)), apps, self._state.flows)
        results, new = recognize(connection, acceptances, self._numbers, self._clock.seconds())
        new = packed(new)
        for acceptance in (*acceptances, *new):
            acceptance.apps, acceptance.flows = apps, flows
        add(connection, new, self._state.incarnation)
        node, recording = self._state.incarnation, self._state.recording.apps
        superseded = supersede(connection, new, node, self._time.now(), recording)
        for acceptance in acceptances:
            acceptance.superseded = superseded
        return results

    def _stored(self, acceptances: list[Acceptance]) -> None:
        if acceptances:
            self._state.apps, self._state.flows = acceptances[-1].apps, acceptances[-1].flows

    # Leasing.

    def lease(
        self,
        app: str,
        count: int,
        until: float,
        most: int | None = None,
        only: Lane | None = None,
        rate: int | None = None,
    ) -> Deferred[Lease]:
        """See :meth:`IQueue.lease`. While the circuit of the app is open, nothing is leased."""
        time = self._time
        wanted = Claim(app, count, time.due(until), time.now(), most, self._state.incarnation, only, rate)

        def lend(connection: Connection) -> tuple[Claimed, list[Leased]]:
            claimed = claim(connection, wanted, self._marks, self._turns)
            return claimed, self._leased(app, claimed)

        def lent(found: tuple[Claimed, list[Leased]]) -> Lease | Deferred[Lease]:
            claimed, leased = found
            if claimed.key is None:
                return Lease(full=claimed.full)
            self._state.names[claimed.key[0]] = app
            if wanted.node == self._state.incarnation:  # otherwise the lease has ended with that life
                numbers = [each.number for each in leased]
                self._state.leases.lend(claimed.key, numbers, until, self._clock.seconds())
            marked = {number for _, number, *_ in claimed.marked}
            if not marked:
                return Lease(leased, claimed.more, claimed.full)
            rest = [each for each in leased if each.number not in marked]
            again = partial(self.lease, app, count, until, most, only, rate)
            return self._conclude_marked(sorted(marked), rest, again)

        return self._between(lend).addCallback(lent)

    def _leased(self, app: str, claimed: Claimed) -> list[Leased]:
        contents = {}
        known: dict[str, Content] = {}  # many messages have the same header fields
        for _, number, date, placed, headers, payload in claimed.messages:
            content = known.get(headers) or known.setdefault(headers, Content(app, _headers(headers), claimed.lane))
            contents[number] = content, payload, date / 1000, self._time.seconds(placed)
        leased = []
        for _, number, message, attempts, apns_id, token in claimed.notifications:
            content, payload, accepted_at, since = contents[message]
            leased.append(Leased(number, content, payload, token, apns_id, attempts, accepted_at, since))
        return leased

    def release(self, numbers: Iterable[int]) -> Deferred[None]:
        """See :meth:`IQueue.release`. What another node has leased stays leased."""
        given = list(numbers)

        def release(connection: Connection) -> Found:
            found = self._state.leases.find(given, self._clock.seconds())
            free(connection, found)
            return found

        return self._between(release).addCallback(self._freed)

    def _freed(self, found: Found) -> None:
        self._state.leases.drop(found.known.items())

    def renew(self, numbers: Iterable[int], until: float) -> Deferred[None]:
        """See :meth:`IQueue.renew`. The leases of other nodes stay as they are."""
        given, leases = list(numbers), self._state.leases

        def move(connection: Connection) -> tuple[Found, list[LeaseKey], list[tuple[LeaseKey, list[int]]]]:
            now = self._clock.seconds()
            found = leases.find(given, now)
            moved, made = renew(connection, found, self._time.due(until), self._time.due(now))
            return found, moved, made

        def renewed(result: tuple[Found, list[LeaseKey], list[tuple[LeaseKey, list[int]]]]) -> None:
            found, moved, made = result
            leases.renew(moved, until)
            leases.drop(found.parts.items())
            for key, taken in made:
                leases.lend(key, taken, until, self._clock.seconds())

        return self._between(move).addCallback(renewed)

    # Settling.

    def settle(self, settlements: Sequence[Settlement], accepted: Sequence[int] = ()) -> Deferred[None]:
        """See :meth:`IQueue.settle`."""
        return self._state.waiting.during(super().settle(settlements, accepted))

    def _conclude(self, connection: Connection, reports: list[Report]) -> Sequence[Settled]:
        numbers = {settlement.number for report in reports for settlement in report.settlements}
        numbers.update(*[report.accepted for report in reports])
        found = self._state.leases.find(numbers, self._clock.seconds())
        recording = self._state.recording.apps if self._state.may_record(found) else frozenset()
        done = conclude(connection, reports, found, self._time, self._state.incarnation, recording)
        return [done, *(Settled() for _ in reports[1:])]

    def _settled(self, found: Settled) -> None:
        if isinstance(found, Conclusion):
            self._freed(found.freed)
        super()._settled(found)

    # Looking.

    def next_due(self, app: str) -> Deferred[float | None]:
        """See :meth:`IQueue.next_due`."""
        now = self._time.now()

        def find(connection: Connection) -> float | None:
            values = {"app": app, "now": now, **places(self._marks.of(app, now))}
            [(due,)] = connection.execute(_FIND_NEXT, values, prepare=True).fetchall()
            return None if due is None else self._time.seconds(due)

        return self._between(find)

    def due_apps(self) -> Deferred[list[str]]:
        """See :meth:`IQueue.due_apps`."""
        now = self._time.now()

        def find(connection: Connection) -> list[str]:
            marks = self._marks.all(now)
            rows = connection.execute(_FIND_APPS, {"now": now, **places(marks)}, prepare=True).fetchall()
            found = [name for (name,) in rows]
            self._marks.looked(marks, found, now)
            return found

        return self._between(find)

    def clock_set(self) -> Deferred[bool]:
        """See :meth:`IQueue.clock_set`. Dates are of the cluster's time, and so are due times."""
        return succeed(False)

    def waiting(self, app: str) -> Estimate:
        """See :meth:`IQueue.waiting`. What other nodes do is read once a second."""
        return Estimate(self._state.waiting[app], self._clock.seconds() - self._state.waiting.looked)

    def look(self) -> Deferred[None]:
        """Read now what other nodes have changed."""
        return self._poller.poll()

    def _look(self) -> Deferred[tuple[NodeCounts, int | None]]:
        changes, node = self._state.waiting.changes, self._state.incarnation
        return self._database.read(lambda connection: read_counts(connection, node)).addCallback(
            lambda found: (found, changes)
        )

    def _looked(self, result: tuple[NodeCounts, int | None]) -> None:
        found, changes = result
        if found.node == self._state.incarnation:
            self._state.waiting.looked_up(found, changes, self._clock.seconds())

    def depths(self) -> Deferred[list[Depth]]:
        """See :meth:`IQueue.depths`."""
        now = self._time.now()

        def look(connection: Connection) -> list[Depth]:
            values = {"now": now, **places(self._marks.all(now))}
            rows = connection.execute(_DEPTHS, values, prepare=True).fetchall()
            return [
                Depth(name, waiting, leased, None if oldest is None else self._time.seconds(oldest))
                for name, waiting, leased, oldest in rows
            ]

        return self._between(look)
