"""
Credentials that an operator submits while the daemon runs, by the HTTP API or on a web page.

They contain private keys and passphrases, which are never logged nor repeated in an answer; an error names the field
that is wrong.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns.credentials import Credential, ProviderToken
from txapns.daemon.errors import ConfigurationError, Malformed, SecretError, Unavailable
from txapns.daemon.secrets.credentials import read_certificate
from txapns.daemon.secrets.opening import opened
from txapns.errors import CredentialError, WrongPassphrase

__all__ = ["MAX_PEM", "SubmittedCredential", "master_key_failed", "read_submitted"]

_log = Logger()

#: The most characters of PEM, or of PKCS#12 in base64: ten times as long as a certificate with its chain.
MAX_PEM = 65_536

_RETRY_AFTER = 60.0  # seconds in which an operator may have repaired something


class SubmittedCredential(Struct, forbid_unknown_fields=True):
    """A certificate with its private key, or a signing key."""

    certificate: (
        Annotated[str, Meta(description="PEM, or PKCS#12 in base64; with the private key.", max_length=MAX_PEM)]
        | UnsetType
    ) = UNSET
    key: Annotated[str, Meta(description="The content of a .p8.", max_length=MAX_PEM)] | UnsetType = UNSET
    key_id: Annotated[str, Meta(description="The signing key's identifier.")] | UnsetType = UNSET
    team_id: Annotated[str, Meta(description="The team's identifier.")] | UnsetType = UNSET
    passphrase: Annotated[str, Meta(description="Opens it, if it is encrypted.")] | UnsetType = UNSET

    def __repr__(self) -> str:
        return "<SubmittedCredential>"  # what shows its fields shows secrets


def read_submitted(
    given: SubmittedCredential,
    now: datetime,
    where: str = "",
    *,
    gateway: str | None = None,
    topic: str | None = None,
) -> Credential:
    """
    Read a credential. This may take long, so call it in a thread.

    :param now: when a certificate must be valid.
    :param where: what precedes the names of its fields in errors.
    :param gateway: the app's gateway, by which one of several certificates is chosen.
    :param topic: the app's topic, likewise.
    :raises Malformed: it cannot be used; the error names the field that is wrong.
    """
    passphrase = None if given.passphrase is UNSET else given.passphrase.encode()
    identifiers = given.key_id, given.team_id
    field = "certificate" if given.key is UNSET else "key"
    try:
        if given.certificate is not UNSET and given.key is UNSET and identifiers == (UNSET, UNSET):
            data = opened(given.certificate.encode(), passphrase)
            return read_certificate(data, passphrase, now, gateway=gateway, topic=topic)
        if given.certificate is UNSET and given.key is not UNSET and given.key_id and given.team_id:
            data = opened(given.key.encode(), passphrase)
            return ProviderToken.from_p8(data, given.key_id, given.team_id, passphrase=passphrase)
    except WrongPassphrase as error:
        raise Malformed(str(error), path=f"{where}passphrase") from None
    except CredentialError as error:
        raise Malformed(str(error), path=where + field) from None
    except Exception:
        # A malformed file may raise what the readers of credentials do not expect.
        _log.failure("a credential that a caller sent could not be read")
        raise Malformed("it cannot be read", path=where + field) from None
    raise Malformed("give either a certificate, or a key with key_id and team_id", path=where.rstrip("."))


def master_key_failed(reason: Failure) -> Failure:
    """Tell the caller, who is an operator here, what is otherwise only in the log."""
    if reason.check(ConfigurationError, SecretError):
        raise Unavailable(f"the master key cannot be used: {reason.getErrorMessage()}", _RETRY_AFTER)
    return reason
