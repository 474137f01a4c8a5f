"""The application of Celery, with a task that sends to all devices."""

import json
import os
from pathlib import Path

from celery import Celery
from celery.signals import worker_process_shutdown

from txapns import Certificate, Gateway, Notification
from txapns.blocking import APNSClient

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
STATE = Path(os.environ["SIMULATOR"])
PORT = json.loads((STATE / "simulator.json").read_text())["http2"]

app = Celery("tasks")
app.config_from_object("django.conf:settings", namespace="CELERY")
# Made by the worker; the processes of its pool inherit it, and each makes connections of its own.
client = APNSClient(
    Certificate.from_file(STATE / "client.pem"),
    Gateway.http2("localhost", PORT, trust_root=(STATE / "ca.pem").read_text()),  # or "production"
)


@worker_process_shutdown.connect
def close(**_):
    """Close the connections of a process, which runs nothing else at its end."""
    client.close()


@app.task
def push(text):
    """Send to all devices, delete those that are dead, and return what came of it."""
    from devices.models import Device  # when Django is ready

    devices = Device.objects.values_list("id", "token").iterator()  # read as fast as APNs takes them
    batch = client.send(Notification(alert=text), devices, deadline=600)
    for rejection in batch.failed.values():
        if rejection.dead:
            dead = Device.objects.filter(id=rejection.identifier)
            if rejection.timestamp is not None:
                dead = dead.filter(registered__lt=rejection.timestamp)  # it may have registered again
            dead.delete()
    return batch.to_dict()
