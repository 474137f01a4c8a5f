"""Those who want to know when there is something new in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.logger import Logger

__all__ = ["Listeners"]

_log = Logger()


class Listeners:
    """
    The listeners of a log.

    :param what: what they listen for, for a person.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._listeners: list[Callable[[str], None]] = []

    @property
    def listened(self) -> bool:
        """Whether anybody wants to know."""
        return bool(self._listeners)

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call a function with an app's name whenever there is something new of the app; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def announce(self, apps: Iterable[str]) -> None:
        """Tell the listeners that there is something new of some apps. What one of them raises is logged."""
        for app in apps:
            for listener in list(self._listeners):
                try:
                    listener(app)
                except Exception:
                    _log.failure("{app}: a listener for {what} failed", app=app, what=self._what)
