"""Tests for :mod:`txapns.daemon.store.group_commit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import InlineWorker, SlowWorker
from txapns.daemon.errors import Unavailable
from txapns.daemon.store.group_commit import GroupCommit

__all__ = ["GroupCommitTests"]


class Words:
    """
    A database that is a list of words; an :exc:`OSError` means that it cannot store any now.

    :ivar room: how many words there is room for.
    :ivar commits: the words after each transaction.
    :ivar disk: the words that are on the disk.
    :ivar failing: why they cannot be brought there; empty if they can.
    :ivar told: what was told of the ends of transactions.
    """

    def __init__(self) -> None:
        self.words: list[str] = []
        self.room = 1000
        self.commits: list[list[str]] = []
        self.disk: list[str] = []
        self.failing = ""
        self.told: list[tuple[str, bool]] = []

    def commit(self, work: Callable[[list[str]], None], new: bool, durable: bool) -> None:
        """See :class:`Transactions`."""
        words = list(self.words)
        work(words)
        if len(words) > self.room:
            raise OSError("no room")
        self.words = words
        self.commits.append(words)
        if durable:
            self.disk = words

    def sync(self) -> str:
        """See :class:`Transactions`."""
        self.disk = self.disk if self.failing else self.words
        return self.failing

    def explained(self, failure: Failure) -> Failure:
        """See :class:`Transactions`."""
        return Failure(Unavailable(failure.getErrorMessage())) if failure.check(OSError) else failure

    def divisible(self, failure: Failure) -> bool:
        """See :class:`Transactions`."""
        return self.room > 0

    def concluded(self, trouble: str, new: bool) -> None:
        """See :class:`Transactions`."""
        self.told.append((trouble, new))


def add(words: list[str], items: list[str]) -> Sequence[str | Exception]:
    """Add words; one that is there is an error of the transaction, and "nobody" one of its own."""
    for item in items:
        if item in words:
            raise LookupError(item)
        if item != "nobody":
            words.append(item)
    return [KeyError(item) if item == "nobody" else f"{len(items)} {item}" for item in items]


def add_more(words: list[str], items: list[str]) -> Sequence[str | Exception]:
    """Add words in another way."""
    return add(words, items)


class GroupCommitTests(SynchronousTestCase):
    """Writes that share transactions."""

    def setUp(self) -> None:
        """Make a writer."""
        self.clock = Clock()
        self.database = Words()
        self.writes = GroupCommit(self.clock, self.database, 100)
        self.writes.worker = InlineWorker()

    def write(
        self, word: str, size: int = 0, function: Callable[..., Any] = add, *, durable: bool = True
    ) -> Deferred[Any]:
        """Write a word."""
        return self.writes.write_together(function, word, size, durable=durable)

    def test_gathered(self) -> None:
        """What is written in one turn of the reactor is committed at its end, with one call for each function."""
        writing = [self.write("a"), self.write("b"), self.write("c", 1, add_more)]
        self.assertEqual(self.database.commits, [])
        self.clock.advance(0)
        self.assertEqual(self.database.commits, [["a", "b", "c"]])
        self.assertEqual([self.successResultOf(each) for each in writing], ["2 a", "2 b", "1 c"])
        self.assertEqual(self.database.told, [("", True)])

    def test_while_it_writes(self) -> None:
        """What is written during a transaction, or when its results are told, is in the next one, with no timer."""
        writer = self.writes.worker = SlowWorker("writer")
        first = self.write("a")
        first.addCallback(lambda _: self.write("d"))
        self.clock.advance(0)
        waiting = [self.write("b"), self.write("c")]
        self.clock.advance(1)
        self.assertEqual((len(writer.left), self.clock.getDelayedCalls()), (1, []))
        writer.work()
        self.clock.advance(0)
        writer.work()
        self.assertEqual(self.database.commits, [["a"], ["a", "b", "c", "d"]])
        self.assertEqual([self.successResultOf(each) for each in (first, *waiting)], ["3 d", "3 b", "3 c"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_before_the_disk(self) -> None:
        """What need not wait for the disk is told after the commit; the next transaction waits for both."""
        writer = self.writes.worker = SlowWorker("writer")
        first = self.write("a", durable=False)
        first.addCallback(lambda _: self.write("b", durable=False))
        self.clock.advance(0)
        flushing = self.writes.flush()
        writer.step()
        self.assertEqual((self.database.words, self.database.disk), (["a"], []))
        self.assertTrue(first.called)
        self.assertNoResult(flushing)
        self.clock.advance(1)
        writer.step()
        self.assertEqual((self.database.words, self.database.disk), (["a"], ["a"]))
        writer.work()
        self.assertEqual((self.database.words, self.database.disk), (["a", "b"], ["a", "b"]))
        self.successResultOf(flushing)

    def test_before_the_disk_together(self) -> None:
        """Where others that are written together wait for the disk, it waits, too."""
        writer = self.writes.worker = SlowWorker("writer")
        writing = [self.write("a", durable=False), self.write("b")]
        self.clock.advance(0)
        writer.step()
        self.assertEqual([self.successResultOf(each) for each in writing], ["2 a", "2 b"])
        self.assertEqual((self.database.disk, writer.left), (["a", "b"], []))

    def test_disk_fails(self) -> None:
        """If the disk fails after a write was told, that is told, and the next is tried."""
        self.database.failing = "it is broken"
        writing = self.write("a", durable=False)
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(writing), "1 a")
        self.assertEqual(self.database.told, [("", False), ("it is broken", True)])
        self.write("b")
        self.clock.advance(0)
        self.assertEqual(self.database.disk, ["a", "b"])

    def gather(self, words: str) -> SlowWorker:
        """
        Write "a", and while it is written "b". Once "a" is on the disk, write a word in each turn of the reactor from
        the next one on. Returns the writer, which then has been given what was gathered.
        """

        def write(rest: str) -> None:
            if rest:
                self.write(rest[0])
                self.clock.callLater(0, write, rest[1:])

        writer = self.writes.worker = SlowWorker("writer")
        self.write("a").addCallback(lambda _: self.clock.callLater(0, self.clock.callLater, 0, write, words))
        self.clock.advance(0)
        self.write("b")
        writer.work()
        self.clock.advance(0)
        return writer

    def test_gathers_answered(self) -> None:
        """What waited for a transaction waits also for what those who learn of its end write at once."""
        self.gather("cd").work()
        self.assertEqual(self.database.commits, [["a"], ["a", "b", "c", "d"]])

    def test_gathers_few_turns(self) -> None:
        """But it does not wait for long, if there is always more."""
        writer = self.gather("cdefghij")
        self.assertEqual(len(writer.left), 1)
        writer.work()
        self.assertEqual(self.database.commits, [["a"], ["a", "b", "c", "d"]])

    def test_small_before_large(self) -> None:
        """After a transaction with large writes the small ones that wait have one of their own, then it is the rest."""
        many = [self.writes.write_together(add, word, 0, rows=500) for word in "ab"]
        many[0].addCallback(lambda _: [self.write("c"), self.writes.write_together(add, "d", 0, rows=500)])
        many[0].addCallback(lambda _: self.write("e"))
        self.successResultOf(self.writes.flush())
        self.assertEqual(self.database.commits, [["a", "b"], ["a", "b", "c", "e"], ["a", "b", "c", "e", "d"]])

    def test_ordered(self) -> None:
        """What is ordered does not go before what is large and ordered, too; the rest does."""

        def write(words: str) -> None:
            for word in words:  # the large ones are upper-case
                size = 2**17 if word.isupper() else 1
                self.writes.write_together(add, word, size, ordered=word not in "gH")

        self.writes = GroupCommit(self.clock, self.database)
        self.writes.worker = InlineWorker()
        self.write("a", 2**17).addCallback(lambda _: write("bcDEfgH"))
        self.successResultOf(self.writes.flush())
        self.assertEqual(["".join(words) for words in self.database.commits], ["a", "abcg", "abcgDEfH"])

    def test_one_fails(self) -> None:
        """A write that raises is found out, and the others are committed without it."""
        stored: list[list[str]] = []
        words = ["a", "b", "a", "nobody"]
        writing = [self.writes.write_together(add, word, 0, stored.append) for word in words]
        self.successResultOf(self.writes.flush())
        self.assertEqual([self.successResultOf(each) for each in writing[:2]], ["1 a", "1 b"])
        self.failureResultOf(writing[2], LookupError)
        self.failureResultOf(writing[3], KeyError)
        self.assertEqual((self.database.words, self.database.told), (["a", "b"], [("", False)]))
        self.assertEqual(stored, [["a"], ["b"], []])

    def test_no_room(self) -> None:
        """If there is no room for all, what fits is stored; all learn of it before anybody's result."""
        self.database.room = 1
        writing = [self.write("a", 1), self.write("b", 1), self.write("c", 0, add_more)]
        told: list[object] = []
        writing[0].addErrback(lambda failure: told.extend(self.database.told))
        self.successResultOf(self.writes.flush())
        self.failureResultOf(writing[1], Unavailable)
        self.assertEqual((self.successResultOf(writing[2]), told), ("1 c", [("no room", True)]))

    def test_indivisible(self) -> None:
        """If nothing can be stored at all, it is not tried in parts."""
        self.database.room = 0
        writing = [self.write("a"), self.write("b", 0, add_more)]
        self.successResultOf(self.writes.flush())
        for each in writing:
            self.failureResultOf(each, Unavailable)
        self.assertEqual((self.database.commits, self.database.told), ([], [("no room", False)]))

    def test_capacity(self) -> None:
        """What waits is bounded, except for what must be tried."""
        first, must = self.write("a", 100), self.write("b")
        self.failureResultOf(self.write("c", 1), Unavailable)
        self.successResultOf(self.writes.flush())
        self.assertEqual([self.successResultOf(each) for each in (first, must)], ["2 a", "2 b"])
        again = self.write("c", 1)
        self.successResultOf(self.writes.flush())
        self.assertEqual(self.successResultOf(again), "1 c")

    def test_nothing_waits(self) -> None:
        """A flush ends at once, also without a worker."""
        self.successResultOf(self.writes.flush())
        self.writes.worker = None
        self.successResultOf(self.writes.flush())
