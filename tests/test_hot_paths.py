"""Tests that no change makes a hot path longer: by calls for each notification, which no other load changes."""

from __future__ import annotations

from unittest import TestCase

import pytest

from tests.hot_paths import FILE, OBJECTS, ROOM, SCENARIOS, VERSION, counted, known

__all__ = ["HotPathTests"]

_RENEW = f"if there is a good reason, run python -m tests.hot_paths with each version of Python in {FILE.name}"


class HotPathTests(TestCase):
    """The figures that are kept."""

    def test_calls(self) -> None:
        """No path makes more calls or objects for a notification than its figure, and a little more, and no cycle."""
        if VERSION not in known():
            pytest.skip(f"tests/{FILE.name} has no figures for Python {VERSION}")
        figures = known()[VERSION]
        assert set(figures) == {*SCENARIOS, *OBJECTS}
        found = {name: round(counted(name), 1) for name in figures}
        longer = {name: (figures[name], now) for name, now in found.items() if now > figures[name] * (1 + ROOM)}
        assert not longer, f"path: (before, now): {longer}; {_RENEW}"

    def test_same(self) -> None:
        """Counting twice finds the same."""
        for name in ("client.send", *OBJECTS):
            assert counted(name) == counted(name)
