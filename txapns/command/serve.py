"""``txapns serve`` and ``txapns check-config``: run the daemon, and check its configuration."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger, globalLogBeginner

from txapns._running import run
from txapns.command.installation import Installation, now, read_configuration
from txapns.command.options import config_option
from txapns.command.signals import release_signals
from txapns.command.streams import UNUSABLE, Command, echo
from txapns.command.tables import print_json
from txapns.daemon.check import check_files
from txapns.daemon.demo import Demonstration
from txapns.daemon.operations.collector import calm_collector
from txapns.daemon.operations.log import observer
from txapns.daemon.service import DaemonService
from txapns.daemon.signals import heed_signals
from txapns.errors import APNSError

__all__ = ["check_config", "serve"]

_log = Logger()


@click.command("check-config", cls=Command)
@config_option
def check_config(config: Path) -> None:
    """
    Check a configuration and its files.

    It also checks who can read the files. Nothing is changed or started. Each mistake is reported in a line.
    """
    configuration = Installation.from_file(config).configuration
    faults = list(check_files(configuration, os.environ, now()))
    for fault in faults:
        click.echo(f"{config.name}: {fault}", err=True)
    if faults:
        raise SystemExit(UNUSABLE)
    echo(f"{config} can be used")


@click.command(cls=Command)
@config_option
@click.option("--check-config", "check", is_flag=True, help="Only check it, as txapns check-config does.")
@click.option("--demo", is_flag=True, help="Simulate Apple's servers as well, with an app and a key ready to use.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("apns-demo"),
    show_default=True,
    metavar="DIR",
    help="Where --demo keeps everything.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_534),  # the status page is at the next one
    default=8080,
    show_default=True,
    metavar="N",
    help="The port of --demo; 0 picks one.",
)
@click.option(
    "--log-format",
    type=click.Choice(["json", "text"]),
    help="How to write the log to standard error: by default as text on a terminal, otherwise as JSON lines.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warn", "error", "critical"]),
    help="The lowest level of what is logged: by default info, with --demo warn.",
)
@click.pass_context
def serve(
    context: click.Context,
    config: Path,
    check: bool,
    demo: bool,
    directory: Path,
    port: int,
    log_format: Literal["json", "text"] | None,
    log_level: str | None,
) -> None:
    """
    Run the daemon until a signal ends it.

    SIGTERM stops it when what is under way is answered; SIGUSR1 sends everything that waits first. SIGHUP reads the
    configuration again.

    With --demo there is nothing to configure: it makes a directory, an app and a key, and says what to try. It serves a
    status page at the next port, and logs only warnings and errors.
    """
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if demo and "config" in given:
        raise click.UsageError("--demo takes no --config.")
    if not demo and given & {"directory", "port"}:
        raise click.UsageError("--directory and --port are for --demo.")
    if check:
        context.invoke(check_config, config=config)
        return

    async def work(reactor: Any, stop: Deferred[None]) -> None:
        if demo:
            await _demonstrate(reactor, stop, directory, port)
        else:
            await _serve(reactor, stop, config)

    # With --demo, the person who tries it wants to read what it says.
    log = observer(style=log_format, level=log_level or ("warn" if demo else "info"))
    globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
    try:
        run(work)
    except APNSError as error:
        for line in str(error).splitlines():
            _log.critical("the daemon cannot start: {reason}", reason=line)
        raise SystemExit(UNUSABLE) from None


async def _demonstrate(reactor: Any, stop: Deferred[None], directory: Path, port: int) -> None:
    native, admin = (f"tcp:port={number}:interface=127.0.0.1" for number in (port, port and port + 1))
    release_signals()
    demonstration = await Demonstration.start(reactor, directory, native=native, admin=admin)
    echo(demonstration.text)
    await stop
    await demonstration.stop()


async def _serve(reactor: Any, stop: Deferred[None], config: Path) -> None:
    def ready(addresses: object) -> None:
        calm_collector()
        with suppress(OSError, click.ClickException):  # the reader of standard output may have gone
            print_json({"ready": True, "addresses": addresses})

    broken: Deferred[Exception] = Deferred()
    daemon = DaemonService(reactor, read_configuration(config), os.environ, broken.callback)
    daemon.ready.addCallback(ready)
    heed_signals(reactor, daemon, str(config))
    release_signals()
    daemon.startService()
    either: list[Deferred[Any]] = [stop, broken]
    result, index = await DeferredList(either, fireOnOneCallback=True)
    await daemon.stopService()
    if index == 1:
        raise result
