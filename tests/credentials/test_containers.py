"""Tests for :mod:`txapns._credentials.containers`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    pkcs7,
    pkcs12,
)
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.credentials.test_der import element, in_ber
from txapns._credentials.containers import MAX_TEXT, Contents, as_bytes, quick, read, recognizes, shielded
from txapns.errors import CredentialError, UnsupportedKey, WrongPassphrase
from txapns.simulator.authority import Authority

AUTHORITY = Authority()
PEM = AUTHORITY.client_pem()
CERTIFICATE = x509.load_pem_x509_certificate(PEM)
RSA_PEM = AUTHORITY.client_pem(key_type="rsa")

# One key, made for publication, as OpenSSL writes it in the forms that nothing else here writes. The passphrase is "x".
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgQOfBLQuDtmMlbDt1
CgF467Y5G8JwML1xnodroH7mzXahRANCAATFqBzAP9TH1BY0Y/2yPyyrDBAEE221
GzgNFS0AzD7zUKXCBSQPe8NIZmXPkOu1xXncyywH4rR67/eP93kKFGZs
-----END PRIVATE KEY-----
"""
SCRYPT = """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHkME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAhPWiqEe3v0mQICQAAC
AQgCAQEwHQYJYIZIAWUDBAEqBBAOdlf+zG3nEXjMdz4MLWJSBIGQaS/5tKM8hmng
eZFUPc4bcokhobyDQUJwGFdPt+Zy+vdduv4VUo+mVL3XC3uTS69W83Ikj8B440/H
oh9aEhCRU6N0Yz9gg3zL0osS+Cdmn4DQ3fEIFzqPLVzEJg6MCk7Fz5vrWQYJle1J
5RSG/bKvZQNjFf0J1+O6RY5vFsKMA/6P9rSdaqvjKQ31re6PKOpk
-----END ENCRYPTED PRIVATE KEY-----
"""
RC2 = """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGxMBwGCiqGSIb3DQEMAQYwDgQI3QrjnWdqsdYCAggABIGQYy7vooKk9Agndu4D
mAWjEma7zmSscPUihaO+/RSrlyYCLqlVExjpKGJNW5uSCC7HM0tjlu81loMhcCV2
FhqiRQLf5K+7thSPffLl7V/YrMWnqXgPvyxAhFVODZfx3wShcEDGpCVeMGwTSq5q
O+IGdjczYRCCGJ1eaBDdqbLqBFr0NQ6KSZezVacWQW7dOsRM
-----END ENCRYPTED PRIVATE KEY-----
"""
AES = """\
-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-256-CBC,D46AA1E79336FEAC973761A6F524DCC9

XZaKEdkUGy2DeOoUdALI9TYrBhl42oSPi7AwctZc8PE1PnodAPlAGviNChM4YBfi
MQufUTGLw7IobJTuHx2fh7aG1yeGC5TQtjvExXn08xPWP4lVtrpGX+3s61jfd9gA
iufxK98SQ1nqod0nG0KfNetV32wHOdOMXEF/rml7+ho=
-----END EC PRIVATE KEY-----
"""
DES = """\
-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: DES-EDE3-CBC,9CD80049AFF31085

zdZl+/Zh4QHDIQHxma1rJWZIOZNTLkmOV3kB/ZjLodpHy+MWKHg7XmZdH3mniQ8q
Inv1KZIdQ8eKl3Q4vqpUvWWZEz1Ww9YNLrAL9v1lACJ6L39+CutEDJZIi9C4Ve6f
SMc+mEsQ+FC9/Wqtt1Y7P9ivW5oZjIR9l+ZMLMy1lO8=
-----END EC PRIVATE KEY-----
"""
# openssl pkcs12 -export -legacy
LEGACY = """
MIIDAgIBAzCCAsgGCSqGSIb3DQEHAaCCArkEggK1MIICsTCCAacGCSqGSIb3DQEHBqCCAZgwggGUAgEAMIIBjQYJKoZIhvcNAQcBMBwGCiqGSIb3DQEM
AQYwDgQIKVEwauV5CSkCAggAgIIBYExT1cs3GBWcz5e0GCdeBbfiiuFKXzY6/Ag1jOvZo3/p9PmMpeaeEDgFivibIaPLkZUl6pLTmaShXIO7105PBF67
jlSPVBryNf7/9Fm9rFyGzV0xS9qm3qgCNxbp5njjo0SXa+WgqFyOb8leyTrQUuhogt25CxEiAv/s1pZ07/TsmpFOTFK3QPC1ckjcZw6iCPf/B/jU6mfb
hkm8xUNsji3B2S0up9PhQcZ21f0v92FQndvfO39F4ibtCArFg3Vr3B5+D2gpNoIYrAgpWBhzQMxdlp38RZ60DTGvTC+PU7c5z4Qfvltd+SenwNvI6Js/
PmPec6TXyzZxXq1wmXDi1a0O6sTOYabTcr0Yn2LV3cFoM4/e8HKoMl4dHl5sOaXrgOGQbBNIC9Jw71mRmG2/nno8F7DscsLA/5Wl/LBpydfYYJbzyXL0
hw1X87OoLr3G9SyoqEPZvuDNobgua+5QWuowggECBgkqhkiG9w0BBwGggfQEgfEwge4wgesGCyqGSIb3DQEMCgECoIG0MIGxMBwGCiqGSIb3DQEMAQMw
DgQILAwEf6x23O8CAggABIGQJXygVfJW1jmvG82+FfodsOioY4STjVnwvMu8C1sPC+UAial/Cm3nyKjniVcOHQqAWwdIi4qpvoypnnDUdtmGwJLLupuI
AHkO8JepM7IS7oyp3PoAHPe3XKe+ciaf7CYVfiztySy9Yb8fzpx/9Y+dVwmowsfFkHvV44BM5guv2MlhDtG3HS/nUhwCg61CGWvkMSUwIwYJKoZIhvcN
AQkVMRYEFEjJlqRSfJolkQAwv2huLZ7lNl3gMDEwITAJBgUrDgMCGgUABBRkuG0TdQPvNUCQx3qe8jDN3yJrZQQIVqsHBq/fdRMCAggA
"""

