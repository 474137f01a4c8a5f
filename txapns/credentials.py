"""
Who we are to Apple: a client certificate or a provider token, both made from memory.

APNs knows a provider by one of two credentials (Apple, "Establishing a connection to APNs"):

- a :class:`Certificate` is shown in the TLS handshake. It is one app's, it expires after a year, and Apple writes into
  it what it is good for:

  =============================  ==================================================================
  subject ``UID``                the app's bundle identifier, which is also the default topic
  ``1.2.840.113635.100.6.3.1``   the sandbox takes it
  ``1.2.840.113635.100.6.3.2``   production takes it
  ``1.2.840.113635.100.6.3.6``   the topics it may send to; where this list is, ``apns-topic`` must be
  =============================  ==================================================================

- a :class:`ProviderToken` is a JSON web token, signed with a ``.p8`` key of a team and sent with each request.
  Apple refuses it when it is older than an hour, and refuses a team that makes new ones more often than every 20
  minutes. So there is one token for each key, no matter how many connections, processes and hosts use it: all of them
  sign the same token for the same 35 minutes of the wall clock.

Nothing here reads the terminal: OpenSSL asks for a missing passphrase there, so it never sees an encrypted key. Nothing
is written to a file, and no exception or ``repr`` shows a key, a passphrase or a token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import ClassVar, TypeAlias

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from txapns._credentials.containers import MAX_TEXT, Contents, Text, read, recognizes, shielded
from txapns._credentials.der import UTF8_STRING, elements
from txapns.errors import CertificateExpired, CredentialError, KeyMismatch, UnsupportedKey

__all__ = [
    "MAXIMUM_AGE",
    "MINIMUM_AGE",
    "Certificate",
    "Credential",
    "ProviderToken",
    "SignedToken",
    "inspect_certificate",
]

MINIMUM_AGE = 20 * 60
"""Seconds a provider token is kept at least: who renews sooner is answered ``TooManyProviderTokenUpdates``."""

MAXIMUM_AGE = 35 * 60
"""
Seconds after which a new provider token is signed: long before Apple's hour, so connections can adopt it in time.

