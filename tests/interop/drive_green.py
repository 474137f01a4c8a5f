"""Blocking clients in a program that gevent or eventlet patched; prints a line of JSON for each job."""

from __future__ import annotations

import sys
import warnings

NAME, STATE = sys.argv[1:]
if NAME.startswith("late-"):
    import twisted.internet.pollreactor
    import twisted.internet.reactor
    import twisted.internet.selectreactor  # noqa: F401
if NAME.endswith("gevent"):
    from gevent import monkey, sleep, spawn

    monkey.patch_all()
else:
    warnings.simplefilter("ignore")
    import eventlet
    from eventlet import sleep, spawn

    eventlet.monkey_patch()

import json  # noqa: E402

from tests.blocking_job import client_of, descriptors, done, exercise, leave  # noqa: E402
from txapns.errors import LocalError  # noqa: E402

ticks = 0


def tick() -> None:
    """Count, as long as others let us."""
    global ticks
    while True:
        ticks += 1
        sleep(0.001)


spawn(tick)
client = client_of(STATE)
try:
    client.status()
except LocalError as error:
    print(error)
    sys.exit(3)
before = descriptors()
client.close()
client = client_of(STATE)
jobs = [spawn(exercise, client) for _ in range(8)]
for each in jobs:
    print(json.dumps(each.get() if NAME == "gevent" else each.wait()))
assert ticks > 10, ticks
done(client, before)
leave(STATE)
