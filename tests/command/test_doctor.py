"""Tests for :mod:`txapns.command.doctor`: the command in processes of its own."""

from __future__ import annotations

import json
import socket

import pytest

from tests.command.processes import SharingSimulator, refused, txapns

__all__ = ["DoctorTests"]


@pytest.mark.loopback
class DoctorTests(SharingSimulator):
    """``txapns doctor``."""

    def test_all_good(self) -> None:
        """All is good: a line for each check, the status 0, and nothing secret."""
        result = txapns("doctor", *self.http2(), HTTPS_PROXY="", https_proxy="")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for words in ("this machine", "descriptors", "TCP port", "signed by: txapns simulator", "it speaks HTTP/2"):
            self.assertIn(words, result.stdout)
        self.assertIn("com.example.app, alert, background, ", result.stdout)
        self.assertRegex(result.stdout, r"\n\d good, 1 unknown, \d note, 0 fault\n$")
        self.assertLess(len(result.stdout.splitlines()), 24)
        self.assertNotIn("eyJ", result.stdout)

    def test_faults(self) -> None:
        """What does not work makes the status 1, in JSON as well; other gateways are asked all the same."""
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            nowhere = f"http2:host=127.0.0.1:port={silent.getsockname()[1]}"
            certificate = "--certificate", self.simulator.state / "client.pem"
            result = txapns("doctor", *self.gateway("http2"), "--gateway", nowhere, *certificate, "--json")
        self.assertEqual((result.returncode, result.stderr), (1, ""))
        *findings, last = map(json.loads, result.stdout.splitlines())
        self.assertEqual(last["summary"]["fault"], 1)
        (fault,) = [each for each in findings if each["level"] == "fault"]
        self.assertEqual((fault["gateway"], fault["check"]), (nowhere, "port"))
        good = [each["details"]["topic"] for each in findings if each["check"] == "push" and each["level"] == "good"]
        self.assertEqual(good, ["com.example.app"])

    def test_unusable(self) -> None:
        """A gateway or a credential that cannot be used makes the status 2."""
        self.assertIn("Give --topic", refused("doctor", *self.http2()[:-2]))
        self.assertIn("is not a gateway", refused("doctor", *self.http2(), "--gateway", "nowhere"))
        result = txapns("doctor", *self.binary()[:-1])
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertIn("only gateways of the HTTP/2 provider API", result.stderr)
