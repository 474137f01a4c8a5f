"""
Apps in the store.

An app's credential is encrypted with the master key; the rest of it can be read. The functions here are for the daemon,
which calls them through an :class:`IAppStore`, and for the commands, which work on the database while the daemon runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal, TypeAlias, TypeVar

import attrs
import msgspec
from msgspec import Struct
from twisted.internet.defer import Deferred
from zope.interface import Interface

from txapns.credentials import Certificate, Credential
from txapns.daemon.config.sections import NAME, AppDescription
from txapns.daemon.errors import AppExists, Malformed, NotSupported, UnknownApp
from txapns.daemon.secrets.credentials import encrypt, reencrypt
from txapns.daemon.secrets.master_key import MasterKey, Secrets
from txapns.daemon.store.rows import Instant, printable
from txapns.daemon.values import Environment, Pause
from txapns.errors import InvalidGateway
from txapns.gateway import Gateway

__all__ = [
    "NAME_RULE",
    "AppRow",
    "AppSettings",
    "EncryptedCredential",
    "IAppStore",
    "IAppTable",
    "SandboxSettings",
    "StoredApp",
    "StoredCredential",
    "add_app",
    "rekey_apps",
    "remove_app",
    "rotate_app",
    "sandbox_name",
]

_T = TypeVar("_T")
_Columns: TypeAlias = tuple[Literal["certificate", "key"], str, Instant | None, Instant, Instant]

#: What is wrong with a name that is not allowed.
NAME_RULE = "the name of an app has 1 to 100 letters, digits, dots, hyphens and underscores"


class SandboxSettings(Struct, frozen=True, kw_only=True):
    """
    What the store keeps of the sandbox side of an app besides its credential.

    :ivar trust_root: as for the app; ``None`` for the same.
    """

    gateway: str = "sandbox"
    trust_root: str | None = None


class AppSettings(AppDescription, frozen=True, kw_only=True):
    """
    What the store keeps of an app besides its credential.

    :ivar trust_root: PEM of the authorities to trust at the gateway; ``None`` for the platform's.
    :ivar sandbox: the sandbox side of an app that has two.
    """

    trust_root: str | None = None
    sandbox: SandboxSettings = SandboxSettings()


@attrs.frozen
class EncryptedCredential:
    """
    A credential as it is stored.

    :ivar encrypted: the credential, encrypted with the master key.
    :ivar kind: ``"certificate"`` or ``"key"``.
    :ivar expires: when the certificate expires, in UNIX seconds; ``None`` for a key.
    """

    encrypted: bytes = attrs.field(repr=False)
    kind: Literal["certificate", "key"]
    fingerprint: str
    expires: float | None

    @classmethod
    def of(cls, credential: Credential, app: str, key: MasterKey) -> EncryptedCredential:
        """Encrypt an app's credential."""
        expires = credential.expires.timestamp() if isinstance(credential, Certificate) else None
        kind: Literal["certificate", "key"] = "key" if expires is None else "certificate"
        return cls(encrypt(credential, app, key), kind, credential.fingerprint, expires)

    @property
    def columns(self) -> tuple[bytes, str, str, float | None]:
        """The columns of a row, in the order of the fields."""
        return self.encrypted, self.kind, self.fingerprint, self.expires


@attrs.frozen
class StoredCredential:
    """
    What can be read of a stored credential without the master key.

    :ivar kind: ``"certificate"`` or ``"key"``.
    :ivar expires: when the certificate expires, in UNIX seconds; ``None`` for a key.
    :ivar changed_at: when it was last changed.
    """

    kind: str
    fingerprint: str
    expires: float | None
    changed_at: float


@attrs.frozen
class StoredApp:
    """
    What can be read of a stored app without the master key.

    :ivar kind: ``"certificate"`` or ``"key"``.
    :ivar expires: when its certificate expires, in UNIX seconds; ``None`` for a key.
    :ivar changed_at: when its credential was last changed.
    :ivar problem: why the rest cannot be read; empty if it can.
    """

    name: str
    settings: AppSettings
    kind: str
    fingerprint: str
    expires: float | None
    created_at: float
    changed_at: float
    problem: str = ""

    @classmethod
    def from_row(cls, name: object, settings: bytes, *columns: object) -> StoredApp:
        """
        Read a row, whatever is in it.

        :param settings: :class:`AppSettings`, in JSON.
        :param columns: the other columns, in the order of the fields.
        """
        try:
            found = msgspec.json.decode(settings, type=AppSettings)
        except msgspec.MsgspecError as error:
            return cls._unreadable(name, f"its settings in the database cannot be read: {error}")
        try:
            return cls(printable(name), found, *msgspec.convert(columns, _Columns))
        except msgspec.MsgspecError as error:
            return cls._unreadable(name, str(error))

    @classmethod
    def _unreadable(cls, name: object, problem: str) -> StoredApp:
        return cls(printable(name), AppSettings(gateway=""), "", "", None, 0.0, 0.0, problem)


@attrs.frozen
class AppRow:
    """
    What an app is made from.

    :ivar settings: :class:`AppSettings`, in JSON.
    :ivar sandbox: the credential of the sandbox side, encrypted; ``None`` if it has none of its own.
    """

    name: str
    settings: bytes
    encrypted: bytes = attrs.field(repr=False)
    sandbox: bytes | None = attrs.field(default=None, repr=False)


