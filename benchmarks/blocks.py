"""
What another layout of SQLite's queue would cost: ``python benchmarks/blocks.py [--help]``.

Two layouts, in files of their own, tuned alike, each in turn:

- rows: today's tables and statements, a row for each notification;
- blocks: a prototype, in which notifications that are accepted together are one row: a *block*, with their payloads,
  tokens and ids in blobs. It is leased in parts, which are remembered in memory. What Apple accepted of it is noted as
  ranges of numbers, and counted off in the block's row. What comes out otherwise has a row of its own.

A cycle is a notification accepted, leased and settled. Requests of 100 tokens are stored 8 at a time, those of one
token 28 at a time, and up to 500 notifications are leased and settled together. CPU times are those of the thread,
with the commits, without the packing of requests, which is the same. Leases read the database in both layouts, as they
do after a restart.

The prototype finds no notification by its id or token, supersedes nothing, and forgets nothing.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from twisted.internet.task import Clock

from txapns._network.clocks import wall_clock
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.store.acceptance import Acceptance, pack, uuid_texts
from txapns.daemon.store.settlement import Report
from txapns.daemon.store.sqlite.acceptance import add
from txapns.daemon.store.sqlite.reading import Damaged, find_due, read_messages
from txapns.daemon.store.sqlite.settlement import conclude
from txapns.daemon.store.sqlite.tables import QUEUE, QueueState, array
from txapns.daemon.store.sqlite.timeline import Timeline
from txapns.daemon.values import Content, Lane, Leased, Message, Settlement, State

PAYLOAD = (
    b'{"aps":{"alert":{"title":"Your move","body":"Queen takes d5. It is your turn."},"badge":1,"sound":"default"}}'
)
HEADERS = {"apns-topic": "com.example.chess", "apns-push-type": "alert"}
SETTINGS = ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 4000", "temp_store = MEMORY")
#: How many requests are stored together, by their size; and how many notifications are leased together.
TOGETHER, CHUNK = {100: 8, 1: 28}, 500
#: Of how many notifications one is rejected, where some are.
REJECTED = 100

_BLOCKS = """
CREATE TABLE block (
    number INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    app INTEGER NOT NULL,
    flow INTEGER NOT NULL,
    due INTEGER NOT NULL,
    waiting INTEGER NOT NULL
);
CREATE INDEX block_waiting ON block (flow, due, number) WHERE waiting > 0;
CREATE TABLE content (
    number INTEGER PRIMARY KEY,
    headers TEXT NOT NULL,
    accepted_at INTEGER NOT NULL,
    each INTEGER NOT NULL,
    lengths TEXT NOT NULL,
    payloads BLOB NOT NULL,
    widths TEXT NOT NULL,
    tokens BLOB NOT NULL,
    apns_ids BLOB NOT NULL
);
CREATE TABLE accepted (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, settled_at INTEGER NOT NULL);
CREATE TABLE other (
    number INTEGER PRIMARY KEY,
    state INTEGER NOT NULL,
    status INTEGER NOT NULL,
    reason TEXT NOT NULL,
    due INTEGER,
    attempts INTEGER NOT NULL,
    settled_at INTEGER
);
CREATE INDEX other_waiting ON other (due, number) WHERE state = 0
"""

_FIND_BLOCK = """
SELECT block.number, due, count, headers, accepted_at, each, lengths, payloads, widths, tokens, apns_ids
FROM block JOIN content ON content.number = block.number
WHERE waiting > 0 AND flow = ? AND (due, block.number) > (?, ?) AND due <= ? ORDER BY due, block.number LIMIT 1
"""

_COUNT_OFF = """
UPDATE block SET waiting = waiting - json_extract(each.value, '$[1]') FROM json_each(?) AS each
WHERE number = json_extract(each.value, '$[0]')
"""

_NOTE_ACCEPTED = """
INSERT INTO accepted SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), ? FROM json_each(?)
"""

_NOTE_OTHERS = """
INSERT INTO other SELECT
    json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
    NULL, 1, ?
