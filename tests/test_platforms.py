"""Tests that the library needs nothing that only one platform has; docs/platforms.rst says what is tested where."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from tests import PROJECT
from tests.command.processes import TIMEOUT, SharingSimulator, environment

__all__ = ["PlatformTests"]

#: A program on a system where Python has no poller but ``select``.
_PROGRAM = """
import json, select, sys
for name in ("epoll", "poll", "kqueue", "devpoll"):
    if hasattr(select, name):
        delattr(select, name)
from txapns import Certificate, Gateway, Notification
from txapns._reactors.thread import make_reactor
from txapns.blocking import APNSClient
state, port = sys.argv[1:]
gateway = Gateway.http2("localhost", int(port), trust_root=open(f"{state}/ca.pem").read())
with APNSClient(Certificate.from_pem(open(f"{state}/client.pem").read()), gateway) as client:
    batch = client.send(Notification(alert="Hello"), (f"{number:064x}" for number in range(5_000)))
print(json.dumps([type(make_reactor()).__name__, batch.accepted]))
"""


class PlatformTests(SharingSimulator):
    """What stands in for other systems."""

    def test_select(self) -> None:
        """Where there is only ``select``, a blocking client uses that."""
        ready = self.simulator.ready
        command = [sys.executable, "-c", _PROGRAM, str(self.simulator.state), str(ready["http2"])]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=TIMEOUT, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout), ["SelectReactor", 5_000])

    def test_no_path_of_linux(self) -> None:
        """The library, the simulator and its other clients read nothing below /proc or /sys."""
        library = [path for path in (PROJECT / "txapns").rglob("*.py") if "daemon" not in path.parts]
        self.assertGreater(len(library), 50)
        found = [str(path) for path in library if re.search(r"""["']/(proc|sys)\b""", path.read_text(encoding="utf-8"))]
        self.assertEqual(found, [])
