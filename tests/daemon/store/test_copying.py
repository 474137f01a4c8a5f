"""Tests for :mod:`txapns.daemon.store.copying`."""

from __future__ import annotations

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.copy_contract import MemoryCopy, contents, copied
from txapns.daemon.store.copying import Copied, QueueRow, copy

__all__ = ["CopyTests"]


class CopyTests(SynchronousTestCase):
    """Copying in memory."""

    @given(contents())
    def test_everything(self, given: MemoryCopy) -> None:
        """All rows of all kinds arrive, and the counters."""
        found = MemoryCopy()
        copied(given, found)
        self.assertEqual((found.contents, found.counters()), (given.contents, given.counters()))

    def test_damaged(self) -> None:
        """What the source leaves out is told."""
        source = MemoryCopy({QueueRow: [QueueRow("chess")]})
        source.damaged["notifications"] = 2
        found = copy(source, MemoryCopy(), lambda *step: None)
        self.assertEqual(found, Copied({**found.counts, "queues": 1}, {"notifications": 2}))