TextWrapping = Callable[[str], "str | bytes | bytearray | memoryview"]
BinaryWrapping = Callable[[bytes], "str | bytes | bytearray | memoryview"]


def coded(text: str) -> str:
    """Encode a text in base64."""
    return base64.b64encode(text.encode()).decode()


#: What becomes of a text on its way.
TEXT_WRAPPINGS: dict[str, TextWrapping] = {
    "nothing": str,
    "bytes": str.encode,
    "bytearray": lambda text: bytearray(text.encode()),
    "memoryview": lambda text: memoryview(text.encode()),
    "line ends of Windows": lambda text: text.replace("\n", "\r\n"),
    "line ends of the old Mac": lambda text: text.replace("\n", "\r"),
    "spaces for line ends": lambda text: text.replace("\n", " "),
    "no line ends": lambda text: text.replace("\n", ""),
    "nothing blank at all": lambda text: "".join(text.split()),
    "blank lines": lambda text: text.replace("\n", "\n\n"),
    "trailing spaces": lambda text: text.replace("\n", "  \n"),
    "indentation": lambda text: "key: |\n" + "".join(f"    {line}\n" for line in text.splitlines()),
    "tabulators": lambda text: text.replace("\n", "\n\t"),
    "a letter's quotation": lambda text: "".join(f"> {line}\n" for line in text.splitlines()),
    "spaces that do not break": lambda text: text.replace("\n", "\u00a0\n"),
    "spaces without width": lambda text: text.replace("\n", "\u200b\n"),
    "quotes": lambda text: f'"{text}"',
    "line ends written out": lambda text: text.replace("\n", "\\n"),
    "line ends of Windows written out": lambda text: text.replace("\n", "\\r\\n"),
    "line ends written out twice": lambda text: text.replace("\n", "\\\\n"),
    "line ends continued": lambda text: text.replace("\n", "\\\n"),
    "JSON": lambda text: json.dumps({"key": text}),
    "JSON of PHP": lambda text: json.dumps(text).replace("/", "\\/"),
    "JSON of .NET": lambda text: json.dumps(text).replace("+", "\\u002B"),
    "Python's repr": lambda text: repr(text.encode()),
    "a setting": lambda text: "APNS_KEY='" + text.replace("\n", "\\n") + "'",
    "percent signs": lambda text: "".join(
        each if each.isalnum() or each == "-" else f"%{ord(each):02X}" for each in text
    ),
    "a byte order mark": lambda text: "\ufeff" + text,
    "UTF-8 with a byte order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16, little end first": lambda text: text.encode("utf-16-le"),
    "UTF-16, big end first": lambda text: text.encode("utf-16-be"),
    "zeros behind": lambda text: text + "\0\0",
    "a comment": lambda text: "# -----BEGIN of the key-----\n" + text,
    "attributes": lambda text: "Bag Attributes\n    friendlyName: Schl\u00fcssel \ud800\n" + text,
    "base64": coded,
    "base64 in lines": lambda text: base64.encodebytes(text.encode()),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).rstrip(b"="),
    "base64 twice": lambda text: coded(coded(text)),
    "base64 of UTF-16": lambda text: base64.b64encode(text.encode("utf-16")),
    "base64 in quotes": lambda text: f"'{coded(text)}'",
    "a data URI": lambda text: "data:application/x-pem-file;base64," + coded(text),
    "hexadecimal digits": lambda text: text.encode().hex(),
    "PostgreSQL's hexadecimal digits": lambda text: "\\x" + text.encode().hex(),
}
#: And of bytes.
BINARY_WRAPPINGS: dict[str, BinaryWrapping] = {
    "nothing": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "a newline behind": lambda data: data + b"\n",
    "Latin-1": lambda data: data.decode("latin-1"),
    "PEM": lambda data: f"-----BEGIN CREDENTIAL-----\n{base64.b64encode(data).decode()}\n-----END CREDENTIAL-----",
    "base64": lambda data: base64.b64encode(data).decode(),
    "base64 in lines": base64.encodebytes,
    "base64 for URLs": base64.urlsafe_b64encode,
    "base64 twice": lambda data: base64.b64encode(base64.b64encode(data)),
    "base64 in quotes": lambda data: b'"' + base64.b64encode(data) + b'"',
    "a data URI": lambda data: b"data:application/x-pkcs12;base64," + base64.b64encode(data),
    "hexadecimal digits": lambda data: data.hex(),
    "PostgreSQL's hexadecimal digits": lambda data: "\\x" + data.hex(),
}


