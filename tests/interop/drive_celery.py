"""
Tasks of Celery that send with a blocking client.

As an application (``celery -A tests.interop.drive_celery worker``) it needs the variables ``SIMULATOR``, the state
directory of a simulator, and ``QUEUE``, a directory for messages and results; with ``LEAVE``, nobody closes the client.
As a program it has tasks done, and prints what each returned.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from celery import Celery, signals
from celery.exceptions import SoftTimeLimitExceeded

from tests.blocking_job import HELLO, client_of, descriptors, done, exercise, left, tokens

PLACE = Path(os.environ["QUEUE"])
for name in ("messages", "control", "results"):
    (PLACE / name).mkdir(exist_ok=True)

app = Celery("tests.interop.drive_celery", broker="filesystem://", backend=f"file://{PLACE}/results")
app.conf.broker_transport_options = {
    "data_folder_in": f"{PLACE}/messages",
    "data_folder_out": f"{PLACE}/messages",
    "control_folder": f"{PLACE}/control",
}
#: Made by the parent, and inherited by the processes of the pool.
CLIENT = client_of(os.environ["SIMULATOR"])


@signals.worker_init.connect
def use_in_parent(**_: object) -> None:
    """Use it before the fork."""
    CLIENT.send(HELLO, tokens(10))


@signals.worker_process_shutdown.connect
def close(**_: object) -> None:
    """Close it in each process of the pool, or leave it: these run nothing that is registered with atexit."""
    if "LEAVE" in os.environ:
        left(CLIENT)
    else:
        done(CLIENT, BEFORE)
        sys.__stderr__.write("closed\n")


@signals.worker_process_init.connect
def count(**_: object) -> None:
    """Count what is open before the first task."""
    global BEFORE
    BEFORE = descriptors()


@app.task
def job() -> dict[str, object]:
    """Do the job."""
    return {**exercise(CLIENT), "process": os.getpid()}


@app.task
def dead(rows: list[list[str]]) -> dict[str, object]:
    """Return the batch: Celery writes it as JSON."""
    return CLIENT.send(HELLO, rows).to_dict()


def end_time() -> None:
    """When ten are under way, do what Celery does when a task has taken too long."""
    while CLIENT.status().in_flight < 10:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGUSR1)


@app.task(soft_time_limit=3600)
def limited() -> list[int]:
    """Wait for longer than the task may take; what is known by then is not lost."""
    threading.Thread(target=end_time).start()
    try:
        CLIENT.send(HELLO, tokens(10))
    except SoftTimeLimitExceeded as error:
        return [len(error.batch.uncertain), CLIENT.status().in_flight]
    raise AssertionError("there was no limit")


if __name__ == "__main__":
    if sys.argv[1:] == ["limited"]:
        results = [limited.delay()]
    else:
        results = [*(job.delay() for _ in range(6)), dead.delay([["dora", "dd" * 32]])]
    for result in results:
        print(json.dumps(result.get(timeout=110)))
