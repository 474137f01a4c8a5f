"""Faces whose apps have channels: a daemon in memory, and the simulator's servers for broadcasts and channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.daemon.faces_world import HOST, FacesWorld
from txapns.daemon.sending.channels import AppChannels
from txapns.gateway import Gateway
from txapns.simulator import Simulator

__all__ = ["APP", "UNKNOWN", "UPDATE", "ChannelsWorld"]

#: The bundle id of the app ``chess``.
APP = "com.example.chess"
#: A channel that does not exist.
UNKNOWN = "dW5rbm93bg=="
UPDATE = b'{"aps":{"event":"update","timestamp":1700000000,"content-state":{"home":1}}}'

_HTTP2, _MANAGEMENT = 2197, 2198


class ChannelsWorld(FacesWorld):
    """
    The same, with the apps ``chess``, which is a certificate's, and ``news``, which is a signing key's, at the
    simulator; and with ``old``, whose gateway speaks the binary protocol.

    :ivar simulator: the simulator.
    :ivar channels: the channels of the apps.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.simulator = Simulator(self.reactor, authority=self.authority, topic=APP)
        self.reactor.servers[_HTTP2] = self.simulator.tls_factory("http2")
        self.reactor.servers[_MANAGEMENT] = self.simulator.tls_factory("channels")
        self.channels = AppChannels(self.reactor, self.apps, timeout=10.0)
        self.move("chess", self.gateway())
        self.move("news", self.gateway(), topic="com.example.news")
        self.add("old", self.certificate, gateway=Gateway.binary(HOST), topic=APP + ".old")

    def gateway(self, **options: Any) -> Gateway:
        """Describe the simulator."""
        options.setdefault("management_port", _MANAGEMENT)
        return Gateway.http2(HOST, _HTTP2, trust_root=self.authority.ca_pem, **options)

    def move(self, name: str, gateway: Gateway, **more: Any) -> None:
        """Give an app another gateway."""
        self.add(name, self.apps.get(name).credential, gateway=gateway, **more)

    def stop(self) -> None:
        """Close everything."""
        self.result(self.channels.stop())
        super().stop()
