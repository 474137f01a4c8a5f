"""What a sender written in Python is asked by ``benchmarks/http2.py``, and how it tells what it took."""

import asyncio
import json
import os
import sys
import time
from types import SimpleNamespace

#: The one argument: see ``Server.task`` in ``benchmarks/http2.py``.
TASK = SimpleNamespace(**json.loads(sys.argv[1]))


def tokens(count):
    """Generate so many tokens; the server takes those that begin with ``dd`` for dead."""
    for number in range(count):
        dead = TASK.dead_every and number % TASK.dead_every == 0
        yield f"{'dd' if dead else '00'}{number:062x}"


async def measure(send):
    """Have so many sent by ``send(count)``, which returns how many were accepted; print what it took."""
    if TASK.warm_up:
        await send(TASK.warm_up)
    before, started = os.times(), time.perf_counter()
    accepted = await send(TASK.count)
    took, after = time.perf_counter() - started, os.times()
    cpu = after.user + after.system - before.user - before.system
    print(json.dumps({"rate": TASK.count / took, "cpu": cpu / TASK.count * 1e6, "accepted": accepted}))


async def send_each(send_one, count, workers):
    """For clients that send one at a time: so many at once by ``send_one(token)``, which tells if it was accepted."""
    left, accepted = tokens(count), 0

    async def work():
        nonlocal accepted
        for token in left:
            if await send_one(token):
                accepted += 1

    await asyncio.gather(*(work() for _ in range(workers)))
    return accepted
