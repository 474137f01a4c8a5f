"""
Mistakes that can be found before the daemon starts but are not in the configuration's text: in the files it names, and
in the store.

Everything is made here as it is made for sending, except the connections to Apple. After that, only the network and
Apple can prevent sending.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial

from msgspec.structs import asdict

from txapns.credentials import Certificate
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.config.decoding import dotted
from txapns.daemon.errors import in_words
from txapns.daemon.loading import row_app, section_app
from txapns.daemon.secrets.credentials import server_certificate
from txapns.daemon.secrets.master_key import Secrets
from txapns.daemon.sending.webhook import read_secret
from txapns.daemon.store.factory import examined, visiting_tables
from txapns.daemon.values import App, Side

__all__ = ["check_files"]


def check_files(configuration: Configuration, environment: Mapping[str, str], now: datetime) -> Iterator[str]:
    """
    Check all files that a configuration names, and who else can read them.

    :param environment: the environment, which may hold the master key.
    :returns: a line for each mistake, which begins with the key that names the file.
    """
    for name, section in configuration.apps.items():
        yield from _faults(f"apps.{name}", partial(section_app, name, section, configuration, now))
    listeners = {f"intake.{name}": listener for name, listener in asdict(configuration.intake).items()}
    for key, listener in {**listeners, "admin": configuration.admin}.items():
        if listener is not None and listener.tls is not None:
            yield from _faults(f"{key}.tls", partial(server_certificate, listener.tls, now))
    for name, webhook in configuration.webhook.items():
        yield from _faults(f"webhook.{name}.secret_file", partial(read_secret, webhook.secret_file))
    yield from _database_faults(configuration, Secrets(configuration.secrets.master_key_file, environment), now)


def _faults(where: str, make: Callable[[], object]) -> Iterator[str]:
    try:
        made = make()
    except Exception as error:
        yield f"{where}: {in_words(error)}"
    else:
        yield from (f"{where}: {fault}" for fault in (_mismatches(made) if isinstance(made, App) else ()))


def _mismatches(app: App) -> Iterator[str]:
    """Find what Apple would reject of everything that an app sends, judging by its certificates."""
    if app.sandbox is None:
        yield from _side_mismatches(app, Side(app.gateway, app.credential))
    for environment, side in app.sides.items():
        yield from (f"{environment.name.lower()}: {each}" for each in _side_mismatches(app, side))


def _side_mismatches(app: App, side: Side) -> Iterator[str]:
    certificate, host = side.credential, side.gateway.host
    if not isinstance(certificate, Certificate):
        return
    topics, environments = certificate.topics, certificate.environments
    if app.topic is not None and topics and app.topic not in topics:
        yield f"the topic is {app.topic}, and the certificate is for {', '.join(topics)}"
    environment = "sandbox" if "sandbox" in host or "development" in host else "production"
    if host.endswith(".push.apple.com") and environments and environment not in environments:
        yield f"the gateway is {environment}, and the certificate is for {', '.join(sorted(environments))}"


def _database_faults(configuration: Configuration, secrets: Secrets, now: datetime) -> Iterator[str]:
    where = "database.path" if configuration.database.url is None else "database.url"
    try:
        found = examined(configuration)
        yield from (f"{where}: {fault}" for fault in found.faults)
        if found.faults:
            return
        if not found.prepared:  # what is missing will be made by the daemon
            yield from _app_id_faults(configuration, ())
            return
        with visiting_tables(configuration) as tables:
            rows, keys = tables.apps.rows(), tables.keys.listed()
    except Exception as error:
        yield f"{where}: {in_words(error)}"
        return
    for key in keys:
        if key.problem:
            yield f"the key {key.label} in the database: {key.problem}"
    unusable = list(_faults("secrets.master_key_file", secrets.master_key)) if rows else []
    yield from unusable
    yield from _app_id_faults(configuration, [row.name for row in rows])
    for row in [] if unusable else rows:
        yield from _faults(f"the app {row.name} in the database", partial(row_app, row, secrets, configuration, now))


def _app_id_faults(configuration: Configuration, stored: Iterable[str]) -> Iterator[str]:
    """Find Matrix app ids of apps that do not exist; ``stored`` are the names of those in the database."""
    matrix, names = configuration.intake.matrix, {*configuration.apps, *stored}
    for app_id, section in () if matrix is None else matrix.app_ids.items():
        if section.app not in names:
            key = dotted("intake.matrix.app_ids", app_id)
            yield f"{key}.app: there is no app {section.app} in the configuration or the database"
