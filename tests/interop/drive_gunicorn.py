"""An application for gunicorn that sends with a blocking client; ``SIMULATOR`` is a simulator's state directory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable

from tests.blocking_job import HELLO, client_of, exercise, tokens

#: Made and used by the master if it loads the application, and then inherited by the workers.
CLIENT = client_of(os.environ["SIMULATOR"])
if "USE" in os.environ:
    CLIENT.send(HELLO, tokens(10))


def application(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Do the job, and answer with what came of it."""
    result = {**exercise(CLIENT), "process": os.getpid()}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(result).encode()]
