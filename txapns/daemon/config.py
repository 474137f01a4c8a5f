"""
The daemon's configuration: one TOML file, checked to the last key before anything starts.

Everything has a default but the apps, so this is a whole configuration::

    [apps.example]
    certificate = "example.pem"

``contrib/apns.toml`` has every key with its default and what it means. Times are in seconds, sizes in octets; relative
file names are relative to the configuration's own directory. No secret stands in the file, only the names of files that
hold them, so it need not be hidden.

Each mistake is a line that names the key, what was found there and what is allowed, and all mistakes are told at once::

    apns.toml: limits.body: found "4k"; allowed is a whole number, at least 1

What others than this machine can reach must have TLS and must ask for keys. Whoever wants it otherwise says so by name:
``allow_without_tls``, ``allow_without_keys``. A value that looks like a secret in the wrong place is not repeated.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import math
import os
import re
import stat
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
import msgspec.toml
from msgspec import Meta, Struct
from OpenSSL import SSL
from twisted.internet.endpoints import serverFromString

from txapns._texts import utf8
from txapns.daemon.errors import ConfigurationError
from txapns.daemon.values import Limits
from txapns.errors import InvalidGateway
from txapns.gateway import Gateway

__all__ = [
    "FINGERPRINT",
    "NAME",
    "SOCKET_MODE",
    "AdminSection",
    "AppLimitsSection",
    "AppSection",
    "AppleSection",
    "BinarySection",
    "Configuration",
    "DatabaseSection",
    "HTTPSection",
    "IntakeSection",
    "LimitsSection",
    "ListenerSection",
    "NativeSection",
    "PyapnsSection",
    "RetriesSection",
    "SecretsSection",
    "TLSSection",
    "WebhookSection",
    "plain_fingerprint",
    "with_mode",
]

#: What an app, a webhook or a key may be called: the name stands in URLs, metrics and logs.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
#: The mode of a UNIX socket where the endpoint names none: for the daemon's user and group. Twisted's own is for all.
SOCKET_MODE = 0o660
#: How the SHA-256 of a certificate may be written: in plain, or as openssl prints it. It stands in the description of
#: the HTTP API as well, so it has nothing that only Python's expressions have.
FINGERPRINT = re.compile("([sS][hH][aA]-?256 [fF]ingerprint=)?[0-9a-fA-F]{2}([: ]?[0-9a-fA-F]{2}){31}")

_ENDPOINT = 'an endpoint such as "tcp:port=8080:interface=127.0.0.1"'
_MASTER_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")

_Count: TypeAlias = Annotated[int, Meta(ge=1, description="a whole number, at least 1")]
_Seconds: TypeAlias = Annotated[float, Meta(ge=0, description="a number of seconds, 0 or more")]
_Duration: TypeAlias = Annotated[float, Meta(gt=0, description="a number of seconds, more than 0")]
_Share: TypeAlias = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
_Endpoint: TypeAlias = Annotated[str, Meta(description=_ENDPOINT)]
_Host: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?$(?!\n)",
        description='a host name without a port, such as "gateway.example.com" or "*.example.com"',
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
    Give a fingerprint as it is compared.

    :param text: what :data:`FINGERPRINT` matches.
    :returns: 64 hexadecimal digits in lower case.
    """
    return re.sub("[: ]", "", text.rpartition("=")[2]).lower()


class _Section(Struct, frozen=True, kw_only=True):
    """A table of the file."""


class DatabaseSection(_Section, frozen=True, kw_only=True):
    """
    ``[database]``: where notifications, apps, keys and dead tokens are kept.

    :ivar path: the SQLite file; it is made, for its owner alone, if it does not exist.
    :ivar retention: how long the outcome of a notification can be asked for.
    """

    path: Path = Path("apns.db")
    retention: _Seconds = 7 * 86_400.0


class SecretsSection(_Section, frozen=True, kw_only=True):
    """
    ``[secrets]``: the key that the private keys in the database are encrypted with.

    :ivar master_key_file: holds it, if the environment variable ``TXAPNS_MASTER_KEY`` does not.
    """

    master_key_file: Path = Path("master.key")


class TLSSection(_Section, frozen=True, kw_only=True):
    """
    The ``tls`` table of a listener: what it shows of itself.

    :ivar certificate: PEM, with the intermediate certificates after it.
    :ivar key: PEM, the certificate's private key; left out, it is in the same file.
    """

    certificate: Path
    key: Path | None = None


