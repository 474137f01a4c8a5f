"""
Which server, which protocol, which authorities to trust, and how to reach it: a :class:`Gateway`.

Apple serves the provider API in two environments. It switched off the hosts of the binary protocol on 31 March 2021,
so that protocol is only for servers that others run.

Source: "Sending notification requests to APNs" (hosts, and port 2197 besides 443); "Sending channel management requests
to APNs".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from txapns._credentials.containers import Text
from txapns._network.clocks import timers
from txapns._network.endpoints import checked_host, checked_port, host_endpoint, url_host
from txapns._network.proxy import Proxy, read_proxy
from txapns._network.tls import ClientContextFactory
from txapns._network.trust import trust_pem
from txapns.credentials import Certificate, Credential
from txapns.errors import CredentialError, InvalidGateway

__all__ = ["Gateway"]

_HTTP2 = "http2"
_BINARY = "binary"
_PROTOCOLS = (_HTTP2, _BINARY)
_APPLE = {"production": "api.push.apple.com", "sandbox": "api.sandbox.push.apple.com"}
#: The server that manages channels, for each of these hosts. (The sandbox does have the lower port.)
_MANAGEMENT = {
    "api.push.apple.com": ("api-manage-broadcast.push.apple.com", 2196),
    "api.sandbox.push.apple.com": ("api-manage-broadcast.sandbox.push.apple.com", 2195),
    "api.development.push.apple.com": ("api-manage-broadcast.sandbox.push.apple.com", 2195),  # an older name of it
}


def _whole(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise InvalidGateway(f"a port or a command must be an integer, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", text):
        raise InvalidGateway(f"the settle time must be a number of seconds, not {text!r}")
    return float(text)


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise InvalidGateway(f"barrier must be true or false, not {text!r}")
    return text == "true"


#: The other arguments that a text may have for each protocol, and how to read them. (trust_root and proxy are separate
#: arguments: the first is too long for a text, and the second may contain a password.)
_OPTIONS: Mapping[str, Mapping[str, Callable[[str], Any]]] = {
    _HTTP2: {"management_host": str, "management_port": _whole},
    _BINARY: {
        "feedback_host": str,
        "feedback_port": _whole,
        "settle_time": _seconds,
        "barrier": _flag,
        "command": _whole,
    },
}
_FORMS = "production, sandbox, http2:host=NAME:port=N or binary:host=NAME:port=N"


def _settle_time(seconds: float) -> float:
    if not 0 <= seconds < math.inf:
        raise InvalidGateway(f"the settle time must be a non-negative number of seconds, not {seconds!r}")
    return seconds


def _command(command: int) -> int:
    if command not in (0, 1, 2):
        raise InvalidGateway(f"the command must be 0, 1 or 2, not {command!r}")
    return command


def _fields(description: str) -> tuple[str, dict[str, str]]:
    """
    Split a text into the protocol and its arguments.

    A colon ends a value only if a name follows, so that an IPv6 address can be given as it is. It may also be in
    brackets, or have backslashes before its colons as in a Twisted endpoint string.
    """
    protocol, _, rest = description.partition(":")
    pairs = [part.partition("=")[::2] for part in re.split(r":(?=[a-z_]+=)", rest)]
    fields = {name: value.replace("\\:", ":") for name, value in pairs}
    known = {"host", "port", *_OPTIONS.get(protocol, ())}
    if protocol not in _PROTOCOLS or not fields.get("host") or not known >= fields.keys() or len(fields) < len(pairs):
        # Show only what is short: with arguments in the wrong order, this may be a private key.
        shown = repr(description) if len(description) < 80 and "\n" not in description else "this text"
        raise InvalidGateway(f"{shown} is not a gateway: give {_FORMS}")
    return protocol, fields


@attrs.frozen
class Gateway:
    """
    A server to send to. Make one with :meth:`http2`, :meth:`binary` or :meth:`parse`.

    :ivar protocol: ``"http2"`` or ``"binary"``.
    :ivar host: the server's name or address; its certificate must be valid for it.
    :ivar port: the TCP port.
    :ivar trust_root: PEM text of the certificate authorities to trust; ``None`` for the platform's.
    :ivar feedback_host: the feedback service's name or address, for the binary protocol.
    :ivar feedback_port: the feedback service's TCP port.
    :ivar settle_time: for the binary protocol, the seconds without an error packet after which a notification counts
        as accepted.
    :ivar barrier: confirm batches by a deliberately invalid last notification instead.
    :ivar command: the format of notifications in the binary protocol: 0, 1 or 2.
    :ivar proxy: the proxy to connect through; ``None`` for none.
    :ivar management_host: the name or address of the server that manages broadcast channels, for the provider API;
        ``None`` if there is none.
    :ivar management_port: its TCP port.
    """

    protocol: str = attrs.field(validator=attrs.validators.in_(_PROTOCOLS))
    host: str = attrs.field(converter=checked_host)
    port: int = attrs.field(converter=checked_port)
    trust_root: str | None = attrs.field(default=None, converter=attrs.converters.optional(trust_pem), repr=False)
    feedback_host: str | None = attrs.field(default=None, converter=attrs.converters.optional(checked_host))
    feedback_port: int | None = attrs.field(default=None, converter=attrs.converters.optional(checked_port))
    settle_time: float = attrs.field(default=2.0, converter=_settle_time)
    barrier: bool = False
    command: int = attrs.field(default=2, converter=_command)
    proxy: Proxy | None = attrs.field(default=None, converter=read_proxy)
    management_host: str | None = attrs.field(default=None, converter=attrs.converters.optional(checked_host))
    management_port: int | None = attrs.field(default=None, converter=attrs.converters.optional(checked_port))

    @classmethod
    def http2(
        cls,
        host: str,
        port: int = 443,
        *,
        trust_root: Text | None = None,
        proxy: str | Proxy | None = None,
        management_host: str | None = None,
        management_port: int | None = None,
    ) -> Gateway:
        """
        A server of the HTTP/2 provider API.

        :param host: its name or address.
        :param port: its TCP port.
        :param trust_root: PEM of the certificate authorities to trust; left out, the platform's.
        :param proxy: as for :class:`~txapns.APNSClient`.
        :param management_host: the name or address of the server that manages broadcast channels. Apple's is known; for
            another host it defaults to ``host`` if ``management_port`` is given, otherwise there is none.
        :param management_port: the TCP port of that server; left out, Apple's, and 2196 for another host.
        :returns: the gateway.
        :raises InvalidGateway: a host, a port or the proxy is invalid.
        """
        known_host, known_port = _MANAGEMENT.get(host, (None, 2196))
        if management_port is not None:
            known_host, known_port = known_host or host, management_port
        management_host = management_host or known_host
        return cls(
            _HTTP2,
            host,
            port,
            trust_root,
            proxy=proxy,
            management_host=management_host,
            management_port=None if management_host is None else known_port,
        )

    @classmethod
    def binary(
        cls,
        host: str,
        port: int = 2195,
        *,
        trust_root: Text | None = None,
        feedback_host: str | None = None,
        feedback_port: int = 2196,
        settle_time: float = 2.0,
        barrier: bool = False,
        command: int = 2,
        proxy: str | Proxy | None = None,
    ) -> Gateway:
        """
        A server of the enhanced binary protocol.

        :param host: its name or address.
        :param port: its TCP port.
        :param trust_root: PEM of the certificate authorities to trust; left out, the platform's.
        :param feedback_host: the feedback service's name or address; left out, ``host``.
        :param feedback_port: the feedback service's TCP port.
        :param settle_time: the seconds without an error packet after which a notification counts as accepted.
        :param barrier: prove acceptance by a deliberately invalid last notification instead of by waiting; each
            batch then costs a connection.
        :param command: the format of notifications. 2 carries identifier, expiration and priority; 1 has no priority;
            0 has none of them, so that the server cannot tell which notification it rejected.
        :param proxy: as for :class:`~txapns.APNSClient`; also used to reach the feedback service.
        :returns: the gateway.
        :raises InvalidGateway: a host, a port, the settle time, the command or the proxy is invalid.
        """
        return cls(
            _BINARY, host, port, trust_root, feedback_host or host, feedback_port, settle_time, barrier, command, proxy
        )

    @classmethod
    def parse(
        cls, description: str | Gateway, *, trust_root: Text | None = None, proxy: str | Proxy | None = None
    ) -> Gateway:
        """
        Read a gateway from text.

        :param description: ``"production"``, ``"sandbox"``, or a text like ``"http2:host=localhost:port=2197"`` or
            ``"binary:host=[2001:db8::5]:port=2195:barrier=true"``, with any other argument of :meth:`http2` or
            :meth:`binary`; a :class:`Gateway` is returned as it is.
        :param trust_root: PEM of the certificate authorities to trust; left out, the platform's.
        :param proxy: as for :class:`~txapns.APNSClient`.
        :returns: the gateway.
        :raises InvalidGateway: the text or the proxy is invalid.
        """
        if isinstance(description, Gateway):
            arguments: dict[str, Any] = {"trust_root": trust_root, "proxy": proxy}
            given = {name: value for name, value in arguments.items() if value is not None}
            return attrs.evolve(description, **given) if given else description
        if not isinstance(description, str):
            raise InvalidGateway(f"a gateway is text or a Gateway, not {type(description).__name__}: give {_FORMS}")
        if description in _APPLE:
            return cls.http2(_APPLE[description], trust_root=trust_root, proxy=proxy)
        protocol, fields = _fields(description)
        host = fields.pop("host")
        port = _whole(fields.pop("port", "443" if protocol == _HTTP2 else "2195"))
        options = {name: _OPTIONS[protocol][name](value) for name, value in fields.items()}
        make: Callable[..., Gateway] = cls.http2 if protocol == _HTTP2 else cls.binary
        return make(host, port, trust_root=trust_root, proxy=proxy, **options)

    def endpoint(self, reactor: IReactorTime, credential: Credential, timeout: float = 30.0) -> IStreamClientEndpoint:
        """
        Make the endpoint that connects to it: TCP to a freshly resolved address, or through the proxy, then TLS that
        verifies the host.

        :param reactor: the reactor.
        :param credential: what to authenticate with; a certificate is presented in the handshake.
        :param timeout: how long connecting to one address may take, or to the proxy with its answer, in seconds.
        :returns: the endpoint.
        :raises CredentialError: the binary protocol does not support provider tokens.
        """
        return self._endpoint(reactor, credential, timeout, self.host, self.port)

    def feedback_endpoint(
        self, reactor: IReactorTime, credential: Credential, timeout: float = 30.0
    ) -> IStreamClientEndpoint:
        """
        Make the endpoint that connects to its feedback service.

        :param reactor: the reactor.
        :param credential: the certificate to present.
        :param timeout: as for :meth:`endpoint`.
        :returns: the endpoint.
        :raises InvalidGateway: it has no feedback service: only the binary protocol has one.
        :raises CredentialError: the binary protocol does not support provider tokens.
        """
        if self.feedback_host is None or self.feedback_port is None:
            raise InvalidGateway(f"{self} has no feedback service; over HTTP/2, batch.dead_tokens has the dead tokens")
        return self._endpoint(reactor, credential, timeout, self.feedback_host, self.feedback_port)

    def management(self) -> Gateway:
        """
        Find the server that manages its broadcast channels.

        :returns: a copy of this gateway that connects to that server.
        :raises InvalidGateway: it has none.
        """
        if self.management_host is None or self.management_port is None:
            raise InvalidGateway(
                f"{self} has no known server that manages channels; give Gateway.http2 a management_port"
            )
        return attrs.evolve(
            self, host=self.management_host, port=self.management_port, management_host=None, management_port=None
        )

    def context(self, credential: Credential) -> ClientContextFactory:
        """
        Make the context factory for TLS connections to it. Errors in the program's own settings are raised here, before
        any connection.

        :param credential: what to authenticate with; a certificate is presented in the handshake.
        :returns: the context factory.
        :raises InvalidGateway: the host name is invalid.
        :raises CredentialError: ``trust_root`` cannot be read, OpenSSL does not accept the certificate, or the protocol
            does not support the credential.
        """
        return self._context(credential, self.host)

    def _context(self, credential: Credential, host: str) -> ClientContextFactory:
        certificate = credential if isinstance(credential, Certificate) else None
        if certificate is None and self.protocol == _BINARY:
            raise CredentialError("the binary protocol does not support provider tokens; give it a certificate")
        protocols = (b"h2",) if self.protocol == _HTTP2 else ()
        return ClientContextFactory(host, certificate, self.trust_root, protocols)

    def _endpoint(
        self, reactor: IReactorTime, credential: Credential, timeout: float, host: str, port: int
    ) -> IStreamClientEndpoint:
        context = self._context(credential, host)
        if self.proxy is not None and self.proxy.is_for(host, port):
            endpoint = self.proxy.endpoint(reactor, host, port, timeout)
        else:
            endpoint = host_endpoint(reactor, host, port, timeout)
        return wrapClientTLS(context, endpoint, clock=timers(reactor))

    def __str__(self) -> str:
        """Text that :meth:`parse` reads: protocol, host, port, and every option that is not the default."""
        default = (Gateway.http2 if self.protocol == _HTTP2 else Gateway.binary)(self.host, self.port)
        parts = [self.protocol, f"host={url_host(self.host)}", f"port={self.port}"]
        for name in _OPTIONS[self.protocol]:
            value = getattr(self, name)
            if value is not None and value != getattr(default, name):
                parts.append(f"{name}={url_host(value) if isinstance(value, str) else str(value).lower()}")
        return ":".join(parts)
