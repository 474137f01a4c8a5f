"""``txapns simulate``: Apple's servers on this machine."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError

from txapns._running import run
from txapns.command.streams import Command, Unusable
from txapns.command.tables import print_json
from txapns.simulator.faults import FAULTS
from txapns.simulator.service import FLAGS, HOST, NUMBERS, SimulatorService, read_dead

__all__ = ["simulate"]

_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


def _dead(context: click.Context, parameter: click.Parameter, path: Path | None) -> list[bytes]:
    try:
        return [] if path is None else read_dead(path)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _wait_for_eof(reactor: Any) -> None:
    """Read to the end, in a thread: where standard input is a file, the reactor cannot. What comes is not looked at."""
    # Not through sys.stdin, whose lock a thread that still reads would hold when Python ends.
    while os.read(0, 4_096):
        pass
    reactor.callFromThread(reactor.stop)


def _invitation(description: Mapping[str, object], state: Path) -> str:
    """Tell a person where the page is, and how to get something into it."""
    where = shlex.quote(str(state))
    return (
        f"What comes in is shown at http://{HOST}:{description['web']}/ until Ctrl-C. To send something:\n"
        f"  echo {'aa' * 32} | txapns send --gateway http2:host=localhost:port={description['http2']} \\\n"
        f"    --trust-root {where}/ca.pem --certificate {where}/client.pem --title Hello --tokens -"
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
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="The directory to write credentials and ports to.",
)
@click.option(
    "--dead", type=_FILE, callback=_dead, metavar="FILE", help="Tokens whose devices are gone, one hex token a line."
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
    Simulate Apple's servers on loopback until a signal ends it.

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
                click.echo(_invitation(description, options["state"]), err=True)
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