class ListenerSection(_Section, frozen=True, kw_only=True):
    """
    What all that listens has in common.

    :ivar listen: endpoints of Twisted; a single one need not be a list.
    :ivar tls: its certificate; left out, it speaks plain text.
    :ivar keys: whether callers have to say who they are.
    :ivar allow_without_tls: that others than this machine may reach it in plain text.
    :ivar allow_without_keys: that they may do so without saying who they are.
    """

    listen: tuple[_Endpoint, ...] = ()
    tls: TLSSection | None = None
    keys: bool = True
    allow_without_tls: bool = False
    allow_without_keys: bool = False


class HTTPSection(ListenerSection, frozen=True, kw_only=True):
    """
    What all that speaks HTTP/1.1 has in common.

    :ivar hosts: by which names it is known, besides addresses, ``localhost`` and the names in its certificate. Where
        web pages must not get in, requests for another are refused.
    """

    hosts: tuple[_Host, ...] = ()


class NativeSection(HTTPSection, frozen=True, kw_only=True):
    """
    ``[intake.native]``: JSON over HTTP/1.1.

    :ivar wait: how long a request with ``wait: true`` waits for the outcome at the most.
    """

    listen: tuple[_Endpoint, ...] = ("tcp:port=8080:interface=127.0.0.1",)
    wait: _Duration = 30.0


class AppleSection(ListenerSection, frozen=True, kw_only=True):
    """
    ``[intake.apple]``: HTTP/2, as Apple serves it.

    :ivar mode: ``"relay"`` answers what Apple answered, ``"queue"`` as soon as the notification is stored.
    :ivar wait: how long a relayed request waits for Apple's answer at the most.
    :ivar idle: after how many seconds without a request a connection of a known caller is closed; ``limits.idle`` is
        for the others.
    """

    listen: tuple[_Endpoint, ...] = ("tcp:port=8443:interface=127.0.0.1",)
    mode: Literal["relay", "queue"] = "relay"
    wait: _Duration = 30.0
    idle: _Duration = 3_600.0


class BinarySection(_Section, frozen=True, kw_only=True):
    """
    ``[intake.binary]``: the enhanced binary protocol, and its feedback service. Callers show a client certificate.

    :ivar listen: endpoints for notifications.
    :ivar feedback: endpoints for the feedback service.
    :ivar tls: as in :class:`ListenerSection`, like ``allow_without_tls`` and ``allow_without_keys``.
    :ivar app: the app of callers that show no certificate; left out, they are turned away.
    :ivar idle: after how many seconds without an octet a connection is closed. What an old client then writes to it may
        be lost, which many do not notice: it is much longer than ``limits.idle``.
    """

    listen: tuple[_Endpoint, ...] = ("tcp:port=8195:interface=127.0.0.1",)
    feedback: tuple[_Endpoint, ...] = ("tcp:port=8196:interface=127.0.0.1",)
    tls: TLSSection | None = None
    app: str | None = None
    idle: _Duration = 86_400.0
    allow_without_tls: bool = False
    allow_without_keys: bool = False


class PyapnsSection(HTTPSection, frozen=True, kw_only=True):
    """
    ``[intake.pyapns]``: XML-RPC, as pyapns served it.

    :ivar allow_paths: whether ``provision`` may name a file of this machine instead of sending the certificate.
    """

    listen: tuple[_Endpoint, ...] = ("tcp:port=7077:interface=127.0.0.1",)
    allow_paths: bool = False


class AdminSection(HTTPSection, frozen=True, kw_only=True):
    """``[admin]``: health, metrics and the status page."""

    listen: tuple[_Endpoint, ...] = ("tcp:port=8090:interface=127.0.0.1",)
    keys: bool = False


class IntakeSection(_Section, frozen=True, kw_only=True):
    """
    ``[intake]``: the ways in, each a table of its own.

    :ivar native: on unless its ``listen`` is empty.
    :ivar apple: this and the following are off unless their table is there.
    """

    native: NativeSection = NativeSection()
    apple: AppleSection | None = None
    binary: BinarySection | None = None
    pyapns: PyapnsSection | None = None


