"""
What Matrix calls a pushkey: a device token as an app gave it to its homeserver.

Most apps encode the token in base64, as the examples of the specification do, and some in hexadecimal. Hexadecimal
digits are also valid base64, for other bytes. But the base64 of a token has hardly ever only such characters, and that
of 32 bytes never, since it ends with ``=``. So what can be read as hexadecimal is hexadecimal.
"""

from __future__ import annotations

import base64
import re

__all__ = ["token_of"]

#: The longest pushkey that is looked at, in characters: twice what Matrix allows, and longer than any token.
_LONGEST = 1_024
_HEXADECIMAL = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_STANDARD = str.maketrans("-_", "+/")


def token_of(pushkey: str) -> bytes | None:
    """
    Read a device token.

    :param pushkey: the token in hexadecimal or base64, the latter in either alphabet, with or without padding.
    :returns: the token; ``None`` if it is neither, or too long.
    """
    if len(pushkey) > _LONGEST:
        return None
    if _HEXADECIMAL.fullmatch(pushkey):
        return bytes.fromhex(pushkey)
    if not _BASE64.fullmatch(pushkey):
        return None
    digits = pushkey.rstrip("=").translate(_STANDARD)
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except ValueError:
        return None
