"""Send with aioapns, for ``benchmarks/http2.py``; see there."""

import asyncio
import logging
import ssl
from pathlib import Path

from aioapns import APNs, NotificationRequest, PushType
from aioapns.connection import APNsProductionClientProtocol
from task import TASK, measure, send_each

# It logs each rejection and each attempt; without a level it would format each message.
logging.getLogger("aioapns").setLevel(logging.CRITICAL)
APNsProductionClientProtocol.APNS_SERVER = "localhost"
APNsProductionClientProtocol.APNS_PORT = TASK.port
MESSAGE = {"aps": {"alert": TASK.alert}}


async def main():
    """Send as many at once as the window allows, because it does not wait for the window."""
    context = ssl.create_default_context(cafile=TASK.ca)
    context.set_alpn_protocols(["h2"])
    client = APNs(
        key=Path(TASK.p8).read_text(),
        key_id=TASK.key_id,
        team_id=TASK.team_id,
        topic=TASK.topic,
        max_connections=TASK.connections,
        ssl_context=context,
    )

    async def send_one(token):
        result = await client.send_notification(NotificationRequest(token, MESSAGE, push_type=PushType.ALERT))
        return result.is_successful

    await measure(lambda count: send_each(send_one, count, TASK.blind * TASK.connections))
    client.pool.close()


asyncio.run(main())
