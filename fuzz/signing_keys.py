"""Signing keys (``.p8``), as found in files and environment variables."""

from __future__ import annotations

import base64
from contextlib import suppress

from txapns import ProviderToken
from txapns.errors import CredentialError
from txapns.simulator import Authority

__all__ = ["SEEDS", "check"]

_AUTHORITY = Authority()
_P8 = _AUTHORITY.p8
SEEDS = [_P8, base64.b64encode(_P8), _P8.replace(b"\n", b"\\n"), b'"' + _P8 + b'"', "\ufeff".encode() + _P8]


def check(data: bytes) -> None:
    """Check that unreadable input raises ``CredentialError``, and nothing else."""
    for key in (data, data.decode("utf-8", "surrogateescape")):
        for passphrase in (None, "txapns"):
            with suppress(CredentialError):
                ProviderToken.from_p8(key, _AUTHORITY.key_id, _AUTHORITY.team_id, passphrase=passphrase)
    with suppress(CredentialError):
        ProviderToken.from_p8(_P8, data.decode("latin-1"), _AUTHORITY.team_id)
