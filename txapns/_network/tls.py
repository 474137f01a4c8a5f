"""
TLS towards the gateways: our identity from memory, their identity verified.

A plain :class:`twisted.internet.ssl.ClientContextFactory` verifies nothing. The one here is a subclass, so it goes
wherever Twisted or older programs take a context factory, and it verifies always: that the server's certificate leads
to a trust root, and that it is for the host asked for. Both checks are made in one callback of the context itself, so
they hold for :meth:`ClientContextFactory.getContext` too, and whatever goes wrong in them is a refusal. The callback is
also where the reason is still known; OpenSSL's own error says no more than "certificate verify failed".

A pyOpenSSL context must not be changed after its first use: it is built once, with the factory.

Where the last connection is still there, the next one resumes its TLS session (RFC 8446, section 2.2): a server that
ends each connection after some requests has it followed by another while it drains, and without certificates a
handshake takes half as long, 0.30 ms of CPU time instead of 0.61. The server that can resume a session is the one that
was verified, so nothing is given away; but certificates end, so after :data:`RESUMED` connections the next is verified
anew. A server may offer what it then does not keep to. From the first resumption that came to nothing, none is tried
again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from weakref import ref

from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet import ssl
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.tcp import Client
from twisted.protocols.tls import BufferingTLSTransport
from twisted.python.failure import Failure
from zope.interface import implementedBy, implementer
from zope.interface.declarations import Provides

from txapns._credentials.containers import Text
from txapns._network.alerts import alert_of, chain_fault, credential_advice, handshake_advice
from txapns._network.trust import given_trust, platform_trust
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

__all__ = ["ClientContextFactory", "explain", "identity_of", "show"]

#: How many connections in a row may rest on one verification.
RESUMED = 100

# Twisted declares for each TLS connection, one by one, the interfaces that its transport provides. zope.interface keeps
# a declaration only as long as somebody has it; to make these nine anew for each connection took 0.35 ms.
_DECLARATIONS = [Provides(BufferingTLSTransport, each) for each in implementedBy(Client)]  # type: ignore[no-untyped-call]


@implementer(IOpenSSLClientConnectionCreator)
class ClientContextFactory(ssl.ClientContextFactory):
    """
    What makes the TLS connections to one gateway.

    For ``connectSSL``, ``wrapClientTLS`` and ``TLSMemoryBIOFactory``. TLS 1.2 is the oldest version spoken.

    :param hostname: the host name or IP address which the server's certificate must be for; a host name is also sent,
        as SNI.
    :param credential: the certificate to show, with its chain; left out, none is shown.
    :param trust_root: the PEM of one or more certificate authorities to trust; left out, those of the platform, or of
        ``certifi`` where OpenSSL cannot read these.
    :param protocols: the protocols to offer by ALPN, such as ``[b"h2"]``, the preferred one first.
    :raises InvalidGateway: when the host name is none.
    :raises CredentialError: when ``trust_root`` cannot be read, or OpenSSL does not take the certificate.
    """

    def __init__(
        self,
        hostname: str,
        credential: Certificate | None = None,
        trust_root: Text | None = None,
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
            show(self._context, credential)
        trust = platform_trust() if trust_root is None else given_trust(trust_root)
        trust.install(self._context)
        verify = _verifier(hostname, self._identity, trust.source)
        self._context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        self._last: ref[SSL.Connection] | None = None
        self._resuming: SSL.Connection | None = None  # the last one, where it resumes a session
        self._resumed = 0  # how many did since one was verified
        self._resumes = True

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
        self._resume(connection)
        return connection

    def _resume(self, connection: SSL.Connection) -> None:
        """Have a connection resume the session of the last one, where that is of use."""
        last, self._last = None if self._last is None else self._last(), ref(connection)
        if self._resuming is not None and self._resuming.get_finished() is None:
            self._resumes = False
        session = None if last is None or last.get_finished() is None else last.get_session()
        if session is None or not self._resumes or self._resumed >= RESUMED:
            self._resuming, self._resumed = None, 0
        else:
            self._resuming, self._resumed = connection, self._resumed + 1
            connection.set_session(session)


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
    alert = alert_of(words)
    if alert:
        ours = f"; ours is valid until {credential.expires:%Y-%m-%d}" if isinstance(credential, Certificate) else ""
        said = f"the server refused our certificate with the alert {alert!r}{ours}; {credential_advice(alert)}"
        return CredentialRefused(said, alert)
    if "certificate verify failed" in words:
        return PeerNotVerified(f"the server's certificate is not trusted: {words}; check trust_root")
    return ConnectFailed(f"TLS failed: {_advised(words)}")


def _advised(words: str) -> str:
    advice = handshake_advice(words)
    return f"{words}; {advice}" if advice else words


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
        return IPAddress_ID(hostname.partition("%")[0])  # no certificate has the zone, which says something here alone
    except ValueError:
        pass
    try:
        return DNS_ID(hostname)
    except ValueError:
        raise InvalidGateway(f"{hostname!r} is neither a host name nor an address") from None


def show(context: SSL.Context, credential: Certificate) -> None:
    """
    Have a context show a certificate, with its chain.

    :param context: the context.
    :param credential: the certificate, of a client or a server.
    :raises CredentialError: OpenSSL does not take it, for a key that is too short for example.
    """
    try:
        context.use_certificate(credential.certificate)
        context.use_privatekey(credential.private_key)
        for issuer in credential.chain:
            context.add_extra_chain_cert(issuer)
    except SSL.Error as error:
        raise CredentialError(f"OpenSSL does not take {credential!r}: {_advised(_words(error))}") from None


def _verifier(
    hostname: str, identity: DNS_ID | IPAddress_ID, source: str
) -> Callable[[SSL.Connection, crypto.X509, int, int, int], bool]:
    """Make the callback that OpenSSL asks about each certificate of the chain, the server's own (depth 0) last."""

    def verify(connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
        refusal: PeerNotVerified | None = None
        if not ok:
            fault = f"the certificate of {hostname} is not trusted: {chain_fault(code, depth)}"
            refusal = PeerNotVerified(f"{fault} (trusted are the authorities of {source})")
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


def _for_another(hostname: str, error: Exception) -> PeerNotVerified:
    detail = "" if isinstance(error, VerificationError) else f" ({error})"
    return PeerNotVerified(f"the server's certificate is not for {hostname}{detail}; check the host name")
