"""Tests for :mod:`txapns.command.send`: the command in processes of its own."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests import PROJECT
from tests.command.processes import (
    ANN,
    BOB,
    DEAD,
    SHORT,
    TIMEOUT,
    TXAPNS,
    SharingSimulator,
    WithSimulator,
    environment,
    refused,
    txapns,
)
from tests.processes import started
from txapns.command.outcomes import ROWS
from txapns.simulator import Authority

__all__ = ["DryRunTests", "SendTests", "TerminalTests"]


@pytest.mark.loopback
class SendTests(SharingSimulator):
    """``txapns send``, to pipes."""

    def send(self, *options: str | Path, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        """Send "Hello"."""
        return txapns("send", *options, "--alert", "Hello", stdin=stdin, **more)

    def assert_refused(self, result: subprocess.CompletedProcess[str], status: int, *sentences: str) -> None:
        """Check the exit status and the messages, without a traceback."""
        self.assertEqual(result.returncode, status, result)
        for sentence in sentences:
            self.assertIn(sentence, result.stdout + result.stderr)
        self.assertNotIn("Traceback", result.stderr)

    def test_all_accepted(self) -> None:
        """If all are accepted there is only the summary, over either protocol."""
        for options in (self.http2(), self.binary()):
            result = self.send(*options, "--tokens", self.file(f"{ANN}\n{BOB}\n"))
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertRegex(result.stdout, r"^2 accepted, 0 failed, 0 unsent, 0 uncertain in [\d.]+ s, \d+/s\n$")

    def test_no_tokens(self) -> None:
        """A file without tokens cannot be used."""
        tokens = self.file("# none yet\n")
        result = self.send(*self.http2(), "--tokens", tokens)
        said = f"Error: {tokens}: there are no device tokens in it\n"
        self.assertEqual((result.returncode, result.stdout, result.stderr), (2, "", said))

    def test_failures(self) -> None:
        """Each failure is a line: the line number in the file, the shortened token, the reason, and what to do."""
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
        """With ``--json`` each failure is an object with all details and the whole token; the summary is the last."""
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
        """Tokens are read from standard input, and JSON is written to standard output."""
        result = self.send(*self.http2(), "--tokens", "-", "--json", stdin=f"{ANN}\n{BOB}")
        self.assertEqual(json.loads(result.stdout)["summary"]["accepted"], 2)
        self.assertEqual(result.returncode, 0)

    def test_many(self) -> None:
        """Thousands of tokens are reported under their line numbers."""
        tokens = [f"{number:064x}" for number in range(1, 3_001)]
        tokens[1_999] = DEAD
        for options in (self.http2(), self.binary()):
            result = self.send(*options, "--tokens", self.file("\n".join(tokens)), "--json")
            failed, summary = map(json.loads, result.stdout.splitlines())
            self.assertEqual((failed["identifier"], summary["summary"]["accepted"]), (2_000, 2_999))

    def test_header_fields(self) -> None:
        """The values of options are sent to the gateway unchanged, and its reason is reported."""
        for options, reason in (
            (("--push-type", "telepathy"), "InvalidPushType"),
            (("--priority", "7"), "BadPriority"),
            (("--collapse-id", "x" * 65), "BadCollapseId"),
            (("--topic", "?"), "BadTopic"),
        ):
            result = self.send(*self.http2(), "--tokens", self.file(ANN), *options)
            self.assert_refused(result, 1, f"failed, {reason}. ")

    def test_payload(self) -> None:
        """A payload is read from a file, whatever it contains."""
        for mark in "", "\ufeff":
            payload = self.file(mark + '{"aps": {"alert": "Hello", "of-tomorrow": 1}, "mine": [1]}')
            result = txapns(
                "send", *self.http2(), "--tokens", self.file(ANN), "--payload", payload, "--expiration", "60"
            )
            self.assertEqual(result.returncode, 0, result)

    def test_options(self) -> None:
        """The parts of a payload are options, too."""
        texts = "--title", "Dinner", "--subtitle", "Tonight", "--body", "It is ready", "--category", "meal"
        more = "--badge", "1", "--sound", "default", "--thread-id", "t", "--data", "table=4", "--data", "guests:=[1, 2]"
        result = txapns("send", *self.http2(), "--tokens", self.file(ANN), *texts, *more)
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_common_cause(self) -> None:
        """Many tokens with the same cause share a line, which names the first few; JSON has them all."""
        tokens = self.file("\n".join([*["zz"] * 1_203, DEAD]))
        lines = self.send(*self.http2(), "--tokens", tokens).stdout.splitlines()
        self.assertRegex(lines[0], r"^lines 1, 2, 3 and 1,200 more: unsent, InvalidToken\. ")
        self.assertRegex(lines[1], r"^line 1204, token dddd…dddd: failed, Unregistered\. ")
        self.assertEqual(len(lines), 3)
        self.assertEqual(self.send(*self.http2(), "--tokens", tokens, "--json").stdout.count("\n"), 1_205)

    def test_passphrase(self) -> None:
        """A passphrase comes from a file or from the environment, and never from the command line."""
        options = *self.gateway("binary"), "--certificate", self.simulator.state / "client.p12", "--barrier"
        tokens = "--tokens", self.file(ANN)
        by_file = self.send(*options, *tokens, "--passphrase-file", self.file("txapns\n"))
        marked = self.send(*options, *tokens, "--passphrase-file", self.file("\ufefftxapns\r\n"))
        by_environment = self.send(*options, *tokens, TXAPNS_PASSPHRASE="txapns")
        self.assertEqual((by_file.returncode, marked.returncode, by_environment.returncode), (0, 0, 0))
        wrong = self.send(*options, *tokens, TXAPNS_PASSPHRASE="sesame")
        self.assert_refused(
            wrong, 2, f"Error: {self.simulator.state}/client.p12: the passphrase does not open the PKCS#12 file"
        )
        self.assertNotIn("sesame", wrong.stderr)

    def test_nothing_listens(self) -> None:
        """If nothing listens, the exit status shows it, and each token is unsent."""
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            gateway = f"http2:host=127.0.0.1:port={silent.getsockname()[1]}"
            tokens = self.file(f"{ANN}\nnot a token\n{BOB}\n")
            result = self.send(*self.http2(), "--gateway", gateway, "--tokens", tokens, "--timeout", "1")
        self.assert_refused(result, 3, "line 1, ", "unsent, ConnectFailed. ", "nothing listens at 127.0.0.1")
        self.assertIn("0 accepted, 0 failed, 3 unsent, 0 uncertain", result.stdout)

    def test_proxy(self) -> None:
        """A proxy is used; one that is unreachable or invalid is named, without the password."""
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
            result, 3, "ConnectFailed", "no connection to the proxy http://localhost:", ": nothing listens"
        )
        none = self.send(*to_ann, "--proxy", "socks5://ali:sesame@localhost")
        self.assert_refused(none, 2, "Error: the proxy's URL must be ")
        self.assertNotIn("sesame", result.stdout + result.stderr + none.stdout + none.stderr)

    def test_stranger(self) -> None:
        """Nothing is sent to a server whose authority is not trusted."""
        authority = Path(self.mktemp())
        authority.write_bytes(Authority().ca_pem)
        for options in (self.http2(), self.binary()):
            result = self.send(*options, "--trust-root", authority, "--tokens", self.file(ANN))
            self.assert_refused(result, 3, "unsent, PeerNotVerified. ")

    def test_refused_certificate(self) -> None:
        """If the gateway refuses the certificate, the credential cannot be used, and nothing is sent."""
        certificate = Path(self.mktemp())
        certificate.write_bytes(Authority().client_pem())
        for gateway in (self.gateway("http2"), self.gateway("binary")):
            options = *gateway, "--certificate", certificate, "--tokens", self.file(f"{ANN}\n{BOB}\n")
            result = self.send(*options)
            self.assert_refused(result, 2, "unsent, CredentialRefused. ", "0 accepted, 0 failed, 2 unsent, 0 uncertain")

    def test_refused_key(self) -> None:
        """A provider token is refused with the first notification, which fails; no other is sent."""
        key = Path(self.mktemp())
        key.write_bytes(Authority().p8)
        options = *self.http2(), "--key", key
        result = self.send(*options, "--tokens", self.file(f"{ANN}\n{BOB}\n"))
        self.assert_refused(result, 2, "failed, InvalidProviderToken. ", "unsent, CredentialRefused. ")
        result = self.send(*options, "--tokens", self.file(ANN))
        self.assert_refused(result, 2, "failed, InvalidProviderToken. ", "0 accepted, 1 failed, 0 unsent")

    @unittest.skipUnless(Path("/proc/self/mem").exists(), "needs a file that opens and cannot be read")
    def test_unreadable(self) -> None:
        """If the tokens cannot be read to the end, the outcome of those before is reported, and the reason."""
        result = self.send(*self.http2(), "--tokens", "/proc/self/mem")
        self.assert_refused(result, 1, "0 accepted", "Error: the tokens after line 0 could not be read: [Errno 5]")

    def test_unusable(self) -> None:
        """What cannot be used is reported before anything is sent."""
        send = "send", "--tokens", self.file(ANN), *self.http2()
        junk = self.file("junk")
        for options, sentence in (
            (("--gateway", "nowhere"), "'nowhere' is not a gateway"),
            (("--key", junk), f"Error: {junk}: the text contains no PEM"),
            (("--team-id", "no team"), "AuthKey.p8: team_id"),
            (("--barrier",), "--barrier is for a gateway of the binary protocol"),
            (("--topic", "a\nb"), "Error: topic has a control character"),
        ):
            self.assertIn(sentence, refused(*send, "--alert", "Hello", *options))
        self.assertIn(f"Error: {junk}: the payload is not JSON", refused(*send, "--payload", junk))
        certificate = "--certificate", junk
        said = refused("send", "--tokens", junk, *self.gateway("http2"), *certificate, "--alert", "Hello")
        self.assertIn(f"Error: {junk}: the text contains no PEM, and is not DER, PKCS#12", said)

    def test_unusable_by_gateway(self) -> None:
        """What cannot be used with this gateway is reported before connecting."""
        tokens = "--tokens", self.file(ANN)
        for options, sentence in (
            (self.gateway("binary"), "does not support provider tokens"),
            (("--trust-root", self.file("junk")), ": trust_root is not the PEM"),
        ):
            self.assert_refused(self.send(*self.http2(), *options, *tokens), 2, sentence)


@contextmanager
def terminal() -> Iterator[tuple[int, IO[str]]]:
    """Open a terminal; yields the command's end, and ours."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, encoding="utf-8", errors="replace", newline="") as screen:
        try:
            yield theirs, screen
        finally:
            os.close(theirs)


