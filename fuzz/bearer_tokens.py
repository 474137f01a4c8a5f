"""Provider tokens, as a server reads them."""

from __future__ import annotations

import math

from txapns import ProviderToken
from txapns._credentials.bearer import BearerToken
from txapns.simulator import Authority

__all__ = ["SEEDS", "check"]

_AUTHORITY = Authority()
_KEY = ProviderToken.from_p8(_AUTHORITY.p8, _AUTHORITY.key_id, _AUTHORITY.team_id)
_SIGNED = _KEY.sign(1_700_000_000)
SEEDS = [_SIGNED.encode(), b"e30.e30.", b"eyJhbGciOiJFUzI1NiJ9.eyJpYXQiOk5hTn0.AAAA"]


def check(data: bytes) -> None:
    """Check that times are finite, and that only the signed token verifies."""
    text = data.decode("utf-8", "surrogateescape")
    token = BearerToken.parse(text)
    if token is not None:
        assert math.isfinite(token.issued_at)
        if token.is_signed_by(_KEY.public_key):
            assert text.rpartition(".")[0] == _SIGNED.rpartition(".")[0]
