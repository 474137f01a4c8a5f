"""Send with txapns.aio from 1,000 tasks, for ``benchmarks/ways_in.py``; see there."""

import asyncio
from pathlib import Path

from task import TASK, measure, send_each

from txapns import Accepted, Gateway, Notification, ProviderToken
from txapns.aio import APNSClient

TASKS = 1_000
NOTIFICATION = Notification(payload={"aps": {"alert": TASK.alert}})


async def main():
    """Send one at a time in each task."""
    async with APNSClient(
        ProviderToken.from_file(TASK.p8, TASK.key_id, TASK.team_id),
        Gateway.http2("localhost", TASK.port, trust_root=Path(TASK.ca).read_bytes()),
        topic=TASK.topic,
        max_connections=TASK.connections,
    ) as client:

        async def send_one(token):
            return isinstance(await client.send_one(NOTIFICATION, token), Accepted)

        await measure(lambda count: send_each(send_one, count, TASKS))


asyncio.run(main())
