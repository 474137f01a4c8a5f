"""
``txapns queue``: notifications that wait, and those that were given up.

With PostgreSQL the commands work on the database. With SQLite only the running daemon can change its queue, so they ask
it through its HTTP API; if it is not running, they work on the database.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import attrs
import click
import msgspec
from twisted.internet.defer import Deferred

from txapns._running import run
from txapns._texts import first_line
from txapns.command.installation import iso_time, read_configuration
from txapns.command.options import config_option, gather, json_option
from txapns.command.queue_access import IQueueAccess, RemoteQueue, StoredQueue, address, agent
from txapns.command.streams import Group, InputFile, content_of, echo
from txapns.command.tables import print_rows
from txapns.daemon.errors import DatabaseError, DatabaseInUse
from txapns.daemon.faces.native.json_api import MAX_PAGE
from txapns.daemon.faces.native.queue import DEAD, LISTED, Queued
from txapns.daemon.store.factory import is_there, make_visitor

__all__ = ["queue"]

_T = TypeVar("_T")


@attrs.frozen
class _QueueOptions:
    """The options that say where the queue is."""

    config: Path
    url: str | None
    key_file: IO[bytes] | None
    trust_root: IO[bytes] | None

    def run(self, work: Callable[[IQueueAccess, Deferred[None]], Awaitable[_T]]) -> _T:
        """Run the reactor until something is done with the queue."""

        async def with_queue(reactor: Any, stop: Deferred[None]) -> _T:
            async with self._queue(reactor) as queue:
                return await work(queue, stop)

        return run(with_queue)

    @asynccontextmanager
    async def _queue(self, reactor: Any) -> AsyncIterator[IQueueAccess]:
        """Open the database, unless a daemon has it; then ask the daemon."""
        if self.url is not None:
            yield self._remote(reactor, self.url)
            return
        configuration = read_configuration(self.config)
        if not is_there(configuration):
            raise DatabaseError(f"there is no database {configuration.database.path} yet")
        store = make_visitor(reactor, configuration)
        try:
            await store.start()
        except DatabaseInUse:
            yield self._remote(reactor, address(configuration.intake.native))
            return
        try:
            yield StoredQueue(store, configuration.apps)
        finally:
            await store.stop()

    def _remote(self, reactor: Any, url: str) -> RemoteQueue:
        key = os.environ.get("TXAPNS_KEY")
        if self.key_file is not None:
            key = first_line(content_of(self.key_file)).decode("utf-8", "replace")
        trust_root = None if self.trust_root is None else content_of(self.trust_root)
        return RemoteQueue(reactor, agent(reactor, url, trust_root), url, key)


def _queue_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say where the queue is, as one argument ``where``."""
    options = (
        config_option,
        click.option(
            "--url",
            metavar="URL",
            help="The URL of the daemon's HTTP API; left out, a daemon is asked only if it has an SQLite database "
            "open, at the first address of intake.native in the configuration.",
        ),
        click.option(
            "--key-file",
            type=InputFile(),
            metavar="FILE",
            help="A file whose first line is a key that may manage; or set TXAPNS_KEY.",
        ),
        click.option("--trust-root", type=InputFile(), metavar="FILE", help="Authorities to trust (PEM) for --url."),
    )
    return gather(_QueueOptions, "where", options, command)


@click.group(cls=Group)
def queue() -> None:
    """
    List, retry and delete notifications in the daemon's queue.

    With PostgreSQL this works on the database. With SQLite, while the daemon runs, it goes through its HTTP API, with a
    key that may manage; otherwise it works on the database.
    """


_state = click.option(
    "--state", type=click.Choice([*LISTED]), default=DEAD, show_default=True, help="The state they are in."
)
_limit = click.option("--limit", type=click.IntRange(1), metavar="N", help="How many at most; left out, all.")


@queue.command("list")
@click.argument("app")
@_state
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_PAGE),
    default=100,
    show_default=True,
    metavar="N",
    help="How many at most.",
)
@click.option("--after", type=click.IntRange(0), default=0, metavar="CURSOR", help="Continue after this one.")
@json_option()
@_queue_options
def _list_queue(where: _QueueOptions, app: str, state: str, limit: int, after: int, as_json: bool) -> None:
    """List notifications of an app, the oldest first."""
    found = where.run(lambda queue, stop: queue.listed(app, state, limit, after))
    print_rows([msgspec.to_builtins(each) if as_json else _row(each) for each in found], as_json)
    if len(found) == limit and not as_json:
        click.echo(f"There may be more: --after {found[-1].cursor}", err=True)


@queue.command("retry")
@click.argument("app")
@_limit
@_queue_options
def _retry_queue(where: _QueueOptions, app: str, limit: int | None) -> None:
    """Retry notifications that were given up. They are treated as new."""
    count = where.run(lambda queue, stop: _in_pages(lambda most: queue.retry(app, most), limit, stop))
    echo(f"waiting again: {count}")


@queue.command("purge")
@click.argument("app")
@_state
@_limit
@click.option("--yes", is_flag=True, help="Do not ask.")
@_queue_options
def _purge_queue(where: _QueueOptions, app: str, state: str, limit: int | None, yes: bool) -> None:
    """Delete notifications of an app. Those under way to Apple stay."""
    if not yes:
        try:
            click.confirm(f"Delete notifications of {app} that are {state}?", abort=True)
        except click.Abort:
            raise click.ClickException("nothing was deleted; give --yes if nobody can answer") from None
    count = where.run(lambda queue, stop: _in_pages(lambda most: queue.purge(app, state, most), limit, stop))
    echo(f"deleted: {count}")


async def _in_pages(step: Callable[[int], Awaitable[int]], limit: int | None, stop: Deferred[None]) -> int:
    """Take a page at a time, so that others do not wait long, until all is done or a signal asks for an end."""
    count = 0
    while limit is None or count < limit:
        most = MAX_PAGE if limit is None else min(MAX_PAGE, limit - count)
        done = await step(most)
        count += done
        if done < most or stop.called:
            break
    return count


def _row(each: Queued) -> dict[str, Any]:
    return {
        "id": each.id,
        "token": each.channel or each.token,
        "attempts": str(each.attempts),
        "reason": each.reason or None,
        "accepted": iso_time(each.accepted_at),
        "due": iso_time(each.due) if each.state == "waiting" else None,
    }
