"""
The cluster as one node on PostgreSQL sees it.

::

                 heartbeat                    heartbeat              heartbeat that found the life ended,
          ┌──────────────────┐            ┌────────────┐             or none for too long
    start │                  ▼            ▼            │
      ────┴──────────────► alive ─────────┴────────────┴──────────────────► without life
                             ▲                                                  │
                             └──────────────────────────────────────────────────┘
                                   heartbeat, which joins as another incarnation

A heartbeat every :data:`BEAT` seconds prolongs the node's life in the database by
:data:`~txapns.daemon.store.postgresql.nodes.LIFE`. The node knows no better when that life ends than by the moment
before the last heartbeat that succeeded began, on its own monotonic clock: the database counted from a later one. It
stops sending :data:`MARGIN` seconds before the end, whatever the reason: the database is away, the network is cut, this
process or the whole machine stood still. From then on it has no life, even if a heartbeat succeeds at last; it forgets
what was in flight, and joins as another incarnation, to which none of the old leases belong.

If another process joins under the same name, this one has no life, either, and says so. It does not join again as long
as the other one lives; otherwise the two would take turns.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

import txapns
from txapns._network.alarm import Alarm
from txapns._network.clocks import wall_clock
from txapns.daemon.errors import Unavailable
from txapns.daemon.store.cluster import Circuit, ICluster, NodeStatus
from txapns.daemon.store.listeners import Listeners
from txapns.daemon.store.postgresql import nodes
from txapns.daemon.store.postgresql.circuits import Circuits
from txapns.daemon.store.postgresql.cluster_time import ClusterTime
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.nodes import LIFE, NODES, Moment, Node
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.store.queue_time import milliseconds

__all__ = ["BEAT", "MARGIN", "PostgreSQLCluster"]

_log = Logger()

#: How often a node renews its life, in seconds.
BEAT = 5.0
#: How long before the end of its life a node stops sending, in seconds.
MARGIN = 3.0
#: After how many seconds a heartbeat that failed is tried again.
AGAIN = 1.0
#: Every how many heartbeats the node with this duty forgets what others left behind.
REAP = 12

_REAPING = "nodes"  # the duty


@attrs.frozen
class _Beat:
    """
    What came of a heartbeat.

    :ivar joined: whether the node's life began with it.
    :ivar replaced: whether another process has the node's name.
    :ivar duties: the duties that the node has.
    """

    moment: Moment
    alive: bool
    joined: bool = False
    replaced: bool = False
    duties: frozenset[str] = frozenset()


@implementer(ICluster)
class PostgreSQLCluster:
    """
    One of the nodes that share a database.

    :param time: the cluster's time, which each heartbeat measures.
    :param node: the name of this node, which no other node may have.
    :param incarnations: makes the name of an incarnation, a UUID.

    :ivar incarnation: whose leases are this node's.
    """

    shared = True

    def __init__(
        self,
        database: Database,
        time: ClusterTime,
        node: str,
        incarnations: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self.node = node
        self._digest = ""
        self.in_flight: Callable[[], int] = lambda: 0
        self.trouble = ""
        self.incarnation = incarnations()
        self._database = database
        self._time = time
        self._clock = database.clock
        self._wall = wall_clock(database.clock)
        self._incarnations = incarnations
        self._since = 0
        self._measured = False
        self._member = False
        self._deadline = 0.0
        self._duties: frozenset[str] = frozenset()
        self._wanted = {_REAPING}
        self._former = ""  # the incarnation before this one
        self._beats = 0
        self._beating = False
        self._running = False
        self._next = Alarm(self._clock, self._beat)
        self._end = Alarm(self._clock, self._ended)
        self._listeners: Listeners[[]] = Listeners("changes of the cluster")
        self._circuits = Circuits(database, time)
        database.alone = lambda connection: nodes.is_alone(connection, node, time.read(connection))

    # The store.

    def start(self) -> Deferred[None]:
        """
        Create the tables if they are missing, and join the other nodes.

        :raises Unavailable: the database cannot be used now.
        """
        self._running = True
        self._since = milliseconds(self._wall.now())
        starting = self._database.prepare(NODES).addCallback(lambda _: self._attempt(first=True))
        return starting.addCallback(self._started)

    def _started(self, _: None) -> None:
        self._circuits.start()
        self._next.set(BEAT)

    def stop(self) -> Deferred[None]:
        """End this node's life, so that others may go on at once with what it had leased; nothing may be in flight."""
        self._running = False
        for alarm in self._next, self._end:
            alarm.cancel()
        self._circuits.stop()
        own = self._own  # a heartbeat that is under way comes before this
        leaving = self._database.beat(lambda connection: nodes.leave(connection, own))
        self._lose("the daemon is shutting down")
        return leaving.addErrback(_not_left)

    # ICluster

    @property
    def alive(self) -> bool:
        """See :attr:`ICluster.alive`."""
        return self._member and self._clock.seconds() < self._deadline

    @property
    def digest(self) -> str:
        """See :attr:`ICluster.digest`."""
        return self._digest

    @digest.setter
    def digest(self, digest: str) -> None:
        changed, self._digest = digest != self._digest, digest
        if changed and self._running:
            self._next.set(0.0)  # or the others would go on seeing a difference

    def nodes(self) -> Deferred[list[NodeStatus]]:
        """See :meth:`ICluster.nodes`."""
        now = self._time.now()
        return self._database.read(lambda connection: nodes.statuses(connection, self.node, now))

    def owns(self, duty: str) -> bool:
        """See :meth:`ICluster.owns`."""
        if duty not in self._wanted:
            self._wanted.add(duty)
            if self._running:
                self._next.set(0.0)
        return duty in self._duties and self.alive

    def resign(self, duty: str) -> None:
        """See :meth:`ICluster.resign`."""
        self._wanted.discard(duty)
        self._duties -= {duty}
        if self._running:
            self._next.set(0.0)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """See :meth:`ICluster.subscribe`."""
        return self._listeners.subscribe(listener)

    def report(self, app: str, circuit: Circuit | None) -> None:
        """See :meth:`ICluster.report`."""
        self._circuits.report(app, circuit)

    def watch(self, listener: Callable[[str, Circuit | None], None]) -> Callable[[], None]:
        """See :meth:`ICluster.watch`."""
        return self._circuits.watch(listener)

    # Heartbeats.

    def _beat(self) -> None:
        if self._member and not self.alive:
            self._ended()  # this process stood still, and its timers ring in any order
        if not self._beating:  # otherwise the alarm is set when it ends
            self._beating = True
            self._attempt(first=False).addErrback(self._failed)

    def _attempt(self, first: bool) -> Deferred[None]:
        """Renew this node's life; if it has none, join as an incarnation that had none."""
        begun = self._clock.seconds()
        epoch = self._time.epoch if self._measured else None
        node = Node(self.node, self.incarnation, txapns.__version__, self.digest, self._since, self.in_flight())
        own = None if first else self._own
        renews, wanted = self._member, frozenset(self._wanted)

        def beat(connection: Connection) -> _Beat:
            moment = nodes.look(connection, self._time.read, self._clock.seconds, epoch)
            offset = milliseconds(self._wall.now() - moment.date)
            return _live(connection, attrs.evolve(node, clock_offset=offset), moment, renews, own, wanted)

        return self._database.beat(beat).addCallback(self._succeeded, begun, node.incarnation)

    @property
    def _own(self) -> list[str]:
        """The incarnations of this process that the database may still show as alive."""
        return [self.incarnation, *([self._former] if self._former else [])]

    def _succeeded(self, beat: _Beat, begun: float, incarnation: str) -> None:
        moment, self._beating, self._measured = beat.moment, False, True
        self._time.measured(moment.date + moment.correction / 1000, moment.before, moment.after)
        deadline = begun + LIFE - MARGIN
        if not self._running:
            return
        if not beat.alive:
            self._next.set(AGAIN)
            self._lose(
                f"another process has the name {self.node}; give each node a name of its own"
                if beat.replaced
                else "its life ended before it could be renewed"
            )
        elif incarnation != self.incarnation or deadline <= self._clock.seconds():
            self._next.set(0.0)  # it came too late
        else:
            self._next.set(BEAT)
            self._live_until(deadline, beat)

    def _live_until(self, deadline: float, beat: _Beat) -> None:
        self._deadline = deadline
        self._end.cancel()
        self._end.set(deadline - self._clock.seconds())
        changed = bool((beat.duties ^ self._duties) - {_REAPING})
        self._duties = beat.duties
        if beat.joined:
            self._member = changed = True
            if self.trouble:
                _log.info("node {node} has joined again", node=self.node)
            self.trouble = ""
        if beat.replaced:
            _log.warn("node {node} was alive; it has been replaced by this process", node=self.node)
        if changed:
            self._listeners.tell()
        self._reap()

    def _failed(self, failure: Failure) -> None:
        self._beating = False
        if failure.check(Unavailable) is None:
            _log.failure("The life of this node cannot be renewed", failure)
        if self._running:
            self._next.set(AGAIN)

    def _ended(self) -> None:
        self._lose("the database could not be reached in time")

    def _lose(self, trouble: str) -> None:
        """Have no life from now on; the next heartbeat joins as another incarnation."""
        if self._running and self.trouble != trouble:
            _log.error("node {node} stops sending: {trouble}", node=self.node, trouble=trouble)
        self.trouble = trouble
        if not self._member:
            return
        self._member = False
        self._duties = frozenset()
        self._former, self.incarnation = self.incarnation, self._incarnations()
        self._end.cancel()
        if self._running:
            self._next.set(0.0)
        self._listeners.tell()

    def _reap(self) -> None:
        self._beats += 1
        if self._beats % REAP == 2 and self.owns(_REAPING):
            now = self._time.now()
            reaping = self._database.between(lambda connection: nodes.reap(connection, now))
            reaping.addErrback(_not_reaped)


