"""
An application for gunicorn that sends with a blocking client; ``SIMULATOR`` is a simulator's state directory.

It is also the configuration for gunicorn: with the variable ``CLOSE``, each worker closes the client before it ends.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable

from tests.blocking_job import HELLO, client_of, descriptors, done, exercise, left, tokens

#: Made and used by the master if it loads the application, and then inherited by the workers.
CLIENT = client_of(os.environ["SIMULATOR"])
if "USE" in os.environ:
    CLIENT.send(HELLO, tokens(10))


def post_worker_init(worker: object) -> None:
    """Count what is open before the first request."""
    global _before
    _before = descriptors()


_before = 0


def worker_exit(server: object, worker: object) -> None:
    """Close the client, or leave it."""
    if "CLOSE" in os.environ:
        done(CLIENT, _before)
        sys.stderr.write("closed\n")
    else:
        left(CLIENT)


def application(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Do the job, and answer with what came of it."""
    result = {**exercise(CLIENT), "process": os.getpid()}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(result).encode()]
