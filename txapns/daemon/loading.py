"""Apps, made of what the configuration or the store says of them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from txapns._network.trust import trust_pem
from txapns.credentials import Credential
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.config.sections import (
    NAME,
    AppDescription,
    AppSection,
    CredentialSection,
    SandboxSection,
    plain_fingerprint,
)
from txapns.daemon.errors import ConfigurationError
from txapns.daemon.secrets.credentials import decrypt, section_credential
from txapns.daemon.secrets.master_key import Secrets
from txapns.daemon.store.apps import NAME_RULE, AppRow, AppSettings, SandboxSettings, sandbox_name
from txapns.daemon.values import App, Side
from txapns.errors import CredentialError, InvalidGateway
from txapns.gateway import Gateway
from txapns.notification import Notification

__all__ = ["app_of", "row_app", "sandbox_side", "section_app"]


def app_of(
    name: str,
    settings: AppSettings,
    credential: Credential,
    configuration: Configuration,
    source: Literal["file", "database"],
    sandbox: Credential | None = None,
) -> App:
    """
    Make an app, and check that it could connect.

    :param sandbox: the credential of its sandbox side; ``None`` if that has none of its own.
    :raises APNSError: it cannot be used.
    """
    if not NAME.fullmatch(name):
        raise ConfigurationError(NAME_RULE)
    gateway = Gateway.parse(settings.gateway, trust_root=settings.trust_root)
    gateway.context(credential)
    side = None if settings.environment is None else sandbox_side(settings, gateway, sandbox or credential)
    Notification(payload={}, topic=settings.topic, push_type=settings.push_type)
    callers, limits = frozenset(map(plain_fingerprint, settings.callers)), configuration.limits_of(settings.limits)
    common = settings.topic, settings.push_type, callers, limits, source
    return App(
        name, gateway, credential, *common, outcomes=settings.outcomes, supersede=settings.supersede, sandbox=side
    )


def sandbox_side(settings: AppSettings, production: Gateway, credential: Credential) -> Side:
    """
    Make the sandbox side of an app with two, and check that it could connect.

    :raises APNSError: it cannot be used, or one of the gateways speaks another protocol than HTTP/2.
    """
    trust_root = settings.sandbox.trust_root or settings.trust_root
    gateway = Gateway.parse(settings.sandbox.gateway, trust_root=trust_root)
    if production.protocol != "http2" or gateway.protocol != "http2":
        raise InvalidGateway('both gateways of an app with environment = "auto" must speak HTTP/2')
    gateway.context(credential)
    return Side(gateway, credential)


def section_app(name: str, section: AppSection, configuration: Configuration, now: datetime) -> App:
    """Make an app of the configuration; raises :exc:`APNSError` if it cannot be used."""
    common = {name: getattr(section, name) for name in AppDescription.__struct_fields__}
    credential = section_credential(section, now, gateway=section.gateway, topic=section.topic)
    sandbox, own = SandboxSettings(), None
    if section.environment is not None:
        given = section.sandbox or SandboxSection()
        sandbox = SandboxSettings(gateway=given.gateway, trust_root=_trust_root(given))
        try:
            own = _sandbox_credential(section, given, credential, now)
        except CredentialError as error:
            raise type(error)(f"sandbox: {error}") from None
    settings = AppSettings(trust_root=_trust_root(section), sandbox=sandbox, **common)
    return app_of(name, settings, credential, configuration, "file", own)


def _sandbox_credential(section: AppSection, given: SandboxSection, other: Credential, now: datetime) -> Credential:
    """Read the credential of the sandbox side: its own, or another one in the same file, or the same."""
    if given.certificate is not None or given.key is not None:
        return section_credential(given, now, gateway="sandbox", topic=section.topic)
    if section.key is not None:
        return other  # which makes the same provider tokens
    return section_credential(section, now, gateway="sandbox", topic=section.topic)


def _trust_root(section: CredentialSection) -> str | None:
    try:
        return None if section.trust_root is None else trust_pem(section.trust_root.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"trust_root: {section.trust_root}: {error.strerror}") from None
    except CredentialError as error:
        raise CredentialError(f"{section.trust_root}: {error}") from None


def row_app(row: AppRow, secrets: Secrets, configuration: Configuration, now: datetime) -> App:
    """Make an app of the store; raises :exc:`APNSError` if it cannot be used."""
    key = secrets.master_key()
    credential = decrypt(row.encrypted, row.name, key, now)
    sandbox = None if row.sandbox is None else decrypt(row.sandbox, sandbox_name(row.name), key, now)
    try:
        settings = msgspec.json.decode(row.settings, type=AppSettings)
    except msgspec.MsgspecError as error:
        raise ConfigurationError(f"its settings in the database cannot be read: {error}") from None
    return app_of(row.name, settings, credential, configuration, "database", sandbox)
