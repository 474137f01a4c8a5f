"""
How a client identifies itself to Apple: by a client certificate or a provider token, both made from memory.

APNs knows a provider by one of two credentials (Apple, "Establishing a connection to APNs"):

- a :class:`Certificate` is presented in the TLS handshake. It is for one app and expires after a year. Apple writes
  into it what it is for:

  =============================  ==================================================================
  subject ``UID``                the app's bundle identifier, which is also the default topic
  ``1.2.840.113635.100.6.3.1``   the sandbox accepts it
  ``1.2.840.113635.100.6.3.2``   production accepts it
  ``1.2.840.113635.100.6.3.6``   the topics it may send to; with this list, ``apns-topic`` is required
  =============================  ==================================================================

- a :class:`ProviderToken` is a JSON web token, signed with a team's ``.p8`` key and sent with each request. Apple
  rejects it when it is older than an hour, and rejects a team that makes new ones more often than every 20 minutes. So
  there is one token for each key, no matter how many connections, processes and hosts use it: all of them sign the
  same token for the same 35 minutes of the wall clock.

Nothing here reads the terminal: OpenSSL would ask for a missing passphrase there, so it never receives an encrypted
key. Nothing is written to a file, and no exception or ``repr`` shows a key, a passphrase or a token.

Both can be pickled, so that they reach the processes of a pool. The pickle contains the private key, not encrypted, and
is as secret as that: a task queue's messages are no place for it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from txapns._credentials.choice import choose
from txapns._credentials.containers import MAX_TEXT, Text, public_der, read, recognizes
from txapns.errors import CredentialError, UnsupportedKey

__all__ = ["MAXIMUM_AGE", "MINIMUM_AGE", "Certificate", "Credential", "ProviderToken", "SignedToken"]

MINIMUM_AGE = 20 * 60
"""The least age, in seconds, at which a provider token is replaced; Apple rejects an earlier change as
``TooManyProviderTokenUpdates``."""

MAXIMUM_AGE = 35 * 60
"""
The age, in seconds, at which a new provider token is signed: well before Apple's hour, so that connections can adopt
it in time.