The wall clock is divided into windows of this length, counted from the beginning of 1970.
"""

#: By how many seconds a token may be from the future: when the clock was set back by more since it was signed, it is
#: signed anew, for nobody knows what Apple makes of it.
_AHEAD = 5

_EXPIRY = 60 * 60  # seconds; an older token is of no use to anyone ("Establishing a token-based connection to APNs")

_ENVIRONMENTS = {
    x509.ObjectIdentifier("1.2.840.113635.100.6.3.1"): "sandbox",
    x509.ObjectIdentifier("1.2.840.113635.100.6.3.2"): "production",
}
_TOPICS = x509.ObjectIdentifier("1.2.840.113635.100.6.3.6")
#: What Apple's marks of push certificates begin with. Other certificates of Apple's have others.
_MARKS = "1.2.840.113635.100.6.3."


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Certificate:
    """
    A client certificate with its private key and the certificates that lead to its issuer.

    Make it with :meth:`from_pem`, :meth:`from_pkcs12` or :meth:`from_file`. Two are equal when their fingerprints are.

    :ivar certificate: the certificate itself.
    :ivar private_key: its private key, RSA or elliptic curve.
    :ivar chain: the intermediate certificates, each the issuer of the one before; sent along in the handshake.
    :ivar name: the subject's common name, such as ``"Apple Push Services: com.example.app"``.
    :ivar topics: the topics it may send to; the first is the app's bundle identifier.
    :ivar needs_topic: whether it is for several topics, so that APNs demands one with each notification.
    :ivar environments: ``"sandbox"``, ``"production"`` or both, as far as the certificate tells.
    :ivar expires: the end of its last day, with its time zone (UTC).
    :ivar fingerprint: the SHA-256 of the certificate, in hexadecimal.
    """

    certificate: x509.Certificate
    private_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]
    name: str
    topics: tuple[str, ...]
    needs_topic: bool
    environments: frozenset[str]
    expires: datetime
    fingerprint: str

    @classmethod
    def from_pem(
        cls,
        *texts: Text,
        passphrase: Text | None = None,
        now: datetime | None = None,
        environment: str | None = None,
        topic: str | None = None,
    ) -> Certificate:
        """
        Read a certificate and its private key from one or several texts.

        If there are several certificates, those with Apple's marks of push certificates count, and of these the ones
        whose private key is there, that are for ``environment`` and ``topic``, and that are valid at present. Of those
        left, if they are for the same purpose, the one that lasts longest is taken.

        :param texts: PEM, as text or bytes, which together hold the certificate, its private key and, if there are any,
            the intermediate certificates, in any order. DER and PKCS#12 are read as well, and so is PEM in the shape
            that it has in environment variables: with ``\\n`` for its line ends or none, quoted, in base64.
        :param passphrase: opens the private key if that is encrypted; otherwise it is not used.
        :param now: the time at which the certificate must be valid, with a time zone; left out, the present.
        :param environment: ``"sandbox"`` or ``"production"``: the certificate must be for that.
        :param topic: a topic that the certificate must be for.
        :returns: the certificate.
        :raises WrongPassphrase: when the key is encrypted and the passphrase is missing or wrong.
        :raises KeyMismatch: when no certificate is the private key's.
        :raises CertificateExpired: when the certificate is no longer valid, or not yet.
        :raises UnsupportedKey: when the key is neither RSA nor of an elliptic curve.
        :raises CredentialError: when a part is missing or cannot be read, or when certificates for several purposes are
            left; the message lists them.
        """
        return _choose(read(*texts, passphrase=passphrase), _aware(now), environment, topic)

    @classmethod
    def from_pkcs12(
        cls,
        data: Text,
        passphrase: Text | None = None,
        *,
        now: datetime | None = None,
        environment: str | None = None,
        topic: str | None = None,
    ) -> Certificate:
        """
        Read a certificate and its private key from PKCS#12, the ``.p12`` which macOS exports.

        :param data: the content of the file.
        :param passphrase: opens it; left out, it is opened as a file without passphrase.
        :param now: as in :meth:`from_pem`, like the others.
        :returns: the certificate.
        :raises CredentialError: and its subclasses, as in :meth:`from_pem`.
        """
        return cls.from_pem(data, passphrase=passphrase, now=now, environment=environment, topic=topic)

    @classmethod
    def from_file(
        cls,
        path: str | bytes | os.PathLike[str],
        passphrase: Text | None = None,
        *,
        now: datetime | None = None,
        environment: str | None = None,
        topic: str | None = None,
    ) -> Certificate:
        """
        Read a certificate and its private key from one file, PEM or PKCS#12; its content tells which.

        :param path: the file.
        :param passphrase: as in :meth:`from_pem` or :meth:`from_pkcs12`.
        :param now: as in :meth:`from_pem`, like the others.
        :returns: the certificate.
        :raises OSError: when the file cannot be read.
        :raises CredentialError: and its subclasses, as in :meth:`from_pem`.
        """
        return cls.from_pem(_content(path), passphrase=passphrase, now=now, environment=environment, topic=topic)

    def to_pem(self) -> str:
        """
        Write it as PEM: the private key, not encrypted, then the certificate and its chain.

        :returns: what :meth:`from_pem` reads. It is secret.
        """
        certificates = (each.public_bytes(serialization.Encoding.PEM) for each in (self.certificate, *self.chain))
        return _private_pem(self.private_key) + b"".join(certificates).decode("ascii")

    @classmethod
    def _inspect(
        cls,
        leaf: x509.Certificate,
        key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
        chain: tuple[x509.Certificate, ...],
    ) -> Certificate:
        topics, environments = inspect_certificate(leaf)
        subject = {attribute.oid: str(attribute.value) for attribute in leaf.subject}
        return cls(
            certificate=leaf,
            private_key=key,
            chain=chain,
            name=subject.get(NameOID.COMMON_NAME, ""),
            topics=topics,
            needs_topic=any(extension.oid == _TOPICS for extension in leaf.extensions),
            environments=environments,
            expires=leaf.not_valid_after_utc,
            fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        )

    def _is_valid(self, now: datetime) -> bool:
        return self.certificate.not_valid_before_utc <= now <= self.expires

    def _is_for(self, environment: str | None, topic: str | None) -> bool:
        """Whether it is for these; what it does not tell of itself does not speak against it."""
        return (environment is None or not self.environments or environment in self.environments) and (
            topic is None or not self.topics or topic in self.topics
        )

    def _summary(self) -> str:
        environments = ", ".join(sorted(self.environments)) or "no environment"
        topics = ", ".join(self.topics[:3]) + (", …" if len(self.topics) > 3 else "") or "no topic"
        return f"{self.name!r} ({topics}; {environments}; until {self.expires:%Y-%m-%d})"

    def __eq__(self, other: object) -> bool:
        return self.fingerprint == other.fingerprint if isinstance(other, Certificate) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"<Certificate {self.name!r} expires={self.expires:%Y-%m-%d} fingerprint={self.fingerprint[:16]}…>"


@attrs.frozen
class SignedToken:
    """
    A provider token as it goes out.

    :ivar value: the value of the ``authorization`` header field, ``bearer`` and all.
    :ivar issued_at: when it was signed, in UNIX seconds.
    """

    value: bytes = attrs.field(repr=False)
    issued_at: int


@attrs.frozen(eq=False, repr=False)
class ProviderToken:
    """
    A team's signing key, and the one provider token it has at a time in this process.

    Make it with :meth:`from_p8` or :meth:`from_file`. Two are equal when their fingerprints are, and then they share
    the token. Nothing here reads a clock: whoever asks says what time it is.

    :ivar key_id: the key's identifier, ten characters, from the developer account.
    :ivar team_id: the team's identifier, ten characters.
    :ivar fingerprint: the SHA-256 over team, key identifier and public key, in hexadecimal.
    """

    key_id: str
    team_id: str
    fingerprint: str
    _key: ec.EllipticCurvePrivateKey

    # By fingerprint and not in the instances: a program that makes an equal ProviderToken for each call, as web
    # programs do, would otherwise sign each time and be refused.
    _signed: ClassVar[dict[str, SignedToken]] = {}

    @classmethod
    def from_p8(cls, key: Text, key_id: str, team_id: str, *, passphrase: Text | None = None) -> ProviderToken:
        """
        Read a signing key as Apple hands it out, a ``.p8``: PKCS#8 in PEM, elliptic curve P-256.

        :param key: the PEM, as text or bytes; also in the other forms that :meth:`Certificate.from_pem` knows.
        :param key_id: the key's identifier.
        :param team_id: the team's identifier.
        :param passphrase: opens the key if someone encrypted it; Apple does not.
        :returns: the provider token.
        :raises WrongPassphrase: when the key is encrypted and the passphrase is missing or wrong.
        :raises UnsupportedKey: when the key is not of the curve P-256.
        :raises CredentialError: when the key cannot be read, when there are several, or when an identifier is empty or
            has spaces in it.
        """
        identifiers: dict[str, object] = {"key_id": key_id, "team_id": team_id}
        for field, value in identifiers.items():
            # The value is not in the message: somebody may have put the key in its place.
            if not isinstance(value, str) or not re.fullmatch(r"[!-~]+", value):
                raise CredentialError(f"{field} is empty, or has spaces or other characters that no identifier has")
        contents = read(key, passphrase=passphrase)
        if not contents.keys:
            raise contents.missing("private key")
        p256 = [
            each
            for each in contents.keys
            if isinstance(each, ec.EllipticCurvePrivateKey) and isinstance(each.curve, ec.SECP256R1)
        ]
        if not p256:
            raise UnsupportedKey("the signing key is not of the elliptic curve P-256, as Apple's .p8 files are")
        public, *others = dict.fromkeys(_der(each.public_key()) for each in p256)
        if others:
            raise CredentialError(f"there are {1 + len(others)} signing keys in it; give the one that key_id names")
        fingerprint = hashlib.sha256(f"{team_id} {key_id} ".encode() + public).hexdigest()
        return cls(key_id, team_id, fingerprint, p256[0])

    @classmethod
    def from_file(
        cls, path: str | bytes | os.PathLike[str], key_id: str, team_id: str, *, passphrase: Text | None = None
    ) -> ProviderToken:
        """
        Read a signing key from a ``.p8`` file.

        :param path: the file.
        :param key_id: as in :meth:`from_p8`.
        :param team_id: as in :meth:`from_p8`.
        :param passphrase: as in :meth:`from_p8`.
        :returns: the provider token.
        :raises OSError: when the file cannot be read.
        :raises CredentialError: and its subclasses, as in :meth:`from_p8`.
        """
        return cls.from_p8(_content(path), key_id, team_id, passphrase=passphrase)

    def to_p8(self) -> str:
        """
        Write the signing key as Apple hands it out: PKCS#8 in PEM, not encrypted.

        :returns: what :meth:`from_p8` reads. It is secret.
        """
        return _private_pem(self._key)

    @property
    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """What the tokens are signed with."""
        return self._key

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """What the tokens signed with it are verified with."""
        return self._key.public_key()

    def sign(self, issued_at: int) -> str:
        """
        Sign a token for a given time. This keeps nothing; to send with, take :meth:`current`.

        :param issued_at: UNIX seconds.
        :returns: the JSON web token: ES256 over the issuer, which is the team, and the time, and nothing else
            (Apple, "Establishing a token-based connection to APNs"). Signed anew for the same time it is the same,
            byte for byte, where OpenSSL is 3.2 or newer, as it is in the wheels of ``cryptography``.
        """
        header = {"alg": "ES256", "kid": self.key_id}
        unsigned = _base64url(_compact(header)) + b"." + _base64url(_compact({"iss": self.team_id, "iat": issued_at}))
        r, s = decode_dss_signature(self._key.sign(unsigned, _ES256))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")  # RFC 7518, section 3.4
        return (unsigned + b"." + _base64url(signature)).decode("ascii")

    def current(self, now: float) -> SignedToken:
        """
        Give the token to send with: that of the present window, which is the same in all processes on all hosts.

        :param now: UNIX seconds. When the clock was set, the present window is another one, and so is the token: the
            former is from the future, or out of date.
        :returns: the token.
        """
        token = self._kept(now)
        return self._sign_anew(token, now) if token is None or now >= _end(token.issued_at) else token

    def renew(self, now: float) -> SignedToken:
        """
        Give a token to replace one that APNs called expired: a new one unless that would be too soon.

        :param now: UNIX seconds.
        :returns: a new token; or the one there is when it is younger than :data:`MINIMUM_AGE`, since another renewal
            would be refused as ``TooManyProviderTokenUpdates``.
        """
        token = self._kept(now)
        return self._sign_anew(token, now) if token is None or now - token.issued_at >= MINIMUM_AGE else token

    def _kept(self, now: float) -> SignedToken | None:
        """The token there is, unless it was signed while the clock was ahead."""
        token = self._signed.get(self.fingerprint)
        return None if token is None or token.issued_at - now > _AHEAD else token

    def _sign_anew(self, former: SignedToken | None, now: float) -> SignedToken:
        self._forget_expired(now)
        issued_at = _begin(now)
        if former is not None and abs(issued_at - former.issued_at) < MINIMUM_AGE:
            issued_at = int(now)  # out of step, see the windows below
        token = SignedToken(b"bearer " + self.sign(issued_at).encode(), issued_at)
        self._signed[self.fingerprint] = token
        return token

    def _forget_expired(self, now: float) -> None:
        """Keep the memory bounded by the keys used within the hour."""
        expired = [owner for owner, token in self._signed.items() if abs(now - token.issued_at) >= _EXPIRY]
        for owner in expired:
            del self._signed[owner]

    def __eq__(self, other: object) -> bool:
        return self.fingerprint == other.fingerprint if isinstance(other, ProviderToken) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"<ProviderToken team_id={self.team_id} key_id={self.key_id} fingerprint={self.fingerprint[:16]}…>"


def _private_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem.decode("ascii")


# The windows of provider tokens. A token is dated to the beginning of its window and signed in the one way of RFC 6979,
# so all who share a key have the same token at the same moment and never have to speak of it. With W for MAXIMUM_AGE
# and m for MINIMUM_AGE, at the time t:
#
# - the token is dated t - t % W, so it is never W old, and never from the future;
# - all change it when t % W is 0, so there are W, which is more than m, between two changes, even for a process that
#   signed its first at the end of a window: others had that token before, and to Apple it is the team's;
# - a connection keeps its own for m, so what goes out is less than W + m old: 55 minutes, of Apple's 60.
#
# Only `renew` leaves this order, when Apple calls a token expired that is m old or older. (Our clock is wrong then.)
# The new one is dated to its second. It is kept until a window begins that is m to W later; where none does, it is
# replaced when it is m old. Each such step moves it by W - m within the window, so after three it is in step again.


def _begin(now: float) -> int:
    """When the window began that a time is in."""
    return int(now // MAXIMUM_AGE) * MAXIMUM_AGE


def _end(issued_at: int) -> int:
    """When the token dated to a time gives way to the next."""
    window = _begin(issued_at + MINIMUM_AGE - 1) + MAXIMUM_AGE
    return window if window - issued_at <= MAXIMUM_AGE else issued_at + MINIMUM_AGE


def _es256() -> ec.ECDSA:
    try:
        return ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    except UnsupportedAlgorithm:  # OpenSSL before 3.2: equal tokens then have unequal signatures
        return ec.ECDSA(hashes.SHA256())


_ES256 = _es256()


def _compact(value: Mapping[str, str | int]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


Credential: TypeAlias = Certificate | ProviderToken
"""What a client shows to APNs."""


def inspect_certificate(certificate: x509.Certificate) -> tuple[tuple[str, ...], frozenset[str]]:
    """
    Read Apple's marks in a push certificate.

    :param certificate: the certificate.
    :returns: the topics, that of the subject first; and the environments, ``"sandbox"`` and ``"production"``.
    :raises CredentialError: its subject or extensions cannot be read.
    """
    try:
        return shielded(_topics_and_environments, certificate)
    except (UnsupportedAlgorithm, ValueError):
        raise CredentialError("the certificate's subject or extensions cannot be read") from None


def _topics_and_environments(certificate: x509.Certificate) -> tuple[tuple[str, ...], frozenset[str]]:
    bundle = [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(NameOID.USER_ID)]
    extensions = {extension.oid: extension.value for extension in certificate.extensions}
    listed = _topics(extensions[_TOPICS].public_bytes()) if _TOPICS in extensions else ()
    environments = frozenset(name for oid, name in _ENVIRONMENTS.items() if oid in extensions)
    return tuple(dict.fromkeys([*bundle, *listed])), environments


def _choose(contents: Contents, now: datetime, environment: str | None, topic: str | None) -> Certificate:
    """Find the certificate that is meant; see :meth:`Certificate.from_pem`."""
    if environment not in (None, *_ENVIRONMENTS.values()):
        raise CredentialError("environment is neither 'sandbox' nor 'production'")
    candidates = _candidates(contents)
    fitting = [each for each in candidates if each._is_for(environment, topic)]
    if not fitting:
        found = "; ".join(each._summary() for each in candidates)
        raise CredentialError(f"no certificate is for the environment and topic asked for; there is {found}")
    valid = [each for each in fitting if each._is_valid(now)]
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
        found = "; ".join(each._summary() for each in valid)
        raise CredentialError(f"several certificates fit; choose by environment=… or topic=…: {found}")
    return chosen


def _candidates(contents: Contents) -> list[Certificate]:
    """Find the certificates that have their private keys, push certificates only if there are any."""
    if not contents.keys:
        raise contents.missing("private key")
    if not contents.certificates:
        raise contents.missing("certificate (a .p8 makes a ProviderToken)")
    keys = {
        _der(key.public_key()): key
        for key in contents.keys
        if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    }
    if not keys:
        raise UnsupportedKey("the private key is neither RSA nor of an elliptic curve")
    push = [each for each in contents.certificates if _is_marked(each)]
    own = {each: keys[key] for each in push or contents.certificates if (key := _public_der(each)) in keys}
    if not own:
        raise (
            contents.faults[0]
            if contents.faults
            else KeyMismatch(f"the private key belongs to none of the {'push ' if push else ''}certificates")
        )
    others = [each for each in contents.certificates if each not in own and _is_readable(each)]
    return [_inspected(each, key, others) for each, key in own.items()]


def _inspected(
    leaf: x509.Certificate,
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    others: Sequence[x509.Certificate],
) -> Certificate:
    try:
        return shielded(lambda: Certificate._inspect(leaf, key, _chain(leaf, others)))
    except (UnsupportedAlgorithm, ValueError):
        raise CredentialError("the certificate's subject, dates or extensions cannot be read") from None


def _is_readable(certificate: x509.Certificate) -> bool:
    """Whether the names in a certificate can be read, by which it takes its place in a chain."""
    try:
        return bool(shielded(lambda: (certificate.subject, certificate.issuer)))
    except (UnsupportedAlgorithm, ValueError):
        return False


def _is_marked(certificate: x509.Certificate) -> bool:
    try:
        return any(each.oid.dotted_string.startswith(_MARKS) for each in shielded(lambda: certificate.extensions))
    except (UnsupportedAlgorithm, ValueError):
        return False


def _aware(now: datetime | None) -> datetime:
    """A time in UTC."""
    if now is None:
        return datetime.now(timezone.utc)
    try:
        if now.utcoffset() is not None:
            return now.astimezone(timezone.utc)
    except (AttributeError, TypeError, OverflowError):
        pass  # it is something else, or a time in the first or last hours of all dates
    raise CredentialError("now has to be a time with a time zone")


def _content(path: str | bytes | os.PathLike[str]) -> bytes:
    """Read a file. An operating system's error would show a credential that was given for its name."""
    try:
        name = os.fsdecode(path)
        if not recognizes(name):
            with Path(name).open("rb") as file:
                return file.read(MAX_TEXT + 1)
    except (TypeError, ValueError):
        raise CredentialError(f"the path, of the type {type(path).__name__}, is not the name of a file") from None
    raise CredentialError("the path is itself a credential; from_pem() and from_p8() read those")


def _der(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _public_der(certificate: x509.Certificate) -> bytes | None:
    """The public key in a certificate; None if it is of a kind we do not know, which may stand in the chain."""
    try:
        return _der(shielded(certificate.public_key))
    except (UnsupportedAlgorithm, ValueError):
        return None


def _chain(leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Put the issuers in the order in which TLS sends them, each after the one it certifies; strays are left out."""
    chain = [leaf]
    while issuer := next((c for c in others if c.subject == chain[-1].issuer and c not in chain), None):
        chain.append(issuer)
    return tuple(chain[1:])


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
