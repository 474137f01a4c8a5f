"""
What a credential is good for, as far as its file says.

A certificate says it all: Apple writes topics and environments into it. It is for the topics that it lists, each of
which is for the push types of its suffix, or for the one app of its subject. Live Activities and location pushes need a
provider token (Apple, "Sending notification requests to APNs").

The file of a signing key holds a key and nothing else; only the developer account and the gateways know the rest.
Apple's name for the file has the key's identifier: ``AuthKey_ABC123DEFG.p8``.

A file that cannot be used is inspected as well, as long as it can be read: a certificate that has expired, or whose
private key is missing.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import PurePath
from typing import Any

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from txapns._credentials.choice import TOPICS, inspect_certificate, is_marked, key_in
from txapns._credentials.containers import Text, public_der, read, shielded
from txapns.devices.push import SUFFIXES
from txapns.errors import CredentialError

__all__ = ["SOON", "TOKEN_ONLY", "Inspection", "inspect", "push_types_of"]

#: How long before its end a certificate is to be renewed, at the latest.
SOON = timedelta(days=30)
#: The push types for which Apple accepts no certificate.
TOKEN_ONLY = ("liveactivity", "location")

# The alphabet of Apple's identifiers; there have always been ten.
_KEY_FILE = re.compile(r"AuthKey_([A-Z0-9]{10})\b.*")


@attrs.frozen(kw_only=True)
class Inspection:
    """
    What a file says about one credential. No field is secret.

    :ivar kind: ``"certificate"`` or ``"signing key"``.
    :ivar name: the subject's common name; empty for a signing key.
    :ivar issuer: the issuer's common name; empty for a signing key.
    :ivar key: the kind of the private key; empty if it is missing.
    :ivar key_id: the identifier of a signing key, if the file's name has it.
    :ivar topics: what a certificate may send to; for a signing key it is unknown, and so empty.
    :ivar environments: ``"production"`` and ``"sandbox"``, as far as a certificate says.
    :ivar begins: from when a certificate is valid, with its time zone (UTC).
    :ivar expires: until when.
    :ivar fingerprint: the SHA-256 of a certificate, or of a signing key's public key, in hexadecimal.
    :ivar good_for: sentences.
    :ivar not_for: sentences.
    :ivar warnings: what will need care soon.
    :ivar faults: why it cannot be used now.
    """

    kind: str
    name: str = ""
    issuer: str = ""
    key: str = ""
    key_id: str | None = None
    topics: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    begins: datetime | None = None
    expires: datetime | None = None
    fingerprint: str = ""
    good_for: tuple[str, ...] = ()
    not_for: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether it can be used now, as far as the file says."""
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        """Convert it to values that JSON can hold."""
        fields = attrs.asdict(self, recurse=False)
        times = {name: value.isoformat() for name, value in fields.items() if isinstance(value, datetime)}
        lists = {name: [*value] for name, value in fields.items() if isinstance(value, tuple)}
        return {**fields, **times, **lists, "usable": self.usable}


def inspect(content: Text, now: datetime, *, name: str = "", passphrase: Text | None = None) -> list[Inspection]:
    """
    Inspect the credentials in a file.

    :param content: the content of the file, in any form that :class:`~txapns.Certificate` or
        :class:`~txapns.ProviderToken` reads.
    :param now: the present, with its time zone.
    :param name: the name of the file, which may have the identifier of a signing key.
    :param passphrase: decrypts it.
    :returns: one for each push certificate (for each certificate, if there are none of Apple's) and each signing key.
    :raises WrongPassphrase: something is encrypted, and the passphrase is missing or wrong.
    :raises CredentialError: there is neither certificate nor key, or it cannot be read.
    """
    contents = read(content, passphrase=passphrase)
    keys = {public_der(each.public_key()): each for each in contents.keys}
    leaves = _leaves(contents.certificates, keys)
    if contents.faults and not keys:
        raise contents.faults[0]
    if not leaves and not keys:
        raise contents.missing("certificate or private key")
    try:
        certificates = [shielded(_certificate, each, keys, now) for each in leaves]
    except (UnsupportedAlgorithm, ValueError):
        raise CredentialError("the certificate's subject, dates or extensions cannot be read") from None
    if certificates:
        return certificates
    return [_signing_key(key, PurePath(name).name) for key in keys.values()]


