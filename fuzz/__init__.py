"""
What strangers can feed us, one module for each parser.

Each has a function ``check(data)``, which hands octets to the parser and raises where something comes out that must
not, and ``SEEDS``, octets to begin with. ``make fuzz`` looks for octets that make a check raise, with libFuzzer under
Atheris; what it found is kept in ``corpus/``, and each run of the tests hands it to the check again.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

__all__ = ["CORPUS", "NAMES", "Harness", "load", "pieces", "whole_and_split"]

#: What was found, in a folder for each harness.
CORPUS = Path(__file__).parent / "corpus"
#: The names of the harnesses.
NAMES = sorted(each.name for each in pkgutil.iter_modules(__path__) if not each.name.startswith("_"))


class Harness(Protocol):
    """A module of this package."""

    SEEDS: Sequence[bytes]

    def check(self, data: bytes) -> None:
        """
        Hand octets to the parser.

        :param data: the octets.
        :raises Exception: the parser did what it must not.
        """


def load(name: str) -> Harness:
    """
    Find a harness.

    :param name: its name.
    """
    return cast("Harness", importlib.import_module(f"fuzz.{name}"))


def pieces(data: bytes) -> Iterable[bytes]:
    """
    Split octets as a network might.

    :param data: the octets.
    :returns: pieces of one octet, two, three … up to seven, and so on anew.
    """
    start = 0
    size = 1
    while start < len(data):
        yield data[start : start + size]
        start += size
        size = size % 7 + 1


def whole_and_split(data: bytes, read: Callable[[Iterable[bytes]], Any]) -> None:
    """
    See that a parser makes the same of a stream however it is split.

    :param data: the stream.
    :param read: hands pieces to a new parser and tells all that came of them, its error included.
    """
    whole, split = read([data]), read(pieces(data))
    assert whole == split, (whole, split)
