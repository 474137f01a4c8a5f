"""
Time requests that come alone, for ``rows/daemon.py``: to the native API, through the relay, and to Apple's server.

The three take turns, and each request comes to a daemon that has had nothing to do for a while. The callers are
blocking sockets, so that next to nothing of the time is theirs.
"""

import json
import ssl
import statistics
import sys
import time
from types import SimpleNamespace

from raw_http2 import TOKEN, connect, sender

#: The one argument: see ``lone`` in ``rows/daemon.py``.
TASK = SimpleNamespace(**json.loads(sys.argv[1]))
#: How long nothing is asked before each request, in seconds.
PAUSE = 0.015
BODY = json.dumps({"aps": {"alert": TASK.alert}}).encode()


def opened(address):
    """Open a connection to a listener of the daemon."""
    host, _, port = address.rpartition(":")
    return connect(host, int(port))


def native():
    """Make a function that makes a request of the native API."""
    connection = opened(TASK.native)
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
    fields = (
        (b"authorization", f"bearer {bearer}".encode()),
        (b"apns-topic", TASK.topic.encode()),
        (b"apns-push-type", b"alert"),
    )
    return sender(connection, fields, BODY)


context = ssl.create_default_context(cafile=TASK.ca)
context.set_alpn_protocols(["h2"])
apple = context.wrap_socket(connect("127.0.0.1", TASK.port), server_hostname="localhost")
asking = {"native": native(), "relay": http2(opened(TASK.relay), TASK.key), "apple": http2(apple, TASK.bearer)}
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