def push_types_of(topic: str) -> tuple[str, ...]:
    """
    List the push types that a topic is for, by its suffix.

    :returns: for example ``("voip",)`` for ``"com.example.app.voip"``, and ``("alert", "background")`` for an app's
        bundle ID.
    """
    if topic.startswith("com.apple.mgmt."):
        return ("mdm",)
    found = tuple(push_type for push_type, suffix in SUFFIXES.items() if topic.endswith(suffix))
    return found or ("alert", "background")


def _leaves(certificates: tuple[x509.Certificate, ...], keys: dict[bytes, Any]) -> list[x509.Certificate]:
    """Leave out the certificates of authorities: what remains has Apple's marks, or a private key."""
    marked = [each for each in certificates if is_marked(each)]
    return marked or [each for each in certificates if key_in(each) in keys] or [*certificates[:1]]


def _certificate(certificate: x509.Certificate, keys: dict[bytes, Any], now: datetime) -> Inspection:
    topics, environments = inspect_certificate(certificate)
    listed = any(extension.oid == TOPICS for extension in certificate.extensions)
    key = keys.get(key_in(certificate) or b"")
    begins, expires = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    good_for = [f"{topic}: {', '.join(_purposes(topic))}" for topic in topics]
    return Inspection(
        kind="certificate",
        name=_common_name(certificate.subject),
        issuer=_common_name(certificate.issuer),
        key="" if key is None else _describe(key),
        topics=topics,
        environments=tuple(sorted(environments)),
        begins=begins,
        expires=expires,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        good_for=tuple(good_for),
        not_for=tuple(_excluded(topics, listed, environments)),
        warnings=() if not timedelta() < expires - now <= SOON else (f"it expires in {(expires - now).days} days",),
        faults=tuple(_certificate_faults(topics, key, keys, (begins, expires), now)),
    )


def _certificate_faults(
    topics: tuple[str, ...], key: Any, keys: dict[bytes, Any], valid: tuple[datetime, datetime], now: datetime
) -> list[str]:
    begins, expires = valid
    faults = []
    if key is None and keys:
        faults.append("the private key in the file belongs to another certificate; export both from the same identity")
    elif key is None:
        faults.append("the private key is missing; export it together with the certificate")
    if now > expires:
        faults.append(f"it expired on {expires:%Y-%m-%d}; renew it in the developer account")
    if now < begins:
        faults.append(f"it is valid only from {begins:%Y-%m-%d %H:%M} UTC on; check this machine's clock")
    if not topics:
        faults.append("it names no topic, so it is not a certificate for push notifications")
    return faults


def _purposes(topic: str) -> tuple[str, ...]:
    return ("Wallet passes",) if topic.startswith("pass.") else push_types_of(topic)


def _excluded(topics: tuple[str, ...], listed: bool, environments: frozenset[str]) -> list[str]:
    excluded = [f"{' and '.join(TOKEN_ONLY)} pushes: they need a provider token"]
    missing = [each for each in ("production", "sandbox") if environments and each not in environments]
    excluded += [f"{each}: the certificate is for the other environment" for each in missing]
    served = {push_type for topic in topics for push_type in push_types_of(topic)} | {*TOKEN_ONLY}
    others = [each for each in SUFFIXES if each not in served]
    if others and topics:
        why = "the certificate does not list their topics" if listed else "the certificate is for one topic"
        excluded.append(f"{', '.join(others)}: {why}")
    return excluded


def _signing_key(key: Any, name: str) -> Inspection:
    match = _KEY_FILE.fullmatch(name)
    p256 = isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(public_der(key.public_key()))
    return Inspection(
        kind="signing key",
        key=_describe(key),
        key_id=match[1] if match else None,
        fingerprint=digest.finalize().hex(),
        good_for=("every push type; the file does not say which topics and environments: txapns doctor asks",)
        if p256
        else (),
        not_for=("the binary protocol, which has no provider tokens",),
        warnings=() if match else ("the file's name does not tell the key's identifier; see the developer account",),
        faults=() if p256 else ("it is not on the elliptic curve P-256, as Apple's .p8 keys are",),
    )


def _describe(key: Any) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return f"RSA, {key.key_size} bits"
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return "elliptic curve P-256" if isinstance(key.curve, ec.SECP256R1) else f"elliptic curve {key.curve.name}"
    return "neither RSA nor elliptic curve"


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()
