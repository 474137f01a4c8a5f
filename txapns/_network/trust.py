"""
Whom to trust: the authorities of the platform, or those that a program gives.

OpenSSL has the platform's authorities in a file or a directory, which the variables ``SSL_CERT_FILE`` and
``SSL_CERT_DIR`` name, or which is where each distribution puts it. macOS and Windows keep theirs elsewhere, where
OpenSSL cannot read; then those of Mozilla are trusted, which ``certifi`` brings.

They are read once in the process. Left to OpenSSL, each client would read them again and keep a copy of its own: 12 ms
and 0.9 MB, which is much for a gateway with a thousand apps.
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

from txapns._credentials.containers import Text, octets, shielded
from txapns._credentials.der import Kind
from txapns._texts import utf8
from txapns.errors import CredentialError

__all__ = ["Trust", "given_trust", "platform_trust", "trust_pem"]

# Where the distributions have their authorities. The interpreter knows one place; OpenSSL as it comes with
# cryptography knows none of these.
_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # the BSDs
)
_DIRECTORY = "/etc/ssl/certs"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_HASH = re.compile(r"[0-9a-f]{8}\.[0-9]+")  # how OpenSSL finds a certificate in a directory


@attrs.frozen
class Trust:
    """
    Authorities.

    :ivar certificates: theirs.
    :ivar source: where they come from, for messages.
    """

    certificates: tuple[crypto.X509, ...] = attrs.field(repr=False)
    source: str

    def install(self, context: SSL.Context) -> None:
        """
        Have a context trust them, and nobody else.

        :param context: the context, which trusts nobody yet.
        """
        store = context.get_cert_store()
        assert store is not None
        for certificate in self.certificates:
            store.add_cert(certificate)

    def root(self) -> object:
        """Give them as Twisted takes them."""
        return trustRootFromCertificates(map(Certificate, self.certificates))


def given_trust(trust_root: Text) -> Trust:
    """
    Trust the authorities that a program gives.

    :param trust_root: the PEM of one or more certificates.
    :raises CredentialError: it is something else.
    """
    return Trust(tuple(map(crypto.X509.from_cryptography, _certificates(trust_root))), "trust_root")


def trust_pem(trust_root: Text) -> str:
    """
    Give the authorities that a program gives as PEM.

    :param trust_root: as for :func:`given_trust`.
    :returns: the PEM, and nothing else that may stand between the certificates.
    :raises CredentialError: it is something else.
    """
    return "".join(each.public_bytes(Encoding.PEM).decode("ascii") for each in _certificates(trust_root))


def _certificates(trust_root: Text) -> list[x509.Certificate]:
    content = utf8(octets(trust_root, "trust_root"))
    try:
        return shielded(x509.load_pem_x509_certificates, content)
    except ValueError:
        pass
    if not content.startswith(b"0"):  # which is how a sequence of ASN.1 begins
        raise CredentialError("trust_root is not the PEM of one or more certificates")
    command = "pkcs7 -print_certs" if Kind.of(content) is Kind.PKCS7 else "x509"
    raise CredentialError(
        f"trust_root is not PEM but DER, as Windows exports it; openssl {command} -inform der -in FILE makes PEM of it"
    )


@cache
def platform_trust() -> Trust:
    """
    Trust the platform's authorities, where OpenSSL can read them, and otherwise Mozilla's.

    :returns: always the same: they are read the first time.
    """
    for places in _places():
        found = {place: certificates for place in places if (certificates := _authorities(place))}
        if found:
            return Trust(tuple(each for some in found.values() for each in some), " and ".join(map(str, found)))
    path = Path(certifi.where())
    return Trust(tuple(_authorities(path)), f"certifi ({path}), since the platform's cannot be read")


def _places() -> Iterator[Sequence[Path]]:
    """Give the places to look in, of which those count that come first and have something."""
    usual = ssl.get_default_verify_paths()
    file = os.environ.get(usual.openssl_cafile_env)
    directories = os.environ.get(usual.openssl_capath_env)
    if file or directories:
        yield [Path(each) for each in (file, *(directories or "").split(os.pathsep)) if each]
        return
    for place in (usual.openssl_cafile, *_FILES, usual.openssl_capath, _DIRECTORY):
        yield [Path(place)]


def _authorities(place: Path) -> list[crypto.X509]:
    """Read a file or a directory. Of hundreds of authorities one that cannot be read is no reason to trust nobody."""
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
