"""Device tokens, as programs give them."""

from __future__ import annotations

from contextlib import suppress

from txapns._session.tokens import device_of
from txapns.errors import InvalidToken

__all__ = ["SEEDS", "check"]

SEEDS = [b"aa" * 32, b"\xaa" * 32, b"<aaaaaaaa bbbbbbbb>", "é".encode(), b"\xed\xa0\x80"]


def check(data: bytes) -> None:
    """Check that text is read as hexadecimal, and that only ``InvalidToken`` is raised."""
    with suppress(InvalidToken):
        assert isinstance(device_of(data), bytes)
    text = data.decode("utf-8", "surrogatepass") if _is_text(data) else data.decode("latin-1")
    with suppress(InvalidToken):
        assert device_of(text) == bytes.fromhex(text)


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True
