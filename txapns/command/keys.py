"""``txapns keys``: the keys that callers show to the daemon."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from txapns.command.installation import Installation, iso_time, now
from txapns.command.options import config_option, json_option
from txapns.command.streams import Group, echo
from txapns.command.tables import print_rows
from txapns.daemon.errors import Malformed
from txapns.daemon.keys import add_key, remove_key
from txapns.daemon.store.keys import StoredKey
from txapns.daemon.values import Lane

__all__ = ["keys"]

_PERMISSIONS = ("send", "feedback", "manage")


@click.group(cls=Group)
def keys() -> None:
    """Manage the keys that callers show to the daemon."""


@keys.command("add")
@click.argument("label")
@config_option
@click.option("--app", "names", multiple=True, metavar="NAME", help="An app that the key is for; may be repeated.")
@click.option("--all-apps", is_flag=True, help="The key is for all apps, later ones too.")
@click.option(
    "--may",
    "permissions",
    type=click.Choice(_PERMISSIONS),
    multiple=True,
    default=["send", "feedback"],
    show_default=True,
    help="What the key allows: send; feedback, to read outcomes and dead tokens; manage, for apps and queues; "
    "may be repeated.",
)
@click.option(
    "--lane",
    type=click.Choice([lane.name.lower() for lane in Lane]),
    help="What is sent with the key goes in this lane, whatever a request asks for.",
)
def _add_key(
    label: str, config: Path, names: tuple[str, ...], all_apps: bool, permissions: tuple[str, ...], lane: str | None
) -> None:
    """
    Make a key, and write it to standard output.

    It is not shown again: the database keeps only its hash.
    """
    if set(permissions) == {"manage"}:
        if names or all_apps:
            raise click.UsageError("A key that may only manage takes neither --app nor --all-apps.")
    elif bool(names) == all_apps:
        raise click.UsageError("Give either --app or --all-apps.")
    installation = Installation.from_file(config)
    with installation.visiting() as tables:
        known = {app.name for app in tables.apps.listed()} | set(installation.configuration.apps)
        for name in names:
            if name not in known:
                raise Malformed(f"there is no app {name!r}")
        allowed = None if all_apps else names
        key = add_key(
            tables.keys,
            label,
            send=allowed if "send" in permissions else (),
            feedback=allowed if "feedback" in permissions else (),
            manage="manage" in permissions,
            lane=None if lane is None else Lane[lane.upper()],
            now=now().timestamp(),
        )
    echo(key)
    if sys.stdout.isatty():
        click.echo("The key is not shown again.", err=True)


@keys.command("list")
@config_option
@json_option()
def _list_keys(config: Path, as_json: bool) -> None:
    """List the keys: what they allow, not the keys themselves."""
    installation = Installation.from_file(config)
    stored: Sequence[StoredKey] = []
    if installation.has_database:
        with installation.visiting() as tables:
            stored = tables.keys.listed()
    print_rows([_row(key) for key in stored], as_json)


@keys.command("remove")
@click.argument("key", metavar="ID_OR_LABEL")
@config_option
def _remove_key(key: str, config: Path) -> None:
    """Remove a key. The daemon refuses it within a second or so."""
    with Installation.from_file(config).visiting() as tables:
        remove_key(tables.keys, key)
    echo(f"removed {key}")


def _row(key: StoredKey) -> dict[str, Any]:
    return {
        "id": key.caller.name,
        "label": key.label,
        "send": _allowed(key.caller.send),
        "feedback": _allowed(key.caller.feedback),
        "manage": key.caller.manage,
        "lane": None if key.caller.lane is None else key.caller.lane.name.lower(),
        "created": iso_time(key.created_at),
        "problem": key.problem or None,
    }


def _allowed(names: frozenset[str] | None) -> str | list[str]:
    return "all" if names is None else sorted(names)
