"""
Tests that what README.rst and docs say is so: every block of code in them is run.

A page that starts the simulator or the daemon (``txapns simulate``, ``txapns serve``) is played as its reader would:
in a directory of its own, each shell block by bash and each Python block by an interpreter. What they print is compared
with the ``text`` block that follows, in which ``…`` stands for anything. Only the ports are replaced, by free ones.

On every other page the Python blocks are fragments, run one after the other in one namespace, against the simulator in
memory. ``await`` stands in them as if in a coroutine, a comment ``# → value`` is compared with the value of its line,
and test cases are run.

``pip install`` and ``make`` are not run, but checked against the extras and targets there are.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import unittest
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from docutils import nodes
from docutils.core import publish_doctree
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT
from tests.command.processes import SimulatorProcess
from tests.connect_proxy import ConnectProxy
from tests.daemon.fakes import key_of
from tests.ports import reserve
from tests.postgresql import programs, started
from tests.processes import interruptible
from txapns import Gateway, errors, reasons
from txapns.daemon.faces.native import json_api as bodies
from txapns.daemon.values import State
from txapns.simulator import Authority
from txapns.testing import MemorySimulator

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "ChecksTests",
    "ExampleTests",
    "GatewayTests",
    "LoopbackPagesTests",
    "MemoryPagesTests",
    "PagesTests",
    "ReasonsTests",
]

PAGES = ["README.rst", *sorted(f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.rst"))]
LANGUAGES = {"python", "shell", "text"}
#: Others, on one page: the interop tests run its JavaScript, and nothing its Go.
OTHERS = {"docs/test-your-push-code.rst": {"javascript", "go"}}
PORTS = ("2195", "2196", "2197", "2198", "5000", "8080", "8081", "8090")  # 8081 is the one after 8080
#: What runs in a terminal of its own, and what it prints when it is ready.
SERVERS = {
    "txapns simulate": '"ready": true',
    "txapns serve --config": '"ready": true',
    "txapns serve --demo": "The daemon listens",
}
TIMEOUT = 120.0

#: Whom a PostgreSQL server lets in.
PASSWORDS = b"""
local all postgres trust
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""

ANN, BOB, DORA = "aa" * 32, "bb" * 32, "dd" * 32


@attrs.frozen
class Block:
    """
    A block of code on a page; one without a language, a drawing, is of no concern here.

    :ivar kind: ``before`` for a program that another library is needed for, which is not run here.
    """

    language: str
    text: str
    where: str
    kind: str = ""


@functools.cache
def parse(page: str) -> nodes.document:
    """Read a page; whatever docutils would warn about is an error."""
    settings = {"report_level": 2, "halt_level": 2, "syntax_highlight": "none", "file_insertion_enabled": False}
    path = PROJECT / page
    return publish_doctree(path.read_text(encoding="utf-8"), source_path=str(path), settings_overrides=settings)


def blocks(page: str) -> list[Block]:
    """Find the blocks of code on a page."""
    found = []
    for node in parse(page).findall(nodes.literal_block):
        classes = [name for name in node["classes"] if name != "code"]
        if "code" in node["classes"]:
            language, kind, *_ = [*classes, "", ""]
            found.append(Block(language, node.astext(), f"{page}, line {node.line}", kind))
    return found


def rows(page: str, width: int) -> list[list[str]]:
    """Find the rows of all tables on a page that have so many columns."""
    found = [[entry.astext() for entry in row.findall(nodes.entry)] for row in parse(page).findall(nodes.row)]
    return [row for row in found if len(row) == width]


def write_named(page: str, directory: Path, language: str) -> list[str]:
    """Write the blocks in a language to files in a new directory, each under its name; returns these."""
    directory.mkdir()
    names = []
    for node in parse(page).findall(nodes.literal_block):
        if language in node["classes"]:
            [name] = node["names"]
            (directory / name).write_text(node.astext(), encoding="utf-8")
            names.append(name)
    return names


# Commands that are not run.


