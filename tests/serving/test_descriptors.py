"""Tests for :mod:`txapns._serving.descriptors`."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from txapns._serving.descriptors import KEPT, OWN, are_left, available, share

__all__ = ["DescriptorTests"]


@contextmanager
def limited(soft: int) -> Iterator[int]:
    """Set a limit for a moment; gives the hard one."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


class DescriptorTests(SynchronousTestCase):
    """File descriptors."""

    def test_raised(self) -> None:
        """The limit is raised to the number that is needed, if it is lower."""
        with limited(200):
            self.assertEqual((available(150), resource.getrlimit(resource.RLIMIT_NOFILE)[0]), (150, 200))
            self.assertEqual((available(300), resource.getrlimit(resource.RLIMIT_NOFILE)[0]), (300, 300))

    def test_not_enough(self) -> None:
        """It is raised only as far as is allowed."""
        with limited(200) as hard:
            self.assertEqual(available(hard + 1), hard)
            self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE)[0], hard)

    def test_share(self) -> None:
        """A shortage is logged, with what can be done about it."""
        with limited(200) as hard:
            self.assertEqual(share(100, 20), 1.0)
            with capturedLogs() as events:
                part = share(2 * hard, 20)
            self.assertApproximates(part, (hard - 20 - OWN - KEPT) / (2 * hard), 1e-9)
            [line] = map(formatEvent, events)
            self.assertIn("LimitNOFILE", line)
            self.assertEqual(share(0, 2 * hard), 0.0)

    def test_last(self) -> None:
        """The last descriptors are reserved, though they are free."""
        with limited(256), ExitStack() as stack:
            count = 0
            while are_left():
                stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
            with contextlib.suppress(OSError):
                while True:
                    stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
                    count += 1
            self.assertFalse(are_left())
        self.assertTrue(are_left())
        self.assertTrue(1 <= count <= KEPT, count)
