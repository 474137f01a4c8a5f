"""
The goals of speed, each a ratio within one run or the time of one step: ``make bench``.

    python benchmarks/goals.py [--list] [--rows NAME ...] [--rounds 5] [--quick] [--json FILE] [--docs DIRECTORY]

Each row is printed with its figure, the median of the rounds, and whether it is within its bound; beside it is what the
rest of the machine did meanwhile, in cores. With five rounds all of it takes about a quarter of an hour. What needs a
program that this machine lacks is left out, and the row says which. ``--quick`` sends so little that the figures mean
nothing: it tries whether the benchmarks work.

``--docs`` writes the page and the plot of the documentation, ``goals.rst`` and ``goals.svg``.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import rows.client
import rows.daemon
import rows.pairs
import rows.starts
import rows.store
from http2 import ENVIRONMENT
from report import line, write_json, write_page, write_plot
from rounds import Experiment, Row, Settings, measured

MODULES = (rows.client, rows.daemon, rows.store, rows.starts, rows.pairs)
EXPERIMENTS = tuple(experiment for module in MODULES for experiment in module.EXPERIMENTS)


def chosen(names: Sequence[str]) -> list[Experiment]:
    """Return the experiments for some rows, by name; for all without any."""
    known = {goal.name for experiment in EXPERIMENTS for goal in experiment.goals}
    if unknown := set(names) - known:
        raise SystemExit(f"there are no rows {', '.join(sorted(unknown))}; see --list")
    return [each for each in EXPERIMENTS if not names or any(goal.name in names for goal in each.goals)]


def run(experiments: Sequence[Experiment], settings: Settings) -> Iterator[tuple[Row, bool]]:
    """Measure, and yield each row, and whether it could be measured; what one experiment raises does not end others."""
    for experiment in experiments:
        try:
            yield from ((row, True) for row in measured(experiment, settings))
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            why = f"{type(error).__name__}: {error}".partition("\n")[0]
            yield from ((Row(goal, missing=why), False) for goal in experiment.goals)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="list the rows, and measure nothing")
    parser.add_argument("--rows", nargs="+", default=[], metavar="NAME", help="measure only these, and what is beside")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="send next to nothing, in one round")
    parser.add_argument("--directory", type=Path, default=ENVIRONMENT, help="where to make databases, on a disk")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--docs", type=Path, help="write goals.rst and goals.svg to this directory")
    return parser.parse_args()


def main() -> None:
    """Measure all, and print."""
    given = arguments()
    experiments = chosen(given.rows)
    if given.list:
        for goal in (goal for experiment in experiments for goal in experiment.goals):
            print(f"{goal.name:12} {goal.bound:>9}  {goal.says}")
        return
    for directory in filter(None, (given.directory, given.docs)):
        directory.mkdir(parents=True, exist_ok=True)
    settings = Settings(1 if given.quick else given.rounds, given.quick, given.directory)
    found, worked, began = [], True, time.monotonic()
    for row, measurable in run(experiments, settings):
        print(line(row), flush=True)
        found.append(row)
        worked = worked and measurable
    reached = [row.reached for row in found if not row.missing]
    print(
        f"{sum(reached)} of {len(reached)} goals reached, {len(found) - len(reached)} not measured, "
        f"in {(time.monotonic() - began) / 60:.0f} minutes"
    )
    if given.json:
        write_json(found, given.json)
    if given.docs:
        write_page(found, given.docs / "goals.rst")
        write_plot(found, given.docs / "goals.svg")
    raise SystemExit(not worked)


if __name__ == "__main__":
    main()
