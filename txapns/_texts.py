"""
Text files as they come: from an editor, a shell, or Windows.

Notepad writes a byte order mark at the beginning of a file in UTF-8, and PowerShell writes UTF-16 where nobody tells it
not to. Neither is seen on a screen. So what is read here as text may be UTF-8 with or without a mark, or UTF-16, whose
mark may be missing if its first two characters are of ASCII, as in all that this package reads.
"""

from __future__ import annotations

from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder

__all__ = ["encoding_of", "first_line", "utf8"]


def encoding_of(beginning: bytes) -> str:
    """
    Tell how a text is encoded.

    :param beginning: its first four octets, or more of it.
    :returns: ``"utf-8"``, ``"utf-8-sig"`` where there is a mark, ``"utf-16"`` where there is one, ``"utf-16-le"`` or
        ``"utf-16-be"``.
    """
    if beginning.startswith(BOM_UTF8):
        return "utf-8-sig"
    if beginning.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return "utf-16"
    zeros = [octet == 0 for octet in beginning[:4]]
    if zeros == [False, True] * 2:
        return "utf-16-le"
    return "utf-16-be" if zeros == [True, False] * 2 else "utf-8"


def utf8(text: bytes) -> bytes:
    """
    Give a text in UTF-8 without a mark.

    :param text: the content of a file.
    :returns: the text; what is not UTF-16 is unchanged but for the mark, whatever it is.
    """
    encoding = encoding_of(text)
    if encoding.startswith("utf-8"):
        return text.removeprefix(BOM_UTF8)
    # Half a unit at the end is left out, as the decoder waits for the rest of it.
    return getincrementaldecoder(encoding)("surrogatepass").decode(text).encode("utf-8", "surrogatepass")


def first_line(text: bytes) -> bytes:
    """
    Give the first line of a file, which may hold a passphrase; whoever wrote it may have ended the line or not.

    :param text: the content of the file.
    :returns: the line in UTF-8, without its end.
    """
    return utf8(text).partition(b"\n")[0].rstrip(b"\r")
