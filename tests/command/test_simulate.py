"""Tests for :mod:`txapns.command.simulate`: the command in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.command.processes import ANN, DEAD, TIMEOUT, TXAPNS, SimulatorProcess, environment, txapns
from tests.ports import reserve
from tests.processes import started
from txapns import Accepted, APNSClient, Certificate, Gateway, Notification
from txapns.command.simulate import invitation

__all__ = ["ChannelsTests", "FaultTests", "SimulateTests"]


@pytest.mark.loopback
class SimulateTests(SynchronousTestCase):
    """``txapns simulate``."""

    def test_ready(self) -> None:
        """The first line is the content of the state directory's description, which is complete by then."""
        simulator = SimulatorProcess(self)
        description = json.loads((simulator.state / "simulator.json").read_text())
        simulator.stop()
        self.assertEqual(simulator.ready, {"ready": True, **description})

    def test_state_is_private(self) -> None:
        """Only the owner can read directory and files, whatever the umask."""
        simulator = SimulatorProcess(self)
        simulator.stop()
        modes = {path.stat().st_mode & 0o777 for path in simulator.state.iterdir()}
        self.assertEqual((simulator.state.stat().st_mode & 0o777, modes), (0o700, {0o600}))

    def test_signals(self) -> None:
        """Either signal ends it normally, with its counters as the last line."""
        for by in (signal.SIGTERM, signal.SIGINT):
            status, counters = SimulatorProcess(self).stop(by)
            self.assertEqual(status, 0)
            self.assertEqual(counters, {"received": 0, "accepted": 0, "rejected": {}, "connections": 0})

    def test_invitation(self) -> None:
        """Who chose the port of the page is told its URL, and a command that sends something to it."""
        [port] = reserve()
        state = Path(self.mktemp(), "a state")
        command = [*TXAPNS, "simulate", "--state", str(state), "--web", str(port)]
        process = started(self, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        first, *told = [process.stderr.readline() for _ in range(3)]
        self.assertEqual(
            first, f"What comes in is shown at http://127.0.0.1:{port}/ until Ctrl-C. To send something:\n"
        )
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        sent = subprocess.run(
            ["bash", "-c", "".join(told)], env=environment(PATH=path), capture_output=True, text=True, timeout=TIMEOUT
        )
        self.assertEqual((sent.returncode, sent.stderr), (0, ""))
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=TIMEOUT)
        self.assertEqual(json.loads(output)["accepted"], 1)

    def test_risk(self) -> None:
        """Who has it listen at other addresses is told the risk, and an address that leads to it."""
        description = {"web": 8025, "http2": 2197}
        for interface, page, gateway, is_open in (
            ("127.0.0.1", "127.0.0.1", "localhost", False),
            ("::1", "[::1]", "::1", False),
            ("0.0.0.0", "127.0.0.1", "localhost", True),
            ("192.0.2.7", "192.0.2.7", "192.0.2.7", True),
            ("2001:db8::1", "[2001:db8::1]", "2001:db8::1", True),
        ):
            told = invitation(description, interface, Path("state"))
            self.assertIn(f"http://{page}:8025/", told)
            named = re.search("--gateway ([^ ]+)", told)
            assert named is not None
            self.assertEqual(Gateway.parse(named[1]).host, gateway)
            self.assertEqual(f"Anybody who reaches {interface} can read what comes in, " in told, is_open, interface)

    def test_taken_port(self) -> None:
        """A port in use is reported in a sentence."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = txapns("simulate", "--state", self.mktemp(), "--http2", str(port))
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertRegex(result.stderr, rf"^Error: .*{port}.*in use.*\n$")

    def test_bad_state(self) -> None:
        """A directory that cannot be made is named as other files are."""
        result = txapns("simulate", "--state", "/dev/null/state")
        self.assertEqual((result.returncode, result.stderr), (2, "Error: /dev/null/state: Not a directory\n"))

    def test_bad_dead(self) -> None:
        """An invalid line in the file of dead tokens is reported with its number."""
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
        """A channel is made at the given port, and broadcast to at the other."""
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
    """``txapns simulate --fault``, with a peer made of the standard library: what only real sockets show."""

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
        """Read to the end, below TLS."""
        with socket.socket(fileno=os.dup(peer.fileno())) as connection:
            connection.settimeout(TIMEOUT)
            while connection.recv(65_536):
                pass

    def test_reset(self) -> None:
        """The error packet arrives, then the reset."""
        peer = self.connect("reset")
        self.assertEqual(peer.recv(7), b"\x08\x08\x00\x00\x00\x07")
        self.assertRaises(ConnectionResetError, self.read_below, peer)

    def test_vanish(self) -> None:
        """Only TLS session tickets arrive, then the reset."""
        self.assertRaises(ConnectionResetError, self.read_below, self.connect("vanish"))

    def test_half_close(self) -> None:
        """The end of TLS and of TCP arrives, and the server still reads what is written."""
        peer = self.connect("half-close")
        self.assertEqual(peer.recv(1), b"")
        self.read_below(peer)
        peer.sendall(self.notification * 200_000)  # more than all buffers hold

    def test_stall(self) -> None:
        """Nothing arrives, and at some point nothing more can be written."""
        peer = self.connect("stall")
        peer.settimeout(0.5)
        self.assertRaises(TimeoutError, peer.sendall, self.notification * 200_000)
        self.assertRaises(TimeoutError, peer.recv, 1)
