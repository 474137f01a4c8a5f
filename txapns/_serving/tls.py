"""
TLS of the faces: their own certificates, and those of their callers.

Where callers are identified by their certificates, the handshake requests one, and accepts it if the face knows its
fingerprint. An unknown one is refused in the handshake, as Apple does. Sessions are never resumed, so the certificate
is checked each time. It is never parsed: the fingerprint is that of the bytes that were received.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography.x509 import DNSName, ExtensionNotFound, SubjectAlternativeName
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from txapns._network.tls import show
from txapns.credentials import Certificate

__all__ = ["ServerTLS", "certified_names", "fingerprint", "tls_options"]


def certified_names(shown: Certificate) -> Sequence[str]:
    """List the host names of a listener's certificate."""
    try:
        names = shown.certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except (ExtensionNotFound, ValueError):
        return ()
    return names.get_values_for_type(DNSName)


def tls_options(shown: Certificate, protocols: Sequence[bytes] = ()) -> CertificateOptions:
    """Make the options of a listener with its certificate and the protocols for ALPN. They allow TLS 1.2 and 1.3."""
    options = CertificateOptions(
        privateKey=crypto.PKey.from_cryptography_key(shown.private_key),
        certificate=crypto.X509.from_cryptography(shown.certificate),
        extraCertChain=[crypto.X509.from_cryptography(issuer) for issuer in shown.chain],
        acceptableProtocols=list(protocols) or None,
    )
    options.getContext().set_options(SSL.OP_NO_RENEGOTIATION)
    return options


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """
    Makes the TLS connections of a face whose callers show certificates.

    :param known: tells whether a client certificate is known, by its fingerprint.
    :param required: whether a client without a certificate is refused.
    :param protocols: the protocols for ALPN; a client that offers none of them is not refused.
    :param tls12: whether TLS 1.2 is the newest version. A server with TLS 1.3 writes to the client at once (tickets),
        and some clients take anything that they can read for an error.
    """

    def __init__(
        self,
        certificate: Certificate,
        known: Callable[[str], bool],
        *,
        required: bool,
        protocols: Sequence[bytes] = (),
        tls12: bool = False,
    ) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        if tls12:
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(
            SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET | SSL.OP_CIPHER_SERVER_PREFERENCE
        )
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # most connections are idle most of the time
        show(context, certificate)

        def verify(connection: SSL.Connection, shown: crypto.X509, code: int, depth: int, ok: int) -> bool:
            # Its issuer does not matter.
            return depth > 0 or known(fingerprint(shown))

        context.set_verify(SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if required else 0), verify)
        context.set_alpn_select_callback(
            lambda _, offered: next((each for each in protocols if each in offered), SSL.NO_OVERLAPPING_PROTOCOLS)
        )
        self._context = context

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the OpenSSL connection of one TLS connection."""
        return SSL.Connection(self._context)


def fingerprint(shown: crypto.X509) -> str:
    """Compute the SHA-256 of a certificate, in lower-case hexadecimal, without parsing it."""
    return shown.digest("sha256").replace(b":", b"").decode().lower()
