"""
A gateway to try: Apple's servers simulated, and a gateway to them with an app and a key, in one process.

All of it is in one directory, which stays: what waits in the queue at the end goes out after the next start. The
configuration there can be read, changed and used without the demonstration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime

from txapns.daemon.config import Configuration
from txapns.daemon.keys import add_key
from txapns.daemon.service import GatewayService
from txapns.simulator.servers import Simulator
from txapns.simulator.service import SimulatorService

__all__ = ["DEAD", "Demonstration"]

#: A token whose device is gone.
DEAD = "dd" * 32

_CONFIGURATION = """\
# A gateway to try, made by "txapns serve --demo". Apple is the simulator in the same process.

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
The gateway listens at http://{native}, and Apple's servers are simulated.
Everything is in {directory}; stop it with Ctrl-C.

Send a notification to two devices, one of which is gone, and wait for the outcome:

  curl -H 'Authorization: Bearer {key}' --json '{body}' \\
      http://{native}/v1/apps/demo/notifications

Ask for the dead tokens:

  curl -H 'Authorization: Bearer {key}' http://{native}/v1/apps/demo/feedback
"""

_BODY = (
    f'{{"wait": true, "notifications": [{{"tokens": ["{"aa" * 32}", "{DEAD}"], '
    '"payload": {"aps": {"alert": "Dinner is ready"}}}]}'
)


@attrs.frozen
class Demonstration:
    """
    A simulator and a gateway, running.

    :ivar simulator: the simulator.
    :ivar gateway: the gateway.
    :ivar text: what to try, for a person.
    :ivar key: a key for the gateway.
    :ivar addresses: where the gateway listens.
    """

    simulator: SimulatorService
    gateway: GatewayService
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
        :returns: both.
        :raises APNSError: one of them cannot start.
        """
        apple = Simulator(IReactorTime(reactor), dead=[bytes.fromhex(DEAD)], keep=False)
        simulator = SimulatorService(reactor, apple, directory / "simulator")
        simulator.startService()
        path = directory / "apns.toml"
        path.write_text(_CONFIGURATION.format(native=native, admin=admin, **simulator.description()))
        gateway = GatewayService(reactor, Configuration.from_file(path), {}, lambda error: gateway.ready.errback(error))
        gateway.startService()
        try:
            addresses = await gateway.ready
            now = reactor.seconds()
            key = await gateway.database.write(
                lambda connection: add_key(connection, f"demo-{now:.3f}", send=["demo"], feedback=["demo"], now=now)
            )
            await gateway.keys.refresh()
        except BaseException:
            await gateway.stopService()
            await simulator.stopService()
            raise
        text = _TEXT.format(native=addresses["intake.native"][0], directory=directory, key=key, body=_BODY)
        return cls(simulator, gateway, text, key, addresses)

    async def stop(self) -> None:
        """Stop both, the gateway first."""
        await self.gateway.stopService()
        await self.simulator.stopService()
