"""
Accept notifications while few and while many wait, for ``rows/store.py``: ``accept_peer.py TASK``.

Both stores are filled once, with random ids. In each round both accept as many, with random ids and with the daemon's
own, which are settled afterwards; printed is the CPU time of each, in µs, with that of the database's server.
"""

import json
import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent.parent))

from database_server import database_server
from store import Bench, Place
from twisted.internet.defer import Deferred
from twisted.internet.task import react

#: The one argument: see ``accepting`` in ``rows/store.py``.
TASK = SimpleNamespace(**json.loads(sys.argv[1]))


async def spent_on(place, bench):
    """Accept; returns the CPU time of each."""
    served = place.server.cpu_time() if place.server else 0.0
    before = time.process_time()
    await bench.accept()
    cpu = time.process_time() - before
    return (cpu + (place.server.cpu_time() - served if place.server else 0.0)) / TASK.count * 1e6


async def main(reactor):
    """Fill, and measure."""
    with ExitStack() as stack:
        server = stack.enter_context(database_server(Path(TASK.directory)) if TASK.postgresql else nullcontext())
        place = Place(Path(stack.enter_context(tempfile.TemporaryDirectory(dir=TASK.directory))), server, False)
        stores = {waiting: stack.enter_context(place.store(reactor)) for waiting in TASK.waiting}
        for waiting, store in stores.items():
            await store.start()
            await Bench(reactor, store, waiting, 1_000, random=True).accept()
        if server:
            server.tidy()
        for number in range(TASK.rounds):
            found = []
            for waiting in sorted(stores, reverse=number % 2 == 1):
                for random in (True, False):
                    bench = Bench(reactor, stores[waiting], TASK.count, 100, random=random)
                    found.append((waiting, random, await spent_on(place, bench)))
                    await bench.send()
            print(json.dumps(found), flush=True)
        for store in stores.values():
            await store.stop()


react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
