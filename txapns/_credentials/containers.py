"""
Reading keys and certificates, whatever they are wrapped in.

There are a few forms: certificates are X.509, private keys are PKCS#8, encrypted or not, or OpenSSL's older forms
(PKCS#1, SEC 1), and PKCS#12 has both together. All of these are DER; all but PKCS#12 usually come as PEM, which is
base64 between two lines::

    -----BEGIN PRIVATE KEY-----
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg…
    -----END PRIVATE KEY-----

Environment variables, forms, databases and editors add a second wrapping: line ends lost or escaped, quotes,
indentation, UTF-16, base64 or hexadecimal digits of the whole. :func:`read` unwraps all of that, and trusts the content
rather than the label. It is the only reader of credentials in this project.

Input from strangers is bounded: in size, in the number of keys, and in the work of key derivation, which is calculated
before any of it is done. ``cryptography`` holds the interpreter's lock while it works, so a thread would not help; what
is not :func:`quick` belongs in another process.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator, Sequence
from typing import ParamSpec, TypeAlias, TypeVar

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12

from txapns._credentials import der
from txapns._credentials.der import Kind
from txapns.errors import CredentialError, UnsupportedKey, WrongPassphrase

__all__ = ["MAX_TEXT", "Contents", "Text", "as_bytes", "public_der", "quick", "read", "recognizes", "shielded"]

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

Text: TypeAlias = str | bytes | bytearray | memoryview
"""The types of credentials and passphrases."""

#: The longest text allowed, in bytes, and the longest key or PKCS#12 file in it.
MAX_TEXT, _MAX_SECRET = 1 << 18, 1 << 17
#: How many private keys are allowed.
_MAX_KEYS = 32
#: How many iterations of key derivation are allowed: for one key, and in total. OpenSSL uses 2,048.
_MAX_ITERATIONS, _MAX_WORK = 1_000_000, 4_000_000
#: How many iterations take only milliseconds.
_QUICK = 100_000
#: How many wrappings are removed.
_MAX_WRAPPINGS = 4

_MARKER = re.compile(rb"--\s{0,8}(BEGIN|END)\s{0,8}([A-Z0-9 ]{0,60}[A-Z0-9])\s{0,8}--(?:-{0,3})")
# OpenSSL's older encrypted form. The line ends may be lost, but each cipher fixes the length of its initialization
# vector. (An unknown cipher cannot be decrypted anyway.)
_ENCRYPTED = re.compile(
    rb"Proc-Type:\s{0,8}4,\s{0,8}ENCRYPTED[^A-Z]{0,80}DEK-Info:\s{0,8}"
    rb"(AES-[0-9]{3}-CBC,\s{0,8}[0-9A-Fa-f]{32}|DES-(?:EDE3-)?CBC,\s{0,8}[0-9A-Fa-f]{16}"
    rb"|[A-Z0-9-]{1,24},\s{0,8}[0-9A-Fa-f]{16,32})"
)
# Where PEM ends and DER begins, in a file that concatenates both.
_DER_BEHIND = re.compile(rb"--\r?\n?(?=\x30[\x81-\x84])")
_ESCAPE = re.compile(rb"\\+(?:u00([0-9A-Fa-f]{2})|[nrt])?|%([0-9A-Fa-f]{2})")
_DATA_URI = re.compile(rb"^[\s\"']{0,8}data:[^,]{0,80};base64,")
_HEXADECIMAL = re.compile(rb"(?:0?x)?((?:[0-9A-Fa-f]{2})+)")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{40,}={0,2}")
# pkcs-12-keyBag and pkcs-12-pkcs8ShroudedKeyBag (RFC 7292, appendix D).
_KEY_BAGS = [(der.OID, bytes.fromhex("2a864886f70d010c0a01") + number) for number in (b"\1", b"\2")]
_OPENSSH = b"openssh-key-v1\0"
_FILE_NAME = re.compile(rb"[^\r\n]{0,300}(?:/[^\r\n]{0,300}|\.(?:p8|pem|p12|pfx|cer|crt|der|key))")


@attrs.frozen
class Contents:
    """
    The keys and certificates that were found.

    :ivar faults: why the rest cannot be used: keys, then certificates.
    :ivar others: what else was found, in words.
    """

    keys: tuple[PrivateKeyTypes, ...] = attrs.field(repr=False)
    certificates: tuple[x509.Certificate, ...]
    faults: tuple[CredentialError, ...]
    others: tuple[str, ...]

    def missing(self, what: str) -> CredentialError:
        """Make the error for a missing part: if a part could not be used, the error that says why."""
        if self.faults:
            return self.faults[0]
        parts = {"a private key": self.keys, "a certificate": self.certificates}
        found = [*self.others, *(name for name, each in parts.items() if each)]
        instead = f", only {' and '.join(found)}" if found else ": the text is empty"
        return CredentialError(f"there is no {what}{instead}")


def read(*texts: object, passphrase: object = None) -> Contents:
    """
    Find the keys and certificates in texts.

    :param texts: text or bytes: PEM, DER, PKCS#12, or base64 or hexadecimal digits of one of these. Blank ones are
        skipped.
    :param passphrase: text or bytes; decrypts what is encrypted.
    :returns: what was found, and what is wrong with the rest.
    :raises CredentialError: a text is something else, or larger than any credential.
    """
    reader = _Reader(b"" if passphrase is None else as_bytes(passphrase, "the passphrase"))
    for blob in _blobs(texts):
        reader.take(blob)
    return reader.contents()


def quick(*texts: object) -> bool:
    """
    Tell whether reading takes only milliseconds, so that it may block.

    The content of PKCS#12 is known only after decryption, so that never counts as quick.

    :param texts: as for :func:`read`.
    :raises CredentialError: as :func:`read` does.
    """
    blobs = list(_blobs(texts))
    work = sum(_work(blob) for blob in blobs if blob.kind is Kind.ENCRYPTED_KEY)
    return work <= _QUICK and not any(blob.kind is Kind.PKCS12 for blob in blobs)


def recognizes(text: str) -> bool:
    """Tell whether a text contains a credential, complete or not."""
    try:
        return any(True for _ in _blobs([text]))
    except CredentialError:
        return False


def as_bytes(value: object, name: str) -> bytes:
    """Convert text or bytes to bytes; anything else is a ``CredentialError``, which has the name of the value."""
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value) if not isinstance(value, memoryview) else value.tobytes()
        except ValueError:
            raise CredentialError(f"{name} is a memoryview that was released") from None
    if not isinstance(value, str):
        hint = "; from_file() reads a file" if hasattr(value, "__fspath__") else ""
        kind = "None" if value is None else f"of type {type(value).__name__}"
        raise CredentialError(f"{name} is {kind}, not text or bytes{hint}")
    return value.encode("utf-8", "surrogatepass")


# From texts to blobs: one key, certificate or PKCS#12 file each.


@attrs.frozen(repr=False)
class _Blob:
    """
    One element of DER, or something unreadable in its place.

    :ivar content: the DER; if ``encryption`` is given, it is encrypted as a whole.
    :ivar encryption: the value of ``DEK-Info``.
    """

    kind: Kind
    content: bytes
    label: str = ""
    encryption: bytes = b""
    fault: str = ""


def _blobs(texts: Sequence[object]) -> Iterator[_Blob]:
    for number, text in enumerate(texts, 1):
        name = f"text {number}" if len(texts) > 1 else "the text"
        data = _latin(text) or as_bytes(text, name)
        if len(data) > MAX_TEXT:
            raise CredentialError(f"{name} has {len(data)} bytes, more than any credential")
        yield from _unwrap(data, name, _MAX_WRAPPINGS)


def _latin(text: object) -> bytes | None:
    """The bytes of a text whose characters each stand for one byte, such as binary data in a text column."""
    try:
        return text.encode("latin-1") if isinstance(text, str) else None
    except UnicodeEncodeError:
        return None


def _unwrap(data: bytes, name: str, wrappings: int) -> Iterator[_Blob]:
    data = _narrow(data).lstrip()
    kind = Kind.of(data)
    if kind is not Kind.OTHER:
        length = der.extent(data)
        yield _der_blob(kind, data[:length], length)
        yield from _pem_blobs(data[length:])
        return
    behind = _DER_BEHIND.search(data) if wrappings else None
    if behind:
        yield from _unwrap(data[behind.end() :], name, wrappings - 1)
        data = data[: behind.end()]
    data = _ESCAPE.sub(_unescaped, data)
    if _MARKER.search(data):
        yield from _pem_blobs(data)
    elif data.strip(b" \t\r\n\0\"'"):
        inner = _decoded(data) if wrappings else None
        if inner is None:
            raise CredentialError(f"{name} {_impression(data)}")
        yield from _unwrap(inner, name, wrappings - 1)


def _narrow(data: bytes) -> bytes:
    """Convert UTF-16 to one byte per character, and drop a byte order mark. Only ASCII matters."""
    for encoding, mark, zeros in (("utf-16-le", b"\xff\xfe", data[1::2]), ("utf-16-be", b"\xfe\xff", data[::2])):
        if data.startswith(mark) or (len(data) > 2 and not zeros.strip(b"\0")):
            return data.decode(encoding, "replace").encode("ascii", "ignore")
    return data.removeprefix(b"\xef\xbb\xbf")


def _unescaped(escape: re.Match[bytes]) -> bytes:
    r"""Decode an escape: ``\u002b`` or ``%2B`` is a byte, ``\n`` a line end, a backslash nothing."""
    if code := escape[1] or escape[2]:
        return bytes.fromhex(code.decode("ascii"))
    return b"\n" if escape[0][-1:] in b"nrt" else b""


def _decoded(data: bytes) -> bytes | None:
    """Decode hexadecimal digits or base64, if the text looks like either."""
    packed = re.sub(rb"[\s\"']+", b"", _DATA_URI.sub(b"", data))
    if hexadecimal := _HEXADECIMAL.fullmatch(packed):
        return bytes.fromhex(hexadecimal[1].decode("ascii"))
    if not _BASE64.fullmatch(packed):
        return None
    return _base64(packed.translate(bytes.maketrans(b"-_", b"+/")))


def _base64(text: bytes) -> bytes | None:
    text = text.rstrip(b"=")
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        return None


def _impression(data: bytes) -> str:
    """Describe a text that contains no credential. The text itself may be a secret and is not shown."""
    data = data.strip()
    if data[:1] in (b"{", b"[", b"<"):
        return "is JSON, XML or HTML without PEM"
    if _FILE_NAME.fullmatch(data):
        return "contains no PEM; it looks like a file name, and from_file() reads files"
    return "contains no PEM, and is not DER, PKCS#12 or base64 of these; a passphrase is given as passphrase=…"


def _pem_blobs(text: bytes) -> Iterator[_Blob]:
    """Find what is between a BEGIN and an END; it is a fault if one of them is missing."""
    begun: re.Match[bytes] | None = None
    for marker in _MARKER.finditer(text):
        if marker[1] == b"BEGIN":
            if begun:
                yield _cut(begun, "END")
            begun = marker
        elif begun is None:
            yield _cut(marker, "BEGIN")
        else:
            yield _pem_blob(begun[2].decode("ascii"), text[begun.end() : marker.start()])
            begun = None
    if begun:
        yield _cut(begun, "END")


def _cut(marker: re.Match[bytes], missing: str) -> _Blob:
    label = marker[2].decode("ascii")
    return _Blob(Kind.OTHER, b"", label, fault=f"is incomplete: its -----{missing} line is missing")


def _pem_blob(label: str, body: bytes) -> _Blob:
    encrypted = _ENCRYPTED.search(body)
    content = _base64(_NOT_BASE64.sub(b"", body[encrypted.end() :] if encrypted else body))
    if content is None:
        return _Blob(Kind.OTHER, b"", label, fault="cannot be read: it is not base64, so something is missing or added")
    if content.startswith(_OPENSSH):
        fault = "is in OpenSSH's own format; convert it with: ssh-keygen -p -m PKCS8 -f FILE"
        return _Blob(Kind.OTHER, b"", label, fault=fault)
    if encrypted:
        return _Blob(Kind.PRIVATE_KEY, content, label, encryption=re.sub(rb"\s", b"", encrypted[1]))
    kind = Kind.of(content)
    if kind is Kind.OTHER:
        return _Blob(kind, content, label, fault="cannot be read: it is damaged, or of an unknown kind")
    return _der_blob(kind, content, der.extent(content), label)


def _der_blob(kind: Kind, content: bytes, length: int, label: str = "") -> _Blob:
    if len(content) < length:
        fault = f"is incomplete: it has {len(content)} of its {length} bytes"
        return _Blob(Kind.OTHER, content, label or kind.value, fault=fault)
    return _Blob(kind, content[:length], label)


def _work(blob: _Blob) -> int:
    """The number of iterations to decrypt a blob; an error if that is too many."""
    try:
        found = der.iterations(blob.content)
    except ValueError:
        raise CredentialError(f"{blob.kind.value} cannot be read: its elements are nested too deeply") from None
    if max(found, default=0) > _MAX_ITERATIONS or sum(found) > _MAX_WORK:
        raise CredentialError(
            f"it takes {max(found):,} iterations to decrypt {blob.kind.value}, more than the {_MAX_ITERATIONS:,} "
            "allowed; export it again with fewer"
        )
    return sum(found)


# From blobs to keys and certificates.


class _Reader:
    def __init__(self, passphrase: bytes) -> None:
        self._passphrase = passphrase
        self._keys: list[PrivateKeyTypes] = []
        self._certificates: list[x509.Certificate] = []
        self._key_faults: list[CredentialError] = []
        self._certificate_faults: list[CredentialError] = []
        self._others: list[str] = []
        self._secrets = 0
        self._worked = 0

    def contents(self) -> Contents:
        faults = (*self._key_faults, *self._certificate_faults)
        return Contents(tuple(self._keys), tuple(self._certificates), faults, tuple(dict.fromkeys(self._others)))

    def take(self, blob: _Blob) -> None:
        try:
            if blob.fault:
                self._take_fault(blob)
            elif blob.kind in (Kind.PRIVATE_KEY, Kind.ENCRYPTED_KEY):
                self._keys.append(self._key(blob))
            elif blob.kind is Kind.PKCS12:
                self._take_pkcs12(blob)
            elif blob.kind in (Kind.CERTIFICATE, Kind.PKCS7):
                self._certificates += _certificates(blob)
            else:
                self._others.append(blob.kind.value)
        except CredentialError as error:
            of_certificate = blob.kind in (Kind.CERTIFICATE, Kind.PKCS7) or "CERTIFICATE" in blob.label.upper()
            (self._certificate_faults if of_certificate else self._key_faults).append(error)

    def _take_fault(self, blob: _Blob) -> None:
        label = blob.label.lower().replace(" ", "")
        for part in ("private key", "certificate", "PKCS#12 file"):
            if part.lower().replace(" ", "") in label and "request" not in label:
                raise CredentialError(f"the {part} {blob.fault}")
        if not label.endswith("parameters"):  # those of an elliptic curve, which its key has as well
            self._others.append(f"a PEM block called {blob.label}")

    def _take_pkcs12(self, blob: _Blob) -> None:
        bag = self._open(blob)
        self._certificates += [each.certificate for each in (bag.cert, *bag.additional_certs) if each is not None]
        if bag.key is not None:
            self._keys.append(bag.key)
        # OpenSSL returns only the first key. An export of several identities has several.
        keys = list(_key_bags(blob.content))
        for key in keys if len(keys) > 1 else ():
            self.take(_Blob(Kind.of(key), key))

    def _open(self, blob: _Blob) -> pkcs12.PKCS12KeyAndCertificates:
        self._work(blob)
        # A file without a passphrase is opened with any, as a key is. OpenSSL's binding does not accept NUL.
        for word in {self._passphrase: None, b"": None}:
            try:
                if b"\0" not in word:
                    return shielded(pkcs12.load_pkcs12, blob.content, _utf8(word) or None)
            except UnsupportedAlgorithm:
                raise UnsupportedKey("the PKCS#12 file is encrypted in a way that is not supported") from None
            except ValueError as error:
                if "password" not in str(error):
                    raise CredentialError("the PKCS#12 file has a key or certificate that cannot be read") from None
        fault = "the passphrase does not open" if self._passphrase else "no passphrase was given for"
        raise WrongPassphrase(f"{fault} the PKCS#12 file, or it is damaged")

    def _key(self, blob: _Blob) -> PrivateKeyTypes:
        encrypted = blob.kind is Kind.ENCRYPTED_KEY or bool(blob.encryption)
        if encrypted and not self._passphrase:
            raise WrongPassphrase("the private key is encrypted and no passphrase was given")
        self._work(blob)
        try:
            key = _decrypted(blob, self._passphrase) if blob.encryption else _plain(blob, self._passphrase)
        except (UnsupportedAlgorithm, ValueError) as error:
            if encrypted and str(error).startswith("Could not deserialize"):
                # One wrong passphrase in 256 leaves a padding that is right, and octets that are no key.
                fault = "the passphrase does not open the private key, or that is damaged or of an unknown kind"
                raise WrongPassphrase(fault) from None
            if isinstance(error, UnsupportedAlgorithm) or re.search("algorithm|unknown cipher", str(error)):
                unsupported = "the private key is of a kind, or encrypted in a way, that is not supported"
                raise UnsupportedKey(unsupported) from None
            if encrypted:
                raise WrongPassphrase("the passphrase does not open the private key, or the key is damaged") from None
            raise CredentialError("the private key cannot be read: it is damaged, or of an unknown kind") from None
        if isinstance(key, rsa.RSAPrivateKey) and not _is_sound(key.private_numbers()):
            raise CredentialError("the private key is damaged: its numbers do not match")
        return key

    def _work(self, blob: _Blob) -> None:
        """Check that a key or PKCS#12 file is not too much work, and neither are all of them together."""
        self._secrets += 1
        if len(blob.content) > _MAX_SECRET or self._secrets > _MAX_KEYS:
            raise CredentialError("the private keys are too large or too many for a credential")
        if not blob.encryption:
            self._worked += _work(blob)
        if self._worked > _MAX_WORK:
            raise CredentialError("the private keys together take too many iterations to decrypt")


