"""
What copying does in every kind of store.

A test case says how to make a place for a store, which is empty at first. What is there is compared as rows, and as the
daemon sees it that starts there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.daemon.store.contract import HEADERS, PAYLOAD, START, message, result
from txapns.daemon.store.apps import AppSettings, EncryptedCredential
from txapns.daemon.store.copying import (
    KINDS,
    APIKeyRow,
    AppRow,
    Counters,
    DeadTokenRow,
    FeedEntryRow,
    FeedReaderRow,
    FeedRow,
    ICopy,
    IdempotencyRow,
    MessageRow,
    NotificationRow,
    PauseRow,
    QueueRow,
    ReaderRow,
    SandboxRow,
    TokenRow,
    copy,
)
from txapns.daemon.store.keys import StoredKey
from txapns.daemon.values import (
    Caller,
    Environment,
    Idempotency,
    Lane,
    Pause,
    Settlement,
    State,
    TokenEnvironment,
    TokenKind,
)

__all__ = ["CopyContract", "MemoryCopy", "Place", "contents", "copied", "filled", "seen"]

_DATE = int(START) * 1000
_KEPT = (State.WAITING, State.DEAD)  # whose messages may still be sent

_NEW = Counters(1, 0)

Contents = Mapping[type[Any], Sequence[tuple[Any, ...]]]


class Place(Protocol):
    """Where a store is, or will be."""

    def start(self) -> Any:
        """Start a store there."""

    def copying(self) -> AbstractContextManager[Any]:
        """Open it for copying, while no store is started there."""


@implementer(ICopy)
class MemoryCopy:
    """Rows in memory."""

    def __init__(self, contents: Contents | None = None, counters: Counters = _NEW) -> None:
        self.damaged: Counter[str] = Counter()
        self.contents: dict[type[Any], list[Any]] = {kind: list((contents or {}).get(kind, ())) for kind in KINDS}
        self._counters = counters

    def counters(self) -> Counters:
        """See :meth:`ICopySource.counters`."""
        return self._counters

    def count(self, kind: type[Any]) -> int:
        """See :meth:`ICopySource.count`."""
        return len(self.contents[kind])

    def rows(self, kind: type[Any]) -> Iterator[Any]:
        """See :meth:`ICopySource.rows`."""
        return iter(self.contents[kind])

    def occupied(self) -> list[str]:
        """See :meth:`ICopyTarget.occupied`."""
        return [name for kind, name in KINDS.items() if self.contents[kind]]

    def add(self, kind: type[Any], rows: Sequence[Any]) -> None:
        """See :meth:`ICopyTarget.add`."""
        self.contents[kind] += rows

    def finish(self, counters: Counters) -> None:
        """See :meth:`ICopyTarget.finish`."""
        self._counters = counters

    def comparable(self) -> dict[str, list[Any]]:
        """Everything that a copy keeps: neither when something settled was due, nor what cannot be sent again."""
        rows = dict(self.contents)
        notifications = [row if row.state in _KEPT else row._replace(due=0) for row in rows[NotificationRow]]
        kept = {row.message for row in notifications if row.state in _KEPT}
        rows[NotificationRow] = notifications
        rows[MessageRow] = [row for row in rows[MessageRow] if row.number in kept]
        return {KINDS[kind]: sorted(found, key=repr) for kind, found in rows.items()}


def copied(source: Any, target: Any) -> Mapping[str, int]:
    """Copy, and check what is said about it meanwhile."""
    steps: list[tuple[str, int, int]] = []
    found = copy(source, target, lambda *step: steps.append(step))
    assert not found.damaged, found
    assert {name: done for name, done, _ in steps} == {name: n for name, n in found.counts.items() if n}
    assert all(done <= total for _, done, total in steps), steps
    return found.counts


# Contents.

_NAMES = st.text("abcdefghijklmnopqrstuvwxyz.-_0123456789", min_size=1, max_size=20).filter(str.isalnum)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_LISTS = st.none() | st.lists(_NAMES, max_size=3)
_DATES = st.integers(_DATE - 86_400_000, _DATE)
_SECONDS = st.integers(0, 2**31).map(lambda eighths: eighths / 8)
_PAIRS = st.tuples(_SECONDS, _SECONDS)
_MANAGE = st.integers(0, 1)
_HEADERS = st.dictionaries(st.sampled_from(["apns-topic", "apns-priority", "apns-expiration"]), _TEXTS)


@st.composite
def _notifications(draw: st.DrawFn, message: MessageRow, app: str) -> list[NotificationRow]:
    """Make the notifications of a message. One that was never tried is due at once, and none waits for long."""
    found = []
    for n in range(draw(st.integers(1, 4))):
        state = draw(st.sampled_from(State))
        attempts = draw(st.integers(0 if state is State.WAITING else 1, 9))
        due, later = draw(_DATES), state is State.WAITING and draw(st.booleans())
        row = NotificationRow(
            message.number + n,
            message.number,
            app,
            draw(st.binary(min_size=1, max_size=40)),
            draw(st.binary(min_size=16, max_size=16)),
            due,
            int(state),
            attempts,
            draw(st.sampled_from([0, 200, 410])),
            draw(_TEXTS),
            None if state is State.WAITING else draw(st.none() | _DATES),
            message.accepted_at,
            None if state is State.WAITING else draw(_DATES),
            draw(st.none() | _TEXTS) if state is State.ACCEPTED else None,
            due if later else None,
            int(draw(st.sampled_from(Lane))),
            draw(_TEXTS),
            draw(st.none() | st.integers(-(2**63), 2**63 - 1)),
            draw(st.integers(0, 1)),
            None if state is State.WAITING else draw(st.none() | st.integers(1, 2)),
        )
        found.append(row)
    return found


@st.composite
def _feeds(draw: st.DrawFn, queues: list[str]) -> tuple[list[FeedRow], list[FeedEntryRow], list[FeedReaderRow]]:
    """Make the outcome feeds of some apps, of which the first entries may be forgotten, and positions in them."""
    feeds, entries, positions = [], [], []
    for app in draw(st.lists(st.sampled_from(queues), unique=True)):
        first = draw(st.integers(1, 2**40))
        cursor = first - 1 + draw(st.integers(0, 3))
        feeds.append(FeedRow(app, cursor, first))
        for each in range(first, cursor + 1):
            answer = draw(st.sampled_from([1, 2, 3, 4])), draw(st.sampled_from([0, 200, 410])), draw(_TEXTS)
            dates = draw(st.none() | _DATES), draw(st.integers(0, 9)), draw(_DATES), draw(_DATES)
            token, apns_id = draw(st.binary(min_size=1, max_size=40)), draw(st.binary(min_size=16, max_size=16))
            number = draw(st.integers(1, 2**40))
            last = draw(st.none() | _TEXTS), draw(st.none() | st.integers(1, 2)), draw(st.none() | _TEXTS)
            entries.append(FeedEntryRow(app, each, number, token, apns_id, *answer, *dates, *last))
        positions += [FeedReaderRow(reader, app, draw(st.integers(0, cursor))) for reader in draw(st.sets(_NAMES))]
    return feeds, entries, positions


@st.composite
def contents(draw: st.DrawFn) -> MemoryCopy:
    """Make the contents of a store."""
    queues = draw(st.lists(_NAMES, unique=True, min_size=1, max_size=3))
    number = draw(st.integers(1, 2**40))
    messages, notifications = [], []
    for _ in range(draw(st.integers(0, 4))):
        made = MessageRow(number, draw(_HEADERS), draw(st.binary(max_size=50)), draw(_DATES))
        rows = draw(_notifications(made, draw(st.sampled_from(queues))))
        notifications += rows
        if draw(st.booleans()) or any(row.state in _KEPT for row in rows):
            messages.append(made)
        number += len(rows) + draw(st.integers(0, 3))  # some may be forgotten
    counts = st.lists(st.integers(0, 3), max_size=3)
    requests = [
        IdempotencyRow(owner, key, draw(st.binary(max_size=32)), each, bytes(16 * sum(each)), draw(_DATES), number)
        for owner, key in draw(st.sets(st.tuples(_TEXTS, _TEXTS), max_size=3))
        for each in [draw(counts)]
    ]
    cursors = sorted(draw(st.sets(st.integers(1, 2**40), max_size=4)))
    tokens = [
        DeadTokenRow(
            n, draw(_NAMES), b"%d" % n + draw(st.binary(max_size=9)), draw(_TEXTS), *draw(st.tuples(_SECONDS, _SECONDS))
        )
        for n in cursors
    ]
    readers = [
        ReaderRow(reader, app, draw(st.integers(0, 2**40)))
        for reader, app in draw(st.sets(st.tuples(_NAMES, st.just("") | _NAMES), max_size=3))
    ]
    feeds, entries, positions = draw(_feeds(queues))
    apps = [
        AppRow(
            name,
            b"{}",
            draw(st.binary()),
            "key",
            draw(_TEXTS),
            draw(st.none() | _SECONDS),
            *draw(st.tuples(_SECONDS, _SECONDS)),
        )
        for name in draw(st.sets(_NAMES, max_size=3))
    ]
    sandboxes = [
        SandboxRow(app.name, draw(st.binary()), "certificate", draw(_TEXTS), draw(_SECONDS), draw(_SECONDS))
        for app in apps
    ]
    pauses = [PauseRow(name, draw(_SECONDS), draw(_TEXTS)) for name in draw(st.sets(_NAMES, max_size=3))]
    keys = [
        APIKeyRow(
            name,
            f"of {name}",
            draw(st.binary()),
            draw(_LISTS),
            draw(_LISTS),
            draw(st.integers(0, 1)),
            draw(_SECONDS),
            draw(st.none() | st.sampled_from([0, 1, 2])),
        )
        for name in draw(st.sets(_NAMES, max_size=3))
    ]
    known = st.sets(st.tuples(_NAMES, st.binary(min_size=1, max_size=40)), max_size=3)
    found = {
        AppRow: apps,
        SandboxRow: sandboxes,
        PauseRow: pauses,
        APIKeyRow: keys,
        QueueRow: [QueueRow(name) for name in queues],
        MessageRow: messages,
        NotificationRow: notifications,
        IdempotencyRow: requests,
        DeadTokenRow: tokens,
        ReaderRow: readers,
        FeedRow: feeds,
        FeedEntryRow: entries,
        FeedReaderRow: positions,
        TokenRow: [TokenRow(app, token, draw(st.integers(1, 3)), draw(_DATES)) for app, token in draw(known)],
    }
    return MemoryCopy(found, Counters(number, max(cursors, default=0) + draw(st.integers(0, 9))))


# A life.

_REQUEST = Idempotency("ann", "dinner", b"digest")
_CREDENTIAL = EncryptedCredential(b"\0secret", "certificate", "ab" * 32, 1e9)


def filled(world: Any) -> None:
    """Fill a store as a daemon does: in every state a notification, dead tokens, a reader, an app and a key."""

    def do(deferred: Any) -> Any:
        return result(world.clock, deferred)

    do(world.queue.accept([message(world, 2)], _REQUEST))
    do(world.queue.accept([message(world, 7, start=10)]))
    do(world.queue.accept([message(world, 3, start=20, lane=Lane.BULK, caller="shop")]))
    leased = do(world.queue.lease("chess", 8, world.clock.seconds() + 60))
    since = world.clock.seconds()
    how: list[tuple[Any, ...]] = [
        (State.ACCEPTED, 200, "", None, None, "E77A", Environment.SANDBOX),
        (State.REJECTED, 410, "Unregistered", START - 5),
        (State.REJECTED, 400, "BadDeviceToken"),
        (State.EXPIRED,),
        (State.DEAD, 0, "ConnectionLost"),
        (State.WAITING, 503, "Shutdown", None, since),
        (State.REJECTED, 410, "ExpiredToken"),
    ]
    world.feed.keep(["chess"])
    do(world.queue.settle([Settlement(each.number, *given) for each, given in zip(leased, how, strict=False)]))
    do(world.feed.confirm("web", {"chess": 2}))
    do(world.queue.release([leased[7].number]))
    do(world.log.confirm("chess", "web", 1))
    do(world.tokens.note("chess", {b"1": TokenEnvironment(TokenKind.SANDBOX, START + 60)}))
    app = ("chess", AppSettings(topic="com.example.chess"), _CREDENTIAL, START, START)
    do(world.store.apps.start())
    do(world.store.apps.write(lambda table: table.put(*app)))
    do(world.store.apps.write(lambda table: table.put_sandbox("chess", _CREDENTIAL, START)))
    do(world.store.apps.write(lambda table: table.pause("old", Pause(START, "web"))))
    do(world.store.keys.start())
    key = StoredKey(Caller("id", frozenset(["chess"]), None, True, Lane.BULK), "web", START, b"digest")
    do(world.store.keys.write(lambda table: table.add(key)))


def seen(world: Any) -> dict[str, Any]:
    """Look at everything as the parts of a daemon do."""

    def do(deferred: Any) -> Any:
        return result(world.clock, deferred)

    do(world.store.apps.start())
    do(world.store.keys.start())
    [receipt] = do(world.queue.accept([message(world, 2)], _REQUEST))
    listed = [
        entry for state in State for app in ("chess", "news") for entry in do(world.outcome_log.listed(app, state, 100))
    ]
    return {
        "receipt": (list(receipt.numbers), receipt.apns_ids, receipt.earlier),
        "outcomes": [entry.outcome for entry in listed],
        "tokens": {entry.outcome.number: entry.token for entry in listed},
        "feedback": do(world.log.after(None, 0, 100)),
        "unread": do(world.log.take("chess", "web", 100)),
        "feed": do(world.feed.after("chess", 0, 100)),
        "unread in the feed": do(world.feed.take(None, "web", 100)),
        "tokens known": do(world.tokens.known("chess", [b"1", b"2"])),
        "apps": do(world.store.apps.read(lambda table: [*table.rows(), *table.listed()])),
        "sandboxes": do(world.store.apps.read(lambda table: table.sandboxes())),
        "pauses": do(world.store.apps.read(lambda table: table.pauses())),
        "keys": do(world.store.keys.read(lambda table: table.listed())),
        "waiting": world.queue.waiting("chess").count,
    }


class CopyContract:
    """The tests of copying, for a test case."""

    def make_place(self) -> Place:
        """Make a place that is empty."""
        raise NotImplementedError

    @property
    def _case(self) -> SynchronousTestCase:
        assert isinstance(self, SynchronousTestCase)
        return self

    @given(contents())
    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    def test_rows(self, given: MemoryCopy) -> None:
        """What was copied there can be read out, and no place that has something is copied to."""
        place = self.make_place()
        with place.copying() as target:
            self._case.assertEqual(target.occupied(), [])
            copied(given, target)
        found = MemoryCopy()
        with place.copying() as source:
            self._case.assertEqual(set(source.occupied()), {*given.occupied(), *source.occupied()})
            copied(source, found)
        self._case.assertEqual(found.comparable(), given.comparable())
        self._case.assertGreaterEqual(found.counters(), given.counters())

    def test_interfaces(self) -> None:
        """It is what can be copied from and to."""
        with self.make_place().copying() as found:
            verifyObject(ICopy, found)

    def test_interrupted(self) -> None:
        """A copy that fails leaves nothing."""
        place = self.make_place()
        rows = {QueueRow: [QueueRow("chess")], MessageRow: [MessageRow(1, HEADERS, PAYLOAD, _DATE)]}

        def fail(name: str, done: int, total: int) -> None:
            if name == "messages":
                raise KeyboardInterrupt

        with self._case.assertRaises(KeyboardInterrupt), place.copying() as target:
            copy(MemoryCopy(rows), target, fail)
        with place.copying() as target:
            self._case.assertEqual(target.occupied(), [])

    def test_life(self) -> None:
        """A store that was copied goes on as the first would: nothing is lost, and nothing is counted anew."""
        place, other = self.make_place(), self.make_place()
        world = place.start()
        filled(world)
        before = seen(world)
        world.stop()
        with place.copying() as source, other.copying() as target:
            counts = copied(source, target)
        self._case.assertEqual(counts["notifications"], 12)
        self._case.assertEqual(counts["dead tokens"], 2)
        copy_of_it = other.start()
        self.addCleanup(copy_of_it.stop)
        self._check_continued(copy_of_it, before)

    def _check_continued(self, world: Any, before: dict[str, Any]) -> None:
        def do(deferred: Any) -> Any:
            return result(world.clock, deferred)

        self._case.assertEqual(seen(world), before)
        self._case.assertEqual(do(world.outcome_log.retry("chess", 100)), 1)
        self._case.assertEqual(world.queue.waiting("chess").count, before["waiting"] + 1)
        [receipt] = do(world.queue.accept([message(world, start=30)]))
        highest = max(outcome.number for outcome in before["outcomes"])
        self._case.assertGreater(receipt.numbers[0], highest)
        until = world.clock.seconds() + 60
        bulk = do(world.queue.lease("chess", 100, until, None, Lane.BULK))
        self._case.assertEqual([each.token for each in bulk], [n.to_bytes(32, "big") for n in (20, 21, 22)])
        leased = [*do(world.queue.lease("chess", 100, until)), *bulk]
        self._case.assertEqual(len(leased), before["waiting"] + 2)
        self._case.assertEqual(
            {(each.payload, *each.content.headers.items()) for each in leased}, {(PAYLOAD, *HEADERS.items())}
        )
        world.feed.keep(["chess"])
        do(world.queue.settle([Settlement(receipt.numbers[0], State.REJECTED, 410, "Unregistered")]))
        last = do(world.log.after("chess", 0, 100))[-1]
        self._case.assertEqual(last.token, (30).to_bytes(32, "big"))
        self._case.assertGreater(last.cursor, max(entry.cursor for entry in before["feedback"]))
        self._case.assertEqual([each.cursor for each in do(world.feed.after("chess", 0, 100))], list(range(1, 8)))
        self._case.assertEqual((len(before["feed"]), len(before["unread in the feed"])), (6, 4))

    addCleanup: Any
