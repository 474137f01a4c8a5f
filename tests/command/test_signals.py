"""Tests for :mod:`txapns.command.signals`."""

from __future__ import annotations

import signal

import pytest
from twisted.trial.unittest import SynchronousTestCase

from txapns.command.signals import hold_signals, release_signals

__all__ = ["HeldTests"]


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="the platform cannot hold signals")
class HeldTests(SynchronousTestCase):
    """Signals that come early."""

    def test_held(self) -> None:
        """They are delivered when they are released, and from then on at once."""
        found: list[int] = []
        for number in (signal.SIGHUP, signal.SIGUSR1):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
            signal.signal(number, lambda number, frame: found.append(number))
        self.addCleanup(release_signals)
        hold_signals()
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGUSR1)
        self.assertEqual(found, [])
        release_signals()
        self.assertEqual(sorted(found), sorted([signal.SIGHUP, signal.SIGUSR1]))
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual(len(found), 3)
