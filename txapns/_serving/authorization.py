"""
The ``Authorization`` header field (RFC 9110, section 11.6.2), for all faces.

A caller shows a key as a bearer token, or as the password of Basic authentication where its HTTP client, such as a
browser, knows nothing else. Each face decides which of the two it accepts.
"""

from __future__ import annotations

import base64

__all__ = ["basic_password", "bearer_token"]


def bearer_token(value: str) -> str | None:
    """Read a bearer token (RFC 6750); ``None`` if the scheme is another."""
    scheme, _, token = value.partition(" ")
    return token.strip(" ") if scheme.lower() == "bearer" else None


def basic_password(value: str) -> str | None:
    """Read the password of Basic authentication (RFC 7617), empty if malformed; ``None`` if the scheme is another."""
    scheme, _, encoded = value.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip(" "), validate=True)
    except ValueError:  # of binascii, or a character outside ASCII
        return ""
    return decoded.partition(b":")[2].decode("latin-1")
