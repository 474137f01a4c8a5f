"""Send with tapns3, or read the feedback service; see ``tests/interop/__init__.py``."""

import json
import os
import signal
import sys
from datetime import timezone

import apns

signal.alarm(300)
request = json.loads(sys.stdin.readline())
tokens = request.get("tokens", [])
client = apns.APNs(cert_file=request["certificate"], enhanced=request.get("mode") in ("enhanced", "frame"))
refused = []


def send(gateway):
    """Send in the way that was asked for, each with its place in the list as its identifier."""
    payload = apns.Payload(alert=request["alert"], badge=request["badge"], sound=request["sound"])
    if request["mode"] == "frame":
        frame = apns.Frame()
        for identifier, token in enumerate(tokens):
            frame.add_item(token, payload, identifier, request["expiration"], request["priority"])
        gateway.send_notification_multiple(frame)
        return
    for identifier, token in enumerate(tokens):
        gateway.send_notification(token, payload, identifier=identifier, expiry=request["expiration"])


if request["task"] == "feedback":
    service = client.feedback_server
    service.server, service.port = request["host"], request["feedback"]
    found = [[token.decode(), when.replace(tzinfo=timezone.utc).timestamp()] for token, when in service.items()]
    print(json.dumps({"feedback": found}))
else:
    gateway = client.gateway_server
    gateway.server, gateway.port = request["host"], request["binary"]
    gateway.register_response_listener(lambda answer: refused.append([tokens[answer["identifier"]], answer["status"]]))
    send(gateway)
    sys.stdin.read()  # until the servers have all
    print(json.dumps({"refused": refused}), flush=True)
    os._exit(0)  # its thread would listen on for ten seconds
