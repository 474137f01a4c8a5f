"""
The commands of ``txapns`` that are about the daemon: ``serve``, ``apps``, ``keys``, ``queue`` and ``check-config``.

The first runs it. The others work on its database, whether or not it is running; if it is, it takes up what changed
within a second or so. Only what is in the queue the running daemon alone can touch: ``queue`` asks it to, through its
HTTP API. A credential is read from a file or from standard input (``-``), never from the command line,
which others can see. Each exits with 0, or with 2 and a sentence if something cannot be used.
"""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, TypeVar

import attrs
import click
import msgspec
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import FilteringLogObserver, LogLevel, LogLevelFilterPredicate, globalLogBeginner

from txapns._network.trust import trust_pem
from txapns._running import run
from txapns._texts import first_line
from txapns.command.daemon_queue import IQueueAccess, RemoteQueue, StoredQueue, address, agent
from txapns.command.streams import UNUSABLE, InputFile, in_a_sentence
from txapns.credentials import Certificate, Credential, ProviderToken
from txapns.daemon import apps as stored_apps
from txapns.daemon import keys as stored_keys
from txapns.daemon.apps import AppSettings
from txapns.daemon.check import check_files
from txapns.daemon.config import FINGERPRINT, AppLimitsSection, Configuration, plain_fingerprint
from txapns.daemon.demo import Demonstration
from txapns.daemon.errors import AppExists, DatabaseError, DatabaseInUse, Malformed, in_words
from txapns.daemon.faces.native.json_api import MAX_PAGE
from txapns.daemon.faces.native.queue import DEAD, LISTED, Queued
from txapns.daemon.operations.collector import calm_collector
from txapns.daemon.operations.log import observer
from txapns.daemon.secrets.credentials import read_certificate
from txapns.daemon.secrets.master_key import Secrets
from txapns.daemon.service import DaemonService
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.file import visiting
from txapns.daemon.store.sqlite.queue import SQLiteQueue
from txapns.errors import APNSError, WrongPassphrase

__all__ = ["apps", "check_config", "keys", "queue", "serve"]

_F = TypeVar("_F", bound=Callable[..., object])
_T = TypeVar("_T")

_PERMISSIONS = ("send", "feedback", "manage")

_config = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("apns.toml"),
    show_default=True,
    envvar="TXAPNS_CONFIG",
    metavar="FILE",
    help="The daemon's configuration; or set TXAPNS_CONFIG.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Write JSON lines.")


@attrs.frozen
class _Place:
    """Where a gateway keeps things."""

    configuration: Configuration
    secrets: Secrets

    @property
    def database(self) -> Path:
        return self.configuration.database.path

    @contextmanager
    def visiting(self) -> Iterator[sqlite3.Connection]:
        with visiting(self.database, stored_apps.PART, stored_keys.PART) as connection:
            yield connection


@contextmanager
def _place(config: Path) -> Iterator[_Place]:
    """Read the configuration; what goes wrong with it, or later, is told in a sentence."""
    with in_a_sentence():
        configuration = Configuration.from_file(config)
        yield _Place(configuration, Secrets(configuration.secrets.master_key_file, os.environ))


def _now() -> datetime:
    return datetime.now(timezone.utc)


@click.command("check-config")
@_config
def check_config(config: Path) -> None:
    """
    Check a configuration, the files it names, and who can read them.

    Nothing is changed or started. Each mistake is told in a line.
    """
    with _place(config) as place:
        faults = list(check_files(place.configuration, os.environ, _now()))
        for fault in faults:
            click.echo(f"{config.name}: {fault}", err=True)
        if faults:
            raise SystemExit(UNUSABLE)
        click.echo(f"{config} can be used")


# serve


