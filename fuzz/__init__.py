"""
Fuzzing of everything that reads untrusted input, one module per parser.

Each has a function ``check(data)``, which passes bytes to the parser and raises if the result is wrong, and ``SEEDS``,
bytes to start with. ``make fuzz`` searches for bytes that make a check raise, with libFuzzer under Atheris. Its
findings are kept in ``corpus/``, and each run of the tests checks them again.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

__all__ = ["CORPUS", "NAMES", "Harness", "load", "pieces", "whole_and_split"]

#: The findings, in one folder per harness.
CORPUS = Path(__file__).parent / "corpus"
#: The names of the harnesses.
NAMES = sorted(each.name for each in pkgutil.iter_modules(__path__) if not each.name.startswith("_"))


class Harness(Protocol):
    """A module of this package."""

    SEEDS: Sequence[bytes]

    def check(self, data: bytes) -> None:
        """
        Pass bytes to the parser.

        :param data: the bytes.
        :raises Exception: the parser behaved wrongly.
        """


def load(name: str) -> Harness:
    """
    Import a harness.

    :param name: its name.
    """
    return cast("Harness", importlib.import_module(f"fuzz.{name}"))


def pieces(data: bytes) -> Iterable[bytes]:
    """
    Split bytes as a network might.

    :param data: the bytes.
    :returns: pieces of one byte, two, three … up to seven, then one again.
    """
    start = 0
    size = 1
    while start < len(data):
        yield data[start : start + size]
        start += size
        size = size % 7 + 1


def whole_and_split(data: bytes, read: Callable[[Iterable[bytes]], Any]) -> None:
    """
    Check that a parser gives the same result however a stream is split.

    :param data: the stream.
    :param read: passes pieces to a new parser and returns all results, including an error.
    """
    whole, split = read([data]), read(pieces(data))
    assert whole == split, (whole, split)