def public(*keys: PrivateKeyTypes) -> list[bytes]:
    """Return the public keys of private keys, for comparison."""
    return [key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for key in keys]


def key_of(pem: str | bytes) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    """Read the private key in a PEM text without the reader under test."""
    key = load_pem_private_key(pem.encode() if isinstance(pem, str) else pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return key


def der_of(key: PrivateKeyTypes, form: PrivateFormat = PrivateFormat.PKCS8, passphrase: bytes | None = None) -> bytes:
    """Write a private key as DER."""
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    return key.private_bytes(Encoding.DER, form, encryption)


class WrappingTests(SynchronousTestCase):
    """Credentials in every kind of wrapping."""

    def found(self, contents: Contents) -> tuple[list[bytes], list[x509.Certificate]]:
        """Return what was found, for comparison."""
        self.assertEqual(contents.faults, ())
        return public(*contents.keys), list(contents.certificates)

    def test_text(self) -> None:
        """PEM is read through every wrapping of texts."""
        for name, wrap in TEXT_WRAPPINGS.items():
            for pem in (PEM, RSA_PEM):
                expected = public(key_of(pem)), [x509.load_pem_x509_certificate(pem)]
                self.assertEqual(self.found(read(wrap(pem.decode()))), expected, name)

    def test_text_encrypted(self) -> None:
        """So is PEM in OpenSSL's older encrypted form, which has header fields of its own."""
        for name, wrap in TEXT_WRAPPINGS.items():
            for pem in (AES, DES):
                self.assertEqual(self.found(read(wrap(pem), passphrase="x")), (public(key_of(KEY)), []), name)

    def test_binary(self) -> None:
        """DER and PKCS#12 are read through every wrapping of bytes."""
        certificate = CERTIFICATE.public_bytes(Encoding.DER)
        for name, wrap in BINARY_WRAPPINGS.items():
            for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
                for key in (key_of(PEM), key_of(RSA_PEM)):
                    contents = read(wrap(der_of(key, form)), wrap(certificate))
                    self.assertEqual(self.found(contents), (public(key), [CERTIFICATE]), name)
            contents = read(wrap(AUTHORITY.client_pkcs12()), passphrase="txapns")
            self.assertEqual([len(each) for each in self.found(contents)], [1, 1], name)

    def test_only_base64(self) -> None:
        """PEM without its first and last line is read as base64 of DER."""
        self.assertEqual(self.found(read("".join(KEY.splitlines()[1:-1]))), (public(key_of(KEY)), []))

    def test_mixed(self) -> None:
        """DER followed by PEM is read as both, and so is PEM followed by DER."""
        der, expected = CERTIFICATE.public_bytes(Encoding.DER), (public(key_of(KEY)), [CERTIFICATE])
        for data in (der + b"\n" + KEY.encode(), KEY.encode() + der, KEY.rstrip().encode() + der):
            self.assertEqual(self.found(read(data)), expected)
        self.assertEqual(self.found(read(KEY.encode() + der + KEY.encode())), (expected[0] * 2, [CERTIFICATE]))

    def test_labels(self) -> None:
        """What the label says does not matter."""
        for key in (key_of(PEM), key_of(RSA_PEM)):
            for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
                for label in ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "CERTIFICATE", "KEY"):
                    body = base64.encodebytes(der_of(key, form)).decode()
                    pem = f"-----BEGIN {label}-----\n{body}-----END {label}-----\n"
                    self.assertEqual(self.found(read(pem)), (public(key), []))
        for pem in (AES, DES):
            for label in ("PRIVATE KEY", "RSA PRIVATE KEY"):
                contents = read(pem.replace("EC PRIVATE KEY", label), passphrase="x")
                self.assertEqual(self.found(contents), (public(key_of(KEY)), []))

    def test_encrypted(self) -> None:
        """All forms of encryption that OpenSSL writes can be decrypted."""
        contents = read(SCRYPT, RC2, der_of(key_of(KEY), passphrase=b"x"), AES, DES, LEGACY, passphrase=b"x")
        self.assertEqual(self.found(contents)[0], public(key_of(KEY)) * 6)

    def test_pkcs7(self) -> None:
        """The certificates of a .p7b are read."""
        data = pkcs7.serialize_certificates([CERTIFICATE], Encoding.DER)
        self.assertEqual(self.found(read(data)), ([], [CERTIFICATE]))

    def test_parameters(self) -> None:
        """The parameters that ``openssl ecparam`` writes before a key are skipped."""
        parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        contents = read(parameters + KEY)
        self.assertEqual((self.found(contents), contents.others), ((public(key_of(KEY)), []), ()))

    def test_blank(self) -> None:
        """Blank texts are empty."""
        for text in ("", " \r\n\t", b"\0\0", '""', "\ufeff"):
            self.assertEqual(read(text), Contents((), (), (), ()))


