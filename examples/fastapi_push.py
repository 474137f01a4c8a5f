"""A FastAPI application that sends a notification for each request."""

import json
import os
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, HTTPException

from txapns import Accepted, Certificate, Gateway, Notification
from txapns.aio import APNSClient
from txapns.errors import APNSError, LocalError

STATE = Path(os.environ["SIMULATOR"])
PORT = json.loads((STATE / "simulator.json").read_text())["http2"]

# Made once, when the module is imported. Its connections are made on the loop that uvicorn runs.
client = APNSClient(
    Certificate.from_file(STATE / "client.pem"),
    Gateway.http2("localhost", PORT, trust_root=(STATE / "ca.pem").read_text()),  # or "production"
)


@asynccontextmanager
async def lifespan(app):
    """Close the client in the end."""
    async with client:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/push/{token}")
async def push(token: str, text: str):
    """Send a text to a device."""
    try:
        outcome = await client.send_one(Notification(alert=text), token)
    except LocalError as error:
        raise HTTPException(400, str(error)) from error
    except APNSError as error:
        raise HTTPException(503, str(error)) from error
    if isinstance(outcome, Accepted):
        return {"apns_id": outcome.apns_id}
    raise HTTPException(410 if outcome.dead else 400, outcome.reason)
