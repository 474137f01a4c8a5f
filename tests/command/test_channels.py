"""Tests for :mod:`txapns.command.channels`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT
from tests.command.processes import SimulatorProcess, refused, run_without, txapns
from tests.daemon.channels_world import UNKNOWN
from tests.daemon.fakes import key_of
from tests.processes import ForClass, started

__all__ = ["AppleTests", "DaemonTests", "UsageTests"]

_STATE = "--content-state", '{"home": 1}'


class UsageTests(SynchronousTestCase):
    """What is refused before anything is asked."""

    def test_options(self) -> None:
        """Options that exclude each other, or are missing, and texts that are not JSON."""
        for arguments, said in (
            (("channels", "list"), "Give either --certificate or --key."),
            (("channels", "list", "--environment", "sandbox"), "Without --app the environment is that of --gateway."),
            (("channels", "list", "--app", "chess", "--url", "localhost"), "the address of a daemon is a URL"),
            (("channels", "list", "--app", "chess", "--certificate", __file__), "the daemon has the credential"),
            (("broadcast", "a"), "Give either --content-state or --payload."),
            (("broadcast", "a", *_STATE, "--payload", __file__), "Give either --content-state or --payload."),
            (("broadcast", "a", "--content-state", "[1]"), "this is not a JSON object"),
            (("broadcast", "a", "--content-state", "home=1"), "this is not JSON"),
            (("broadcast", *_STATE), "Missing argument"),
        ):
            self.assertIn(said, refused(*arguments))

    def test_missing(self) -> None:
        """Without the library that asks the daemon, the command says how to install it."""
        status, printed, said = run_without("httpx", "channels", "list", "--app", "chess")
        self.assertEqual((status, printed), (2, ""))
        self.assertIn('pip install "txapns[remote]"', said)


class PlaceCase(SynchronousTestCase):
    """The commands, to one who knows channels."""

    __test__ = False
    place: tuple[str, ...]

    def told(self, *arguments: str, status: int = 0) -> str:
        """Run a command; returns its output."""
        done = txapns(*arguments, *self.place)
        self.assertEqual((done.returncode, done.stderr), (status, ""), done)
        return done.stdout.strip()

    def test_life(self) -> None:
        """Channels are made, listed, shown, broadcast to and deleted."""
        first, second = self.told("channels", "create"), self.told("channels", "create", "--store", "latest")
        listed = self.told("channels", "list").splitlines()
        self.assertEqual(set(listed), {first, second})
        shown = json.loads(self.told("channels", "show", second, "--json"))
        self.assertEqual(shown, {"channel": second, "stores": "latest", "push_type": "LiveActivity"})
        self.assertRegex(
            self.told("channels", "show", first), rf"channel +stores +push_type\n{re.escape(first)} +nothing "
        )
        said = self.told("broadcast", first, UNKNOWN, second, *_STATE, status=1).splitlines()
        self.assertEqual((said[0], said[2]), (f"{first}: accepted", f"{second}: accepted"))
        self.assertRegex(said[1], f"^{re.escape(UNKNOWN)}: failed, ChannelNotRegistered. The channel no longer exists")
        payload = Path(self.mktemp())
        payload.write_text('{"aps": {"event": "end", "timestamp": 1700000000}}')
        rows = self.told("broadcast", first, "--payload", str(payload), "--json").splitlines()
        self.assertEqual(list(map(json.loads, rows)), [{"channel": first, "outcome": "accepted", "reason": None}])
        for channel in (first, second):
            self.assertEqual(self.told("channels", "delete", channel), f"deleted {channel}")
        self.assertEqual(self.told("channels", "list"), "")
        done = txapns("channels", "show", first, *self.place)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("ChannelNotRegistered", done.stderr)


@pytest.mark.loopback
@pytest.mark.campaign
class AppleTests(PlaceCase):
    """Straight to Apple, which is simulated."""

    __test__ = True

    def setUp(self) -> None:
        """Start it."""
        simulator = SimulatorProcess(self, "--http2", "0", "--channels", "0")
        ready = simulator.ready
        where = f"http2:host=127.0.0.1:port={ready['http2']}:management_port={ready['channels']}"
        certificate = "--certificate", str(simulator.state / "client.pem")
        self.place = "--gateway", where, "--trust-root", str(simulator.state / "ca.pem"), *certificate

    def test_unreachable(self) -> None:
        """A gateway that has no server for channels cannot be asked; what is not sent is told."""
        certificate = self.place[-2:]
        done = txapns("channels", "list", "--gateway", "http2:host=127.0.0.1:port=1", *certificate)
        self.assertEqual(done.returncode, 2)
        self.assertIn("manages channels", done.stderr)


@pytest.mark.loopback
@pytest.mark.campaign
class DaemonTests(PlaceCase):
    """By way of a daemon."""

    __test__ = True

    def setUp(self) -> None:
        """Start it."""
        command = [sys.executable, "-m", "tests.daemon.serve_native", "--dead", "dd"]
        process = started(ForClass(type(self)), command, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
        assert process.stdout is not None
        key = Path(self.mktemp())
        key.write_text(key_of("all"))
        self.place = "--app", "chess", "--url", process.stdout.readline().strip(), "--key-file", str(key)

    def test_environment(self) -> None:
        """An app with two sides has channels on both."""
        self.place = "--app", "play", *self.place[2:]
        sandbox = "--environment", "sandbox"
        made = self.told("channels", "create", *sandbox)
        self.assertEqual([self.told("channels", "list", *side) for side in (sandbox, ())], [made, ""])
        self.told("channels", "show", made, *sandbox)
        self.assertEqual(self.told("broadcast", made, *_STATE, *sandbox), f"{made}: accepted")
        self.told("channels", "delete", made, *sandbox)
        self.assertEqual(self.told("channels", "list", *sandbox), "")