FROM json_each(?)
"""

_integers = msgspec.json.Decoder(list[int]).decode
_fields = msgspec.json.Decoder(dict[str, str]).decode


class Rows:
    """Today's layout."""

    tables = ";\n".join(QUEUE.steps)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.timeline = Timeline(Clock())
        self.state = QueueState(self.timeline)
        self.state.flow_apps[1] = "chess"

    def accept(self, acceptances: list[Acceptance]) -> None:
        """Store requests."""
        add(self.connection, acceptances)

    def lease(self, due: int, count: int) -> list[Leased]:
        """Lease what is next."""
        found = find_due(self.connection, 1, self.state.leases.mark(1), due, [], count)
        assert not isinstance(found, Damaged)
        messages = set(found.messages)
        leased = found.leased(read_messages(self.connection, self.timeline, "chess", Lane.NORMAL, messages))
        self.state.leases.lend(1, found.dues, found.numbers, 1e9)
        return leased

    def settle(self, accepted: list[int], others: list[Settlement], date: int) -> None:
        """Settle notifications."""
        conclude(self.connection, [Report(others, date, accepted)], self.state)

    def settled(self, accepted: list[int], others: list[Settlement]) -> None:
        """Take note of what is committed."""
        self.state.leases.drop(accepted)
        self.state.leases.drop([each.number for each in others])


class Blocks:
    """A row for what was accepted together."""

    tables = _BLOCKS

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.mark = (0, 0)
        self.rest: list[Leased] = []  # of the block that is leased in part
        self.starts: dict[int, int] = {}  # the block of each notification that is leased

    def accept(self, acceptances: list[Acceptance]) -> None:
        """Store requests, which are alike, as one block."""
        first, blocks = acceptances[0], [block for each in acceptances for block in each.blocks]
        widths = [width for block in blocks for width in block.widths]
        payloads = [payload for block in blocks for payload in block.payloads]
        number, count = first.first, len(widths)
        self.connection.execute("INSERT INTO block VALUES (?, ?, 1, 1, ?, ?)", [number, count, first.due, count])
        joined = [b"".join(payloads), array(widths), b"".join([block.tokens for block in blocks])]
        ids = b"".join([block.apns_ids for block in blocks])
        given = [number, blocks[0].headers, first.date, blocks[0].each, array(list(map(len, payloads))), *joined, ids]
        self.connection.execute("INSERT INTO content VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", given)

    def lease(self, due: int, count: int) -> list[Leased]:
        """Lease what is next."""
        found: list[Leased] = []
        while len(found) < count:
            if not self.rest:
                row = self.connection.execute(_FIND_BLOCK, [1, *self.mark, due]).fetchone()
                if row is None:
                    break
                self.rest = self._cut(*row)
                self.mark = row[1], row[0]
                self.starts.update(dict.fromkeys([each.number for each in self.rest], row[0]))
            some = self.rest[: count - len(found)]
            self.rest = self.rest[len(some) :]
            found += some
        return found

    def _cut(
        self, number: int, due: int, count: int, headers: str, date: int, each: int, *packed: bytes
    ) -> list[Leased]:
        """Make values of a block."""
        lengths, payloads, widths, tokens, apns_ids = packed
        content, bodies, start = Content("chess", _fields(headers)), [], 0
        for length in _integers(lengths):
            bodies += [payloads[start : start + length]] * each
            start += length
        ends = list(itertools.accumulate(_integers(widths), initial=0))
        cut = [tokens[start:end] for start, end in itertools.pairwise(ends)]
        numbers, shared = range(number, number + count), itertools.repeat(content)
        same = [itertools.repeat(value) for value in (0, date / 1000, 0.0)]
        return list(map(Leased, numbers, shared, bodies, cut, uuid_texts(apns_ids), *same))

    def settle(self, accepted: list[int], others: list[Settlement], date: int) -> None:
        """Settle notifications."""
        counts: dict[int, int] = {}
        for number in itertools.chain(accepted, [each.number for each in others]):
            start = self.starts[number]
            counts[start] = counts.get(start, 0) + 1
        self.connection.execute(_COUNT_OFF, [array(list(counts.items()))])
        self.connection.execute(_NOTE_ACCEPTED, [date, array(list(ranges(accepted)))])
        if others:
            rows = [(each.number, int(each.state), each.status, each.reason) for each in others]
            self.connection.execute(_NOTE_OTHERS, [date, array(rows)])

    def settled(self, accepted: list[int], others: list[Settlement]) -> None:
        """Take note of what is committed."""
        for number in accepted:
            del self.starts[number]
        for each in others:
            del self.starts[each.number]


