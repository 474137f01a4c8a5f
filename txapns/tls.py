"""
TLS towards the gateways: our identity from memory, their identity verified.

A plain :class:`twisted.internet.ssl.ClientContextFactory` verifies nothing. The one here is a subclass, so it goes
wherever Twisted or older programs take a context factory, and it verifies always: that the server's certificate leads
to a trust root, and that it is for the host asked for. Both checks are made in one callback of the context itself, so
they hold for :meth:`ClientContextFactory.getContext` too, and whatever goes wrong in them is a refusal. The callback is
also where the reason is still known; OpenSSL's own error says no more than "certificate verify failed".

A pyOpenSSL context must not be changed after its first use: it is built once, with the factory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet import ssl
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns.credentials import Certificate, Credential
from txapns.errors import (
    APNSError,
    ConnectFailed,
    CredentialError,
    CredentialRefused,
    InvalidGateway,
    PeerNotVerified,
)

if TYPE_CHECKING:
    from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = ["ClientContextFactory", "explain", "identity_of", "trust_pem"]

# OpenSSL's names for what can be wrong with a chain, by number: 20 is "unable to get issuer cert locally".
_CHAIN_ERRORS = {
    code: name.removeprefix("ERR_").replace("_", " ").lower()
    for name, code in vars(SSL.X509VerificationCodes).items()
    if name.startswith("ERR_")
}

# The alerts by which a server refuses the certificate we showed, or our showing none (RFC 8446, section 6.2).
# "handshake failure" is not one of them: it has many causes, most of which pass.
_CREDENTIAL_ALERTS = frozenset(
    {
        "access denied",
        "bad certificate",
        "certificate expired",
        "certificate required",
        "certificate revoked",
        "certificate unknown",
        "unknown ca",
        "unsupported certificate",
    }
)


@implementer(IOpenSSLClientConnectionCreator)
class ClientContextFactory(ssl.ClientContextFactory):
    """
    What makes the TLS connections to one gateway.

    For ``connectSSL``, ``wrapClientTLS`` and ``TLSMemoryBIOFactory``. TLS 1.2 is the oldest version spoken.

    :param hostname: the host name or IP address which the server's certificate must be for; a host name is also sent,
        as SNI.
    :param credential: the certificate to show, with its chain; left out, none is shown.
    :param trust_root: the PEM of one or more certificate authorities to trust; left out, those of the platform.
    :param protocols: the protocols to offer by ALPN, such as ``[b"h2"]``, the preferred one first.
    :raises InvalidGateway: when the host name is none.
    :raises CredentialError: when ``trust_root`` cannot be read, or OpenSSL does not take the certificate.
    """

    def __init__(
        self,
        hostname: str,
        credential: Certificate | None = None,
        trust_root: str | bytes | None = None,
        protocols: Sequence[bytes] = (),
    ) -> None:
        self._identity = identity_of(hostname)
        # The inherited context speaks nothing older than TLS 1.2, and verifies nothing yet.
        self._context: SSL.Context = super().getContext()  # type: ignore[no-untyped-call]
        # HTTP/2 forbids both (RFC 9113, section 9.2.1), and no gateway needs them.
        self._context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        if protocols:
            self._context.set_alpn_protos(list(protocols))
        if credential is not None:
            _show(self._context, credential)
        _trust(self._context, trust_root)
        self._context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verifier(hostname, self._identity))

    def getContext(self) -> SSL.Context:
        """
        Give the context of all connections. It verifies the server, host name included, but it cannot send the name.

        :returns: always the same context.
        """
        return self._context

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """
        Make the OpenSSL side of one connection.

        :param tlsProtocol: the protocol that will drive it.
        :returns: a connection that sends the host name and verifies the server.
        """
        connection = SSL.Connection(self._context)
        connection.set_app_data(tlsProtocol)  # Twisted before 25 leaves this to us
        if isinstance(self._identity, DNS_ID):  # an address must not be sent (RFC 6066, section 3)
            connection.set_tlsext_host_name(self._identity.hostname)
        return connection


def explain(reason: Failure | BaseException, credential: Credential | None = None) -> APNSError:
    """
    Say in a sentence why TLS did not come about, or ended.

    :param reason: what an endpoint or ``connectionLost`` gave.
    :param credential: what was shown to the server; if it refused that, the sentence has its dates.
    :returns: :exc:`~txapns.errors.PeerNotVerified` when we did not trust the server,
        :exc:`~txapns.errors.CredentialRefused` when it did not trust us, otherwise
        :exc:`~txapns.errors.ConnectFailed` with the words of OpenSSL or Twisted. One of our own errors is given back.
    """
    error = reason.value if isinstance(reason, Failure) else reason
    if isinstance(error, APNSError):
        return error
    if isinstance(error, VerificationError | CertificateError):
        return _for_another("the host asked for", error)
    if isinstance(error, SSL.Error):
        return _explain_openssl(_words(error), credential)
    return ConnectFailed(str(error) or type(error).__name__)


def _explain_openssl(words: str, credential: Credential | None) -> APNSError:
    alert = re.search(r"alert (.+)", words)
    if alert and alert[1] in _CREDENTIAL_ALERTS:
        ours = f"; ours is valid until {credential.expires:%Y-%m-%d}" if isinstance(credential, Certificate) else ""
        return CredentialRefused(f"the server refused our certificate with the alert {alert[1]!r}{ours}", alert[1])
    if "certificate verify failed" in words:
        return PeerNotVerified(f"the server's certificate is not trusted: {words}; check trust_root")
    return ConnectFailed(f"TLS failed: {words}")


def _words(error: SSL.Error) -> str:
    """OpenSSL's reasons out of its queue of (library, function, reason); a system error has number and text instead."""
    first = error.args[0] if error.args else ()
    if isinstance(first, list | tuple):
        return "; ".join(entry[2] for entry in first) or "OpenSSL gave no reason"
    return " ".join(map(str, error.args))


