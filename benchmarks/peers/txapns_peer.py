"""Send with txapns, for ``benchmarks/http2.py``; see there."""

from pathlib import Path

from task import TASK, measure, tokens
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from txapns import APNSClient, Gateway, Notification, ProviderToken


async def main(reactor):
    """Send batches."""
    client = APNSClient(
        reactor,
        ProviderToken.from_file(TASK.p8, TASK.key_id, TASK.team_id),
        Gateway.http2("localhost", TASK.port, trust_root=Path(TASK.ca).read_bytes()),
        topic=TASK.topic,
        max_connections=TASK.connections,
    )
    notification = Notification(payload={"aps": {"alert": TASK.alert}})

    async def send(count):
        batch = await client.send(notification, tokens(count))
        return batch.accepted

    await measure(send)
    await client.close()


react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
