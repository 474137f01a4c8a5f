"""
Fixtures for pytest: Apple's servers simulated, for tests of programs that send.

It is found by its entry point, as plugins are, and imported by every run of pytest wherever txapns is installed. So it
is not in the package, which would import Twisted and TLS, and imports nothing before a fixture asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

__all__ = ["apns_device", "apns_simulator", "apns_simulator_options", "apns_simulator_process", "apns_topic"]

if TYPE_CHECKING:
    from txapns.simulator.control import SimulatedDevice
    from txapns.simulator.process import SimulatorProcess


@pytest.fixture(scope="session")
def apns_topic() -> str:
    """Your app's bundle ID. Define a fixture of this name, with the scope of a session, to have another one."""
    return "com.example.app"


@pytest.fixture(scope="session")
def apns_simulator_options() -> Sequence[str]:
    """Further options of ``txapns simulate``. Define a fixture of this name to have some, as for ``apns_topic``."""
    return ()


@pytest.fixture(scope="session")
def apns_simulator_process(apns_topic: str, apns_simulator_options: Sequence[str]) -> Iterator[SimulatorProcess]:
    """A simulator in a process of its own, for all tests; with pytest-xdist each worker has its own."""
    from txapns.simulator.process import SimulatorProcess

    with SimulatorProcess(apns_topic, apns_simulator_options) as simulator:
        yield simulator


@pytest.fixture
def apns_simulator(apns_simulator_process: SimulatorProcess) -> SimulatorProcess:
    """The simulator, which has forgotten what earlier tests sent, and how it was to answer."""
    apns_simulator_process.clear()
    return apns_simulator_process


@pytest.fixture
def apns_device(apns_simulator: SimulatorProcess) -> SimulatedDevice:
    """A device of the simulator, with a new token."""
    return apns_simulator.device()
