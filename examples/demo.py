"""
Send 5,000 notifications to the simulator over HTTP/2, then over the binary protocol, and check which fail.

``make demo`` runs it. A few of the device tokens are dead, a few too short, and a few not hexadecimal: exactly these
must fail, each with its reason. The exit status is 0 if they do.

Everything is on this machine: ``txapns simulate`` runs as a process of its own and writes its credentials to files.
They are read into memory, as they would be from a database, and not passed on as files.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall, react
from twisted.python.failure import Failure

from txapns import APNSClient, Batch, Certificate, Gateway, Notification, ProviderToken

COUNT = 5_000
DEAD = frozenset({700, 2_500, 4_999})
SHORT = frozenset({0, 1_234})
GARBLED = frozenset({99, 3_000})

#: How long each step may take, in seconds.
DEADLINE = 60.0
#: How long the simulator has to end before it is killed, in seconds.
PATIENCE = 10.0

console = Console()


def token(number: int) -> str:
    """Make up a device token."""
    digits = hashlib.sha256(b"device %d" % number).hexdigest()
    if number in SHORT:
        return digits[:40]
    return "no token" if number in GARBLED else digits


def expected(dead: str, short: str) -> dict[Hashable, tuple[str, str]]:
    """Return which identifiers must fail, how, and why."""
    outcomes = {DEAD: ("failed", dead), SHORT: ("failed", short), GARBLED: ("unsent", "InvalidToken")}
    return {number: outcome for numbers, outcome in outcomes.items() for number in numbers}


def found(batch: Batch) -> dict[Hashable, tuple[str, str]]:
    """Return which identifiers failed, how, and why."""
    return {
        **{identifier: ("failed", failed.reason) for identifier, failed in batch.failed.items()},
        **{identifier: ("unsent", type(left.error).__name__) for identifier, left in batch.unsent.items()},
        **{identifier: ("uncertain", type(left.error).__name__) for identifier, left in batch.uncertain.items()},
    }


class Simulator(ProcessProtocol):
    """``txapns simulate`` as a child process, which writes two lines of JSON."""

    def __init__(self) -> None:
        self.ready: Deferred[dict[str, Any]] = Deferred()
        self.ended: Deferred[dict[str, Any]] = Deferred()
        self._output = b""

    def outReceived(self, data: bytes) -> None:
        """The first line says that it listens."""
        self._output += data
        if b"\n" in self._output and not self.ready.called:
            self.ready.callback(json.loads(self._output.splitlines()[0]))

    def errReceived(self, data: bytes) -> None:
        """Show its errors."""
        sys.stderr.write(data.decode())

    def processEnded(self, reason: Failure) -> None:
        """The last line has its counters."""
        if not self.ready.called:
            self.ready.errback(reason)
        self.ended.callback(json.loads(self._output.splitlines()[-1]) if self._output else {})

    def stop(self, reactor: Any) -> None:
        """Terminate it; kill it if it does not end."""
        assert self.transport is not None
        if not self.ended.called:
            self.transport.signalProcess("TERM")
            kill = reactor.callLater(PATIENCE, self.transport.signalProcess, "KILL")
            self.ended.addCallback(lambda counters: kill.cancel() or counters)


@asynccontextmanager
async def simulator(reactor: Any, state: Path) -> AsyncIterator[dict[str, Any]]:
    """Run the simulator, and show its counters at the end."""
    dead = state / "dead"
    dead.write_text("\n".join(map(token, sorted(DEAD))))
    command = [sys.executable, "-m", "txapns", "simulate", "--http2", "0", "--binary", "0", "--feedback", "0"]
    command += ["--state", str(state), "--dead", str(dead)]
    child = Simulator()
    reactor.spawnProcess(child, sys.executable, command, env=None)
    reactor.addSystemEventTrigger("before", "shutdown", child.stop, reactor)  # also if the demo is interrupted
    try:
        yield await child.ready.addTimeout(DEADLINE, reactor)
    finally:
        child.stop(reactor)
        console.print("the simulator counted", await child.ended.addTimeout(DEADLINE, reactor))


@contextmanager
def progress_bar(client: APNSClient, label: str) -> Iterator[Iterator[str]]:
    """Yield the tokens, and show the progress on a terminal."""
    given = 0

    def tokens() -> Iterator[str]:
        nonlocal given
        for given in range(1, COUNT + 1):
            yield token(given - 1)

    with Progress(console=console, auto_refresh=False, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=COUNT)
        drawing = LoopingCall(lambda: progress.update(task, completed=given - client.status().in_flight, refresh=True))
        drawing.start(0.05)
        try:
            yield tokens()
        finally:
            drawing.stop()


def show(label: str, batch: Batch, seconds: float) -> None:
    """Print a table of what failed, and the rate."""
    table = Table("identifier", "outcome", "reason", title=f"{label}: not accepted", title_justify="left")
    for identifier, (outcome, reason) in sorted(found(batch).items()):
        # What was not sent has no reason of Apple's, but our own error.
        table.add_row(str(identifier), outcome, str(batch.unsent[identifier].error) if outcome == "unsent" else reason)
    console.print(table)
    console.print(f"{batch.accepted} of {batch.total} accepted in {seconds:.2f} s: {batch.total / seconds:.0f}/s\n")


async def send(client: APNSClient, label: str, expectation: dict[Hashable, tuple[str, str]]) -> bool:
    """Send the batch and show its outcome; returns whether it is as expected."""
    with progress_bar(client, label) as tokens:
        began = time.monotonic()
        batch = await client.send(Notification(alert="Hello"), tokens, deadline=DEADLINE)
        seconds = time.monotonic() - began
    await client.close()
    show(label, batch, seconds)
    right = found(batch) == expectation and batch.accepted == COUNT - len(expectation)
    if not right:
        console.print(f"{label}: expected {expectation}")
    return right


async def demonstrate(reactor: Any, state: Path) -> bool:
    """Send over both protocols; returns whether exactly the expected identifiers failed."""
    async with simulator(reactor, state) as description:
        console.print(f"What comes in is shown at http://127.0.0.1:{description['web']}/ while this runs.\n")
        trust_root = (state / description["ca"]).read_bytes()

        signing_key = (state / description["key"]).read_bytes()
        provider_token = ProviderToken.from_p8(signing_key, description["key_id"], description["team_id"])
        gateway = Gateway.http2("localhost", description["http2"], trust_root=trust_root)
        client = APNSClient(reactor, provider_token, gateway, topic=description["topic"])
        http2 = await send(client, "HTTP/2", expected("Unregistered", "BadDeviceToken"))

        certificate = Certificate.from_pkcs12((state / description["pkcs12"]).read_bytes(), "txapns")
        # The binary protocol is silent about what it accepts. The barrier gets a response, so the rate is correct.
        gateway = Gateway.binary("localhost", description["binary"], trust_root=trust_root, barrier=True)
        client = APNSClient(reactor, certificate, gateway)
        binary = await send(client, "binary", expected("InvalidToken", "InvalidTokenSize"))
    return http2 and binary


async def main(reactor: Any, correct: list[bool]) -> None:
    """Run the demonstration."""
    console.print(f"Starting the simulator; {COUNT} notifications follow over each protocol.\n")
    with tempfile.TemporaryDirectory(prefix="txapns-demo-") as state:
        correct.append(await demonstrate(reactor, Path(state)))
    console.print("Exactly the expected identifiers failed." if correct[0] else "That is not what was expected!")
    console.print("To keep that page open, for what your own programs send: make inbox")


if __name__ == "__main__":
    correct: list[bool] = []
    with suppress(SystemExit):  # its status is also 0 if a signal ended it
        react(main, [correct])
    sys.exit(correct != [True])