def check_commands(shell: str) -> str:
    """
    Check ``pip install`` and ``make`` lines against the project.

    :returns: the other lines.
    """
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    left = []
    for line in shell.splitlines():
        words = line.partition("#")[0].split()
        if words[:1] == ["make"]:
            assert set(words[1:]) <= targets, f"no such target: {line}"
        elif words[:2] == ["pip", "install"]:
            match = re.fullmatch(r"'?\.(?:\[([a-z,]+)\])?'?", " ".join(words[2:]))
            assert match, f"what does this install? {line}"
            assert set((match[1] or "cli").split(",")) <= set(extras), f"no such extra: {line}"
        else:
            left.append(line)
    return "\n".join(left)


# Pages in memory.


def check_arrows(source: str) -> str:
    """Turn ``expression  # → value`` into a comparison."""
    compared = re.sub(r"^( *)(.+?)  # → (.+)$", r"\1_expect((\2), \3)", source, flags=re.MULTILINE)
    assert "→" not in compared, f"an arrow that says nothing:\n{compared}"
    return compared


def expect(value: object, expected: object) -> None:
    """Compare, and show both if they differ."""
    assert value == expected, f"{value!r} is not {expected!r}"


def run_fragment(block: Block, namespace: dict[str, Any], simulator: MemorySimulator) -> None:
    """Run a block in a namespace, letting the simulator's time pass while it awaits."""
    before = set(namespace)
    code = compile(check_arrows(block.text), block.where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, namespace)
    if inspect.iscoroutine(result):
        simulator.result(Deferred.fromCoroutine(result))
    for name in set(namespace) - before:
        if isinstance(namespace[name], type) and issubclass(namespace[name], unittest.TestCase):
            run_tests(namespace[name])


def run_tests(case: type[unittest.TestCase]) -> None:
    """Run the tests of a case that a page shows."""
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    if not suite.countTestCases():
        return  # one that was imported, to derive from
    result = unittest.TestResult()
    suite.run(result)
    assert result.wasSuccessful(), "\n".join(text for _, text in result.failures + result.errors)


def run_page(page: str, simulator: MemorySimulator, /, **given: Any) -> None:
    """Run the blocks of a page in one namespace, which has from the start what the page says is given."""
    namespace: dict[str, Any] = {"_expect": expect, "print": lambda *values: None, **given}
    for block in blocks(page):
        assert block.language == "python", f"{block.where}: only Python can be run in memory"
        if block.kind == "before":
            compile(block.text, block.where, "exec")
        else:
            run_fragment(block, namespace, simulator)
    for each in namespace.values():
        if isinstance(each, sqlite3.Connection):  # or some later test is blamed for it
            each.close()


# Pages on loopback.


def free_ports() -> dict[str, str]:
    """Find a free port for each that the pages name."""
    return dict(zip(PORTS, map(str, reserve(len(PORTS))), strict=True))


def matches(said: str, printed: str) -> bool:
    """Tell whether a program printed what the page says; ``…`` stands for anything within a line."""
    pattern = "[^\n]*".join(re.escape(part) for part in said.strip().split("…"))
    return re.fullmatch(pattern, printed.strip()) is not None


class Terminal:
    """
    A program that runs in a terminal of its own.

    :param command: the command line.
    :param ready: what is in the first line when it is ready.
    :param where: the directory and the environment.
    """

    def __init__(self, command: list[str], ready: str, **where: Any) -> None:
        # Unbuffered, since communicate() does not look into a buffer.
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0, preexec_fn=interruptible, **where
        )
        assert self._process.stdout is not None
        self._printed = self._process.stdout.readline().decode()
        if ready not in self._printed:
            self._process.kill()
            self._process.communicate()
            raise AssertionError(self._printed)

    def end(self) -> str:
        """Stop it; returns what it printed."""
        self._process.send_signal(signal.SIGTERM)
        try:
            rest, _ = self._process.communicate(timeout=TIMEOUT)
        finally:
            self._process.kill()  # it has ended long since, unless something is wrong
        assert self._process.returncode == 0, self._process.returncode
        return self._printed + rest.decode()


