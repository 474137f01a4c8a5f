"""
Values that are allowed by themselves but not together.

Each function yields a line for each mistake, which begins with the dotted key that it is given.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Mapping
from typing import get_args
from urllib.parse import parse_qsl, urlsplit

from txapns.daemon.config.decoding import fault, shown
from txapns.daemon.config.endpoints import SOCKET_MODE, has_valid_port, is_endpoint, is_local, is_open_socket
from txapns.daemon.config.sections import (
    NAME,
    AppSection,
    BinarySection,
    CredentialSection,
    DatabaseSection,
    Endpoint,
    ListenerSection,
    MatrixSection,
    TLSSection,
    WebhookSection,
)
from txapns.errors import InvalidGateway
from txapns.gateway import Gateway

__all__ = [
    "app_faults",
    "binary_faults",
    "database_faults",
    "event_faults",
    "listener_faults",
    "matrix_faults",
    "name_faults",
    "node_faults",
    "webhook_faults",
]

# The parameters of libpq that are secrets.
_PASSWORDS = ("password", "sslpassword")


def database_faults(database: DatabaseSection, given: Collection[str]) -> Iterator[str]:
    """
    Check that one database is named, and that no secret is in its address.

    :param given: the dotted keys that have values of their own; the others have their defaults.
    """
    if database.url is None:
        for name in ("password_file", "schema"):
            if f"database.{name}" in given and "database.url" not in given:
                yield f"database.{name}: allowed only with database.url"
        return
    if "database.path" in given:
        yield "database: found both path and url; give only one of them"
    try:
        parts = urlsplit(database.url)
        secret = parts.password is not None or any(name in _PASSWORDS for name, _ in parse_qsl(parts.query))
    except ValueError:
        parts, secret = urlsplit(""), False
    if secret:
        yield "database.url: found a password; allowed is one in database.password_file or in ~/.pgpass"
    elif parts.scheme not in ("postgresql", "postgres") or not database.url.isprintable() or "://" not in database.url:
        yield "database.url: found no address; allowed is one such as postgresql://txapns@db.example.com/push"


def node_faults(name: str) -> Iterator[str]:
    """Check the name of a node, which may be that of the machine."""
    if not NAME.fullmatch(name):
        yield (
            f"node.name: found nothing, and the name of this machine, {shown(name)}, cannot be used; allowed is a name "
            "of 1 to 100 letters, digits, dots, hyphens and underscores"
        )


def name_faults(key: str, name: str) -> Iterator[str]:
    """Check the name of an app or a webhook."""
    if not NAME.fullmatch(name):
        yield f"{key}: allowed as a name are 1 to 100 letters, digits, dots, hyphens and underscores"


def listener_faults(key: str, listener: ListenerSection) -> Iterator[str]:
    """Check who can reach a listener."""
    for endpoint in listener.listen:
        yield from _endpoint_faults(f"{key}.listen", endpoint, listener.tls, listener.allow_without_tls)
        if not (listener.keys or listener.allow_without_keys):
            yield from _open_faults(f"{key}.keys: found false", endpoint, "keys = true, ")


def binary_faults(binary: BinarySection) -> Iterator[str]:
    """Check who can reach the binary protocol, and whether it can be known for which app."""
    if binary.tls is None and binary.app is None:
        yield "intake.binary: found neither tls nor app; one of them has to tell which app a caller is for"
    for name, endpoints in (("listen", binary.listen), ("feedback", binary.feedback)):
        for endpoint in endpoints:
            yield from _endpoint_faults(f"intake.binary.{name}", endpoint, binary.tls, binary.allow_without_tls)
            if not (binary.app is None or binary.allow_without_keys):
                yield from _open_faults(f"intake.binary.app: found {shown(binary.app)}", endpoint, "")


def matrix_faults(matrix: MatrixSection) -> Iterator[str]:
    """Check that there are app ids: pushkeys of others are rejected, and homeservers then forget them."""
    if not matrix.app_ids:
        example = '[intake.matrix.app_ids."com.example.app"]'
        yield f"intake.matrix.app_ids: found nothing; allowed is at least one table such as {example}"


def _endpoint_faults(key: str, endpoint: str, tls: TLSSection | None, allow_without_tls: bool) -> Iterator[str]:
    encrypted = endpoint.startswith("ssl:")
    if not is_endpoint(endpoint):
        yield fault(key, endpoint, get_args(Endpoint)[1].description)
    elif not has_valid_port(endpoint):
        yield fault(key, endpoint, "a port from 0 to 65535")
    elif encrypted and tls is not None:
        yield fault(key, endpoint, "tcp: or another that has no TLS of its own, since there is a tls table")
    elif not (encrypted or tls is not None or allow_without_tls or is_local(endpoint)):
        yield (
            f"{key}: found {shown(endpoint)}, which other machines can reach without TLS; allowed is "
            "interface=127.0.0.1, a tls table, or allow_without_tls = true"
        )


def _open_faults(found: str, endpoint: str, otherwise: str) -> Iterator[str]:
    """Say who can reach an endpoint that does not authenticate callers."""
    if not is_local(endpoint):
        yield (
            f"{found}, and other machines can reach {shown(endpoint)}; allowed is {otherwise}a loopback address, or "
            "allow_without_keys = true"
        )
    if is_open_socket(endpoint):
        yield (
            f"{found}, and every user of this machine can reach {shown(endpoint)}; allowed is {otherwise}"
            f"mode={SOCKET_MODE:o}, or allow_without_keys = true"
        )


def app_faults(key: str, app: AppSection) -> Iterator[str]:
    """Check an app's gateway, and that it has one credential, on each of its sides."""
    yield from _gateway_faults(f"{key}.gateway", app.gateway)
    yield from _credential_faults(key, app)
    if app.environment is None:
        if app.sandbox is not None:
            yield f'{key}.sandbox: allowed only with environment = "auto"'
        return
    yield from _side_faults(f"{key}.gateway", app.gateway)
    if app.gateway == "sandbox":
        yield f'{key}.gateway: found "sandbox"; with environment = "auto" it is that of production'
    if app.sandbox is not None:
        yield from _gateway_faults(f"{key}.sandbox.gateway", app.sandbox.gateway)
        yield from _side_faults(f"{key}.sandbox.gateway", app.sandbox.gateway)
        yield from _credential_faults(f"{key}.sandbox", app.sandbox, required=False)