def _certificates(blob: _Blob) -> list[x509.Certificate]:
    try:
        if blob.kind is Kind.PKCS7:
            return shielded(pkcs7.load_der_pkcs7_certificates, blob.content)
        return [shielded(x509.load_der_x509_certificate, blob.content)]
    except (UnsupportedAlgorithm, ValueError):
        raise CredentialError("a certificate cannot be read: it is damaged, or of an unknown version") from None


def _plain(blob: _Blob, passphrase: bytes) -> PrivateKeyTypes:
    word = passphrase if blob.kind is Kind.ENCRYPTED_KEY else None
    # Proving that the numbers of an RSA key are prime takes seconds, and numbers that are not do no harm.
    return shielded(serialization.load_der_private_key, blob.content, word, unsafe_skip_rsa_key_validation=True)


def _decrypted(blob: _Blob, passphrase: bytes) -> PrivateKeyTypes:
    """Decrypt OpenSSL's older encrypted form, which can only be read from its own PEM."""
    body = b"Proc-Type: 4,ENCRYPTED\nDEK-Info: %s\n\n%s" % (blob.encryption, binascii.b2a_base64(blob.content))
    failed = ValueError()
    for label in dict.fromkeys((blob.label.encode("ascii"), b"EC PRIVATE KEY", b"RSA PRIVATE KEY")):
        pem = b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label, body, label)
        try:
            return shielded(serialization.load_pem_private_key, pem, passphrase, unsafe_skip_rsa_key_validation=True)
        except ValueError as error:
            failed = error
    raise failed


