"""
TLS to the gateways: our certificate from memory, theirs verified.

A plain :class:`twisted.internet.ssl.ClientContextFactory` verifies nothing. The one here is a subclass, so Twisted and
older programs accept it as a context factory, and it always verifies that the server's certificate leads to a trust
root and that it is for the right host. Both checks are in one callback of the context itself, so they also hold for
:meth:`ClientContextFactory.getContext`, and any exception in them rejects the certificate. Only the callback knows the
reason; OpenSSL's own error says just "certificate verify failed".

A pyOpenSSL context must not be changed after its first use: it is built once, with the factory. Factories share the
context for their host, since most of the time and the memory that one takes is for the trusted authorities: 0.3 ms and
70 KB, for each of a daemon's apps. Each connection is shown its own certificate; only one with intermediates needs a
context of its own, as pyOpenSSL has no chains of connections.

While the last connection still exists, the next one resumes its TLS session (RFC 8446, section 2.2): if a server ends
each connection after some requests, the next one opens while the last one drains. A handshake without certificates
takes half the time, 0.30 ms of CPU time instead of 0.61. Only the server that was verified can resume a session, so
this does not weaken the verification; but certificates expire, so after :data:`RESUMED` connections the next one is
verified again. Some servers offer to resume and then fail. After the first failed resumption, none is tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any, cast
from weakref import ref

from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet import ssl
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.tcp import Client
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementedBy, implementer
from zope.interface.declarations import Provides

from txapns._credentials.containers import Text, as_bytes
from txapns._network.alerts import alert_of, chain_fault, credential_advice, handshake_advice
from txapns._network.trust import given_trust, platform_trust
from txapns.credentials import Certificate, Credential
from txapns.errors import APNSError, ConnectFailed, CredentialError, CredentialRefused, InvalidGateway, PeerNotVerified

__all__ = ["ClientContextFactory", "explain", "identity_of", "show"]

#: How many connections in a row may rely on one verification.
RESUMED = 100

# For each TLS connection, Twisted declares the interfaces of its transport one by one. zope.interface keeps a
# declaration only as long as it is referenced; making these nine again for each connection took 0.35 ms.
_DECLARATIONS = [Provides(BufferingTLSTransport, each) for each in implementedBy(Client)]  # type: ignore[no-untyped-call]


@implementer(IOpenSSLClientConnectionCreator)
class ClientContextFactory(ssl.ClientContextFactory):
    """
    Makes the TLS connections to one gateway.

    For ``connectSSL``, ``wrapClientTLS`` and ``TLSMemoryBIOFactory``. The oldest supported version is TLS 1.2.

    :param hostname: the host name or IP address that the server's certificate must be for; a host name is also sent,
        as SNI.
    :param credential: the certificate to present, with its chain; left out, none is presented.
    :param trust_root: the PEM of one or more certificate authorities to trust; left out, those of the platform, or of
        ``certifi`` if OpenSSL cannot read these.
    :param protocols: the protocols to offer by ALPN, such as ``[b"h2"]``, the preferred one first.
    :raises InvalidGateway: the host name is invalid.
    :raises CredentialError: ``trust_root`` cannot be read, or OpenSSL does not accept the certificate.
    """

    def __init__(
        self,
        hostname: str,
        credential: Certificate | None = None,
        trust_root: Text | None = None,
        protocols: Sequence[bytes] = (),
    ) -> None:
        self._identity = identity_of(hostname)
        roots = None if trust_root is None else as_bytes(trust_root, "trust_root")
        self._build = partial(_context, hostname, credential, roots, tuple(protocols))
        shared = credential is None or not credential.chain
        self._shown = credential if shared else None  # by each connection, since the context does not
        self._context = _shared_context(hostname, None, roots, tuple(protocols)) if shared else self._presenting
        self._connection()  # tries the certificate
        self._last: ref[SSL.Connection] | None = None
        self._resuming: SSL.Connection | None = None  # the last one, if it resumes a session
        self._resumed = 0  # how many resumed one since the last verification
        self._resumes = True

    def getContext(self) -> SSL.Context:
        """
        Return a context, always the same. It presents the certificate, and verifies the server and its host name, but
        cannot send the name.
        """
        return self._context if self._shown is None else self._presenting

    @cached_property
    def _presenting(self) -> SSL.Context:
        return self._build()

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the OpenSSL object of one connection, which sends the host name and verifies the server."""
        connection = self._connection()
        connection.set_app_data(tlsProtocol)  # Twisted before 25 leaves this to us
        if isinstance(self._identity, DNS_ID):  # an address must not be sent (RFC 6066, section 3)
            connection.set_tlsext_host_name(self._identity.hostname)
        self._resume(connection)
        return connection

    def _connection(self) -> SSL.Connection:
        connection = SSL.Connection(self._context)
        if self._shown is not None:
            show(connection, self._shown)
        return connection

    def _resume(self, connection: SSL.Connection) -> None:
        """Let a connection resume the session of the last one, if possible."""
        last, self._last = None if self._last is None else self._last(), ref(connection)
        if self._resuming is not None and self._resuming.get_finished() is None:
            self._resumes = False
        session = None if last is None or last.get_finished() is None else last.get_session()
        if session is None or not self._resumes or self._resumed >= RESUMED:
            self._resuming, self._resumed = None, 0
        else:
            self._resuming, self._resumed = connection, self._resumed + 1
            connection.set_session(session)


