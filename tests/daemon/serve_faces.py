"""A daemon with all its faces, in a process of its own, as in docs/daemon-faces.rst."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path

from twisted.internet import reactor

from tests import processes
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.keys import add_key
from txapns.daemon.service import DaemonService
from txapns.simulator import Authority, Simulator

__all__ = ["GONE", "main"]

#: A token whose device is gone.
GONE = "dd" * 32


async def serve(directory: Path, faces: str) -> None:
    """Start everything, and print the addresses."""
    authority = Authority()
    simulator = Simulator(reactor, authority=authority, dead=[bytes.fromhex(GONE)])
    apple, channels = (
        reactor.listenTCP(0, simulator.tls_factory(protocol), interface="127.0.0.1").getHost().port
        for protocol in ("http2", "channels")
    )
    files = {
        "ca.pem": authority.ca_pem,
        "server.pem": authority.server_certificate(),
        "key.pem": authority.client_pem(),
    }
    for name, content in files.items():
        (directory / name).touch(0o600)
        (directory / name).write_bytes(content)
    text = f"""
        {re.sub("port=[0-9]+", "port=0", faces)}
        [intake.native]
        listen = []
        [admin]
        listen = []
        [apps.chess]
        gateway = "http2:host=127.0.0.1:port={apple}:management_port={channels}"
        trust_root = "ca.pem"
        certificate = "key.pem"
    """

    def broken(error: Exception) -> None:
        gateway.ready.errback(error)

    gateway = DaemonService(reactor, Configuration.from_text(text, directory), {}, broken)
    gateway.startService()
    addresses = await gateway.ready
    key = await gateway.store.keys.write(
        lambda table: add_key(table, "reader", send=None, feedback=None, now=reactor.seconds())
    )
    await gateway.keys.refresh()
    reactor.addSystemEventTrigger("before", "shutdown", gateway.stopService)
    ports = {name: found[0].rpartition(":")[2] for name, found in addresses.items() if found}
    environment = {
        "KEY": key,
        "TOKEN": "aa" * 32,
        "GONE": GONE,
        "CA": str(directory / "ca.pem"),
        "CERTIFICATE": str(directory / "key.pem"),
    }
    sys.stdout.write(json.dumps({"ports": ports, "environment": environment}) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve the faces of the configuration at standard input, until the end."""
    with tempfile.TemporaryDirectory() as directory:
        faces = sys.stdin.read()
        processes.serve(lambda: serve(Path(directory), faces))


if __name__ == "__main__":
    main()