class PKCS12Tests(SynchronousTestCase):
    """The content of PKCS#12, and its passphrases."""

    def test_passphrases(self) -> None:
        """A passphrase of any characters opens it."""
        for word in ("Schl\u00fcssel", "\u043a\u043b\u044e\u0447", "\U0001f511", "a" * 200):
            data = AUTHORITY.client_pkcs12(passphrase=word.encode())
            for form in (word, word.encode(), bytearray(word.encode()), memoryview(word.encode())):
                self.assertEqual(len(read(data, passphrase=form).keys), 1)

    def test_latin(self) -> None:
        """One that is not UTF-8 is Latin-1."""
        data = AUTHORITY.client_pkcs12(passphrase="Schl\u00fcssel".encode())
        self.assertEqual(len(read(data, passphrase=b"Schl\xfcssel").keys), 1)

    def test_needless(self) -> None:
        """A file without a passphrase opens with any, as a key does."""
        for word in (None, "", "x"):
            self.assertEqual(len(read(AUTHORITY.client_pkcs12(passphrase=None), passphrase=word).keys), 1)

    def test_wrong(self) -> None:
        """Any wrong passphrase is a WrongPassphrase."""
        data = AUTHORITY.client_pkcs12()
        for word in ("y", "\0", "txapns\0", "\ud800", b"\xff", "y" * 5_000, b"\xed\xa0\x80"):
            [fault] = read(data, passphrase=word).faults
            self.assertIsInstance(fault, WrongPassphrase)
            self.assertIn("does not open the PKCS#12 file", str(fault))

    def test_identities(self) -> None:
        """All keys in an export of several identities are found."""
        first = AUTHORITY.client_pkcs12(passphrase=b"x")
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
        bags = [
            element(0x30, bytes.fromhex("060b2a864886f70d010c0a0102"), element(0xA0, der_of(key, passphrase=b"x")))
            for key in keys
        ]
        data = element(0x06, bytes.fromhex("2a864886f70d010701"))
        safe = element(0x30, data, element(0xA0, element(0x04, element(0x30, *bags))))
        content = element(0x30, data, element(0xA0, element(0x04, element(0x30, safe))))
        contents = read(element(0x30, b"\x02\x01\x03", content), first, passphrase="x")
        self.assertLessEqual(set(public(*keys)), set(public(*contents.keys)))
        self.assertEqual((len(contents.certificates), contents.faults), (1, ()))