@click.command()
@_config
@click.option("--check-config", "check", is_flag=True, help="Only check it, as txapns check-config does.")
@click.option("--demo", is_flag=True, help="Simulate Apple's servers as well, with an app and a key ready to be used.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("apns-demo"),
    show_default=True,
    metavar="DIR",
    help="Where --demo keeps everything.",
)
@click.option("--port", type=click.IntRange(0, 65_535), default=8080, show_default=True, help="The port of --demo.")
@click.pass_context
def serve(context: click.Context, config: Path, check: bool, demo: bool, directory: Path, port: int) -> None:
    """
    Run the daemon until a signal ends it.

    With --demo there is nothing to be configured: it makes a directory, an app and a key, and says what to try. It has
    a status page at the next port, and logs only what is amiss.
    """
    if check:
        context.invoke(check_config, config=config)
        return

    async def work(reactor: Any, asked: Deferred[None]) -> None:
        if demo:
            native, admin = (f"tcp:port={number}:interface=127.0.0.1" for number in (port, port and port + 1))
            demonstration = await Demonstration.start(reactor, directory, native=native, admin=admin)
            click.echo(demonstration.text)
            await asked
            await demonstration.stop()
            return

        def ready(addresses: object) -> None:
            calm_collector()
            with suppress(OSError):  # who is to be told may have gone
                click.echo(json.dumps({"ready": True, "addresses": addresses}))

        broken: Deferred[Exception] = Deferred()
        gateway = DaemonService(reactor, Configuration.from_file(config), os.environ, broken.callback)
        gateway.ready.addCallback(ready)
        gateway.startService()
        either: list[Deferred[Any]] = [asked, broken]
        result, index = await DeferredList(either, fireOnOneCallback=True)
        await gateway.stopService()
        if index == 1:
            raise result

    log = observer()
    if demo:  # who tries it wants to read what it says
        log = FilteringLogObserver(log, [LogLevelFilterPredicate(LogLevel.warn)])
    globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
    with in_a_sentence():
        run(work)


# apps


@click.group()
def apps() -> None:
    """Look after the daemon's apps and their credentials."""


