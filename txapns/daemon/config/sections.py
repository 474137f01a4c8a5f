"""
The tables of the configuration, and what each of their keys takes.

Times are in seconds, sizes in bytes. What a value must be is in its type; what is wrong only together with other values
is found in :mod:`~txapns.daemon.config.checks`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

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
    "DatabaseSection",
    "Endpoint",
    "HTTPSection",
    "IntakeSection",
    "LimitsSection",
    "ListenerSection",
    "NativeSection",
    "PyapnsSection",
    "RetriesSection",
    "SecretsSection",
    "Section",
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

_Count: TypeAlias = Annotated[int, Meta(ge=1, description="a whole number, at least 1")]
_Seconds: TypeAlias = Annotated[float, Meta(ge=0, description="a number of seconds, 0 or more")]
_Duration: TypeAlias = Annotated[float, Meta(gt=0, description="a number of seconds, more than 0")]
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


class Section(Struct, frozen=True, kw_only=True):
    """A table of the file."""


class TableOfTables(Section, frozen=True, kw_only=True):
    """A table that has only tables in it, each with a default or optional."""


class DatabaseSection(Section, frozen=True, kw_only=True):
    """
    ``[database]``: where notifications, apps, keys and dead tokens are kept.

    :ivar path: the SQLite file; it is created, readable by its owner only, if it does not exist.
    :ivar retention: how long the outcome of a notification is kept.
    """

    path: Path = Path("apns.db")
    retention: _Seconds = 7 * 86_400.0


class SecretsSection(Section, frozen=True, kw_only=True):
    """
    ``[secrets]``: the key that the private keys in the database are encrypted with.

    :ivar master_key_file: the file that holds it, unless the environment variable ``TXAPNS_MASTER_KEY`` does.
    """

    master_key_file: Path = Path("master.key")


class TLSSection(Section, frozen=True, kw_only=True):
    """
    The ``tls`` table of a listener: its certificate.

    :ivar certificate: PEM, followed by the intermediate certificates.
    :ivar key: PEM, the certificate's private key; left out, it is in the same file.
    """

    certificate: Path
    key: Path | None = None


class ListenerSection(Section, frozen=True, kw_only=True):
    """
    What all listeners have in common.

    :ivar listen: endpoints of Twisted; a single one need not be a list.
    :ivar tls: its certificate; left out, connections are not encrypted.
    :ivar allow_without_tls: whether other machines may connect without TLS.
    :ivar allow_without_keys: whether other machines may connect without authentication.
    """

    listen: tuple[Endpoint, ...] = ()
    tls: TLSSection | None = None
    keys: bool = True
    allow_without_tls: bool = False
    allow_without_keys: bool = False


class HTTPSection(ListenerSection, frozen=True, kw_only=True):
    """
    What all HTTP/1.1 listeners have in common.

    :ivar hosts: the host names it answers to, besides addresses, ``localhost`` and the names in its certificate. A
        listener that keeps web pages out refuses requests for any other host.
    """

    hosts: tuple[_Host, ...] = ()


class NativeSection(HTTPSection, frozen=True, kw_only=True):
    """
    ``[intake.native]``: JSON over HTTP/1.1.

    :ivar wait: the longest that a request with ``wait: true`` waits for the outcome.
    """

    listen: tuple[Endpoint, ...] = ("tcp:port=8080:interface=127.0.0.1",)
    wait: _Duration = 30.0


class AppleSection(ListenerSection, frozen=True, kw_only=True):
    """
    ``[intake.apple]``: HTTP/2, as Apple serves it.

    :ivar mode: ``"relay"`` answers what Apple answered, ``"queue"`` as soon as the notification is stored.
    :ivar wait: the longest that a relayed request waits for Apple's answer.
    :ivar idle: after how many seconds without a request the connection of an authenticated caller is closed;
        ``limits.idle`` is for the others.
    """

    listen: tuple[Endpoint, ...] = ("tcp:port=8443:interface=127.0.0.1",)
    mode: Literal["relay", "queue"] = "relay"
    wait: _Duration = 30.0
    idle: _Duration = 3_600.0


class BinarySection(Section, frozen=True, kw_only=True):
    """
    ``[intake.binary]``: the enhanced binary protocol and its feedback service. Callers present a client certificate.

    :ivar tls: as in :class:`ListenerSection`, like ``allow_without_tls`` and ``allow_without_keys``.
    :ivar app: the app of callers that present no certificate; left out, they are refused.
    :ivar idle: after how many seconds without a byte a connection is closed. It is much longer than ``limits.idle``:
        what an old client writes to a closed connection may be lost, and many do not notice.
    """

    listen: tuple[Endpoint, ...] = ("tcp:port=8195:interface=127.0.0.1",)
    feedback: tuple[Endpoint, ...] = ("tcp:port=8196:interface=127.0.0.1",)
    tls: TLSSection | None = None
    app: str | None = None
    idle: _Duration = 86_400.0
    allow_without_tls: bool = False
    allow_without_keys: bool = False


class PyapnsSection(HTTPSection, frozen=True, kw_only=True):
    """
    ``[intake.pyapns]``: XML-RPC, as pyapns served it.

    :ivar allow_paths: whether ``provision`` may name a file on this machine instead of sending the certificate.
    """

    listen: tuple[Endpoint, ...] = ("tcp:port=7077:interface=127.0.0.1",)
    allow_paths: bool = False


class AdminSection(HTTPSection, frozen=True, kw_only=True):
    """``[admin]``: health, metrics and the status page."""

    listen: tuple[Endpoint, ...] = ("tcp:port=8090:interface=127.0.0.1",)
    keys: bool = False


class IntakeSection(TableOfTables, frozen=True, kw_only=True):
    """
    ``[intake]``: the protocols in which notifications are accepted, each a table of its own.

    :ivar native: on unless its ``listen`` is empty.
    :ivar apple: off unless its table is there, like the following.
    """

    native: NativeSection = NativeSection()
    apple: AppleSection | None = None
    binary: BinarySection | None = None
    pyapns: PyapnsSection | None = None


class LimitsSection(Section, frozen=True, kw_only=True):
    """
    ``[limits]``: limits on requests, and the limits of each app that has none of its own.

    :ivar body: the longest body of a request.
    :ivar tokens: the most device tokens in a request.
    :ivar clients: the most connections to each listener.
    :ivar unauthenticated: the most of them from one address that have not presented a credential.
    :ivar unread: the most bytes of answers, for all callers together, that may wait to be read; likewise the most bytes
        of incomplete requests without a credential.
    :ivar idle: after how many seconds without a byte a connection is closed.
    :ivar request: the longest that a request may take to arrive.
    :ivar stop: how long to wait, when the daemon is stopped, for notifications in flight to Apple.
    :ivar queue: the most notifications that may wait for an app.
    :ivar in_flight: the most notifications in flight to Apple for an app.
    :ivar connections: the most connections to Apple for an app.
    """

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


class RetriesSection(Section, frozen=True, kw_only=True):
    """
    ``[retries]``: when a notification that did not get through to Apple is tried again.

    :ivar attempts: after how many attempts it is given up.
    :ivar first: the first delay; each further delay is twice the one before.
    :ivar jitter: the largest fraction by which a delay is shortened at random.
    """

    attempts: _Count = _DEFAULTS.attempts
    first: _Duration = 1.0
    longest: _Duration = 900.0
    jitter: _Share = 0.5


class WebhookSection(Section, frozen=True, kw_only=True):
    """
    ``[webhook.NAME]``: where dead tokens are reported.

    :ivar secret_file: holds the secret that the POST is signed with.
    :ivar apps: the apps whose tokens are reported; empty for all.
    :ivar batch: the most tokens in a POST.
    :ivar timeout: how long an answer may take.
    :ivar give_up: after how long without success the webhook is given up.
    :ivar allow_without_tls: whether ``url`` may be another machine's and begin with ``http://``.
    """

    url: str
    secret_file: Path
    apps: tuple[str, ...] = ()
    batch: _Count = 500
    timeout: _Duration = 10.0
    give_up: _Duration = 3 * 86_400.0
    allow_without_tls: bool = False


class AppLimitsSection(Section, frozen=True, kw_only=True):
    """``[apps.NAME.limits]``: overrides ``[limits]`` and ``retries.attempts`` for one app."""

    queue: _Count | None = None
    tokens: _Count | None = None
    in_flight: _Count | None = None
    connections: _Count | None = None
    attempts: _Count | None = None


class AppDescription(Section, frozen=True, kw_only=True):
    """
    What the configuration and the database both say of an app.

    :ivar gateway: Apple's gateway: ``"production"``, ``"sandbox"``, or a text like
        ``"http2:host=localhost:port=2197"``.
    :ivar topic: the topic of notifications that name none, which is the bundle identifier; left out, the certificate's.
    :ivar push_type: the push type where the caller's protocol has none, such as the binary protocol; left out, it
        follows from the payload.
    :ivar callers: fingerprints (SHA-256) of client certificates whose owners may send for it.
    """

    gateway: str = "production"
    topic: str | None = None
    push_type: str | None = None
    callers: tuple[_Fingerprint, ...] = ()
    limits: AppLimitsSection = AppLimitsSection()


class AppSection(AppDescription, frozen=True, kw_only=True):
    """
    ``[apps.NAME]``: one app, with either a certificate or a key.

    :ivar trust_root: PEM of the authorities to trust at the gateway; left out, the platform's.
    :ivar certificate: PEM or PKCS#12, with the private key.
    :ivar key: a ``.p8``.
    :ivar passphrase_file: its first line decrypts the certificate or key.
    """

    trust_root: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_id: str | None = None
    team_id: str | None = None
    passphrase_file: Path | None = None