class FaultTests(SynchronousTestCase):
    """Faults, and their messages."""

    def said(self, *texts: object, passphrase: object = None) -> str:
        """Return the message for a missing private key."""
        try:
            return str(read(*texts, passphrase=passphrase).missing("private key"))
        except CredentialError as error:
            return str(error)

    def test_types(self) -> None:
        """For anything but text or bytes, the message has the type."""
        for value, words in (
            (None, "the text is None, not text or bytes"),
            (5, "of type int"),
            ([KEY], "of type list"),
            (Path("AuthKey.p8"), r"of type PosixPath, not text or bytes; from_file\(\)"),
        ):
            with self.assertRaisesRegex(CredentialError, words.replace("PosixPath", type(Path()).__name__)):
                read(value)
        with self.assertRaisesRegex(CredentialError, "the passphrase is of type int"):
            read(KEY, passphrase=5)
        view = memoryview(KEY.encode())
        view.release()
        with self.assertRaisesRegex(CredentialError, "text 2 is a memoryview that was released"):
            read(KEY, view)

    def test_others(self) -> None:
        """For a text that is not a credential, the message says what it looks like."""
        for text, words in (
            ('{"type": "service_account"}', "JSON"),
            ("<html>", "HTML"),
            ("/run/secrets/AuthKey.p8", "a file name, and from_file() reads files"),
            ("AuthKey_ABC123DEFG.p8", "a file name"),
            ("C:\\keys\\push.p12", "a file name"),
            ("s3cret", "passphrase=…"),
            (b"\x30\x82", "and is not DER"),
            ("a" * (MAX_TEXT + 1), "more than any credential"),
        ):
            self.assertIn(words, self.said(text))
            self.assertNotIn("s3cret", self.said(text))

    def test_parts(self) -> None:
        """If the private key is missing, the message lists what was found."""
        key = key_of(PEM)
        spki = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        openssh = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        for text, words in (
            (openssh, "OpenSSH's own format; convert it with: ssh-keygen"),
            (spki, "only a public key"),
            (request.public_bytes(Encoding.PEM), "only a request for a certificate"),
            (CERTIFICATE.public_bytes(Encoding.DER), "only a certificate"),
            (spki + CERTIFICATE.public_bytes(Encoding.PEM), "only a public key and a certificate"),
            (b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaA==\n-----END OPENSSH PRIVATE KEY-----", "unknown kind"),
            (b"", "the text is empty"),
        ):
            self.assertIn(words, self.said(text))

    def test_cut(self) -> None:
        """The message says what was truncated, and where."""
        key, data = der_of(key_of(PEM)), AUTHORITY.client_pkcs12(passphrase=None)
        for text, words in (
            (KEY[:-30], "its -----END line is missing"),
            (KEY[5:].lstrip("BEGIN"), "its -----BEGIN line is missing"),
            (KEY.replace(KEY.splitlines()[2], ""), "is incomplete: it has "),
            (KEY.replace(KEY.splitlines()[1], ""), "damaged, or of an unknown kind"),
            ("-----BEGIN PRIVATE KEY-----\nMIGHA\n-----END PRIVATE KEY-----", "it is not base64"),
            (key[:-1], f"the private key is incomplete: it has {len(key) - 1} of its {len(key)} bytes"),
            (b"\x30\xff" + b"\xff" * 127 + key[3:], "the private key is incomplete"),
            (b"\x30\x90" + b"\x7f" * 16 + key[3:], "the private key is incomplete"),
            (data[:-5], f"the PKCS#12 file is incomplete: it has {len(data) - 5} of its {len(data)} bytes"),
        ):
            self.assertIn(words, self.said(text))

    def test_beside(self) -> None:
        """A fault beside usable parts does no harm, and is listed."""
        contents = read(PEM, AES, KEY[:-40])
        self.assertEqual((len(contents.keys), len(contents.certificates)), (1, 1))
        self.assertEqual([type(fault) for fault in contents.faults], [WrongPassphrase, CredentialError])

    def test_passphrase(self) -> None:
        """The message says that the key is encrypted, and whether there was a passphrase."""
        for pem in (SCRYPT, RC2, AES, DES, LEGACY):
            self.assertIn("no passphrase was given", self.said(pem))
            self.assertIn("does not open", self.said(pem, passphrase="y"))

    def test_lucky_passphrase(self) -> None:
        """A wrong passphrase that leaves a padding that is right by chance is called wrong all the same."""
        for pem, passphrase in ((SCRYPT, "470"), (RC2, "181"), (AES, "373"), (DES, "112")):
            with self.subTest(passphrase), self.assertRaisesRegex(ValueError, "Could not deserialize"):
                load_pem_private_key(pem.encode(), passphrase.encode())
            [fault] = read(pem, passphrase=passphrase).faults
            self.assertIsInstance(fault, WrongPassphrase)

    def test_damaged_rsa(self) -> None:
        """An RSA key whose numbers do not match is refused."""
        key = der_of(key_of(RSA_PEM), PrivateFormat.TraditionalOpenSSL)
        for position in range(20, len(key), 100):
            damaged = bytearray(key)
            damaged[position] ^= 4
            self.assertEqual(read(damaged).keys, ())

    def test_unsupported(self) -> None:
        """For a key with unknown encryption, the message says so, and does not call it damaged."""
        unknown = base64.b64decode("".join(SCRYPT.splitlines()[1:-1])).replace(
            b"\x06\x09\x2a\x86", b"\x06\x09\x2a\x87", 1
        )
        ciphers = "AES-192-CBC", "CAMELLIA-256-CBC", "AES-256-OFB"
        for text in (unknown, *(AES.replace("AES-256-CBC", cipher) for cipher in ciphers)):
            [fault] = read(text, passphrase="x").faults
            self.assertIsInstance(fault, UnsupportedKey)

    def test_unknown_version(self) -> None:
        """For a certificate of an unknown version, the message says so."""
        data = CERTIFICATE.public_bytes(Encoding.DER).replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x04", 1)
        self.assertIn("of an unknown version", str(read(data).missing("certificate")))

    def test_panic(self) -> None:
        """Any exception becomes a ValueError without a cause, except for an interrupt."""

        class PanicException(BaseException):
            """The exception of Rust's binding."""

        def fail(error: BaseException) -> None:
            raise error

        for error in (
            PanicException(),
            TypeError(),
            x509.InvalidVersion("5", 5),
            UnicodeDecodeError("x", b"k", 0, 1, ""),
        ):
            with self.assertRaises(ValueError) as caught:
                shielded(fail, error)
            self.assertIsNone(caught.exception.__context__)
        self.assertRaises(KeyboardInterrupt, shielded, fail, KeyboardInterrupt())


class BoundTests(SynchronousTestCase):
    """Bounds for untrusted text."""

    def pkcs12(self, rounds: int) -> bytes:
        """Make a PKCS#12 file that takes a number of iterations."""
        encryption = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(rounds).build(b"x")
        return pkcs12.serialize_key_and_certificates(None, key_of(KEY), None, [CERTIFICATE], encryption)

    def test_iterations(self) -> None:
        """More than a million iterations are refused before the first, in every wrapping."""
        # 70,000 takes as many bytes as more than a million; each of the places is overwritten separately.
        data, few, many = self.pkcs12(70_000), b"\x02\x03\x01\x11\x70", b"\x02\x03\x0f\x42\x41"
        self.assertEqual(data.count(few), 2)
        for position in (data.index(few), data.rindex(few)):
            huge = data[:position] + many + data[position + len(many) :]
            for text in (huge, in_ber(huge), base64.b64encode(huge)):
                [fault] = read(text, passphrase="x").faults
                self.assertRegex(str(fault), "1,000,001 iterations to decrypt a PKCS#12 file.* the 1,000,000 allowed")

    def test_mac(self) -> None:
        """The iterations of the authentication code count as well."""
        data = AUTHORITY.client_pkcs12()
        self.assertEqual(data[-4:-2], b"\x02\x02")
        longer = data[:-4] + b"\x02\x04\x7f\xff\xff\xff"
        # Each of the two lengths around it is two bytes more.
        mac = longer.rindex(b"\x30\x41\x30\x31")
        longer = longer[: mac + 1] + b"\x43" + longer[mac + 2 :]
        longer = longer[:2] + (int.from_bytes(longer[2:4], "big") + 2).to_bytes(2, "big") + longer[4:]
        [fault] = read(longer, passphrase="txapns").faults
        self.assertIn("2,147,483,647 iterations", str(fault))

    def test_key(self) -> None:
        """An encrypted key has the same bound; with scrypt the product of its parameters counts."""
        scrypt = base64.b64decode("".join(SCRYPT.splitlines()[1:-1]))
        few, many = b"\x02\x01\x08\x02\x01\x01", b"\x02\x01\x08\x02\x01\x7f"
        self.assertIn(few, scrypt)
        [fault] = read(scrypt.replace(few, many), passphrase="x").faults
        self.assertIn("16,646,144 iterations to decrypt an encrypted private key", str(fault))

    def test_many(self) -> None:
        """The number of keys, and their iterations together, are bounded."""
        self.assertIn("too large or too many", str(read(KEY * 40).faults[0]))
        self.assertEqual(len(read(KEY * 40).keys), 32)
        self.assertIn("keys together", str(read(SCRYPT * 31, passphrase="y").faults[-1]))

    def test_large(self) -> None:
        """So is their size."""
        [fault] = read(element(0x30, b"\x02\x01\x03", element(0x30, bytes(1 << 17)))).faults
        self.assertIn("too large or too many", str(fault))

    def test_deep(self) -> None:
        """Endless nesting is refused."""
        data = b"\x04\x00"
        for _ in range(60):
            data = element(0x30, data)
        [fault] = read(element(0x30, b"\x02\x01\x03", data)).faults
        self.assertIn("nested too deeply", str(fault))

    def test_quick(self) -> None:
        """Unencrypted keys and certificates are quick; PKCS#12 and many iterations are not."""
        for texts in ((PEM,), (RSA_PEM,), (KEY, CERTIFICATE.public_bytes(Encoding.DER)), (AES,), ("",)):
            self.assertTrue(quick(*texts))
        self.assertTrue(quick(der_of(key_of(KEY), passphrase=b"x")))
        for texts in ((SCRYPT,), (LEGACY,), (PEM, AUTHORITY.client_pkcs12(passphrase=None))):
            self.assertFalse(quick(*texts))
        self.assertRaises(CredentialError, quick, None)

    def test_recognizes(self) -> None:
        """A credential is distinguished from a file name, even if it is incomplete."""
        for text in (KEY, coded(KEY), KEY[:-40], "".join(KEY.splitlines()[1:-1]), KEY.replace("\n", "\\n")):
            self.assertTrue(recognizes(text))
        for text in ("", "AuthKey.p8", "/run/secrets/apns/AuthKey_ABC123DEFG.p8", "/" + "directory/" * 20 + "key"):
            self.assertFalse(recognizes(text))

    def test_as_bytes(self) -> None:
        """Text is UTF-8, halves of surrogates included."""
        self.assertEqual([as_bytes(text, "it") for text in ("\u00fc", "\ud800")], [b"\xc3\xbc", b"\xed\xa0\x80"])


class MutationTests(SynchronousTestCase):
    """Real credentials, damaged."""

    SEEDS = (
        PEM,
        RSA_PEM,
        AUTHORITY.client_pem(passphrase=b"x"),
        AUTHORITY.client_pkcs12(passphrase=b"x"),
        AUTHORITY.client_pkcs12(passphrase=None),
        CERTIFICATE.public_bytes(Encoding.DER),
        der_of(key_of(PEM)),
        der_of(key_of(RSA_PEM), PrivateFormat.TraditionalOpenSSL),
        *(text.encode() for text in (RC2, AES, DES, LEGACY)),
    )

    @given(
        st.sampled_from(SEEDS),
        st.randoms(use_true_random=False),
        st.integers(0, 8),
        st.sampled_from([None, "x", b"\xff"]),
    )
    def test_mutated(self, seed: bytes, random: Random, times: int, passphrase: str | bytes | None) -> None:
        """Any damage gives at most a CredentialError, and no part of the secret is in the message."""
        data = bytearray(seed)
        for _ in range(times):
            position = random.randrange(len(data) or 1)
            data[position : position + random.choice([0, 1, 1, 9])] = random.randbytes(random.choice([0, 1, 1, 4]))
        try:
            contents = read(data, passphrase=passphrase)
        except CredentialError as error:
            faults: tuple[CredentialError, ...] = (error,)
        else:
            faults = (*contents.faults, contents.missing("certificate"))
        for fault in faults:
            lines = [line for line in bytes(data).decode("latin-1").split() if len(line) > 20]
            self.assertFalse([line for line in lines if line in str(fault)])

    @given(st.one_of(st.text(), st.binary()), st.one_of(st.none(), st.text(), st.binary()))
    def test_anything(self, text: str | bytes, passphrase: str | bytes | None) -> None:
        """The same holds for any other input."""
        try:
            read(text, AUTHORITY.client_pkcs12(), passphrase=passphrase)
        except CredentialError as error:
            self.assertIn("text 1", str(error))
