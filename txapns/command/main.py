"""
The ``txapns`` command: the group of all commands, which are imported when they are asked for.

Sending needs neither the daemon's libraries nor the time to import them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from txapns import __version__

try:
    import click
    import rich  # noqa: F401  # the commands need it

    from txapns.command.signals import hold_signals
    from txapns.command.streams import Unusable, flush_output, open_streams, writing
except ModuleNotFoundError:
    sys.stderr.write('The txapns command needs click and rich: pip install "txapns[cli]"\n')
    raise SystemExit(2) from None

__all__ = ["main"]

# Where the commands are: a module of this package, and the command's name in it. Their first sentences are here too,
# since to take them from the commands would import all of them, and with them the daemon.
_COMMANDS = {
    "broadcast": ("channels", "broadcast", "Send an update to all Live Activities that listen to channels."),
    "channels": ("channels", "channels", "Manage the broadcast channels of an app, at Apple or by way of a daemon."),
    "doctor": ("doctor", "doctor", "Say what is wrong on the way to Apple."),
    "inspect": ("inspect", "inspect", "Say what credentials are good for."),
    "lint": ("lint", "lint", "Say what is wrong with payloads and pushes."),
    "send": ("send", "send", "Send one notification to many devices."),
    "simulate": ("simulate", "simulate", "Simulate Apple's servers until a signal ends it."),
}
_DAEMON_COMMANDS = {
    "apps": ("apps", "apps", "Manage the daemon's apps and their credentials."),
    "check-config": ("serve", "check_config", "Check a configuration and its files."),
    "database": ("database", "database", "Create, check and copy the daemon's database."),
    "keys": ("keys", "keys", "Manage the keys that callers show to the daemon."),
    "queue": ("queue", "queue", "List, retry and delete notifications in the daemon's queue."),
    "serve": ("serve", "serve", "Run the daemon until a signal ends it."),
}


class _LazyGroup(click.Group):
    """Imports a command when it is asked for."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command."""
        try:
            with writing():  # help texts; commands report their errors themselves
                return super().main(*arguments, **options)
        except click.ClickException as error:
            error.show()
            raise SystemExit(error.exit_code) from None
        finally:
            flush_output()

    def list_commands(self, context: click.Context) -> list[str]:
        """List the commands whose libraries are installed."""
        return sorted([*_COMMANDS, *(_DAEMON_COMMANDS if find_spec("msgspec") else ())])

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Describe the commands without importing them."""
        every = {**_COMMANDS, **_DAEMON_COMMANDS}
        with formatter.section("Commands"):
            formatter.write_dl([(name, every[name][2]) for name in self.list_commands(context)])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import a command."""
        found = _COMMANDS.get(name) or _DAEMON_COMMANDS.get(name)
        if found is None:
            return None
        module, attribute, _ = found
        if name == "serve":
            hold_signals()  # it takes a while to import
        try:
            command: click.Command = getattr(import_module(f"txapns.command.{module}"), attribute)
        except ModuleNotFoundError as error:
            if name in _COMMANDS:
                raise
            raise Unusable(f'The daemon needs {error.name}: pip install "txapns[daemon]"') from None
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="txapns", message="%(prog)s %(version)s")
def main() -> None:
    """Send Apple push notifications, run the daemon, or simulate Apple's servers on this machine."""
    open_streams()
