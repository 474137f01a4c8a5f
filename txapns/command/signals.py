"""
The signals with which operators ask a daemon for something, while it is being imported and starts.

By default they would end the process. They are held instead, and delivered once the daemon heeds them.
"""

from __future__ import annotations

import signal

__all__ = ["hold_signals", "release_signals"]

_HELD = [getattr(signal, name) for name in ("SIGHUP", "SIGUSR1") if hasattr(signal, name)]


def hold_signals() -> None:
    """Hold them from now on, where the platform can; others are delivered as ever."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


def release_signals() -> None:
    """Deliver what was held, and hold nothing more."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
