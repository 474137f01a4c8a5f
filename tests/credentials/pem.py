"""Parts of PEM texts for tests of credentials."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from txapns.simulator.authority import Authority

AUTHORITY = Authority()


def certificates_of(pem: bytes) -> bytes:
    """Return the certificates of a PEM text, without the private key."""
    found = x509.load_pem_x509_certificates(pem)
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in found)


def key_of(pem: bytes) -> bytes:
    """Return the private key of a PEM text, without the certificates."""
    return to_pem(load_pem_private_key(pem, None))


def to_pem(key: PrivateKeyTypes, passphrase: str | None = None, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    """Write a private key as PEM."""
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, encryption)


def self_signed(key: ec.EllipticCurvePrivateKey, expires: datetime, *extensions: x509.ExtensionType) -> bytes:
    """Make a self-signed certificate with an empty subject."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(expires - timedelta(days=400))
        .not_valid_after(expires)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
