"""Which certificate is meant, among all the keys and certificates that were read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from txapns._credentials.containers import Contents, public_der, shielded
from txapns._credentials.der import UTF8_STRING, elements
from txapns.errors import CertificateExpired, CredentialError, KeyMismatch, UnsupportedKey

__all__ = ["TOPICS", "Candidate", "choose", "inspect_certificate", "is_marked", "key_in"]

_ENVIRONMENTS = {
    x509.ObjectIdentifier("1.2.840.113635.100.6.3.1"): "sandbox",
    x509.ObjectIdentifier("1.2.840.113635.100.6.3.2"): "production",
}
#: Apple's mark in a certificate that lists its topics.
TOPICS = x509.ObjectIdentifier("1.2.840.113635.100.6.3.6")
#: Apple's marks of push certificates begin with this. Apple's other certificates have other marks.
_MARKS = "1.2.840.113635.100.6.3."


@attrs.frozen(kw_only=True, eq=False)
class Candidate:
    """A certificate whose private key was found, with what it says. The fields are those of ``Certificate``."""

    certificate: x509.Certificate
    private_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = attrs.field(repr=False)
    chain: tuple[x509.Certificate, ...]
    name: str
    topics: tuple[str, ...]
    needs_topic: bool
    environments: frozenset[str]
    expires: datetime
    fingerprint: str

    def is_valid(self, now: datetime) -> bool:
        return self.certificate.not_valid_before_utc <= now <= self.expires

    def is_for(self, environment: str | None, topic: str | None) -> bool:
        """Whether it serves an environment and a topic. A certificate that names none may serve any."""
        return (environment is None or not self.environments or environment in self.environments) and (
            topic is None or not self.topics or topic in self.topics
        )

    def summary(self) -> str:
        """Its name, topics, environments and last day, for a list of candidates."""
        environments = ", ".join(sorted(self.environments)) or "no environment"
        topics = ", ".join(self.topics[:3]) + (", …" if len(self.topics) > 3 else "") or "no topic"
        return f"{self.name!r} ({topics}; {environments}; until {self.expires:%Y-%m-%d})"


def inspect_certificate(certificate: x509.Certificate) -> tuple[tuple[str, ...], frozenset[str]]:
    """
    Read Apple's marks in a push certificate.

    :returns: the topics, that of the subject first; and the environments, ``"sandbox"`` and ``"production"``.
    :raises CredentialError: its subject or extensions cannot be read.
    """
    try:
        return shielded(_topics_and_environments, certificate)
    except (UnsupportedAlgorithm, ValueError):
        raise CredentialError("the certificate's subject or extensions cannot be read") from None


def choose(contents: Contents, now: datetime, environment: str | None, topic: str | None) -> Candidate:
    """
    Choose the certificate; ``Certificate.from_pem`` has the rules.

    :raises CredentialError: and its subclasses, if there is none, or not just one.
    """
    if environment not in (None, *_ENVIRONMENTS.values()):
        raise CredentialError("environment is neither 'sandbox' nor 'production'")
    candidates = _candidates(contents)
    fitting = [each for each in candidates if each.is_for(environment, topic)]
    if not fitting:
        found = "; ".join(each.summary() for each in candidates)
        raise CredentialError(f"no certificate is for the given environment and topic; found: {found}")
    valid = [each for each in fitting if each.is_valid(now)]
    chosen = max(valid or fitting, key=lambda each: each.expires)
    if not valid:
        begins = chosen.certificate.not_valid_before_utc
        raise CertificateExpired(
            f"the certificate {chosen.name!r} is valid from {begins:%Y-%m-%d %H:%M} to "
            f"{chosen.expires:%Y-%m-%d %H:%M} UTC; it is now {now:%Y-%m-%d %H:%M}"
        )
    purposes = {
        (each.environments if environment is None else None, frozenset(each.topics) if topic is None else None)
        for each in valid
    }
    if len(purposes) > 1:
        found = "; ".join(each.summary() for each in valid)
        raise CredentialError(f"several certificates fit; choose by environment=… or topic=…: {found}")
    return chosen


def _candidates(contents: Contents) -> list[Candidate]:
    """Find the certificates that have their private keys; push certificates only, if there are any."""
    if not contents.keys:
        raise contents.missing("private key")
    if not contents.certificates:
        raise contents.missing("certificate (a .p8 makes a ProviderToken)")
    keys = {
        public_der(key.public_key()): key
        for key in contents.keys
        if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    }
    if not keys:
        raise UnsupportedKey("the private key is neither RSA nor elliptic curve")
    push = [each for each in contents.certificates if is_marked(each)]
    own = {each: keys[key] for each in push or contents.certificates if (key := key_in(each)) in keys}
    if not own:
        if contents.faults:
            raise contents.faults[0]
        raise KeyMismatch(f"the private key belongs to none of the {'push ' if push else ''}certificates")
    others = [each for each in contents.certificates if each not in own and _is_readable(each)]
    try:
        return [shielded(_inspect, each, key, others) for each, key in own.items()]
    except (UnsupportedAlgorithm, ValueError):
        raise CredentialError("the certificate's subject, dates or extensions cannot be read") from None


def _inspect(
    leaf: x509.Certificate, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, others: Sequence[x509.Certificate]
) -> Candidate:
    topics, environments = inspect_certificate(leaf)
    subject = {attribute.oid: str(attribute.value) for attribute in leaf.subject}
    return Candidate(
        certificate=leaf,
        private_key=key,
        chain=_chain(leaf, others),
        name=subject.get(NameOID.COMMON_NAME, ""),
        topics=topics,
        needs_topic=any(extension.oid == TOPICS for extension in leaf.extensions),
        environments=environments,
        expires=leaf.not_valid_after_utc,
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
    )


def _chain(leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Put the issuers in the order in which TLS sends them, each after the one it certifies; leave out the others."""
    chain = [leaf]
    while issuer := next((c for c in others if c.subject == chain[-1].issuer and c not in chain), None):
        chain.append(issuer)
    return tuple(chain[1:])


