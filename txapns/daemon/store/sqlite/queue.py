"""
The queue in SQLite.

The leases are in memory; see :mod:`txapns.daemon.store.sqlite.leases`. What they know to be next is leased in the
reactor's thread, at once. What has to be looked for is leased in the thread of the database's writer, between two
transactions. Due times lie on the queue's own timeline; see :mod:`txapns.daemon.store.sqlite.timeline`.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain
from typing import TypeVar, cast

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns.daemon.interfaces import IQueue
from txapns.daemon.store.acceptance import Acceptance, collapsing, packed
from txapns.daemon.store.pace import allowed, spent
from txapns.daemon.store.queue import StoredQueue, stopped
from txapns.daemon.store.queue_time import milliseconds
from txapns.daemon.store.settlement import Report, Settled
from txapns.daemon.store.sqlite.acceptance import add, recognize
from txapns.daemon.store.sqlite.arrivals import Arrival
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.flows import find_flows
from txapns.daemon.store.sqlite.leases import Mark
from txapns.daemon.store.sqlite.placing import PART, Misplaced, place, place_these
from txapns.daemon.store.sqlite.reading import Damaged, Due, find_due, read_messages
from txapns.daemon.store.sqlite.schema import lenient
from txapns.daemon.store.sqlite.settlement import conclude
from txapns.daemon.store.sqlite.superseding import supersede
from txapns.daemon.store.sqlite.tables import QUEUE, QueueState, array
from txapns.daemon.store.sqlite.timeline import STEP
from txapns.daemon.store.turns import Turns, part
from txapns.daemon.values import Content, Depth, Estimate, Lane, Lease, Leased, Receipt, Settlement, State

__all__ = ["SQLiteQueue"]

_log = Logger()

_R = TypeVar("_R")

_RESERVED = 10_000  # how many numbers are reserved on the disk at a time: it costs a page of the transaction

# Of each flow the first that is due and not leased. The flows are given with their marks.
_FIND_NEXT = """
WITH flow(id, due, number) AS MATERIALIZED (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(?)
)
SELECT id, (
    SELECT due FROM queue_delivery
    WHERE state = 0 AND flow = flow.id AND (due, number) > (flow.due, flow.number)
    AND number NOT IN (SELECT value FROM json_each(?))
    ORDER BY due, number LIMIT 1
) AS next FROM flow WHERE next IS NOT NULL
"""

_FIND_APPS = """
SELECT CAST(name AS TEXT) FROM queue_app WHERE EXISTS (
    SELECT 1 FROM queue_flow WHERE app = queue_app.id
    AND EXISTS (SELECT 1 FROM queue_delivery WHERE state = 0 AND flow = queue_flow.id AND due <= ?)
) ORDER BY name
"""

# A damaged due time, which is no number, comes after all numbers.
_FIND_FIRSTS = """
SELECT app, min((SELECT min(due) FROM queue_delivery WHERE state = 0 AND flow = queue_flow.id AND due < ''))
FROM queue_flow GROUP BY app
"""

_FIND_LOST = """
SELECT number FROM queue_delivery WHERE state = 0 AND flow = ? AND due >= ? AND typeof(due) <> 'integer'
"""

_FLOWS = """
SELECT CAST(name AS TEXT), lane, CAST(caller AS TEXT), queue_flow.id
FROM queue_flow JOIN queue_app ON queue_app.id = queue_flow.app
"""

_BOUND = """
UPDATE queue_delivery SET due = CASE attempts WHEN 0 THEN ? ELSE ? END WHERE number IN (
    SELECT number FROM queue_delivery
    WHERE state = 0 AND flow IN (SELECT id FROM queue_flow) AND due > ?
    AND CASE attempts WHEN 0 THEN not_before IS NULL ELSE due > ? END
    LIMIT ?
)
"""


@attrs.frozen
class _Marked:
    """Notifications that are superseded and have come back into the queue, leased together with others."""

    numbers: list[int]
    others: list[Leased]


@attrs.frozen
class _Wanted:
    """What to lease: see :meth:`IQueue.lease`."""

    app: str
    count: int
    until: float
    most: int | None
    only: Lane | None
    rate: int | None


@implementer(IQueue)
class SQLiteQueue(StoredQueue[sqlite3.Connection]):
    """
    The queue in SQLite.

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
        super().__init__(database, state, state.timeline, noted)
        self._database = database
        self._state = state
        self._longest = longest
        self._clock = database.clock
        self._timeline = state.timeline
        # Of whoever has the state's lock:
        self._leases = state.leases
        self._paced: dict[str, int] = {}  # up to when the rates of apps are spent
        self._turns = Turns()
        # Of the writer's thread:
        self._lead = 0  # by which what has a date was placed
        self._number = 1
        self._reserved = self._reserving = 1  # the end of the reserved numbers, on the disk and in the transaction
        self._storing: list[Acceptance] = []  # what is new in the transaction

    def start(self) -> Deferred[None]:
        """Create the tables if they are missing, begin the timeline, and count what waits."""
        self._timeline.begin()

        def load(connection: sqlite3.Connection) -> dict[str, int]:
            with lenient(connection):
                self._state.apps = dict(connection.execute("SELECT CAST(name AS TEXT), id FROM queue_app"))
                self._state.know({(app, lane, caller): n for app, lane, caller, n in connection.execute(_FLOWS)})
            [(number,)] = connection.execute("SELECT number FROM queue_next")
            self._number = self._reserved = number
            rows = connection.execute("SELECT flow, count(*) FROM queue_delivery WHERE state = 0 GROUP BY flow")
            names = {number: name for (name, *_), number in self._state.flows.items()}
            counts: Counter[str] = Counter()
            for flow, count in rows:
                if flow in names:
                    counts[names[flow]] += count
            return counts

        def loaded(counts: dict[str, int]) -> None:
            self._state.waiting = Counter(counts)
            self._state.running = True

        return (
            self._database.prepare(QUEUE)
            .addCallback(lambda _: Deferred.fromCoroutine(self._bound()))
            .addCallback(lambda _: self._place())
            .addCallback(lambda _: self._database.between(load))
            .addCallback(loaded)
        )

    async def _bound(self) -> None:
        """Delay nothing for longer than usual or asked for, whatever the wall clock said in an earlier run."""
        now = self._timeline.now()
        latest = now + milliseconds(self._longest)
        values = [now, latest, now, latest, PART]
        while await self._database.write(lambda connection: connection.execute(_BOUND, values).rowcount) == PART:
            pass

    def _place(self) -> Deferred[None]:
        """Make due at their dates what is not sent before, whatever the wall clock has said."""
        return Deferred.fromCoroutine(self._place_all())

    async def _place_all(self) -> None:
        self._lead = lead = self._timeline.lead()
        now = self._clock.seconds()
        after: Mark | None = (0, 0)

        def place_part(connection: sqlite3.Connection) -> Mark | None:
            assert after is not None
            with self._state.lock:
                self._leases.expire(now)
                self._leases.rewind()
                leased = self._leases.numbers()
            return place(connection, after, lead, leased)

        while after is not None:
            after = await self._database.write(place_part)

    def clock_set(self) -> Deferred[bool]:
        """See :meth:`IQueue.clock_set`."""
        if not self._state.running:
            return stopped()
        if abs(self._timeline.lead() - self._lead) < STEP:
            return succeed(False)
        return self._place().addCallback(lambda _: True)

    # Accepting.

    def _store(
        self, connection: sqlite3.Connection, acceptances: list[Acceptance]
    ) -> list[list[Receipt] | Exception | None]:
        results, new, number = recognize(connection, acceptances, self._number)
        self._storing = new = packed(new)
        keys = {block.flow for each in new for block in each.blocks}
        apps = self._find_apps(connection, {app for app, *_ in keys})
        flows = find_flows(connection, self._state, keys, apps)
        for acceptance in new:
            acceptance.apps, acceptance.flows = apps, flows
        add(connection, new)
        self._supersede(connection, acceptances, new)
        self._reserving = self._reserved
        if number > self._reserved:
            self._reserving = number + _RESERVED
            connection.execute("UPDATE queue_next SET number = ?", [self._reserving])
        return results

    def _supersede(self, connection: sqlite3.Connection, acceptances: list[Acceptance], new: list[Acceptance]) -> None:
        with self._state.lock:
            self._leases.expire(self._clock.seconds())
            if collapsing(new):
                self._leases.look_again()  # by the time that it is leased it may be superseded
        superseded = supersede(connection, new, self._leases, self._state.recording.apps)
        for acceptance in (*acceptances, *new):
            acceptance.superseded = superseded

    def _find_apps(self, connection: sqlite3.Connection, names: set[str]) -> dict[str, int]:
        unknown = names - self._state.apps.keys()
        if not unknown:
            return self._state.apps
        connection.executemany("INSERT INTO queue_app (name) VALUES (?)", [(name,) for name in sorted(unknown)])
        return dict(connection.execute("SELECT name, id FROM queue_app"))

    def _stored(self, acceptances: list[Acceptance]) -> None:
        self._reserved = self._reserving
        with self._state.lock:
            for acceptance in self._storing:
                self._arrived(acceptance)

    def _arrived(self, acceptance: Acceptance) -> None:
        self._state.apps = acceptance.apps
        self._state.know(acceptance.flows)
        number, date, leases = acceptance.first, acceptance.date, self._leases
        self._timeline.accepted(number, date, acceptance.due)
        for block in acceptance.blocks:
            flow, due = acceptance.flows[block.flow], acceptance.due if block.due is None else block.due
            if block.due is None and not acceptance.superseded.numbers and leases.are_next(flow, due):
                times = date / 1000, self._timeline.accepted_since(number, date / 1000)
                leases.arrive(flow, Arrival(block, due, number, *times))
            else:
                leases.appear(flow, due, number)
            number += block.count
        self._number = max(self._number, number)

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
        """See :meth:`IQueue.lease`. Notifications whose rows are damaged are rejected, with a line in the log."""
        now = self._clock.seconds()

        def again() -> Deferred[Lease]:
            return self.lease(app, count, until, most, only, rate)

        def lent(found: Lease | Damaged | _Marked) -> Lease | Deferred[Lease]:
            if isinstance(found, _Marked):
                return self._conclude_marked(found.numbers, found.others, again)
            if not isinstance(found, Damaged):
                return found
            _log.error("{app}: notifications {numbers} are damaged and rejected", app=app, numbers=found.numbers)
            rejected = [Settlement(number, State.REJECTED, 0, "Damaged") for number in found.numbers]
            return self.settle(rejected).addCallback(lambda _: again())

        if not self._state.running:
            return stopped()
        wanted = _Wanted(app, count, until, most, only, rate)
        if self._state.lock.acquire(blocking=False):  # the writer's thread may have it while it looks
            try:
                found = self._take_turn(None, wanted, now)
            finally:
                self._state.lock.release()
            if isinstance(found, Lease):
                return succeed(found)

        def look(connection: sqlite3.Connection) -> Lease | Damaged | _Marked:
            with self._state.lock:
                found = self._take_turn(connection, wanted, now)
            assert found is not None
            return found

        return self._placed(look).addCallback(lent)

    def _placed(self, look: Callable[[sqlite3.Connection], _R]) -> Deferred[_R]:
        """Look between two transactions. What is found misplaced is placed anew, and then it looks again."""

        def place_anew(failure: Failure) -> Deferred[_R]:
            failure.trap(Misplaced)
            error, lead, now = cast(Misplaced, failure.value), self._timeline.lead(), self._timeline.now()

            def write(connection: sqlite3.Connection) -> None:
                with self._state.lock:
                    self._leases.rewind()
                    numbers = [number for number in error.numbers if number not in self._leases]
                place_these(connection, numbers, lead, now)

            return self._database.write(write).addCallback(lambda _: self._placed(look))

        return self._between(look).addErrback(place_anew)

    def _take_turn(
        self, connection: sqlite3.Connection | None, wanted: _Wanted, now: float
    ) -> Lease | Damaged | _Marked | None:
        """Lease from the flows whose turn it is; ``None`` if that takes a database, and there is none."""
        self._leases.expire(now)
        app, room, due = wanted.app, wanted.count, self._timeline.due(now)
        left = None if wanted.most is None else wanted.most - self._leased(app)
        if left is not None:
            room = min(room, left)
        paced = self._paced.get(app, 0)
        if wanted.rate is not None:
            room = min(room, allowed(paced, due * 1000, wanted.rate))
        firsts = self._firsts(connection, app, due)
        if firsts is None:
            return None
        lanes = self._state.app_flows.get(app, {})
        active = {flow: lanes[flow] for flow, first in firsts.items() if first <= due}
        flows = self._turns.next(app, wanted.count, wanted.only).choose(active, room)
        if not flows:
            return Lease(full=left is not None and left <= 0)
        if connection is None or all(self._leases.first(flow, due) is not None for flow in flows):
            found = self._hand_out(flows, room, wanted.until)
        else:
            looked = self._lend(connection, app, flows, room, wanted.until, due)
            if not isinstance(looked, list):
                return looked
            found = looked
            if len(found) < room:
                with suppress(Misplaced):  # something is leased by now; whoever leases more finds it
                    self._look(connection, flows)  # from now on, what comes next is known
        if wanted.rate is not None:
            self._paced[app] = spent(paced, due * 1000, wanted.rate, len(found))
        self._turns.took(app, active[flows[0]], len(found), flows[-1], active.values())
        other = [lane for lane in active.values() if wanted.only in (None, lane)]
        return Lease(found, len(other) > 1 or len(found) == room, left is not None and left <= len(found))

    def _leased(self, app: str) -> int:
        counts = self._leases.counts()
        return sum([counts.get(flow, 0) for flow in self._state.app_flows.get(app, ())])

    def _firsts(self, connection: sqlite3.Connection | None, app: str, due: int) -> dict[int, float] | None:
        """Tell when the first free notification of each flow of an app is due, if that is not later than a time."""
        found: dict[int, float] = {}
        unknown: list[int] = []
        for flow in self._state.app_flows.get(app, ()):
            first = self._leases.first(flow, due)
            if first is not None:
                found[flow] = first
            elif connection is None:
                return None  # at once, since there may be thousands of flows
            else:
                unknown.append(flow)
        return {**found, **self._look(connection, unknown)} if connection is not None and unknown else found

    def _look(self, connection: sqlite3.Connection, flows: Iterable[int]) -> dict[int, float]:
        """Find out when the first free notification of each of some flows is due."""
        marks = [(flow, *self._leases.mark(flow)) for flow in flows]
        leased = [number for flow in flows for number in self._leases.passed_over(flow)]
        found = dict(connection.execute(_FIND_NEXT, [array(marks), array(leased)]).fetchall())
        lost = [each for each in found.items() if not isinstance(each[1], int)]
        if lost:
            raise Misplaced([number for each in lost for (number,) in connection.execute(_FIND_LOST, each)])
        firsts = {flow: found.get(flow, math.inf) for flow in flows}
        for flow, first in firsts.items():
            self._leases.know(flow, first)
        return firsts

    def _hand_out(self, flows: list[int], count: int, until: float) -> list[Leased]:
        """Lease equal parts of what has arrived of some flows."""
        found: list[Leased] = []
        contents: dict[str, Content] = {}
        for flow in flows:
            found += self._leases.take(flow, min(part(count, len(flows)), count - len(found)), until, contents)
        return found

    def _lend(
        self, connection: sqlite3.Connection, app: str, flows: list[int], count: int, until: float, due: int
    ) -> list[Leased] | Damaged | _Marked:
        """Lease equal parts of some flows."""
        rows = Due()
        taken: dict[int, Due] = {}
        for flow in flows:
            limit = min(part(count, len(flows)), count - len(rows.numbers))
            mark, passed = self._leases.mark(flow), self._leases.passed_over(flow)
            found = find_due(connection, flow, mark, due, passed, limit)
            if isinstance(found, Damaged):
                return found
            rows.add(found)
            taken[flow] = found
        date = self._timeline.date()
        early = [number for number, not_before in rows.early if not_before > date]
        if early:
            raise Misplaced(early)
        wanted, lane = set(rows.messages), Lane(self._state.app_flows[app][flows[0]])
        messages = read_messages(connection, self._timeline, app, lane, wanted)
        if len(messages) < len(wanted):
            owners = zip(rows.numbers, rows.messages, strict=True)
            return Damaged([number for number, message in owners if message not in messages])
        leased = rows.leased(messages)
        for flow, found in taken.items():
            self._leases.lend(flow, found.dues, found.numbers, until)
        if rows.superseded:
            marked = set(rows.superseded)
            return _Marked(sorted(marked), [each for each in leased if each.number not in marked])
        return leased

    def release(self, numbers: Iterable[int]) -> Deferred[None]:
        """See :meth:`IQueue.release`."""
        given = list(numbers)

        def free(connection: sqlite3.Connection) -> None:
            with self._state.lock:
                self._leases.free(given)

        return self._between(free)

    def renew(self, numbers: Iterable[int], until: float) -> Deferred[None]:
        """See :meth:`IQueue.renew`."""
        given, now = list(numbers), self._clock.seconds()

        def renew(connection: sqlite3.Connection) -> None:
            with self._state.lock:
                self._leases.expire(now)
                self._leases.renew(given, until)

        return self._between(renew)

    # Settling.

    def _conclude(self, connection: sqlite3.Connection, reports: list[Report]) -> list[Settled]:
        return [conclude(connection, reports, self._state), *(Settled() for _ in reports[1:])]

    def _concluded(self, reports: list[Report]) -> None:
        with self._state.lock:
            for report in reports:
                self._leases.drop(report.accepted)
            for settlement in chain.from_iterable([report.settlements for report in reports]):
                if settlement.state is not State.WAITING:
                    self._leases.drop([settlement.number])
                elif settlement.due is None:
                    self._leases.free([settlement.number])
                else:
                    self._leases.put_back(settlement.number, self._timeline.due(settlement.due))

    # Looking.

    def next_due(self, app: str) -> Deferred[float | None]:
        """See :meth:`IQueue.next_due`."""
        now = self._clock.seconds()

        def find(connection: sqlite3.Connection) -> float | None:
            with self._state.lock:
                self._leases.expire(now)
                firsts = self._look(connection, self._state.app_flows.get(app, ()))
            first = min(firsts.values(), default=math.inf)
            return None if first == math.inf else self._timeline.seconds(int(first))

        return self._placed(find)

    def due_apps(self) -> Deferred[list[str]]:
        """See :meth:`IQueue.due_apps`."""
        due = self._timeline.now()

        def find(connection: sqlite3.Connection) -> list[str]:
            with lenient(connection):
                return [name for (name,) in connection.execute(_FIND_APPS, [due])]

        return self._read(find)

    def waiting(self, app: str) -> Estimate:
        """See :meth:`IQueue.waiting`. Only this process has the database, so the count is exact."""
        return Estimate(self._state.waiting[app], 0.0)

    def depths(self) -> Deferred[list[Depth]]:
        """See :meth:`IQueue.depths`."""
        now = self._clock.seconds()

        def first(connection: sqlite3.Connection) -> dict[int, int | None]:
            return dict(connection.execute(_FIND_FIRSTS).fetchall())

        def look(firsts: dict[int, int | None]) -> list[tuple[str, int, float | None]]:
            with self._state.lock:
                self._leases.expire(now)
                leased = self._leases.counts()
            found = []
            for name, number in sorted(self._state.apps.items()):
                due = firsts.get(number)
                count = sum([leased.get(flow, 0) for flow in self._state.app_flows.get(name, ())])
                found.append((name, count, None if due is None else self._timeline.seconds(due)))
            return found

        def join(found: list[tuple[str, int, float | None]]) -> list[Depth]:
            return [Depth(name, self._state.waiting[name], leased, oldest) for name, leased, oldest in found]

        # Of thousands of apps that takes milliseconds, for which nobody who writes should wait.
        finding = self._read(first)
        return finding.addCallback(lambda firsts: self._between(lambda _: look(firsts))).addCallback(join)

    def _read(self, function: Callable[[sqlite3.Connection], _R]) -> Deferred[_R]:
        return self._database.read(function) if self._state.running else stopped()
