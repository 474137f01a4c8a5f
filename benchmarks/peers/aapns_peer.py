"""Send with aapns, for ``benchmarks/http2.py``; see there. It supports only certificates, not provider tokens."""

import asyncio

from aapns.api import Server
from aapns.config import Priority
from aapns.errors import APNSError
from aapns.models import Alert, Notification
from task import TASK, measure, send_each

NOTIFICATION = Notification(Alert(TASK.alert))


async def main():
    """Send as many at once as the window allows: with more streams it searches longer for a free one."""
    server = Server(TASK.certificate, "localhost", TASK.port, ca_file=TASK.ca, pool_size=TASK.connections)
    client = await server.create_client()

    async def send_one(token):
        try:
            await client.send_notification(token, NOTIFICATION, priority=Priority.immediately, topic=TASK.topic)
        except APNSError:
            return False
        return True

    await measure(lambda count: send_each(send_one, count, TASK.blind * TASK.connections))
    await client.close()


asyncio.run(main())