def _is_sound(numbers: rsa.RSAPrivateNumbers) -> bool:
    """Whether an RSA key's numbers match (RFC 8017, section 3.2), so that arithmetic with them is safe."""
    p, q, public = numbers.p, numbers.q, numbers.public_numbers
    return (
        p % 2 == q % 2 == 1
        and min(p, q) > 1
        and p * q == public.n
        and numbers.dmp1 == numbers.d % (p - 1)
        and numbers.dmq1 == numbers.d % (q - 1)
        and numbers.dmp1 * public.e % (p - 1) == numbers.dmq1 * public.e % (q - 1) == 1
        and numbers.iqmp * q % p == 1
    )


def _key_bags(content: bytes) -> Iterator[bytes]:
    """Find the private keys in PKCS#12 that are not encrypted, or encrypted individually."""
    for siblings in der.walk(content):
        if len(siblings) > 1 and siblings[0] in _KEY_BAGS:
            yield siblings[1][1]


def _utf8(word: bytes) -> bytes:
    """A passphrase as text for PKCS#12: UTF-8, otherwise Latin-1, as in OpenSSL."""
    try:
        word.decode()
    except UnicodeDecodeError:
        return word.decode("latin-1").encode()
    return word


def public_der(key: PublicKeyTypes) -> bytes:
    """Return a public key as DER, by which keys are compared."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def shielded(
    call: Callable[_Parameters, _Result], *arguments: _Parameters.args, **options: _Parameters.kwargs
) -> _Result:
    """
    Call into ``cryptography``, which may raise anything for odd input, even Rust's panics.

    :raises UnsupportedAlgorithm: unchanged.
    :raises ValueError: instead of any other exception, without a cause, since that may show the input.
    """
    try:
        return call(*arguments, **options)
    except UnsupportedAlgorithm:
        raise
    except Exception as error:
        words = str(error) if isinstance(error, ValueError) else type(error).__name__
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        words = "panic"
    raise ValueError(words)