def _live(
    connection: Connection, node: Node, moment: Moment, renews: bool, own: list[str] | None, wanted: frozenset[str]
) -> _Beat:
    """
    Renew a node's life, or begin it, take the duties that are free, and leave those that are not wanted any more.

    :param own: incarnations that the node may replace; ``None`` for any.
    """
    now, replaced = moment.now, False
    if not renews or not nodes.renew(connection, node, now):
        other = nodes.living(connection, node.name, now)
        replaced = other is not None and other not in (own or ())
        if renews or (replaced and own is not None):
            return _Beat(moment, alive=False, replaced=replaced)
        nodes.join(connection, node, now)
    holders = nodes.holders(connection, now)
    free = wanted - holders.keys()
    taken = nodes.take(connection, node.incarnation, free, now) if free else set()
    held = {duty for duty, holder in holders.items() if holder == node.incarnation}
    if not held <= wanted:
        nodes.resign(connection, node.incarnation, held - wanted)
    return _Beat(moment, alive=True, joined=not renews, replaced=replaced, duties=frozenset(held & wanted | taken))


def _not_reaped(failure: Failure) -> None:
    if failure.check(Unavailable) is None:
        _log.failure("What nodes that are gone left behind cannot be forgotten", failure)


def _not_left(failure: Failure) -> None:
    """Leave it to the others to find out."""
    failure.trap(Unavailable)