def read_until(screen: IO[str], text: str) -> str:
    """Read what a command shows until this text appears, with a timeout for each part."""
    shown = b""
    while text.encode() not in shown:
        readable, _, _ = select.select([screen], [], [], TIMEOUT)
        assert readable, f"{text!r} was not shown: {shown!r}"
        shown += os.read(screen.fileno(), 4_096)
    return shown.decode("utf-8", "replace")  # it may end within a character


@pytest.mark.loopback
class DryRunTests(WithSimulator):
    """``txapns send --dry-run``."""

    def test_dry_run(self) -> None:
        """Nothing is sent in a dry run: it says what is wrong with the notification and the tokens."""
        texts = "--title", "Dinner", "--body", "It is ready", "--dry-run"
        tokens = "--tokens", self.file(f"{ANN}\n{BOB}\n")
        result = txapns("send", *texts, "--sound", "default", *tokens)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(result.stdout, "0 errors, 0 warnings, 0 hints; 2 could be sent\n")
        tokens = "--tokens", self.file(f"{ANN}\nnot a token\n")
        options = *self.http2(), *texts, "--sound", "default", "--push-type", "voip"
        result = txapns("send", *options, *tokens)
        self.assertEqual((result.returncode, result.stderr), (1, ""))
        *findings, invalid, summary = result.stdout.splitlines()
        self.assertIn("TOPIC_TYPE", [line.partition("[")[2].partition(";")[0] for line in findings])
        self.assertRegex(invalid, "^line 2, token …: unsent, InvalidToken. ")
        self.assertRegex(summary, r"^\d errors?, \d warnings?, \d hints?; 1 could be sent, and 1 could not$")
        named = "--token", ANN, "--token", "not a token"
        self.assertEqual(txapns("send", *options, *named).stdout, result.stdout)
        found, unsent, total = map(json.loads, txapns("send", *options, *tokens, "--json").stdout.splitlines())
        self.assertEqual((found["source"], unsent["identifier"]), ("notification", 2))
        self.assertEqual(total, {"summary": {"tokens": 2, "unsent": 1}})
        _, counters = self.simulator.stop()
        self.assertEqual(counters["received"], 0)


