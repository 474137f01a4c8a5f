"""Tests for :mod:`txapns.command.streams`: commands whose standard streams are closed, or cannot be read or written."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.checks import invoke
from tests.processes import started
from txapns.command import streams
from txapns.simulator import Authority

__all__ = ["InputTests", "OutputTests"]

TXAPNS = f"{sys.executable} -m txapns"
#: Sends to a port at which nothing listens.
SEND = f"{TXAPNS} send --gateway http2:host=localhost:port=1 --timeout 0.2 --certificate a.pem --alert Hi --tokens"


class StreamsCase(SynchronousTestCase):
    """A directory with a certificate, a configuration and some tokens."""

    def setUp(self) -> None:
        """Write the files."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)
        for name, content in (
            ("a.pem", Authority().client_pem()),
            ("apns.toml", b"intake.native.listen = 'tcp:port=0:interface=127.0.0.1'\nadmin.listen = []\n"),
            ("tokens", b"aa\n"),
            ("many", b"zz\n" * 20_000),
            ("binary", bytes(range(256)) * 10),
        ):
            (self.directory / name).touch(0o600)
            (self.directory / name).write_bytes(content)

    def shell(self, command: str) -> tuple[int, str, str]:
        """Run a command in a shell; returns its exit status, standard output and standard error."""
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command}"],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertNotIn("Traceback", done.stderr)
        self.assertNotIn("Exception ignored", done.stderr)
        return done.returncode, done.stdout, done.stderr


@pytest.mark.loopback
class InputTests(StreamsCase):
    """Input."""

    def test_closed(self) -> None:
        """If a command needs standard input, and that is closed, it says so, with status 2."""
        for command in (
            f"{SEND} -",
            f"{TXAPNS} apps add a --certificate -",
            f"{TXAPNS} apps rotate a --key - --key-id K --team-id T",
            f"{TXAPNS} apps add a --certificate a.pem --passphrase-file -",
            f"{TXAPNS} queue list a --url http://localhost:1 --key-file -",
        ):
            status, _, said = self.shell(f"{command} <&-")
            self.assertEqual(status, 2, command)
            self.assertIn("standard input is closed", said)

    def test_twice(self) -> None:
        """Standard input is read only once."""
        tokens, pem = self.directory / "tokens", (self.directory / "a.pem").read_bytes()
        for command in (
            "send --certificate - --alert Hi --tokens -",
            f"send --key - --key-id K --team-id T --payload - --tokens {tokens}",
            "apps add a --certificate - --passphrase-file -",
            "queue list a --url http://localhost:1 --key-file - --trust-root -",
        ):
            result = invoke(*command.split(), input=pem, env={"TXAPNS_CONFIG": str(self.directory / "apns.toml")})
            self.assertEqual(result.exit_code, 2, command)
            self.assertIn("Standard input can be read only once.", result.stderr)

    def test_not_needed(self) -> None:
        """If it does not need standard input, it does not matter."""
        status, said, _ = self.shell(f"{SEND} tokens <&-")
        self.assertEqual(status, 3)
        self.assertIn("1 unsent", said)

    def test_unreadable(self) -> None:
        """A file that cannot be opened is named, with status 2; one that cannot be read, with the outcome so far."""
        for source, expected, words in (
            (".", 2, "'.': Is a directory"),
            ("none", 2, "'none': No such file"),
            ("- 0>/dev/null", 1, "the tokens after line 0 could not be read: [Errno 9]"),
        ):
            status, _, complaint = self.shell(f"{SEND} {source}")
            self.assertEqual(status, expected)
            self.assertIn(words, complaint)

    def test_endless(self) -> None:
        """A file that never ends is read up to a limit."""
        self.patch(streams, "MOST", 1_048_576)
        sending = "send", "--dry-run", "--tokens", self.directory / "tokens", "--payload"
        for command in (["lint"], ["inspect"], sending):
            result = invoke(*command, "/dev/zero")
            self.assertEqual(result.exit_code, 2, result.output)
            self.assertIn("/dev/zero: this is longer than 1 MiB, so it is not what it should be", result.output)

    def test_binary(self) -> None:
        """A file that is not text contains no tokens, which is reported for each line."""
        status, said, _ = self.shell(f"{SEND} binary")
        self.assertNotEqual(status, 0)
        self.assertIn("unsent, InvalidToken", said)
        self.assertIn("0 accepted", said)


@pytest.mark.loopback
class OutputTests(StreamsCase):
    """Output."""

    def test_closed(self) -> None:
        """Closed streams are not written to; the exit status is the same."""
        for closed in (">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"):
            self.assertEqual(self.shell(f"{SEND} tokens {closed}")[0], 3, closed)

    def test_reader_gone(self) -> None:
        """The reader of the output may leave early; nothing is reported."""
        status, said, complaint = self.shell(f"{SEND} many --json | head -n 1")
        self.assertEqual((status, said.count("\n"), complaint), (1, 1, ""))
        status, _, complaint = self.shell(f"{TXAPNS} apps list --json | true")
        self.assertIn(status, (0, 1))
        self.assertEqual(complaint, "")

    def test_full(self) -> None:
        """A command whose output cannot be written says so on standard error, whatever it writes."""
        key = "txapns_[0-9a-f]{8}_[0-9a-f]{64}\n"
        self.assertRegex(self.shell(f"{TXAPNS} keys add web --all-apps")[1], f"^{key}$")
        for command in (
            f"{SEND} tokens",
            f"{TXAPNS} --help",
            f"{TXAPNS} send --help",
            f"{TXAPNS} keys list",
            f"{TXAPNS} keys list --json",
            f"{TXAPNS} check-config",
        ):
            status, _, complaint = self.shell(f"{command} >/dev/full")
            self.assertEqual(status, 1)
            self.assertEqual(complaint, "Error: standard output cannot be written to: No space left on device\n")

    @pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="what another process listens to is asked of Linux")
    def test_daemon(self) -> None:
        """A daemon runs without any of the streams, and ends normally."""
        for closed in ("<&- >&- 2>&-", ">/dev/full 2>/dev/full"):
            process = started(self, ["bash", "-c", f"exec {TXAPNS} serve {closed}"], cwd=self.directory)
            end = time.monotonic() + 120
            while not self.listens(process.pid):
                self.assertLess(time.monotonic(), end)
                time.sleep(0.05)
            process.terminate()
            self.assertEqual(process.wait(120), 0)

    def listens(self, pid: int) -> bool:
        """Whether a process has a listening socket."""
        try:
            sockets = {path.readlink().name for path in Path(f"/proc/{pid}/fd").iterdir()}
        except OSError:
            return False
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return any(f"socket:[{row[9]}]" in sockets for row in rows if row[3] == "0A")
