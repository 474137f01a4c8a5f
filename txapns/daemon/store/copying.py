"""
Copying all that a store keeps into another store, also one of another kind.

A store writes itself out as rows that say nothing of its own tables, and reads such rows in::

    SQLite ──rows──► PostgreSQL
           ◄──rows──

Both stores are closed to daemons meanwhile. The rows pass a batch at a time, so memory stays flat, and come to the
target in one transaction, so an interrupted copy leaves nothing there.

Numbers and cursors stay what they are, and go on after the highest that was ever given. Times are whole milliseconds
since the UNIX epoch, or where the log of dead tokens and the apps have them, seconds. What another program wrote into a
store and this one cannot read is left out, and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, TypeVar

import msgspec
from msgspec import Meta
from msgspec.json import decode
from zope.interface import Attribute, Interface

from txapns.daemon.values import ANYBODY, Lane, State

__all__ = [
    "KEPT",
    "KINDS",
    "APIKeyRow",
    "AppRow",
    "Copied",
    "Counters",
    "DeadTokenRow",
    "FeedEntryRow",
    "FeedReaderRow",
    "FeedRow",
    "ICopy",
    "ICopySource",
    "ICopyTarget",
    "IdempotencyRow",
    "MessageRow",
    "NotificationRow",
    "PauseRow",
    "QueueRow",
    "ReaderRow",
    "Reading",
    "SandboxRow",
    "TokenRow",
    "copy",
]

_BATCH = 1_000  # rows; the largest are messages, with a payload of 4 KiB each

_UUID: TypeAlias = Annotated[bytes, Meta(min_length=16, max_length=16)]
_State: TypeAlias = Annotated[int, Meta(ge=0, le=int(max(State)))]
_Lane: TypeAlias = Annotated[int, Meta(ge=0, le=2)]
_Environment: TypeAlias = Annotated[int, Meta(ge=1, le=2)]
_Count: TypeAlias = Annotated[int, Meta(ge=0)]
_Small: TypeAlias = Annotated[int, Meta(ge=-(2**31), lt=2**31)]
_Date: TypeAlias = Annotated[float, Meta(ge=0, le=253_402_300_799)]  # the last second of the year 9999

_Row = TypeVar("_Row", bound=tuple[Any, ...])


#: The states of notifications that may be sent, if only after an operator retries them.
KEPT = (State.WAITING, State.DEAD)


class Counters(NamedTuple):
    """
    What is not a row.

    :ivar number: the next number of a notification.
    :ivar cursor: the last cursor of a dead token.
    """

    number: _Count
    cursor: _Count


class QueueRow(NamedTuple):
    """An app for which something was accepted once."""

    app: str


class MessageRow(NamedTuple):
    """
    What the notifications of one message share.

    It may be missing if none of them waits or is a dead letter, which may come to wait again.

    :ivar number: the number of its first notification.
    """

    number: int
    headers: dict[str, str]
    payload: bytes
    accepted_at: int


class NotificationRow(NamedTuple):
    """
    A notification for one device, waiting or settled.

    :ivar message: the number of its message.
    :ivar apns_id: the octets of its UUID.
    :ivar due: when it is due, by the store's own clock; of no meaning if it does not wait.
    :ivar timestamp: of no meaning if it waits.
    :ivar not_before: the date before which it is not sent, if it waits.
    :ivar lane: the lane that it waits in, or waited in.
    :ivar caller: the name of the caller it is from.
    :ivar collapse: the hash of its collapse id, if it supersedes others and can be superseded.
    :ivar superseded: 1 if it is superseded although it is not settled as that, otherwise 0.
    :ivar environment: the environment whose answer is its outcome, if the app has two sides.
    """

    number: int
    message: int
    app: str
    token: bytes
    apns_id: _UUID
    due: int
    state: _State
    attempts: _Small
    status: _Small
    reason: str
    timestamp: int | None
    accepted_at: int
    settled_at: int | None
    unique_id: str | None = None
    not_before: int | None = None
    lane: _Lane = Lane.NORMAL.value
    caller: str = ANYBODY.name
    collapse: int | None = None
    superseded: Annotated[int, Meta(ge=0, le=1)] = 0
    environment: _Environment | None = None


class IdempotencyRow(NamedTuple):
    """
    A request that is recognized if it is repeated.

    :ivar counts: how many devices each of its messages is for.
    :ivar apns_ids: the octets of their UUIDs, in order.
    :ivar first: the number of the first notification.
    """

    owner: str
    key: str
    digest: bytes
    counts: list[_Small]
    apns_ids: bytes
    noted_at: int
    first: int


class DeadTokenRow(NamedTuple):
    """An entry of the feedback log."""

    cursor: int
    app: str
    token: bytes
    reason: str
    timestamp: _Date
    noted_at: _Date


class ReaderRow(NamedTuple):
    """How far a reader of the feedback log has come; with an empty app, in the log of all apps."""

    reader: str
    app: str
    cursor: int


class AppRow(NamedTuple):
    """
    An app with its credential, which stays encrypted with the same master key.

    :ivar settings: :class:`~txapns.daemon.store.apps.AppSettings`, in JSON.
    """

    name: str
    settings: bytes
    encrypted: bytes
    kind: Literal["certificate", "key"]
    fingerprint: str
    expires: _Date | None
    created_at: _Date
    changed_at: _Date


class SandboxRow(NamedTuple):
    """The credential of an app's sandbox side, if it has one of its own; it stays encrypted."""

    name: str
    encrypted: bytes
    kind: Literal["certificate", "key"]
    fingerprint: str
    expires: _Date | None
    changed_at: _Date