class Desk:
    """
    A reader's desk: a directory, a shell, and what runs in other terminals.

    :param directory: where to work.
    :param ports: what to replace other ports by than those of the simulator.
    :param environment: variables that the page says are set.
    """

    def __init__(
        self, directory: Path, ports: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        directory.mkdir(parents=True)
        self._ports = {**free_ports(), **(ports or {})}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._where: dict[str, Any] = {
            "cwd": directory,
            "env": {**os.environ, "PATH": path, "PYTHONPATH": str(PROJECT), **(environment or {})},
        }
        # The terminal of the simulator, and that of the daemon, with what the page says that is printed there.
        self._terminals: dict[str, tuple[Terminal, str]] = {}

    def localized(self, text: str) -> str:
        """Replace the ports."""
        for port, free in self._ports.items():
            text = re.sub(rf"\b{port}\b", free, text)
        return text

    def follow(self, block: Block, said: str) -> None:
        """Run a block, and compare what it prints with what the page says; of what goes on running, when it ends."""
        for server in SERVERS:
            first, begins, options = self.localized(block.text).rpartition(f"{server} ")
            if begins:
                assert not self.run(attrs.evolve(block, text=first)), f"{block.where}: the output of what?"
                self.start(server, options.split(), said)
                return
        printed = self.run(block)
        if said or printed:
            assert matches(self.localized(said), printed), f"{block.where} printed:\n{printed}"

    def run(self, block: Block) -> str:
        """Run a block of what ends by itself; returns what it printed."""
        if block.language == "python":
            return self._run([sys.executable, "-c", self.localized(block.text)])
        commands = check_commands(self.localized(block.text))
        return self._run(["bash", "-c", commands]) if commands.strip() else ""

    def _run(self, command: list[str]) -> str:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, **self._where)
        assert (finished.returncode, finished.stderr) == (0, ""), finished
        return finished.stdout

    def start(self, server: str, options: list[str], said: str = "") -> None:
        """Start what goes on running, and wait until it is ready; what ran in its terminal is stopped."""
        program, name, *given = server.split()
        if name in self._terminals:
            self.end(name)
        command = [sys.executable, "-m", program, name, *given, *options]
        self.begin(name, command, SERVERS[server], self.localized(said))

    def begin(self, name: str, command: list[str], ready: str, said: str = "") -> None:
        """Run a command in a terminal of its own."""
        self._terminals[name] = Terminal(command, ready, **self._where), said

    def end(self, name: str) -> str:
        """Stop what runs in a terminal, and compare what it printed; returns that."""
        terminal, said = self._terminals.pop(name)
        printed = terminal.end()
        assert not said or matches(said, printed), printed
        return printed

    def leave(self, failed: bool = False) -> None:
        """
        Stop all, the daemon before the simulator.

        :param failed: whether the page already has an error to show, which that of a program would hide.
        """
        with contextlib.suppress(Exception) if failed else contextlib.nullcontext(), ExitStack() as stack:
            for name in self._terminals:
                stack.callback(self.end, name)


@contextmanager
def serving_native(dead: str) -> Iterator[str]:
    """Have a process that serves the daemon's HTTP API, where one token is dead; gives the port."""
    command = [sys.executable, "-m", "tests.daemon.serve_native", "--dead", dead]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip().rpartition(":")[2]
            assert port, "it does not start"
            yield port
        finally:
            process.terminate()


def play(page: str, desk: Desk) -> None:
    """Do what a page says, in order, and compare what is printed with what it says is printed."""
    # Each command with the texts that follow it.
    steps: list[tuple[Block, list[str]]] = []
    for block in blocks(page):
        if block.language == "text":
            steps[-1][1].append(block.text)
        else:
            steps.append((block, []))
    try:
        for block, texts in steps:
            desk.follow(block, "\n".join(texts))
    except BaseException:
        desk.leave(failed=True)
        raise
    desk.leave()


