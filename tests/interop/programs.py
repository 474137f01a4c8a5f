"""Programs that the interop tests run, and where they are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest

__all__ = ["Program", "command"]

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent.parent / ".venv"
NODE_ENVIRONMENT = ENVIRONMENTS / "interop-node"


def command(driver: str, environment: str = "interop") -> list[str]:
    """
    Find the command that runs a driver; skips the test where its client is not installed.

    :param driver: the name of its file.
    :param environment: which of the environments of Python has the client.
    """
    node = driver.endswith(".js")
    place = NODE_ENVIRONMENT if node else ENVIRONMENTS / environment
    if not (place / "installed").exists():
        raise SkipTest(f"not installed: run make interop{', which needs npm for it' if node else ''}")
    program = shutil.which("node") if node else str(place / "bin/python")
    assert program, "node is gone"
    return [program, str(HERE / driver)]


class Program(ProcessProtocol):
    """
    A program of others, or one that drives a client of others, while it runs.

    :param reactor: the reactor.
    :param command: the program and its arguments.
    :param variables: what to add to its environment.

    :ivar ended: fires with its exit status.
    :ivar printed: what it wrote to its standard output.
    :ivar complained: what it wrote to its standard error.
    """

    def __init__(
        self, reactor: IReactorProcess, command: Sequence[str], variables: Mapping[str, str] | None = None
    ) -> None:
        self.ended: Deferred[object] = Deferred()
        self.printed = b""
        self.complained = b""
        environment = {**os.environ, "NODE_PATH": str(NODE_ENVIRONMENT / "node_modules"), **(variables or {})}
        reactor.spawnProcess(self, command[0], command, env=environment)

    def outReceived(self, data: bytes) -> None:
        """It printed."""
        self.printed += data

    def errReceived(self, data: bytes) -> None:
        """It complained."""
        self.complained += data

    def processEnded(self, reason: Failure) -> None:
        """It is over."""
        self.ended.callback(reason.value.status)

    def stop(self) -> None:
        """End it, if it runs."""
        if self.transport.pid is not None:
            self.transport.signalProcess("KILL")
