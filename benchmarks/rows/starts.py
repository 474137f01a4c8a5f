"""What a program waits for before it does anything, and what an idle client keeps in memory."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping

from http2 import HERE
from rounds import Experiment, Goal, Sample, Settings

from rows import needs

__all__ = ["EXPERIMENTS"]

#: How often a program is started in a round.
STARTS = 5
_NO_REACTOR = "; import sys; assert 'twisted.internet.reactor' not in sys.modules"
_COMMANDS = {
    "help": [sys.executable, "-m", "txapns", "--help"],
    "import": [sys.executable, "-c", "import txapns" + _NO_REACTOR],
    "client": [sys.executable, "-c", "from txapns import APNSClient" + _NO_REACTOR],
    "python": [sys.executable, "-c", "pass"],
}


def cpu_time(command: list[str], environment: Mapping[str, str]) -> float:
    """Return the CPU time of a command in ms."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


def starts(settings: Settings) -> Iterator[Mapping[str, Sample]]:
    """Measure the CPU time of programs that only start. Bytecode is there already, as where a package is installed."""
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": directory}
        for command in _COMMANDS.values():
            cpu_time(command, environment)
        for _ in range(settings.rounds):
            turns = [
                {name: cpu_time(command, environment) for name, command in _COMMANDS.items()}
                for _ in range(settings.count(STARTS))
            ]
            found = {name: statistics.median(turn[name] for turn in turns) for name in _COMMANDS}
            bare = {"Python alone, ms": found["python"]}
            yield {
                "help": Sample(found["help"], bare),
                "import": Sample(found["import"], {"with APNSClient and Twisted, ms": found["client"], **bare}),
            }


def memory(settings: Settings) -> Iterator[Mapping[str, Sample]]:
    """Measure the memory of clients that trust the platform's authorities."""
    command = [sys.executable, str(HERE / "peers/idle_clients.py"), str(settings.count(300, 30))]
    for _ in range(settings.rounds):
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        yield {"idle": Sample(float(printed))}


EXPERIMENTS = (
    Experiment(
        (
            Goal("help", "txapns --help: CPU time", 150, "ms"),
            Goal("import", "import txapns, without the reactor: CPU time", 200, "ms"),
        ),
        starts,
    ),
    Experiment(
        (Goal("idle", "300 idle clients that trust the platform's authorities: memory of each", 60, "KB"),),
        memory,
        (needs.proc,),
    ),
)
