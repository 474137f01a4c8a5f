"""
``txapns inspect``: what credentials are good for, as far as their files say.

The command exits with

=  ============================================================
0  all can be used now
1  one cannot; the reason is listed
2  the command line cannot be used, or a file cannot be opened
=  ============================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import IO, Any

import click

from txapns.command.options import HOW_TO_OPEN, passphrase_file_option, passphrase_from
from txapns.command.streams import Command, InputFile, content_of, echo, name_of
from txapns.command.tables import print_json, printable
from txapns.doctor.inspection import Inspection
from txapns.doctor.inspection import inspect as inspected
from txapns.errors import CredentialError, WrongPassphrase

__all__ = ["inspect"]


@click.command(cls=Command)
@click.argument("files", type=InputFile(), nargs=-1, required=True, metavar="FILE…")
@passphrase_file_option
@click.option("--json", "as_json", is_flag=True, help="Write JSON lines, one for each credential.")
def inspect(files: tuple[IO[bytes], ...], passphrase_file: IO[bytes] | None, as_json: bool) -> None:
    """
    Say what credentials are good for.

    They are certificates and signing keys, in any form. No secret is shown.

    The exit status is 0 if all can be used, 1 if one cannot, and 2 if a file cannot be opened.
    """
    passphrase = passphrase_from(passphrase_file)
    now = datetime.now(timezone.utc)
    usable = True
    for file in files:
        name = name_of(file)
        try:
            found = inspected(content_of(file), now, name=name, passphrase=passphrase)
        except CredentialError as error:
            usable = False
            missing = passphrase is None and isinstance(error, WrongPassphrase)
            _unreadable(name, f"{error}; {HOW_TO_OPEN}" if missing else str(error), as_json)
            continue
        for each in found:
            usable = usable and each.usable
            if as_json:
                print_json({"file": name, **each.to_dict()})
            else:
                _print(name, each)
    raise SystemExit(0 if usable else 1)


def _unreadable(name: str, why: str, as_json: bool) -> None:
    if as_json:
        print_json({"file": name, "usable": False, "faults": [why]})
    else:
        echo(printable(f"{name}: cannot be used: {why}"))


def _print(name: str, found: Inspection) -> None:
    echo(printable(f"{name}: {found.kind}{f' {found.name!r}' if found.name else ''}"))
    for label, text in _lines(found):
        echo(f"  {label:<13}{printable(text)}")


def _lines(found: Inspection) -> Iterator[tuple[str, str]]:
    facts: dict[str, Any] = {
        "key ID": found.key_id,
        "private key": found.key,
        "environments": ", ".join(found.environments),
        "issuer": found.issuer,
    }
    yield from ((label, value) for label, value in facts.items() if value)
    if found.begins and found.expires:
        yield "valid", f"{found.begins:%Y-%m-%d} to {found.expires:%Y-%m-%d}"
    yield "SHA-256", found.fingerprint
    lists = {"good for": found.good_for, "not for": found.not_for, "warning": found.warnings, "fault": found.faults}
    for label, sentences in lists.items():
        yield from ((label, each) for each in sentences)