class LimitsSection(_Section, frozen=True, kw_only=True):
    """
    ``[limits]``: what is refused before it is accepted, and what each app may have unless it has limits of its own.

    :ivar body: the longest body of a request.
    :ivar tokens: the most device tokens in a request.
    :ivar clients: the most connections to each listener.
    :ivar unauthenticated: the most of them that come from one address and have not shown a credential.
    :ivar unread: the most octets of answers that callers have not read, all together; and of requests that are not
        whole, where callers show no credential.
    :ivar idle: after how many seconds without a byte a connection is closed.
    :ivar request: the longest that a request may take to arrive.
    :ivar stop: how long what is under way to Apple is awaited when the daemon is stopped.
    :ivar queue: the most notifications that may wait for an app.
    :ivar in_flight: the most that are under way to Apple for an app.
    :ivar connections: the most connections to Apple for an app.
    """

    body: _Count = 4_194_304
    tokens: _Count = 10_000
    clients: _Count = 1_000
    unauthenticated: _Count = 250
    unread: _Count = 67_108_864
    idle: _Duration = 60.0
    request: _Duration = 30.0
    stop: _Duration = 30.0
    queue: _Count = 1_000_000
    in_flight: _Count = 2_000
    connections: _Count = 1


class RetriesSection(_Section, frozen=True, kw_only=True):
    """
    ``[retries]``: when a notification that Apple did not take is tried again.

    :ivar attempts: after how many it is given up.
    :ivar first: how long the first wait is; each is twice the one before.
    :ivar longest: the longest wait.
    :ivar jitter: by which part a wait is shortened at random.
    """

    attempts: _Count = 20
    first: _Duration = 1.0
    longest: _Duration = 900.0
    jitter: _Share = 0.5


class WebhookSection(_Section, frozen=True, kw_only=True):
    """
    ``[webhook.NAME]``: where dead tokens are told.

    :ivar url: receives the POST.
    :ivar secret_file: holds the secret of the signature.
    :ivar apps: whose tokens; left empty, those of all apps.
    :ivar batch: the most tokens in a POST.
    :ivar timeout: how long an answer may take.
    :ivar give_up: after how long without success it is no longer tried.
    :ivar allow_without_tls: that the address begins with ``http://`` and is another machine's.
    """

    url: str
    secret_file: Path
    apps: tuple[str, ...] = ()
    batch: _Count = 500
    timeout: _Duration = 10.0
    give_up: _Duration = 3 * 86_400.0
    allow_without_tls: bool = False


class AppLimitsSection(_Section, frozen=True, kw_only=True):
    """``[apps.NAME.limits]``: what of ``[limits]`` and ``retries.attempts`` is otherwise for this app."""

    queue: _Count | None = None
    tokens: _Count | None = None
    in_flight: _Count | None = None
    connections: _Count | None = None
    attempts: _Count | None = None


class AppSection(_Section, frozen=True, kw_only=True):
    """
    ``[apps.NAME]``: one app, with either a certificate or a key.

    :ivar gateway: ``"production"``, ``"sandbox"``, or a text like ``"http2:host=localhost:port=2197"``.
    :ivar trust_root: PEM of the authorities to trust there; left out, the platform's.
    :ivar topic: the bundle identifier; not needed with the certificate of one app.
    :ivar push_type: the push type where the way in knows none, as the binary protocol; left out, the payload tells.
    :ivar certificate: PEM or PKCS#12, with the private key.
    :ivar key: a ``.p8``.
    :ivar key_id: the key's identifier.
    :ivar team_id: the team's identifier.
    :ivar passphrase_file: its first line opens the certificate or key.
    :ivar callers: fingerprints (SHA-256) of client certificates whose owners may send for it.
    :ivar limits: its own limits.
    """

    gateway: str = "production"
    trust_root: Path | None = None
    topic: str | None = None
    push_type: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_id: str | None = None
    team_id: str | None = None
    passphrase_file: Path | None = None
    callers: tuple[_Fingerprint, ...] = ()
    limits: AppLimitsSection = AppLimitsSection()


