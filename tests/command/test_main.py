"""Tests for :mod:`txapns.command.main`: the command itself, in processes of its own."""

from __future__ import annotations

import codecs
import json
import os
import pty
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from tests import PROJECT
from tests.checks import invoke
from tests.ports import reserve
from tests.processes import started
from txapns import Accepted, APNSClient, Certificate, Gateway, Notification, __version__
from txapns.command import main as cli
from txapns.simulator import Authority

__all__ = [
    "ChannelsTests",
    "FaultTests",
    "LinesTests",
    "MissingTests",
    "SendTests",
    "SimulateTests",
    "TerminalTests",
    "UsageTests",
]

TXAPNS = (sys.executable, "-m", "txapns")
#: The longest that a command may take, in seconds.
TIMEOUT = 60

ANN, BOB, DEAD, SHORT = "aa" * 32, "bb" * 32, "dd" * 32, "cc" * 20


def environment(**more: str) -> dict[str, str]:
    """What commands find around them: this checkout, and no terminal's features."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "TXAPNS_PASSPHRASE")}
    return {**inherited, "PYTHONPATH": str(PROJECT), **more}


def txapns(*arguments: str | Path, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [*TXAPNS, *map(str, arguments)]
    return subprocess.run(
        command, input=stdin, env=environment(**more), capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


def refused(*arguments: str | Path) -> str:
    """Run the command in this process, where it is refused before it starts the reactor; gives what it says."""
    result = invoke(*arguments, env={"TXAPNS_PASSPHRASE": None})
    assert result.exit_code == cli.UNUSABLE, result.output
    return result.output


class SimulatorProcess:
    """``txapns simulate``, listening."""

    def __init__(self, case: TestCase, *arguments: str) -> None:
        self.state = state = Path(case.mktemp())
        command = [*TXAPNS, "simulate", "--state", str(state), *arguments]
        self._process = started(case, command, stdout=subprocess.PIPE, text=True, env=environment())
        assert self._process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self._process.stdout.readline())

    def stop(self, by: signal.Signals = signal.SIGTERM) -> tuple[int, dict[str, Any]]:
        """End it; gives exit status and counters."""
        self._process.send_signal(by)
        output, _ = self._process.communicate(timeout=TIMEOUT)
        return self._process.returncode, json.loads(output)


@pytest.mark.loopback
class SimulateTests(SynchronousTestCase):
    """``txapns simulate``."""

    def test_ready(self) -> None:
        """Its first line is the content of the state directory's description, which is complete by then."""
        simulator = SimulatorProcess(self)
        description = json.loads((simulator.state / "simulator.json").read_text())
        simulator.stop()
        self.assertEqual(simulator.ready, {"ready": True, **description})

    def test_state_is_private(self) -> None:
        """Directory and files are their owner's alone, whatever the umask."""
        simulator = SimulatorProcess(self)
        simulator.stop()
        modes = {path.stat().st_mode & 0o777 for path in simulator.state.iterdir()}
        self.assertEqual((simulator.state.stat().st_mode & 0o777, modes), (0o700, {0o600}))

    def test_signals(self) -> None:
        """Either signal ends it in good order, with its counters as the last line."""
        for by in (signal.SIGTERM, signal.SIGINT):
            status, counters = SimulatorProcess(self).stop(by)
            self.assertEqual(status, 0)
            self.assertEqual(counters, {"received": 0, "accepted": 0, "rejected": {}, "connections": 0})

    def test_taken_port(self) -> None:
        """A port that is taken is told in a sentence."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = txapns("simulate", "--state", self.mktemp(), "--http2", str(port))
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertRegex(result.stderr, rf"^Error: .*{port}.*in use.*\n$")

    def test_bad_dead(self) -> None:
        """A file of dead tokens with something else in it is refused with the number of the line."""
        dead = Path(self.mktemp())
        dead.write_text(f"{ANN}\nsecret\n")
        result = txapns("simulate", "--state", self.mktemp(), "--dead", dead)
        self.assertEqual(result.returncode, 2)
        self.assertIn("line 2 is not a hexadecimal token", result.stderr)
        self.assertNotIn("secret", result.stderr)


@pytest.mark.loopback
class ChannelsTests(TestCase):
    """``txapns simulate --channels``."""

    timeout = TIMEOUT

    async def test_channels(self) -> None:
        """A channel is made at the port that was asked for, and broadcast to at the other."""
        [port] = reserve()
        simulator = SimulatorProcess(self, "--channels", str(port))
        self.assertEqual(simulator.ready["channels"], port)
        trust_root = (simulator.state / "ca.pem").read_bytes()
        gateway = Gateway.http2("localhost", simulator.ready["http2"], trust_root=trust_root, management_port=port)
        client = APNSClient(reactor, Certificate.from_file(simulator.state / "client.pem"), gateway)
        update = Notification.live_activity_update(simulator.ready["topic"], {"score": 1})
        try:
            channel = await client.channels.create()
            self.assertIsInstance(await client.broadcast(update, channel.channel_id), Accepted)
            self.assertEqual(await client.channels.list(), [channel.channel_id])
        finally:
            await client.close()
            status, counters = simulator.stop()
        self.assertEqual((status, counters["accepted"], counters["connections"]), (0, 1, 2))


@pytest.mark.loopback
class FaultTests(SynchronousTestCase):
    """``txapns simulate --fault``, for a peer made of the standard library: what only shows on real sockets."""

    def connect(self, fault: str) -> ssl.SSLSocket:
        """Connect to a simulator with this fault, and send a notification for a dead token."""
        dead = Path(self.mktemp())
        dead.write_text(DEAD)
        simulator = SimulatorProcess(self, "--dead", str(dead), "--fault", fault)
        self.addCleanup(simulator.stop)
        context = ssl.create_default_context(cafile=simulator.state / "ca.pem")
        context.load_cert_chain(simulator.state / "client.pem")
        connection = socket.create_connection(("127.0.0.1", simulator.ready["binary"]), TIMEOUT)
        peer = context.wrap_socket(connection, server_hostname="localhost")
        self.addCleanup(peer.close)
        self.notification = struct.pack(">BIIH32sH2s", 1, 7, 0, 32, bytes.fromhex(DEAD), 2, b"{}")
        peer.sendall(self.notification)
        return peer

    def read_below(self, peer: ssl.SSLSocket) -> None:
        """Read what comes below TLS, to its end."""
        with socket.socket(fileno=os.dup(peer.fileno())) as connection:
            connection.settimeout(TIMEOUT)
            while connection.recv(65_536):
                pass

    def test_reset(self) -> None:
        """The error packet arrives, and then the reset."""
        peer = self.connect("reset")
        self.assertEqual(peer.recv(7), b"\x08\x08\x00\x00\x00\x07")
        self.assertRaises(ConnectionResetError, self.read_below, peer)

    def test_vanish(self) -> None:
        """Nothing arrives but TLS session tickets, and then the reset."""
        self.assertRaises(ConnectionResetError, self.read_below, self.connect("vanish"))

    def test_half_close(self) -> None:
        """The end arrives, of TLS and of TCP, and what is written is taken all the same."""
        peer = self.connect("half-close")
        self.assertEqual(peer.recv(1), b"")
        self.read_below(peer)
        peer.sendall(self.notification * 200_000)  # more than all buffers hold

    def test_stall(self) -> None:
        """Nothing arrives, and in the end nothing more can be written."""
        peer = self.connect("stall")
        peer.settimeout(0.5)
        self.assertRaises(TimeoutError, peer.sendall, self.notification * 200_000)
        self.assertRaises(TimeoutError, peer.recv, 1)


class _WithSimulator(SynchronousTestCase):
    """Tests with a simulator, for which :data:`DEAD` is dead."""

    def setUp(self) -> None:
        """Start it."""
        self.simulator = SimulatorProcess(self, "--dead", self.file(DEAD))
        self.addCleanup(self.simulator.stop)

    def file(self, content: str) -> str:
        """Write a file."""
        path = Path(self.mktemp())
        path.write_text(content)
        return str(path)

    def gateway(self, protocol: str) -> tuple[str, ...]:
        """The options that name the simulator, as whom its authority vouches for."""
        where = f"{protocol}:host=127.0.0.1:port={self.simulator.ready[protocol]}"
        return "--gateway", where, "--trust-root", str(self.simulator.state / "ca.pem")

    def http2(self) -> tuple[str, ...]:
        """The options for the provider API, with a provider token."""
        ready = self.simulator.ready
        key = "--key", str(self.simulator.state / "AuthKey.p8"), "--key-id", ready["key_id"]
        return *self.gateway("http2"), *key, "--team-id", ready["team_id"], "--topic", ready["topic"]

    def binary(self) -> tuple[str, ...]:
        """The options for the binary protocol, with a certificate."""
        return *self.gateway("binary"), "--certificate", str(self.simulator.state / "client.pem"), "--barrier"


@pytest.mark.loopback
class SendTests(_WithSimulator):
    """``txapns send``, to pipes."""

    def send(self, *options: str | Path, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        """Send "Hello"."""
        return txapns("send", *options, "--alert", "Hello", stdin=stdin, **more)

    def assert_refused(self, result: subprocess.CompletedProcess[str], status: int, *sentences: str) -> None:
        """It exited with this status, and said so in words instead of a traceback."""
        self.assertEqual(result.returncode, status, result)
        for sentence in sentences:
            self.assertIn(sentence, result.stdout + result.stderr)
        self.assertNotIn("Traceback", result.stderr)

    def test_all_accepted(self) -> None:
        """Where all is well there is nothing but the summary, over either protocol."""
        for options in (self.http2(), self.binary()):
            result = self.send(*options, "--tokens", self.file(f"{ANN}\n{BOB}\n"))
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertRegex(result.stdout, r"^2 accepted, 0 failed, 0 unsent, 0 uncertain in [\d.]+ s, \d+/s\n$")

    def test_no_tokens(self) -> None:
        """A file without tokens is a batch of none, and none failed."""
        result = self.send(*self.http2(), "--tokens", self.file("# nobody yet\n"))
        self.assertEqual((result.returncode, result.stdout[:10]), (0, "0 accepted"))

    def test_failures(self) -> None:
        """Each failure is a line: the number of its line in the file, the token shortened, why, and what to do."""
        tokens = self.file(f"# customers\n\n{ANN}\n  {DEAD}\r\n{SHORT}\nnot a token\n{BOB}")
        for options, dead, short in (
            (self.http2(), "Unregistered", "BadDeviceToken"),
            (self.binary(), "InvalidToken", "InvalidTokenSize"),
        ):
            result = self.send(*options, "--tokens", tokens)
            lines = result.stdout.splitlines()
            self.assertEqual((result.returncode, result.stderr, len(lines)), (1, "", 4), result)
            self.assertRegex(lines[0], rf"^line 4, token dddd…dddd: failed, {dead}\. .*delete")
            self.assertRegex(lines[1], rf"^line 5, token cccc…cccc: failed, {short}\. The device token ")
            self.assertRegex(lines[2], r"^line 6, token …: unsent, InvalidToken\. .*11 characters")
            self.assertRegex(lines[3], r"^2 accepted, 2 failed, 1 unsent, 0 uncertain in ")
            self.assertNotIn(DEAD, result.stdout)

    def test_json(self) -> None:
        """With --json each failure is an object with all that is known, the token whole; the summary is the last."""
        tokens = self.file(f"{ANN}\n{DEAD}\nnot a token\n")
        result = self.send(*self.http2(), "--tokens", tokens, "--json")
        failed, unsent, summary = map(json.loads, result.stdout.splitlines())
        self.assertRegex(failed.pop("timestamp"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*\+00:00$")
        self.assertEqual(
            failed,
            {
                "identifier": 2,
                "token": DEAD,
                "outcome": "failed",
                "status": 410,
                "reason": "Unregistered",
                "error": None,
            },
        )
        self.assertRegex(unsent.pop("error"), "^InvalidToken: a device token of 11 characters")
        self.assertEqual(
            unsent,
            {
                "identifier": 3,
                "token": "not a token",
                "outcome": "unsent",
                "status": None,
                "reason": None,
                "timestamp": None,
            },
        )
        self.assertGreater(summary["summary"].pop("seconds"), 0)
        self.assertEqual(summary, {"summary": {"accepted": 1, "failed": 1, "unsent": 1, "uncertain": 0}})
        self.assertEqual(result.returncode, 1)

    def test_standard_input(self) -> None:
        """Tokens come from standard input, as JSON goes to standard output."""
        result = self.send(*self.http2(), "--tokens", "-", "--json", stdin=f"{ANN}\n{BOB}")
        self.assertEqual(json.loads(result.stdout)["summary"]["accepted"], 2)
        self.assertEqual(result.returncode, 0)

    def test_many(self) -> None:
        """Thousands of tokens come out under the numbers of their lines."""
        tokens = [f"{number:064x}" for number in range(1, 3_001)]
        tokens[1_999] = DEAD
        for options in (self.http2(), self.binary()):
            result = self.send(*options, "--tokens", self.file("\n".join(tokens)), "--json")
            failed, summary = map(json.loads, result.stdout.splitlines())
            self.assertEqual((failed["identifier"], summary["summary"]["accepted"]), (2_000, 2_999))

    def test_header_fields(self) -> None:
        """What the options say goes to the gateway as it is, and the gateway's word comes back."""
        for options, reason in (
            (("--push-type", "telepathy"), "InvalidPushType"),
            (("--priority", "7"), "BadPriority"),
            (("--collapse-id", "x" * 65), "BadCollapseId"),
            (("--topic", "?"), "BadTopic"),
        ):
            result = self.send(*self.http2(), "--tokens", self.file(ANN), *options)
            self.assert_refused(result, 1, f"failed, {reason}. ")

    def test_payload(self) -> None:
        """A payload is taken from a file, with whatever is in it."""
        for mark in "", "\ufeff":
            payload = self.file(mark + '{"aps": {"alert": "Hello", "of-tomorrow": 1}, "mine": [1]}')
            result = txapns(
                "send", *self.http2(), "--tokens", self.file(ANN), "--payload", payload, "--expiration", "60"
            )
            self.assertEqual(result.returncode, 0, result)

    def test_passphrase(self) -> None:
        """A passphrase comes from a file or from the environment, and never from the command line."""
        options = *self.gateway("binary"), "--certificate", self.simulator.state / "client.p12", "--barrier"
        tokens = "--tokens", self.file(ANN)
        by_file = self.send(*options, *tokens, "--passphrase-file", self.file("txapns\n"))
        marked = self.send(*options, *tokens, "--passphrase-file", self.file("\ufefftxapns\r\n"))
        by_environment = self.send(*options, *tokens, TXAPNS_PASSPHRASE="txapns")
        self.assertEqual((by_file.returncode, marked.returncode, by_environment.returncode), (0, 0, 0))
        wrong = self.send(*options, *tokens, TXAPNS_PASSPHRASE="sesame")
        self.assert_refused(wrong, 2, "Error: the passphrase does not open the PKCS#12 file")
        self.assertNotIn("sesame", wrong.stderr)

    def test_nothing_listens(self) -> None:
        """Where nothing listens, the exit status tells so, and each token is unsent."""
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            gateway = f"http2:host=127.0.0.1:port={silent.getsockname()[1]}"
            tokens = self.file(f"{ANN}\nnot a token\n{BOB}\n")
            result = self.send(*self.http2(), "--gateway", gateway, "--tokens", tokens, "--timeout", "1")
        self.assert_refused(result, 3, "line 1, ", "unsent, ConnectFailed. ", "nothing listens at 127.0.0.1")
        self.assertIn("0 accepted, 0 failed, 3 unsent, 0 uncertain", result.stdout)

    def test_proxy(self) -> None:
        """It goes through a proxy; one that cannot be reached is named, without the password, as is what is none."""
        command = sys.executable, PROJECT / "tests/connect_proxy.py"
        proxy = started(self, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert proxy.stdout is not None
        url = f"http://ali:sesame@localhost:{int(proxy.stdout.readline())}"
        to_ann = *self.http2(), "--tokens", self.file(ANN)
        self.assertEqual(self.send(*to_ann, "--proxy", url).returncode, 0)
        self.assertEqual(self.send(*to_ann, "--proxy", "environment", HTTPS_PROXY=url, NO_PROXY="").returncode, 0)
        proxy.kill()
        proxy.wait()
        result = self.send(*to_ann, "--proxy", url, "--timeout", "1")
        self.assert_refused(
            result, 3, "ConnectFailed", "the proxy http://localhost:", "is out of reach: nothing listens"
        )
        none = self.send(*to_ann, "--proxy", "socks5://ali:sesame@localhost")
        self.assert_refused(none, 2, "Error: the URL of a proxy is ")
        self.assertNotIn("sesame", result.stdout + result.stderr + none.stdout + none.stderr)

    def test_stranger(self) -> None:
        """A server whose authority is not trusted is not sent anything."""
        authority = Path(self.mktemp())
        authority.write_bytes(Authority().ca_pem)
        for options in (self.http2(), self.binary()):
            result = self.send(*options, "--trust-root", authority, "--tokens", self.file(ANN))
            self.assert_refused(result, 3, "unsent, PeerNotVerified. ")

    def test_refused_certificate(self) -> None:
        """A certificate that the gateway turns away is a credential that cannot be used; nothing is sent."""
        certificate = Path(self.mktemp())
        certificate.write_bytes(Authority().client_pem())
        for gateway in (self.gateway("http2"), self.gateway("binary")):
            options = *gateway, "--certificate", certificate, "--tokens", self.file(f"{ANN}\n{BOB}\n")
            result = self.send(*options)
            self.assert_refused(result, 2, "unsent, CredentialRefused. ", "0 accepted, 0 failed, 2 unsent, 0 uncertain")

    def test_refused_key(self) -> None:
        """A provider token is refused with the first notification, which has failed; no other is sent."""
        key = Path(self.mktemp())
        key.write_bytes(Authority().p8)
        options = *self.http2(), "--key", key
        result = self.send(*options, "--tokens", self.file(f"{ANN}\n{BOB}\n"))
        self.assert_refused(result, 2, "failed, InvalidProviderToken. ", "unsent, CredentialRefused. ")
        result = self.send(*options, "--tokens", self.file(ANN))
        self.assert_refused(result, 2, "failed, InvalidProviderToken. ", "0 accepted, 1 failed, 0 unsent")

    @unittest.skipUnless(Path("/proc/self/mem").exists(), "needs a file that opens and cannot be read")
    def test_unreadable(self) -> None:
        """Where the tokens cannot be read to the end, there is the outcome of those before, and the reason."""
        result = self.send(*self.http2(), "--tokens", "/proc/self/mem")
        self.assert_refused(result, 1, "0 accepted", "Error: the tokens after line 0 could not be read: [Errno 5]")

    def test_unusable(self) -> None:
        """What cannot be used is told before anything is sent."""
        send = "send", "--tokens", self.file(ANN), *self.http2()
        junk = self.file("junk")
        for options, sentence in (
            (("--gateway", "nowhere"), "'nowhere' is not a gateway"),
            (("--key", junk), "Error: the text holds no PEM"),
            (("--team-id", "no team"), "Error: team_id"),
            (("--barrier",), "--barrier is for a gateway of the binary protocol"),
            (("--topic", "a\nb"), "Error: topic has a control character"),
        ):
            self.assertIn(sentence, refused(*send, "--alert", "Hello", *options))
        self.assertIn("Error: ", refused(*send, "--payload", self.file("{]")))
        certificate = "--certificate", junk
        said = refused("send", "--tokens", junk, *self.gateway("http2"), *certificate, "--alert", "Hello")
        self.assertIn("Error: the text holds no PEM, and is not DER, PKCS#12", said)

    def test_unusable_by_gateway(self) -> None:
        """What cannot be used with this gateway is told before it is connected to."""
        tokens = "--tokens", self.file(ANN)
        for options, sentence in (
            (self.gateway("binary"), "a provider token is of no use"),
            (("--trust-root", self.file("junk")), "Error: trust_root"),
        ):
            self.assert_refused(self.send(*self.http2(), *options, *tokens), 2, sentence)


@contextmanager
def terminal() -> Iterator[tuple[int, IO[str]]]:
    """A terminal: the end for a command, and ours."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, encoding="utf-8", errors="replace", newline="") as screen:
        try:
            yield theirs, screen
        finally:
            os.close(theirs)


def read_until(screen: IO[str], text: str) -> str:
    """Read what a command shows until this text is among it; it has so long for each part of it."""
    shown = b""
    while text.encode() not in shown:
        readable, _, _ = select.select([screen], [], [], TIMEOUT)
        assert readable, f"{text!r} was not shown: {shown!r}"
        shown += os.read(screen.fileno(), 4_096)
    return shown.decode("utf-8", "replace")  # it may end within a character


@pytest.mark.loopback
class TerminalTests(_WithSimulator):
    """``txapns send``, before a person."""

    def start(self, screen: int, stdout: int, tokens: str) -> subprocess.Popen[str]:
        """Send with the progress bar on a terminal."""
        command = [*TXAPNS, "send", *self.http2(), "--alert", "Hello", "--tokens", tokens]
        return started(
            self,
            command,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=screen,
            text=True,
            env=environment(TERM="xterm", COLUMNS="200"),
        )

    def test_table(self) -> None:
        """The failures are a table, and the summary follows it."""
        with terminal() as (theirs, screen):
            process = self.start(theirs, theirs, self.file(f"{ANN}\n{DEAD}\n"))
            shown = read_until(screen, "uncertain in")
            self.assertEqual(process.wait(TIMEOUT), 1)
        self.assertIn("what to do", shown)
        self.assertRegex(shown, r"2 .*dddd…dddd.*failed.*Unregistered.*delete")

    def test_long_table(self) -> None:
        """Nobody reads thousands of rows: the table ends, and tells how to get the rest."""
        with terminal() as (theirs, screen):
            process = self.start(theirs, theirs, self.file("zz\n" * (cli.ROWS + 7)))
            shown = read_until(screen, "uncertain in")
            self.assertEqual(process.wait(TIMEOUT), 1)
        self.assertIn("and 7 more; --json lists all", shown)

    def test_interrupt(self) -> None:
        """
        A token from a silent pipe is sent at once, and the progress bar shows it; when interrupted, the command ends
        with what is known by then.
        """
        with terminal() as (theirs, screen):
            process = self.start(theirs, subprocess.PIPE, "-")
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(f"{ANN}\n")
            process.stdin.flush()
            read_until(screen, "1 sent")
            process.send_signal(signal.SIGINT)
            said = read_until(screen, "were not read")
            self.assertEqual(process.wait(TIMEOUT), 1)
            summary = process.stdout.read()
            process.stdin.close()
            process.stdout.close()
        self.assertIn("interrupted; the tokens after line 1", said)
        self.assertIn("1 accepted, 0 failed, 0 unsent", summary)


class UsageTests(SynchronousTestCase):
    """What is wrong with a command line is told before a file is read or a port opened."""

    def test_version(self) -> None:
        """--version tells it."""
        result = txapns("--version")
        self.assertEqual((result.returncode, result.stdout), (0, f"txapns {__version__}\n"))

    def test_help(self) -> None:
        """Each command describes itself."""
        for arguments in ((), ("simulate",), ("send",)):
            result = txapns(*arguments, "--help")
            self.assertEqual((result.returncode, result.stdout[:6]), (0, "Usage:"))

    def test_incomplete(self) -> None:
        """Options that are missing, or exclude each other, are named."""
        here = str(Path(__file__))
        certificate = "--certificate", here
        send = "send", "--tokens", here
        for arguments, sentence in (
            (("simulate",), "Missing option '--state'"),
            (("simulate", "--state", "x", "--http2", "70000"), "70000 is not in the range"),
            (("simulate", "--state", "x", "--fault", "rudeness"), "'rudeness' is not one of 'silent-close', "),
            (("send",), "Missing option '--tokens'"),
            ((*send, "--alert", "x"), "either --certificate or --key"),
            ((*send, "--alert", "x", *certificate, "--key", here), "either --certificate or --key"),
            ((*send, "--alert", "x", "--key", here), "--key needs --key-id and --team-id"),
            (("send", "--certificate", "nowhere", "--tokens", here), "'nowhere' does not exist"),
            (("send", "--tokens", "nowhere"), "'nowhere': No such file"),
        ):
            self.assertIn(sentence, refused(*arguments))


class MissingTests(SynchronousTestCase):
    """The command without the packages that only it needs."""

    def test_sentence(self) -> None:
        """It says what to install, and nothing else."""
        sentence = 'The txapns command needs click and rich: pip install "txapns[cli]"\n'
        for name in ("click", "rich"):
            program = f"import sys; sys.modules[{name!r}] = None; import txapns.command.main"
            result = subprocess.run(
                [sys.executable, "-c", program],
                env=environment(),
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
            self.assertEqual((result.returncode, result.stdout, result.stderr), (2, "", sentence))


class LinesTests(TestCase):
    """The file of tokens, read as far as it is asked for."""

    timeout = 30

    def lines(self, content: bytes) -> cli._Lines:
        """Open a file with this content."""
        path = Path(self.mktemp())
        path.write_bytes(content)
        file = path.open("rb")
        self.addCleanup(file.close)
        return cli._Lines(reactor, file)

    async def test_numbers(self) -> None:
        """Blank lines and comments count, space around a token is dropped, and the last line needs no end."""
        lines = self.lines(b"# one\n\naa \r\n\tbb\n#\ncc")
        self.assertEqual([pair async for pair in lines], [(3, "aa"), (4, "bb"), (6, "cc")])
        self.assertEqual((lines.number, lines.given), (6, 3))

    async def test_across_reads(self) -> None:
        """Lines that lie across the ends of reads are whole."""
        tokens = [f"{number:x}" * 7 for number in range(1, 20_000)]
        lines = self.lines("\n".join(tokens).encode())
        self.assertGreater(lines.size, 2 * cli.CHUNK)
        self.assertEqual([token async for _, token in lines], tokens)

    async def test_not_text(self) -> None:
        """Octets that are no text are given out as something that can be printed, and is no token."""
        self.assertEqual([pair async for pair in self.lines(b"\xff\xfd\n")], [(1, r"\xff\xfd")])

    async def test_windows(self) -> None:
        """A byte order mark is no part of a token, nor the end of a line, and UTF-16 is read; so are files in a row."""
        text = "# one\r\n\r\naa\r\nbb\r\n"
        marked, wide = codecs.BOM_UTF8 + text.encode(), text.encode("utf-16")
        big, little, old = text.encode("utf-16-be"), text.encode("utf-16-le"), text.replace("\r\n", "\r").encode()
        for content in (marked, wide, codecs.BOM_UTF16_BE + big, little, old):
            self.assertEqual([pair async for pair in self.lines(content)], [(3, "aa"), (4, "bb")])
        self.assertEqual([pair async for pair in self.lines(marked * 2)], [(3, "aa"), (4, "bb"), (7, "aa"), (8, "bb")])
        tokens = [f"{number:x}" * 7 for number in range(1, 20_000)]
        for wide in ("\n".join(tokens).encode("utf-16"), "\r\n".join(["", *tokens]).encode()):
            self.assertEqual([token async for _, token in self.lines(wide)], tokens)

    async def test_short(self) -> None:
        """A file need not be as long as what its encoding is known by."""
        for content, pairs in ((b"", []), (b"\n", []), (b"aa", [(1, "aa")])):
            self.assertEqual([pair async for pair in self.lines(content)], pairs)

    async def test_lazy(self) -> None:
        """No more is read than one piece beyond what is asked for."""
        lines = self.lines(b"aa\n" * cli.CHUNK)
        tokens = lines.__aiter__()
        self.assertEqual(await anext(tokens), (1, "aa"))
        self.assertEqual(os.lseek(lines._file.fileno(), 0, os.SEEK_CUR), cli.CHUNK)
        await tokens.aclose()

    async def test_end(self) -> None:
        """After the end no token comes, though more were read."""
        lines = self.lines(b"aa\nbb\n")
        given = []
        async for pair in lines:
            given.append(pair)
            lines.end()
        self.assertEqual(given, [(1, "aa")])

    def pipe(self) -> tuple[cli._Lines, IO[bytes]]:
        """Open a pipe, to whose other end is written what is to be read."""
        read, write = os.pipe()
        file, other = os.fdopen(read, "rb"), os.fdopen(write, "wb", buffering=0)
        self.addCleanup(file.close)
        self.addCleanup(other.close)
        return cli._Lines(reactor, file), other

    def test_interface(self) -> None:
        """The reactor can watch it."""
        verifyObject(IReadDescriptor, self.lines(b""))

    async def test_pipe(self) -> None:
        """How long a pipe is cannot be known; its tokens come as they are written, until it is closed."""
        lines, other = self.pipe()
        self.assertIsNone(lines.size)
        other.write(b"aa\nb")
        tokens = lines.__aiter__()
        self.assertEqual(await anext(tokens), (1, "aa"))
        second = Deferred.fromCoroutine(anext(tokens))
        self.assertNoResult(second)
        other.write(b"b\ncc")
        self.assertEqual(await second, (2, "bb"))
        other.close()
        self.assertEqual([pair async for pair in tokens], [(3, "cc")])

    async def test_end_of_silence(self) -> None:
        """Nobody waits for a silent pipe after the end."""
        lines, _ = self.pipe()
        tokens = lines.__aiter__()
        first = Deferred.fromCoroutine(anext(tokens, None))
        self.assertNoResult(first)
        lines.end()
        self.assertIsNone(await first)

    async def test_unwatchable(self) -> None:
        """A reactor that cannot watch such a file is an error for who reads, and not the end of the tokens."""
        lines, _ = self.pipe()
        first = Deferred.fromCoroutine(anext(lines.__aiter__()))
        self.assertNoResult(first)
        reactor.removeReader(lines)
        lines.connectionLost(Failure(OSError("not a socket")))
        with self.assertRaises(OSError):
            await first

    async def test_unreadable(self) -> None:
        """An error of the file is raised to who reads."""

        class Directory:
            """What opens and cannot be read."""

            descriptor = os.open(".", os.O_RDONLY)

            def fileno(self) -> int:
                """Its descriptor."""
                return self.descriptor

        self.addCleanup(os.close, Directory.descriptor)
        lines = cli._Lines(reactor, Directory())
        with self.assertRaises(IsADirectoryError):
            await anext(lines.__aiter__())