class FeedRow(NamedTuple):
    """
    How far the outcome feed of an app has come.

    :ivar cursor: the last that was given.
    :ivar first: the first that is not forgotten.
    """

    app: str
    cursor: int
    first: int


class FeedEntryRow(NamedTuple):
    """
    An entry of an outcome feed.

    :ivar headers: the header fields of a broadcast, in JSON, which name its channel.
    """

    app: str
    cursor: int
    number: int
    token: bytes
    apns_id: _UUID
    state: _State
    status: _Small
    reason: str
    timestamp: int | None
    attempts: _Small
    accepted_at: int
    settled_at: int
    unique_id: str | None
    environment: _Environment | None = None
    headers: str | None = None


class FeedReaderRow(NamedTuple):
    """How far a reader of an app's outcome feed has come."""

    reader: str
    app: str
    cursor: int


class TokenRow(NamedTuple):
    """What is known of the environment of a device token, and until when that counts."""

    app: str
    token: bytes
    kind: Annotated[int, Meta(ge=1, le=3)]
    until: int


class PauseRow(NamedTuple):
    """An app that is paused, whether its row is here or in the configuration."""

    name: str
    since: _Date
    caller: str


class APIKeyRow(NamedTuple):
    """
    An API key; ``None`` stands for all apps.

    :ivar manage: 1 if it may manage, otherwise 0.
    :ivar lane: the lane that it is bound to; ``None`` if it is not.
    """

    id: str
    label: str
    digest: bytes
    send: list[str] | None
    feedback: list[str] | None
    manage: Annotated[int, Meta(ge=0, le=1)]
    created_at: _Date
    lane: _Lane | None = None


#: What a store consists of, in an order in which it can be written, and what each is called for a person.
KINDS: Mapping[type[Any], str] = {
    AppRow: "apps",
    SandboxRow: "credentials of sandbox sides",
    PauseRow: "pauses",
    APIKeyRow: "keys",
    QueueRow: "queues",
    MessageRow: "messages",
    NotificationRow: "notifications",
    IdempotencyRow: "idempotency keys",
    DeadTokenRow: "dead tokens",
    ReaderRow: "positions of readers",
    FeedRow: "outcome feeds",
    FeedEntryRow: "recorded outcomes",
    FeedReaderRow: "positions in outcome feeds",
    TokenRow: "environments of tokens",
}


class ICopySource(Interface):
    """A store to copy from, which no daemon has open meanwhile."""

    damaged: Counter[str] = Attribute("How many rows of which kind were left out, because they cannot be read.")

    def counters() -> Counters:
        """Read what is not a row."""

    def count(kind: type[Any]) -> int:
        """Count the rows of a kind."""

    def rows(kind: type[_Row]) -> Iterator[_Row]:
        """Read the rows of a kind, those with numbers in their order."""


class ICopyTarget(Interface):
    """A store to copy to, in one transaction."""

    def occupied() -> list[str]:
        """Say what kinds of rows it has already."""

    def add(kind: type[_Row], rows: Sequence[_Row]) -> None:
        """Write rows of a kind."""

    def finish(counters: Counters) -> None:
        """Go on counting where the source has come to, or from higher, if this store has counted further."""


class ICopy(ICopySource, ICopyTarget):
    """A store that is open for copying."""


class Reading:
    """
    Makes rows of what was read from a store, and leaves out what cannot be read.

    :ivar damaged: how many rows of which kind were left out.
    """

    def __init__(self) -> None:
        self.damaged: Counter[str] = Counter()
        self._lost: set[int] = set()  # messages

    def rows_of(self, kind: type[_Row], found: Iterable[Sequence[Any]], json: Collection[int] = ()) -> Iterator[_Row]:
        """
        Make rows of a kind.

        :param found: of each row its values.
        :param json: the positions of values that are JSON.
        """
        for values in found:
            try:
                decoded = [
                    decode(value) if n in json and value is not None else value for n, value in enumerate(values)
                ]
                # Otherwise a text where there should be octets would be taken for them in base64.
                row = msgspec.convert(decoded, kind, builtin_types=(bytes,))
                self._check(row)
            except (TypeError, msgspec.MsgspecError):
                self.damaged[KINDS[kind]] += 1
                if kind is MessageRow:
                    self._lost.add(values[0])
            else:
                yield row

    def _check(self, row: tuple[Any, ...]) -> None:
        """Find what is not JSON, though that shows only later; and what would not be sent as it was accepted."""
        if isinstance(row, AppRow):
            decode(row.settings)
        elif isinstance(row, NotificationRow) and row.message in self._lost and row.state in KEPT:
            raise msgspec.ValidationError("its message cannot be read")


class Copied(NamedTuple):
    """How many rows of which kind were copied, and how many were left out because they cannot be read."""

    counts: Mapping[str, int]
    damaged: Mapping[str, int]


def copy(source: ICopySource, target: ICopyTarget, progress: Callable[[str, int, int], None]) -> Copied:
    """
    Copy everything. The caller commits.

    :param target: an empty store.
    :param progress: called after each batch with what is copied, how many rows were, and of how many.
    """
    counts: dict[str, int] = {}
    for kind, name in KINDS.items():
        total, done = source.count(kind), 0
        rows = source.rows(kind)
        while batch := list(islice(rows, _BATCH)):
            target.add(kind, batch)
            done += len(batch)
            progress(name, done, total)
        counts[name] = done
    target.finish(source.counters())
    return Copied(counts, dict(source.damaged))