class Configuration(_Section, frozen=True, kw_only=True):
    """
    The whole file. Make it with :meth:`from_file` or :meth:`from_text`.

    :ivar database: as its class says; so are the others.
    :ivar apps: by name; there may be more in the database.
    :ivar webhook: by name.
    """

    database: DatabaseSection = DatabaseSection()
    secrets: SecretsSection = SecretsSection()
    intake: IntakeSection = IntakeSection()
    admin: AdminSection = AdminSection()
    limits: LimitsSection = LimitsSection()
    retries: RetriesSection = RetriesSection()
    webhook: dict[str, WebhookSection] = {}
    apps: dict[str, AppSection] = {}

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Configuration:
        """
        Read and check a file.

        :param path: the file.
        :returns: the configuration.
        :raises ConfigurationError: it cannot be read, or something is wrong in it; a line for each mistake.
        """
        path = Path(path)
        try:
            text = utf8(path.read_bytes()).decode()
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{path}: octet {error.start + 1} is not UTF-8") from None
        return cls.from_text(text, path.absolute().parent, path.name)

    @classmethod
    def from_text(cls, text: str, directory: Path, name: str = "apns.toml") -> Configuration:
        """
        Check a text.

        :param text: TOML.
        :param directory: what relative file names are relative to.
        :param name: what to call the text in errors.
        :returns: the configuration.
        :raises ConfigurationError: something is wrong in it; a line for each mistake.
        """
        try:
            table = msgspec.toml.decode(text)
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"{name}: this is not TOML: {error}") from None
        decoder = _Decoder(directory)
        configuration = decoder.table(cls, table, "")
        assert isinstance(configuration, cls)
        faults = [*decoder.faults, *configuration.faults()]
        if faults:
            raise ConfigurationError("\n".join(f"{name}: {fault}" for fault in faults))
        return configuration

    def faults(self) -> Iterator[str]:
        """
        Find what is wrong though each value by itself is allowed.

        :returns: a line for each mistake, as in the module's docstring.
        """
        for name, listener in self._listeners():
            yield from _listener_faults(name, listener)
        if self.intake.binary is not None:
            yield from _binary_faults(self.intake.binary)
        for name, app in self.apps.items():
            yield from _name_faults(_join("apps", name), name)
            yield from _app_faults(_join("apps", name), app)
        for name, webhook in self.webhook.items():
            yield from _name_faults(_join("webhook", name), name)
            yield from _webhook_faults(_join("webhook", name), webhook)
        if self.retries.longest < self.retries.first:
            yield _fault("retries.longest", self.retries.longest, f"at least retries.first, {self.retries.first}")

    def limits_of(self, own: AppLimitsSection) -> Limits:
        """
        Work out what is allowed for an app.

        :param own: what is its own.
        :returns: that, and for the rest what is allowed for all.
        """
        values = {"attempts": self.retries.attempts}
        for name in ("queue", "tokens", "in_flight", "connections"):
            values[name] = getattr(self.limits, name)
        values.update({name: value for name, value in msgspec.structs.asdict(own).items() if value is not None})
        return Limits(**values)

    def _listeners(self) -> Iterator[tuple[str, ListenerSection]]:
        for name in ("native", "apple", "pyapns"):
            listener = getattr(self.intake, name)
            if listener is not None:
                yield f"intake.{name}", listener
        yield "admin", self.admin


# From TOML to sections


class _Decoder:
    """
    Decodes field by field, so that every mistake is told and not only the first.

    :param directory: what relative file names are relative to.

    :ivar faults: a line for each mistake so far.
    """

    def __init__(self, directory: Path) -> None:
        self.faults: list[str] = []
        self._directory = directory

    def table(self, kind: type[Struct], table: Mapping[str, Any], key: str) -> Any:
        """
        Decode a table into a section; ``None`` if that cannot be.

        The tables of tables can always be, with defaults for what cannot: what is wrong in one section does not keep
        the others from being looked at as a whole.
        """
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        before = len(self.faults)
        for name in sorted(table.keys() - fields.keys()):
            self.faults.append(f"{_join(key, name)}: there is no such key{_meant(name, fields)}")
        values = {}
        for name, field in fields.items():
            if name in table:
                values[name] = self._value(field.type, table[name], _join(key, name))
            elif field.required:
                self.faults.append(f"{_join(key, name)}: found nothing; allowed is {_allowed(field.type)}")
            elif isinstance(field.default, Path):
                values[name] = self._directory / field.default
            elif isinstance(field.default, Struct):
                values[name] = self.table(type(field.default), {}, _join(key, name))
        if kind in (Configuration, IntakeSection):
            return kind(**{name: value for name, value in values.items() if value is not None})
        return kind(**values) if len(self.faults) == before else None

    def _value(self, kind: Any, value: Any, key: str) -> Any:
        """Decode one value; ``None`` if that cannot be."""
        section = next((each for each in (kind, *get_args(kind)) if _is_section(each)), None)
        if section is not None and isinstance(value, dict):
            if get_origin(kind) is dict:
                items = {name: self._value(section, each, _join(key, name)) for name, each in value.items()}
                return {name: each for name, each in items.items() if each is not None}
            return self.table(section, value, key)
        if get_origin(kind) is tuple:
            if isinstance(value, list):
                return tuple(self._value(get_args(kind)[0], each, f"{key}[{n}]") for n, each in enumerate(value))
            return (self._value(get_args(kind)[0], value, key),)
        try:
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError
            found = msgspec.convert(value, kind, dec_hook=self._path)
            return _with_address(found) if kind == _Endpoint else found
        except (msgspec.ValidationError, ValueError):
            self.faults.append(_fault(key, value, _allowed(kind)))
            return None

    def _path(self, kind: type, value: Any) -> Path:
        # A text of several lines is no name, but somebody's private key; and what looks like a master key is one.
        if not isinstance(value, str) or not value or not value.isprintable() or _MASTER_KEY.fullmatch(value):
            raise ValueError
        return self._directory / Path(value).expanduser()


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _join(key: str, name: str) -> str:
    """Write a dotted key as TOML does."""
    plain = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
    return f"{key}.{plain}" if key else plain


