r"""
Connecting to a gateway through an HTTP proxy: the method CONNECT (RFC 9110, section 9.3.6).

We ask the proxy for a connection to the gateway. If it accepts, it forwards everything that follows unchanged in both
directions. Then TLS begins with the gateway, whose name is verified as always. The proxy sees only host and port. ::

    C: CONNECT api.push.apple.com:443 HTTP/1.1\r\n
    C: Host: api.push.apple.com:443\r\n
    C: Proxy-Authorization: Basic dXNlcjpwYXNz\r\n          if there are user and password (RFC 7617)
    C: \r\n
    P: HTTP/1.1 200 Connection established\r\n              any 2xx; the other header fields do not matter
    P: \r\n
    C: 16 03 01 …                                           TLS with the gateway

A 1xx answer announces another answer. Any other answer is an error. A line may also end in ``\n`` alone (RFC 9112,
section 2.2). We disconnect from a proxy at its first bytes if it does not speak HTTP, after 16 KiB if its header does
not end, and at the deadline if it does not answer: connecting and the answer share one deadline. Attempts are
independent, so one that hangs does not block others.

Once the proxy has accepted, the protocol of this module steps aside: TLS uses the TCP connection as its transport, as
it would without a proxy (or the TLS connection to the proxy, if its URL begins with ``https``).
"""

from __future__ import annotations

import re
from base64 import b64encode
from ipaddress import ip_address, ip_network
from typing import cast
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment

import attrs
from service_identity.hazmat import DNS_ID
from twisted.internet.address import HostnameAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import ConnectingCancelledError, ConnectionDone, NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._credentials.containers import Text
from txapns._network.clocks import timers
from txapns._network.endpoints import checked_host, checked_port, explain_attempt, host_endpoint, url_host
from txapns._network.tls import ClientContextFactory, identity_of
from txapns.errors import ConnectFailed, InvalidGateway, PeerNotVerified

__all__ = ["Proxy", "read_proxy"]

#: The longest header of a proxy's answer, in bytes, including all 1xx answers before it.
_LONGEST = 16_384

#: How many of the proxy's authentication schemes an error message lists.
_MOST_SCHEMES = 8

_PORTS = {"http": 80, "https": 443}
_BEGINNING = b"HTTP/1."
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] +([1-9][0-9]{2})(?: .*)?")
_END = re.compile(rb"\r?\n\r?\n")
# The challenges of a proxy, in any number of fields, each with any number of schemes and their parameters (RFC 9110,
# section 11.6.1); tinyproxy sends the field of a server. Quoted strings may contain commas.
_CHALLENGES = re.compile(rb"^(?:Proxy|WWW)-Authenticate[ \t]*:(.*)$", re.IGNORECASE | re.MULTILINE)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"?')
_SCHEME = re.compile(r"\s*([\w!#$%&'*+.^`|~-]{1,40})(?!\s*=)(?:\s|\Z)", re.ASCII)


def _user(user: str | None) -> str | None:
    if user is not None and ":" in user:
        raise InvalidGateway("the user of a proxy cannot contain a colon")
    return user


@attrs.frozen
class Proxy:
    """
    An HTTP proxy for connections to a gateway. :meth:`parse` reads it from a URL.

    Its ``str`` and ``repr`` do not show user and password.

    :ivar user: the user name for it; ``None`` for no authentication.
    :ivar tls: whether to use TLS to the proxy as well, which protects the password on the way.
    :ivar trust_root: PEM of the authorities to trust for the proxy's own certificate; ``None`` for the platform's.
    :ivar no_proxy: the hosts to connect to directly, in the form of the variable ``NO_PROXY``: names (which include all
        names below them), addresses and networks, separated by commas, or ``*``.
    """

    host: str = attrs.field(converter=checked_host)
    port: int = attrs.field(converter=checked_port)
    user: str | None = attrs.field(default=None, converter=_user, repr=False)
    password: str = attrs.field(default="", repr=False)
    tls: bool = False
    trust_root: Text | None = attrs.field(default=None, repr=False)
    no_proxy: str = ""

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """
        Read a proxy from its URL.

        :param url: ``http://host:port``, or ``http://user:password@host:port`` with the special characters in user and
            password percent-encoded. The default port is 80. ``https`` is for a proxy that speaks TLS itself; its
            default port is 443.
        :raises InvalidGateway: it is invalid. The message does not show it, since it may contain the password.
        """
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname, parts.port
        except ValueError:
            raise InvalidGateway("the proxy's URL has no host, or a port that is not a number up to 65535") from None
        if parts.scheme not in _PORTS or not host:
            raise InvalidGateway("the proxy's URL must be http://user:password@host:port, or the same with https")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise InvalidGateway("the proxy's URL must end after the port; in a password, write / ? # as %2F %3F %23")
        user = None if parts.username is None else unquote(parts.username)
        port = _PORTS[parts.scheme] if port is None else port
        return cls(host, port, user, unquote(parts.password or ""), parts.scheme == "https")

    @classmethod
    def from_environment(cls) -> Proxy | None:
        """
        Read the environment variables ``https_proxy`` and ``no_proxy``, lower case before upper case.

        :returns: the proxy; ``None`` if there is none.
        :raises InvalidGateway: the URL is invalid.
        """
        found = getproxies_environment()
        if not found.get("https"):
            return None
        return attrs.evolve(cls.parse(found["https"]), no_proxy=found.get("no", ""))

    def is_for(self, host: str, port: int) -> bool:
        """Tell whether to use the proxy for a host: whether ``no_proxy`` does not cover it."""
        return not any(_covers(entry.strip().lower(), host.lower(), port) for entry in self.no_proxy.split(","))

    def endpoint(self, reactor: IReactorTime, host: str, port: int, timeout: float = 30.0) -> IStreamClientEndpoint:
        """
        Make an endpoint that connects through it.

        :param host: the name or address of the gateway; the proxy looks it up.
        :param timeout: how long connecting to the proxy and its answer may take, in seconds.
        :returns: the endpoint. It fails with :exc:`~txapns.errors.ConnectFailed`, which names the proxy.
        :raises InvalidGateway: the host is neither a name nor an address.
        :raises CredentialError: ``trust_root`` cannot be read.
        """
        return _TunnelEndpoint(self, reactor, host, port, timeout)

    def __str__(self) -> str:
        """Its URL, without user and password."""
        return f"{'https' if self.tls else 'http'}://{url_host(self.host)}:{self.port}"


