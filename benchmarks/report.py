"""What ``benchmarks/goals.py`` writes: JSON, a plot, and a page for the documentation."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from xml.sax.saxutils import escape

import attrs
from rounds import Row, shown

__all__ = ["line", "write_json", "write_page", "write_plot"]

#: The size of the plot: the width of the texts, of the bars, and the height of a row, in pixels.
_TEXT, _BARS, _HEIGHT = 560, 320, 22
#: How many times better or worse than the bound a figure at the edge of the plot is.
_EDGE = 8.0
#: How many of the parts of a figure are printed, the largest first if there are more; JSON has all.
_PARTS = 4


_HEAD = """\
.. Written by ``make DOCS=docs bench``. Change benchmarks/report.py instead.

The goals of speed
==================

Measured on {today}: {machine}. Medians of {rounds} rounds, with the range; what is in bold missed its
goal. CPU times are those of a notification. The other load is how many cores the rest of the machine used meanwhile.
`Performance <performance.rst>`_ and `Performance of the daemon <daemon-performance.rst>`_ say how it is measured, and
what was tried and did not help.

.. image:: goals.svg
   :alt: How far each figure is from its goal.

.. list-table::
   :header-rows: 1
   :widths: 34 10 22 22 12
"""


def line(row: Row) -> str:
    """Write a row for a terminal."""
    if row.missing:
        return f"{row.goal.name:12} {row.goal.bound:>9}  not measured: {row.missing}"
    values = [sample.figure for sample in row.samples]
    return (
        f"{row.goal.name:12} {row.goal.bound:>9}  {'pass' if row.reached else 'FAIL'} {_figure(row):>9} "
        f"({shown(min(values))} to {shown(max(values))})  others {_others(row):.1f} cores  {_parts(row)}"
    )


def machine() -> str:
    """Describe the machine."""
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def write_json(rows: Sequence[Row], path: Path) -> None:
    """Write everything that was found."""
    found = {
        "date": _today(),
        "machine": machine(),
        "rows": [
            attrs.asdict(row) | ({} if row.missing else {"figure": row.figure, "reached": row.reached}) for row in rows
        ],
    }
    path.write_text(json.dumps(found, indent=1) + "\n")


def write_page(rows: Sequence[Row], path: Path) -> None:
    """Write the page of the documentation."""
    rounds = max((len(row.samples) for row in rows), default=0)
    lines = [*_HEAD.format(today=_today(), machine=machine(), rounds=rounds).splitlines(), ""]
    cells = [("What", "Goal", "Measured", "Made of", "Other load")]
    for row in rows:
        if row.missing:
            cells.append((row.goal.says, row.goal.bound, f"not measured: {row.missing}", "", ""))
            continue
        values = [sample.figure for sample in row.samples]
        figure = _figure(row) if row.reached else f"**{_figure(row)}**"
        found = f"{figure} ({shown(min(values))} to {shown(max(values))})"
        cells.append((row.goal.says, row.goal.bound, found, _parts(row), f"{_others(row):.1f}"))
    for first, *rest in cells:
        lines += [f"   * - {first}", *(f"     - {each}".rstrip() for each in rest)]
    path.write_text("\n".join(lines) + "\n")


def write_plot(rows: Sequence[Row], path: Path) -> None:
    """Plot how far each figure is from its bound: bars to the right are better, by a logarithmic scale."""
    rows = [row for row in rows if not row.missing]
    width, height, middle = _TEXT + _BARS + 150, _HEIGHT * (len(rows) + 2), _TEXT + _BARS / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        "<style>text { font-size: 12px }</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{middle - 6}" y="15" text-anchor="end" fill="#666">missed</text>',
        f'<text x="{middle + 6}" y="15" fill="#666">reached</text>',
    ]
    for number, row in enumerate(rows):
        top, length = _HEIGHT * (number + 1), _length(row)
        color = "#2a9d8f" if row.reached else "#d1495b"
        x = middle + min(length, 0.0)
        parts += [
            f'<text x="{_TEXT - 8}" y="{top + 15}" text-anchor="end">{escape(row.goal.says)}</text>',
            f'<rect x="{x:.1f}" y="{top + 4}" width="{abs(length):.1f}" height="{_HEIGHT - 8}" fill="{color}"/>',
            f'<text x="{_TEXT + _BARS + 4}" y="{top + 15}">{escape(f"{_figure(row)} ({row.goal.bound})")}</text>',
        ]
    parts.append(f'<line x1="{middle}" x2="{middle}" y1="20" y2="{height - 8}" stroke="#333"/>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _figure(row: Row) -> str:
    return f"{shown(row.figure)} {row.goal.unit}".strip()


def _today() -> str:
    return datetime.now(timezone.utc).date().isoformat()


def _length(row: Row) -> float:
    """Return how long a row's bar is, in pixels; negative if the bound is missed."""
    better = row.figure / row.goal.wanted if row.goal.at_least else row.goal.wanted / row.figure
    return max(-1.0, min(1.0, math.log(better) / math.log(_EDGE))) * _BARS / 2


def _parts(row: Row) -> str:
    """Write what a figure is made of."""
    found = list(row.parts.items())
    if len(found) > _PARTS:
        found = sorted(found, key=lambda part: -part[1])[:_PARTS]
    texts = []
    for name, value in found:
        what, _, unit = name.rpartition(", ")
        texts.append(f"{what} {shown(value)} {unit}" if what else f"{name} {shown(value)}")
    return "; ".join(texts)


def _others(row: Row) -> float:
    return sum(row.others) / len(row.others)
