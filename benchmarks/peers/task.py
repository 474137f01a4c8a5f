"""The task that ``benchmarks/http2.py`` gives to a sender written in Python, and how the sender reports."""

import asyncio
import json
import sys
import time
from types import SimpleNamespace

#: The one argument: see ``Server.task`` in ``benchmarks/http2.py``.
TASK = SimpleNamespace(**json.loads(sys.argv[1]))


def tokens(count):
    """Generate tokens; for the server those that begin with ``dd`` are dead."""
    for number in range(count):
        dead = TASK.dead_every and number % TASK.dead_every == 0
        yield f"{'dd' if dead else '00'}{number:062x}"


async def measure(send):
    """Measure ``send(count)``, which returns how many were accepted, and print the results."""
    if TASK.warm_up:
        await send(TASK.warm_up)
    before, started = time.process_time(), time.perf_counter()
    accepted = await send(TASK.count)
    ended, cpu = time.perf_counter(), time.process_time() - before
    found = {"rate": TASK.count / (ended - started), "cpu": cpu / TASK.count * 1e6, "accepted": accepted}
    print(json.dumps(found | {"started": started, "ended": ended}))


async def send_each(send_one, count, workers):
    """Send with several workers by ``send_one(token)``, which returns whether the notification was accepted."""
    left, accepted = tokens(count), 0

    async def work():
        nonlocal accepted
        for token in left:
            if await send_one(token):
                accepted += 1

    await asyncio.gather(*(work() for _ in range(workers)))
    return accepted
