"""
A daemon to try: Apple's servers simulated, and a gateway to them with an app and a key, in one process.

All of it is in one directory, which stays: what waits in the queue at the end goes out after the next start, and the
key is the same. The configuration is written anew with each start, since the simulator's credentials are.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime

from txapns._network.clocks import wall_clock
from txapns.daemon.config import Configuration
from txapns.daemon.errors import Malformed, NotAuthenticated
from txapns.daemon.keys import add_key, remove_key
from txapns.daemon.service import DaemonService
from txapns.daemon.store.sqlite.api_keys import KeyTable
from txapns.simulator.servers import Simulator
from txapns.simulator.service import SimulatorService

__all__ = ["ALIVE", "DEAD", "Demonstration"]

#: A token whose device has the app, and one whose device is gone.
ALIVE, DEAD = "aa" * 32, "dd" * 32

_KEY = "key"  # the file that holds it, and what it is called in the database is the app's name
_APP = "demo"

_CONFIGURATION = """\
# A daemon to try. "txapns serve --demo" writes this file anew with each start, so changes do not last: copy what you
# want to keep. Apple is the simulator in the same process.

[intake.native]
listen = "{native}"

[admin]
listen = "{admin}"

[apps.demo]
gateway = "http2:host=127.0.0.1:port={http2}"
trust_root = "simulator/ca.pem"
key = "simulator/AuthKey.p8"
key_id = "{key_id}"
team_id = "{team_id}"
topic = "{topic}"
"""

_TEXT = """\
The daemon listens at {url}. Apple's servers are simulated: nothing leaves this machine.
There is an app called demo, and a key for it in {directory}/key.
Watch it in a browser: {admin}/
Stop it with Ctrl-C. What it accepted and remembers stays in {directory}.

Try it from another terminal, in the same directory. First, the key:

  KEY=$(cat {directory}/key)

Send a notification to two devices, one of which is gone, and wait for what becomes of it:

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
    """
    A simulator and a gateway, running.

    :ivar simulator: the simulator.
    :ivar gateway: the daemon.
    :ivar text: what to try, for a person.
    :ivar key: a key for the daemon.
    :ivar addresses: where the daemon listens.
    """

    simulator: SimulatorService
    gateway: DaemonService
    text: str
    key: str = attrs.field(repr=False)
    addresses: dict[str, list[str]]

    @classmethod
    async def start(cls, reactor: Any, directory: Path, *, native: str, admin: str) -> Demonstration:
        """
        Start both.

        :param reactor: the reactor.
        :param directory: where everything is kept; made if need be.
        :param native: the endpoint of the HTTP API.
        :param admin: the endpoint of health, metrics and the status page.
        :returns: both, running.
        :raises APNSError: one of them cannot start.
        """
        apple = Simulator(IReactorTime(reactor), dead=[bytes.fromhex(DEAD)], keep=False)
        simulator = SimulatorService(reactor, apple, directory / "simulator")
        simulator.startService()
        path = directory / "apns.toml"
        path.write_text(_CONFIGURATION.format(native=native, admin=admin, **simulator.description()))
        gateway = DaemonService(reactor, Configuration.from_file(path), {}, lambda error: gateway.ready.errback(error))
        gateway.startService()
        try:
            addresses = await gateway.ready
            key = await _key(gateway, directory / _KEY, wall_clock(reactor).now())
        except BaseException:
            await gateway.stopService()
            await simulator.stopService()
            raise
        url, page = (f"http://{addresses[name][0]}" for name in ("intake.native", "admin"))
        text = _TEXT.format(url=url, admin=page, directory=shlex.quote(str(directory)), ALIVE=ALIVE, DEAD=DEAD)
        return cls(simulator, gateway, text, key, addresses)

    async def stop(self) -> None:
        """Stop both, the daemon first."""
        await self.gateway.stopService()
        await self.simulator.stopService()


async def _key(gateway: DaemonService, path: Path, now: float) -> str:
    """Find the key of the last time, or make one and keep it, for its owner alone."""
    with suppress(OSError, ValueError, NotAuthenticated):
        known = path.read_text(encoding="ascii").strip()
        gateway.keys.check(known)
        return known

    def make(connection: sqlite3.Connection) -> str:
        table = KeyTable(connection)
        with suppress(Malformed):
            remove_key(table, _APP)  # whose file is lost
        return add_key(table, _APP, send=[_APP], feedback=[_APP], manage=True, now=now)

    key = await gateway.database.write(make)
    await gateway.keys.refresh()
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{key}\n")
    return key