def _meant(name: str, fields: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, fields, 1)
    return f"; did you mean {close[0]}?" if close else f"; allowed are {', '.join(fields)}"


def _allowed(kind: Any) -> str:
    """Say what a field takes."""
    origin, arguments = get_origin(kind), [each for each in get_args(kind) if each is not type(None)]
    if origin is Annotated:
        return str(arguments[1].description)
    if origin is Literal:
        return " or ".join(map(_shown, arguments))
    if origin in (Union, types.UnionType):
        return _allowed(arguments[0])
    if origin is dict or _is_section(kind):
        return "a table"
    names: dict[Any, str] = {bool: "true or false", str: "a text", Path: "the name of a file"}
    return names[kind]


def _shown(value: Any) -> str:
    """Show what was found as TOML writes it, unless it is long or has several lines: that may be a key."""
    if isinstance(value, str):
        short = len(value) <= 80 and value.isprintable() and not _MASTER_KEY.fullmatch(value)
        return json.dumps(value, ensure_ascii=False) if short else f"a text of {len(value)} characters"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    return "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else "a date or time"


def _fault(key: str, found: Any, allowed: str) -> str:
    return f"{key}: found {_shown(found)}; allowed is {allowed}"


# What is wrong only together


def _name_faults(key: str, name: str) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield f"{key}: allowed as a name are 1 to 100 letters, digits, dots, hyphens and underscores"


def _listener_faults(key: str, listener: ListenerSection) -> Iterator[str]:
    """What is wrong with who may reach it."""
    for endpoint in listener.listen:
        fault = _endpoint_fault(f"{key}.listen", endpoint, listener.tls, listener.allow_without_tls)
        if fault:
            yield fault
        if not (listener.keys or listener.allow_without_keys):
            yield from _open_faults(f"{key}.keys: found false", endpoint, "keys = true, ")


def _binary_faults(binary: BinarySection) -> Iterator[str]:
    if binary.tls is None and binary.app is None:
        yield "intake.binary: found neither tls nor app; without one of them nobody can tell for which app a caller is"
    for name, endpoints in (("listen", binary.listen), ("feedback", binary.feedback)):
        for endpoint in endpoints:
            fault = _endpoint_fault(f"intake.binary.{name}", endpoint, binary.tls, binary.allow_without_tls)
            if fault:
                yield fault
            if not (binary.app is None or binary.allow_without_keys):
                yield from _open_faults(f"intake.binary.app: found {_shown(binary.app)}", endpoint, "")


def _endpoint_fault(key: str, endpoint: str, tls: TLSSection | None, allow_without_tls: bool) -> str:
    encrypted = endpoint.startswith("ssl:")
    if not _is_endpoint(endpoint):
        return _fault(key, endpoint, _ENDPOINT)
    if encrypted and tls is not None:
        return _fault(key, endpoint, "tcp: or another that has no TLS of its own, since there is a tls table")
    if encrypted or tls is not None or allow_without_tls or _is_local(endpoint):
        return ""
    return (
        f"{key}: found {_shown(endpoint)}, which others than this machine can reach, without TLS; allowed is "
        "interface=127.0.0.1, a tls table, or allow_without_tls = true"
    )


