"""What must not grow with what is stored: accepting, and for how long the daemon holds its reactor to answer."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs
from http2 import HERE
from rounds import Experiment, Goal, Sample, Settings

from rows import needs

__all__ = ["EXPERIMENTS"]

#: How many wait, few and many; how many are accepted in each step of a round; how many apps there are.
FEW, MANY, ACCEPTED, APPS = 10_000, 1_000_000, 20_000, 5_000
#: How long what a request set off may take, in seconds.
AFTER = 0.1

CONFIGURATION = """
[intake.native]
listen = "tcp:port=0:interface=127.0.0.1"

[intake.matrix]
listen = "tcp:port=0:interface=127.0.0.1"
wait = 0

[intake.matrix.app_ids."chess"]
app = "chess"

[admin]
listen = "tcp:port=0:interface=127.0.0.1"

[limits]
queue = 10_000_000
"""


def accepting(settings: Settings, name: str, *, postgresql: bool) -> Iterator[Mapping[str, Sample]]:
    """Compare accepting while many wait with accepting while few do."""
    few, many = settings.count(FEW, 1_000), settings.count(MANY)
    task = {
        "waiting": [few, many],
        "count": settings.count(ACCEPTED, 500),
        "rounds": settings.rounds,
        "directory": str(settings.directory),
        "postgresql": postgresql,
    }
    command = [sys.executable, str(HERE / "peers/accept_peer.py"), json.dumps(task)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            found = {(waiting, random): cpu for waiting, random, cpu in json.loads(line)}
            ratios = {random: found[many, random] / found[few, random] for random in (True, False)}
            parts = {"random ids": ratios[True], "own ids": ratios[False], "random ids, µs": found[many, True]}
            yield {name: Sample(max(ratios.values()), parts)}
    if process.returncode != 0:
        raise RuntimeError(f"accept_peer.py ended with {process.returncode}")


@attrs.frozen
class Watched:
    """
    A daemon of which is known for how long at a time it holds its reactor.

    :ivar process: its process; see ``peers/watched.py``.
    :ivar addresses: its addresses, by listener.
    :ivar stored: the id of a notification that is stored.
    :ivar key: a key that may do everything.
    """

    process: subprocess.Popen[str]
    addresses: dict[str, str]
    stored: str
    key: str

    def longest(self) -> float:
        """Return the longest turn since the last call, in ms."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def turn(self, ask: Callable[[], None]) -> float:
        """Return the longest turn that a request causes, in ms."""
        self.longest()
        ask()
        time.sleep(AFTER)
        return self.longest()

    def ask(self, face: str, path: str, body: object = None, allowed: tuple[int, ...] = (200, 202)) -> None:
        """Make a request, and read the answer."""
        connection = http.client.HTTPConnection(self.addresses[face])
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        connection.request("GET" if body is None else "POST", path, data, headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        if response.status not in allowed:
            raise RuntimeError(f"{path}: the daemon responded {response.status} {answer[:300]!r}")

    def events(self) -> None:
        """Keep the status page open for a while."""
        connection = http.client.HTTPConnection(self.addresses["admin"])
        connection.request("GET", "/events")
        connection.getresponse()
        time.sleep(3.0)
        connection.close()

    def requests(self) -> dict[str, Callable[[], None]]:
        """Return every query and page that depends on what is stored."""
        native, admin = partial(self.ask, "intake.native"), partial(self.ask, "admin")
        notification = {"tokens": [os.urandom(32).hex()], "payload": {"aps": {"alert": "Your move"}}}
        device = {"app_id": "chess", "pushkey": base64.b64encode(os.urandom(32)).decode()}
        matrix = {"notification": {"event_id": "$1", "room_id": "!r:example.com", "devices": [device]}}
        states = ("dead", "waiting", "rejected", "expired", "superseded")
        return {
            "nothing": lambda: time.sleep(3.0),
            "status page": lambda: admin("/"),
            "status page, last": lambda: admin("/?page=50"),
            "status page, search": lambda: admin("/?q=app0123"),
            "status page, kept open": self.events,
            "page of an app": lambda: admin("/apps/chess"),
            "metrics": lambda: admin("/metrics"),
            "healthz": lambda: admin("/healthz"),
            "readyz": lambda: admin("/readyz", allowed=(200, 503)),
            "apps": lambda: native("/v1/apps"),
            "accept": lambda: native("/v1/apps/chess/notifications", {"notifications": [notification]}),
            "outcome": lambda: native(f"/v1/notifications/{self.stored}"),
            "feedback": lambda: native("/v1/apps/chess/feedback?after=0"),
            "outcomes": lambda: native("/v1/apps/chess/outcomes?after=0"),
            "Matrix": lambda: self.ask("intake.matrix", "/_matrix/push/v1/notify", matrix),
            "retry": lambda: native("/v1/apps/chess/queue/retry", {"limit": 10}),
            **{f"list {state}": partial(native, f"/v1/apps/chess/queue?state={state}") for state in states},
        }


@contextmanager
def watched(settings: Settings) -> Iterator[Watched]:
    """Run a daemon with much in its database."""
    with tempfile.TemporaryDirectory(dir=settings.directory) as name:
        config = Path(name) / "apns.toml"
        config.write_text(CONFIGURATION)
        sizes = [str(settings.count(MANY)), str(settings.count(APPS))]
        filling = [sys.executable, str(HERE / "peers/fill_peer.py"), str(config), *sizes]
        stored = subprocess.run(filling, check=True, capture_output=True, text=True).stdout.strip()
        adding = [sys.executable, "-m", "txapns", "keys", "add", "all", "--config", str(config), "--all-apps"]
        may = [f"--may={each}" for each in ("send", "feedback", "manage")]
        key = subprocess.run([*adding, *may], check=True, capture_output=True, text=True).stdout.strip()
        command = [sys.executable, str(HERE / "peers/watched.py"), "serve", "--config", str(config)]
        pipe = subprocess.PIPE
        with (
            config.with_suffix(".log").open("w") as log,
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True) as process,
        ):
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                if not line:
                    raise RuntimeError(config.with_suffix(".log").read_text())
                addresses = {name: each for name, [each] in json.loads(line)["addresses"].items() if each}
                yield Watched(process, addresses, stored, key)
            finally:
                process.terminate()


def turns(settings: Settings) -> Iterator[Mapping[str, Sample]]:
    """Find the longest turn of the reactor that any query or page causes."""
    with watched(settings) as daemon:
        for request in daemon.requests().values():
            request()
        for _ in range(settings.rounds):
            found = {name: daemon.turn(request) for name, request in daemon.requests().items()}
            yield {"turn": Sample(max(found.values()), {f"{name}, ms": each for name, each in found.items()})}


EXPERIMENTS = (
    Experiment(
        (Goal("turn", "1 M waiting, 1 M dead tokens, 5,000 apps: longest turn of any query or page", 10, "ms"),),
        turns,
        (needs.proc,),
    ),
    Experiment(
        (Goal("accept", "accepting with 1 M waiting, any ids: CPU time, times that with 10,000", 1.5),),
        partial(accepting, name="accept", postgresql=False),
    ),
    Experiment(
        (Goal("accept-pg", "the same with PostgreSQL, its server's CPU time included", 1.5),),
        partial(accepting, name="accept-pg", postgresql=True),
        (needs.postgresql, needs.proc),
    ),
)
