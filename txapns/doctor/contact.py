"""
Going to a gateway and back with nothing in hand: its name, its ports, its certificate, and what it speaks.

No credential is shown. The certificate of the gateway is noted and judged, but the connection goes on in any case, for
whoever answers in its place often says who it is: a portal or a middlebox answers in HTTP/1.1. All that is asked is
``GET /``, over HTTP/2 or, where the server chooses that, HTTP/1.1. Apple answers that it does not serve this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import attrs
from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto
from service_identity.hazmat import DNS_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IHostResolution,
    IOpenSSLClientConnectionCreator,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._credentials.containers import shielded
from txapns._network.alerts import chain_fault
from txapns._network.clocks import timers, wall_clock
from txapns._network.endpoints import explain_attempt, host_endpoint, url_host
from txapns._network.tls import explain, identity_of
from txapns._network.transports import transport_of
from txapns._network.trust import given_trust, platform_trust
from txapns.errors import WireError
from txapns.gateway import Gateway
from txapns.wire.requests import Headers, RequestSender

__all__ = ["Contact", "Handshake", "make_contact"]

_MOST = 16_384  # bytes of an answer in HTTP/1.1 that are looked at


@attrs.frozen(kw_only=True)
class Handshake:
    """
    What came of a TLS connection.

    :ivar chain: the names in the certificates: the server's, then its issuers, as far as they are known.
    :ivar fault: why the server is not trusted; empty if it is.
    :ivar trust: where the trusted authorities come from.
    :ivar version: for example ``"TLSv1.3"``.
    :ivar http: what it speaks: ``"HTTP/2"``, ``"HTTP/1.1"``, or nothing that was recognized.
    :ivar answer: the status of its answer, or the first line; empty if there was none.
    :ivar server_time: the time in its answer, in UNIX seconds.
    :ivar our_time: this machine's time when the answer came, in UNIX seconds.
    :ivar error: why there was no answer, or no handshake.
    """

    chain: tuple[str, ...] = ()
    fault: str = ""
    trust: str = ""
    version: str = ""
    http: str = ""
    answer: str = ""
    server_time: float | None = None
    our_time: float = 0.0
    error: str = ""


@attrs.frozen(kw_only=True)
class Contact:
    """
    What became of all attempts to reach a gateway.

    :ivar addresses: those of its name; empty if they are not known.
    :ivar lookup_error: why there are none; empty also if a proxy looks the name up.
    :ivar ports: for each TCP port why it cannot be reached; empty where it can.
    :ivar handshake: what came of TLS; ``None`` if the gateway's port cannot be reached.
    """

    gateway: Gateway
    addresses: tuple[str, ...] = ()
    lookup_error: str = ""
    ports: Mapping[int, str] = attrs.Factory(dict)
    handshake: Handshake | None = None

    @property
    def proxied(self) -> bool:
        """Whether a proxy is used."""
        proxy = self.gateway.proxy
        return proxy is not None and proxy.is_for(self.gateway.host, self.gateway.port)


async def make_contact(reactor: Any, gateway: Gateway, timeout: float, ports: Sequence[int] = ()) -> Contact:
    """
    Try to reach a gateway.

    :param reactor: the reactor.
    :param gateway: of the HTTP/2 protocol.
    :param timeout: how long each attempt may take, in seconds: the look-up, each port, and TLS with an answer.
    :param ports: other ports to try.
    :returns: what became of it; errors are in there.
    """
    contact = Contact(gateway=gateway)
    if not contact.proxied:
        found = await _look_up(reactor, gateway.host, timeout)
        if not found:
            why = f"the name {gateway.host} cannot be resolved"
            return attrs.evolve(contact, lookup_error=why)
        contact = attrs.evolve(contact, addresses=tuple(found))
    tried = {port: await _knock(reactor, gateway, port, timeout) for port in dict.fromkeys((gateway.port, *ports))}
    contact = attrs.evolve(contact, ports=tried)
    if tried[gateway.port]:
        return contact
    return attrs.evolve(contact, handshake=await _visit(reactor, gateway, timeout))


async def _look_up(reactor: Any, host: str, timeout: float) -> list[str]:
    receiver = _Addresses()
    reactor.nameResolver.resolveHostName(receiver, host)
    waiting = receiver.complete.addTimeout(timeout, timers(reactor), lambda *_: None)
    await waiting
    return receiver.found


@implementer(IResolutionReceiver)
class _Addresses:
    """Collects the addresses of a name."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.complete: Deferred[None] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Do nothing."""

    def addressResolved(self, address: IAddress) -> None:
        """Keep it."""
        host = getattr(address, "host", "")
        if host not in self.found:
            self.found.append(host)

    def resolutionComplete(self) -> None:
        """Report it, unless it is too late."""
        if not self.complete.called:
            self.complete.callback(None)


