"""
Call a daemon for ``benchmarks/daemon.py``, with as little CPU time as possible.

One request is prepared and sent again and again over persistent connections, each of which waits for its response. With
several addresses, of the nodes of a cluster, the connections take turns. With
a rate, each request has its time, from which its latency counts: if the daemon is slow, later requests are late, and
that counts as the daemon's latency as well.
"""

import json
import select
import socket
import sys
import time
from collections import deque
from types import SimpleNamespace

#: The one argument: see ``Daemon.call`` in ``benchmarks/daemon.py``.
TASK = SimpleNamespace(**json.loads(sys.argv[1]))


def request():
    """Write the request, as a common client would."""
    notification = {
        "tokens": [f"00{number:062x}" for number in range(TASK.tokens)],
        "headers": {"apns-push-type": "alert", "apns-priority": "10"},
        "payload": {"aps": {"alert": TASK.alert}},
    }
    body = json.dumps({"notifications": [notification]}).encode()
    lines = [
        f"POST /v1/apps/{TASK.app}/notifications HTTP/1.1",
        f"Host: {TASK.addresses[0]}",
        "User-Agent: benchmark/1.0",
        "Accept: */*",
        f"Authorization: Bearer {TASK.key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Connection:
    """A connection, and what was received of a response."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self.received = b""

    def answered(self):
        """Read; returns whether the response is complete."""
        piece = self.socket.recv(65_536)
        if not piece:
            raise SystemExit("the daemon closed a connection")
        self.received += piece
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.partition(b"\r\nContent-Length: ")[2].partition(b"\r\n")[0]):
            return False
        if not head.startswith(b"HTTP/1.1 202 "):
            raise SystemExit(f"the daemon responded {self.received[:300]!r}")
        self.received = b""
        return True


class Caller:
    """All connections."""

    def __init__(self):
        self.request = request()
        self.poll = select.epoll()
        self.connections = {}
        for number in range(TASK.connections):
            connection = Connection(TASK.addresses[number % len(TASK.addresses)])
            self.connections[connection.socket.fileno()] = connection
            self.poll.register(connection.socket, select.EPOLLIN)
        self.free = deque(self.connections.values())
        self.asked = 0
        self.took = []

    def run(self):
        """Send all requests; returns after the last response."""
        self.started = time.perf_counter()
        while len(self.took) < TASK.requests:
            timeout = self.ask()
            for descriptor, _ in self.poll.poll(timeout):
                connection = self.connections[descriptor]
                if connection.answered():
                    self.took.append(time.perf_counter() - connection.due)
                    self.free.append(connection)

    def ask(self):
        """Send the requests that are due; returns the seconds until the next, or -1 to wait for a response."""
        while self.free and self.asked < TASK.requests:
            now = time.perf_counter()
            due = self.started + self.asked / TASK.rate if TASK.rate else now
            if due > now:
                return due - now
            connection = self.free.popleft()
            connection.due = due
            connection.socket.sendall(self.request)
            self.asked += 1
        return -1


caller = Caller()
caller.run()
seconds = time.perf_counter() - caller.started
took = sorted(caller.took)
print(
    json.dumps(
        {
            "rate": len(took) / seconds,
            "p50": took[len(took) // 2] * 1e3,
            "p99": took[len(took) * 99 // 100] * 1e3,
            "cpu": time.process_time() / len(took) * 1e6,
        }
    )
)
