"""Tests for :mod:`txapns.daemon.listeners`, of a daemon in a process of its own."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from tests.daemon.daemon_case import DaemonCase, submission
from tests.daemon.daemon_process import DaemonProcess

__all__ = ["DescriptorTests", "PageTests"]


@pytest.mark.loopback
@pytest.mark.campaign
class PageTests(DaemonCase):
    """Requests that a browser makes for web pages."""

    async def test_pages(self) -> None:
        """Without keys, requests for other hosts and from other sites' pages are refused."""
        text = self.config.read_text().replace("keys = false", 'keys = false\nhosts = ["daemon.example"]')
        self.config.write_text(text)
        await self.daemon.start()
        for listener, path, hosts in (
            ("admin", "/readyz", {"localhost": 200, "evil.example": 421, "daemon.example": 421}),
            ("intake.native", "/v1/openapi.json", {"localhost": 200, "evil.example": 421, "daemon.example": 200}),
        ):
            for host, expected in hosts.items():
                status, _ = await self.daemon.ask("GET", path, headers={"Host": host}, listener=listener)
                self.assertEqual(status, expected, (listener, host))
            fields = {"Origin": "https://evil.example"}
            status, _ = await self.daemon.ask("GET", path, headers=fields, listener=listener)
            self.assertEqual(status, 403)
        self.assertEqual(await self.daemon.end(), 0)


@pytest.mark.loopback
@pytest.mark.campaign
class DescriptorTests(DaemonCase):
    """A process with few file descriptors."""

    def setUp(self) -> None:
        """Allow it no more than 128."""
        super().setUp()
        few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 128))"
        self.daemon = DaemonProcess(self.config, ["-c", f"{few}; from txapns.command.main import main; main()"])

    async def test_flood(self) -> None:
        """
        Silent connections keep no one from checking its health or from sending.

        It logs at the start that it accepts fewer connections than configured.
        """
        await self.daemon.start()
        self.assertIn("128", self.daemon.log.read_text())
        self.assertIn("LimitNOFILE", self.daemon.log.read_text())
        address = ("127.0.0.1", self.daemon.port("intake.native"))
        for number in range(3):
            with ExitStack() as stack:
                for _ in range(200):
                    silent = stack.enter_context(socket.create_connection(address, 5))
                    silent.sendall(b"POST /v1/apps/chess/notifications HTTP/1.1\r\n")
                self.assertEqual((await self.daemon.ask("GET", "/healthz", listener="admin"))[0], 200)
                body = submission(f"{number:064x}")
                self.assertEqual((await self.daemon.ask("POST", "/v1/apps/chess/notifications", body))[0], 202)
        self.assertEqual(await self.daemon.end(), 0)
        self.assertNotIn("Traceback", self.daemon.log.read_text())
