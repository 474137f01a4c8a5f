"""
TLS of the faces: what they show of themselves, and who is calling.

Where callers are known by their certificates, TLS asks for one and takes any that the face knows by its fingerprint; an
unknown one is refused in the handshake already, as Apple does. Sessions are never resumed, so that a certificate is
looked at each time. A certificate is never parsed here: its fingerprint is that of the octets which came.
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
    """
    Tell for which host names a listener's certificate is.

    :param shown: the certificate.
    """
    try:
        names = shown.certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except (ExtensionNotFound, ValueError):
        return ()
    return names.get_values_for_type(DNSName)


def tls_options(shown: Certificate, protocols: Sequence[bytes] = ()) -> CertificateOptions:
    """
    Make what shows a listener's certificate. TLS 1.2 is the oldest version spoken.

    :param shown: the certificate.
    :param protocols: the protocols that ALPN may agree upon, the preferred one first.
    """
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
    What makes the TLS connections of a face whose callers show certificates.

    :param certificate: what the face shows.
    :param known: tells whether a client certificate is known, by its fingerprint.
    :param required: whether a client without a certificate is turned away.
    :param protocols: what it speaks, by ALPN; a client that names nothing of it is not turned away for that.
    :param tls12: whether TLS 1.2 is the newest version. A server of TLS 1.3 writes to the client at once (tickets),
        which a client that takes whatever can be read for an error does not survive.
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
            # Who issued it is of no interest.
            return depth > 0 or known(fingerprint(shown))

        context.set_verify(SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if required else 0), verify)
        context.set_alpn_select_callback(
            lambda _, offered: next((each for each in protocols if each in offered), SSL.NO_OVERLAPPING_PROTOCOLS)
        )
        self._context = context

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the OpenSSL side of one connection."""
        return SSL.Connection(self._context)


def fingerprint(shown: crypto.X509) -> str:
    """
    Tell the fingerprint of a certificate, whatever is in it.

    :param shown: the certificate.
    :returns: its SHA-256 in hexadecimal, lower case.
    """
    return shown.digest("sha256").replace(b":", b"").decode().lower()
