"""Send with pushjack, or read the feedback service; see ``tests/interop/__init__.py``."""

import json
import signal
import sys

import pushjack

signal.alarm(300)
request = json.loads(sys.stdin.readline())


class Client(pushjack.APNSClient):
    """The client at our addresses: its documented way to others than Apple's."""

    host = feedback_host = request["host"]
    port = request["binary"]
    feedback_port = request["feedback"]


client = Client(request["certificate"], default_error_timeout=10)
if request["task"] == "feedback":
    answer = {"feedback": [[item.token, item.timestamp] for item in client.get_expired_tokens()]}
else:
    response = client.send(
        request["tokens"],
        request["alert"],
        badge=request["badge"],
        sound=request["sound"],
        expiration=request["expiration"],
        low_priority=request["priority"] == 5,
    )
    client.close()
    answer = {"refused": [[token, error.code] for token, error in response.token_errors.items()]}
print(json.dumps(answer))
