"""
Provider tokens, as a server reads them: the simulator, and the daemon in Apple's place.

A provider token is a JSON web token (RFC 7519): three parts in base64url, separated by dots::

    {"alg": "ES256", "kid": <key id>} . {"iss": <team id>, "iat": <UNIX seconds>} . <signature>

An ES256 signature is the two numbers r and s, of 32 bytes each (RFC 7518, section 3.4). Some clients, such as pushy,
write both in ASN.1 DER instead, as cryptographic libraries return them; Apple's servers accept that, and so does this
module. Only the two claims above count.
"""

from __future__ import annotations

import json
from typing import Any

import attrs
import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

__all__ = ["BearerToken"]

_SIZE = 32  # bytes of r, and of s
_LATEST = 253_402_300_800  # the year 10000; NaN and infinity are not below it either


@attrs.frozen
class BearerToken:
    """The claims of a provider token, the time in UNIX seconds. Do not trust them before :meth:`is_signed_by`."""

    key_id: str
    team_id: str
    issued_at: float
    _signed: bytes = attrs.field(repr=False)
    _signature: bytes = attrs.field(repr=False)

    @classmethod
    def parse(cls, text: str) -> BearerToken | None:
        """Read a JSON web token; ``None`` if it cannot be a provider token."""
        try:
            parts = jwt.api_jws.decode_complete(text, options={"verify_signature": False})
            claims: Any = json.loads(parts["payload"])
        except (jwt.InvalidTokenError, ValueError, RecursionError):
            return None
        if not isinstance(claims, dict) or parts["header"].get("alg") != "ES256":
            return None
        key_id, team_id, issued_at = parts["header"].get("kid"), claims.get("iss"), _time(claims.get("iat"))
        if not isinstance(key_id, str) or not isinstance(team_id, str) or issued_at is None:
            return None
        return cls(key_id, team_id, issued_at, text.rpartition(".")[0].encode(), parts["signature"])

    def is_signed_by(self, key: ec.EllipticCurvePublicKey) -> bool:
        signature = self._signature
        if len(signature) == 2 * _SIZE:
            numbers = (int.from_bytes(half, "big") for half in (signature[:_SIZE], signature[_SIZE:]))
            signature = encode_dss_signature(*numbers)
        try:
            key.verify(signature, self._signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


def _time(value: Any) -> float | None:
    """Accept a finite number of seconds; ``True`` is a number in Python, but not in JSON."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 <= value < _LATEST else None