class IAppTable(Interface):
    """The apps, within one transaction."""

    def changes() -> int:
        """Return a number that grows with each change of the apps."""

    def rows() -> Sequence[AppRow]:
        """Read what the apps are made from, by name."""

    def listed() -> Sequence[StoredApp]:
        """Read the apps without their credentials, by name."""

    def created_at(name: str) -> float | None:
        """Tell when an app was added; ``None`` if there is no app of this name."""

    def put(
        name: str, settings: AppSettings, credential: EncryptedCredential, created_at: float, changed_at: float
    ) -> None:
        """Write an app, in place of the one of this name if there is one."""

    def set_credential(name: str, credential: EncryptedCredential, changed_at: float) -> bool:
        """Replace an app's credential; tell whether there is an app of this name."""

    def sandboxes() -> Mapping[str, StoredCredential]:
        """Read what credentials sandbox sides have of their own, by the names of the apps."""

    def put_sandbox(name: str, credential: EncryptedCredential | None, changed_at: float) -> None:
        """Write the credential of an app's sandbox side; ``None`` if it has none of its own any more."""

    def settings(name: str) -> bytes | None:
        """Read the settings of an app, in JSON; ``None`` if there is no app of this name."""

    def reencrypt(function: Callable[[bytes, str], bytes]) -> int:
        """
        Replace every encrypted credential by what a function of it and the name that it is encrypted with returns.

        :returns: how many there are.
        """

    def remove(name: str) -> bool:
        """Delete an app, its credentials, and its pause if there is one; tell whether there was an app of this name."""

    def pauses() -> Mapping[str, Pause]:
        """Read which apps are paused, by name."""

    def pause(name: str, pause: Pause) -> bool:
        """Pause an app, wherever it is kept; tell whether it was not paused before. An earlier pause stays."""

    def resume(name: str) -> bool:
        """End the pause of an app; tell whether there was one."""


class IAppStore(Interface):
    """The apps in the daemon's store."""

    def start() -> Deferred[None]:
        """
        Create the table if necessary.

        :raises DatabaseError: the store cannot be used.
        """

    def read(function: Callable[[IAppTable], _T]) -> Deferred[_T]:
        """Call a function in a thread, with the table to read from."""

    def write(function: Callable[[IAppTable], _T]) -> Deferred[_T]:
        """Call a function in a thread, in a transaction. The ``Deferred`` fires when it is on the disk."""


def add_app(
    table: IAppTable,
    secrets: Secrets,
    name: str,
    settings: AppSettings,
    credential: Credential,
    *,
    now: datetime,
    replace: bool = False,
    sandbox: Credential | None = None,
) -> bool:
    """
    Add an app.

    :param sandbox: the credential of its sandbox side; ``None`` if that has none of its own.
    :param replace: whether to replace an app of the same name.
    :raises Malformed: the name or the gateway is not valid.
    :raises AppExists: there is an app of this name, and it must not be replaced.
    :raises DaemonError: the master key cannot be used.
    """
    if not NAME.fullmatch(name):
        raise Malformed(NAME_RULE)
    try:
        Gateway.parse(settings.gateway)
        Gateway.parse(settings.sandbox.gateway)
    except InvalidGateway as error:
        raise Malformed(str(error)) from None
    created_at = table.created_at(name)
    if created_at is not None and not replace:
        raise AppExists(f"there is an app {name} already")
    # The master key is read in the transaction: while it is being changed, it is either the old one or the new one.
    key, changed_at = secrets.master_key(), now.timestamp()
    encrypted = EncryptedCredential.of(credential, name, key)
    table.put(name, settings, encrypted, changed_at if created_at is None else created_at, changed_at)
    own = None if sandbox is None else EncryptedCredential.of(sandbox, sandbox_name(name), key)
    table.put_sandbox(name, own, changed_at)
    return created_at is not None


def rotate_app(
    table: IAppTable,
    secrets: Secrets,
    name: str,
    credential: Credential,
    *,
    now: datetime,
    environment: Environment = Environment.PRODUCTION,
) -> None:
    """
    Give an app another credential.

    :param environment: the side that it is for, of an app with two. A sandbox side without a credential of its own has
        the same as production; with this, it has its own.
    :raises UnknownApp: it is not in the store.
    :raises NotSupported: it has no sandbox side beside the other.
    :raises DaemonError: the master key cannot be used.
    """
    if environment is Environment.SANDBOX:
        settings = table.settings(name)
        if settings is None:
            raise _unknown(name)
        if msgspec.json.decode(settings, type=AppSettings).environment is None:
            raise NotSupported(f'the app {name} has only one side: its environment is not "auto"')
        own = EncryptedCredential.of(credential, sandbox_name(name), secrets.master_key())
        table.put_sandbox(name, own, now.timestamp())
        return
    encrypted = EncryptedCredential.of(credential, name, secrets.master_key())
    if not table.set_credential(name, encrypted, now.timestamp()):
        raise _unknown(name)


def sandbox_name(app: str) -> str:
    """Tell with which name the credential of an app's sandbox side is encrypted. No app is called so."""
    return f"{app}/sandbox"


def remove_app(table: IAppTable, name: str) -> None:
    """
    Remove an app and its credential. Its notifications stay in the queue.

    :raises UnknownApp: it is not in the store.
    """
    if not table.remove(name):
        raise _unknown(name)


def rekey_apps(table: IAppTable, key: MasterKey) -> int:
    """
    Encrypt all credentials again.

    :param key: the master key, which decrypts the credentials and encrypts from now on.
    :raises SecretError: it does not decrypt one of them; the message names the app.
    """
    return table.reencrypt(lambda encrypted, name: reencrypt(encrypted, name, key))


def _unknown(name: str) -> UnknownApp:
    return UnknownApp(f"there is no app {name} in the database")
