"""
Print the memory of idle clients that trust the platform's authorities, in KB each, for ``rows/starts.py``.

Each has a certificate of its own, and has tried once to connect: to a port where nothing listens, so that what is
measured is what a client keeps, and no connection.
"""

import gc
import re
import socket
import sys
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from txapns import APNSClient, Certificate, Gateway, Notification
from txapns.simulator import Authority

COUNT = int(sys.argv[1])
#: How many clients there are before, so that what all share is there.
BEFORE = 5


def resident():
    """Return the memory of this process in KB."""
    gc.collect()
    return int(re.search(r"Rss:\s+(\d+)", Path("/proc/self/smaps_rollup").read_text())[1])


async def main(reactor):
    """Make them."""
    authority = Authority()
    certificates = [authority.client_pem("com.example.app") for _ in range(BEFORE + COUNT)]
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    async def clients(some):
        gateway = Gateway.http2("localhost", port)
        made = [APNSClient(reactor, Certificate.from_pem(each), gateway) for each in some]
        batches = await gatherResults(
            [client.send(Notification(alert="Hello"), ["00" * 32], deadline=1.0) for client in made]
        )
        assert all(batch.accepted == 0 for batch in batches)
        return made

    kept = await clients(certificates[:BEFORE])
    before = resident()
    kept += await clients(certificates[BEFORE:])
    print((resident() - before) / COUNT)
    await gatherResults([client.close() for client in kept])


react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
