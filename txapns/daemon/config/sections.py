"""
The tables of the configuration, and what each of their keys takes.

``contrib/apns.toml`` says what each key means. What a value must be is in its type; what is wrong only together with
other values is found in :mod:`~txapns.daemon.config.checks`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from txapns.daemon.values import Limits

__all__ = [
    "FINGERPRINT",
    "NAME",
    "AdminSection",
    "AppDescription",
    "AppLimitsSection",
    "AppSection",
    "AppleSection",
    "BinarySection",
    "CredentialSection",
    "DatabaseSection",
    "Endpoint",
    "HTTPSection",
    "IntakeSection",
    "LimitsSection",
    "ListenerSection",
    "MatrixAppSection",
    "MatrixSection",
    "NativeSection",
    "NodeSection",
    "OutcomesSection",
    "PyapnsSection",
    "RetriesSection",
    "SandboxSection",
    "SecretsSection",
    "TLSSection",
    "TableOfTables",
    "WebhookSection",
    "plain_fingerprint",
]

#: What an app, a webhook or a key may be called. The name appears in URLs, metrics and logs.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
#: How the SHA-256 of a certificate may be written: plain, or as openssl prints it. The pattern is also in the
#: description of the HTTP API, so it uses nothing that only Python's expressions have.
FINGERPRINT = re.compile("([sS][hH][aA]-?256 [fF]ingerprint=)?[0-9a-fA-F]{2}([: ]?[0-9a-fA-F]{2}){31}")

#: What an app may have unless the configuration says otherwise.
_DEFAULTS = Limits()

# The databases have no greater numbers than 64 bits, in milliseconds or microseconds.
_MOST, _LONGEST = 10**12, 100 * 365.25 * 86_400
_Count: TypeAlias = Annotated[int, Meta(ge=1, le=_MOST, description=f"a whole number from 1 to {_MOST}")]
_Seconds: TypeAlias = Annotated[
    float, Meta(ge=0, le=_LONGEST, description="a number of seconds, 0 or more, at most 100 years")
]
_Duration: TypeAlias = Annotated[
    float, Meta(gt=0, le=_LONGEST, description="a number of seconds, more than 0, at most 100 years")
]
_Share: TypeAlias = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
Endpoint: TypeAlias = Annotated[str, Meta(description='an endpoint such as "tcp:port=8080:interface=127.0.0.1"')]
"""An endpoint of Twisted."""

_Host: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?$(?!\n)",
        description='a host name without a port, such as "push.example.com" or "*.example.com"',
    ),
]
_Name: TypeAlias = Annotated[
    str,
    Meta(
        pattern=f"^{NAME.pattern}$(?!\n)",
        description="a name of 1 to 100 letters, digits, dots, hyphens and underscores",
    ),
]
_Schema: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^(?!pg_)[a-z_][a-z0-9_]{0,62}$(?!\n)",
        description="a name of lower-case letters, digits and underscores, which does not begin with pg_",
    ),
]
_Fingerprint: TypeAlias = Annotated[
    str,
    Meta(
        pattern=f"^{FINGERPRINT.pattern}$(?!\n)",
        description="a SHA-256 of 64 hexadecimal digits, plain or as openssl prints it",
    ),
]


def plain_fingerprint(text: str) -> str:
    """
    Normalize a fingerprint so that it can be compared.

    :param text: a text that :data:`FINGERPRINT` matches.
    :returns: 64 hexadecimal digits in lower case.
    """
    return re.sub("[: ]", "", text.rpartition("=")[2]).lower()


class TableOfTables(Struct, frozen=True, kw_only=True):
    """A table that has only tables in it, each with a default or optional."""


class DatabaseSection(Struct, frozen=True, kw_only=True):
    """
    ``[database]``: where notifications, apps, keys and dead tokens are kept.

    :ivar path: the file of SQLite, if there is no ``url``.
    :ivar url: the address of PostgreSQL; ``None`` for SQLite.
    """

    path: Path = Path("apns.db")
    url: str | None = None
    password_file: Path | None = None
    schema: _Schema = "txapns"
    retention: _Seconds = 7 * 86_400.0


class NodeSection(Struct, frozen=True, kw_only=True):
    """``[node]``: this daemon among those that share a database. ``None`` for the name of the machine."""

    name: _Name | None = None


class SecretsSection(Struct, frozen=True, kw_only=True):
    """``[secrets]``: the key that the private keys in the database are encrypted with."""

    master_key_file: Path = Path("master.key")


class TLSSection(Struct, frozen=True, kw_only=True):
    """The ``tls`` table of a listener: its certificate."""

    certificate: Path
    key: Path | None = None


class ListenerSection(Struct, frozen=True, kw_only=True):
    """What all listeners have in common."""

    listen: tuple[Endpoint, ...] = ()
    tls: TLSSection | None = None
    keys: bool = True
    allow_without_tls: bool = False
    allow_without_keys: bool = False


class HTTPSection(ListenerSection, frozen=True, kw_only=True):
    """What all HTTP/1.1 listeners have in common."""

    hosts: tuple[_Host, ...] = ()


class NativeSection(HTTPSection, frozen=True, kw_only=True):
    """``[intake.native]``: JSON over HTTP/1.1."""

    listen: tuple[Endpoint, ...] = ("tcp:port=8080:interface=127.0.0.1",)
    wait: _Duration = 30.0


class AppleSection(ListenerSection, frozen=True, kw_only=True):
    """``[intake.apple]``: HTTP/2, as Apple serves it."""

    listen: tuple[Endpoint, ...] = ("tcp:port=8443:interface=127.0.0.1",)
    mode: Literal["relay", "queue"] = "relay"
    wait: _Duration = 30.0
    idle: _Duration = 3_600.0


class BinarySection(Struct, frozen=True, kw_only=True):
    """
    ``[intake.binary]``: the enhanced binary protocol and its feedback service. Callers present a client certificate.
    """

    listen: tuple[Endpoint, ...] = ("tcp:port=8195:interface=127.0.0.1",)
    feedback: tuple[Endpoint, ...] = ("tcp:port=8196:interface=127.0.0.1",)
    tls: TLSSection | None = None
    app: str | None = None
    idle: _Duration = 86_400.0
    allow_without_tls: bool = False
    allow_without_keys: bool = False


class PyapnsSection(HTTPSection, frozen=True, kw_only=True):
    """``[intake.pyapns]``: XML-RPC, as pyapns served it."""

    listen: tuple[Endpoint, ...] = ("tcp:port=7077:interface=127.0.0.1",)
    allow_paths: bool = False


class MatrixAppSection(Struct, frozen=True, kw_only=True):
    """``[intake.matrix.app_ids.ID]``: which app a Matrix app id means, and whether it wants counts."""

    app: _Name
    counts: bool = True


class MatrixSection(HTTPSection, frozen=True, kw_only=True):
    """``[intake.matrix]``: the push gateway API of Matrix. Homeservers show no keys."""

    listen: tuple[Endpoint, ...] = ("tcp:port=5000:interface=127.0.0.1",)
    keys: bool = False
    wait: _Seconds = 5.0
    app_ids: dict[str, MatrixAppSection] = field(default_factory=dict)


class AdminSection(HTTPSection, frozen=True, kw_only=True):
    """``[admin]``: health, metrics and the status page."""

    listen: tuple[Endpoint, ...] = ("tcp:port=8090:interface=127.0.0.1",)
    keys: bool = False


class IntakeSection(TableOfTables, frozen=True, kw_only=True):
    """``[intake]``: the protocols in which notifications are accepted, each a table of its own."""

    native: NativeSection = NativeSection()
    apple: AppleSection | None = None
    binary: BinarySection | None = None
    pyapns: PyapnsSection | None = None
    matrix: MatrixSection | None = None


class LimitsSection(Struct, frozen=True, kw_only=True):
    """``[limits]``: limits on requests, and the limits of each app that has none of its own."""

    body: _Count = 4_194_304
    tokens: _Count = _DEFAULTS.tokens
    clients: _Count = 1_000
    unauthenticated: _Count = 250
    unread: _Count = 67_108_864
    idle: _Duration = 60.0
    request: _Duration = 30.0
    stop: _Duration = 30.0
    queue: _Count = _DEFAULTS.queue
    in_flight: _Count = _DEFAULTS.in_flight
    connections: _Count = _DEFAULTS.connections
    rate: _Count | None = None


class RetriesSection(Struct, frozen=True, kw_only=True):
    """``[retries]``: when a notification that did not get through to Apple is tried again."""

    attempts: _Count = _DEFAULTS.attempts
    first: _Duration = 1.0
    longest: _Duration = 900.0
    jitter: _Share = 0.5


class OutcomesSection(Struct, frozen=True, kw_only=True):
    """
    ``[outcomes]``: how long outcomes are recorded, of apps that ask for it.

    :ivar most: how many of an app, however young they are.
    """

    retention: _Seconds = 3 * 86_400.0
    most: _Count = 1_000_000


class WebhookSection(Struct, frozen=True, kw_only=True):
    """``[webhook.NAME]``: where dead tokens, outcomes or both are reported."""

    url: str
    secret_file: Path
    events: tuple[Literal["feedback", "outcomes"], ...] = ("feedback",)
    apps: tuple[str, ...] = ()
    batch: _Count = 500
    timeout: _Duration = 10.0
    give_up: _Duration = 3 * 86_400.0
    allow_without_tls: bool = False


class AppLimitsSection(Struct, frozen=True, kw_only=True):
    """``[apps.NAME.limits]``: overrides ``[limits]`` and ``retries.attempts`` for one app."""

    queue: _Count | None = None
    tokens: _Count | None = None
    in_flight: _Count | None = None
    connections: _Count | None = None
    attempts: _Count | None = None
    rate: _Count | None = None


class AppDescription(Struct, frozen=True, kw_only=True):
    """
    What the configuration and the database both say of an app.

    :ivar environment: ``"auto"`` for an app with two sides, of which ``gateway`` is that of production.
    """

    gateway: str = "production"
    environment: Literal["auto"] | None = None
    topic: str | None = None
    push_type: str | None = None
    callers: tuple[_Fingerprint, ...] = ()
    outcomes: bool = False
    supersede: bool = True
    limits: AppLimitsSection = AppLimitsSection()


class SandboxSection(Struct, frozen=True, kw_only=True):
    """``[apps.NAME.sandbox]``: what differs on the sandbox side of an app with two sides."""

    gateway: str = "sandbox"
    trust_root: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_id: str | None = None
    team_id: str | None = None
    passphrase_file: Path | None = None


class AppSection(AppDescription, frozen=True, kw_only=True):
    """``[apps.NAME]``: one app, with either a certificate or a key."""

    trust_root: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_id: str | None = None
    team_id: str | None = None
    passphrase_file: Path | None = None
    sandbox: SandboxSection | None = None


CredentialSection: TypeAlias = AppSection | SandboxSection
"""A table that may name a credential, which is either a certificate or a key, and whom to trust where it is used."""