def end_recorded(directory: Path) -> None:
    """End the processes that a page has started in the background and written down, if they still run."""
    for path in directory.glob("*.pid"):
        with contextlib.suppress(ProcessLookupError):  # trial takes the name suppress in a module for its own
            os.kill(int(path.read_text()), signal.SIGKILL)


class MemoryPagesTests(SynchronousTestCase):
    """The pages whose Python blocks are fragments."""

    def setUp(self) -> None:
        """Make the simulator that the pages talk to."""
        self.simulator = MemorySimulator(dead=[DORA])

    def test_sending(self) -> None:
        """docs/sending.rst is run against the simulator in memory."""

        async def fetch_page(page: int) -> list[tuple[str, str]]:
            return [(f"{page}", ANN)]

        self.simulator.reactor.servers[3128] = proxy = ConnectProxy(self.simulator.reactor)
        self.patch(os, "environ", {})
        run_page(
            "docs/sending.rst",
            self.simulator,
            reactor=self.simulator.reactor,
            gateway=self.simulator.gateway(),
            pem=self.simulator.authority.client_pem().decode(),
            fetch_page=fetch_page,
            token_of_ann=ANN,
            token_of_bob=BOB,
            token_of_dora=DORA,
        )
        self.assertEqual(len(proxy.requests), 1)

    def test_credentials(self) -> None:
        """docs/credentials.rst is run with credentials of the simulator's authority."""
        authority: Authority = self.simulator.authority
        run_page(
            "docs/credentials.rst",
            self.simulator,
            reactor=self.simulator.reactor,
            gateway=self.simulator.gateway(),
            pem=authority.client_pem(),
            encrypted_pem=authority.client_pem(passphrase=b"txapns"),
            sandbox_pem=authority.client_pem(environments=["sandbox"]),
            p12=authority.client_pkcs12(),
            p8=authority.p8,
            key_id=authority.key_id,
            team_id=authority.team_id,
        )

    def test_outcomes(self) -> None:
        """docs/outcomes.rst is run against the simulator in memory."""

        def cut_the_connection(server: Any, request: object, response: object) -> None:
            self.simulator.http2_fault = None
            server.abort()

        run_page(
            "docs/outcomes.rst",
            self.simulator,
            simulator=self.simulator,
            client=self.simulator.client(),
            cut_the_connection=cut_the_connection,
            token_of_ann=ANN,
        )

    def test_binary(self) -> None:
        """docs/binary.rst is run against the simulator in memory, and the protocol by itself does what it says."""
        printed: list[str] = []
        run_page(
            "docs/binary.rst",
            self.simulator,
            reactor=self.simulator.reactor,
            trust_root=self.simulator.authority.ca_pem,
            pem=self.simulator.authority.client_pem(),
            token_of_ann=ANN,
            token_of_bob=BOB,
            token_of_dora=DORA,
            print=lambda *values: printed.append(" ".join(map(str, values))),
        )
        self.simulator.advance(10)
        processed = "it can be sent again over another connection"
        expected = ["ann was accepted", "dora failed: InvalidToken"]
        expected.append(f"bob was not processed: the gateway did not process it; {processed}")
        self.assertEqual(printed, [*expected, "the connection ended: in good order"])

    def test_feedback(self) -> None:
        """docs/feedback.rst is run against the simulator in memory, where one removes the app after the other."""
        carol, eric = "cc" * 32, "ee" * 32
        since = datetime(2026, 11, 24, 9, 30, tzinfo=timezone.utc)
        next_to_leave = {DORA: [carol], carol: [eric], eric: [ANN, BOB]}
        deleted: list[str] = []

        class Database:
            """Whenever it deletes one, the next devices are found without the app."""

            def __init__(self, dead: dict[bytes, float]) -> None:
                self.dead = dead

            def delete(self, token: str, registered_before: datetime) -> None:
                deleted.append(token)
                self.dead.update(dict.fromkeys(map(bytes.fromhex, next_to_leave[token]), since.timestamp()))

            async def delete_soon(self, token: str, registered_before: datetime) -> None:
                self.delete(token, registered_before)

        self.simulator.inbox.dead = {bytes.fromhex(DORA): since.timestamp()}
        application = MultiService()
        application.startService()
        run_page(
            "docs/feedback.rst",
            self.simulator,
            reactor=self.simulator.reactor,
            trust_root=self.simulator.authority.ca_pem,
            pem=self.simulator.authority.client_pem(),
            application=application,
            database=Database(self.simulator.inbox.dead),
            datetime=datetime,
            timezone=timezone,
            token_of_ann=ANN,
            token_of_bob=BOB,
            token_of_dora=DORA,
        )
        self.assertEqual(deleted, [DORA, carol, eric])  # one for the list, the poller, the loop
        self.simulator.result(application.stopService())

    def test_channels(self) -> None:
        """docs/channels.rst is run against the simulator in memory."""
        run_page("docs/channels.rst", self.simulator, client=self.simulator.client(topic="com.example.app"))

    def test_devices(self) -> None:
        """docs/devices.rst is run; it needs no simulator."""
        run_page("docs/devices.rst", self.simulator)

    def test_testing(self) -> None:
        """docs/testing.rst is run as it stands: it makes its own simulators."""
        run_page("docs/testing.rst", self.simulator)


