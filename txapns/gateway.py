"""
Which server, which protocol, whom to trust, and how to get there: a :class:`Gateway`.

Apple serves the provider API in two environments; the hosts of the binary protocol were switched off on 31 March
2021, and are left to whoever still runs a server that speaks it.

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
#: Where channels are managed, for each of these hosts. (The port of the sandbox is the lower one, indeed.)
_MANAGEMENT = {
    "api.push.apple.com": ("api-manage-broadcast.push.apple.com", 2196),
    "api.sandbox.push.apple.com": ("api-manage-broadcast.sandbox.push.apple.com", 2195),
    "api.development.push.apple.com": ("api-manage-broadcast.sandbox.push.apple.com", 2195),  # an older name of it
}


def _whole(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise InvalidGateway(f"a port or a command has to be a whole number, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidGateway(f"the settle time has to be a number of seconds, not {text!r}") from None


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise InvalidGateway(f"barrier has to be true or false, not {text!r}")
    return text == "true"


#: What else a text may say of a gateway of each protocol, and how it is read. (Who is trusted, and by which way it is
#: reached, is said beside it: the one is too long, and in the other there may be a password.)
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
        raise InvalidGateway(f"the settle time has to be a number of seconds, not {seconds!r}")
    return seconds


def _command(command: int) -> int:
    if command not in (0, 1, 2):
        raise InvalidGateway(f"the binary protocol has the commands 0, 1 and 2, not {command!r}")
    return command


def _fields(description: str) -> tuple[str, dict[str, str]]:
    """
    Take a text apart: the protocol, and what it says.

    A colon ends a value only if a name follows, so that an IPv6 address can stand there as it is; it may be in
    brackets, too, or have backslashes before its colons as in an endpoint of Twisted.
    """
    protocol, _, rest = description.partition(":")
    pairs = [part.partition("=")[::2] for part in re.split(r":(?=[a-z_]+=)", rest)]
    fields = {name: value.replace("\\:", ":") for name, value in pairs}
    known = {"host", "port", *_OPTIONS.get(protocol, ())}
    if protocol not in _PROTOCOLS or not fields.get("host") or not known >= fields.keys() or len(fields) < len(pairs):
        # Whatever it is: arguments in the wrong order have put a private key here.
        shown = repr(description) if len(description) < 80 and "\n" not in description else "this text"
        raise InvalidGateway(f"{shown} is not a gateway: give {_FORMS}")
    return protocol, fields


@attrs.frozen
class Gateway:
    """
    A server to send to. Make one with :meth:`http2`, :meth:`binary` or :meth:`parse`.

    :ivar protocol: ``"http2"`` or ``"binary"``.
    :ivar host: the server's name or address; its certificate has to be valid for it.
    :ivar port: the TCP port.
    :ivar trust_root: PEM text of the certificate authorities to trust; ``None`` for the platform's.
    :ivar feedback_host: the feedback service's name or address, for the binary protocol.
    :ivar feedback_port: the feedback service's TCP port.
    :ivar settle_time: after how many seconds without an error packet a notification counts as accepted, for the
        binary protocol.
    :ivar barrier: confirm batches by a deliberately invalid last notification instead.
    :ivar command: the format of notifications in the binary protocol: 0, 1 or 2.
    :ivar proxy: the proxy to go through; ``None`` for none.
    :ivar management_host: the name or address of the server that manages broadcast channels, for the provider API;
        ``None`` where there is none.
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
            another host it is ``host``, if ``management_port`` is given, and else there is none.
        :param management_port: the TCP port of that server; left out, Apple's, and 2196 for another host.
        :returns: the gateway.
        :raises InvalidGateway: a host or a port is not one, or the proxy is not understood.
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
        :param settle_time: after how many seconds without an error packet a notification counts as accepted.
        :param barrier: prove acceptance by a deliberately invalid last notification instead of by waiting; each
            batch then costs a connection.
        :param command: the format of notifications. 2 carries identifier, expiration and priority; 1 no priority; 0
            neither of them, so that the server cannot tell which notification it refused.
        :param proxy: as for :class:`~txapns.APNSClient`; the feedback service is reached through it, too.
        :returns: the gateway.
        :raises InvalidGateway: a host, a port, the settle time or the command is not one, or the proxy is not
            understood.
        """
        return cls(
            _BINARY,
            host,
            port,
            trust_root,
            feedback_host or host,
            feedback_port,
            settle_time,
            barrier,
            command,
            proxy,
        )

    @classmethod
    def parse(
        cls,
        description: str | Gateway,
        *,
        trust_root: Text | None = None,
        proxy: str | Proxy | None = None,
    ) -> Gateway:
        """
        Read a gateway from text.

        :param description: ``"production"``, ``"sandbox"``, or a text like ``"http2:host=localhost:port=2197"`` or
            ``"binary:host=[2001:db8::5]:port=2195:barrier=true"``, which may have the arguments of :meth:`http2` and
            :meth:`binary` besides; a :class:`Gateway` is returned as it is.
        :param trust_root: PEM of the certificate authorities to trust; left out, the platform's.
        :param proxy: as for :class:`~txapns.APNSClient`.
        :returns: the gateway.
        :raises InvalidGateway: the text, or the proxy, is not understood.
        """
        if isinstance(description, Gateway):
            arguments: dict[str, Any] = {"trust_root": trust_root, "proxy": proxy}
            given = {name: value for name, value in arguments.items() if value is not None}
            return attrs.evolve(description, **given) if given else description
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
        Make the endpoint that connects to it: TCP to a freshly resolved address, or through the proxy, then TLS with
        the host verified.

        :param reactor: the reactor.
        :param credential: what to authenticate with; a certificate is presented in the handshake.
        :param timeout: how long connecting to one address may take, or to the proxy with its answer, in seconds.
        :returns: the endpoint.
        :raises CredentialError: the binary protocol knows no provider tokens.
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
        :raises CredentialError: the binary protocol knows no provider tokens.
        """
        if self.feedback_host is None or self.feedback_port is None:
            raise InvalidGateway(
                f"{self} has no feedback service; over HTTP/2, batch.dead_tokens tells whose device is gone"
            )
        return self._endpoint(reactor, credential, timeout, self.feedback_host, self.feedback_port)

    def management(self) -> Gateway:
        """
        Find the server that manages its broadcast channels.

        :returns: that server, as a gateway of its own, which is the same in all other respects.
        :raises InvalidGateway: it has none.
        """
        if self.management_host is None or self.management_port is None:
            raise InvalidGateway(
                f"{self} has no server to manage channels; Apple's have, and Gateway.http2 takes a management_port"
            )
        return attrs.evolve(
            self, host=self.management_host, port=self.management_port, management_host=None, management_port=None
        )

    def context(self, credential: Credential) -> ClientContextFactory:
        """
        Make what TLS connections to it are made with. Whatever keeps a program from connecting, and is not the
        network's or the server's fault, shows here.

        :param credential: what to authenticate with; a certificate is presented in the handshake.
        :returns: the context factory.
        :raises InvalidGateway: the host name is none.
        :raises CredentialError: ``trust_root`` cannot be read, OpenSSL does not take the certificate, or the protocol
            has no use for the credential.
        """
        return self._context(credential, self.host)

    def _context(self, credential: Credential, host: str) -> ClientContextFactory:
        certificate = credential if isinstance(credential, Certificate) else None
        if certificate is None and self.protocol == _BINARY:
            raise CredentialError("the binary protocol authenticates by certificate; a provider token is of no use")
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
        """What :meth:`parse` makes it of again: protocol, host, port, and what is not as usual."""
        usual = (Gateway.http2 if self.protocol == _HTTP2 else Gateway.binary)(self.host, self.port)
        said = [self.protocol, f"host={url_host(self.host)}", f"port={self.port}"]
        for name in _OPTIONS[self.protocol]:
            value = getattr(self, name)
            if value is not None and value != getattr(usual, name):
                said.append(f"{name}={url_host(value) if isinstance(value, str) else str(value).lower()}")
        return ":".join(said)
