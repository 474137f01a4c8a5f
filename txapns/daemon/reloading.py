"""
What a running daemon can take up of a changed configuration: apps, webhooks, limits, how long what is kept, and the
certificates of listeners.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from txapns.daemon.config.configuration import Configuration
from txapns.daemon.config.decoding import dotted
from txapns.daemon.config.sections import BinarySection, ListenerSection
from txapns.daemon.errors import ConfigurationError
from txapns.daemon.interfaces import IApps

__all__ = ["check_apps", "differences", "in_effect", "recorded"]

_L = TypeVar("_L", bound=ListenerSection | BinarySection)


def differences(before: Configuration, after: Configuration) -> list[str]:
    """List the dotted keys whose values differ. A table that only one of them has is one key."""
    return list(_differences("", before, after))


def _differences(key: str, before: object, after: object) -> Iterator[str]:
    one, other = _table(before), _table(after)
    if one is None or other is None:
        if before != after:
            yield key
        return
    for name in dict.fromkeys([*one, *other]):
        yield from _differences(dotted(key, name), one.get(name), other.get(name))


def _table(value: object) -> Mapping[str, Any] | None:
    if isinstance(value, Struct):
        return asdict(value)
    return value if isinstance(value, dict) else None


def check_apps(before: Configuration, after: Configuration) -> None:
    """
    Check that not all apps of a configuration are gone, as from a file that is empty or cut off.

    :raises ConfigurationError: they are.
    """
    if before.apps and not after.apps:
        raise ConfigurationError("it has no apps any more; if that is meant, restart the daemon")


def in_effect(before: Configuration, after: Configuration) -> Configuration:
    """
    Make the configuration that a daemon has that started with one and reads another.

    :returns: the one before, with the apps, the webhooks, the limits, the listeners' certificates, and how long
        outcomes are kept, of the other.
    """
    replace = msgspec.structs.replace
    faces = before.intake.__struct_fields__
    intake = {name: _with_tls(getattr(before.intake, name), getattr(after.intake, name)) for name in faces}
    return replace(
        before,
        apps=after.apps,
        limits=after.limits,
        outcomes=after.outcomes,
        webhook=after.webhook,
        database=replace(before.database, retention=after.database.retention),
        retries=replace(before.retries, attempts=after.retries.attempts),
        intake=replace(before.intake, **intake),
        admin=_with_tls(before.admin, after.admin),
    )


def _with_tls(before: _L | None, after: _L | None) -> _L | None:
    """Replace the certificate of a listener that has one."""
    if before is None or after is None or before.tls is None or after.tls is None:
        return before
    return msgspec.structs.replace(before, tls=after.tls)


def recorded(before: frozenset[str], apps: IApps) -> frozenset[str]:
    """
    Choose the apps whose outcomes are recorded: those that have an outcome feed, and those that had one when they were
    removed, since something may be in flight for them.

    :param before: the apps whose outcomes were recorded until now.
    """
    present = frozenset(apps.names())
    return frozenset(name for name in present if apps.get(name).outcomes) | (before - present)
