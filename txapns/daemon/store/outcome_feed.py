"""
What the outcome feeds of all databases have in common.

Each app has cursors of its own, from 1 on and without gaps. So nobody who settles notifications of one app waits for
another app, an app with many does not push out the entries of others, and how many entries there are is the difference
of two numbers. A reader of several apps has a position in each.
"""

from __future__ import annotations

from txapns.daemon.store.listeners import AppListeners

__all__ = ["MOST_APPS", "Recording", "share"]

#: From how many apps entries are taken, or forgotten, at a time. Which ones is left to chance if there are more.
MOST_APPS = 100


class Recording(AppListeners):
    """
    Which outcomes are recorded, and who wants to know of that.

    :ivar apps: the apps of which they are recorded.
    """

    def __init__(self) -> None:
        super().__init__("outcomes")
        self.apps: frozenset[str] = frozenset()


def share(limit: int, apps: int) -> int:
    """Divide a number of entries among apps: each has at least one."""
    return max(1, limit // max(1, apps))
