"""
Text files in the encodings that editors, shells and Windows write.

Notepad writes a byte order mark at the beginning of a UTF-8 file, and PowerShell writes UTF-16 by default. Neither is
visible. So text here may be UTF-8 with or without a mark, or UTF-16. The mark of UTF-16 may be missing if the first two
characters are ASCII, as in every file that this package reads.
"""

from __future__ import annotations

from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder

__all__ = ["encoding_of", "first_line", "utf8"]


def encoding_of(beginning: bytes) -> str:
    """
    Tell how a text is encoded.

    :param beginning: at least its first four bytes.
    :returns: ``"utf-8"``, or ``"utf-8-sig"`` with a mark; ``"utf-16"`` with a mark, or ``"utf-16-le"`` or
        ``"utf-16-be"``.
    """
    if beginning.startswith(BOM_UTF8):
        return "utf-8-sig"
    if beginning.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return "utf-16"
    zeros = [byte == 0 for byte in beginning[:4]]
    if zeros == [False, True] * 2:
        return "utf-16-le"
    return "utf-16-be" if zeros == [True, False] * 2 else "utf-8"


def utf8(text: bytes) -> bytes:
    """Convert a text to UTF-8 without a mark. Anything but UTF-16 is unchanged, except for the mark."""
    encoding = encoding_of(text)
    if encoding.startswith("utf-8"):
        return text.removeprefix(BOM_UTF8)
    # An incomplete code unit at the end is left out, since the decoder waits for the rest of it.
    return getincrementaldecoder(encoding)("surrogatepass").decode(text).encode("utf-8", "surrogatepass")


def first_line(text: bytes) -> bytes:
    """Read the first line of a file that may hold a passphrase, as UTF-8 without its line end."""
    return utf8(text).partition(b"\n")[0].rstrip(b"\r")