def _credential_options(command: _F) -> _F:
    options = (
        click.option(
            "--certificate",
            type=InputFile(),
            metavar="FILE",
            help="A certificate with its key, PEM or PKCS#12; - for standard input.",
        ),
        click.option("--key", type=InputFile(), metavar="FILE", help="A signing key (.p8); - for standard input."),
        click.option("--key-id", help="The signing key's identifier."),
        click.option("--team-id", help="The team's identifier."),
        click.option(
            "--passphrase-file",
            type=InputFile(),
            metavar="FILE",
            help="Its first line opens the certificate or key; or set TXAPNS_PASSPHRASE; a terminal is asked.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _limits(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> AppLimitsSection:
    names = AppLimitsSection.__struct_fields__
    limits = {}
    for text in given:
        name, _, number = text.partition("=")
        if name not in names or not (number.isascii() and number.isdigit() and int(number)):
            raise click.BadParameter(f"{text!r} is not one of {', '.join(names)} with = and a number after it")
        limits[name] = int(number)
    return AppLimitsSection(**limits)


@apps.command("add")
@click.argument("name")
@_config
@_credential_options
@click.option(
    "--gateway",
    default="production",
    show_default=True,
    help="production, sandbox, http2:host=NAME:port=N or binary:host=NAME:port=N.",
)
@click.option("--trust-root", type=InputFile(), metavar="FILE", help="Authorities to trust (PEM) there.")
@click.option("--topic", help="The app's bundle id; not needed with the certificate of one app.")
@click.option("--push-type", help="The push type where the way in knows none.")
@click.option(
    "--caller",
    "callers",
    multiple=True,
    metavar="SHA256",
    help="The fingerprint of a client certificate whose owner may send for it; may be repeated.",
)
@click.option(
    "--limit", "limits", multiple=True, callback=_limits, metavar="NAME=N", help="A limit of its own; may be repeated."
)
def _add_app(
    name: str,
    config: Path,
    certificate: IO[bytes] | None,
    key: IO[bytes] | None,
    key_id: str | None,
    team_id: str | None,
    passphrase_file: IO[bytes] | None,
    gateway: str,
    trust_root: IO[bytes] | None,
    topic: str | None,
    push_type: str | None,
    callers: tuple[str, ...],
    limits: AppLimitsSection,
) -> None:
    """Add an app to the database, its private key encrypted with the master key."""
    with _place(config) as place:
        _check_source(place, name)
        settings = AppSettings(
            gateway=gateway,
            trust_root=None if trust_root is None else trust_pem(trust_root.read()),
            topic=topic,
            push_type=push_type,
            callers=_fingerprints(callers),
            limits=limits,
        )
        credential = _credential(certificate, key, key_id, team_id, passphrase_file, gateway=gateway, topic=topic)
        stored_apps.app_of(name, settings, credential, place.configuration, "database")  # tells what is wrong with it
        if place.secrets.create():
            click.echo(f"made a master key in {place.secrets.where}; keep a copy, apart from those of the database")
        with place.visiting() as connection:
            stored_apps.add_app(connection, place.secrets, name, settings, credential, now=_now())
        click.echo(f"added {name}: {_described(credential)}")


@apps.command("rotate")
@click.argument("name")
@_config
@_credential_options
def _rotate_app(
    name: str,
    config: Path,
    certificate: IO[bytes] | None,
    key: IO[bytes] | None,
    key_id: str | None,
    team_id: str | None,
    passphrase_file: IO[bytes] | None,
) -> None:
    """
    Give an app in the database another credential.

    The daemon opens new connections with it, and closes the old ones when what is under way on them is done.
    """
    with _place(config) as place:
        _check_source(place, name)
        credential = _credential(certificate, key, key_id, team_id, passphrase_file)
        with place.visiting() as connection:
            stored_apps.rotate_app(connection, place.secrets, name, credential, now=_now())
        click.echo(f"rotated {name}: {_described(credential)}")


@apps.command("remove")
@click.argument("name")
@_config
def _remove_app(name: str, config: Path) -> None:
    """Remove an app and its credential from the database. What waits for it stays in the queue."""
    with _place(config) as place:
        _check_source(place, name)
        with place.visiting() as connection:
            stored_apps.remove_app(connection, name)
        click.echo(f"removed {name}")


@apps.command("list")
@_config
@_json
def _list_apps(config: Path, as_json: bool) -> None:
    """List the apps, those of the configuration among them."""
    with _place(config) as place:
        rows = [_section_row(place, name) for name in place.configuration.apps]
        if place.database.exists():
            with place.visiting() as connection:
                problems = _problems(place, stored_apps.app_rows(connection))
                rows += [_stored_row(app, problems) for app in stored_apps.list_apps(connection)]
        _print_rows(sorted(rows, key=lambda row: str(row["name"])), as_json)


@apps.command("rekey")
@_config
def _rekey_apps(config: Path) -> None:
    """
    Change the master key, and encrypt everything in the database anew.

    Where the key is in the environment, put the new one before the old one there first, with a space between.
    """
    with _place(config) as place:
        with place.secrets.rekeying() as key, place.visiting() as connection:
            count = stored_apps.rekey_apps(connection, key)
        click.echo(f"encrypted {count} credentials with a new master key; keep a copy of {place.secrets.where}")


def _check_source(place: _Place, name: str) -> None:
    if name in place.configuration.apps:
        raise AppExists(f"the app {name} is in the configuration, and can only be changed there")


def _fingerprints(callers: Sequence[str]) -> tuple[str, ...]:
    for caller in callers:
        if not FINGERPRINT.fullmatch(caller):
            raise Malformed("--caller takes a SHA-256 of 64 hexadecimal digits, plain or as openssl prints it")
    return tuple(map(plain_fingerprint, callers))


def _credential(
    certificate: IO[bytes] | None,
    key: IO[bytes] | None,
    key_id: str | None,
    team_id: str | None,
    passphrase_file: IO[bytes] | None,
    *,
    gateway: str | None = None,
    topic: str | None = None,
) -> Credential:
    """Read what the options name, and ask for a passphrase where one is needed and somebody is there to be asked."""
    file = certificate or key
    if file is None or (certificate is not None and key is not None):
        raise click.UsageError("Give either --certificate or --key.")
    if key is not None and (key_id is None or team_id is None):
        raise click.UsageError("--key needs --key-id and --team-id.")
    data = file.read()
    given = os.environ.get("TXAPNS_PASSPHRASE")
    passphrase = None if given is None else given.encode("utf-8", "surrogateescape")
    if passphrase_file is not None:
        passphrase = first_line(passphrase_file.read())

    def make(passphrase: bytes | None) -> Credential:
        if key is None:
            return read_certificate(data, passphrase, _now(), gateway=gateway, topic=topic)
        return ProviderToken.from_p8(data, key_id or "", team_id or "", passphrase=passphrase)

    try:
        return make(passphrase)
    except WrongPassphrase:
        if passphrase is not None or sys.stdin is None or not sys.stdin.isatty():
            raise
    return make(click.prompt("Passphrase", hide_input=True, err=True).encode())


def _described(credential: Credential) -> str:
    """Say what came in, for a person to compare."""
    if isinstance(credential, Certificate):
        return f"{credential.name}, expires {credential.expires:%Y-%m-%d}, SHA-256 {credential.fingerprint}"
    return f"key {credential.key_id} of team {credential.team_id}"


def _section_row(place: _Place, name: str) -> dict[str, Any]:
    section = place.configuration.apps[name]
    kind = "key" if section.certificate is None else "certificate"
    try:
        app = stored_apps.section_app(name, section, place.configuration, _now())
    except Exception as error:
        return _row(name, "file", kind, None, section.topic, section.gateway, problem=in_words(error))
    expires = stored_apps.expiry(app)
    seconds = None if expires is None else expires.timestamp()
    return _row(name, "file", kind, seconds, section.topic, section.gateway, app.credential.fingerprint)


def _problems(place: _Place, rows: Sequence[tuple[str, bytes, bytes]]) -> dict[str, str]:
    """Find out which apps in the database cannot be used, where the master key can be read."""
    problems: dict[str, str] = {}
    try:
        place.secrets.master_key()
    except APNSError:
        return problems  # who lists apps need not have it
    for row in rows:
        try:
            stored_apps.row_app(*row, place.secrets, place.configuration, _now())
        except Exception as error:
            problems[row[0]] = in_words(error)
    return problems


def _stored_row(app: stored_apps.StoredApp, problems: Mapping[str, str]) -> dict[str, Any]:
    settings, problem = app.settings, app.problem or problems.get(app.name)
    return _row(app.name, "database", app.kind, app.expires, settings.topic, settings.gateway, app.fingerprint, problem)


def _row(
    name: str,
    source: str,
    kind: str,
    expires: float | None,
    topic: str | None,
    gateway: str,
    fingerprint: str | None = None,
    problem: str | None = None,
) -> dict[str, Any]:
    return {
        "name": name,
        "source": source,
        "credential": kind,
        "expires": None if expires is None else _time(expires),
        "topic": topic,
        "gateway": gateway,
        "fingerprint": fingerprint,
        "problem": problem,
    }


# keys


@click.group()
def keys() -> None:
    """Look after the keys that callers of the daemon show."""


@keys.command("add")
@click.argument("label")
@_config
@click.option("--app", "names", multiple=True, metavar="NAME", help="An app that it is for; may be repeated.")
@click.option("--all-apps", is_flag=True, help="It is for all apps, those to come too.")
@click.option(
    "--may",
    "permissions",
    type=click.Choice(_PERMISSIONS),
    multiple=True,
    default=["send", "feedback"],
    show_default=True,
    help="What it allows: to send, to read outcomes and dead tokens, to look after apps and queues; may be repeated.",
)
def _add_key(label: str, config: Path, names: tuple[str, ...], all_apps: bool, permissions: tuple[str, ...]) -> None:
    """
    Make a key, and write it to standard output.

    It is not shown again: the database keeps only its hash.
    """
    if set(permissions) == {"manage"}:
        if names or all_apps:
            raise click.UsageError("Who may only manage is not for some apps or all.")
    elif bool(names) == all_apps:
        raise click.UsageError("Give either --app or --all-apps.")
    with _place(config) as place, place.visiting() as connection:
        known = {app.name for app in stored_apps.list_apps(connection)} | set(place.configuration.apps)
        for name in names:
            if name not in known:
                raise Malformed(f"there is no app {name!r}")
        allowed = None if all_apps else names
        key = stored_keys.add_key(
            connection,
            label,
            send=allowed if "send" in permissions else (),
            feedback=allowed if "feedback" in permissions else (),
            manage="manage" in permissions,
            now=_now().timestamp(),
        )
    click.echo(key)
    if sys.stdout.isatty():
        click.echo("This is the only time that the key is shown.", err=True)


@keys.command("list")
@_config
@_json
def _list_keys(config: Path, as_json: bool) -> None:
    """List the keys: what they allow, not what they are."""
    with _place(config) as place:
        stored: list[stored_keys.StoredKey] = []
        if place.database.exists():
            with place.visiting() as connection:
                stored = stored_keys.list_keys(connection)
        _print_rows([_key_row(key) for key in stored], as_json)


@keys.command("remove")
@click.argument("key", metavar="ID_OR_LABEL")
@_config
def _remove_key(key: str, config: Path) -> None:
    """Remove a key. Whoever shows it is turned away within a second or so."""
    with _place(config) as place, place.visiting() as connection:
        stored_keys.remove_key(connection, key)
    click.echo(f"removed {key}")


def _key_row(key: stored_keys.StoredKey) -> dict[str, Any]:
    return {
        "id": key.caller.name,
        "label": key.label,
        "send": _allowed(key.caller.send),
        "feedback": _allowed(key.caller.feedback),
        "manage": key.caller.manage,
        "created": _time(key.created_at),
        "problem": key.problem or None,
    }


def _allowed(names: frozenset[str] | None) -> str | list[str]:
    return "all" if names is None else sorted(names)


# queue


@attrs.frozen
class _Way:
    """How the queue is reached."""

    config: Path
    url: str | None
    key_file: IO[bytes] | None
    trust_root: IO[bytes] | None

    def ask(self, question: Callable[[IQueueAccess, Deferred[None]], Awaitable[_T]]) -> _T:
        """Run the reactor until there is an answer; what goes wrong is told in a sentence."""

        async def work(reactor: Any, asked: Deferred[None]) -> _T:
            async with self._queue(reactor) as queue:
                return await question(queue, asked)

        with in_a_sentence():
            return run(work)

    @asynccontextmanager
    async def _queue(self, reactor: Any) -> AsyncIterator[IQueueAccess]:
        """Find it in the database, if no gateway has that; otherwise ask the daemon."""
        if self.url is not None:
            yield self._remote(reactor, self.url)
            return
        configuration = Configuration.from_file(self.config)
        path = configuration.database.path
        if not path.exists():
            raise DatabaseError(f"there is no database {path} yet")
        database = Database(path, reactor)
        try:
            await database.start()
        except DatabaseInUse:
            yield self._remote(reactor, address(configuration.intake.native))
            return
        try:
            queue = SQLiteQueue(database, configuration.retries.longest)
            await queue.start()
            yield StoredQueue(queue)
        finally:
            await database.stop()

    def _remote(self, reactor: Any, url: str) -> RemoteQueue:
        key = os.environ.get("TXAPNS_KEY")
        if self.key_file is not None:
            key = first_line(self.key_file.read()).decode("utf-8", "replace")
        trust_root = None if self.trust_root is None else self.trust_root.read()
        return RemoteQueue(reactor, agent(reactor, url, trust_root), url, key)


def _way(command: Callable[..., None]) -> Callable[..., None]:
    """Have a command take the options that say how the queue is reached."""
    options = (
        _config,
        click.option(
            "--url",
            metavar="URL",
            help="Where the daemon's HTTP API is; left out, the configuration's first address of intake.native.",
        ),
        click.option(
            "--key-file",
            type=InputFile(),
            metavar="FILE",
            help="Its first line is a key that may manage; or set TXAPNS_KEY.",
        ),
        click.option("--trust-root", type=InputFile(), metavar="FILE", help="Authorities to trust (PEM) for --url."),
    )

    @functools.wraps(command)
    def wrapped(
        config: Path,
        url: str | None,
        key_file: IO[bytes] | None,
        trust_root: IO[bytes] | None,
        **given: Any,
    ) -> None:
        command(_Way(config, url, key_file, trust_root), **given)

    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


@click.group()
def queue() -> None:
    """
    Look after what waits and what was given up.

    While the daemon runs this goes through its HTTP API, with a key that may manage; otherwise through its database.
    """


_state = click.option(
    "--state", type=click.Choice([*LISTED]), default=DEAD, show_default=True, help="In which state they are."
)


@queue.command("list")
@click.argument("app")
@_state
@click.option("--limit", type=click.IntRange(1, MAX_PAGE), default=100, show_default=True, help="How many at the most.")
@click.option("--after", type=click.IntRange(0), default=0, metavar="CURSOR", help="Go on after this one.")
@_json
@_way
def _list_queue(way: _Way, app: str, state: str, limit: int, after: int, as_json: bool) -> None:
    """List notifications of an app, those accepted first at the top."""
    found = way.ask(lambda queue, asked: queue.listed(app, state, limit, after))
    _print_rows([msgspec.to_builtins(each) if as_json else _queue_row(each) for each in found], as_json)
    if len(found) == limit and not as_json:
        click.echo(f"There may be more: --after {found[-1].cursor}", err=True)


@queue.command("retry")
@click.argument("app")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="How many at the most; left out, all.")
@_way
def _retry_queue(way: _Way, app: str, limit: int | None) -> None:
    """Have what was given up after too many attempts tried again, as if it were new."""
    count = way.ask(lambda queue, asked: _repeated(lambda most: queue.retry(app, most), limit, asked))
    click.echo(f"waiting again: {count}")


@queue.command("purge")
@click.argument("app")
@_state
@click.option("--limit", type=click.IntRange(1), metavar="N", help="How many at the most; left out, all.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_way
def _purge_queue(way: _Way, app: str, state: str, limit: int | None, yes: bool) -> None:
    """Delete notifications of an app, also waiting ones, but none that is under way to Apple."""
    if not yes:
        click.confirm(f"Delete notifications of {app} that are {state}?", abort=True)
    count = way.ask(lambda queue, asked: _repeated(lambda most: queue.purge(app, state, most), limit, asked))
    click.echo(f"deleted: {count}")


async def _repeated(step: Callable[[int], Awaitable[int]], limit: int | None, asked: Deferred[None]) -> int:
    """Do it a page at a time, for which nobody else has to wait long, until it is done or a signal asks for an end."""
    count = 0
    while limit is None or count < limit:
        most = MAX_PAGE if limit is None else min(MAX_PAGE, limit - count)
        done = await step(most)
        count += done
        if done < most or asked.called:
            break
    return count


def _queue_row(each: Queued) -> dict[str, Any]:
    return {
        "id": each.id,
        "token": each.token,
        "attempts": str(each.attempts),
        "reason": each.reason or None,
        "accepted": _time(each.accepted_at),
        "due": _time(each.due) if each.state == "waiting" else None,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Write rows in columns for a person, or as JSON lines for a program."""
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
    elif rows:
        lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    """Write a value so that it is one word; what is nothing is a hyphen."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (",".join(value) if isinstance(value, list) else value) or "-"