def identity_of(hostname: str) -> DNS_ID | IPAddress_ID:
    """
    Find out what a server's certificate has to be for.

    :param hostname: a host name or an IP address.
    :returns: the one or the other.
    :raises InvalidGateway: it is neither.
    """
    try:
        return IPAddress_ID(hostname)
    except ValueError:
        pass
    try:
        return DNS_ID(hostname)
    except ValueError:
        raise InvalidGateway(f"{hostname!r} is neither a host name nor an address") from None


def _show(context: SSL.Context, credential: Certificate) -> None:
    try:
        context.use_certificate(credential.certificate)
        context.use_privatekey(credential.private_key)
        for issuer in credential.chain:
            context.add_extra_chain_cert(issuer)
    except SSL.Error as error:
        raise CredentialError(f"OpenSSL does not take {credential!r}: {_words(error)}") from None


def _trust(context: SSL.Context, trust_root: str | bytes | None) -> None:
    if trust_root is None:
        context.set_default_verify_paths()
        return
    authorities = _authorities(trust_root)
    store = context.get_cert_store()
    assert store is not None
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))


def trust_pem(trust_root: str | bytes) -> str:
    """
    Read certificate authorities.

    :param trust_root: the PEM of one or more, as it came.
    :returns: the PEM, and nothing else.
    :raises CredentialError: it is not that.
    """
    return "".join(each.public_bytes(Encoding.PEM).decode("ascii") for each in _authorities(trust_root))


def _authorities(trust_root: str | bytes) -> list[x509.Certificate]:
    try:
        pem = trust_root.encode() if isinstance(trust_root, str) else trust_root
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion):
        pass
    if trust_root[:1] in ("0", b"0"):  # a sequence of ASN.1
        raise CredentialError(
            "trust_root is not PEM but DER, as Windows exports it; openssl x509 -inform der -in FILE makes PEM of it"
        )
    raise CredentialError("trust_root is not the PEM of one or more certificates")


def _verifier(
    hostname: str, identity: DNS_ID | IPAddress_ID
) -> Callable[[SSL.Connection, crypto.X509, int, int, int], bool]:
    """Make the callback that OpenSSL asks about each certificate of the chain, the server's own (depth 0) last."""

    def verify(connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
        refusal: PeerNotVerified | None = None
        if not ok:
            refusal = _not_trusted(hostname, code)
        elif depth == 0:
            try:
                verify_service_identity(extract_patterns(certificate), [identity], [])
            # Whatever goes wrong is a refusal, and no exception may leave a callback of OpenSSL.
            except Exception as error:
                refusal = _for_another(hostname, error)
        if refusal is None:
            return True
        protocol = connection.get_app_data()  # nothing, for those who use the context alone
        if protocol is not None:
            protocol.failVerification(Failure(refusal))
        return False

    return verify


def _not_trusted(hostname: str, code: int) -> PeerNotVerified:
    words = _CHAIN_ERRORS.get(code, f"OpenSSL's error {code}")
    return PeerNotVerified(f"the certificate of {hostname} is not trusted: {words}; check trust_root and the clock")


def _for_another(hostname: str, error: Exception) -> PeerNotVerified:
    detail = "" if isinstance(error, VerificationError) else f" ({error})"
    return PeerNotVerified(f"the server's certificate is not for {hostname}{detail}; check the host name")
