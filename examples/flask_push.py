"""A Flask application that sends a notification for each request."""

import json
import os
from pathlib import Path

from flask import Flask, request

from txapns import Accepted, Certificate, Gateway, Notification
from txapns.blocking import APNSClient
from txapns.errors import APNSError, LocalError

STATE = Path(os.environ["SIMULATOR"])
PORT = json.loads((STATE / "simulator.json").read_text())["http2"]

# Made once, when the module is imported. Each worker of gunicorn has connections of its own, also with --preload.
client = APNSClient(
    Certificate.from_file(STATE / "client.pem"),
    Gateway.http2("localhost", PORT, trust_root=(STATE / "ca.pem").read_text()),  # or "production"
)
app = Flask(__name__)


@app.post("/push/<token>")
def push(token):
    """Send the text of the request to a device."""
    try:
        outcome = client.send_one(Notification(alert=request.get_data(as_text=True)), token)
    except LocalError as error:
        return {"error": str(error)}, 400
    except APNSError as error:
        return {"error": str(error)}, 503
    if isinstance(outcome, Accepted):
        return {"apns_id": outcome.apns_id}
    return {"reason": outcome.reason, "delete": outcome.dead}, 410 if outcome.dead else 400
