"""
Provider tokens, as their receivers read them: the simulator, and the gateway in Apple's place.

A provider token is a JSON web token (RFC 7519): three parts in base64url, with dots between them::

    {"alg": "ES256", "kid": <key id>} . {"iss": <team id>, "iat": <UNIX seconds>} . <signature>

A signature of ES256 is the two numbers r and s of 32 octets each (RFC 7518, section 3.4). Some clients, pushy among
them, write the two as ASN.1 in DER instead, as cryptographic libraries put them out, and Apple's servers take that.
So does this. Of the claims only the two above count.
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

_SIZE = 32  # octets of r, and of s
_LATEST = 253_402_300_800  # the year 10000: what is no number, or not finite, is not below it either


@attrs.frozen
class BearerToken:
    """
    What a provider token says. Nothing of it is certain before :meth:`is_signed_by`.

    :ivar key_id: the identifier of the key that it claims to be signed with.
    :ivar team_id: the identifier of the team whose it claims to be.
    :ivar issued_at: when it claims to have been signed, in UNIX seconds.
    """

    key_id: str
    team_id: str
    issued_at: float
    _signed: bytes = attrs.field(repr=False)
    _signature: bytes = attrs.field(repr=False)

    @classmethod
    def parse(cls, text: str) -> BearerToken | None:
        """
        Read one.

        :param text: the JSON web token.
        :returns: what it says; ``None`` where it cannot be a provider token.
        """
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
        """
        Tell whether it was signed with a key.

        :param key: the public half of the key.
        """
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
    """Take a finite number of seconds; ``True`` is a number to Python, but not to JSON."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 <= value < _LATEST else None
