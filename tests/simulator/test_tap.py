"""Tests for :mod:`txapns.simulator.tap`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from twisted.application.service import IService, IServiceMaker
from twisted.plugin import getPlugins
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT
from txapns.simulator import tap
from txapns.simulator.faults import mute
from txapns.simulator.service import SimulatorService

__all__ = ["OptionsTests", "PluginTests", "ServiceTests", "TwistTests"]


def parse(*arguments: str) -> tap.Options:
    """Parse a command line."""
    options = tap.Options()
    options.parseOptions(arguments)
    return options


class OptionsTests(SynchronousTestCase):
    """The options of ``twist apns-simulator``."""

    def test_defaults(self) -> None:
        """Only the state directory is required; ports are picked."""
        options = parse("--state", "here")
        self.assertEqual(
            dict(options),
            {
                "http2": 0,
                "binary": 0,
                "feedback": 0,
                "channels": 0,
                "web": 0,
                "interface": "127.0.0.1",
                "names": [],
                "state": "here",
                "dead": None,
                "topic": "com.example.app",
                "delay-ms": 0,
                "max-concurrent-streams": 1_000,
                "random-faults": 0,
                "fault": None,
                "strict-legacy-payload": 0,
                "tls12": 0,
                "no-tickets": 0,
            },
        )

    def test_same_as_the_command(self) -> None:
        """``txapns simulate`` has the same options, with the same defaults."""
        from txapns.command.simulate import simulate

        ours = parse("--state", "x")
        theirs = {option.opts[0].removeprefix("--"): option for option in simulate.params}
        theirs["names"] = theirs.pop("name")
        # A service does not end with who started it.
        self.assertEqual(set(ours), set(theirs) - {"until-eof"})
        for name in (
            "http2",
            "binary",
            "feedback",
            "channels",
            "web",
            "topic",
            "delay-ms",
            "max-concurrent-streams",
            "interface",
        ):
            self.assertEqual(ours[name], theirs[name].default, name)

    def test_all(self) -> None:
        """Numbers are parsed, and the file of dead tokens is read."""
        dead = Path(self.mktemp())
        dead.write_text("aabb\n")
        options = parse(
            *("--http2", "1", "--binary", "2", "--feedback", "65535", "--state", "here", "--dead", str(dead)),
            *("--topic", "a.b", "--delay-ms", "20", "--max-concurrent-streams", "5", "--tls12", "--no-tickets"),
        )
        self.assertEqual([options[name] for name in ("http2", "binary", "feedback")], [1, 2, 65_535])
        self.assertEqual([options["dead"], options["topic"], options["delay-ms"]], [[b"\xaa\xbb"], "a.b", 20])
        self.assertEqual([options["max-concurrent-streams"], options["tls12"], options["no-tickets"]], [5, 1, 1])
        options = parse("--state", "here", "--fault", "half-close", "--strict-legacy-payload", "--channels", "4")
        self.assertEqual(options["channels"], 4)
        self.assertEqual([options["fault"], options["strict-legacy-payload"]], ["half-close", 1])

    def test_names(self) -> None:
        """It can listen at other addresses, and have further names; what is neither is refused."""
        names = *("--name", "Apns.Test"), *("--name", "192.0.2.7"), *("--name", "2001:DB8::1"), *("--name", "*.local")
        options = parse("--state", "x", "--interface", "::", *names)
        self.assertEqual(options["interface"], "::")
        self.assertEqual(options["names"], ["apns.test", "192.0.2.7", "2001:db8::1", "*.local"])
        for mistake in ("a b", "", "http://a", "a:1", "ä.example", ".", "a." + "b" * 64, "*"):
            error = self.assertRaises(usage.UsageError, parse, "--state", "x", "--name", mistake)
            self.assertRegex(str(error), "is neither a host name nor an IP address|is not an IP address")
        error = self.assertRaises(usage.UsageError, parse, "--state", "x", "--interface", "localhost")
        self.assertIn("'localhost' is not an IP address, such as 127.0.0.1 or 0.0.0.0", str(error))

    def test_no_state(self) -> None:
        """The state directory is required."""
        error = self.assertRaises(usage.UsageError, parse)
        self.assertEqual(str(error), "--state DIR is required")

    def test_bad_numbers(self) -> None:
        """An invalid number, or one out of range, is refused with the range."""
        for name, value in (
            ("http2", "x"),
            ("http2", "65536"),
            ("http2", "-1"),
            ("binary", "٣"),
            ("delay-ms", "0.5"),
            ("max-concurrent-streams", "0"),
        ):
            error = self.assertRaises(usage.UsageError, parse, "--state", "x", f"--{name}={value}")
            self.assertIn(f"{value!r} is not a number from", str(error))

    def test_bad_fault(self) -> None:
        """An unknown fault is refused with the names of the known ones."""
        error = self.assertRaises(usage.UsageError, parse, "--state", "x", "--fault", "rudeness")
        self.assertIn("'rudeness' is not one of silent-close, ", str(error))

    def test_bad_dead(self) -> None:
        """A file of dead tokens with an invalid line is refused."""
        dead = Path(self.mktemp())
        dead.write_text("zz\n")
        error = self.assertRaises(usage.UsageError, parse, "--state", "x", "--dead", str(dead))
        self.assertIn("line 1 is not a hexadecimal token", str(error))


class ServiceTests(SynchronousTestCase):
    """What ``twist apns-simulator`` runs."""

    def test_options_arrive(self) -> None:
        """The service's simulator has the given options."""
        service = tap.makeService(parse("--state", "x", "--delay-ms", "250", "--topic", "a.b", "--fault", "mute"))
        assert isinstance(service, SimulatorService)
        self.assertIs(service.simulator.binary_fault, mute)
        self.assertEqual((service.simulator.delay, service.simulator.topic), (0.25, "a.b"))
        self.assertTrue(IService.providedBy(service))


class PluginTests(SynchronousTestCase):
    """How Twisted finds it."""

    def test_found(self) -> None:
        """The plugin is listed, and leads to this module."""
        (maker,) = [plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "apns-simulator"]
        self.assertIs(maker.options, tap.Options)
        self.assertIs(maker.makeService, tap.makeService)


@pytest.mark.loopback
class TwistTests(SynchronousTestCase):
    """The real command."""

    def test_runs(self) -> None:
        """It writes the state directory, logs where, and ends normally."""
        state = Path(self.mktemp())
        command = [sys.executable, "-m", "twisted", "--log-format", "text", "apns-simulator", "--state", str(state)]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            watchdog = threading.Timer(60, process.kill)
            watchdog.start()
            assert process.stdout is not None
            for line in process.stdout:
                if "the simulator listens" in line:
                    self.assertIn(str(state / "simulator.json"), line)
                    self.assertIn("http2", json.loads((state / "simulator.json").read_text()))
                    process.send_signal(signal.SIGTERM)
            watchdog.cancel()
            watchdog.join()
        self.assertIn(process.returncode, (0, -signal.SIGTERM))  # twist dies of the signal, in the end
