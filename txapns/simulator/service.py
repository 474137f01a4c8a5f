"""
The simulator as a service of one process: its ports, and a directory with all that other programs need.

The state directory holds what a provider of the simulated app would get from Apple::

    ca.pem           the certificate authority to trust
    client.pem       a client certificate and its key
    client.p12       another, as macOS exports it; the passphrase is "txapns"
    client-rsa.pem   one with an RSA key, for clients that support only RSA
    client-rsa.p12   another, encrypted for old programs; the passphrase is "txapns"
    AuthKey.p8       a signing key for provider tokens
    simulator.json   the ports, the topic, the key's and the team's identifier, and the names of these files

``simulator.json`` is written last, and each file appears whole or not at all: a program that waits for it
finds all the others there. The credentials are new with each start, and worthless elsewhere; still, only their owner
can read them.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import tempfile
from binascii import unhexlify
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any, cast

import attrs
from twisted.application.service import Service
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IReactorTCP, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from txapns._texts import utf8
from txapns.simulator.faults import FAULTS
from txapns.simulator.inbox import KEPT
from txapns.simulator.random_faults import RandomFaults
from txapns.simulator.servers import Simulator
from txapns.simulator.web.api import WebServer

__all__ = ["FLAGS", "HOST", "NUMBERS", "Number", "SimulatorService", "is_open", "read_dead", "read_interface"]
__all__ += ["read_name"]

_log = Logger()

#: The address it listens at, unless it is told another: it believes everything and shows it to everybody.
HOST = "127.0.0.1"
_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
_DESCRIPTION = "simulator.json"


@attrs.frozen
class Number:
    """
    An option whose value is a whole number.

    :ivar name: its name, without the dashes.
    :ivar default: its value if it is not given.
    :ivar least: the smallest value.
    :ivar most: the largest value.
    :ivar help: what it means.
    """

    name: str
    default: int
    least: int
    most: int
    help: str


#: The numeric options of ``txapns simulate`` and ``twist apns-simulator``.
NUMBERS = (
    Number("http2", 0, 0, 65_535, "The port of the HTTP/2 provider API; 0 picks one."),
    Number("binary", 0, 0, 65_535, "The port of the enhanced binary protocol; 0 picks one."),
    Number("feedback", 0, 0, 65_535, "The port of the feedback service; 0 picks one."),
    Number("channels", 0, 0, 65_535, "The port of the server that manages broadcast channels; 0 picks one."),
    Number("web", 0, 0, 65_535, "The port of the control API and its page; 0 picks one."),
    Number("delay-ms", 0, 0, 3_600_000, "How long a response takes, in milliseconds."),
    Number("max-concurrent-streams", 1_000, 1, 2**31 - 1, "How many requests may be under way on a connection."),
    Number("random-faults", 0, 0, 100, "Of a hundred HTTP/2 requests, how many go wrong, at random."),
)
#: Their options without a value, and the help texts.
FLAGS = {
    "strict-legacy-payload": "Accept at most 256 bytes of payload in commands 0 and 1 of the binary protocol.",
    "tls12": "Speak nothing newer than TLS 1.2.",
    "no-tickets": "Issue no TLS session tickets, and speak nothing newer than TLS 1.2.",
}


def read_interface(text: str) -> str:
    """Check the address to listen at; raises :exc:`ValueError` if it is not one."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address, such as 127.0.0.1 or 0.0.0.0") from None


def read_name(text: str) -> str:
    """Check a host name or IP address of the simulator; raises :exc:`ValueError` if it is neither."""
    if ":" in text:
        return read_interface(text)
    if not _NAME.fullmatch(text) or len(text) > 253:
        raise ValueError(f"{text!r} is neither a host name nor an IP address")
    return text.lower()


def is_open(interface: str) -> bool:
    """Whether other machines may reach what listens at an address."""
    return not ipaddress.ip_address(interface).is_loopback


