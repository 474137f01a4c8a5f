"""Tests for :mod:`txapns._network.forks`: clients in forked processes."""

from __future__ import annotations

import os
import unittest
import warnings
from collections.abc import Callable

from tests.client_case import HELLO, ClientCase, tokens
from txapns import APNSClient, Session
from txapns.errors import ClientElsewhere

__all__ = ["ForkTests"]


@unittest.skipUnless(hasattr(os, "fork"), "there are no forks here")
class ForkTests(ClientCase):
    """A child, where the parent's reactor does not run."""

    def raised(self, work: Callable[[], object]) -> str:
        """Fork; returns what the work raises in the child."""
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the process of the tests has threads
            child = os.fork()
        if not child:
            try:
                try:
                    said = repr(work())
                except Exception as error:
                    said = f"{type(error).__name__}: {error}"
                os.write(writer, said.encode())
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader, closefd=True) as file:  # noqa: PTH123 - a descriptor
            said = file.read()
        os.waitpid(child, 0)
        return said

    def test_running(self) -> None:
        """While the reactor runs, what was made before the fork raises in the child, and goes on in the parent."""
        session = Session(self.simulator.reactor)
        uses: list[Callable[[], object]] = [
            lambda: self.client.send(HELLO, []),
            lambda: self.client.send_many([]),
            lambda: self.client.send_one(HELLO, "aa" * 32),
            lambda: self.client.broadcast(HELLO, "AAAA"),
            self.client.when_ready,
            self.client.feedback,
            self.client.iterate_feedback,
            self.client.status,
            self.client.close,
            lambda: session.client(self.simulator.certificate(), self.simulator.gateway()),
            session.close,
        ]
        self.patch(self.simulator.reactor, "running", True)
        for use in uses:
            self.assertRegex(self.raised(use), "^ClientElsewhere: the (client|session) was made before this process")
        self.assertEqual(self.simulator.result(self.client.send(HELLO, tokens(3))).accepted, 3)

    def test_made_there(self) -> None:
        """What is made in the child does not raise."""
        self.patch(self.simulator.reactor, "running", True)
        certificate, gateway = self.simulator.certificate(), self.simulator.gateway()
        said = self.raised(lambda: APNSClient(self.simulator.reactor, certificate, gateway).status().connections)
        self.assertEqual(said, "('idle',)")

    def test_not_running(self) -> None:
        """A reactor that does not run yet may run in the child: so does twistd when it becomes a daemon."""
        said = self.raised(lambda: self.simulator.result(self.client.send(HELLO, tokens(3))).accepted)
        self.assertEqual(said, "3")

    def test_grandchild(self) -> None:
        """It stays so in further children."""
        self.patch(self.simulator.reactor, "running", True)

        def again() -> str:
            self.simulator.reactor.running = False
            return self.raised(self.client.status)

        self.assertIn(ClientElsewhere.__name__, self.raised(again))
