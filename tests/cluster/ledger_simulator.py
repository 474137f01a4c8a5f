"""
A simulator as a program that writes down what it receives, from whom, and when.

::

    python -m tests.cluster.ledger_simulator STATE DELAY STREAMS ADDRESS COUNT HOST...

It listens at COUNT ports of ADDRESS, one for each node, and answers after DELAY seconds, STREAMS at a time. When it
listens, it prints the ports. STATE gets the credentials, with certificates for servers at each HOST, and the ledger: a
line for each notification that arrives, whether it will be answered or not, and another if it is rejected. The line has
the date on the system's monotonic clock, the number of the port, the token, the id, and the reason of a rejection,
separated by tabs. For a broadcast, the channel takes the place of the token; every channel exists.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from twisted.internet import reactor
from twisted.internet.task import LoopingCall

from txapns._network.clocks import wall_clock
from txapns.daemon.values import CHANNEL
from txapns.simulator import Authority, Inbox, ProviderAPIServer, Simulator
from txapns.simulator.channels import ChannelRegistry
from txapns.simulator.requests import fields_of

__all__: list[str] = []

#: How often the ledger is written, in seconds.
_INTERVAL = 0.02


class _Ledger(Inbox):
    """
    The inbox behind one port.

    :param file: where it writes.
    :param number: the number of the port.
    """

    def __init__(self, file: TextIO, number: int) -> None:
        super().__init__(wall_clock(reactor), keep=0)
        self._file = file
        self._number = number

    def arrived(self, token: str, headers: Mapping[str, str], reason: str = "") -> None:
        """Write down a notification."""
        apns_id, token = headers.get("apns-request-id", headers.get("apns-id", "")), headers.get(CHANNEL, token)
        fields = f"{time.monotonic():.6f}", str(self._number), token, apns_id, reason
        self._file.write("\t".join(fields) + "\n")

    def note(
        self,
        protocol: str,
        token: bytes,
        payload: bytes,
        headers: Mapping[str, str],
        reason: str | None,
        *connection: Any,
    ) -> None:
        """Write down a rejection."""
        if reason is not None:
            self.arrived(token.hex(), headers, reason)


class _Server(ProviderAPIServer):
    """A connection that tells the ledger what arrives before it answers."""

    def _later(self, delay: float, function: Any, *arguments: Any) -> None:
        [requests] = arguments
        for request in requests:
            headers = fields_of(request)
            self._inbox.arrived(headers[":path"].rpartition("/")[2], headers)
        super()._later(delay, function, requests)


class _Channels(ChannelRegistry):
    """Every channel."""

    def policy(self, app: str, channel_id: str) -> int:
        """See :class:`ChannelRegistry`."""
        return 0


class _Simulator(Simulator):
    """A simulator of such connections."""

    def _request_server(self, make: Any, fault: Any) -> Any:
        return super()._request_server(_Server, fault)


def _main(state: str, delay: str, streams: str, address: str, count: str, *hosts: str) -> None:
    directory = Path(state)
    authority = Authority()
    contents = {
        "ca.pem": authority.ca_pem,
        "AuthKey.p8": authority.p8,
        "client.pem": authority.client_pem(),
        "server.pem": authority.server_certificate(addresses=hosts),
    }
    for name, content in contents.items():
        (directory / name).touch(mode=0o600)
        (directory / name).write_bytes(content)
    ledger = (directory / "ledger").open("a")
    ports = []
    for number in range(int(count)):
        options: dict[str, Any] = {"delay": float(delay), "concurrency": int(streams), "keep": 0, "names": hosts}
        simulator = _Simulator(reactor, authority=authority, **options)
        simulator.inbox = _Ledger(ledger, number)
        simulator.channels = _Channels()
        port = reactor.listenTCP(0, simulator.tls_factory("http2"), interface=address)
        ports.append(port.getHost().port)
    LoopingCall(ledger.flush).start(_INTERVAL)
    sys.stdout.write(json.dumps({"ports": ports, "key_id": authority.key_id, "team_id": authority.team_id}) + "\n")
    sys.stdout.flush()
    reactor.run()
    ledger.close()


if __name__ == "__main__":
    _main(*sys.argv[1:])