def _covers(entry: str, host: str, port: int) -> bool:
    """Whether an entry of ``NO_PROXY`` covers a host."""
    name = entry.removeprefix("*").removeprefix(".")
    if not name:
        return entry == "*"
    try:
        return ip_address(host) in ip_network(name.strip("[]"), strict=False)
    except ValueError:
        return any(end == name or end.endswith(f".{name}") for end in (host, f"{url_host(host)}:{port}"))


def read_proxy(description: str | Proxy | None) -> Proxy | None:
    """
    Read any of the forms in which a program may give a proxy.

    :param description: a URL, as for :meth:`Proxy.parse`; ``"environment"``, for :meth:`Proxy.from_environment`; a
        :class:`Proxy`, or ``None``.
    :returns: the proxy, or ``None``.
    :raises InvalidGateway: it is invalid.
    """
    if description is None or isinstance(description, Proxy):
        return description
    return Proxy.from_environment() if description == "environment" else Proxy.parse(description)


@implementer(IStreamClientEndpoint)
class _TunnelEndpoint:
    def __init__(self, proxy: Proxy, reactor: IReactorTime, host: str, port: int, timeout: float) -> None:
        reactor = timers(reactor)
        endpoint = host_endpoint(reactor, proxy.host, proxy.port, timeout)
        if proxy.tls:
            context = ClientContextFactory(proxy.host, trust_root=proxy.trust_root)
            endpoint = wrapClientTLS(context, endpoint, clock=reactor)
        self._proxy, self._clock, self._endpoint, self._timeout = proxy, reactor, endpoint, timeout
        # Its form in the request contains nothing that could end the line. Zones have no meaning for the proxy.
        identity = identity_of(host)
        name = identity.hostname.decode("ascii") if isinstance(identity, DNS_ID) else str(identity.ip)
        self._target = f"{url_host(name)}:{port}"
        self._address = HostnameAddress(name.encode("ascii"), port)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See :class:`IStreamClientEndpoint`. Cancelling closes the connection to the proxy."""

        def unopened(reason: Failure) -> Failure:
            if reason.check(CancelledError, ConnectingCancelledError):
                return reason
            return Failure(_unreachable(self._proxy, reason))

        def late(reason: object, timeout: float) -> Failure:
            return Failure(ConnectFailed(_failed(self._proxy, self._target, f"no answer within {timeout:g} s")))

        factory = _TunnelFactory(self._proxy, self._target, self._address, protocolFactory)
        opened = self._endpoint.connect(factory)
        attempt: Deferred[IProtocol] = opened.addCallbacks(lambda tunnel: tunnel.through, unopened)
        return attempt.addTimeout(self._timeout, self._clock, late)


@implementer(IProtocolFactory)
@attrs.frozen
class _TunnelFactory:
    proxy: Proxy
    target: str
    address: IAddress
    factory: IProtocolFactory

    def doStart(self) -> None:
        self.factory.doStart()

    def doStop(self) -> None:
        self.factory.doStop()

    def buildProtocol(self, addr: IAddress | None) -> _Tunnel:
        return _Tunnel(self)


class _Tunnel(Protocol):
    """
    Asks a proxy for a connection, then hands it to another protocol.

    :ivar through: fires with the protocol that received the connection.
    """

    def __init__(self, factory: _TunnelFactory) -> None:
        self.through: Deferred[IProtocol] = Deferred(lambda _: self._abort())
        self._factory = factory
        self._header = b""
        self._protocol: IProtocol | None = None

    def connectionMade(self) -> None:
        proxy, target = self._factory.proxy, self._factory.target
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if proxy.user is not None:
            lines.append(f"Proxy-Authorization: Basic {b64encode(f'{proxy.user}:{proxy.password}'.encode()).decode()}")
        assert self.transport is not None
        self.transport.write("\r\n".join([*lines, "", ""]).encode("ascii"))

    def dataReceived(self, data: bytes) -> None:
        """Read the answer; once the proxy has accepted, pass everything to the other protocol."""
        if self._protocol is not None:
            self._protocol.dataReceived(data)
        elif not self.through.called:
            self._header += data
            try:
                rest = self._read()
                protocol = None if rest is None else self._build()
            except Exception:  # also of the other factory
                self._fail(Failure())
            else:
                if rest is not None and protocol is not None:
                    self._hand_over(protocol, rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._protocol is not None:
            self._protocol.connectionLost(reason)
        elif self.through.called:
            pass  # the attempt has already failed
        elif reason.check(ConnectionDone):
            self._fail(Failure(self._error("it closed the connection without an answer")))
        else:
            self._fail(Failure(_unreachable(self._factory.proxy, reason)))

    def _read(self) -> bytes | None:
        """
        Read the answer, as far as it has arrived.

        :returns: the bytes after it, if the proxy has accepted; ``None`` while the answer is incomplete.
        :raises ConnectFailed: the proxy rejected the request, or its answer is not HTTP.
        """
        rest = self._header
        while True:
            line = rest.partition(b"\n")[0].rstrip(b"\r")
            status = _STATUS_LINE.fullmatch(line)
            if status is None and (b"\n" in rest or not _BEGINNING.startswith(rest[: len(_BEGINNING)])):
                raise self._error(f"it does not speak HTTP, but sent {line[:40]!r}")
            end = _END.search(rest)
            if end is None or status is None:
                if len(self._header) > _LONGEST:
                    raise self._error(f"the header of its answer is longer than {_LONGEST} bytes")
                return None
            code, header, rest = int(status[1]), rest[: end.start()], rest[end.end() :]
            if code // 100 == 2:
                return rest
            if code // 100 != 1 or code == 101:
                raise self._error(f"it answered {_printable(line)}{self._advice(code, header)}")

    def _advice(self, code: int, header: bytes) -> str:
        if code not in (401, 407):  # tinyproxy answers 401 if user or password is wrong
            return ""
        schemes = _schemes(header)
        if schemes and "basic" not in map(str.lower, schemes):
            return (
                f"; it accepts only {' or '.join(schemes)}, and txapns supports only Basic: enable Basic in the proxy, "
                "or an exception for this host"
            )
        if self._factory.proxy.user is None:
            return "; it requires a user and a password"
        return "; it does not accept this user and password"

    def _error(self, why: str) -> ConnectFailed:
        return ConnectFailed(_failed(self._factory.proxy, self._factory.target, why))

    def _build(self) -> IProtocol:
        protocol = self._factory.factory.buildProtocol(self._factory.address)
        if protocol is None:
            raise NoProtocol
        return protocol

    def _hand_over(self, protocol: IProtocol, rest: bytes) -> None:
        assert self.transport is not None
        self._protocol = protocol
        self._header = b""
        protocol.makeConnection(self.transport)
        self.through.callback(protocol)
        if rest:
            protocol.dataReceived(rest)

    def _fail(self, reason: Failure) -> None:
        self.through.errback(reason)
        self._abort()

    def _abort(self) -> None:
        assert self.transport is not None
        cast(ITCPTransport, self.transport).abortConnection()


def _schemes(header: bytes) -> list[str]:
    """Find the authentication schemes that a proxy offers, in its spelling and order."""
    unfolded = re.sub(rb"\r?\n[ \t]+", b" ", header)  # a field may continue in the next line (RFC 9112, section 5.2)
    fields = [_QUOTED.sub('""', field.decode("latin-1")) for field in _CHALLENGES.findall(unfolded)]
    found = (_SCHEME.match(challenge) for challenge in ",".join(fields).split(","))
    return list(dict.fromkeys(each[1] for each in found if each is not None))[:_MOST_SCHEMES]


def _unreachable(proxy: Proxy, reason: Failure) -> ConnectFailed:
    """Say that the proxy could not be reached. If it rejects a certificate, that is not ours for APNs."""
    error = explain_attempt(reason, proxy.host, proxy.port)
    kind = PeerNotVerified if isinstance(error, PeerNotVerified) else ConnectFailed
    return kind(f"no connection to the proxy {proxy}: {error}")


def _failed(proxy: Proxy, target: str, why: str) -> str:
    return f"no connection to {target} through the proxy {proxy}: {why}"


def _printable(line: bytes) -> str:
    text = line[:200].decode("latin-1")
    return "".join(character if character.isprintable() else "�" for character in text)
