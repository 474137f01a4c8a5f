"""
Goals that are ratios, and how they are measured on a machine that others use as well.

The two sides of a ratio are measured in the same round, one right after the other, and take turns at being first; the
figure of a row is the median of its rounds. Beside each is what the rest of the machine did meanwhile.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import attrs

T = TypeVar("T")
_TICKS = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Goal:
    """
    A row of the table.

    :ivar name: what it is called on the command line.
    :ivar says: what the figure is.
    :ivar wanted: its bound.
    :ivar unit: its unit; a ratio has none.
    :ivar at_least: whether the bound is a lower one.
    """

    name: str
    says: str
    wanted: float
    unit: str = ""
    at_least: bool = False

    def reached(self, figure: float) -> bool:
        """Tell whether a figure is within the bound."""
        return figure >= self.wanted if self.at_least else figure <= self.wanted

    @property
    def bound(self) -> str:
        """Write the bound."""
        return f"{'≥' if self.at_least else '≤'} {self.wanted:g} {self.unit}".strip()


@attrs.frozen
class Sample:
    """
    What a round found for a goal.

    :ivar parts: what the figure is made of, with the unit in the name: ``{"send, µs": 8.1, "h2load, µs": 2.9}``.
    """

    figure: float
    parts: Mapping[str, float] = attrs.Factory(dict)


@attrs.frozen
class Settings:
    """
    How to measure.

    :ivar rounds: how many rounds there are.
    :ivar quick: whether the counts are so small that only the machinery is tried.
    :ivar directory: where databases are made, on a disk.
    """

    rounds: int
    quick: bool
    directory: Path

    def count(self, usual: int, least: int = 1) -> int:
        """Return how many to send where there would usually be so many."""
        return max(least, usual // 100) if self.quick else usual


@attrs.frozen
class Experiment:
    """
    What is measured together.

    :ivar goals: the rows that it fills.
    :ivar run: yields once for each round: a sample for each goal, by name. A goal without a sample is not measured.
    :ivar needs: each returns what is missing on this machine; an empty text if nothing is.
    """

    goals: tuple[Goal, ...]
    run: Callable[[Settings], Iterator[Mapping[str, Sample]]]
    needs: tuple[Callable[[], str], ...] = ()


@attrs.frozen
class Row:
    """
    A measured row.

    :ivar samples: what the rounds found.
    :ivar others: how many cores everything else on the machine used in each round.
    :ivar seconds: how long the experiment took.
    :ivar missing: why it was not measured; an empty text if it was.
    """

    goal: Goal
    samples: tuple[Sample, ...] = ()
    others: tuple[float, ...] = ()
    seconds: float = 0.0
    missing: str = ""

    @property
    def figure(self) -> float:
        """The median of the rounds."""
        return statistics.median(sample.figure for sample in self.samples)

    @property
    def reached(self) -> bool:
        """Whether the median is within the bound."""
        return self.goal.reached(self.figure)

    @property
    def parts(self) -> dict[str, float]:
        """The medians of what the figure is made of."""
        names = self.samples[0].parts
        return {name: statistics.median(sample.parts[name] for sample in self.samples) for name in names}


def shown(figure: float) -> str:
    """Write a figure with three digits, or all of those before the point."""
    return f"{figure:,.{0 if figure >= 100 else 1 if figure >= 10 else 2}f}"


def alternating(number: int, sides: Mapping[str, Callable[[], T]]) -> dict[str, T]:
    """Measure each side: in their order in even rounds, and in the reverse in odd ones."""
    names = list(sides)
    found = {name: sides[name]() for name in (reversed(names) if number % 2 else names)}
    return {name: found[name] for name in names}


def ratio(above: float, below: float, unit: str, names: tuple[str, str]) -> Sample:
    """Make a sample of a ratio and its two sides."""
    return Sample(above / below, {f"{names[0]}, {unit}": above, f"{names[1]}, {unit}": below})


def measured(experiment: Experiment, settings: Settings) -> Iterator[Row]:
    """Measure an experiment, and yield its rows; nothing but a missing program keeps a row from being measured."""
    missing = next(filter(None, (need() for need in experiment.needs)), "")
    if missing:
        yield from (Row(goal, missing=missing) for goal in experiment.goals)
        return
    samples: dict[str, list[Sample]] = {goal.name: [] for goal in experiment.goals}
    others: list[float] = []
    began = time.monotonic()
    rounds = experiment.run(settings)
    while True:
        load = Load()
        found = next(rounds, None)
        if found is None:
            break
        others.append(load.others())
        for name, sample in found.items():
            samples[name].append(sample)
    took = time.monotonic() - began
    for goal in experiment.goals:
        why = "" if samples[goal.name] else "nothing to measure here"
        yield Row(goal, tuple(samples[goal.name]), tuple(others), took, why)


class Load:
    """What the rest of the machine does from now on, by Linux's ``/proc``; nothing is known of other systems."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.monotonic(), _busy(), _own()

    def others(self) -> float:
        """Return how many cores other processes have used so far, on the average, and what a host took away."""
        took = time.monotonic() - self._began
        return max(0.0, (_busy() - self._busy) - (_own() - self._own)) / took


def _busy() -> float:
    """Return the CPU seconds of all processes, with those that the host of a virtual machine did not give it."""
    try:
        user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    except OSError:
        return 0.0
    return (user + nice + system + sum(rest)) / _TICKS


def _own() -> float:
    """Return the CPU seconds of this process and those that it started, also of those that have ended."""
    parents, spent = {}, {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        parents[int(status.parent.name)] = int(fields[1])
        spent[int(status.parent.name)] = sum(map(int, fields[11:15])) / _TICKS

    def ours(process: int) -> bool:
        while process not in (0, os.getpid()):
            process = parents.get(process, 0)
        return process != 0

    return sum(seconds for process, seconds in spent.items() if ours(process))
