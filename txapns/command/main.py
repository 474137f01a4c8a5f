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

    from txapns.command.streams import Unusable, flush_output, open_streams, writing
except ModuleNotFoundError:
    sys.stderr.write('The txapns command needs click and rich: pip install "txapns[cli]"\n')
    raise SystemExit(2) from None

__all__ = ["main"]

# Where the commands are: a module of this package, and the command's name in it.
_COMMANDS = {
    "doctor": ("doctor", "doctor"),
    "inspect": ("inspect", "inspect"),
    "lint": ("lint", "lint"),
    "send": ("send", "send"),
    "simulate": ("simulate", "simulate"),
}
_DAEMON_COMMANDS = {
    "apps": ("apps", "apps"),
    "check-config": ("serve", "check_config"),
    "database": ("database", "database"),
    "keys": ("keys", "keys"),
    "queue": ("queue", "queue"),
    "serve": ("serve", "serve"),
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

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import a command."""
        found = _COMMANDS.get(name) or _DAEMON_COMMANDS.get(name)
        if found is None:
            return None
        module, attribute = found
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