@pytest.mark.loopback
class TerminalTests(SharingSimulator):
    """``txapns send`` on a terminal."""

    def start(self, screen: int, stdout: int, tokens: str, *more: str) -> subprocess.Popen[str]:
        """Send with the progress bar on a terminal."""
        command = [*TXAPNS, "send", *self.http2(), "--alert", "Hello", "--tokens", tokens, *more]
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
        """A long table is cut, and the command says how to get the rest."""
        with terminal() as (theirs, screen):
            varied = "".join("z" * length + "\n" for length in range(1, ROWS + 8))  # each has an error of its own
            process = self.start(theirs, theirs, self.file(varied))
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
            read_until(screen, "1 sent, 0 under way ")  # and not ", connecting", while it waits for a connection
            process.send_signal(signal.SIGINT)
            said = read_until(screen, "were not read")
            self.assertEqual(process.wait(TIMEOUT), 1)
            summary = process.stdout.read()
            process.stdin.close()
            process.stdout.close()
        self.assertIn("interrupted; the tokens after line 1", said)
        self.assertIn("1 accepted, 0 failed, 0 unsent", summary)

    def test_interrupt_after_last(self) -> None:
        """If all tokens were read before the interrupt, the command does not say that some were not."""
        with socket.create_server(("127.0.0.1", 0)) as silent, terminal() as (theirs, screen):
            gateway = f"http2:host=127.0.0.1:port={silent.getsockname()[1]}"
            process = self.start(theirs, subprocess.PIPE, self.file(f"{ANN}\n"), "--gateway", gateway)
            assert process.stdin is not None and process.stdout is not None
            read_until(screen, "1 sent")
            process.send_signal(signal.SIGINT)
            self.assertNotEqual(process.wait(TIMEOUT), 0)
            said = b""
            while select.select([screen], [], [], 0)[0]:
                said += os.read(screen.fileno(), 4_096)
            summary = process.stdout.read()
            process.stdin.close()
            process.stdout.close()
        self.assertNotIn(b"were not read", said)
        self.assertIn("0 accepted, 0 failed, 1 unsent", summary)
