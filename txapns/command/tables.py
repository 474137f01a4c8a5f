"""How commands write lists: a table on a terminal, columns elsewhere, or JSON lines for a program."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from txapns.command.streams import echo, writing

__all__ = ["on_terminal", "print_json", "print_rows", "print_table", "printable"]


def on_terminal() -> bool:
    """Whether a person reads standard output."""
    return Console().is_terminal


def print_json(value: Mapping[str, Any]) -> None:
    """Write an object as a line of JSON."""
    echo(json.dumps(value))


def print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Write a list, whose rows have the same columns, for a person or as JSON lines."""
    if as_json:
        for row in rows:
            print_json(row)
    elif rows:
        columns, cells = [*rows[0]], [[_cell(value) for value in row.values()] for row in rows]
        if on_terminal():
            print_table(columns, cells)
        else:
            _print_columns([columns, *cells])


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Draw a table on a terminal."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*map(Text, row))
    with writing():
        Console().print(table)


def printable(text: str) -> str:
    """Replace what could move the cursor or end the line: the text may be from a server or a file."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _print_columns(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    """Write a value; nothing is written as a hyphen, so that each cell has something in it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(",".join(value) if isinstance(value, list) else value or "") or "-"
