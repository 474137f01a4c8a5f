"""What every store of apps does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

from cryptography.fernet import Fernet
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from txapns.credentials import Certificate, Credential, ProviderToken
from txapns.daemon.config.sections import AppLimitsSection
from txapns.daemon.errors import AppExists, ConfigurationError, Malformed, NotSupported, SecretError, UnknownApp
from txapns.daemon.secrets.credentials import decrypt
from txapns.daemon.secrets.master_key import MasterKey, Secrets
from txapns.daemon.store.apps import (
    AppSettings,
    EncryptedCredential,
    IAppStore,
    IAppTable,
    StoredApp,
    add_app,
    rekey_apps,
    remove_app,
    rotate_app,
)
from txapns.daemon.values import Environment, Pause
from txapns.simulator import Authority

__all__ = ["AUTHORITY", "CERTIFICATE", "KEY", "AppStoreContract", "present"]

AUTHORITY = Authority()
CERTIFICATE = Certificate.from_pem(AUTHORITY.client_pem())
KEY = ProviderToken.from_p8(AUTHORITY.p8, "KEY", "TEAM")

T = TypeVar("T")


def present() -> datetime:
    """Tell the time."""
    return datetime.now(timezone.utc)


class AppStoreContract:
    """
    The tests of a store of apps, for a test case.

    :ivar store: the store, started.
    :ivar secrets: where a master key is.
    """

    store: IAppStore
    secrets: Secrets
    assertEqual: Any
    assertRaises: Any
    assertRaisesRegex: Any

    def result(self, deferred: Deferred[T]) -> T:
        """Wait for a result, and return or raise it."""
        raise NotImplementedError

    def read(self, function: Callable[[IAppTable], T]) -> T:
        """Read."""
        return self.result(self.store.read(function))

    def write(self, function: Callable[[IAppTable], T]) -> T:
        """Write."""
        return self.result(self.store.write(function))

    def listed(self) -> list[StoredApp]:
        """List the apps."""
        return list(self.read(lambda table: table.listed()))

    def add(
        self, name: str, settings: AppSettings | None = None, credential: Credential = KEY, *, replace: bool = False
    ) -> bool:
        """Add an app."""
        given = settings or AppSettings()
        return self.write(
            lambda table: add_app(table, self.secrets, name, given, credential, now=present(), replace=replace)
        )

    def rekey(self, key: MasterKey) -> int:
        """Encrypt all credentials again."""
        return self.write(lambda table: rekey_apps(table, key))

    def test_interfaces(self) -> None:
        """The store and its table provide their interfaces."""
        verifyObject(IAppStore, self.store)
        self.read(lambda table: verifyObject(IAppTable, table))

    def test_listed(self) -> None:
        """Apps are listed by name, without the master key."""
        settings = AppSettings(gateway="sandbox", topic="t", callers=("ab" * 32,), limits=AppLimitsSection(queue=5))
        self.add("b", settings, CERTIFICATE)
        self.add("a")
        first, second = self.listed()
        self.assertEqual((first.name, first.kind, first.expires, first.problem), ("a", "key", None, ""))
        self.assertEqual((second.name, second.settings, second.kind), ("b", settings, "certificate"))
        self.assertEqual(
            (second.fingerprint, second.expires), (CERTIFICATE.fingerprint, CERTIFICATE.expires.timestamp())
        )

    def test_rows(self) -> None:
        """What an app is made from is as it was stored, by name."""
        self.add("b")
        self.add("a", AppSettings(topic="t"), CERTIFICATE)
        first, second = self.read(lambda table: table.rows())
        self.assertEqual((first.name, second.name), ("a", "b"))
        self.assertEqual(decrypt(first.encrypted, "a", self.secrets.master_key(), present()), CERTIFICATE)
        self.assertEqual(decrypt(second.encrypted, "b", self.secrets.master_key(), present()), KEY)

    def test_refused(self) -> None:
        """An invalid name, an invalid gateway and a second app of the same name are refused."""
        self.add("a")
        self.assertRaises(Malformed, self.add, "a/b")
        self.assertRaises(Malformed, self.add, "b", AppSettings(gateway="prod"))
        self.assertRaises(AppExists, self.add, "a")
        self.assertEqual([app.name for app in self.listed()], ["a"])

    def test_replaced(self) -> None:
        """An app that is replaced keeps the time at which it was added."""
        self.assertEqual(self.add("a", replace=True), False)
        (before,) = self.listed()
        self.assertEqual(self.add("a", AppSettings(topic="t"), replace=True), True)
        (app,) = self.listed()
        self.assertEqual((app.settings.topic, app.created_at), ("t", before.created_at))

    def test_without_a_master_key(self) -> None:
        """Without a master key nothing is stored."""
        self.secrets = Secrets(self.secrets._path.with_name("none"), {})
        self.assertRaises(ConfigurationError, self.add, "a")
        self.assertEqual(self.listed(), [])

    def test_rotated(self) -> None:
        """Rotation replaces the credential and nothing else."""

        def rotate(name: str) -> None:
            self.write(lambda table: rotate_app(table, self.secrets, name, CERTIFICATE, now=present()))

        self.add("a", AppSettings(topic="t"))
        self.add("b")
        rotate("a")
        first, second = self.listed()
        self.assertEqual((first.kind, first.settings.topic, second.kind), ("certificate", "t", "key"))
        self.assertRaises(UnknownApp, rotate, "c")

    def test_two_sides(self) -> None:
        """The sandbox side has no credential of its own, gets one, and loses it with the app, or with a new one."""

        def rotate(name: str = "a") -> None:
            change = partial(rotate_app, secrets=self.secrets, name=name, credential=CERTIFICATE, now=present())
            self.write(lambda table: change(table, environment=Environment.SANDBOX))

        def own() -> tuple[Any, Any]:
            [row] = self.read(lambda table: table.rows())
            return row.sandbox, self.read(lambda table: table.sandboxes()).get("a")

        self.add("a", AppSettings(environment="auto"))
        numbers = [self.read(lambda table: table.changes())]
        self.assertEqual(own(), (None, None))
        rotate()
        numbers.append(self.read(lambda table: table.changes()))
        encrypted, known = own()
        key = self.secrets.master_key()
        self.assertEqual(decrypt(encrypted, "a/sandbox", key, present()), CERTIFICATE)
        self.assertRaises(SecretError, decrypt, encrypted, "a", key, present())
        self.assertEqual((known.kind, known.fingerprint), ("certificate", CERTIFICATE.fingerprint))
        self.assertEqual(known.expires, CERTIFICATE.expires.timestamp())
        with self.secrets.rekeying() as key:
            self.assertEqual(self.rekey(key), 2)
        self.assertEqual(decrypt(own()[0], "a/sandbox", self.secrets.master_key(), present()), CERTIFICATE)
        numbers.append(self.read(lambda table: table.changes()))
        self.add("a", AppSettings(environment="auto"), replace=True)
        self.assertEqual(own(), (None, None))
        rotate()
        self.write(lambda table: remove_app(table, "a"))
        self.assertEqual(self.read(lambda table: table.sandboxes()), {})
        self.assertEqual(sorted(set(numbers)), numbers)
        self.assertRaises(UnknownApp, rotate)

    def test_one_side(self) -> None:
        """An app with one side has no credential for another one."""
        self.add("a")
        change = partial(rotate_app, secrets=self.secrets, name="a", credential=KEY, now=present())
        with self.assertRaisesRegex(NotSupported, "only one side"):
            self.write(lambda table: change(table, environment=Environment.SANDBOX))

    def test_removed(self) -> None:
        """What is removed is gone."""

        def remove() -> None:
            self.write(lambda table: remove_app(table, "a"))

        self.add("a")
        self.add("b")
        remove()
        self.assertEqual([app.name for app in self.listed()], ["b"])
        self.assertRaises(UnknownApp, remove)

    def test_changes(self) -> None:
        """Each change is counted, and nothing else."""
        numbers = [self.read(lambda table: table.changes())]

        def changed() -> bool:
            numbers.append(self.read(lambda table: table.changes()))
            return numbers[-1] > numbers[-2]

        self.add("a")
        self.assertEqual(changed(), True)
        self.add("a", AppSettings(topic="t"), replace=True)
        self.assertEqual(changed(), True)
        self.write(lambda table: rotate_app(table, self.secrets, "a", CERTIFICATE, now=present()))
        self.assertEqual(changed(), True)
        self.assertRaises(AppExists, self.add, "a")
        self.listed()
        self.assertEqual(changed(), False)
        self.write(lambda table: remove_app(table, "a"))
        self.assertEqual(changed(), True)

    def test_paused(self) -> None:
        """The first pause of an app stays until it is resumed, or removed; each change of it is counted."""
        first, second = Pause(5.0, "ann"), Pause(6.0, "bob")
        numbers = [self.read(lambda table: table.changes())]

        def after(change: Callable[[IAppTable], bool]) -> tuple[bool, Any]:
            result = self.write(change)
            numbers.append(self.read(lambda table: table.changes()))
            return result, self.read(lambda table: table.pauses())

        self.assertEqual(after(lambda table: table.pause("old", first)), (True, {"old": first}))
        self.assertEqual(after(lambda table: table.pause("old", second)), (False, {"old": first}))
        self.assertEqual(after(lambda table: table.resume("old")), (True, {}))
        self.assertEqual(after(lambda table: table.resume("old")), (False, {}))
        self.assertEqual([after > before for before, after in pairwise(numbers)], [True, False, True, False])
        self.add("a")
        self.write(lambda table: table.pause("a", first))
        self.write(lambda table: remove_app(table, "a"))
        self.add("a")
        self.assertEqual(self.read(lambda table: table.pauses()), {})

    def test_rolled_back(self) -> None:
        """If something fails, nothing is changed."""

        def fail(table: IAppTable) -> None:
            table.remove("a")
            raise ZeroDivisionError

        self.add("a")
        self.assertRaises(ZeroDivisionError, self.write, fail)
        self.assertEqual([app.name for app in self.listed()], ["a"])

    def test_rekeyed(self) -> None:
        """After a change of the master key the old one decrypts nothing."""
        self.add("a")
        self.add("b", credential=CERTIFICATE)
        old = self.secrets.master_key()
        with self.secrets.rekeying() as key:
            self.assertEqual(self.rekey(key), 2)
        for row in self.read(lambda table: table.rows()):
            decrypt(row.encrypted, row.name, self.secrets.master_key(), present())
            self.assertRaises(SecretError, decrypt, row.encrypted, row.name, old, present())

    def test_rekeying_fails(self) -> None:
        """If one credential cannot be decrypted, none is changed, and all can be used as before."""
        self.add("a")
        moved = EncryptedCredential.of(KEY, "a", self.secrets.master_key())
        self.write(lambda table: table.put("b", AppSettings(), moved, 0.0, 0.0))
        before = self.read(lambda table: table.rows())
        with self.assertRaisesRegex(SecretError, "stored for b is that of a"), self.secrets.rekeying() as key:
            self.rekey(key)
        self.assertEqual(self.read(lambda table: table.rows()), before)
        decrypt(before[0].encrypted, "a", self.secrets.master_key(), present())
        unknown = MasterKey([Fernet.generate_key()])
        self.assertRaises(SecretError, self.rekey, unknown)