def _gateway_faults(key: str, gateway: str) -> Iterator[str]:
    try:
        Gateway.parse(gateway)
    except InvalidGateway:
        gateways = "production, sandbox, http2:host=NAME:port=N or binary:host=NAME:port=N"
        yield fault(key, gateway, gateways)


def _side_faults(key: str, gateway: str) -> Iterator[str]:
    if gateway.startswith("binary:"):
        yield f'{key}: found {shown(gateway)}; with environment = "auto" it speaks HTTP/2'


def _credential_faults(key: str, app: CredentialSection, required: bool = True) -> Iterator[str]:
    if app.certificate is not None and app.key is not None:
        yield f"{key}: found both certificate and key; give only one of them"
    elif required and app.certificate is None and app.key is None:
        yield f"{key}: found neither certificate nor key; give one of them"
    for name, value in (("key_id", app.key_id), ("team_id", app.team_id)):
        if app.key is not None and value is None:
            yield f"{key}: {name} is missing; a signing key needs it"
        elif app.key is None and value is not None:
            yield f"{key}: {name} is allowed only with a key"


def webhook_faults(key: str, webhook: WebhookSection) -> Iterator[str]:
    """Check a webhook's address."""
    try:
        parts = urlsplit(webhook.url)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        yield f"{key}.url: found no address; allowed is one such as https://example.com/hook, without user or password"
    elif parts.scheme == "http" and not webhook.allow_without_tls and not _is_loopback_host(host):
        yield f"{key}.url: found http://{host}; allowed is https://, or allow_without_tls = true"


def event_faults(key: str, webhook: WebhookSection, apps: Mapping[str, AppSection]) -> Iterator[str]:
    """Check that a webhook has something to report. It may be for apps that are only in the database."""
    if not webhook.events:
        yield f'{key}.events: found an empty list; allowed is "feedback", "outcomes" or both'
    unrecorded = [name for name in webhook.apps if name in apps and not apps[name].outcomes]
    if "outcomes" in webhook.events and webhook.apps and len(unrecorded) == len(webhook.apps):
        yield f'{key}.events: found "outcomes"; allowed only if one of its apps has outcomes = true'


def _is_loopback_host(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
