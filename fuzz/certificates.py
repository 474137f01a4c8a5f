"""Certificates with their keys, however they are wrapped."""

from __future__ import annotations

import base64
from contextlib import suppress

from txapns import Certificate
from txapns.errors import CredentialError
from txapns.simulator import Authority

__all__ = ["SEEDS", "check"]

_AUTHORITY = Authority()
_PEM, _PKCS12 = _AUTHORITY.client_pem(), _AUTHORITY.client_pkcs12()
SEEDS = [_PEM, _PKCS12, base64.b64encode(_PKCS12), _PEM.replace(b"\n", b"\\n"), b"\xef\xbb\xbf" + _PEM]


def check(data: bytes) -> None:
    """Check that unreadable input raises ``CredentialError``, and nothing else."""
    for read in (Certificate.from_pem, Certificate.from_pkcs12):
        for passphrase in (None, "txapns"):
            with suppress(CredentialError):
                assert read(data, passphrase=passphrase).fingerprint
    with suppress(CredentialError):
        Certificate.from_pem(data.decode("utf-8", "surrogateescape"))
