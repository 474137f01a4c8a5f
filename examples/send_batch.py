"""Send a batch to the simulator, and print what failed."""

import json
from pathlib import Path

from twisted.internet.task import react

from txapns import APNSClient, Certificate, Gateway, Notification

STATE = Path("simulator")


async def main(reactor):
    """Send the batch."""
    ports = json.loads((STATE / "simulator.json").read_text())
    trust_root = (STATE / "ca.pem").read_text()
    gateway = Gateway.http2("localhost", ports["http2"], trust_root=trust_root)  # or "production", or "sandbox"
    pem = (STATE / "client.pem").read_text()  # yours comes from a database row or a secret store
    client = APNSClient(reactor, Certificate.from_pem(pem), gateway)

    tokens = {"ann": "aa" * 32, "bob": "bb" * 32, "cleo": "cc" * 20, "dora": "dd" * 32, "emil": "not a token"}
    batch = await client.send(Notification(alert="Dinner is ready", badge=1), tokens)
    print(batch)
    for identifier, rejection in batch.failed.items():
        print(identifier, "failed:", rejection.status, rejection.reason)
    for identifier, unsent in batch.unsent.items():
        print(identifier, "was not sent:", unsent.error)
    await client.close()


react(main)
