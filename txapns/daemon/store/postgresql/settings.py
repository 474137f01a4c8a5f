"""
How to connect to the database.

The url is as libpq takes it: ``postgresql://user@host:5432/name?sslrootcert=/etc/ssl/db.crt``, with several hosts if
there are several servers. What it says holds; for the rest there are safe defaults: a server on another machine has to
prove by its certificate that it is the right one, the connection goes to a server that can be written to, and one that
falls silent is given up after seconds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import psycopg
from psycopg.conninfo import conninfo_to_dict

from txapns._network.trust import authorities_file
from txapns._texts import first_line
from txapns.daemon.errors import ConfigurationError
from txapns.daemon.secrets.master_key import read_private

__all__ = ["SCHEMA", "Settings"]

#: The schema in which the tables are, unless the configuration names another.
SCHEMA = "txapns"

_LOCAL = re.compile(r"|/.*|localhost|127\.[0-9.]+|::1")
_SCHEMA_RULE = re.compile(r"[a-z_][a-z0-9_]{0,62}")

_SECRETS = {"password", "sslpassword"}

_DEFAULTS = {
    "application_name": "txapns",
    "client_encoding": "UTF8",
    "connect_timeout": "5",  # seconds, for each address
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",  # milliseconds
    "target_session_attrs": "read-write",  # of several servers, the primary
}


def _check_url(instance: Settings, attribute: object, url: str) -> None:
    parameters = _parsed(url)
    if not _SECRETS.isdisjoint(parameters):
        raise ConfigurationError(
            "database.url must not contain a password, since the configuration is not secret; put it into a file and "
            "name that with password_file, or use ~/.pgpass"
        )


def _check_schema(instance: Settings, attribute: object, schema: str) -> None:
    if not _SCHEMA_RULE.fullmatch(schema) or schema.startswith("pg_"):
        raise ConfigurationError(
            "database.schema is not a name of up to 63 lower-case letters, digits and underscores that begins with a "
            "letter, but not with pg_"
        )


@attrs.frozen
class Settings:
    """
    How to connect.

    :param url: of the database, as libpq takes it, without a password.
    :param password_file: a file with the password, which is read for each connection; ``None`` for libpq's own ways:
        ``~/.pgpass``, a client certificate, or a socket that knows its user.
    :param schema: in which the tables are.
    :raises ConfigurationError: one of them cannot be used.
    """

    url: str = attrs.field(validator=_check_url, repr=False)
    password_file: Path | None = None
    schema: str = attrs.field(default=SCHEMA, validator=_check_schema)

    @property
    def where(self) -> str:
        """Where the database is, for messages."""
        parameters = _parsed(self.url)
        hosts, ports = (str(parameters.get(key) or "") for key in ("host", "port"))
        name = parameters.get("dbname") or parameters.get("service") or parameters.get("user") or ""
        return f"postgresql://{hosts}{':' if ports else ''}{ports}/{name}"

    @property
    def warnings(self) -> list[str]:
        """What is allowed but should not be."""
        parameters = _parsed(self.url)
        mode = parameters.get("sslmode")
        if _is_local(parameters) or mode in (None, "verify-full"):
            return []
        return [f"sslmode={mode} does not verify that the database's server is the right one"]

    def parameters(self) -> dict[str, Any]:
        """Tell libpq's parameters, except for the password."""
        return {**_DEFAULTS, **_verified(_parsed(self.url))}

    def connect(self, **more: Any) -> psycopg.Connection[Any]:
        """
        Connect, in a thread.

        :param more: parameters of libpq's and psycopg's.
        :raises psycopg.Error: that is not possible now.
        :raises ConfigurationError: the file with the password cannot be used.
        """
        parameters = {**self.parameters(), **more}
        if self.password_file is not None:
            parameters["password"] = _password(self.password_file)
        return psycopg.connect("", **parameters)


def _parsed(url: str) -> dict[str, Any]:
    try:
        return dict(conninfo_to_dict(url))
    except psycopg.Error:  # its text has the url in it
        raise ConfigurationError(
            "database.url is not a url of PostgreSQL's, such as postgresql://user@host:5432/name"
        ) from None


def _verified(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Add how the server proves who it is, where the url does not say it."""
    if _is_local(parameters):
        return dict(parameters)
    # Encryption by Kerberos would take the place of TLS, and is not verified in this way.
    found = {"sslmode": "verify-full", "gssencmode": "disable", **parameters}
    if not _said(parameters, "sslrootcert") and not Path("~/.postgresql/root.crt").expanduser().exists():
        found["sslrootcert"] = str(authorities_file())
    return found


def _is_local(parameters: Mapping[str, Any]) -> bool:
    hosts = [host for key in ("host", "hostaddr") for host in _said(parameters, key).split(",")]
    return not _said(parameters, "service") and all(_LOCAL.fullmatch(host) for host in hosts)


def _said(parameters: Mapping[str, Any], key: str) -> str:
    """Tell what a parameter is, in the url or in the environment variable that libpq reads otherwise."""
    return str(parameters.get(key) or os.environ.get(f"PG{key.upper()}", ""))


def _password(path: Path) -> str:
    try:
        return first_line(read_private(path)).decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not a password in UTF-8") from None
