"""Tests for :mod:`txapns.daemon.config.endpoints`."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.config.configuration import Configuration
from txapns.daemon.config.endpoints import has_valid_port, is_endpoint, is_local, is_open_socket, with_mode

__all__ = ["EndpointTests"]


class EndpointTests(SynchronousTestCase):
    """Endpoints as the configuration has them."""

    def test_address(self) -> None:
        """An interface that is an IPv6 address may be plain or in brackets, where Twisted expects backslashes."""
        for endpoint, meant in (
            ("tcp6:port=0:interface=::1", r"tcp6:port=0:interface=\:\:1"),
            ("tcp6:0:interface=[2001:db8::5]:backlog=7", r"tcp6:0:interface=2001\:db8\:\:5:backlog=7"),
            (r"tcp6:0:interface=\:\:1", r"tcp6:0:interface=\:\:1"),
            ("tcp:port=0:interface=127.0.0.1", "tcp:port=0:interface=127.0.0.1"),
        ):
            text = f"[intake.native]\nlisten = '{endpoint}'\nallow_without_tls = true"
            self.assertEqual(Configuration.from_text(text, Path("/etc")).intake.native.listen, (meant,))

    def test_local(self) -> None:
        """Only loopback addresses, UNIX sockets and invalid endpoints are certainly for this machine alone."""
        for endpoint in ("tcp:1:interface=127.8.9.1", r"tcp6:1:interface=\:\:1", "unix:/run/x", "nonsense:1"):
            self.assertTrue(is_local(endpoint), endpoint)
        for endpoint in ("tcp:1", "tcp:1:interface=10.0.0.1", "tcp:1:interface=localhost", "systemd:domain=INET"):
            self.assertFalse(is_local(endpoint), endpoint)

    def test_valid(self) -> None:
        """An endpoint is one that Twisted takes, or systemd's, whose sockets exist only when it starts us."""
        self.assertTrue(is_endpoint("tcp:1"))
        self.assertTrue(is_endpoint("systemd:domain=INET:index=0"))
        self.assertFalse(is_endpoint("tcp:http"))

    def test_port(self) -> None:
        """A port is a number from 0 to 65535, named or not."""
        for endpoint in ("tcp:0", "tcp6:65535", "ssl:port=443:privateKey=k.pem", "unix:/run/x", "systemd:index=0"):
            self.assertTrue(has_valid_port(endpoint), endpoint)
        for endpoint in ("tcp:65536", "tcp:-1", "haproxy:tcp6:interface=10.0.0.1:port=80800", "ssl:privateKey=k:65536"):
            self.assertFalse(has_valid_port(endpoint), endpoint)

    def test_mode(self) -> None:
        """A UNIX socket that names no mode gets that of the daemon's user and group; a named one stays."""
        self.assertEqual(with_mode("unix:/run/x"), "unix:/run/x:mode=660")
        self.assertEqual(with_mode("haproxy:unix:/run/x"), "haproxy:unix:/run/x:mode=660")
        for endpoint in ("unix:/run/x:mode=600", "unix:/run/x:600", "tcp:1"):
            self.assertEqual(with_mode(endpoint), endpoint)

    def test_open_socket(self) -> None:
        """A UNIX socket is open if every user may write to it."""
        for endpoint, expected in (("unix:/x:mode=666", True), ("unix:/x:660", False), ("unix:/x", False)):
            self.assertEqual(is_open_socket(endpoint), expected, endpoint)