def read_dead(path: str | os.PathLike[str]) -> list[bytes]:
    """
    Read the tokens whose devices are gone.

    :param path: a file with one hexadecimal token a line; blank lines and lines that begin with ``#`` are skipped.
    :returns: the tokens.
    :raises ValueError: the file cannot be read, or a line is not a token.
    """
    try:
        lines = utf8(Path(path).read_bytes()).splitlines()
    except OSError as error:
        raise ValueError(f"{os.fspath(path)}: {error.strerror}") from None
    tokens = []
    for number, line in enumerate(map(bytes.strip, lines), 1):
        if line and not line.startswith(b"#"):
            try:
                tokens.append(unhexlify(line))
            except ValueError:
                raise ValueError(f"{os.fspath(path)}: line {number} is not a hexadecimal token") from None
    return tokens


class SimulatorService(Service):
    """
    A simulator that listens while the service runs.

    :param reactor: the reactor.
    :param simulator: the simulated servers.
    :param state: the state directory; if it does not exist, it is made, for its owner alone.
    :param interface: the IP address to listen at. It asks nobody who they are: anybody who reaches another address than
        a loopback one can read what comes in, and have it answered otherwise. It is one of the simulator's names.
    :param http2: the port of the HTTP/2 provider API; for this and the following 0 picks a free one.
    :param binary: the port of the enhanced binary protocol.
    :param feedback: the port of the feedback service.
    :param channels: the port of the server that manages broadcast channels.
    :param web: the port of the control API and its page; ``None`` for none.
    :param tls12: whether to speak nothing newer than TLS 1.2.
    :param tickets: whether to issue TLS session tickets.
    """

    name = "apns-simulator"

    def __init__(
        self,
        reactor: IReactorTCP,
        simulator: Simulator,
        state: str | os.PathLike[str],
        *,
        interface: str = HOST,
        http2: int = 0,
        binary: int = 0,
        feedback: int = 0,
        channels: int = 0,
        web: int | None = 0,
        tls12: bool = False,
        tickets: bool = True,
    ) -> None:
        self.simulator = simulator
        self._reactor = reactor
        self._state = Path(state)
        self._interface = interface
        if interface != HOST and not ipaddress.ip_address(interface).is_unspecified:
            simulator.names = (*simulator.names, interface)
        self._numbers = {"http2": http2, "binary": binary, "feedback": feedback, "channels": channels}
        self._tls12 = tls12
        self._tickets = tickets
        self._factories: list[TLSMemoryBIOFactory] = []
        self._ports: dict[str, IListeningPort] = {}
        self._web_port = web
        self._web: WebServer | None = None

    @classmethod
    def from_options(
        cls,
        reactor: IReactorTCP,
        *,
        state: str | os.PathLike[str],
        dead: Iterable[bytes] | None,
        topic: str,
        names: Sequence[str] = (),
        delay_ms: int,
        max_concurrent_streams: int,
        random_faults: int,
        fault: str | None,
        strict_legacy_payload: bool,
        no_tickets: bool,
        **options: Any,
    ) -> SimulatorService:
        """
        Make the service from the options that ``txapns simulate`` and ``twist apns-simulator`` have in common.

        It may run for long, so it counts notifications and keeps only the latest.

        :param reactor: the reactor.
        :param state: as for the class.
        :param dead: as for :class:`~txapns.simulator.Simulator`, like ``topic`` and ``names``; ``None`` for none.
        :param delay_ms: how long a response takes, in milliseconds.
        :param max_concurrent_streams: how many requests may be under way on a connection.
        :param random_faults: the rate of :class:`~txapns.simulator.random_faults.RandomFaults`, in percent.
        :param fault: what the binary server does wrong, of :data:`~txapns.simulator.faults.FAULTS`; ``None`` for
            nothing.
        :param strict_legacy_payload: as for the simulator.
        :param no_tickets: whether to issue no TLS session tickets.
        :param options: the interface, the ports and ``tls12``, as for the class.
        :returns: the service.
        """
        simulator = Simulator(
            IReactorTime(reactor),
            topic=topic,
            dead=dead or (),
            names=names,
            delay=delay_ms / 1000,
            concurrency=max_concurrent_streams,
            keep=KEPT,
        )
        if random_faults:
            simulator.http2_fault = RandomFaults(Random(), random_faults / 100)  # noqa: S311  # not to be secret
        simulator.binary_fault = None if fault is None else FAULTS[fault]
        simulator.strict_legacy_payload = strict_legacy_payload
        return cls(reactor, simulator, state, tickets=not no_tickets, **options)

    def startService(self) -> None:
        """
        Listen and write the state directory: once this returns, the simulator is ready.

        :raises CannotListenError: a port is taken.
        :raises OSError: the state directory cannot be written.
        """
        Service.startService(self)
        try:
            for protocol, number in self._numbers.items():
                factory = self.simulator.tls_factory(protocol, tls12=self._tls12, tickets=self._tickets)
                factory.noisy = False  # one line in the log stands for all of them
                port = self._reactor.listenTCP(number, cast(ServerFactory, factory), interface=self._interface)
                self._ports[protocol] = port
                self._factories.append(factory)
            if self._web_port is not None:
                self._web = WebServer(IReactorTime(self._reactor), self.simulator)
                self._ports["web"] = self._reactor.listenTCP(
                    self._web_port, cast(ServerFactory, self._web), interface=self._interface
                )
            self.simulator.ports = self._listening()
            self._write_state()
        except Exception:
            self.stopService()
            raise
        _log.info("the simulator listens, see {path}", path=str(self._state / _DESCRIPTION), **self.description())

    def stopService(self) -> Deferred[None]:
        """
        Stop listening, and abort the connections that are left.

        :returns: a ``Deferred`` that fires when all are closed.
        """
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    def description(self) -> dict[str, object]:
        """
        Return the content of ``simulator.json``.

        :returns: the ports by protocol, the topic, the identifiers of key and team, and the names of the files.
        """
        authority = self.simulator.authority
        return {
            **self._listening(),
            "topic": self.simulator.topic,
            "key_id": authority.key_id,
            "team_id": authority.team_id,
            "ca": "ca.pem",
            "certificate": "client.pem",
            "pkcs12": "client.p12",
            "rsa_certificate": "client-rsa.pem",
            "rsa_pkcs12": "client-rsa.p12",
            "key": "AuthKey.p8",
        }

    def _listening(self) -> dict[str, int]:
        return {protocol: cast(IPv4Address, port.getHost()).port for protocol, port in self._ports.items()}

    async def _stop(self) -> None:
        ports, self._ports = self._ports, {}
        factories, self._factories = self._factories, []
        for port in ports.values():
            await maybeDeferred(port.stopListening)
        for factory in factories:
            for connection in list(factory.protocols):
                connection.abortConnection()
        web, self._web = self._web, None
        if web is not None:
            await web.close()
        # An aborted connection reports to its protocol in the reactor's next turn.
        await deferLater(IReactorTime(self._reactor), 0)
        _log.info("the simulator stopped: {counters}", counters=self.simulator.counters())

    def _write_state(self) -> None:
        authority, topic = self.simulator.authority, self.simulator.topic
        self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        # That of an earlier run names ports at which nothing listens.
        (self._state / _DESCRIPTION).unlink(missing_ok=True)
        self._write("ca.pem", authority.ca_pem)
        self._write("client.pem", authority.client_pem(topic))
        self._write("client.p12", authority.client_pkcs12(topic))
        self._write("client-rsa.pem", authority.client_pem(topic, key_type="rsa"))
        self._write("client-rsa.p12", authority.client_pkcs12(topic, key_type="rsa", old=True))
        self._write("AuthKey.p8", authority.p8)
        self._write(_DESCRIPTION, json.dumps(self.description(), indent=2).encode() + b"\n")

    def _write(self, name: str, content: bytes) -> None:
        """Replace a file atomically. Only its owner can read it, whatever was there before."""
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=self._state)  # has mode 0600
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).replace(self._state / name)
