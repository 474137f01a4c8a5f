"""A long batch between real processes: exact results, and memory that does not grow with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT
from tests.processes import started

#: Every how many tokens one is dead.
DEAD_EVERY = 1_000
LONG, SHORT = 100_000, 1_000
#: How much more memory the long batch may take than the short one, in octets.
GROWTH = 10 * 2**20

PROGRAM = """
import json, sys
from pathlib import Path
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from txapns import APNSClient, Gateway, Notification, ProviderToken

async def main(reactor, state, count):
    about = json.loads((state / "simulator.json").read_text())
    token = ProviderToken.from_p8((state / "AuthKey.p8").read_bytes(), about["key_id"], about["team_id"])
    trust_root = (state / "ca.pem").read_bytes()
    gateway = Gateway.http2("localhost", about["http2"], trust_root=trust_root)
    client = APNSClient(reactor, token, gateway, topic=about["topic"])
    batch = await client.send(Notification(alert="Hello"), (f"{number:064x}" for number in range(count)))
    await client.close()
    # Not ru_maxrss: that begins with what the process was that started this one.
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    reasons = sorted({rejection.reason for rejection in batch.failed.values()})
    outcome = [batch.accepted, sorted(batch.failed), reasons, len(batch.unsent), len(batch.uncertain)]
    print(json.dumps({"outcome": outcome, "peak": peak}))

state, count = Path(sys.argv[1]), int(sys.argv[2])
react(lambda reactor: Deferred.fromCoroutine(main(reactor, state, count)))
"""


BLOCKING = """
import json, sys
from pathlib import Path
from txapns import Gateway, Notification, ProviderToken
from txapns.blocking import APNSClient

state, count = Path(sys.argv[1]), int(sys.argv[2])
about = json.loads((state / "simulator.json").read_text())
token = ProviderToken.from_p8((state / "AuthKey.p8").read_bytes(), about["key_id"], about["team_id"])
gateway = Gateway.http2("localhost", about["http2"], trust_root=(state / "ca.pem").read_bytes())
with APNSClient(token, gateway, topic=about["topic"]) as client:
    batch = client.send(Notification(alert="Hello"), (f"{number:064x}" for number in range(count)))
peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
reasons = sorted({rejection.reason for rejection in batch.failed.values()})
outcome = [batch.accepted, sorted(batch.failed), reasons, len(batch.unsent), len(batch.uncertain)]
print(json.dumps({"outcome": outcome, "peak": peak}))
"""

#: In how many batches of how many, with how many faults in a hundred; the whole of it is benchmarks/soak.py.
SOAK = 6_000, 3, 2


@pytest.mark.loopback
@pytest.mark.campaign
class SoakTests(SynchronousTestCase):
    """A server that does wrong by chance, over real sockets."""

    def test_soak(self) -> None:
        """Each batch accounts for all, and nothing is left of it."""
        script = PROJECT / "benchmarks/soak.py"
        command = [sys.executable, str(script), *map(str, SOAK)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        *lines, total = done.stdout.splitlines()
        self.assertEqual(len(lines), SOAK[1])
        for line in lines:
            self.assertIn("left: {'Delivery': 0, 'Batch': 0", line)
        self.assertIn("in flight 0, queued 0", total)


@pytest.mark.loopback
@pytest.mark.campaign
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the peak of a process alone")
class ScaleTests(SynchronousTestCase):
    """The simulator and the sender are processes of their own."""

    def setUp(self) -> None:
        """Start the simulator with some dead tokens."""
        state = Path(self.mktemp())
        state.mkdir(parents=True)
        dead = state / "dead.txt"
        dead.write_text("".join(f"{number:064x}\n" for number in range(0, LONG, DEAD_EVERY)))
        self.state = state / "simulator"
        ports = [argument for name in ("http2", "binary", "feedback") for argument in (f"--{name}", "0")]
        command = [sys.executable, "-m", "txapns", "simulate", *ports]
        simulator = started(
            self, [*command, "--state", str(self.state), "--dead", str(dead)], stdout=subprocess.PIPE, text=True
        )
        assert simulator.stdout is not None
        self.assertTrue(json.loads(simulator.stdout.readline())["ready"])

    def send(self, program: str, count: int) -> tuple[list[object], int]:
        """Send so many; returns the outcome and the peak of memory, in octets."""
        command = [sys.executable, "-c", program, str(self.state), str(count)]
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=300, check=True)
        found = json.loads(done.stdout)
        return found["outcome"], found["peak"]

    def test_long_batch(self) -> None:
        """Of 100,000 tokens out of a generator exactly the dead ones fail, in the memory that 1,000 take."""
        self.compare(PROGRAM)

    def test_blocking(self) -> None:
        """So it is with a blocking client, whose generator runs in another thread than the reactor."""
        self.compare(BLOCKING)

    def compare(self, program: str) -> None:
        """Send a short and a long batch."""
        peaks = []
        for count in (SHORT, LONG):
            outcome, peak = self.send(program, count)
            dead = list(range(0, count, DEAD_EVERY))
            self.assertEqual(outcome, [count - len(dead), dead, ["Unregistered"], 0, 0])
            peaks.append(peak)
        self.assertLess(peaks[1] - peaks[0], GROWTH)
