"""
The standard streams of a command, and how it reports errors.

Its parent may have closed the streams, or may go away while it writes. An error is reported in one sentence on standard
error. An ``OSError`` does not tell where it came from, so output is written by :func:`writing` or :func:`echo`: other
errors of the operating system are those of files that the command was to use.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from txapns.errors import APNSError, LocalError

__all__ = [
    "UNUSABLE",
    "Command",
    "Group",
    "InputFile",
    "Unusable",
    "content_of",
    "echo",
    "flush_output",
    "name_of",
    "naming",
    "open_streams",
    "writing",
]

#: The exit status of a command that cannot do what it was asked for.
UNUSABLE = 2

#: The longest file that is read whole, in bytes. A credential has a few thousand; pushes to look at may have millions.
MOST = 64 * 1024 * 1024

#: Where the context of a command keeps that standard input is read.
_STANDARD_INPUT = f"{__name__}.standard_input"


class Unusable(click.ClickException):
    """The command line, or a file that it names, cannot be used."""

    exit_code = UNUSABLE


class Command(click.Command):
    """A command that reports what it cannot use in a sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # click ends the command silently, because nobody reads what it would say
        except APNSError as error:
            raise Unusable(str(error)) from None
        except OSError as error:
            raise Unusable(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from None


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


@contextmanager
def writing() -> Iterator[None]:
    """Report that standard output cannot be written to."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        # The exit status is 1: the command did what it was asked for.
        raise click.ClickException(f"standard output cannot be written to: {error.strerror}") from None


def echo(text: str) -> None:
    """Write a line to standard output."""
    with writing():
        click.echo(text)


class InputFile(click.File):
    """A file of bytes to be read, or ``-`` for standard input."""

    def __init__(self) -> None:
        super().__init__("rb")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IO[bytes]:
        """Open the file."""
        if value == "-" and sys.stdin is None:
            self.fail("standard input is closed", param, ctx)
        if value == "-" and ctx is not None:
            if _STANDARD_INPUT in ctx.meta:
                raise click.UsageError("Standard input can be read only once.", ctx)
            ctx.meta[_STANDARD_INPUT] = True
        file: IO[bytes] = super().convert(value, param, ctx)
        return file


def name_of(file: IO[bytes]) -> str:
    """Return the name of a file that :class:`InputFile` opened, for a message."""
    name = getattr(file, "name", "<stdin>")
    return "standard input" if name == "<stdin>" else str(name)


def content_of(file: IO[bytes]) -> bytes:
    """
    Read a file that :class:`InputFile` opened.

    :raises Unusable: it is longer than :data:`MOST`, as a device is that never ends.
    """
    content = file.read(MOST + 1)
    if len(content) > MOST:
        raise Unusable(f"{name_of(file)}: this is longer than {MOST // 1024**2} MiB, so it is not what it should be")
    return content


@contextmanager
def naming(file: IO[bytes], kind: type[LocalError] = LocalError) -> Iterator[None]:
    """Name a file that :class:`InputFile` opened in the message of an error of this kind."""
    try:
        yield
    except kind as error:
        raise type(error)(f"{name_of(file)}: {error}") from None


def open_streams() -> None:
    """
    Open ``/dev/null`` for each standard stream that is closed.

    Otherwise the next file or connection that is opened gets the stream's number, and what is written to the stream
    ends up there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    # Standard input stays None: a command that needs it reports that it is closed.
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def flush_output() -> None:
    """Flush standard output. Discard what cannot be written: Python would try once more when it exits, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