def _is_endpoint(text: str) -> bool:
    if text.startswith("systemd:"):
        return True  # its sockets are there only when systemd starts us
    try:
        serverFromString(None, text)
    except (LookupError, OSError, SSL.Error, TypeError, ValueError):
        return False
    return True


def _open_faults(found: str, endpoint: str, otherwise: str) -> Iterator[str]:
    """Say who can reach an endpoint where nobody is asked who it is."""
    if not _is_local(endpoint):
        yield (
            f"{found}, and others than this machine can reach {_shown(endpoint)}; allowed is {otherwise}a loopback "
            "address, or allow_without_keys = true"
        )
    if _is_socket(endpoint) and any(int(mode, 8) & stat.S_IWOTH for mode in _modes(endpoint)):
        yield (
            f"{found}, and every user of this machine can reach {_shown(endpoint)}; allowed is {otherwise}"
            f"mode={SOCKET_MODE:o}, or allow_without_keys = true"
        )


def _is_socket(endpoint: str) -> bool:
    return _is_endpoint(endpoint) and _parts(endpoint)[0] == "unix"


def _is_local(endpoint: str) -> bool:
    """Whether an endpoint is certainly for this machine alone: in doubt it is not. What is none, nobody can reach."""
    if _is_socket(endpoint) or not _is_endpoint(endpoint):
        return True
    arguments = [part.replace("\\", "") for part in _parts(endpoint)]
    interfaces = [part.removeprefix("interface=") for part in arguments if part.startswith("interface=")]
    try:
        return bool(interfaces) and all(ipaddress.ip_address(each).is_loopback for each in interfaces)
    except ValueError:
        return False


def _parts(endpoint: str) -> list[str]:
    """Take an endpoint apart, as it is without a proxy's header: what kind it is, and its arguments."""
    return re.split(r"(?<!\\):", re.sub(r"\A(haproxy:)+", "", endpoint))


def _modes(endpoint: str) -> list[str]:
    """Find the mode that an endpoint names for its socket, by name or, after the path, by its place."""
    arguments = _parts(endpoint)[1:]
    named = [each.removeprefix("mode=") for each in arguments if each.startswith("mode=")]
    return named or [each for each in arguments if not re.match("[a-z]+=", each)][1:]


def _with_address(endpoint: str) -> str:
    """Write an interface that is an IPv6 address, with brackets or without, as Twisted wants it: with backslashes."""

    def escaped(interface: re.Match[str]) -> str:
        bare = re.sub(r"\A\[(.*)\]\Z", r"\1", interface[0])
        try:
            ipaddress.IPv6Address(bare)
        except ValueError:
            return interface[0]
        return bare.replace(":", "\\:")

    return re.sub(r"(?<=:interface=).+?(?=:[A-Za-z]+=|\Z)", escaped, endpoint)


def with_mode(endpoint: str) -> str:
    """
    Say with which mode a UNIX socket is made.

    :param endpoint: an endpoint of Twisted.
    :returns: it with :data:`SOCKET_MODE`, where it is a UNIX socket and names no mode.
    """
    named = _parts(endpoint)[0] != "unix" or _modes(endpoint)
    return endpoint if named else f"{endpoint}:mode={SOCKET_MODE:o}"


def _app_faults(key: str, app: AppSection) -> Iterator[str]:
    try:
        Gateway.parse(app.gateway)
    except InvalidGateway:
        gateways = "production, sandbox, http2:host=NAME:port=N or binary:host=NAME:port=N"
        yield _fault(f"{key}.gateway", app.gateway, gateways)
    if (app.certificate is None) == (app.key is None):
        found = "neither" if app.key is None else "both"
        yield f"{key}: found {found} of certificate and key; allowed is one of them"
    for name in ("key_id", "team_id"):
        value = getattr(app, name)
        if (app.key is None) != (value is None):
            found = "nothing" if value is None else "a text"
            yield f"{key}.{name}: found {found}; allowed is an identifier with key, and nothing without"


def _webhook_faults(key: str, webhook: WebhookSection) -> Iterator[str]:
    try:
        parts = urlsplit(webhook.url)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        yield f"{key}.url: found no address; allowed is one such as https://example.com/hook, without user or password"
    elif parts.scheme == "http" and not webhook.allow_without_tls and not _is_loopback_host(host):
        yield f"{key}.url: found http://{host}; allowed is https://, or allow_without_tls = true"


def _is_loopback_host(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
