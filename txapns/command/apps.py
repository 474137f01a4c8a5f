"""
``txapns apps``: the daemon's apps and their credentials.

The commands work on the daemon's database, whether or not it is running. If it is, it notices a change within a second
or so. A credential is read from a file or from standard input, never from the command line, which others can see.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from getpass import getuser
from pathlib import Path
from typing import IO, Any, Literal

import click

from txapns.command.installation import Installation, iso_time, now
from txapns.command.options import (
    CredentialOptions,
    config_option,
    credential_options,
    gateway_option,
    json_option,
    read_trust_root,
    trust_root_option,
)
from txapns.command.streams import Group, echo
from txapns.command.tables import print_rows
from txapns.credentials import Certificate, Credential
from txapns.daemon.config.sections import FINGERPRINT, AppLimitsSection, AppSection, plain_fingerprint
from txapns.daemon.errors import AppExists, Malformed, SecretError, UnknownApp, in_words
from txapns.daemon.loading import app_of, row_app, section_app
from txapns.daemon.secrets.credentials import read_certificate
from txapns.daemon.store.apps import (
    AppRow,
    AppSettings,
    IAppTable,
    SandboxSettings,
    StoredApp,
    StoredCredential,
    add_app,
    rekey_apps,
    remove_app,
    rotate_app,
)
from txapns.daemon.values import Environment, Pause
from txapns.errors import APNSError

__all__ = ["apps"]


@click.group(cls=Group)
def apps() -> None:
    """Manage the daemon's apps and their credentials."""