def _endpoint(reactor: Any, gateway: Gateway, port: int, timeout: float) -> IStreamClientEndpoint:
    if gateway.proxy is not None and gateway.proxy.is_for(gateway.host, port):
        return gateway.proxy.endpoint(reactor, gateway.host, port, timeout)
    return host_endpoint(reactor, gateway.host, port, timeout)


class _Quiet(Factory):
    noisy = False


async def _knock(reactor: Any, gateway: Gateway, port: int, timeout: float) -> str:
    """Connect to a port and disconnect; returns why that is impossible."""
    try:
        protocol: Any = await _endpoint(reactor, gateway, port, timeout).connect(_Quiet.forProtocol(Protocol))
    except CancelledError:
        raise
    except Exception:
        return str(explain_attempt(Failure(), gateway.host, port))
    protocol.transport.abortConnection()
    return ""


async def _visit(reactor: Any, gateway: Gateway, timeout: float) -> Handshake:
    """Make a TLS connection and ask for something."""
    observer = _Observer(gateway)
    visit = _Visit(gateway, wall_clock(reactor))
    endpoint = wrapClientTLS(observer, _endpoint(reactor, gateway, gateway.port, timeout), clock=timers(reactor))
    try:
        await endpoint.connect(_Quiet.forProtocol(lambda: visit))
    except CancelledError:
        raise
    except Exception:
        return Handshake(error=str(explain_attempt(Failure(), gateway.host, gateway.port)))
    late = f"no answer within {timeout:g} s"
    seen = await visit.done.addTimeout(timeout, timers(reactor), lambda *_: attrs.evolve(visit.seen, error=late))
    visit.leave()
    return attrs.evolve(seen, chain=observer.chain(), fault=observer.fault(), trust=observer.trust)


@implementer(IOpenSSLClientConnectionCreator)
class _Observer:
    """Makes TLS connections that note whom they lead to, and are never refused. Nothing secret may be sent over one."""

    def __init__(self, gateway: Gateway) -> None:
        self._host = gateway.host
        self._identity = identity_of(gateway.host)
        self._context = SSL.Context(SSL.TLS_METHOD)
        self._context.set_min_proto_version(SSL.TLS1_2_VERSION)
        self._context.set_alpn_protos([b"h2", b"http/1.1"])
        trust = platform_trust() if gateway.trust_root is None else given_trust(gateway.trust_root)
        trust.install(self._context)
        self.trust = trust.source
        self._context.set_verify(SSL.VERIFY_PEER, self._note)
        self._certificates: dict[int, crypto.X509] = {}
        self._faults: dict[int, str] = {}

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the OpenSSL object of a connection."""
        connection = SSL.Connection(self._context)
        connection.set_app_data(tlsProtocol)
        if isinstance(self._identity, DNS_ID):
            connection.set_tlsext_host_name(self._identity.hostname)
        return connection

    def _note(self, connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
        self._certificates[depth] = certificate
        if not ok:
            self._faults.setdefault(depth, chain_fault(code, depth))
        return True

    def chain(self) -> tuple[str, ...]:
        """Name the certificates, the server's own first."""
        return tuple(_name_in(certificate) for _, certificate in sorted(self._certificates.items()))

    def fault(self) -> str:
        """Say why the server is not trusted: the fault that is the farthest up, or the name."""
        if self._faults:
            return self._faults[max(self._faults)]
        if 0 not in self._certificates:
            return ""
        try:
            verify_service_identity(extract_patterns(self._certificates[0]), [self._identity], [])
        except Exception:  # whatever the certificate has in it
            return f"it is not for {self._host}; check the host name"
        return ""


