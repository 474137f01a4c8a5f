"""
What the simulator's inbox costs while nobody looks at it, and while a page is open.

    python benchmarks/inbox.py [--batches 300]

Three servers of the provider API run in one process, without sockets and TLS: one only counts what comes, one keeps the
latest as ``txapns simulate`` does, and of one each push is judged and described at once, as for a page that is open.
They take turns, each with a batch of 100 requests, so that whatever else the machine does meets all alike. CPU time is
measured while a server takes in the requests and answers them; medians are printed, and those of the ratio between
batches of the same turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from twisted.internet import reactor
from twisted.internet.testing import StringTransport

from txapns import ProviderToken
from txapns._network.clocks import SystemWallClock
from txapns.simulator import Authority, Inbox, ProviderAPIServer
from txapns.simulator.inbox import KEPT
from txapns.simulator.phones import Phones
from txapns.simulator.web.entries import listing
from txapns.wire.requests import RequestSender

TOPIC, BATCH = "com.example.app", 100
PAYLOAD = b'{"aps":{"alert":{"title":"Dinner","body":"It is ready."},"sound":"default","thread-id":"dinner"}}'
#: As many as are kept twice over, so that every server has all that it ever keeps.
WARM_UP = 2 * KEPT // BATCH


class Counting(Inbox):
    """An inbox that keeps nothing and dates nothing."""

    def note(self, *arguments: Any, **options: Any) -> None:
        """Count."""
        self.accepted += 1


class Transport(StringTransport):
    """A transport that looks like TLS to a server."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing."""

    def getPeerCertificate(self) -> None:
        """Have none."""

    def getHandle(self) -> SimpleNamespace:
        """Return what tells the version of TLS."""
        return SimpleNamespace(get_protocol_version_name=lambda: "TLSv1.3")


class Pair:
    """A provider and a server, joined in memory."""

    def __init__(self, authority: Authority, inbox: Inbox, look: Callable[[], object] = lambda: None) -> None:
        token = ProviderToken.from_p8(authority.p8, authority.key_id, authority.team_id)
        self.inbox, self.look, self.sent = inbox, look, 0
        self.sender: RequestSender[int] = RequestSender(b"localhost", single=True)
        self.fields = (
            (b"authorization", b"bearer " + token.sign(int(time.time())).encode()),
            (b"apns-topic", TOPIC.encode()),
            (b"apns-push-type", b"alert"),
            (b"apns-priority", b"10"),
        )
        self.server = ProviderAPIServer(reactor, authority, inbox, TOPIC)
        self.transport = Transport()
        self.server.makeConnection(self.transport)
        self.server.handshakeCompleted()
        self.exchange()
        self.send(1)  # the server allows more streams once it has seen the provider token

    def send(self, count: int) -> float:
        """Send some; returns the CPU time of the server for each, in µs."""
        head = self.sender.head(b"POST")
        for _ in range(count):
            self.sender.send(self.sent, head, b"/3/device/%064x" % self.sent, self.fields, PAYLOAD)
            self.sent += 1
        used = self.exchange()
        assert not len(self.sender)
        return used / count * 1e6

    def exchange(self) -> float:
        """Move bytes until there are none; returns the CPU time of the server in seconds."""
        used = 0.0
        while True:
            data = self.sender.data_to_send()
            begin = time.process_time()
            self.server.dataReceived(data)
            self.look()
            used += time.process_time() - begin
            if not data and not self.transport.value():
                return used
            self.sender.receive(self.transport.value())
            self.transport.clear()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--batches", type=int, default=300, help="how many batches of 100 each server gets")
    options = parser.parse_args()
    authority, clock = Authority(), SystemWallClock()
    open_page = Inbox(clock, topic=TOPIC, keep=KEPT)
    phones, seen = Phones(open_page, clock), [0]

    def look() -> None:
        phones.judge()
        listing(open_page.after(seen[0]))
        seen[0] = open_page.last_id

    pairs = {
        "counts": Pair(authority, Counting(clock, topic=TOPIC, keep=0)),
        "keeps": Pair(authority, Inbox(clock, topic=TOPIC, keep=KEPT)),
        "page open": Pair(authority, open_page, look),
    }
    costs: dict[str, list[float]] = {name: [] for name in pairs}
    for number in range(WARM_UP + options.batches):
        for name in list(pairs)[:: 1 if number % 2 else -1]:
            cost = pairs[name].send(BATCH)
            if number >= WARM_UP:
                costs[name].append(cost)
    assert all(pair.inbox.accepted == pair.sent for pair in pairs.values())
    for name, each in costs.items():
        ratio = statistics.median(cost / base for cost, base in zip(each, costs["counts"], strict=True))
        print(f"{name:10} {statistics.median(each):6.1f} µs a push, {100 * (ratio - 1):+6.1f} %")


if __name__ == "__main__":
    main()
