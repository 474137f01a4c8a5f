"""A simulator in another process, and blocking clients of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.command.processes import DEAD, SharingSimulator
from tests.ports import reserve
from txapns import Certificate, Gateway, Notification, ProviderToken
from txapns.blocking import APNSClient

__all__ = ["DEAD", "HELLO", "BlockingCase", "descriptors", "threads", "tokens"]

HELLO = Notification(alert="Hello")


def tokens(count: int) -> Iterator[str]:
    """Generate device tokens, all different."""
    return (f"{number:064x}" for number in range(count))


def threads() -> list[str]:
    """Tell the names of the threads other than the one that calls."""
    return [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]


def descriptors() -> int:
    """Tell how many descriptors are open."""
    place = Path("/proc/self/fd")
    return len(list(place.iterdir())) if place.is_dir() else 0


class BlockingCase(SharingSimulator):
    """Tests that have a simulator in another process together."""

    def setUp(self) -> None:
        """Connect to it."""
        super().setUp()
        self._port = self.simulator.ready["http2"]
        self._before = self.simulator.last()

    def silence(self) -> None:
        """Connect to where nothing listens."""
        [self._port] = reserve()

    @property
    def gateway(self) -> Gateway:
        """The simulator's server."""
        trust_root = (self.simulator.state / "ca.pem").read_bytes()
        return Gateway.http2("localhost", self._port, trust_root=trust_root)

    @property
    def certificate(self) -> Certificate:
        """A client certificate."""
        return Certificate.from_file(self.simulator.state / "client.pem")

    @property
    def provider_token(self) -> ProviderToken:
        """A provider token."""
        ready = self.simulator.ready
        return ProviderToken.from_file(self.simulator.state / "AuthKey.p8", ready["key_id"], ready["team_id"])

    def client(self, **options: Any) -> APNSClient:
        """Make a client; it is closed in the end."""
        client = APNSClient(self.certificate, self.gateway, **options)
        self.addCleanup(client.close)
        return client

    def received(self) -> int:
        """Tell how many notifications the simulator has received in this test."""
        return self.simulator.last() - self._before

    def connections(self) -> int:
        """Tell over how many connections they came."""
        entries = [each for each in self.simulator.control.received() if each["id"] > self._before]
        return len({each["connection"] for each in entries})
