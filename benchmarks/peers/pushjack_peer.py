"""Send with pushjack, for ``benchmarks/binary.py``; see there."""

import json
import os
import sys
import time

import pushjack

#: How long it waits for an error packet after the last notification, in seconds.
QUIET = 1


class Client(pushjack.APNSClient):
    """The client, connected to our server."""

    host = "127.0.0.1"
    port = int(sys.argv[1])


state, count, expiration = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
tokens = [f"{number:064x}" for number in range(count)]
before, started = os.times(), time.perf_counter()
client = Client(f"{state}/client.pem", default_error_timeout=QUIET)
response = client.send(tokens, "x" * 100, expiration=expiration)
took, after = time.perf_counter() - started, os.times()
assert not response.errors, response.errors
cpu = after.user + after.system - before.user - before.system
print(json.dumps({"rate": count / (took - QUIET), "cpu": cpu / count * 1e6}))
