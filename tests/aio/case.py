"""A simulator for coroutines of asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.trial.unittest import SynchronousTestCase

from tests.command.processes import DEAD, SimulatorProcess
from tests.processes import ForClass
from txapns import Certificate, Gateway
from txapns.aio import APNSClient

__all__ = ["ALIVE", "EXPECTED", "GONE", "TIMEOUT", "AioCase"]

ALIVE, GONE = "aa" * 32, "ee" * 32
#: How long anything may take, in seconds.
TIMEOUT = 120.0
#: What comes of each case of ``program.py``.
EXPECTED: dict[str, list[Any]] = {
    "batch": [900, True, 100],
    "one": [50, 100],
    "close": [20_000, 0, 0],
    "cancel": [True, True, 1],
    "leave": [True],
}

T = TypeVar("T")


class AioCase(SynchronousTestCase):
    """
    Tests on event loops, with a simulator in a process of its own, for which ``DEAD`` and ``GONE`` are dead.
    """

    simulator: SimulatorProcess

    @classmethod
    def setUpClass(cls) -> None:
        """Start the simulator."""
        case: Any = ForClass(cls)
        dead = Path(case.mktemp())
        dead.write_text(f"{DEAD}\n{GONE}\n")
        cls.simulator = SimulatorProcess(case, "--dead", str(dead))

    def gateway(self, protocol: str = "http2", host: str = "127.0.0.1", **options: Any) -> Gateway:
        """Describe the simulator."""
        ready = self.simulator.ready
        ca = (self.simulator.state / "ca.pem").read_text()
        if protocol == "http2":
            return Gateway.http2(host, ready["http2"], trust_root=ca, management_port=ready["channels"], **options)
        return Gateway.binary(host, ready["binary"], trust_root=ca, feedback_port=ready["feedback"], **options)

    def certificate(self) -> Certificate:
        """Load the certificate for it."""
        return Certificate.from_pem((self.simulator.state / "client.pem").read_text())

    def client(self, protocol: str = "http2", **options: Any) -> APNSClient:
        """Make a client of it."""
        return APNSClient(self.certificate(), self.gateway(protocol), **options)

    def go(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on a loop of its own. No thread is left."""

        async def bounded() -> T:
            return await asyncio.wait_for(work, TIMEOUT)

        threads = threading.active_count()
        result = asyncio.run(bounded(), debug=True)
        self.assertEqual(threading.active_count(), threads)
        return result
