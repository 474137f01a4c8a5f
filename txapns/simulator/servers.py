"""The four servers together, with what they share: the inbox, the authority, and their settings."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory

from txapns._network.clocks import wall_clock
from txapns.simulator import binary, channels, feedback, http2
from txapns.simulator.authority import Authority
from txapns.simulator.inbox import Inbox
from txapns.simulator.phones import Phones
from txapns.simulator.requests import Fault
from txapns.simulator.tokens import TokenUpdates

__all__ = ["Simulator"]


class Simulator:
    """
    APNs without Apple.

    :param clock: the reactor, or a ``Clock``.
    :param authority: makes the certificates and keys; left out, a new one.
    :param topic: the app's bundle ID.
    :param dead: the tokens whose devices are gone: 410 Unregistered, or status 8, and listed by the feedback service.
    :param delay: how long a response takes, in seconds.
    :param concurrency: MAX_CONCURRENT_STREAMS once the credentials are accepted.
    :param names: further host names and IP addresses for which the servers' certificates are valid, besides localhost.
    :param keep: how many notifications to keep in ``inbox.received``, the latest ones; left out, all. They are counted
        in any case.

    :ivar names: the further names of the servers.
    :ivar ports: at which ports the servers listen, by protocol, with ``"web"`` for the control API.
    :ivar inbox: the record of what was received, and the devices.
    :ivar phones: what becomes on the devices of what was received.
    :ivar channels: the broadcast channels; their ``enabled`` and ``limit`` can be changed to have requests rejected.
    :ivar http2_fault: what the server of the provider API does wrong on new connections.
    :ivar channels_fault: what the server that manages channels does wrong on new connections.
    :ivar binary_fault: what the binary server does wrong on new connections.
    :ivar feedback_fault: what the feedback service does wrong on new connections.
    :ivar strict_legacy_payload: whether the binary server accepts at most 256 bytes of payload in commands 0 and 1.
    :ivar window_updates: whether the HTTP/2 server gives received bytes back to the provider's window at once.
    :ivar environment: ``"production"`` or ``"sandbox"``: which certificates, signing keys and device tokens are valid.
    :ivar sessions: the servers' protocol objects, in the order of their connections; kept if all notifications are.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        authority: Authority | None = None,
        topic: str = "com.example.app",
        dead: Iterable[bytes] = (),
        delay: float = 0.0,
        concurrency: int = 1_000,
        names: Sequence[str] = (),
        keep: int | None = None,
    ) -> None:
        self.authority = authority or Authority()
        self.topic = topic
        self.names = tuple(names)
        self.ports: Mapping[str, int] = {}
        self.delay = delay
        self.concurrency = concurrency
        self.inbox = Inbox(wall_clock(clock), dead, topic, keep=keep)
        self.phones = Phones(self.inbox, wall_clock(clock))
        self.channels = channels.ChannelRegistry()
        self._updates = TokenUpdates()
        self.http2_fault: Fault | None = None
        self.channels_fault: Fault | None = None
        self.binary_fault: binary.Fault | None = None
        self.feedback_fault: feedback.Fault | None = None
        self.strict_legacy_payload = False
        self.window_updates = True
        self.environment = "production"
        self.sessions: list[Protocol] = []
        self._clock = clock
        self._keep = keep

    def counters(self) -> dict[str, int | dict[str, int]]:
        """Return the counters ``received``, ``accepted``, ``rejected`` (by reason) and ``connections``."""
        return self.inbox.counters()

    def tls_factory(self, protocol: str, *, tls12: bool = False, tickets: bool = True) -> TLSMemoryBIOFactory:
        """
        Make a server.

        :param protocol: ``"http2"``, ``"binary"``, ``"feedback"`` or ``"channels"``.
        :param tls12: whether to speak nothing newer than TLS 1.2.
        :param tickets: whether to issue session tickets; without them, nothing newer than TLS 1.2 is spoken.
        :returns: a factory for an endpoint's ``listen``, with TLS.
        """
        builders: dict[str, Callable[[], Protocol]] = {
            "http2": lambda: self._request_server(http2.ProviderAPIServer, self.http2_fault),
            "binary": self._binary,
            "feedback": lambda: feedback.FeedbackServer(self._clock, self.inbox, fault=self.feedback_fault),
            "channels": lambda: self._request_server(channels.ChannelServer, self.channels_fault),
        }
        speaks_http2 = protocol in ("http2", "channels")
        options = self.authority.server_options(
            (b"h2",) if speaks_http2 else (),
            tls12=tls12,
            tickets=tickets,
            require_certificate=not speaks_http2,
            certificate=self._server_certificate(),
        )
        server = _Server(builders[protocol], self.sessions if self._keep is None else None)
        return TLSMemoryBIOFactory(options, False, server, self._clock)

    def _server_certificate(self) -> bytes:
        names, addresses = ["localhost"], ["127.0.0.1", "::1"]
        for name in self.names:
            (addresses if _is_address(name) else names).append(name)
        return self.authority.server_certificate(names, addresses)

    def _request_server(
        self, make: type[http2.ProviderAPIServer] | type[channels.ChannelServer], fault: Fault | None
    ) -> Protocol:
        return make(
            self._clock,
            self.authority,
            self.inbox,
            self.topic,
            channels=self.channels,
            concurrency=self.concurrency,
            delay=self.delay,
            fault=fault,
            window_updates=self.window_updates,
            updates=self._updates,
            environment=self.environment,
        )

    def _binary(self) -> Protocol:
        return binary.EnhancedNotificationServer(
            self._clock,
            self.inbox,
            delay=self.delay,
            fault=self.binary_fault,
            strict_legacy_payload=self.strict_legacy_payload,
            environment=self.environment,
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _Server(Factory):
    """Builds the protocols of one server, and keeps them if asked to."""

    noisy = False

    def __init__(self, build: Callable[[], Protocol], sessions: list[Protocol] | None) -> None:
        self._build = build
        self._sessions = sessions

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        protocol = self._build()
        if self._sessions is not None:
            self._sessions.append(protocol)
        return protocol
