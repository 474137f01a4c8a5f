"""How long one notification takes on an open connection, for ``benchmarks/ways_in.py``: raw, and with a client."""

import json
import socket
import ssl
import statistics
import time
from functools import partial
from pathlib import Path

from task import TASK

from txapns import Gateway, Notification, ProviderToken, blocking
from txapns.wire.requests import RequestSender

TOKEN = "00" * 32
CREDENTIAL = ProviderToken.from_file(TASK.p8, TASK.key_id, TASK.team_id)
NOTIFICATION = Notification(payload={"aps": {"alert": TASK.alert}}, topic=TASK.topic)


def raw_sender():
    """Make a function that writes a request to a socket and reads the response: what any client must do at least."""
    context = ssl.create_default_context(cafile=TASK.ca)
    context.set_alpn_protocols(["h2"])
    connection = context.wrap_socket(socket.create_connection(("127.0.0.1", TASK.port)), server_hostname="localhost")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    requests = RequestSender(b"localhost")
    fields = ((b"authorization", CREDENTIAL.current(time.time()).value), *NOTIFICATION.headers())
    head = requests.head(b"POST")

    def exchange(settled):
        connection.sendall(requests.data_to_send())
        while not settled():
            requests.receive(connection.recv(65536))
            if data := requests.data_to_send():
                connection.sendall(data)

    def send():
        requests.send(TOKEN, head, f"/3/device/{TOKEN}".encode(), fields, NOTIFICATION.body)
        exchange(lambda: not len(requests))

    exchange(lambda: requests.room()[0] > 0)
    return send


def median(send):
    """Return the median time of one, in ms; each comes to an idle connection."""
    took = []
    for _ in range(TASK.count):
        time.sleep(0.001)
        started = time.perf_counter()
        send()
        took.append(time.perf_counter() - started)
    return statistics.median(took) * 1e3


gateway = Gateway.http2("localhost", TASK.port, trust_root=Path(TASK.ca).read_bytes())
with blocking.APNSClient(CREDENTIAL, gateway, topic=TASK.topic) as client:
    senders = {"raw": raw_sender(), "blocking": partial(client.send_one, NOTIFICATION, TOKEN)}
    for sender in senders.values():
        sender()
    print(json.dumps({name: median(sender) for name, sender in senders.items()}))
