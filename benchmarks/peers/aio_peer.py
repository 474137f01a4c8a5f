"""Send a batch with txapns.aio, for ``benchmarks/ways_in.py``; see there."""

import asyncio
from pathlib import Path

from task import TASK, measure, tokens

from txapns import Gateway, Notification, ProviderToken
from txapns.aio import APNSClient

NOTIFICATION = Notification(payload={"aps": {"alert": TASK.alert}})


async def main():
    """Send batches."""
    async with APNSClient(
        ProviderToken.from_file(TASK.p8, TASK.key_id, TASK.team_id),
        Gateway.http2("localhost", TASK.port, trust_root=Path(TASK.ca).read_bytes()),
        topic=TASK.topic,
        max_connections=TASK.connections,
    ) as client:

        async def send(count):
            return (await client.send(NOTIFICATION, tokens(count))).accepted

        await measure(send)


asyncio.run(main())