@pytest.mark.loopback
class LoopbackPagesTests(SynchronousTestCase):
    """The pages that a reader follows at a desk, with the simulator running in another terminal."""

    def test_readme(self) -> None:
        """README.rst can be followed, and everything prints what it says."""
        play("README.rst", Desk(Path(self.mktemp())))

    def test_command(self) -> None:
        """docs/command.rst can be followed, and everything prints what it says."""
        play("docs/command.rst", Desk(Path(self.mktemp())))

    def test_simulator(self) -> None:
        """docs/simulator.rst can be followed, and everything prints what it says."""
        play("docs/simulator.rst", Desk(Path(self.mktemp())))

    def test_doctor(self) -> None:
        """docs/doctor.rst can be followed, and everything prints what it says."""
        play("docs/doctor.rst", Desk(Path(self.mktemp())))

    def test_blocking(self) -> None:
        """docs/blocking.rst is run against the simulator in another process."""
        dead = Path(self.mktemp())
        dead.write_text(DORA)
        simulator = SimulatorProcess(self, "--dead", str(dead))
        trust_root = (simulator.state / "ca.pem").read_bytes()
        database = sqlite3.connect(":memory:")
        self.addCleanup(database.close)
        database.execute("CREATE TABLE device (name TEXT, token TEXT)")
        database.executemany("INSERT INTO device VALUES (?, ?)", [("ann", ANN), ("bob", BOB), ("dora", DORA)])
        run_page(
            "docs/blocking.rst",
            MemorySimulator(),
            gateway=Gateway.http2("localhost", simulator.ready["http2"], trust_root=trust_root),
            pem=(simulator.state / "client.pem").read_text(),
            database=database,
            token_of_ann=ANN,
            token_of_bob=BOB,
            token_of_dora=DORA,
        )
        _, counters = simulator.stop()
        self.assertEqual(counters["received"], 11)

    def test_asyncio(self) -> None:
        """docs/asyncio.rst is run against the simulator in another process."""
        dead = Path(self.mktemp())
        dead.write_text(DORA)
        simulator = SimulatorProcess(self, "--dead", str(dead))
        run_page(
            "docs/asyncio.rst",
            MemorySimulator(),
            gateway=Gateway.http2(
                "localhost", simulator.ready["http2"], trust_root=(simulator.state / "ca.pem").read_bytes()
            ),
            pem=(simulator.state / "client.pem").read_text(),
            token_of_ann=ANN,
            token_of_bob=BOB,
            token_of_dora=DORA,
        )

    @pytest.mark.campaign
    def test_daemon(self) -> None:
        """docs/daemon.rst can be followed, and everything prints what it says."""
        play("docs/daemon.rst", Desk(Path(self.mktemp())))

    @pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
    def test_matrix(self) -> None:
        """docs/matrix.rst can be followed, and everything prints what it says."""
        play("docs/matrix.rst", Desk(Path(self.mktemp())))

    @pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
    def test_daemon_http(self) -> None:
        """docs/daemon-http.rst can be followed, with one token that Apple says is dead."""
        with serving_native("dd44") as port:
            directory = Path(self.mktemp())
            desk = Desk(directory, {"8080": port}, {"KEY": key_of("all")})
            (directory / "AuthKey_ABC123DEFG.p8").write_bytes(Authority().p8)
            play("docs/daemon-http.rst", desk)

    def test_migrating(self) -> None:
        """docs/migrating.rst is run, against the simulator and a daemon's HTTP API in processes of their own."""
        dead = Path(self.mktemp())
        dead.write_text(DORA)
        simulator = SimulatorProcess(self, "--dead", str(dead))
        ready, state = simulator.ready, simulator.state
        forgotten: list[str] = []

        class Database:
            forget = staticmethod(forgotten.append)

        class Devices:
            """What Django would return."""

            def values_list(self, *columns: str) -> Any:
                return SimpleNamespace(iterator=lambda: iter([(7, ANN), (8, BOB), (9, DORA)]))

            def filter(self, pk__in: list[int]) -> Any:
                return SimpleNamespace(update=lambda active: forgotten.extend({9: DORA}[each] for each in pk__in))

        with serving_native(DORA) as port:
            run_page(
                "docs/migrating.rst",
                MemorySimulator(),
                gateway=Gateway.http2("localhost", ready["http2"], trust_root=(state / "ca.pem").read_bytes()),
                pem=(state / "client.pem").read_text(),
                p8=(state / "AuthKey.p8").read_bytes(),
                key_id=ready["key_id"],
                team_id=ready["team_id"],
                tokens=[ANN, BOB, DORA],
                token=DORA,
                database=Database,
                devices=Devices(),
                port=port,
                key=key_of("all"),
            )
        self.assertEqual(forgotten, [DORA] * 6)  # once for each of the libraries
        _, counters = simulator.stop()
        self.assertEqual(counters["received"], 3 + (1 + 3) + 3 + (1 + 3) + 3)

    @pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
    def test_daemon_faces(self) -> None:
        """docs/daemon-faces.rst can be followed, with the configuration that it shows."""
        page = "docs/daemon-faces.rst"
        [faces] = [node.astext() for node in parse(page).findall(nodes.literal_block) if "[intake." in node.astext()]
        command = [sys.executable, "-m", "tests.daemon.serve_faces"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(faces)
            process.stdin.close()
            try:
                told = json.loads(process.stdout.readline())
                ports = {"8443": told["ports"]["intake.apple"], "7077": told["ports"]["intake.pyapns"]}
                play(page, Desk(Path(self.mktemp()), ports, told["environment"]))
            finally:
                process.terminate()

    @pytest.mark.campaign
    @pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
    def test_cluster(self) -> None:
        """docs/cluster.rst can be followed, with a server that asks all but its administrator for a password."""
        server = started(self, {"pg_hba.conf": PASSWORDS}, autovacuum="on")
        directory = Path(self.mktemp())
        ports = dict(zip(("5432", "8091"), (str(server.port), *map(str, reserve())), strict=True))
        path = os.pathsep.join([str(Path(sys.executable).parent), str(programs()), os.environ["PATH"]])
        self.addCleanup(end_recorded, directory)
        play("docs/cluster.rst", Desk(directory, ports, {"PATH": path}))

    def test_push_code(self) -> None:
        """The tests in Python on docs/test-your-push-code.rst pass, each in the file that the page says."""
        directory = Path(self.mktemp())
        names = write_named("docs/test-your-push-code.rst", directory, "python")
        self.assertEqual(names, ["invitations.py", "test_invitations.py", "test_cases.py"])
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis"]
        done = subprocess.run(
            [*command, "-W", "error", "--basetemp", "scratch"],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)

    def test_many_apps(self) -> None:
        """examples/many_apps.py sends twice for each of its apps, over one connection for each."""
        desk = Desk(Path(self.mktemp()))
        desk.start("txapns simulate", ["--state", "simulator"])
        try:
            printed = desk.run(
                Block("python", (PROJECT / "examples/many_apps.py").read_text(), "examples/many_apps.py")
            )
        finally:
            counters = desk.end("simulate")
        accepted = "Batch(accepted=2, failed=0, unsent=0, uncertain=0)"
        self.assertEqual(printed.splitlines(), [f"chess {accepted}", f"news {accepted}"] * 2)
        self.assertIn('"received": 8, "accepted": 8, "rejected": {}, "connections": 2', counters)


class PagesTests(SynchronousTestCase):
    """What holds for all pages."""

    def test_every_page_with_code_is_run(self) -> None:
        """A new page with blocks of code needs a test that runs it."""
        tests = "".join(map(inspect.getsource, (MemoryPagesTests, LoopbackPagesTests, ExampleTests)))
        for page in PAGES:
            if blocks(page):
                self.assertIn(f'"{page}"', tests)

    def test_languages(self) -> None:
        """A block in any other language would not be run."""
        for page in PAGES:
            for block in blocks(page):
                self.assertIn(block.language, LANGUAGES | OTHERS.get(page, set()), block.where)

    def test_links(self) -> None:
        """Links to files lead to files that are there."""
        for page in PAGES:
            for reference in parse(page).findall(nodes.reference):
                target = reference.get("refuri", "")
                if target and not re.match(r"https?:", target):
                    self.assertTrue((PROJECT / page).parent.joinpath(target).exists(), f"{page}: {target}")

    def test_index(self) -> None:
        """docs/index.rst leads to all other pages."""
        found = {reference.get("refuri") for reference in parse("docs/index.rst").findall(nodes.reference)}
        pages = {Path(page).name for page in PAGES if page.startswith("docs/")}
        self.assertEqual(found, (pages - {"index.rst"}) | {"../README.rst"})

    def test_names(self) -> None:
        """What is called by its full name exists."""
        for page in PAGES:
            for literal in parse(page).findall(nodes.literal):
                match = re.match(r"txapns(\.\w+)+", literal.astext())
                if match:
                    namedAny(match[0])

    def test_examples(self) -> None:
        """The files in examples that the pages speak of are there."""
        for page in PAGES:
            for literal in parse(page).findall(nodes.literal):
                if literal.astext().startswith("examples/"):
                    self.assertTrue((PROJECT / literal.astext()).exists(), literal.astext())

    def test_public_errors(self) -> None:
        """The exceptions that docs/credentials.rst explains are all there are for credentials."""
        explained = {row[0] for row in rows("docs/credentials.rst", 3)} - {"Exception", "Error"}
        credential = {name for name in errors.__all__ if _is_credential_error(getattr(errors, name))}
        self.assertEqual(explained, credential | {"CredentialRefused", "PeerNotVerified"})


def _is_credential_error(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, errors.CredentialError)


class ExampleTests(SynchronousTestCase):
    """The programs in examples."""

    def test_readme_has_the_text_of_the_example(self) -> None:
        """The program in README.rst and examples/send_batch.py are the same."""
        program, *_ = [block.text for block in blocks("README.rst") if block.language == "python"]
        self.assertEqual(program, (PROJECT / "examples/send_batch.py").read_text().rstrip())

    def test_pages_of_frameworks(self) -> None:
        """What these pages show are the examples that tests/interop/test_framework_examples.py runs."""
        shown = {
            "docs/fastapi.rst": "examples/fastapi_push.py",
            "docs/flask.rst": "examples/flask_push.py",
            "docs/django-celery.rst": "examples/django_celery/tasks.py",
        }
        for page, example in shown.items():
            [program] = [block.text for block in blocks(page) if block.language == "python"]
            self.assertEqual(program, (PROJECT / example).read_text().rstrip())


class ReasonsTests(SynchronousTestCase):
    """The tables of docs/outcomes.rst against :mod:`txapns.reasons`."""

    def test_actions(self) -> None:
        """All actions are explained, in their order."""
        explained = [row[0] for row in rows("docs/outcomes.rst", 2)]
        self.assertEqual(explained, ["Action", *(action.name for action in reasons.Action)])

    def test_reasons(self) -> None:
        """The table of reasons says what the module says."""
        found = [row for row in rows("docs/outcomes.rst", 3) if row[0] != "Reason"]
        self.assertEqual(found, [[str(reason), reason.action.name, reason.text] for reason in reasons.Reason])

    def test_statuses(self) -> None:
        """The table of status bytes says what the module says."""
        found = [row for row in rows("docs/outcomes.rst", 4) if row[0].isdigit()]
        expected = [[str(s.value), reasons.status_name(s), s.action.name, s.text] for s in reasons.Status]
        self.assertEqual(found, expected)


class GatewayTests(SynchronousTestCase):
    """The tables of docs/daemon-http.rst against the native face."""

    def test_codes(self) -> None:
        """Every code is explained, with its status."""
        found = {(row[1], int(row[0])) for row in rows("docs/daemon-http.rst", 3) if row[0].isdigit()}
        self.assertEqual(found, set(bodies.CODES))

    def test_states(self) -> None:
        """Every state is explained."""
        found = [row[0] for row in rows("docs/daemon-http.rst", 2) if row[0] != "State"]
        self.assertEqual(found, [state.name.lower() for state in State])


class ChecksTests(SynchronousTestCase):
    """A wrong block is found."""

    def check(self, source: str) -> None:
        """Run a block as on a page in memory."""
        run_fragment(Block("python", source, "here"), {"_expect": expect}, MemorySimulator())

    def test_wrong_value(self) -> None:
        """A value that is not what the comment says."""
        self.check("1 + 1  # → 2")
        self.assertRaises(AssertionError, self.check, "1 + 1  # → 3")

    def test_exception(self) -> None:
        """An exception, also of what is awaited."""
        self.assertRaises(NameError, self.check, "unknown")
        failing = "from twisted.internet.defer import fail\nawait fail(KeyError('lost'))"
        self.assertRaises(KeyError, self.check, failing)

    def test_failing_test(self) -> None:
        """A test case on a page that does not pass."""
        case = "import unittest\nclass Some(unittest.TestCase):\n    def test_some(self): assert {}"
        self.check(case.format(True))
        self.assertRaises(AssertionError, self.check, case.format(False))

    def test_printed(self) -> None:
        """Output that differs, but for what the page leaves out."""
        self.assertTrue(matches("2 accepted in … s", "2 accepted in 0.1 s\n"))
        self.assertFalse(matches("2 accepted in … s", "3 accepted in 0.1 s\n"))
        self.assertFalse(matches("", "Traceback"))

    def test_commands(self) -> None:
        """Targets and extras that are not there."""
        self.assertEqual(check_commands("make test  # all of them\npip install '.[cli]'\necho"), "echo")
        for wrong in ("make love", "pip install '.[fancy]'", "pip install txapsn"):
            self.assertRaises(AssertionError, check_commands, wrong)

    def test_shell(self) -> None:
        """Commands that fail, or complain."""
        desk = Desk(Path(self.mktemp()))
        self.assertEqual(desk.run(Block("shell", "echo well", "here")), "well\n")
        for wrong in ("false", "no-such-command; true"):
            self.assertRaises(AssertionError, desk.run, Block("shell", wrong, "here"))

    def test_leaving(self) -> None:
        """A program that fails is told of, but not where it would hide the error of a page that has one."""
        desk = Desk(Path(self.mktemp()))
        failing = ["sh", "-c", "echo ready; exit 3"]
        desk.begin("first", failing, "ready")
        self.assertRaises(AssertionError, desk.leave)
        desk.begin("second", failing, "ready")
        desk.leave(failed=True)
