"""
What ``twist apns-simulator`` runs: its options, and the service made from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from twisted.application.service import IService
from twisted.python import usage

from txapns.simulator.service import SimulatorService, read_dead

__all__ = ["Options", "makeService"]


def _number(low: int, high: int) -> Callable[[str], int]:
    """Make what reads an option's number."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ValueError(f"{text!r} is not a number from {low} to {high}")
        return int(text)

    return read


_port = _number(0, 65_535)


class Options(usage.Options):
    """The options of ``twist apns-simulator``; those of ``txapns simulate`` are the same."""

    longdesc = "Apple's push servers on loopback: the HTTP/2 provider API, the enhanced binary protocol, feedback."

    optFlags: ClassVar = [
        ["tls12", None, "Speak TLS 1.2 at the most."],
        ["no-tickets", None, "Give out no TLS session tickets."],
    ]
    optParameters: ClassVar = [
        ["http2", None, 0, "The port of the HTTP/2 provider API; 0 picks one.", _port],
        ["binary", None, 0, "The port of the enhanced binary protocol; 0 picks one.", _port],
        ["feedback", None, 0, "The port of the feedback service; 0 picks one.", _port],
        ["state", None, None, "The directory to write credentials and ports into. Required."],
        ["dead", None, None, "A file of tokens whose devices are gone, one hexadecimal token a line.", read_dead],
        ["topic", None, "com.example.app", "The app's bundle id."],
        ["delay-ms", None, 0, "How long an answer takes, in milliseconds.", _number(0, 3_600_000)],
        [
            "max-concurrent-streams",
            None,
            1_000,
            "How many requests a connection may have under way.",
            _number(1, 2**31 - 1),
        ],
    ]

    def postOptions(self) -> None:
        """Demand what has no default."""
        if not self["state"]:
            raise usage.UsageError("--state DIR is required")


def makeService(options: Options) -> IService:
    """
    Make the simulator's service.

    :param options: the parsed options.
    :returns: the service.
    """
    from twisted.internet import reactor

    return SimulatorService.from_options(reactor, **{name.replace("-", "_"): value for name, value in options.items()})
