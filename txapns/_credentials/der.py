"""
DER, as far as one has to look into it before a library does what it says.

An element is a tag, a length and a content; the content of a *constructed* one is elements again (X.690, section 8.1)::

    30 0d                            SEQUENCE of 13 octets
       04 08 d9e63cb9db8be732           OCTET STRING
       02 01 03                         INTEGER

Files from strangers may be in BER, which OpenSSL reads as well: there a length may be left open (``80``, up to
``00 00``), and a string may be cut into pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

__all__ = ["Kind", "elements", "extent", "iterations", "walk"]

INTEGER, BIT_STRING, OCTET_STRING, OID, UTF8_STRING, SEQUENCE = 0x02, 0x03, 0x04, 0x06, 0x0C, 0x30

_CONSTRUCTED = 0x20
_OPEN = 0x80
_END = b"\0\0"
#: How deep elements may lie in one another; a PKCS#12 file has about 20 levels.
_DEPTH = 40
#: What larger numbers are taken for, which may have any number of digits.
_MOST = 1 << 63


class Kind(Enum):
    """What an element is, by its outer structure."""

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
        """
        Tell what an element is.

        :param der: the element; its end may be missing.
        :returns: its kind.
        """
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
        """What begins with the number of its version, or, as RSA's public key alone, with another number."""
        if children[0][1] == b"\3" and tags[1:2] == [SEQUENCE]:
            return cls.PKCS12
        if tags[1:3] == [SEQUENCE, OCTET_STRING] or tags[1:2] == [OCTET_STRING] or tags[:6] == [INTEGER] * 6:
            return cls.PRIVATE_KEY  # PKCS#8; an elliptic curve's; RSA's and DSA's
        return cls.PUBLIC_KEY if tags == [INTEGER] * 2 else cls.OTHER

    @classmethod
    def _signed(cls, inner: list[int]) -> Kind:
        """What consists of something, an algorithm, and a signature over the first with the second."""
        if inner[:1] == [0xA0] or inner[:6] == [INTEGER] + [SEQUENCE] * 5:
            return cls.CERTIFICATE
        return cls.REQUEST if inner == [INTEGER, SEQUENCE, SEQUENCE, 0xA0] else cls.OTHER


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """
    Walk over elements that follow one another.

    :param data: the elements.
    :returns: tag and content of each; one that is cut off gives what is left of it.
    """
    offset = 0
    while offset + 2 <= len(data):
        begin, end, following = _extent(data, offset)
        yield data[offset], data[begin:end]
        offset = following


def extent(data: bytes) -> int:
    """
    Tell how long an element is.

    :param data: begins with the element; its end may be missing.
    :returns: the number of its octets, with tag and length.
    """
    return _extent(data, 0)[2] if len(data) >= 2 else 2


def iterations(der: bytes) -> list[int]:
    """
    Find how often the functions that make keys of passphrases are to be repeated, without running one.

    In PKCS#12, in encrypted keys and in what they have in common (PBES1, PBES2, PBMAC1), the number always follows the
    salt: an INTEGER after an OCTET STRING (RFC 7292, section 4 and appendix C; RFC 8018, appendix A). With scrypt two
    more follow, block size and parallelism, and their product is the work (RFC 7914, section 7).

    :param der: PKCS#12, or an encrypted key.
    :returns: the numbers.
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
    Walk over all elements, also over those in octet strings.

    :param data: the elements.
    :param depth: how deep they lie.
    :returns: tag and content of those that lie in the same element, again and again.
    :raises ValueError: they are nested too deeply.
    """
    if depth > _DEPTH:
        raise ValueError("the elements are nested too deeply")
    siblings = list(elements(data))
    yield siblings
    for tag, content in siblings:
        if tag & ~_CONSTRUCTED == OCTET_STRING:
            octets = _joined(tag, content, depth)
            if octets[:1] == b"\x30" and extent(octets) == len(octets):
                yield from walk(octets, depth + 1)
        elif tag & _CONSTRUCTED:
            yield from walk(content, depth + 1)


def _joined(tag: int, content: bytes, depth: int) -> bytes:
    """Put together the pieces of an octet string."""
    if not tag & _CONSTRUCTED:
        return content
    if depth > _DEPTH:
        raise ValueError("the elements are nested too deeply")
    return b"".join(_joined(*piece, depth + 1) for piece in elements(content))


def _work(following: list[tuple[int, bytes]]) -> Iterator[int]:
    """What the numbers after an octet string come to, if there are any."""
    numbers = [min(int.from_bytes(content, "big"), _MOST) for tag, content in following if tag == INTEGER]
    if following and following[0][0] == INTEGER:
        yield numbers[0] * numbers[1] * numbers[2] if len(numbers) == 3 else numbers[0]


def _extent(data: bytes, offset: int, depth: int = 0) -> tuple[int, int, int]:
    """Where the content of an element begins and ends, and where the next element begins."""
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