def _is_readable(certificate: x509.Certificate) -> bool:
    """Whether the names that place a certificate in a chain can be read."""
    try:
        return bool(shielded(lambda: (certificate.subject, certificate.issuer)))
    except (UnsupportedAlgorithm, ValueError):
        return False


def is_marked(certificate: x509.Certificate) -> bool:
    """Whether it has one of Apple's marks of push certificates."""
    try:
        return any(each.oid.dotted_string.startswith(_MARKS) for each in shielded(lambda: certificate.extensions))
    except (UnsupportedAlgorithm, ValueError):
        return False


def key_in(certificate: x509.Certificate) -> bytes | None:
    """The public key in a certificate; ``None`` for an unknown kind of key, which is allowed in a chain."""
    try:
        return public_der(shielded(certificate.public_key))
    except (UnsupportedAlgorithm, ValueError):
        return None


def _topics_and_environments(certificate: x509.Certificate) -> tuple[tuple[str, ...], frozenset[str]]:
    bundle = [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(NameOID.USER_ID)]
    extensions = {extension.oid: extension.value for extension in certificate.extensions}
    listed = _topics(extensions[TOPICS].public_bytes()) if TOPICS in extensions else ()
    environments = frozenset(name for oid, name in _ENVIRONMENTS.items() if oid in extensions)
    return tuple(dict.fromkeys([*bundle, *listed])), environments


def _topics(extension: bytes) -> Iterator[str]:
    """
    Read Apple's list of topics.

    Each topic is followed by a sequence of the kinds of push it is for, which we skip::

        30 …                      SEQUENCE
           0c 0f com.example.app     UTF8String
           30 05 0c 03 app           SEQUENCE of UTF8String
           0c 14 com.example.app.voip
           30 06 0c 04 voip
    """
    for _, listed in elements(extension):
        for tag, content in elements(listed):
            if tag == UTF8_STRING:
                yield content.decode("utf-8", "replace")
