"""Tests for :mod:`txapns.daemon.demo`: a new user follows its instructions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.processes import started
from txapns.daemon.demo import ALIVE, DEAD, Demonstration
from txapns.daemon.errors import ConfigurationError, DatabaseInUse

__all__ = ["DemonstrationTests"]

LOCAL = "tcp:port=0:interface=127.0.0.1"


@pytest.mark.loopback
class DemonstrationTests(TestCase):
    """A simulator and a daemon, on loopback."""

    async def start(self, directory: str = "apns-demo", native: str = LOCAL) -> Demonstration:
        """Start it."""
        demonstration = await Demonstration.start(reactor, Path(directory), native=native, admin=LOCAL)
        self.addCleanup(demonstration.stop)
        return demonstration

    @pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
    async def test_text(self) -> None:
        """Its instructions can be pasted into a shell, even with a strange directory name, and work."""
        demonstration = await self.start("a demo; exit 1")
        lines = [line for line in demonstration.text.splitlines() if line.startswith("  ")]
        self.assertLessEqual(max(map(len, demonstration.text.splitlines())), 120)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = await deferToThread(
            subprocess.run,
            ["bash", "-ec", "\n".join(lines)],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        first, end = json.JSONDecoder().raw_decode(done.stdout)
        second = json.loads(done.stdout[end:])
        [notification] = first["notifications"]
        outcomes = [(each["state"], each.get("reason")) for each in notification["outcomes"]]
        self.assertEqual(outcomes, [("accepted", None), ("rejected", "Unregistered")])
        self.assertEqual([each["token"] for each in second["tokens"]], [DEAD])
        self.assertIn(ALIVE, demonstration.text)

    async def test_command(self) -> None:
        """The command prints the instructions and nothing else."""
        command = [sys.executable, "-m", "txapns", "serve", "--demo", "--port", "0"]
        process = started(self, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        assert process.stdout is not None
        first = await deferToThread(process.stdout.readline)
        process.terminate()
        rest, complaints = await deferToThread(process.communicate, timeout=120)
        self.assertEqual((process.returncode, complaints), (0, b""))
        self.assertRegex(first, rb"^The daemon listens at http://127.0.0.1:[0-9]+\. ")
        self.assertTrue(rest.endswith(b"see docs/daemon.rst.\n\n"), rest)

    async def test_page(self) -> None:
        """The status page is at the printed address."""
        demonstration = await self.start()
        [line] = [line for line in demonstration.text.splitlines() if "browser" in line]
        done = await deferToThread(urlopen, line.rpartition(" ")[2], timeout=120)
        with done:
            self.assertIn(b"<html", await deferToThread(done.read, 100))

    async def test_again(self) -> None:
        """The next run uses the same key, or a new one if its file is lost; only its owner can read it."""
        first = await self.start()
        file = Path("apns-demo/key")
        self.assertEqual((file.read_text(), file.stat().st_mode & 0o777), (f"{first.key}\n", 0o600))
        await first.stop()
        second = await self.start()
        self.assertEqual(second.key, first.key)
        await second.stop()
        file.write_text("nonsense")
        third = await self.start()
        self.assertNotEqual(third.key, first.key)
        self.assertEqual(third.daemon.keys.check(third.key).send, {"demo"})

    async def test_channels(self) -> None:
        """The simulator's server of broadcast channels is known to the daemon."""
        demonstration = await self.start()
        gateway = demonstration.daemon.apps.get("demo").gateway
        self.assertEqual(gateway.management_port, demonstration.simulator.description()["channels"])

    async def test_twice(self) -> None:
        """A second one in the same directory is refused, and leaves the files of the first as they are."""
        await self.start()

        def files() -> dict[str, bytes]:
            paths = [Path("apns-demo/apns.toml"), Path("apns-demo/key"), *Path("apns-demo/simulator").iterdir()]
            return {str(path): path.read_bytes() for path in paths}

        before = files()
        with self.assertRaises(DatabaseInUse):
            await self.start()
        self.assertEqual(files(), before)

    async def test_no_secrets_in_text(self) -> None:
        """The printed text does not contain the key, so a recording of the terminal does not either."""
        demonstration = await self.start()
        self.assertNotIn(demonstration.key, demonstration.text + repr(demonstration))

    async def test_address_in_use(self) -> None:
        """If it cannot listen it says so, and leaves nothing running."""
        first = await self.start()
        port = first.addresses["intake.native"][0].rpartition(":")[2]
        with self.assertRaises(ConfigurationError) as raised:
            await self.start("another", f"tcp:port={port}:interface=127.0.0.1")
        self.assertIn("in use", str(raised.exception))
