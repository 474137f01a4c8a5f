"""Send with aioapns; see ``tests/interop/__init__.py``."""

import asyncio
import json
import signal
import ssl
import sys
from pathlib import Path

from aioapns import APNs, NotificationRequest, PushType
from aioapns.connection import APNsProductionClientProtocol

signal.alarm(300)
given = json.loads(sys.stdin.readline())


class Protocol(APNsProductionClientProtocol):
    """The protocol at our address: there is no option for that."""

    APNS_SERVER = given["host"]
    APNS_PORT = given["http2"]


def credential():
    """Find what authenticates the client, as its constructor wants it."""
    if given["mode"] == "certificate":
        return {"client_cert": given["certificate"]}
    return {"key": Path(given["p8"]).read_text(), "key_id": given["key_id"], "team_id": given["team_id"]}


async def send():
    """Send all; the first one alone, since it does not wait to be told how many at once the server takes."""
    context = ssl.create_default_context(cafile=given["ca"])
    apns = APNs(**credential(), topic=given["topic"], ssl_context=context, max_connections=1, err_func=ignore)
    apns.pool.protocol_class = Protocol
    requests = [
        NotificationRequest(
            token,
            {"aps": {"alert": given["alert"], "badge": given["badge"], "sound": given["sound"]}},
            notification_id=identifier,
            time_to_live=given["time_to_live"],
            priority=given["priority"],
            collapse_key=given["collapse_id"],
            push_type=PushType(given["push_type"]),
        )
        for token, identifier in given["tokens"]
    ]
    results = [await apns.send_notification(requests[0])]
    results += await asyncio.gather(*map(apns.send_notification, requests[1:]))
    apns.pool.close()
    return list(zip(requests, results, strict=True))


async def ignore(request, result):
    """What it would do with a refusal besides returning it: write to the log."""


found = asyncio.run(send())
accepted = [request.device_token for request, result in found if result.is_successful]
refused = [
    [request.device_token, int(result.status), result.description, result.timestamp]
    for request, result in found
    if not result.is_successful
]
identifiers = [[request.device_token, result.notification_id] for request, result in found]
print(json.dumps({"accepted": accepted, "refused": refused, "identifiers": identifiers}))