def _name_in(certificate: crypto.X509) -> str:
    """Read common name and organization."""

    def read() -> str:
        subject = certificate.to_cryptography().subject
        return ", ".join(str(each.value) for each in subject if each.oid in _SHOWN) or subject.rfc4514_string()

    try:
        return shielded(read)
    except ValueError:
        return "a name that cannot be read"


_SHOWN: frozenset[x509.ObjectIdentifier] = frozenset((NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME))


@implementer(IHandshakeListener)
class _Visit(Protocol):
    """
    Asks a server for something, and notes what it speaks.

    :ivar seen: what was seen so far.
    :ivar done: fires with it.
    """

    def __init__(self, gateway: Gateway, wall: Any) -> None:
        self.seen = Handshake()
        self.done: Deferred[Handshake] = Deferred()
        self._host = url_host(gateway.host).encode("idna")
        self._wall = wall
        self._requests: RequestSender[bool] = RequestSender(self._host)
        self._data = b""
        self._text = False  # whether it speaks HTTP/1.1

    def handshakeCompleted(self) -> None:
        """Ask in the protocol that the server chose."""
        transport: Any = transport_of(self)
        self.seen = attrs.evolve(self.seen, version=str(transport.getHandle().get_protocol_version_name()))
        if transport.negotiatedProtocol == b"http/1.1":
            self._text = True
            transport.write(b"GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % self._host)
        else:
            transport.write(self._requests.data_to_send())

    def dataReceived(self, data: bytes) -> None:
        """Read the answer."""
        if self.done.called:
            return
        self._data += data[: _MOST - len(self._data)]
        if self._text or self._data.startswith(b"HTTP/"):
            self._read_text()
        else:
            self._read_frames(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Say so, unless all is known."""
        silently = "it closed the connection without an answer"
        self._finish(error=silently if self.seen.version else str(explain(reason)))

    def leave(self) -> None:
        """Close the connection."""
        if self.transport is not None:
            transport_of(self).abortConnection()

    def _read_text(self) -> None:
        head, ended, _ = self._data.partition(b"\r\n\r\n")
        if not ended and len(self._data) < _MOST:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.encode("latin-1").partition(b":")[::2] for line in lines)
        fields = [(name.strip().lower(), value.strip()) for name, value in pairs]
        self._finish(http="HTTP/1.1", answer=first[:100], fields=fields)

    def _read_frames(self, data: bytes) -> None:
        try:
            received = self._requests.receive(data)
        except WireError:
            self._finish(error="it speaks neither HTTP/2 nor HTTP/1.1")
            return
        if received.ready:
            self.seen = attrs.evolve(self.seen, http="HTTP/2")
            if self._requests.room()[0]:
                self._requests.send(True, self._requests.head(b"GET"), b"/", (), b"")
        for _, answer in (*received.rejected, *received.answered):
            self._finish(answer=f"{answer.status} {answer.reason}".strip(), fields=answer.headers)
        for _, headers in received.accepted:
            self._finish(answer="200", fields=headers)
        if received.goaway is not None or received.reset or received.refused:
            self._finish(answer="no answer to the request")
        if not self.done.called:
            transport_of(self).write(self._requests.data_to_send())

    def _finish(self, fields: Headers = (), **seen: Any) -> None:
        if not self.done.called:
            date = dict(fields).get(b"date", b"").decode("latin-1")
            self.seen = attrs.evolve(self.seen, our_time=self._wall.now(), server_time=_seconds(date), **seen)
            self.done.callback(self.seen)


def _seconds(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
