"""``txapns simulate``: Apple's servers on this machine."""

from __future__ import annotations

import ipaddress
import os
import shlex
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError

from txapns._network.endpoints import url_host
from txapns._running import run
from txapns.command.streams import Command, Unusable
from txapns.command.tables import print_json
from txapns.simulator.faults import FAULTS
from txapns.simulator.service import (
    FLAGS,
    HOST,
    NUMBERS,
    SimulatorService,
    is_open,
    read_dead,
    read_interface,
    read_name,
)

__all__ = ["invitation", "simulate"]

_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


def _reading(read: Callable[[Any], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Have click read a value, or each of several, with a function that raises :exc:`ValueError`."""

    def callback(context: click.Context, parameter: click.Parameter, given: Any) -> Any:
        try:
            if isinstance(given, tuple):
                return [read(each) for each in given]
            return None if given is None else read(given)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return callback


def _wait_for_eof(reactor: Any) -> None:
    """Read to the end, in a thread: where standard input is a file, the reactor cannot. What comes is not looked at."""
    # Not through sys.stdin, whose lock a thread that still reads would hold when Python ends.
    while os.read(0, 4_096):
        pass
    reactor.callFromThread(reactor.stop)


def invitation(description: Mapping[str, object], interface: str, state: Path) -> str:
    """Tell a person where the page is, and how to get something into it."""
    where = shlex.quote(str(state))
    address = HOST if ipaddress.ip_address(interface).is_unspecified else interface
    gateway = f"http2:host={'localhost' if address == HOST else address}:port={description['http2']}"
    risk = (
        f"Anybody who reaches {interface} can read what comes in, and change what is answered.\n"
        if is_open(interface)
        else ""
    )
    return (
        f"{risk}What comes in is shown at http://{url_host(address)}:{description['web']}/ until Ctrl-C. "
        "To send something:\n"
        f"  txapns send --gateway {gateway} --trust-root {where}/ca.pem \\\n"
        f"    --certificate {where}/client.pem --title Hello --token {'aa' * 32}"
    )


@click.command(
    cls=Command,
    params=[
        *(
            click.Option(
                [f"--{number.name}"],
                type=click.IntRange(number.least, number.most),
                default=number.default,
                show_default=True,
                metavar="N",
                help=number.help,
            )
            for number in NUMBERS
        ),
        *(click.Option([f"--{name}"], is_flag=True, help=text) for name, text in FLAGS.items()),
    ],
)
@click.option(
    "--interface",
    default=HOST,
    show_default=True,
    callback=_reading(read_interface),
    metavar="ADDRESS",
    help="The IP address to listen at. Anybody who reaches it can read what comes in and change the answers.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    callback=_reading(read_name),
    metavar="NAME",
    help="A further host name or IP address of the simulator, for its certificates and the page; may be repeated.",
)
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="The directory to write credentials and ports to.",
)
@click.option(
    "--dead",
    type=_FILE,
    callback=_reading(read_dead),
    metavar="FILE",
    help="Tokens whose devices are gone, one hex token a line.",
)
@click.option("--topic", default="com.example.app", show_default=True, help="The app's bundle ID.")
@click.option(
    "--fault",
    type=click.Choice(list(FAULTS)),
    metavar="NAME",
    help=f"What the binary server does wrong: {', '.join(FAULTS)}.",
)
@click.option("--until-eof", is_flag=True, help="End when standard input ends, as it does with who started it.")
def simulate(until_eof: bool, **options: Any) -> None:
    """
    Simulate Apple's servers until a signal ends it.

    When it listens, it prints one line of JSON with the ports and the names of the files in the state directory. When
    it ends, it prints another with the numbers of notifications received, accepted and rejected. At the port of --web
    there is a page of what comes in, and of what a phone does with it; a terminal is told its URL, and so is anybody
    who chose the port.
    """

    async def work(reactor: Any, stop: Deferred[None]) -> dict[str, Any]:
        service = SimulatorService.from_options(reactor, **options)
        service.startService()
        description = service.description()
        print_json({"ready": True, **description})
        if options["web"] or sys.stderr.isatty():
            with suppress(OSError):  # nobody may read it
                click.echo(invitation(description, options["interface"], options["state"]), err=True)
        if until_eof:
            threading.Thread(target=_wait_for_eof, args=(reactor,), daemon=True).start()
        await stop
        await service.stopService()
        return service.simulator.counters()

    try:
        counters = run(work)
    except CannotListenError as error:
        raise Unusable(str(error)) from None
    print_json(counters)
