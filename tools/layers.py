#!/usr/bin/env python3
"""
The layers of the package: read from docs/architecture.rst and from the imports, and drawn.

usage: python tools/layers.py > docs/layers.svg

The picture has a box for each layer, with lines to those below that it imports. A line that follows from others is left
out.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path

from docutils import nodes
from docutils.core import publish_doctree

__all__ = ["SOURCES", "draw", "imports_of", "layer_of", "layers", "tree_of"]

PROJECT = Path(__file__).parent.parent
#: Where each module is.
SOURCES = {
    ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((PROJECT / "txapns").rglob("*.py"))
}

# In pixels.
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 210, 74, 26, 34, 10
_COLORS = {"txapns.daemon": "#fdf0dc", "txapns.command": "#e9e4f5", "txapns.simulator": "#e3f1e3", "txapns": "#e3edf8"}


def layers() -> list[tuple[str, list[str]]]:
    """Read the table of docs/architecture.rst: the layers from the bottom up, with the modules and packages of each."""
    text = (PROJECT / "docs/architecture.rst").read_text(encoding="utf-8")
    table = next(publish_doctree(text, settings_overrides={"report_level": 4}).findall(nodes.table))
    found = []
    for row in list(table.findall(nodes.row))[1:]:
        name, modules, _ = row.findall(nodes.entry)
        names = [literal.astext() for literal in modules.findall(nodes.literal)]
        found.append((name.astext(), [each if each == "txapns" else f"txapns.{each}" for each in names]))
    return found


def layer_of(module: str, listed: Mapping[str, int]) -> int:
    """
    Find the layer of a module.

    :param module: the module's name.
    :param listed: the number of the layer of each name in the table; the longest that the module begins with decides.
    :returns: the number of its layer.
    :raises KeyError: it is in none.
    """
    name = module
    while name not in listed:
        name, _, _ = name.rpartition(".")
        if name in ("", "txapns"):
            raise KeyError(module)
    return listed[name]


def tree_of(module: str) -> ast.Module:
    """Parse a module."""
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"))


def imports_of(tree: ast.Module) -> set[str]:
    """Find the modules of the package that a module imports, wherever in it, for type checkers also."""
    found = set()
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Import):
            found.update(alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module is not None:
            # "from txapns import errors" is the module txapns.errors, "from txapns import Batch" is txapns itself.
            members = {f"{statement.module}.{alias.name}" for alias in statement.names}
            found.update(member if member in SOURCES else statement.module for member in members)
    return {name for name in found if name in SOURCES}


def _below() -> dict[int, set[int]]:
    """Find which layers each layer imports."""
    listed = {name: number for number, (_, names) in enumerate(layers()) for name in names}
    found: dict[int, set[int]] = {number: set() for number in listed.values()}
    for module in SOURCES:
        number = layer_of(module, listed)
        found[number].update(layer_of(other, listed) for other in imports_of(tree_of(module)))
    return {number: {other for other in others if other < number} for number, others in found.items()}


def _reduced(below: Mapping[int, set[int]]) -> dict[int, set[int]]:
    """Leave out what follows from others."""
    reached: dict[int, set[int]] = {}
    for number in sorted(below):
        reached[number] = below[number].union(*(reached[other] for other in below[number]))
    return {
        number: {other for other in others if not any(other in reached[each] for each in others)}
        for number, others in below.items()
    }


def _places(lines: Mapping[int, set[int]]) -> dict[int, tuple[float, float]]:
    """Put each layer as low as its imports allow, and those of one height side by side."""
    heights: dict[int, int] = {}
    for number in sorted(lines):
        heights[number] = 1 + max((heights[other] for other in lines[number]), default=-1)
    rows: dict[int, list[int]] = {}
    for number, height in heights.items():
        rows.setdefault(height, []).append(number)
    most, top = max(map(len, rows.values())), max(rows)
    places = {}
    for height, numbers in rows.items():
        start = _MARGIN + (most - len(numbers)) * (_WIDTH + _GAP_X) / 2
        for position, number in enumerate(numbers):
            places[number] = (start + position * (_WIDTH + _GAP_X), _MARGIN + (top - height) * (_HEIGHT + _GAP_Y))
    return places


def _wrapped(names: Iterable[str], width: int = 32) -> list[str]:
    """Break the list of a layer's modules into lines of so many characters."""
    lines = [""]
    for name in (name.removeprefix("txapns.") for name in names):
        if lines[-1] and len(lines[-1]) + len(name) >= width:
            lines.append("")
        lines[-1] += f"{name} "
    return lines


def _box(name: str, names: list[str], x: float, y: float) -> Iterator[str]:
    color = next(color for package, color in _COLORS.items() if any(each.startswith(package) for each in names))
    yield f'<rect x="{x:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="5" fill="{color}" stroke="#667"/>'
    yield f'<text x="{x + 8:g}" y="{y + 17:g}" font-weight="bold">{escape(name)}</text>'
    for position, line in enumerate(_wrapped(names)):
        yield f'<text x="{x + 8:g}" y="{y + 33 + 12 * position:g}" font-size="10">{escape(line.strip())}</text>'


def draw() -> str:
    """Draw the layers, the highest on top; returns SVG."""
    listed, lines = layers(), _reduced(_below())
    places = _places(lines)
    width = max(x for x, _ in places.values()) + _WIDTH + _MARGIN
    height = max(y for _, y in places.values()) + _HEIGHT + _MARGIN
    drawn = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" font-family="sans-serif"']
    drawn.append(' font-size="13">')
    for number, others in lines.items():
        for other in sorted(others):
            (x, y), (to_x, to_y) = places[number], places[other]
            ends = f'x1="{x + _WIDTH / 2:g}" y1="{y + _HEIGHT:g}" x2="{to_x + _WIDTH / 2:g}" y2="{to_y:g}"'
            drawn.append(f'<line {ends} stroke="#99a"/>')
    for number, (name, names) in enumerate(listed):
        drawn += _box(name, names, *places[number])
    return "\n".join([*drawn, "</svg>", ""])


if __name__ == "__main__":
    sys.stdout.write(draw())
