"""
What can be known to be wrong before the gateway starts and is not in the configuration's text: the files it names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

import msgspec

from txapns.daemon import apps, keys
from txapns.daemon.apps import section_app
from txapns.daemon.config import Configuration
from txapns.daemon.database import visiting
from txapns.daemon.material import Material, server_certificate
from txapns.daemon.secrets import Secrets, read_private
from txapns.errors import APNSError

__all__ = ["check_files"]


def check_files(configuration: Configuration, environment: Mapping[str, str], now: datetime) -> Iterator[str]:
    """
    Look into all files that a configuration names, and at who else could.

    :param configuration: the configuration.
    :param environment: the environment, which may hold the master key.
    :param now: the time.
    :returns: a line for each mistake, which begins with the key that names the file.
    """
    for name, app in configuration.apps.items():
        try:
            section_app(name, app, configuration, now)
        except APNSError as error:
            yield f"apps.{name}: {error}"
    intake = configuration.intake
    listeners = {
        "intake.native": intake.native,
        "intake.apple": intake.apple,
        "intake.binary": intake.binary,
        "intake.pyapns": intake.pyapns,
        "admin": configuration.admin,
    }
    for key, listener in listeners.items():
        if listener is not None and listener.tls is not None:
            try:
                server_certificate(listener.tls, now)
            except APNSError as error:
                yield f"{key}.tls: {error}"
    for name, webhook in configuration.webhook.items():
        try:
            if not read_private(webhook.secret_file).strip():
                yield f"webhook.{name}.secret_file: {webhook.secret_file} is empty"
        except APNSError as error:
            yield f"webhook.{name}.secret_file: {error}"
    yield from _database_faults(configuration, Secrets(configuration.secrets.master_key_file, environment), now)


def _database_faults(configuration: Configuration, secrets: Secrets, now: datetime) -> Iterator[str]:
    if not configuration.database.path.exists():
        return  # it will be made
    try:
        with visiting(configuration.database.path, apps.PART, keys.PART) as connection:
            sealed = connection.execute("SELECT name, sealed FROM app ORDER BY name").fetchall()
    except APNSError as error:
        yield f"database.path: {error}"
        return
    try:
        key = secrets.master_key() if sealed else None
    except APNSError as error:
        yield f"secrets.master_key_file: {error}"
        return
    for name, each in sealed:
        assert key is not None
        try:
            Material.unseal(each, name, key).credential(now)
        except (APNSError, msgspec.MsgspecError) as error:
            yield f"the app {name} in the database: {error}"
