"""Tests for :mod:`txapns.daemon.store.workers`."""

from __future__ import annotations

import sqlite3
import threading

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from tests.daemon.fakes import InlineWorker
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.workers import IWorker, ThreadWorker

__all__ = ["InterfaceTests", "ThreadTests"]


class ThreadTests(TestCase):
    """Threads of the reactor."""

    def test_threads(self) -> None:
        """Writes and reads each have a thread, and results arrive in the reactor's."""
        database = Database(self.mktemp(), reactor)  # type: ignore[arg-type]
        verifyObject(IWorker, worker := ThreadWorker(reactor, "one"))
        worker.stop()
        names: list[str] = []

        def name(connection: sqlite3.Connection) -> str:
            return threading.current_thread().name

        def arrived(found: list[str]) -> Deferred[None]:
            names.extend([*found, threading.current_thread().name])
            return database.stop()

        def check(_: object) -> None:
            self.assertEqual(names[0], names[1])
            self.assertEqual(len(set(names)), 3)
            self.assertEqual(names[3], threading.main_thread().name)

        return (
            database.start()
            .addCallback(lambda _: gatherResults([database.write(name), database.between(name), database.read(name)]))
            .addCallback(arrived)
            .addCallback(check)
        )

    def test_in_order(self) -> Deferred[None]:
        """Functions run one after the other, also if one raises; the worker ends when it has run them all."""
        worker = ThreadWorker(reactor, "one")
        begin = threading.Event()
        names: list[tuple[str, str]] = []
        found: list[str] = []

        def name(text: str) -> str:
            begin.wait(60.0)
            names.append((text, threading.current_thread().name))
            return text

        def fail() -> None:
            raise LookupError("b")

        for function in (lambda: name("a"), fail, lambda: name("c")):
            worker.run(function).addErrback(lambda failure: failure.getErrorMessage()).addCallback(found.append)
        last = worker.run(lambda: name("d"))
        begin.set()
        worker.stop()
        self.assertEqual(names, [("a", "one"), ("c", "one"), ("d", "one")])
        self.assertEqual(found, [])  # results arrive in a later turn of the reactor
        return last.addCallback(lambda text: self.assertEqual([*found, text], ["a", "b", "c", "d"]))


class InterfaceTests(SynchronousTestCase):
    """The workers of tests."""

    def test_interface(self) -> None:
        """The worker without a thread is a worker, too."""
        verifyObject(IWorker, InlineWorker())