The wall clock is divided into windows of this length, counted from the beginning of 1970.
"""

#: By how many seconds a token may be dated in the future. If the clock was set back by more since it was signed, a new
#: one is signed, since Apple does not say how it treats such a token.
_AHEAD = 5

_EXPIRY = 60 * 60  # seconds; Apple accepts no older token ("Establishing a token-based connection to APNs")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Certificate:
    """
    A client certificate with its private key and the certificates that lead to its issuer.

    Make it with :meth:`from_pem`, :meth:`from_pkcs12` or :meth:`from_file`. Two are equal when their fingerprints are.

    :ivar certificate: the certificate itself.
    :ivar private_key: its private key, RSA or elliptic curve.
    :ivar chain: the intermediate certificates, each the issuer of the one before; sent in the handshake.
    :ivar name: the subject's common name, such as ``"Apple Push Services: com.example.app"``.
    :ivar topics: the topics it may send to; the first is the app's bundle identifier.
    :ivar needs_topic: whether it is for several topics, so that APNs requires one with each notification.
    :ivar environments: ``"sandbox"``, ``"production"`` or both, as far as the certificate says.
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

        If there are several certificates, only those with Apple's marks of push certificates count, and of these only
        the ones whose private key is present, that are for ``environment`` and ``topic``, and that are valid now. If
        the rest are for the same purpose, the one that expires last is chosen.

        :param texts: PEM, as text or bytes, which together hold the certificate, its private key and, if there are any,
            the intermediate certificates, in any order. DER and PKCS#12 are read as well, and so is PEM as it appears
            in environment variables: with ``\\n`` for its line ends or none, quoted, in base64.
        :param passphrase: decrypts the private key if that is encrypted; otherwise unused.
        :param now: the time at which the certificate must be valid, with a time zone; left out, now.
        :param environment: ``"sandbox"`` or ``"production"``: the certificate must be for that.
        :param topic: a topic that the certificate must be for.
        :returns: the certificate.
        :raises WrongPassphrase: the key is encrypted and the passphrase is missing or wrong.
        :raises KeyMismatch: the private key belongs to none of the certificates.
        :raises CertificateExpired: the certificate is no longer valid, or not yet.
        :raises UnsupportedKey: the key is neither RSA nor elliptic curve.
        :raises CredentialError: a part is missing or cannot be read, or certificates for several purposes fit; the
            message lists them.
        """
        chosen = choose(read(*texts, passphrase=passphrase), _aware(now), environment, topic)
        return cls(**attrs.asdict(chosen, recurse=False))

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
        Read a certificate and its private key from PKCS#12, the ``.p12`` that macOS exports.

        :param data: the content of the file.
        :param passphrase: decrypts it; left out, the file is read as one without a passphrase.
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
        Read a certificate and its private key from one file, PEM or PKCS#12.

        :param path: the file.
        :param passphrase: as in :meth:`from_pem` or :meth:`from_pkcs12`.
        :param now: as in :meth:`from_pem`, like the others.
        :returns: the certificate.
        :raises OSError: the file cannot be read.
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

    def __reduce__(self) -> tuple[Callable[..., Certificate], tuple[object, ...]]:
        fields = attrs.asdict(self, recurse=False)
        private_key = _private_pem(fields.pop("private_key")).encode()
        der = [_der(each) for each in (fields.pop("certificate"), *fields.pop("chain"))]
        return _certificate, (private_key, der, fields)

    def __eq__(self, other: object) -> bool:
        return self.fingerprint == other.fingerprint if isinstance(other, Certificate) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"<Certificate {self.name!r} expires={self.expires:%Y-%m-%d} fingerprint={self.fingerprint[:16]}…>"


@attrs.frozen
class SignedToken:
    """
    A provider token as it is sent.

    :ivar value: the value of the ``authorization`` header field, ``bearer`` included.
    :ivar issued_at: when it was signed, in UNIX seconds.
    """

    value: bytes = attrs.field(repr=False)
    issued_at: int


@attrs.frozen(eq=False, repr=False)
class ProviderToken:
    """
    A team's signing key, and its current provider token.

    Make it with :meth:`from_p8` or :meth:`from_file`. Two are equal when their fingerprints are, and then they share
    the token. Nothing here reads a clock: callers pass the time.

    :ivar key_id: the key's identifier, ten characters, from the developer account.
    :ivar team_id: the team's identifier, ten characters.
    :ivar fingerprint: the SHA-256 over team, key identifier and public key, in hexadecimal.
    :ivar private_key: the key that signs the tokens.
    """

    key_id: str
    team_id: str
    fingerprint: str
    private_key: ec.EllipticCurvePrivateKey

    # By fingerprint, not in the instances: a program that makes an equal ProviderToken for each call, as web
    # applications do, would otherwise sign each time and be rejected.
    _signed: ClassVar[dict[str, SignedToken]] = {}

    @classmethod
    def from_p8(cls, key: Text, key_id: str, team_id: str, *, passphrase: Text | None = None) -> ProviderToken:
        """
        Read a signing key as Apple issues it, a ``.p8``: PKCS#8 in PEM, elliptic curve P-256.

        :param key: the PEM, as text or bytes; also in the other forms that :meth:`Certificate.from_pem` reads.
        :param key_id: the key's identifier.
        :param team_id: the team's identifier.
        :param passphrase: decrypts the key, if it was encrypted after Apple issued it.
        :returns: the provider token.
        :raises WrongPassphrase: the key is encrypted and the passphrase is missing or wrong.
        :raises UnsupportedKey: the key is not on the curve P-256.
        :raises CredentialError: the key cannot be read, there are several, or an identifier is empty or has spaces in
            it.
        """
        identifiers: dict[str, object] = {"key_id": key_id, "team_id": team_id}
        for field, value in identifiers.items():
            # Do not show the value: it may be the key, passed in the wrong place.
            if not isinstance(value, str) or not re.fullmatch(r"[!-~]+", value):
                raise CredentialError(f"{field} is empty, or has characters that no identifier has")
        contents = read(key, passphrase=passphrase)
        if not contents.keys:
            raise contents.missing("private key")
        elliptic = (each for each in contents.keys if isinstance(each, ec.EllipticCurvePrivateKey))
        p256 = [each for each in elliptic if isinstance(each.curve, ec.SECP256R1)]
        if not p256:
            raise UnsupportedKey("the signing key is not on the elliptic curve P-256, as Apple's .p8 keys are")
        public, *others = dict.fromkeys(public_der(each.public_key()) for each in p256)
        if others:
            raise CredentialError(f"there are {1 + len(others)} signing keys; give only the one that key_id names")
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
        :raises OSError: the file cannot be read.
        :raises CredentialError: and its subclasses, as in :meth:`from_p8`.
        """
        return cls.from_p8(_content(path), key_id, team_id, passphrase=passphrase)

    def to_p8(self) -> str:
        """
        Write the signing key as Apple issues it: PKCS#8 in PEM, not encrypted.

        :returns: what :meth:`from_p8` reads. It is secret.
        """
        return _private_pem(self.private_key)

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The key that verifies the tokens."""
        return self.private_key.public_key()

    def sign(self, issued_at: int) -> str:
        """
        Sign a token for a given time. The token is not kept; to send notifications, use :meth:`current`.

        :param issued_at: UNIX seconds.
        :returns: the JSON web token: ES256 over the issuer, which is the team, and the time, and nothing else
            (Apple, "Establishing a token-based connection to APNs"). With OpenSSL 3.2 or newer, as in the wheels of
            ``cryptography``, the same time always gives the same token, byte for byte.
        """
        parts = {"alg": "ES256", "kid": self.key_id}, {"iss": self.team_id, "iat": issued_at}
        unsigned = b".".join(_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
        r, s = decode_dss_signature(self.private_key.sign(unsigned, _ES256))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")  # RFC 7518, section 3.4
        return (unsigned + b"." + _base64url(signature)).decode("ascii")

    def current(self, now: float) -> SignedToken:
        """
        Return the token to send with: that of the current window, which is the same in all processes on all hosts.

        :param now: UNIX seconds. After the clock is set, the window is another one, and so is the token: the former
            one is dated in the future, or out of date.
        :returns: the token.
        """
        token = self._kept(now)
        return self._sign_next(token, now) if token is None or now >= _end(token.issued_at) else token

    def renew(self, now: float) -> SignedToken:
        """
        Return a token to replace one that APNs called expired: a new one, unless that would be too soon.

        :param now: UNIX seconds.
        :returns: a new token; or the current one if it is younger than :data:`MINIMUM_AGE`, since Apple would reject
            another renewal as ``TooManyProviderTokenUpdates``.
        """
        token = self._kept(now)
        return self._sign_next(token, now) if token is None or now - token.issued_at >= MINIMUM_AGE else token

    def _kept(self, now: float) -> SignedToken | None:
        """The current token, unless it was signed while the clock was ahead."""
        token = self._signed.get(self.fingerprint)
        return None if token is None or token.issued_at - now > _AHEAD else token

    def _sign_next(self, former: SignedToken | None, now: float) -> SignedToken:
        # Bound the memory by the number of keys used within the hour.
        for owner in [owner for owner, token in self._signed.items() if abs(now - token.issued_at) >= _EXPIRY]:
            del self._signed[owner]
        issued_at = _begin(now)
        if former is not None and abs(issued_at - former.issued_at) < MINIMUM_AGE:
            issued_at = int(now)  # out of step, see the windows below
        token = SignedToken(b"bearer " + self.sign(issued_at).encode(), issued_at)
        self._signed[self.fingerprint] = token
        return token

    def __reduce__(self) -> tuple[Callable[..., ProviderToken], tuple[str, ...]]:
        return _provider_token, (self.to_p8(), self.key_id, self.team_id)

    def __eq__(self, other: object) -> bool:
        return self.fingerprint == other.fingerprint if isinstance(other, ProviderToken) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"<ProviderToken team_id={self.team_id} key_id={self.key_id} fingerprint={self.fingerprint[:16]}…>"


def _private_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem.decode("ascii")


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _provider_token(key: str, key_id: str, team_id: str) -> ProviderToken:
    """Make a provider token of what was pickled."""
    return ProviderToken.from_p8(
        key, key_id, team_id
    )  # itself it could not be pickled: Twisted changes how methods are


def _certificate(private_key: bytes, der: list[bytes], fields: Mapping[str, Any]) -> Certificate:
    """Make a certificate of what was pickled, as it was: whether it is valid now was checked when it was read."""
    key = serialization.load_pem_private_key(private_key, None)
    assert isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey))
    certificate, *chain = map(x509.load_der_x509_certificate, der)
    return Certificate(certificate=certificate, private_key=key, chain=tuple(chain), **fields)


# The windows of provider tokens. A token is dated to the beginning of its window and signed deterministically (RFC
# 6979), so all processes that share a key have the same token at the same moment, without coordination. With W for
# MAXIMUM_AGE and m for MINIMUM_AGE, at the time t:
#
# - the token is dated t - t % W, so it is always younger than W, and never dated in the future;
# - all processes change it when t % W is 0, so W, which is more than m, lies between two changes. This holds even for a
#   process that signed its first token at the end of a window: others had that token before, and Apple counts by team;
# - a connection keeps its own for m, so the age of a token on the wire is less than W + m: 55 of Apple's 60 minutes.
#
# Only `renew` departs from this, when Apple calls a token expired whose age is m or more. (Our clock is wrong then.)
# The new token is dated to the present second. It is kept until a window begins that is m to W later; if none does, it
# is replaced at age m. Each such step moves it by W - m within the window, so after three it is in step again.


def _begin(now: float) -> int:
    """The beginning of the window that contains a time."""
    return int(now // MAXIMUM_AGE) * MAXIMUM_AGE


def _end(issued_at: int) -> int:
    """When the token dated to a time is replaced by the next."""
    window = _begin(issued_at + MINIMUM_AGE - 1) + MAXIMUM_AGE
    return window if window - issued_at <= MAXIMUM_AGE else issued_at + MINIMUM_AGE


try:
    _ES256 = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
except UnsupportedAlgorithm:  # OpenSSL before 3.2: equal tokens then have unequal signatures
    _ES256 = ec.ECDSA(hashes.SHA256())


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


Credential: TypeAlias = Certificate | ProviderToken
"""What a client presents to APNs."""


def _aware(now: datetime | None) -> datetime:
    """Convert to UTC."""
    if now is None:
        return datetime.now(timezone.utc)
    try:
        if now.utcoffset() is not None:
            return now.astimezone(timezone.utc)
    except (AttributeError, TypeError, OverflowError):
        pass  # it is not a datetime, or too close to the first or last date that Python has
    raise CredentialError("now must be a datetime with a time zone")


def _content(path: str | bytes | os.PathLike[str]) -> bytes:
    """Read a file. An operating system's error would show a credential that was passed as the path."""
    try:
        name = os.fsdecode(path)
        if not recognizes(name):
            with Path(name).open("rb") as file:
                return file.read(MAX_TEXT + 1)
    except (TypeError, ValueError):
        raise CredentialError(f"the path, of type {type(path).__name__}, is not a file name") from None
    raise CredentialError("the path is itself a credential; use from_pem() or from_p8() for credentials in memory")
