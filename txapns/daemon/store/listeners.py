"""Those who want to know when something happens in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, ParamSpec

from twisted.logger import Logger

__all__ = ["AppListeners", "Listeners"]

_log = Logger()

_P = ParamSpec("_P")


class Listeners(Generic[_P]):
    """
    The listeners for one kind of event. The parameters are those of its listeners.

    :param what: what they listen for, for a person.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._listeners: list[Callable[_P, None]] = []

    @property
    def listened(self) -> bool:
        """Whether anybody wants to know."""
        return bool(self._listeners)

    def subscribe(self, listener: Callable[_P, None]) -> Callable[[], None]:
        """Call a function whenever it happens; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def tell(self, *arguments: _P.args, **named: _P.kwargs) -> None:
        """Tell the listeners. What one of them raises is logged, and keeps no other from being told."""
        for listener in list(self._listeners):
            try:
                listener(*arguments, **named)
            except Exception:
                _log.failure("A listener for {what} failed", what=self._what)


class AppListeners(Listeners[[str]]):
    """The listeners of a log, who want to know of which app there is something new."""

    def announce(self, apps: Iterable[str]) -> None:
        """Tell the listeners that there is something new of some apps."""
        for app in apps:
            self.tell(app)
