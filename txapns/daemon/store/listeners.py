"""Those who want to know when dead tokens are noted."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.logger import Logger

__all__ = ["Listeners"]

_log = Logger()


class Listeners:
    """The listeners of a feedback log."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[str], None]] = []

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """See :meth:`IFeedbackLog.subscribe`."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def announce(self, apps: Iterable[str]) -> None:
        """Tell the listeners that tokens of some apps were noted. What one of them raises is logged."""
        for app in apps:
            for listener in list(self._listeners):
                try:
                    listener(app)
                except Exception:
                    _log.failure("{app}: a listener for dead tokens failed", app=app)
