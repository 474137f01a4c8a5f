"""``txapns database``: the daemon's database as a whole: its tables, its health, and its contents in another one."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from txapns.command.installation import read_configuration
from txapns.command.options import config_option, json_option
from txapns.command.streams import UNUSABLE, Group, echo
from txapns.command.tables import print_json
from txapns.daemon.errors import DatabaseError
from txapns.daemon.operations.nodes import node_concerns
from txapns.daemon.store.cluster import NodeStatus
from txapns.daemon.store.copying import copy
from txapns.daemon.store.examination import Finding
from txapns.daemon.store.factory import copying, examined, is_there, migrated

__all__ = ["database"]

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(cls=Group)
def database() -> None:
    """Create, check and copy the daemon's database."""


@database.command("check")
@config_option
@json_option()
def _check_database(config: Path, as_json: bool) -> None:
    """
    Say what an operator should know of the database.

    Nothing is changed. The exit status is 0 if the daemon can use it, and 2 if not.
    """
    found = examined(read_configuration(config))
    findings = [*found.findings, *map(_node, found.nodes)]
    findings += [Finding("warning", concern) for concern in node_concerns(found.nodes)]
    for finding in findings:
        if as_json:
            print_json(finding._asdict())
        else:
            echo(f"{finding.kind:7}  {finding.text}")
    if found.faults:
        raise SystemExit(UNUSABLE)


@database.command("migrate")
@config_option
def _migrate_database(config: Path) -> None:
    """
    Create the tables, or bring them up to date.

    The daemon does this at its start if no other uses the same database. While others do, run this with the new version
    before their upgrade: the old version can still use the tables, or this command says that it has to be stopped.
    """
    changed = migrated(read_configuration(config))
    for name, before, now in changed:
        echo(f"{name}: made version {now}" if not before else f"{name}: version {before} is now version {now}")
    if not changed:
        echo("all tables are up to date")


@database.command("copy")
@click.option("--from", "source", type=_FILE, required=True, metavar="FILE", help="The configuration to copy from.")
@click.option("--to", "target", type=_FILE, required=True, metavar="FILE", help="The configuration to copy to.")
def _copy_database(source: Path, target: Path) -> None:
    """
    Copy everything into another database, from SQLite to PostgreSQL or back.

    Stop all daemons first. The other database has to be empty. Ids, keys, cursors and positions stay the same; the
    master key is needed there as well. A copy that is interrupted leaves nothing.
    """
    of_source, of_target = read_configuration(source), read_configuration(target)
    if not is_there(of_source):
        raise DatabaseError(f"there is no database {of_source.database.path}")
    progress = _Progress()
    with copying(of_source) as old, copying(of_target) as new:
        if occupied := new.occupied():
            raise DatabaseError(f"the database of {target} is not empty: it has {', '.join(occupied)}")
        copied = copy(old, new, progress.show)
        progress.end("committing")
    progress.end("")
    for name, count in copied.counts.items():
        left_out = copied.damaged.get(name, 0)
        echo(f"{name}: {count:,}" + (f", without {left_out:,} that cannot be read" if left_out else ""))


def _node(node: NodeStatus) -> Finding:
    state = "alive" if node.alive else "gone"
    text = f"node {node.name}: {state}, version {node.version}, {node.in_flight} in flight"
    return Finding("ok", f"{text}, heard of {node.heartbeat:.0f} s ago")


class _Progress:
    """A line on a terminal that says how far the copy has come."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = 0.0
        self._width = 0

    def show(self, name: str, done: int, total: int) -> None:
        """Show it, a few times a second."""
        now = time.monotonic()
        if self._terminal and now >= self._shown + 0.2:
            self._shown = now
            self.end(f"{name}: {done:,} of {total:,}")

    def end(self, text: str) -> None:
        """Show something in its place."""
        if self._terminal:
            click.echo(f"\r{text.ljust(self._width)}", err=True, nl=False)
            click.echo("\r" if not text else "", err=True, nl=False)
            self._width = len(text)
