"""
The standard streams of a command: its parent may have closed them, or go away while it writes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from txapns.errors import APNSError

__all__ = ["UNUSABLE", "InputFile", "Unusable", "give_up_output", "in_a_sentence", "open_streams"]

#: The exit status of a command that cannot do what it was asked for.
UNUSABLE = 2


class Unusable(click.ClickException):
    """Something that the command line, or a file it names, says cannot be used."""

    exit_code = UNUSABLE


class InputFile(click.File):
    """A file of octets to be read, or ``-`` for standard input."""

    def __init__(self) -> None:
        super().__init__("rb")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IO[bytes]:
        """Open it."""
        if value == "-" and sys.stdin is None:
            self.fail("standard input is closed", param, ctx)
        file: IO[bytes] = super().convert(value, param, ctx)
        return file


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """Have what goes wrong told in a sentence. That nobody reads what is written any more is told nobody."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (APNSError, OSError) as error:
        raise Unusable(str(error)) from None


def open_streams() -> None:
    """
    Have something stand where a standard stream was closed.

    Otherwise the next file or connection that is opened would take its number, and be written to by who means the
    stream.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
    # Nobody reads what is written there. That nothing can be read, the commands that would have to say themselves.
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def give_up_output() -> None:
    """Throw away what could not be written to standard output, which Python would try once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
