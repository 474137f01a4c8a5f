"""
A store in which much is kept: what costs the same there as in an empty one does not grow with what is stored.

Any store can be filled with it, as a copy of another one. Half of everything is the app ``chess``'s, some is of the app
``news``, and the rest of many others. Numbers begin with 1, and tokens are the numbers in 32 bytes, so that what a test
asks for is found.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import attrs
from zope.interface import implementer

from tests.daemon.store.contract import HEADERS, PAYLOAD, START
from txapns.daemon.store import copying
from txapns.daemon.store.superseding import hash_of
from txapns.daemon.values import State

__all__ = ["APPS", "Crowd"]

_Row = TypeVar("_Row", bound=tuple[Any, ...])

#: The apps that have the most, and that tests ask for.
APPS = ("chess", "news")
_DEVICES = 10  # of a message
_SETTLED = 6 * (State.ACCEPTED,) + (State.REJECTED, State.EXPIRED, State.DEAD, State.SUPERSEDED)
_STATUS = {State.ACCEPTED: 200, State.REJECTED: 410, State.DEAD: 503}


@implementer(copying.ICopySource)
@attrs.define(eq=False)
class Crowd:
    """
    What the store keeps.

    :ivar size: how many notifications wait, how many are settled, how many dead tokens there are, and how many recorded
        outcomes, of how many tokens the environment is known, and how many keys of requests there are.
    :ivar apps: how many apps there are.
    :ivar now: the date, in seconds.
    :ivar names: the names of the apps.
    """

    size: int
    apps: int = 200
    now: float = START
    damaged: Counter[str] = attrs.Factory(Counter)
    names: list[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.names = [*APPS, *(f"app {n}" for n in range(len(APPS), self.apps))]

    def fill(self, target: copying.ICopyTarget, progress: Callable[[str, int, int], None] = lambda *_: None) -> None:
        """Fill an empty store."""
        copying.copy(self, target, progress)

    def app(self, number: int) -> str:
        """Name the app that something is of."""
        return self.names[0 if number % 2 else 1 if number % 10 == 0 else number // 2 % self.apps]

    def counters(self) -> copying.Counters:
        """See :meth:`ICopySource.counters`."""
        return copying.Counters(2 * self.size + 1, self.size)

    def count(self, kind: type[Any]) -> int:
        """See :meth:`ICopySource.count`."""
        return 0  # which only the progress tells

    def rows(self, kind: type[_Row]) -> Iterator[_Row]:
        """See :meth:`ICopySource.rows`."""
        found: Iterator[Any] = _MADE[kind](self)
        return found

    @property
    def _date(self) -> int:
        return int(self.now * 1000)

    def _apps(self) -> Iterator[copying.AppRow]:
        for name in self.names:
            yield copying.AppRow(name, b'{"gateway":"sandbox"}', b"", "key", name, None, self.now, self.now)

    def _sandboxes(self) -> Iterator[copying.SandboxRow]:
        for name in self.names[::2]:
            yield copying.SandboxRow(name, b"", "key", name, None, self.now)

    def _pauses(self) -> Iterator[copying.PauseRow]:
        for name in self.names[len(APPS) :: 20]:
            yield copying.PauseRow(name, self.now, "operator")

    def _keys(self) -> Iterator[copying.APIKeyRow]:
        for n in range(self.apps):
            yield copying.APIKeyRow(f"{n:08x}", f"key {n}", bytes(32), self.names[n : n + 1], None, 0, self.now)

    def _queues(self) -> Iterator[copying.QueueRow]:
        yield from map(copying.QueueRow, self.names)

    def _messages(self) -> Iterator[copying.MessageRow]:
        for number in range(1, 2 * self.size + 1, _DEVICES):
            yield copying.MessageRow(number, HEADERS, PAYLOAD, self._date - self.size)

    def _notifications(self) -> Iterator[copying.NotificationRow]:
        numbers = random.Random(self.size)
        collapse, date = hash_of("score"), self._date - self.size
        for number in range(1, 2 * self.size + 1):
            group = (number - 1) // _DEVICES
            waits = group % 2 == 0
            state = State.WAITING if waits else _SETTLED[number % len(_SETTLED)]
            app = self.app(group // 2)
            crowded = app in APPS  # the others have one flow each
            yield copying.NotificationRow(
                number,
                group * _DEVICES + 1,
                app,
                number.to_bytes(32, "big"),
                numbers.randbytes(16),
                self._date - number % 2000,
                state,
                0 if waits else 1,
                _STATUS.get(state, 0),
                "Unregistered" if state == State.REJECTED else "",
                None,
                date,
                None if waits else date + number % 2000,
                not_before=self._date - 1 - number % 2000 if waits and number % 10 == 0 else None,
                lane=group // 2 % 3 if crowded else 1,
                caller=f"caller {group // 6 % 4}" if crowded else "caller",
                collapse=collapse if number % 3 == 0 else None,
            )

    def _idempotency_keys(self) -> Iterator[copying.IdempotencyRow]:
        for n in range(self.size):
            yield copying.IdempotencyRow(
                f"caller/{self.app(n)}", f"{n}", bytes(32), [1], bytes(16), self._date - n % 2000, n + 1
            )

    def _dead_tokens(self) -> Iterator[copying.DeadTokenRow]:
        for n in range(self.size):
            yield copying.DeadTokenRow(
                n + 1, self.app(n), n.to_bytes(32, "big"), "Unregistered", self.now, self.now - n % 2
            )

    def _readers(self) -> Iterator[copying.ReaderRow]:
        for name in ("", *self.names):
            yield copying.ReaderRow("web", name, self.size // 2)

    def _recorded_in(self, name: str) -> int:
        return self.size // 2 if name == APPS[0] else self.size // 2 // (self.apps - 1)

    def _feeds(self) -> Iterator[copying.FeedRow]:
        for name in self.names:
            yield copying.FeedRow(name, self._recorded_in(name), 1)

    def _feed_entries(self) -> Iterator[copying.FeedEntryRow]:
        for name in self.names:
            for n in range(1, self._recorded_in(name) + 1):
                date = self._date - self.size + n
                yield copying.FeedEntryRow(
                    name, n, n, n.to_bytes(32, "big"), bytes(16), State.ACCEPTED, 200, "", None, 1, date, date, None
                )

    def _feed_readers(self) -> Iterator[copying.FeedReaderRow]:
        for name in self.names:
            yield copying.FeedReaderRow("web", name, self._recorded_in(name) // 2)

    def _tokens(self) -> Iterator[copying.TokenRow]:
        for n in range(self.size):
            yield copying.TokenRow(self.app(n), n.to_bytes(32, "big"), 1 + n % 3, self._date + n)


_MADE: Mapping[type[Any], Callable[[Crowd], Iterator[Any]]] = {
    copying.AppRow: Crowd._apps,
    copying.SandboxRow: Crowd._sandboxes,
    copying.PauseRow: Crowd._pauses,
    copying.APIKeyRow: Crowd._keys,
    copying.QueueRow: Crowd._queues,
    copying.MessageRow: Crowd._messages,
    copying.NotificationRow: Crowd._notifications,
    copying.IdempotencyRow: Crowd._idempotency_keys,
    copying.DeadTokenRow: Crowd._dead_tokens,
    copying.ReaderRow: Crowd._readers,
    copying.FeedRow: Crowd._feeds,
    copying.FeedEntryRow: Crowd._feed_entries,
    copying.FeedReaderRow: Crowd._feed_readers,
    copying.TokenRow: Crowd._tokens,
}
