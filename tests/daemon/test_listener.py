"""Tests for :mod:`txapns.daemon.listener`."""

from __future__ import annotations

import stat
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import SkipTest

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from txapns.daemon.errors import ConfigurationError
from txapns.daemon.listener import Listener

__all__ = ["AddressTests", "SocketTests"]


class AddressTests(TestCase):
    """Addresses."""

    def test_ipv6(self) -> Deferred[None]:
        """An IPv6 address is written in brackets, apart from the port."""

        async def check() -> None:
            listener = Listener(reactor, "admin", [r"tcp6:0:interface=\:\:1"], Factory.forProtocol(Protocol))  # type: ignore[arg-type]
            try:
                await listener.start()
            except ConfigurationError as error:
                raise SkipTest(str(error)) from None
            try:
                self.assertRegex(listener.addresses[0], r"\A\[::1\]:[0-9]+\Z")
            finally:
                await listener.stop()

        return Deferred.fromCoroutine(check())


class SocketTests(TestCase):
    """UNIX sockets."""

    def setUp(self) -> None:
        """Make a directory whose name is short enough for a socket."""
        directory = TemporaryDirectory(prefix="txapns-")
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name) / "s"

    async def listen(self, endpoint: str) -> int:
        """Listen for a moment; returns the mode of the socket."""
        listener = Listener(reactor, "admin", [endpoint], Factory.forProtocol(Protocol))  # type: ignore[arg-type]
        await listener.start()
        try:
            self.assertEqual(listener.addresses, [str(self.path)])
            return stat.S_IMODE(self.path.stat().st_mode)
        finally:
            await listener.stop()

    def test_mode(self) -> Deferred[None]:
        """A socket is for the daemon's user and group, unless the endpoint says otherwise."""

        async def check() -> None:
            for suffix, mode in (("", 0o660), (":mode=600", 0o600), (":666", 0o666), (":backlog=5", 0o660)):
                self.assertEqual(await self.listen(f"unix:{self.path}{suffix}"), mode, suffix)
            self.assertEqual(await self.listen(f"haproxy:unix:{self.path}"), 0o660)

        return Deferred.fromCoroutine(check())

    def test_not_there(self) -> Deferred[None]:
        """A socket that cannot be made is an error in the configuration, and the message names it."""
        endpoint = f"unix:{self.path / 'none' / 's'}"
        listening = Deferred.fromCoroutine(self.listen(endpoint))
        failing = self.assertFailure(listening, ConfigurationError)
        return failing.addCallback(lambda error: self.assertIn(f"admin.listen: {endpoint}: ", str(error)))
