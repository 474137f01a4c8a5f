"""
What holds for all tests.

Each runs in a directory of its own, as trial has it, so that ``mktemp`` leaves nothing in the checkout. And what a
module of tests leaves behind, a process, a socket or a temporary file, is an error of its last test. Where there is no
``/proc``, only temporary files are looked for. What runs PostgreSQL for all tests of the process may stay.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import postgresql

__all__: list[str] = []

# How long an example takes says how busy the machine is.
settings.register_profile("txapns", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("txapns")

# Where Python may not write bytecode, each process that a test starts would compile all modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_DESCRIPTORS = Path("/proc/self/fd")
_TASKS = Path("/proc/self/task")


def pytest_collection_finish() -> None:
    """Have the garbage collector ignore what was imported."""
    _settle()


def _settle() -> None:
    """Collect garbage, and have later collections ignore what is left: looking through it takes them 0.2 s each."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def _nothing_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    tmp_path_factory.getbasetemp()  # made before temporary files go elsewhere
    before = _sockets()
    # Not pytest's own directory: its path is too long for a UNIX socket.
    with tempfile.TemporaryDirectory(prefix="tests-") as scratch, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", scratch)
        patch.setattr(tempfile, "tempdir", None)
        yield
        _settle()
        left = [f"process {each}" for each in _children()]
        left += [f"socket {each}" for each in sorted(_sockets() - before)]
        left += [f"temporary file {each.relative_to(scratch)}" for each in Path(scratch).rglob("*")]
    assert not left, f"left behind: {left}"


def _children() -> list[str]:
    """Tell the command lines of the processes that this one started and that still run."""
    numbers = [number for task in _TASKS.glob("*/children") for number in task.read_text().split()]
    lines = []
    for number in set(numbers) - set(map(str, postgresql.processes())):
        try:
            line = Path("/proc", number, "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        lines.append(line.replace(b"\0", b" ").decode("utf-8", "replace")[:200] or f"{number}, ended but not awaited")
    return lines


def _sockets() -> set[str]:
    """Tell which sockets are open, by their inodes; pairs within the process, as the reactor's waker, are not told."""
    if not _DESCRIPTORS.is_dir():
        return set()
    found = set()
    for descriptor in _DESCRIPTORS.iterdir():
        try:
            target = os.readlink(descriptor)  # noqa: PTH115 - a text that is no path
        except OSError:  # the one by which the directory was read
            continue
        if target.startswith("socket:"):
            found.add(target.removeprefix("socket:").strip("[]"))
    return found & _bound()


def _bound() -> set[str]:
    """Tell the inodes of sockets with an address: those of TCP, and those of UNIX that have a path."""
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        path = Path("/proc/self/net", table)
        rows = path.read_text().splitlines()[1:] if path.exists() else []
        found.update(row.split()[9] for row in rows)
    rows = Path("/proc/self/net/unix").read_text().splitlines()[1:]
    found.update(row.split()[6] for row in rows if len(row.split()) > 7)
    return found
