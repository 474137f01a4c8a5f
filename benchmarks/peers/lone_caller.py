"""
Time requests that come alone, for ``rows/daemon.py``: to the native API, through the relay, and to Apple's server.

The three take turns, and each request comes to a daemon that has had nothing to do for a while. The callers are
blocking sockets, so that next to nothing of the time is theirs.
"""

import json
import socket
import ssl
import statistics
import sys
import time
from types import SimpleNamespace

from txapns.wire.requests import RequestSender

#: The one argument: see ``lone`` in ``rows/daemon.py``.
TASK = SimpleNamespace(**json.loads(sys.argv[1]))
#: How long nothing is asked before each request, in seconds.
PAUSE = 0.015
TOKEN = "00" * 32
BODY = json.dumps({"aps": {"alert": TASK.alert}}).encode()


def connect(address):
    """Open a connection."""
    host, _, port = address.rpartition(":")
    found = socket.create_connection((host, int(port)))
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def native():
    """Make a function that makes a request of the native API."""
    connection = connect(TASK.native)
    notification = {"tokens": [TOKEN], "payload": {"aps": {"alert": TASK.alert}}}
    body = json.dumps({"notifications": [notification]}).encode()
    lines = [
        "POST /v1/apps/chess/notifications HTTP/1.1",
        f"Host: {TASK.native}",
        f"Authorization: Bearer {TASK.key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def ask():
        connection.sendall(request)
        answer = connection.recv(65536)
        if not answer.startswith(b"HTTP/1.1 202 "):
            raise SystemExit(f"the daemon responded {answer[:300]!r}")

    return ask


def http2(connection, bearer):
    """Make a function that makes a request as Apple's clients do."""
    requests = RequestSender(b"localhost")
    fields = (
        (b"authorization", f"bearer {bearer}".encode()),
        (b"apns-topic", TASK.topic.encode()),
        (b"apns-push-type", b"alert"),
    )
    head = requests.head(b"POST")

    def exchange(settled):
        connection.sendall(requests.data_to_send())
        while not settled():
            requests.receive(connection.recv(65536))
            if data := requests.data_to_send():
                connection.sendall(data)

    def ask():
        requests.send(TOKEN, head, f"/3/device/{TOKEN}".encode(), fields, BODY)
        exchange(lambda: not len(requests))

    exchange(lambda: requests.room()[0] > 0)
    return ask


context = ssl.create_default_context(cafile=TASK.ca)
context.set_alpn_protocols(["h2"])
apple = context.wrap_socket(connect(f"127.0.0.1:{TASK.port}"), server_hostname="localhost")
asking = {"native": native(), "relay": http2(connect(TASK.relay), TASK.key), "apple": http2(apple, TASK.bearer)}
took = {name: [] for name in asking}
for number in range(TASK.warm_up + TASK.count):
    for name, ask in asking.items():
        time.sleep(PAUSE)
        started = time.perf_counter()
        ask()
        if number >= TASK.warm_up:
            took[name].append((time.perf_counter() - started) * 1e3)
print(
    json.dumps({name: {"p50": statistics.median(each), "mean": statistics.mean(each)} for name, each in took.items()})
)