def _limits(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> AppLimitsSection:
    names = AppLimitsSection.__struct_fields__
    limits = {}
    for text in given:
        name, _, number = text.partition("=")
        if name not in names or not re.fullmatch("0*[1-9][0-9]{0,17}", number):
            raise click.BadParameter(f"{text!r} is not one of {', '.join(names)} with = and a number after it")
        limits[name] = int(number)
    return AppLimitsSection(**limits)


@apps.command("add")
@click.argument("name")
@config_option
@credential_options
@gateway_option
@trust_root_option
@click.option(
    "--environment",
    type=click.Choice(["auto"]),
    help="auto: it has a production and a sandbox side, and finds out which one a device token is of.",
)
@click.option(
    "--sandbox-gateway", default="sandbox", show_default=True, help="With --environment auto, the server of that side."
)
@click.option("--topic", help="The app's bundle ID; not needed with the certificate of one app.")
@click.option("--push-type", help="The push type of notifications that do not name one.")
@click.option(
    "--caller",
    "callers",
    multiple=True,
    metavar="SHA256",
    help="The fingerprint of a client certificate whose owner may send for the app; may be repeated.",
)
@click.option("--outcomes", is_flag=True, help="Record what becomes of its notifications, for programs that read that.")
@click.option(
    "--supersede/--no-supersede",
    default=True,
    show_default=True,
    help="Whether a newer notification supersedes what waits for the same device with the same collapse id.",
)
@click.option(
    "--limit", "limits", multiple=True, callback=_limits, metavar="NAME=N", help="A limit of its own; may be repeated."
)
def _add_app(
    name: str,
    config: Path,
    credential: CredentialOptions,
    gateway: str,
    trust_root: IO[bytes] | None,
    environment: Literal["auto"] | None,
    sandbox_gateway: str,
    topic: str | None,
    push_type: str | None,
    callers: tuple[str, ...],
    outcomes: bool,
    supersede: bool,
    limits: AppLimitsSection,
) -> None:
    """
    Add an app to the database. Its private key is encrypted with the master key.

    With --environment auto, the credential serves both sides, until the sandbox gets its own with `apps rotate`.
    """
    installation = Installation.from_file(config)
    _check_not_configured(installation, name)
    settings = AppSettings(
        gateway=gateway,
        environment=environment,
        sandbox=SandboxSettings(gateway=sandbox_gateway),
        trust_root=read_trust_root(trust_root),
        topic=topic,
        push_type=push_type,
        callers=_fingerprints(callers),
        outcomes=outcomes,
        supersede=supersede,
        limits=limits,
    )
    read = partial(read_certificate, now=now(), gateway=gateway, topic=topic)
    made = credential.read(read, prompt=True)
    app_of(name, settings, made, installation.configuration, "database")  # raises if it cannot send
    secrets = installation.secrets
    _check_key_not_lost(installation)
    if secrets.create():
        echo(f"made a master key in {secrets.where}; keep a copy, apart from those of the database")
    with installation.visiting() as tables:
        add_app(tables.apps, secrets, name, settings, made, now=now())
    echo(f"added {name}: {_description(made)}")


@apps.command("rotate")
@click.argument("name")
@config_option
@credential_options
@click.option(
    "--environment",
    type=click.Choice(["production", "sandbox"]),
    default="production",
    show_default=True,
    help="Of an app with two sides, the one that it is for.",
)
def _rotate_app(name: str, config: Path, credential: CredentialOptions, environment: str) -> None:
    """
    Give an app in the database another credential.

    The sandbox side of an app has the same credential as production until it gets its own.

    The daemon opens new connections with it, and closes the old ones when the requests under way on them are done.
    """
    installation = Installation.from_file(config)
    _check_not_configured(installation, name)
    side = Environment[environment.upper()]
    gateway = "sandbox" if side is Environment.SANDBOX else None
    made = credential.read(partial(read_certificate, now=now(), gateway=gateway), prompt=True)
    with installation.visiting() as tables:
        rotate_app(tables.apps, installation.secrets, name, made, now=now(), environment=side)
    echo(f"rotated {name}: {_description(made)}")


@apps.command("remove")
@click.argument("name")
@config_option
def _remove_app(name: str, config: Path) -> None:
    """Remove an app and its credential from the database. Its notifications stay in the queue."""
    installation = Installation.from_file(config)
    _check_not_configured(installation, name)
    with installation.visiting() as tables:
        remove_app(tables.apps, name)
    echo(f"removed {name}")


@apps.command("pause")
@click.argument("name")
@config_option
def _pause_app(name: str, config: Path) -> None:
    """
    Send nothing more for an app until it is resumed.

    What is under way is finished, and what is accepted meanwhile waits. The app stays paused over a restart.
    """
    installation = Installation.from_file(config)
    pause = Pause(now().timestamp(), f"the user {getuser()}")
    with installation.visiting() as tables:
        _check_exists(installation, tables.apps, name)
        changed = tables.apps.pause(name, pause)
    echo(f"paused {name}" if changed else f"{name} was paused before")


@apps.command("resume")
@click.argument("name")
@config_option
def _resume_app(name: str, config: Path) -> None:
    """Send for an app again after a pause."""
    installation = Installation.from_file(config)
    with installation.visiting() as tables:
        _check_exists(installation, tables.apps, name)
        changed = tables.apps.resume(name)
    echo(f"resumed {name}" if changed else f"{name} was not paused")


def _check_exists(installation: Installation, table: IAppTable, name: str) -> None:
    if name not in installation.configuration.apps and table.created_at(name) is None:
        raise UnknownApp(f"there is no app {name}")


# What the list says of apps with two sides only.
_OF_TWO_SIDES = ("environment", "sandbox_expires", "sandbox_fingerprint")


@apps.command("list")
@config_option
@json_option()
def _list_apps(config: Path, as_json: bool) -> None:
    """List the apps in the database and those in the configuration."""
    installation = Installation.from_file(config)
    rows = [_section_row(installation, name) for name in installation.configuration.apps]
    if installation.has_database:
        with installation.visiting() as tables:
            problems = _problems(installation, tables.apps.rows())
            sandboxes = tables.apps.sandboxes()
            rows += [_stored_row(app, problems, sandboxes.get(app.name)) for app in tables.apps.listed()]
            pauses = tables.apps.pauses()
        for row in rows:
            if row["name"] in pauses:
                row["paused"] = iso_time(pauses[row["name"]].since)
    if not as_json and not any(row["environment"] for row in rows):
        rows = [{name: value for name, value in row.items() if name not in _OF_TWO_SIDES} for row in rows]
    print_rows(sorted(rows, key=lambda row: str(row["name"])), as_json)


@apps.command("rekey")
@config_option
def _rekey_apps(config: Path) -> None:
    """
    Change the master key.

    All credentials in the database are encrypted with the new one. If the key is in the environment, first put the new
    one before the old one there, with a space between.
    """
    installation = Installation.from_file(config)
    secrets = installation.secrets
    with secrets.rekeying() as key, installation.visiting() as tables:
        count = rekey_apps(tables.apps, key)
    credentials = "credential" if count == 1 else "credentials"
    echo(f"encrypted {count} {credentials} with a new master key; keep a copy of {secrets.where}")


def _check_not_configured(installation: Installation, name: str) -> None:
    if name in installation.configuration.apps:
        raise AppExists(f"the app {name} is in the configuration, and can only be changed there")


def _check_key_not_lost(installation: Installation) -> None:
    """Check that no app needs a master key that is missing: a new one would not decrypt its credential."""
    if not installation.secrets.missing or not installation.has_database:
        return
    with installation.visiting() as tables:
        names = ", ".join(sorted(row.name for row in tables.apps.rows()))
    if names:
        raise SecretError(
            f"{installation.secrets.where} is missing, but the database has apps encrypted with it: {names}. Put it "
            "back, or remove these apps first"
        )


def _fingerprints(callers: Sequence[str]) -> tuple[str, ...]:
    for caller in callers:
        if not FINGERPRINT.fullmatch(caller):
            raise Malformed("--caller takes a SHA-256 of 64 hexadecimal digits, plain or as openssl prints it")
    return tuple(map(plain_fingerprint, callers))


def _description(credential: Credential) -> str:
    """Describe a credential, for a person to compare."""
    if isinstance(credential, Certificate):
        return f"{credential.name}, expires {credential.expires:%Y-%m-%d}, SHA-256 {credential.fingerprint}"
    return f"key {credential.key_id} of team {credential.team_id}"


def _section_row(installation: Installation, name: str) -> dict[str, Any]:
    section = installation.configuration.apps[name]
    kind = "key" if section.certificate is None else "certificate"
    try:
        app = section_app(name, section, installation.configuration, now())
    except Exception as error:
        return _row(name, "file", kind, section, problem=in_words(error))
    known = _known("", app.credential)
    if app.sandbox is not None:
        known |= _known("sandbox_", app.sandbox.credential)
    return _row(name, "file", kind, section, **known)


def _known(prefix: str, credential: Credential) -> dict[str, Any]:
    """Tell what the list shows of a credential."""
    expires = credential.expires.timestamp() if isinstance(credential, Certificate) else None
    return {f"{prefix}expires": expires, f"{prefix}fingerprint": credential.fingerprint}


def _problems(installation: Installation, rows: Sequence[AppRow]) -> dict[str, str]:
    """Find out which apps in the database cannot be used, and why: without the master key, none of them can."""
    try:
        installation.secrets.master_key()
    except APNSError as error:
        return {row.name: str(error) for row in rows}
    problems: dict[str, str] = {}
    for row in rows:
        try:
            row_app(row, installation.secrets, installation.configuration, now())
        except Exception as error:
            problems[row.name] = in_words(error)
    return problems


def _stored_row(app: StoredApp, problems: Mapping[str, str], sandbox: StoredCredential | None) -> dict[str, Any]:
    rest = {"expires": app.expires, "fingerprint": app.fingerprint, "problem": app.problem or problems.get(app.name)}
    if app.settings.environment is not None:
        own: StoredApp | StoredCredential = sandbox or app
        rest |= {"sandbox_expires": own.expires, "sandbox_fingerprint": own.fingerprint}
    return _row(app.name, "database", app.kind, app.settings, **rest)


def _row(name: str, source: str, kind: str, settings: AppSettings | AppSection, **rest: Any) -> dict[str, Any]:
    expires, sandbox_expires = rest.get("expires"), rest.get("sandbox_expires")
    return {
        "name": name,
        "source": source,
        "credential": kind,
        "expires": None if expires is None else iso_time(expires),
        "topic": settings.topic,
        "gateway": settings.gateway,
        "environment": settings.environment,
        "fingerprint": rest.get("fingerprint"),
        "sandbox_expires": None if sandbox_expires is None else iso_time(sandbox_expires),
        "sandbox_fingerprint": rest.get("sandbox_fingerprint"),
        "outcomes": settings.outcomes,
        "problem": rest.get("problem"),
        "paused": None,
    }
