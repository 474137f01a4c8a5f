"""Options that several commands have in common."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import attrs
import click

from txapns._network.trust import trust_pem
from txapns._texts import first_line
from txapns.command.streams import InputFile, content_of, naming
from txapns.credentials import Certificate, Credential, ProviderToken
from txapns.errors import WrongPassphrase

__all__ = [
    "HOW_TO_OPEN",
    "CredentialOptions",
    "config_option",
    "credential_options",
    "gateway_option",
    "gather",
    "json_option",
    "passphrase_file_option",
    "passphrase_from",
    "read_trust_root",
    "trust_root_option",
]

#: ``--config``: where the daemon's configuration is.
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("apns.toml"),
    show_default=True,
    envvar="TXAPNS_CONFIG",
    metavar="FILE",
    help="The daemon's configuration; or set TXAPNS_CONFIG.",
)

#: ``--gateway``: which of Apple's servers to send to.
gateway_option = click.option(
    "--gateway",
    default="production",
    show_default=True,
    help="Apple's server: production, sandbox, http2:host=NAME:port=N or binary:host=NAME:port=N.",
)

#: ``--trust-root``: the authorities of a gateway that is not Apple's.
trust_root_option = click.option(
    "--trust-root", type=InputFile(), metavar="FILE", help="Authorities to trust (PEM) instead of the platform's."
)

#: What to do about a passphrase that is missing.
HOW_TO_OPEN = "give --passphrase-file, or set TXAPNS_PASSPHRASE"

#: ``--passphrase-file``: what opens a credential.
passphrase_file_option = click.option(
    "--passphrase-file",
    type=InputFile(),
    metavar="FILE",
    help="A file whose first line opens the certificate or key; or set TXAPNS_PASSPHRASE.",
)


def passphrase_from(file: IO[bytes] | None) -> bytes | None:
    """Read the passphrase from the first line of a file or, without one, from the variable ``TXAPNS_PASSPHRASE``."""
    if file is not None:
        return first_line(content_of(file))
    given = os.environ.get("TXAPNS_PASSPHRASE")
    return None if given is None else given.encode("utf-8", "surrogateescape")


def json_option(text: str = "Write JSON lines.") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make the option ``--json``, which a command gets as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help=text)


def read_trust_root(file: IO[bytes] | None) -> str | None:
    """
    Read what ``--trust-root`` names.

    :returns: the certificates in PEM; ``None`` if the option was not given.
    :raises CredentialError: the file holds none; the message names it.
    """
    if file is None:
        return None
    with naming(file):
        return trust_pem(content_of(file))


@attrs.frozen
class CredentialOptions:
    """
    The options that name a credential.

    :ivar passphrase_file: a file whose first line is the passphrase.
    """

    certificate: IO[bytes] | None
    key: IO[bytes] | None
    key_id: str | None
    team_id: str | None
    passphrase_file: IO[bytes] | None

    @property
    def file(self) -> IO[bytes] | None:
        """The file of the certificate or key; ``None`` if neither was given."""
        return self.certificate or self.key

    def read(self, certificate: Callable[[bytes, bytes | None], Certificate], *, prompt: bool = False) -> Credential:
        """
        Read the credential.

        :param certificate: makes a certificate from the content of its file and a passphrase.
        :param prompt: whether to ask for a missing passphrase on the terminal, if there is one.
        :raises click.UsageError: options are missing, or exclude each other.
        :raises CredentialError: the credential cannot be used; the message names the file.
        """
        file = self.file
        if file is None or (self.certificate is not None and self.key is not None):
            raise click.UsageError("Give either --certificate or --key.")
        key_id, team_id = self.key_id, self.team_id
        if self.key is not None and (key_id is None or team_id is None):
            raise click.UsageError("--key needs --key-id and --team-id.")
        data = content_of(file)

        def make(passphrase: bytes | None) -> Credential:
            with naming(file):
                if self.key is None:
                    return certificate(data, passphrase)
                return ProviderToken.from_p8(data, key_id or "", team_id or "", passphrase=passphrase)

        passphrase = passphrase_from(self.passphrase_file)
        try:
            return make(passphrase)
        except WrongPassphrase as error:
            if passphrase is not None:
                raise
            if not prompt or sys.stdin is None or not sys.stdin.isatty():
                raise WrongPassphrase(f"{error}; {HOW_TO_OPEN}") from None
        return make(click.prompt("Passphrase", hide_input=True, err=True).encode())


def credential_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name a credential, as one argument ``credential``."""
    options = (
        click.option(
            "--certificate",
            type=InputFile(),
            metavar="FILE",
            help="A certificate with its key, PEM or PKCS#12; - for standard input.",
        ),
        click.option("--key", type=InputFile(), metavar="FILE", help="A signing key (.p8); - for standard input."),
        click.option("--key-id", help="The signing key's identifier."),
        click.option("--team-id", help="The team's identifier."),
        passphrase_file_option,
    )
    return gather(CredentialOptions, "credential", options, command)


def gather(
    kind: type[Any],
    name: str,
    options: tuple[Callable[[Callable[..., None]], Callable[..., None]], ...],
    command: Callable[..., None],
) -> Callable[..., None]:
    """Give a command options as one argument ``name``: an object of ``kind``, an ``attrs`` class of their values."""
    fields = [field.name for field in attrs.fields(kind)]

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        gathered = kind(**{field: given.pop(field) for field in fields})
        command(**{name: gathered}, **given)

    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped
