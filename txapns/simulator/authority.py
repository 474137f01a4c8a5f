"""
A certificate authority for one run of a program: it takes Apple's part in credentials.

It makes what a developer otherwise downloads (client certificates with Apple's marks in them, a ``.p8`` signing key)
and what Apple's servers have (a server certificate, the decision whom to trust). Everything is in memory, and the
authority's own key never leaves it.

Apple's marks are written here from their description, and not with the code that reads them, so that a mistake in one
is not hidden by the other.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLContextFactory, IOpenSSLServerConnectionCreator
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = ["Authority", "ServerContextFactory", "SigningKey"]

_ENVIRONMENTS = {
    "sandbox": x509.ObjectIdentifier("1.2.840.113635.100.6.3.1"),
    "production": x509.ObjectIdentifier("1.2.840.113635.100.6.3.2"),
}
_TOPICS = x509.ObjectIdentifier("1.2.840.113635.100.6.3.6")
_DER_NULL = b"\x05\x00"

_PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@attrs.frozen
class _Issuer:
    """A certificate that may sign others, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = attrs.field(repr=False)

    def issue(
        self, subject: x509.Name, key: _PrivateKey, extensions: Sequence[x509.ExtensionType], *, expired: bool = False
    ) -> x509.Certificate:
        """Sign a certificate for a server or a client."""
        leaf = [x509.BasicConstraints(ca=False, path_length=None), *extensions]
        return _sign(subject, key, leaf, self.certificate.subject, self.key, expired=expired)


@attrs.frozen(kw_only=True)
class SigningKey:
    """
    A key for provider tokens, and what it is valid for.

    :ivar key_id: its identifier.
    :ivar team_id: the identifier of its team.
    :ivar p8: the key as Apple issues it, PKCS#8 in PEM.
    :ivar public_key: verifies the tokens signed with it.
    :ivar topics: the topics it is for, and those that continue them after a dot; ``None`` for all of the team's.
    :ivar environment: ``"production"`` or ``"sandbox"``; ``None`` for both, as Apple's older keys are.
    """

    key_id: str
    team_id: str
    p8: bytes = attrs.field(repr=False)
    public_key: ec.EllipticCurvePublicKey = attrs.field(repr=False)
    topics: tuple[str, ...] | None = None
    environment: str | None = None


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLContextFactory)
@attrs.frozen
class ServerContextFactory:
    """
    Makes the TLS connections of a server, for ``listenSSL`` or ``TLSMemoryBIOFactory``.

    :ivar context: the OpenSSL context they share.
    """

    context: SSL.Context

    def getContext(self) -> SSL.Context:
        """Return the context, always the same one."""
        return self.context

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the OpenSSL side of a connection."""
        return SSL.Connection(self.context)


class Authority:
    """
    A throw-away certificate authority, an intermediate authority below it, and the signing keys of teams.

    :ivar ca_pem: the certificate of the authority, for a client's ``trust_root``.
    :ivar p8: the first signing key as Apple issues it, PKCS#8 in PEM. It is for all topics of the team, in both
        environments.
    :ivar public_key: verifies the tokens signed with it.
    :ivar key_id: the identifier of that key.
    :ivar team_id: the identifier of its team, which owns the simulated app.
    :ivar keys: all signing keys, by identifier.
    """

    key_id = "ABC123DEFG"
    team_id = "DEF123GHIJ"

    def __init__(self) -> None:
        self._root = _authority("txapns simulator root", None)
        self._intermediate = _authority("txapns simulator intermediate", self._root)
        self.ca_pem = self._root.certificate.public_bytes(Encoding.PEM)
        self.keys: dict[str, SigningKey] = {}
        first = self.signing_key(key_id=self.key_id)
        self.p8, self.public_key = first.p8, first.public_key

    def signing_key(
        self,
        *,
        topics: Sequence[str] | None = None,
        environment: Literal["production", "sandbox"] | None = None,
        team_id: str | None = None,
        key_id: str | None = None,
    ) -> SigningKey:
        """
        Make another key for provider tokens.

        :param topics: the topics it is for; left out, all of the team's.
        :param environment: the environment it is for; left out, both.
        :param team_id: its team; left out, that of the first key. No other team owns the simulated app.
        :param key_id: its identifier; left out, a new one.
        :returns: the key, which is also in ``keys``.
        """
        private = ec.generate_private_key(ec.SECP256R1())
        key = SigningKey(
            key_id=key_id or f"KEY{len(self.keys):07}",
            team_id=team_id or self.team_id,
            p8=_key_pem(private, NoEncryption()),
            public_key=private.public_key(),
            topics=None if topics is None else tuple(topics),
            environment=environment,
        )
        self.keys[key.key_id] = key
        return key

    def server_certificate(
        self,
        names: Sequence[str] = ("localhost",),
        addresses: Sequence[str] = ("127.0.0.1", "::1"),
        *,
        expired: bool = False,
    ) -> bytes:
        """
        Make a server's certificate.

        :param names: the host names it is for.
        :param addresses: the IP addresses it is for.
        :param expired: whether it has expired.
        :returns: certificate and private key in PEM.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        extensions: list[x509.ExtensionType] = [x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])]
        hosts: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        hosts += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        if hosts:
            extensions.append(x509.SubjectAlternativeName(hosts))
        certificate = self._root.issue(_name("txapns simulator"), key, extensions, expired=expired)
        return certificate.public_bytes(Encoding.PEM) + _key_pem(key, NoEncryption())

    def server_options(
        self,
        alpn: tuple[bytes, ...],
        *,
        tls12: bool = False,
        tickets: bool = True,
        require_certificate: bool = False,
        certificate: bytes | None = None,
    ) -> ServerContextFactory:
        """
        Make the context factory of a server, which asks clients for a certificate of this authority.

        :param alpn: the protocols it speaks, the preferred one first.
        :param tls12: whether to speak nothing newer than TLS 1.2.
        :param tickets: whether to issue session tickets; without them, nothing newer than TLS 1.2 is spoken.
        :param require_certificate: whether to refuse clients without a certificate.
        :param certificate: the result of :meth:`server_certificate`; left out, one for localhost is made.
        :returns: the context factory, for ``listenSSL`` or ``TLSMemoryBIOFactory``.
        """
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        if tls12 or not tickets:
            # In TLS 1.3 OP_NO_TICKET changes what the tickets hold, and pyOpenSSL cannot set their number to 0.
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # sessions are resumed only by tickets
        if not tickets:
            context.set_options(SSL.OP_NO_TICKET)
        pem = certificate or self.server_certificate()
        context.use_certificate(x509.load_pem_x509_certificate(pem))
        context.use_privatekey(cast(_PrivateKey, load_pem_private_key(pem, None)))
        store = context.get_cert_store()
        assert store is not None
        store.add_cert(crypto.X509.from_cryptography(self._root.certificate))
        context.set_verify(SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if require_certificate else 0))
        # OpenSSL resumes sessions with a client's certificate only if they have an identifier of the server.
        context.set_session_id(b"txapns")
        context.set_alpn_select_callback(
            lambda _, offered: next((ours for ours in alpn if ours in offered), SSL.NO_OVERLAPPING_PROTOCOLS)
        )
        return ServerContextFactory(context)

    def client_pem(
        self,
        topic: str = "com.example.app",
        *,
        key_type: Literal["ec", "rsa"] = "ec",
        environments: Sequence[str] = ("sandbox", "production"),
        topics: Sequence[str] | None = None,
        expired: bool = False,
        intermediate: bool = False,
        passphrase: bytes | None = None,
    ) -> bytes:
        """
        Make a provider's certificate, with Apple's marks in it.

        :param topic: the bundle identifier of its app.
        :param key_type: the kind of its key, ``"ec"`` or ``"rsa"``.
        :param environments: the environments it is valid in, of ``"sandbox"`` and ``"production"``.
        :param topics: the topics that it lists, if it is for several; left out, it lists none.
        :param expired: whether it has expired.
        :param intermediate: whether the intermediate authority issues it; then its certificate is added.
        :param passphrase: encrypts the private key; left out, it is not encrypted.
        :returns: certificate, intermediate certificate if any, and private key in PEM.
        """
        key = _client_key(key_type)
        issuer = self._intermediate if intermediate else self._root
        certificates = [issuer.issue(_client_name(topic), key, _marks(environments, topics), expired=expired)]
        if intermediate:
            certificates.append(issuer.certificate)
        pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
        return pem + _key_pem(key, _encryption(passphrase))

    def client_pkcs12(
        self,
        topic: str = "com.example.app",
        passphrase: bytes | None = b"txapns",
        *,
        key_type: Literal["ec", "rsa"] = "ec",
        old: bool = False,
    ) -> bytes:
        """
        Make a provider's certificate as macOS exports it.

        :param topic: the bundle identifier of its app.
        :param passphrase: encrypts the file; ``None`` leaves it unencrypted.
        :param key_type: the kind of its key, ``"ec"`` or ``"rsa"``.
        :param old: whether to encrypt it as in RFC 7292, with SHA-1 and triple DES, which is all that programs from
            the time of the binary protocol support.
        :returns: the content of a ``.p12`` file.
        """
        key = _client_key(key_type)
        certificate = self._root.issue(_client_name(topic), key, _marks(tuple(_ENVIRONMENTS), None))
        encryption = _old_encryption(passphrase) if old and passphrase is not None else _encryption(passphrase)
        return pkcs12.serialize_key_and_certificates(b"txapns", key, certificate, None, encryption)


def _authority(name: str, above: _Issuer | None) -> _Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    extensions = [
        x509.BasicConstraints(ca=True, path_length=None),
        x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        ),
    ]
    signer = above.key if above else key
    issuer = above.certificate.subject if above else _name(name)
    return _Issuer(_sign(_name(name), key, extensions, issuer, signer), key)


def _sign(
    subject: x509.Name,
    key: _PrivateKey,
    extensions: Sequence[x509.ExtensionType],
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    *,
    expired: bool = False,
) -> x509.Certificate:
    # It begins in the past for clocks that are slow. The whole is less than the 398 days that strict clients allow.
    today = datetime.now(timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=30))
        .not_valid_after(today + timedelta(days=-1 if expired else 365))
        # Strict verifiers, such as Python's since 3.13, require both key identifiers (RFC 5280, section 4.2.1).
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    for each in extensions:
        builder = builder.add_extension(each, critical=isinstance(each, x509.BasicConstraints | x509.KeyUsage))
    return builder.sign(signer, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _client_name(topic: str) -> x509.Name:
    common_name = f"Apple Push Services: {topic}"[:64]  # the maximum in X.520
    return x509.Name([x509.NameAttribute(NameOID.USER_ID, topic), x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _client_key(key_type: Literal["ec", "rsa"]) -> _PrivateKey:
    if key_type == "rsa":
        return rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def _marks(environments: Sequence[str], topics: Sequence[str] | None) -> list[x509.ExtensionType]:
    marks: list[x509.ExtensionType] = [x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])]
    marks += [x509.UnrecognizedExtension(_ENVIRONMENTS[environment], _DER_NULL) for environment in environments]
    if topics is not None:
        marks.append(x509.UnrecognizedExtension(_TOPICS, _topic_list(topics)))
    return marks


def _topic_list(topics: Sequence[str]) -> bytes:
    """Encode Apple's list of topics: each is a string, followed by a sequence of the kinds of push it is for."""
    kinds = [last if (last := topic.rpartition(".")[2]) in {"voip", "complication"} else "app" for topic in topics]
    elements = (_utf8(topic) + _element(0x30, _utf8(kind)) for topic, kind in zip(topics, kinds, strict=True))
    return _element(0x30, b"".join(elements))


def _utf8(text: str) -> bytes:
    return _element(0x0C, text.encode())


def _element(tag: int, content: bytes) -> bytes:
    """Encode an element of DER. The number of its own bytes precedes a length over 127 (X.690, section 8.1.3)."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content


def _encryption(passphrase: bytes | None) -> KeySerializationEncryption:
    return NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)


def _old_encryption(passphrase: bytes) -> KeySerializationEncryption:
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(2048)
    builder = builder.key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
    return builder.hmac_hash(hashes.SHA1()).build(passphrase)  # noqa: S303  # it protects nothing


def _key_pem(key: _PrivateKey, encryption: KeySerializationEncryption) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
