"""How long one notification takes on an open connection, for ``benchmarks/ways_in.py``: raw, and with a client."""

import json
import ssl
import statistics
import time
from functools import partial
from pathlib import Path

from raw_http2 import TOKEN, connect, sender
from task import TASK

from txapns import Gateway, Notification, ProviderToken, blocking

CREDENTIAL = ProviderToken.from_file(TASK.p8, TASK.key_id, TASK.team_id)
NOTIFICATION = Notification(payload={"aps": {"alert": TASK.alert}}, topic=TASK.topic)


def raw_sender():
    """Make a function that sends a notification without a client."""
    context = ssl.create_default_context(cafile=TASK.ca)
    context.set_alpn_protocols(["h2"])
    connection = context.wrap_socket(connect("127.0.0.1", TASK.port), server_hostname="localhost")
    fields = ((b"authorization", CREDENTIAL.current(time.time()).value), *NOTIFICATION.headers())
    return sender(connection, fields, NOTIFICATION.body)


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
    for send in senders.values():
        send()
    print(json.dumps({name: median(send) for name, send in senders.items()}))
