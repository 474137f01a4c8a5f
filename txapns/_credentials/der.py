"""
As much of DER as we must inspect before a library reads it.

An element is a tag, a length and a content; the content of a *constructed* one is elements again (X.690, section 8.1)::

    30 0d                            SEQUENCE of 13 bytes
       04 08 d9e63cb9db8be732           OCTET STRING
       02 01 03                         INTEGER

Files from strangers may be in BER, which OpenSSL reads as well: there a length may be indefinite (``80``, up to
``00 00``), and a string may be split into pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

__all__ = ["Kind", "elements", "extent", "iterations", "walk"]

INTEGER, BIT_STRING, OCTET_STRING, OID, UTF8_STRING, SEQUENCE = 0x02, 0x03, 0x04, 0x06, 0x0C, 0x30

_CONSTRUCTED = 0x20
_OPEN = 0x80
_END = b"\0\0"
#: How deeply elements may be nested; a PKCS#12 file has about 20 levels.
_DEPTH = 40
#: The upper limit to which larger numbers are cut; a number may have any number of digits.
_MOST = 1 << 63


class Kind(Enum):
    """The kind of an element, by its outer structure."""

    CERTIFICATE = "a certificate"
    PRIVATE_KEY = "a private key"
    ENCRYPTED_KEY = "an encrypted private key"
    PKCS12 = "a PKCS#12 file"
    PKCS7 = "a PKCS#7 file"
    PUBLIC_KEY = "a public key"
    REQUEST = "a request for a certificate"
    OTHER = "something else"

    @classmethod
    def of(cls, der: bytes) -> Kind:
        """Find the kind of an element, whose end may be missing."""
        outer = next(elements(der), None)
        if outer is None or outer[0] != SEQUENCE:
            return cls.OTHER
        children = list(elements(outer[1]))
        tags = [tag for tag, _ in children]
        if tags[:1] == [INTEGER]:
            return cls._numbered(children, tags)
        inner = [tag for tag, _ in elements(children[0][1])] if children else []
        if tags[:3] == [SEQUENCE, SEQUENCE, BIT_STRING]:
            return cls._signed(inner)
        if tags[:1] == [OID]:
            return cls.PKCS7
        if inner[:1] == [OID] and tags[1:] in ([OCTET_STRING], [BIT_STRING]):
            return cls.ENCRYPTED_KEY if tags[1] == OCTET_STRING else cls.PUBLIC_KEY
        return cls.OTHER

    @classmethod
    def _numbered(cls, children: list[tuple[int, bytes]], tags: list[int]) -> Kind:
        """The kinds that begin with a version number or, for a bare RSA public key, another number."""
        if children[0][1] == b"\3" and tags[1:2] == [SEQUENCE]:
            return cls.PKCS12
        if tags[1:3] == [SEQUENCE, OCTET_STRING] or tags[1:2] == [OCTET_STRING] or tags[:6] == [INTEGER] * 6:
            return cls.PRIVATE_KEY  # PKCS#8; an elliptic curve's; RSA's and DSA's
        return cls.PUBLIC_KEY if tags == [INTEGER] * 2 else cls.OTHER

    @classmethod
    def _signed(cls, inner: list[int]) -> Kind:
        """The kinds that consist of a content, an algorithm, and a signature of that content."""
        if inner[:1] == [0xA0] or inner[:6] == [INTEGER] + [SEQUENCE] * 5:
            return cls.CERTIFICATE
        return cls.REQUEST if inner == [INTEGER, SEQUENCE, SEQUENCE, 0xA0] else cls.OTHER


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Iterate over consecutive elements: tag and content of each, and of a truncated one as much as there is."""
    offset = 0
    while offset + 2 <= len(data):
        begin, end, following = _extent(data, offset)
        yield data[offset], data[begin:end]
        offset = following


def extent(data: bytes) -> int:
    """Find the length of the first element in bytes, tag and length included; its end may be missing."""
    return _extent(data, 0)[2] if len(data) >= 2 else 2


def iterations(der: bytes) -> list[int]:
    """
    Find the iteration counts of key derivation, without running it.

    In PKCS#12, in encrypted keys and in the schemes that they share (PBES1, PBES2, PBMAC1), the count always follows
    the salt: an INTEGER after an OCTET STRING (RFC 7292, section 4 and appendix C; RFC 8018, appendix A). With scrypt
    two more follow, block size and parallelism, and the product of the three is the work (RFC 7914, section 7).

    :raises ValueError: the elements are nested too deeply.
    """
    return [
        work
        for siblings in walk(der)
        for position, (tag, _) in enumerate(siblings, 1)
        if tag & ~_CONSTRUCTED == OCTET_STRING
        for work in _work(siblings[position : position + 3])
    ]


def walk(data: bytes, depth: int = 0) -> Iterator[list[tuple[int, bytes]]]:
    """
    Walk over all nested elements, including those in octet strings.

    :returns: lists with tag and content of the elements that share a parent.
    :raises ValueError: they are nested too deeply.
    """
    if depth > _DEPTH:
        raise ValueError("the elements are nested too deeply")
    siblings = list(elements(data))
    yield siblings
    for tag, content in siblings:
        if tag & ~_CONSTRUCTED == OCTET_STRING:
            string = _joined(tag, content, depth)
            if string[:1] == b"\x30" and extent(string) == len(string):
                yield from walk(string, depth + 1)
        elif tag & _CONSTRUCTED:
            yield from walk(content, depth + 1)


def _joined(tag: int, content: bytes, depth: int) -> bytes:
    if not tag & _CONSTRUCTED:
        return content
    if depth > _DEPTH:
        raise ValueError("the elements are nested too deeply")
    return b"".join(_joined(*piece, depth + 1) for piece in elements(content))


def _work(following: list[tuple[int, bytes]]) -> Iterator[int]:
    """The work that the numbers after an octet string mean, if there are any."""
    numbers = [min(int.from_bytes(content, "big"), _MOST) for tag, content in following if tag == INTEGER]
    if following and following[0][0] == INTEGER:
        yield numbers[0] * numbers[1] * numbers[2] if len(numbers) == 3 else numbers[0]


def _extent(data: bytes, offset: int, depth: int = 0) -> tuple[int, int, int]:
    """The beginning and end of an element's content, and the beginning of the next element."""
    length = data[offset + 1]
    begin = offset + 2
    if length == _OPEN:
        end = begin if depth < _DEPTH else len(data)
        while end + 2 <= len(data) and data[end : end + 2] != _END:
            end = _extent(data, end, depth + 1)[2]
        return begin, end, end + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(data[begin : begin + size], "big")
        begin += size
    return begin, begin + length, begin + length
