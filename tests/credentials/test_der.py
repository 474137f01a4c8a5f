"""Tests for :mod:`txapns._credentials.der`."""

from __future__ import annotations

import re

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs7,
    pkcs12,
)
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns._credentials import der
from txapns._credentials.der import Kind, elements, extent, iterations, walk
from txapns.simulator.authority import Authority

AUTHORITY = Authority()
KEY = ec.generate_private_key(ec.SECP256R1())
CERTIFICATE = x509.load_pem_x509_certificate(AUTHORITY.ca_pem)


def element(tag: int, *contents: bytes) -> bytes:
    """Write an element with a definite length."""
    content = b"".join(contents)
    size = (len(content).bit_length() + 7) // 8
    length = bytes([len(content)]) if len(content) < 0x80 else bytes([0x80 | size]) + len(content).to_bytes(size, "big")
    return bytes([tag]) + length + content


def number(value: int) -> bytes:
    """Write an INTEGER."""
    return element(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def in_ber(data: bytes) -> bytes:
    """Make all lengths indefinite, and split the octet strings that hold elements into two."""
    written = []
    for tag, content in elements(data):
        if tag & 0x20:
            written.append(bytes([tag, 0x80]) + in_ber(content) + b"\0\0")
        elif tag == 0x04 and content[:1] == b"\x30":
            written.append(b"\x24\x80" + element(0x04, content[:50]) + element(0x04, content[50:]) + b"\0\0")
        else:
            written.append(element(tag, content))
    return b"".join(written)


class ElementsTests(SynchronousTestCase):
    """:func:`elements`, :func:`extent` and :func:`walk`."""

    def test_example(self) -> None:
        """The module's example is read as documented."""
        lines = re.findall(r"^    ( *[0-9a-f]{2}(?: [0-9a-f]+)+)  ", der.__doc__ or "", re.MULTILINE)
        example = bytes.fromhex("".join(lines))
        self.assertEqual(
            list(walk(example)),
            [[(0x30, example[2:])], [(0x04, bytes.fromhex("d9e63cb9db8be732")), (0x02, b"\3")]],
        )
        self.assertEqual((extent(example), iterations(example)), (len(example), [3]))

    def test_long(self) -> None:
        """Lengths of any size are read."""
        for size in (0, 127, 128, 255, 256, 70_000):
            data = element(0x04, bytes(size))
            self.assertEqual((list(elements(data * 2)), extent(data)), ([(0x04, bytes(size))] * 2, len(data)))

    def test_cut(self) -> None:
        """A truncated element gives what is left of it, and its extent is known."""
        data = element(0x30, number(5), element(0x04, bytes(200)))
        self.assertEqual(list(elements(data[:50])), [(0x30, data[3:50])])
        self.assertEqual(extent(data[:50]), len(data))

    def test_open(self) -> None:
        """An indefinite length lasts to its end, also when nested."""
        inner = element(0x30, number(1), element(0x30, number(2)))
        outer, following = elements(in_ber(inner) + number(3))
        self.assertEqual(following, (0x02, b"\3"))
        self.assertEqual([tag for tag, _ in elements(outer[1])], [0x02, 0x30])
        self.assertEqual(extent(in_ber(inner) + number(3)), len(in_ber(inner)))

    @given(st.binary())
    def test_anything(self, data: bytes) -> None:
        """For any bytes the walk ends, with an error if they are nested too deeply."""
        try:
            found = list(walk(data))
        except ValueError as error:
            self.assertIn("too deeply", str(error))
        else:
            self.assertEqual(found[0], list(elements(data)))
        Kind.of(data)

    def test_deep(self) -> None:
        """Elements that are nested too deeply are an error."""
        for level in (b"\x30\x80", b"\x24\x80", b"\xa0\x84\xff\xff\xff\xff"):
            with self.assertRaises(ValueError):
                for _ in walk(level * 1_000):
                    pass


class KindTests(SynchronousTestCase):
    """:class:`Kind`."""

    def test_kinds(self) -> None:
        """Each kind is recognized by its structure, even if its end is missing."""
        word = BestAvailableEncryption(b"x")
        keys = [KEY, rsa.generate_private_key(65_537, 2048), dsa.generate_private_key(1024)]
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(KEY, SHA256())
        public = [key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for key in keys]
        for kind, examples in {
            Kind.CERTIFICATE: [CERTIFICATE.public_bytes(Encoding.DER)],
            Kind.PRIVATE_KEY: [
                key.private_bytes(Encoding.DER, form, NoEncryption())
                for key in keys
                for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)
            ],
            Kind.ENCRYPTED_KEY: [key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, word) for key in keys],
            Kind.PKCS12: [AUTHORITY.client_pkcs12(), AUTHORITY.client_pkcs12(passphrase=None)],
            Kind.PKCS7: [pkcs7.serialize_certificates([CERTIFICATE], Encoding.DER)],
            Kind.PUBLIC_KEY: [*public, keys[1].public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)],
            Kind.REQUEST: [request.public_bytes(Encoding.DER)],
            Kind.OTHER: [b"", b"\x30", b"\x30\x00", b"\x02\x01\x03", element(0x30, number(7)), b"text", b"0x30"],
        }.items():
            for example in examples:
                self.assertIs(Kind.of(example), kind)
                if kind is not Kind.OTHER:
                    self.assertIs(Kind.of(example[:-3]), kind)
        self.assertIs(Kind.of(in_ber(AUTHORITY.client_pkcs12())), Kind.PKCS12)