def ranges(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Find the ranges of numbers that follow one another: the first and the last of each."""
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


class Requests:
    """Requests that came together, one group after the other."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.number = 1
        self.clock = Clock()
        self.clock.advance(time.time())
        self.time = Timeline(self.clock)
        self.ids = Identifiers(wall_clock(self.clock))

    def group(self) -> list[Acceptance]:
        """Make the next group."""
        found = []
        date = self.time.date()
        for _ in range(TOGETHER[self.size]):
            tokens = [os.urandom(32) for _ in range(self.size)]
            blocks = pack([Message("chess", PAYLOAD, HEADERS, tokens, self.ids.take(self.size))], self.time)
            found.append(Acceptance(blocks, None, date, self.number, {"chess": 1}, {("chess", 1, "anybody"): 1}))
            found[-1].first = self.number
            self.number += self.size
        return found


def run(layout: type[Rows] | type[Blocks], size: int, count: int, rejected: bool, directory: Path) -> list[float]:
    """Run some cycles; returns the microseconds of CPU time to accept, lease and settle, and the octets of the file."""
    path = Path(tempfile.mkdtemp(dir=directory))
    connection = sqlite3.connect(path / "queue", isolation_level=None)
    for statement in (*[f"PRAGMA {setting}" for setting in SETTINGS], *layout.tables.split(";\n")):
        connection.execute(statement)
    store, requests = layout(connection), Requests(size)
    spent = [0.0, 0.0, 0.0]
    while requests.number <= count:
        group = requests.group()
        started = time.thread_time()
        connection.execute("BEGIN IMMEDIATE")
        store.accept(group)
        connection.execute("COMMIT")
        spent[0] += time.thread_time() - started
        while True:
            started = time.thread_time()
            leased = store.lease(requests.number, CHUNK)
            spent[1] += time.thread_time() - started
            if not leased:
                break
            bad = {each.number for each in leased if rejected and each.number % REJECTED == 0}
            started = time.thread_time()
            accepted = [each.number for each in leased if each.number not in bad]
            others = [Settlement(number, State.REJECTED, 400, "BadTopic") for number in sorted(bad)]
            connection.execute("BEGIN IMMEDIATE")
            store.settle(accepted, others, requests.time.date())
            connection.execute("COMMIT")
            store.settled(accepted, others)
            spent[2] += time.thread_time() - started
    connection.close()
    octets = (path / "queue").stat().st_size
    shutil.rmtree(path)
    return [each / count * 1e6 for each in spent] + [octets / count]


def main() -> None:
    """Measure both in turn, and print the medians."""
    parser = argparse.ArgumentParser(description="Measure two layouts of SQLite's queue.")
    parser.add_argument("--count", type=int, default=80_000, help="how many cycles a turn has")
    parser.add_argument("--rounds", type=int, default=5, help="how many turns each layout has")
    parser.add_argument("--directory", type=Path, help="where to make the databases, on a disk")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.directory) as directory:
        for size, rejected in itertools.product(TOGETHER, (False, True)):
            count = given.count if size > 1 else given.count // 5
            turns: dict[str, list[list[float]]] = {"rows": [], "blocks": []}
            for _ in range(given.rounds):
                turns["rows"].append(run(Rows, size, count, rejected, Path(directory)))
                turns["blocks"].append(run(Blocks, size, count, rejected, Path(directory)))
            for name, found in turns.items():
                accept, lease, settle, octets = [statistics.median(column) for column in zip(*found, strict=True)]
                print(
                    f"requests of {size:3}, {1 if rejected else 0} % rejected, {name:6}: accept {accept:5.2f}, "
                    f"lease {lease:5.2f}, settle {settle:5.2f}, all {accept + lease + settle:5.2f} µs, "
                    f"{octets:4.0f} octets",
                    flush=True,
                )


if __name__ == "__main__":
    main()
