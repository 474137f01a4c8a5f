"""What ``twist apns-simulator`` runs: its options, and the service made from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from twisted.application.service import IService
from twisted.python import usage

from txapns._network.clocks import steady
from txapns._running import stop_once
from txapns.simulator.faults import FAULTS
from txapns.simulator.service import (
    FLAGS,
    HOST,
    NUMBERS,
    Number,
    SimulatorService,
    read_dead,
    read_interface,
    read_name,
)

__all__ = ["Options", "makeService"]


def _reader(number: Number) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and number.least <= int(text) <= number.most):
            raise ValueError(f"{text!r} is not a number from {number.least} to {number.most}")
        return int(text)

    return read


def _fault(name: str) -> str:
    if name not in FAULTS:
        raise ValueError(f"{name!r} is not one of {', '.join(FAULTS)}")
    return name


class Options(usage.Options):
    """The options of ``twist apns-simulator``; those of ``txapns simulate`` are the same."""

    longdesc = "Apple's push servers: HTTP/2 provider API, enhanced binary protocol, feedback, channels."

    optFlags: ClassVar = [[name, None, words] for name, words in FLAGS.items()]
    optParameters: ClassVar = [
        *([number.name, None, number.default, number.help, _reader(number)] for number in NUMBERS),
        ["interface", None, HOST, "The IP address to listen at.", read_interface],
        ["state", None, None, "The directory to write credentials and ports to. Required."],
        ["dead", None, None, "A file of tokens whose devices are gone, one hexadecimal token a line.", read_dead],
        ["topic", None, "com.example.app", "The app's bundle ID."],
        ["fault", None, None, f"What the binary server does wrong: {', '.join(FAULTS)}.", _fault],
    ]

    def opt_name(self, name: str) -> None:
        """A further host name or IP address of the simulator, for its certificates and the page; may be repeated."""
        try:
            self.setdefault("names", []).append(read_name(name))
        except ValueError as error:
            raise usage.UsageError(str(error)) from None

    def postOptions(self) -> None:
        """Check the option that has no default, and give one to the option that may be repeated."""
        self.setdefault("names", [])
        if not self["state"]:
            raise usage.UsageError("--state DIR is required")


def makeService(options: Options) -> IService:
    """Make the simulator's service."""
    from twisted.internet import reactor

    stop_once(reactor)
    return SimulatorService.from_options(
        steady(reactor), **{name.replace("-", "_"): value for name, value in options.items()}
    )