class IterationsTests(SynchronousTestCase):
    """:func:`iterations`."""

    def pkcs12(self, rounds: int) -> bytes:
        """Make a PKCS#12 file whose parts are encrypted with a number of iterations."""
        encryption = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(rounds).build(b"x")
        return pkcs12.serialize_key_and_certificates(None, KEY, None, [CERTIFICATE], encryption)

    def test_pkcs12(self) -> None:
        """In PKCS#12 they are found for the key, the certificates and the authentication code."""
        data = self.pkcs12(2_000)
        self.assertEqual(iterations(data)[:2], [2_000, 2_000])
        self.assertEqual(iterations(in_ber(data)), iterations(data))

    def test_key(self) -> None:
        """An encrypted key has one count; a key length after it does not count."""
        algorithm = element(0x06, b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0c")
        for numbers, work in (([4_096], 4_096), ([4_096, 32], 4_096), ([16_384, 8, 2], 16_384 * 8 * 2)):
            derivation = element(0x30, element(0x04, bytes(8)), *map(number, numbers))
            encrypted = element(0x30, element(0x30, algorithm, derivation), element(0x04, b"\x30" + bytes(47)))
            self.assertEqual(iterations(encrypted), [work])

    def test_huge(self) -> None:
        """A number of any size is cut to one that can be printed."""
        [found] = iterations(element(0x30, element(0x04, bytes(8)), element(0x02, b"\x7f" * 10_000)))
        self.assertEqual(found, 1 << 63)

    def test_none(self) -> None:
        """Unencrypted keys and certificates have none."""
        for key in (KEY, rsa.generate_private_key(65_537, 2048)):
            for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
                self.assertEqual(iterations(key.private_bytes(Encoding.DER, form, NoEncryption())), [])
        self.assertEqual(iterations(CERTIFICATE.public_bytes(Encoding.DER)), [])

    @given(st.lists(st.integers(0, 2**63), max_size=4), st.binary(max_size=30))
    def test_any(self, numbers: list[int], salt: bytes) -> None:
        """The number after a salt is found, whatever surrounds it."""
        parts = [element(0x30, element(0x04, salt), number(each)) for each in numbers]
        self.assertLessEqual(set(numbers), set(iterations(element(0x30, *parts))))
