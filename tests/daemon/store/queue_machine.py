"""The queue, the outcome log and the outcome feed, compared with a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.daemon.store.contract import ID, LONGEST, OTHER, TOKENS, World, message, result
from txapns.daemon.values import Idempotency, Message, Receipt, Settlement, State

__all__ = ["QueueMachine"]


@attrs.define
class _Notification:
    """What the model knows of a notification."""

    number: int
    apns_id: str
    app: str
    due: float
    not_before: float | None = None
    state: State = State.WAITING
    attempts: int = 0
    until: float | None = None  # of its lease
    token: bytes = b""
    collapse_id: str | None = None
    superseded: bool = False  # it is when it comes back into the queue


_APPS = ["chess", "news"]
APPS = st.sampled_from(_APPS)
COUNTS = st.integers(min_value=1, max_value=5)
# Whole seconds, so that neither a queue's resolution nor the moment in which something is stored makes a difference.
SECONDS = st.integers(min_value=1, max_value=20)


class QueueMachine(RuleBasedStateMachine):
    """
    Uses a queue and its outcome log in any order, and compares them with a simple model.

    A class that derives from it says how to make the store; its ``TestCase`` is the test.

    :cvar given_back: after how many seconds what is given back is leased in its order again.
    """

    given_back = 0

    def make_world(self) -> World:
        """Make an empty store, and start it."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.world = self.make_world()
        self.world.clock.rightNow = 1_000.0
        self.all: list[_Notification] = []
        self.numbers = 0
        self.receipts: dict[str, list[Receipt]] = {}  # of requests with a key
        self.set = 0  # by how many seconds the clock on the wall was set since the last start

        self.recorded = ["chess"]
        self.feeds: dict[str, list[tuple[int, State]]] = {app: [] for app in _APPS}
        self.states: dict[int, State] = {}  # of all, after the last step
        self.world.feed.keep(self.recorded)

    def teardown(self) -> None:
        """Stop it."""
        for app in _APPS:
            self.check_feed(app)
        self.world.stop()

    def do(self, name: str, *arguments: Any) -> Any:
        """Call a method of the queue, and turn the clock back to where it was."""
        now = self.world.clock.seconds()
        found = result(self.world.clock, getattr(self.world.queue, name)(*arguments))
        self.world.clock.rightNow = now
        return found

    def ask(self, name: str, *arguments: Any) -> Any:
        """Call a method of the outcome log in the same way."""
        now = self.world.clock.seconds()
        found = result(self.world.clock, getattr(self.world.outcome_log, name)(*arguments))
        self.world.clock.rightNow = now
        return found

    @property
    def now(self) -> float:
        """The time."""
        return float(self.world.clock.seconds())

    def lead(self) -> float:
        """By how many seconds the clock by whose dates the store goes is ahead of the reactor's."""
        return self.world.clock.ahead

    def place(self, found: Sequence[_Notification]) -> None:
        """Place anew those of these that have a date, and were not tried before."""
        for each in found:
            if each.not_before is not None and not each.attempts:
                each.due = each.not_before - self.lead()

    def due(self, app: str, count: int) -> list[_Notification]:
        """
        The first notifications that can be leased. Those that became due too early are placed anew, and those that are
        superseded are settled.
        """
        while True:
            found = [each for each in self.free(app) if each.due <= self.now][:count]
            early = [each for each in found if not each.attempts and (each.not_before or 0) - self.lead() > self.now]
            if early:
                self.place(early)
                continue
            rest = [each for each in found if not each.superseded]
            for each in found:
                if each.superseded:
                    each.state = State.SUPERSEDED
            if rest or not found:
                return rest

    def free(self, app: str | None = None) -> list[_Notification]:
        """The notifications that are not leased, in the order in which they are due."""
        found = [
            each
            for each in self.all
            if each.state is State.WAITING
            and app in (None, each.app)
            and (each.until is None or each.until <= self.now)
        ]
        return sorted(found, key=lambda each: (each.due, each.number))

    def by_number(self, numbers: Sequence[int]) -> list[_Notification]:
        """Find notifications by number."""
        known = {each.number: each for each in self.all}
        return [known[number] for number in numbers]

    def holds(self, each: _Notification) -> bool:
        """Tell whether the store that is used has leased a notification, if anybody has."""
        return True

    def some(self, data: st.DataObject) -> list[int]:
        """Choose some notifications."""
        numbers = [each.number for each in self.all]
        return data.draw(st.lists(st.sampled_from(numbers), unique=True)) if numbers else []

    @rule(app=APPS, count=COUNTS, chosen=st.none() | st.sampled_from([ID, OTHER]))
    def accept(self, app: str, count: int, chosen: str | None) -> None:
        """Accept a message, of which the caller chose one id for all devices, or none."""
        sent = message(self.world, count, app)
        if chosen is not None:
            sent = msgspec.structs.replace(sent, apns_ids=[chosen] * count)
        [receipt] = self.do("accept", [sent])
        self.note(receipt, sent)

    @rule(app=APPS, count=COUNTS, seconds=st.none() | SECONDS, rate=st.none() | st.just(1))
    def accept_for_later(self, app: str, count: int, seconds: int | None, rate: int | None) -> None:
        """Accept two messages that are sent from a date on, a device a second, or both."""
        not_before = None if seconds is None else self.now + self.lead() + seconds
        first, second = message(self.world, count, app), message(self.world, 2, app)
        sent = [msgspec.structs.replace(each, not_before=not_before, rate=rate) for each in (first, second)]
        start = len(self.all)
        for receipt, each in zip(self.do("accept", sent), sent, strict=True):
            self.note(receipt, each)
        for position, each in enumerate(self.all[start:]):
            each.due += (seconds or 0) + (position if rate else 0)
            each.not_before = None if seconds is rate is None else each.due + self.lead()

    @rule(
        app=APPS,
        tokens=st.lists(st.sampled_from(TOKENS), min_size=1, max_size=6),
        collapse_id=st.sampled_from(["score", "move"]),
        seconds=st.none() | SECONDS,
    )
    def accept_newer(self, app: str, tokens: list[bytes], collapse_id: str, seconds: int | None) -> None:
        """Accept a message with a collapse id, which supersedes what waits for the same devices, and marks the rest."""
        not_before = None if seconds is None else self.now + self.lead() + seconds
        sent = message(self.world, len(tokens), app)
        sent = msgspec.structs.replace(sent, tokens=tokens, collapse_id=collapse_id, not_before=not_before)
        start = len(self.all)
        [receipt] = self.do("accept", [sent])
        self.note(msgspec.structs.replace(receipt, superseded=False), sent)
        for position, each in enumerate(self.all[start:], start):
            each.token, each.collapse_id = tokens[position - start], collapse_id
            each.due += seconds or 0
            each.not_before = not_before
            same = (each.app, each.token, each.collapse_id)
            for older in [old for old in self.all[:position] if (old.app, old.token, old.collapse_id) == same]:
                if older.state is State.WAITING and (older.until is None or older.until <= self.now):
                    older.state = State.SUPERSEDED
                elif older.state in (State.WAITING, State.DEAD):
                    older.superseded = True
        assert receipt.superseded == any(each.state is State.SUPERSEDED for each in self.all[start:])

    @rule(app=APPS, count=COUNTS, key=st.sampled_from(["a", "b"]))
    def accept_once(self, app: str, count: int, key: str) -> None:
        """Accept a request with a key; a repeated one gets the first receipts, whatever happened since."""
        sent = [message(self.world, count, app), message(self.world, 1, app)]
        receipts = self.do("accept", sent, Idempotency("caller", key, b"digest"))
        if key in self.receipts:
            assert receipts == self.receipts[key]
            return
        self.receipts[key] = [msgspec.structs.replace(each, earlier=True) for each in receipts]
        for receipt, each in zip(receipts, sent, strict=True):
            self.note(receipt, each)

    def note(self, receipt: Receipt, sent: Message) -> None:
        """Add accepted notifications to the model; their numbers increase."""
        assert receipt == Receipt(receipt.numbers, list(sent.apns_ids))
        for number, apns_id in zip(receipt.numbers, sent.apns_ids, strict=True):
            assert number > self.numbers
            self.numbers = number
            self.all.append(_Notification(number, apns_id, sent.app, self.now))

    @rule(app=APPS, count=COUNTS, seconds=SECONDS)
    def lease(self, app: str, count: int, seconds: int) -> None:
        """Lease exactly what the model says, in its order."""
        due = self.due(app, count)
        leased = self.do("lease", app, count, self.now + seconds)
        assert [(each.number, each.apns_id, each.attempts) for each in leased] == [
            (each.number, each.apns_id, each.attempts) for each in due
        ]
        for each in due:
            each.until = self.now + seconds

    @rule(data=st.data(), state=st.sampled_from([state for state in State if state is not State.WAITING]))
    def settle(self, data: st.DataObject, state: State) -> None:
        """Settle some, whether they are leased or not."""
        numbers = self.some(data)
        if state is State.ACCEPTED:  # in either of the two ways
            self.do("settle", [Settlement(number, state, 200) for number in numbers[::2]], numbers[1::2])
        else:
            self.do("settle", [Settlement(number, state, 400) for number in numbers])
        for each in self.by_number(numbers):
            if each.state is State.WAITING:
                each.state = state
                each.attempts += state not in (State.EXPIRED, State.SUPERSEDED)
            each.until = None

    @rule(data=st.data(), seconds=st.integers(min_value=0, max_value=20))
    def put_back(self, data: st.DataObject, seconds: int) -> None:
        """Put some back for another attempt, now or later."""
        numbers = self.some(data)
        due = self.now + seconds
        self.do("settle", [Settlement(number, State.WAITING, 503, due=due) for number in numbers])
        for each in self.by_number(numbers):
            if each.state is State.WAITING and each.superseded:
                each.state = State.SUPERSEDED
            if each.state is State.WAITING:
                each.due = due
                each.attempts += 1
                if self.holds(each):
                    each.until = None

    @rule(data=st.data(), counted=st.booleans())
    def release(self, data: st.DataObject, counted: bool) -> None:
        """Give leases back, in one of the two ways."""
        numbers = self.some(data)
        if counted:
            self.do("settle", [Settlement(number, State.WAITING) for number in numbers])
        else:
            self.do("release", numbers)
        for each in self.by_number(numbers):
            if self.holds(each):
                each.until = None
        self.world.clock.rightNow += self.given_back

    @rule(data=st.data(), seconds=SECONDS)
    def renew(self, data: st.DataObject, seconds: int) -> None:
        """Move the end of some leases."""
        numbers = self.some(data)
        self.do("renew", numbers, self.now + seconds)
        for each in self.by_number(numbers):
            if each.until is not None and each.until > self.now and self.holds(each):
                each.until = self.now + seconds

    @rule(count=COUNTS, app=APPS)
    def retry(self, count: int, app: str) -> None:
        """Retry dead letters, those with the smallest numbers first."""
        dead = [each for each in self.all if each.state is State.DEAD and each.app == app]
        dead = sorted(dead, key=lambda each: each.number)[:count]
        assert self.ask("retry", app, count) == len(dead)
        for each in dead:
            each.state, each.due, each.attempts, each.until = State.WAITING, self.now, 0, None
            each.not_before = None

    @rule(count=COUNTS, app=APPS, state=st.sampled_from(State))
    def purge(self, count: int, app: str, state: State) -> None:
        """Delete some."""
        chosen = self.free(app) if state is State.WAITING else [each for each in self.all if each.state is state]
        chosen = [each for each in sorted(chosen, key=lambda each: each.number) if each.app == app][:count]
        assert self.ask("purge", app, state, count) == len(chosen)
        gone = {each.number for each in chosen}
        self.all = [each for each in self.all if each.number not in gone]

    @rule(seconds=SECONDS)
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.world.clock.rightNow += seconds

    @rule(seconds=st.integers(min_value=-100, max_value=100))
    def clock_set(self, seconds: int) -> None:
        """Set the wall clock, which changes nothing before the next start but when what has a date is due."""
        before = self.lead()
        self.world.clock.ahead += seconds
        self.set += seconds
        assert self.do("clock_set") == (self.lead() != before)
        self.place(self.free())

    @rule()
    def restart(self) -> None:
        """Restart from what is stored. It takes a second, at some moment of which due times are bounded."""
        now = self.now
        self.world.restart()
        self.world.feed.keep(self.recorded)
        self.world.clock.rightNow = now + 1
        for each in self.all:
            bound = now + 0.5 + (LONGEST if each.attempts else 0)
            each.due, each.until = min(each.due - self.set, bound), None
        self.place(self.all)
        self.set = 0

    @rule(app=APPS)
    def next_due(self, app: str) -> None:
        """The next due time is that of the model."""
        free = self.free(app)
        found = self.do("next_due", app)
        assert abs(found - free[0].due) < 1 if free else found is None

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def outcome(self, data: st.DataObject) -> None:
        """The outcome of a notification is that of the model."""
        each = data.draw(st.sampled_from(self.all))
        [found] = self.ask("outcomes", [each.number])
        assert (found.apns_id, found.app, found.state) == (each.apns_id, each.app, each.state)
        assert found.attempts == each.attempts

    @rule(apps=st.none() | st.lists(APPS, unique=True), chosen=st.sampled_from([ID, OTHER]))
    def latest(self, apps: list[str] | None, chosen: str) -> None:
        """The latest of those with one id is that of the model."""
        known = [each for each in self.all if each.apns_id == chosen and (apps is None or each.app in apps)]
        found = self.ask("latest", chosen, apps)
        assert (found and found.number) == (max(each.number for each in known) if known else None)

    @rule(apps=st.lists(APPS, unique=True))
    def keep(self, apps: list[str]) -> None:
        """Record the outcomes of other apps."""
        self.recorded = apps
        self.world.feed.keep(apps)

    @invariant()
    def feeds_agree(self) -> None:
        """What became final in a step is recorded, and nothing else."""
        before, self.states = self.states, {each.number: each.state for each in self.all}
        final = [each for each in self.all if each.state is not State.WAITING]
        new = [each for each in final if before.get(each.number, State.WAITING) is State.WAITING]
        for app in self.recorded:
            expected = [(each.number, each.state) for each in new if each.app == app]
            if expected:
                self.feeds[app] += sorted(expected)
                self.check_feed(app, len(expected))

    def check_feed(self, app: str, count: int = 0) -> None:
        """Compare the feed of an app with the model; the last so many may be in any order."""
        now = self.world.clock.seconds()
        entries = result(self.world.clock, self.world.feed.after(app, 0, 1_000))
        self.world.clock.rightNow = now
        assert [each.cursor for each in entries] == list(range(1, len(entries) + 1))
        found = [(each.outcome.number, each.outcome.state) for each in entries]
        assert [*found[: len(found) - count], *sorted(found[len(found) - count :])] == self.feeds[app]
        self.feeds[app] = found

    @invariant()
    def depths_agree(self) -> None:
        """As many wait as in the model."""
        for app in ("chess", "news"):
            waiting = [each for each in self.all if each.app == app and each.state is State.WAITING]
            assert self.world.queue.waiting(app).count == len(waiting)
