"""
The certificate authorities to trust: those of the platform, or those that a program gives.

OpenSSL reads the platform's authorities from a file or a directory, which the variables ``SSL_CERT_FILE`` and
``SSL_CERT_DIR`` name, or which each distribution puts in its own place. macOS and Windows keep theirs where OpenSSL
cannot read them; then Mozilla's authorities are trusted, which come with ``certifi``.

They are read once per process. With OpenSSL's own defaults, each client would read them again and keep a copy: 12 ms
and 0.9 MB, which is much for a daemon with a thousand apps.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import attrs
import certifi
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto
from twisted.internet.ssl import Certificate, trustRootFromCertificates

from txapns._credentials.containers import Text, as_bytes, shielded
from txapns._credentials.der import Kind
from txapns._texts import utf8
from txapns.errors import CredentialError

__all__ = ["Trust", "authorities_file", "given_trust", "platform_trust", "trust_pem"]

# Where the distributions keep their authorities. The interpreter knows one place; the OpenSSL in cryptography's wheels
# knows none of these.
_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # the BSDs
)
_DIRECTORY = "/etc/ssl/certs"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_HASH = re.compile(r"[0-9a-f]{8}\.[0-9]+")  # the names by which OpenSSL finds certificates


@attrs.frozen
class Trust:
    """Certificate authorities, and where they come from, for messages."""

    certificates: tuple[crypto.X509, ...] = attrs.field(repr=False)
    source: str

    def install(self, context: SSL.Context) -> None:
        """Let a context that has no authorities yet trust these."""
        store = context.get_cert_store()
        assert store is not None
        for certificate in self.certificates:
            store.add_cert(certificate)

    def root(self) -> object:
        """Convert them to a Twisted trust root."""
        return trustRootFromCertificates(map(Certificate, self.certificates))


def given_trust(trust_root: Text) -> Trust:
    """Trust the authorities in the PEM that a program gives; anything else is a ``CredentialError``."""
    return Trust(tuple(map(crypto.X509.from_cryptography, _certificates(trust_root))), "trust_root")


def trust_pem(trust_root: Text) -> str:
    """Convert the PEM that a program gives to the certificates alone, without any text between them."""
    return "".join(each.public_bytes(Encoding.PEM).decode("ascii") for each in _certificates(trust_root))


def _certificates(trust_root: Text) -> list[x509.Certificate]:
    content = utf8(as_bytes(trust_root, "trust_root"))
    try:
        return shielded(x509.load_pem_x509_certificates, content)
    except ValueError:
        pass
    if not content.startswith(b"0"):  # the tag of an ASN.1 sequence
        raise CredentialError("trust_root is not the PEM of one or more certificates")
    command = "pkcs7 -print_certs" if Kind.of(content) is Kind.PKCS7 else "x509"
    raise CredentialError(
        f"trust_root is DER, as Windows exports it, not PEM; convert it with: openssl {command} -inform der -in FILE"
    )


@cache
def platform_trust() -> Trust:
    """Trust the platform's authorities if OpenSSL can read them, otherwise Mozilla's. They are read once."""
    for places in _places():
        found = {place: certificates for place in places if (certificates := _authorities(place))}
        if found:
            return Trust(tuple(each for some in found.values() for each in some), " and ".join(map(str, found)))
    path = Path(certifi.where())
    return Trust(tuple(_authorities(path)), f"certifi ({path}), since the platform's cannot be read")


def authorities_file() -> Path:
    """Find a file with the platform's authorities, or else Mozilla's, for libraries that read it themselves."""
    found = (place for places in _places() for place in places if place.is_file())
    return next(found, Path(certifi.where()))


def _places() -> Iterator[Sequence[Path]]:
    """List the places to look in, in groups; the first group that has certificates counts."""
    usual = ssl.get_default_verify_paths()
    file = os.environ.get(usual.openssl_cafile_env)
    directories = os.environ.get(usual.openssl_capath_env)
    if file or directories:
        yield [Path(each) for each in (file, *(directories or "").split(os.pathsep)) if each]
        return
    yield from ([Path(each)] for each in (usual.openssl_cafile, *_FILES, usual.openssl_capath, _DIRECTORY))


def _authorities(place: Path) -> list[crypto.X509]:
    """Read a file or a directory. Skip unreadable certificates, so that one does not disable hundreds of others."""
    try:
        files = [each for each in sorted(place.iterdir()) if _HASH.fullmatch(each.name)] if place.is_dir() else [place]
        texts = [each.read_bytes() for each in files]
    except OSError:
        return []
    found = []
    for pem in _CERTIFICATE.findall(b"".join(texts)):
        try:
            found.append(crypto.load_certificate(crypto.FILETYPE_PEM, pem))
        except crypto.Error:
            continue
    return found