def _context(
    hostname: str, credential: Certificate | None, trust_root: bytes | None, protocols: tuple[bytes, ...]
) -> SSL.Context:
    """Build a context; see :class:`ClientContextFactory`."""
    # The inherited context requires TLS 1.2 or newer, and verifies nothing yet.
    context: SSL.Context = cast(Any, ssl.ClientContextFactory()).getContext()
    # HTTP/2 forbids both (RFC 9113, section 9.2.1), and no gateway needs them.
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    if protocols:
        context.set_alpn_protos(list(protocols))
    if credential is not None:
        show(context, credential)
    trust = platform_trust() if trust_root is None else given_trust(trust_root)
    trust.install(context)
    verify = _verifier(hostname, identity_of(hostname), trust.source)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
    return context


# Hosts are few: Apple's two, and those of tests and proxies.
_shared_context = lru_cache(maxsize=32)(_context)


def explain(reason: Failure | BaseException, credential: Credential | None = None) -> APNSError:
    """
    Explain in a sentence why a TLS connection failed or ended.

    :param reason: the failure of an endpoint or ``connectionLost``.
    :param credential: the credential that was presented; if the server rejected it, the sentence has its last day.
    :returns: :exc:`~txapns.errors.PeerNotVerified` if we did not trust the server,
        :exc:`~txapns.errors.CredentialRefused` if it did not trust us, otherwise
        :exc:`~txapns.errors.ConnectFailed` with the message of OpenSSL or Twisted. Our own errors are returned as they
        are.
    """
    error = reason.value if isinstance(reason, Failure) else reason
    if isinstance(error, APNSError):
        return error
    if isinstance(error, VerificationError | CertificateError):
        return _for_another("the requested host", error)
    if isinstance(error, SSL.Error):
        return _explain_openssl(_words(error), credential)
    return ConnectFailed(str(error) or type(error).__name__)


def _explain_openssl(words: str, credential: Credential | None) -> APNSError:
    alert = alert_of(words)
    if alert:
        ours = f" (valid until {credential.expires:%Y-%m-%d})" if isinstance(credential, Certificate) else ""
        message = f"the server rejected our certificate{ours} with the alert {alert!r}; {credential_advice(alert)}"
        return CredentialRefused(message, alert)
    if "certificate verify failed" in words:
        return PeerNotVerified(f"the server's certificate is not trusted: {words}; check trust_root")
    return ConnectFailed(f"TLS failed: {_advised(words)}")


def _advised(words: str) -> str:
    advice = handshake_advice(words)
    return f"{words}; {advice}" if advice else words


def _words(error: SSL.Error) -> str:
    """OpenSSL's reasons from its queue of (library, function, reason); a system error has a number and text instead."""
    first = error.args[0] if error.args else ()
    if isinstance(first, list | tuple):
        return "; ".join(entry[2] for entry in first) or "OpenSSL gave no reason"
    return " ".join(map(str, error.args))


def identity_of(hostname: str) -> DNS_ID | IPAddress_ID:
    """Parse the host name or IP address that a certificate must be for; otherwise it is an ``InvalidGateway``."""
    try:
        return IPAddress_ID(hostname.partition("%")[0])  # the zone has a meaning only on this machine
    except ValueError:
        pass
    try:
        return DNS_ID(hostname)
    except ValueError:
        raise InvalidGateway(f"{hostname!r} is neither a host name nor an address") from None


def show(context: SSL.Context | SSL.Connection, credential: Certificate) -> None:
    """
    Let a context present a certificate, of a client or a server, with its chain; or a connection one without a chain.

    :raises CredentialError: OpenSSL does not accept it, for example because its key is too short.
    """
    try:
        context.use_certificate(credential.certificate)
        context.use_privatekey(credential.private_key)
        for issuer in credential.chain:
            assert isinstance(context, SSL.Context)
            context.add_extra_chain_cert(issuer)
    except SSL.Error as error:
        raise CredentialError(f"OpenSSL does not accept {credential!r}: {_advised(_words(error))}") from None


def _verifier(
    hostname: str, identity: DNS_ID | IPAddress_ID, source: str
) -> Callable[[SSL.Connection, crypto.X509, int, int, int], bool]:
    """Make the callback that OpenSSL calls for each certificate of the chain, the server's own (depth 0) last."""

    def verify(connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
        fault: PeerNotVerified | None = None
        if not ok:
            why = chain_fault(code, depth)
            fault = PeerNotVerified(
                f"the certificate of {hostname} is not trusted (trusted authorities: {source}): {why}"
            )
        elif depth == 0:
            try:
                verify_service_identity(extract_patterns(certificate), [identity], [])
            # Any exception rejects the certificate, and none may leave a callback of OpenSSL.
            except Exception as error:
                fault = _for_another(hostname, error)
        if fault is None:
            return True
        protocol = connection.get_app_data()  # None, for programs that use only the context
        if protocol is not None:
            protocol.failVerification(Failure(fault))
        return False

    return verify


def _for_another(hostname: str, error: Exception) -> PeerNotVerified:
    detail = "" if isinstance(error, VerificationError) else f" ({error})"
    return PeerNotVerified(f"the server's certificate is not for {hostname}{detail}; check the host name")
