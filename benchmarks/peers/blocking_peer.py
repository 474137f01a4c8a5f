"""Send with txapns.blocking, for ``benchmarks/ways_in.py``; see there."""

import asyncio
from pathlib import Path

from task import TASK, measure, tokens

from txapns import Gateway, Notification, ProviderToken
from txapns.blocking import APNSClient

NOTIFICATION = Notification(payload={"aps": {"alert": TASK.alert}})

with APNSClient(
    ProviderToken.from_file(TASK.p8, TASK.key_id, TASK.team_id),
    Gateway.http2("localhost", TASK.port, trust_root=Path(TASK.ca).read_bytes()),
    topic=TASK.topic,
    max_connections=TASK.connections,
) as client:

    async def send(count):
        """Send a batch; nothing else runs on the loop, which only measures."""
        return client.send(NOTIFICATION, tokens(count)).accepted

    asyncio.run(measure(send))
