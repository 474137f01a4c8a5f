"""
A daemon to try: simulated Apple servers, and a daemon that sends to them with an app and a key, in one process.

Everything is in one directory, which is kept: notifications still waiting at the end are sent after the next start, and
the key stays the same. The configuration is rewritten at each start, because the simulator makes new credentials.
"""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime

from txapns._network.clocks import wall_clock
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.errors import Malformed, NotAuthenticated
from txapns.daemon.keys import add_key, remove_key
from txapns.daemon.service import DaemonService
from txapns.daemon.store.factory import check_unused
from txapns.daemon.store.keys import IKeyTable
from txapns.simulator.inbox import KEPT
from txapns.simulator.servers import Simulator
from txapns.simulator.service import HOST, SimulatorService

__all__ = ["ALIVE", "DEAD", "Demonstration"]

#: A token whose device has the app, and one whose device is gone.
ALIVE, DEAD = "aa" * 32, "dd" * 32

_KEY = "key"  # the key's file; its name in the database is that of the app
_APP = "demo"

_CONFIGURATION = """\
# A daemon to try. "txapns serve --demo" rewrites this file at each start, so changes do not last: copy what you want
# to keep. The gateway is the simulator in the same process.

[intake.native]
listen = "{native}"

[admin]
listen = "{admin}"

[apps.demo]
gateway = "http2:host=127.0.0.1:port={http2}:management_port={channels}"
trust_root = "simulator/ca.pem"
key = "simulator/AuthKey.p8"
key_id = "{key_id}"
team_id = "{team_id}"
topic = "{topic}"
"""

_TEXT = """\
The daemon listens at {url}. Apple's servers are simulated: nothing leaves this machine.
There is an app called demo, and a key for it in {directory}/key.
Open it in a browser: {admin}/
See what comes to Apple's servers, and what a phone does with it: {inbox}/
Stop it with Ctrl-C. Its data stays in {directory}.

Try it from another terminal, in the same directory. First, the key:

  KEY=$(cat {directory}/key)

Send a notification to two devices, one of which is gone, and wait for the outcomes:

  curl -s {url}/v1/apps/demo/notifications \\
    -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" -d '
    {{"wait": true, "notifications": [{{
      "tokens": ["{ALIVE}",
                 "{DEAD}"],
      "payload": {{"aps": {{"alert": "Dinner is ready"}}}}}}]}}' | python3 -m json.tool

Ask which devices are gone, so that you can forget their tokens:

  curl -s {url}/v1/apps/demo/feedback -H "Authorization: Bearer $KEY" | python3 -m json.tool

An app of your own, and Apple's own servers: see docs/daemon.rst.
"""


@attrs.frozen
class Demonstration:
    """A running simulator and a running daemon."""

    simulator: SimulatorService
    daemon: DaemonService
    text: str
    key: str = attrs.field(repr=False)
    addresses: dict[str, list[str]]

    @classmethod
    async def start(cls, reactor: Any, directory: Path, *, native: str, admin: str) -> Demonstration:
        """
        Start both, and keep everything in a directory, which is created if it does not exist.

        :raises APNSError: one of them cannot start, such as when another daemon runs in the directory.
        """
        # Before anything is written: another demonstration that runs here needs its credentials and configuration.
        directory.mkdir(parents=True, exist_ok=True)
        check_unused(Configuration.from_text("", directory.absolute()))
        apple = Simulator(IReactorTime(reactor), dead=[bytes.fromhex(DEAD)], keep=KEPT)
        simulator = SimulatorService(reactor, apple, directory / "simulator")
        simulator.startService()
        path = directory / "apns.toml"
        path.write_text(_CONFIGURATION.format(native=native, admin=admin, **simulator.description()))
        daemon = DaemonService(reactor, Configuration.from_file(path), {}, lambda error: daemon.ready.errback(error))
        daemon.startService()
        try:
            addresses = await daemon.ready
            key = await _key(daemon, directory / _KEY, wall_clock(reactor).now())
        except BaseException:
            await daemon.stopService()
            await simulator.stopService()
            raise
        url, page = (f"http://{addresses[name][0]}" for name in ("intake.native", "admin"))
        inbox = f"http://{HOST}:{simulator.description()['web']}"
        text = _TEXT.format(
            url=url, admin=page, inbox=inbox, directory=shlex.quote(str(directory)), ALIVE=ALIVE, DEAD=DEAD
        )
        return cls(simulator, daemon, text, key, addresses)

    async def stop(self) -> None:
        """Stop both, the daemon first."""
        await self.daemon.stopService()
        await self.simulator.stopService()


async def _key(daemon: DaemonService, path: Path, now: float) -> str:
    """Return the key of the last run, or make one, in a file that only its owner can read."""
    with suppress(OSError, ValueError, NotAuthenticated):
        known = path.read_text(encoding="ascii").strip()
        daemon.keys.check(known)
        return known

    def make(table: IKeyTable) -> str:
        with suppress(Malformed):
            remove_key(table, _APP)  # its file was lost
        return add_key(table, _APP, send=[_APP], feedback=[_APP], manage=True, now=now)

    key = await daemon.store.keys.write(make)
    await daemon.keys.refresh()
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{key}\n")
    return key
