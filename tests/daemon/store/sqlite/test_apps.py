"""Tests for :mod:`txapns.daemon.store.apps` and :mod:`txapns.daemon.store.sqlite.apps`."""

from __future__ import annotations

from datetime import datetime, timezone

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.daemon.world import world_of
from txapns.credentials import Certificate, Credential, ProviderToken
from txapns.daemon.config import AppLimitsSection
from txapns.daemon.errors import AppExists, ConfigurationError, Malformed, SecretError, UnknownApp
from txapns.daemon.secrets.credentials import decrypt
from txapns.daemon.store.apps import (
    AppSettings,
    IAppStore,
    IAppTable,
    add_app,
    rekey_apps,
    remove_app,
    rotate_app,
)
from txapns.daemon.store.sqlite.apps import AppTable, SQLiteAppStore
from txapns.simulator import Authority

__all__ = ["StoredTests"]

AUTHORITY = Authority()


def present() -> datetime:
    """Tell the time."""
    return datetime.now(timezone.utc)


def certificate(topic: str = "com.example.app") -> Certificate:
    """Make a certificate."""
    return Certificate.from_pem(AUTHORITY.client_pem(topic))


def signing_key(key_id: str = "KEY") -> ProviderToken:
    """Make a signing key."""
    return ProviderToken.from_p8(AUTHORITY.p8, key_id, "TEAM")


def secret_lines(pem: str) -> list[str]:
    """Return the secret lines of a PEM."""
    return pem.partition("PRIVATE KEY-----\n")[2].partition("\n-----END")[0].splitlines()


class StoredTests(SynchronousTestCase):
    """Apps in the database."""

    def setUp(self) -> None:
        """Make a database."""
        self.world = world_of(self)

    def add(
        self,
        name: str,
        settings: AppSettings | None = None,
        credential: Credential | None = None,
        replace: bool = False,
    ) -> None:
        """Add an app."""
        settings, credential = settings or AppSettings(), credential or signing_key()
        with self.world.visiting() as connection:
            add_app(
                AppTable(connection), self.world.secrets, name, settings, credential, now=present(), replace=replace
            )

    def test_interfaces(self) -> None:
        """The store and its table have what the daemon needs."""
        verifyObject(IAppStore, SQLiteAppStore(self.world.database))
        with self.world.visiting() as connection:
            verifyObject(IAppTable, AppTable(connection))

    def test_listed(self) -> None:
        """Apps are listed by name, without the master key."""
        settings = AppSettings(gateway="sandbox", topic="t", callers=("ab" * 32,), limits=AppLimitsSection(queue=5))
        credential = certificate()
        self.add("b", settings, credential)
        self.add("a")
        self.world.configuration.secrets.master_key_file.unlink()
        with self.world.visiting() as connection:
            first, second = AppTable(connection).listed()
        self.assertEqual((first.name, first.kind, first.expires), ("a", "key", None))
        self.assertEqual((second.name, second.settings, second.kind), ("b", settings, "certificate"))
        self.assertEqual(second.fingerprint, credential.fingerprint)
        self.assertEqual(second.expires, credential.expires.timestamp())

    def test_encrypted(self) -> None:
        """No line of a private key is in the database's files."""
        credential = certificate()
        self.add("a", credential=credential)
        files = b"".join(path.read_bytes() for path in self.world.directory.glob("apns.db*"))
        self.assertIn(b"production", files)
        for line in secret_lines(credential.to_pem()):
            self.assertNotIn(line.encode(), files)

    def test_refused(self) -> None:
        """An invalid name, an invalid gateway and a second app of the same name are refused."""
        self.add("a")
        self.assertRaises(Malformed, self.add, "a/b")
        self.assertRaises(Malformed, self.add, "b", AppSettings(gateway="prod"))
        self.assertRaises(AppExists, self.add, "a")
        self.add("a", AppSettings(topic="t"), replace=True)
        with self.world.visiting() as connection:
            self.assertEqual([app.settings.topic for app in AppTable(connection).listed()], ["t"])

    def test_without_a_master_key(self) -> None:
        """Without a master key nothing is stored."""
        self.world.configuration.secrets.master_key_file.unlink()
        self.assertRaises(ConfigurationError, self.add, "a")
        with self.world.visiting() as connection:
            self.assertEqual(AppTable(connection).listed(), [])

    def test_rotated(self) -> None:
        """Rotation replaces the credential and nothing else."""
        self.add("a", AppSettings(topic="t"))
        with self.world.visiting() as connection:
            rotate_app(AppTable(connection), self.world.secrets, "a", certificate(), now=present())
            (app,) = AppTable(connection).listed()
        self.assertEqual((app.kind, app.settings.topic), ("certificate", "t"))
        with self.assertRaises(UnknownApp), self.world.visiting() as connection:
            rotate_app(AppTable(connection), self.world.secrets, "b", certificate(), now=present())

    def test_removed(self) -> None:
        """What is removed is gone."""
        self.add("a")
        with self.world.visiting() as connection:
            remove_app(AppTable(connection), "a")
            self.assertEqual(AppTable(connection).listed(), [])
            self.assertRaises(UnknownApp, remove_app, AppTable(connection), "a")

    def test_rekeyed(self) -> None:
        """After a change of the master key the old one decrypts nothing."""
        self.add("a")
        self.add("b", credential=certificate())
        old = self.world.secrets.master_key()
        with self.world.secrets.rekeying() as key, self.world.visiting() as connection:
            self.assertEqual(rekey_apps(AppTable(connection), key), 2)
        with self.world.visiting() as connection:
            for name, encrypted in connection.execute("SELECT name, encrypted FROM app").fetchall():
                decrypt(encrypted, name, self.world.secrets.master_key(), present())
                self.assertRaises(SecretError, decrypt, encrypted, name, old, present())

    def test_rekeying_fails(self) -> None:
        """If one credential cannot be decrypted, none is changed, and all can be used as before."""
        self.add("a")
        self.add("b")
        with self.world.visiting() as connection:
            connection.execute(
                "UPDATE app SET encrypted = (SELECT encrypted FROM app WHERE name = 'a') WHERE name = 'b'"
            )
        with (
            self.assertRaisesRegex(SecretError, "stored for b is that of a"),
            self.world.secrets.rekeying() as key,
            self.world.visiting() as connection,
        ):
            rekey_apps(AppTable(connection), key)
        with self.world.visiting() as connection:
            ((encrypted,),) = connection.execute("SELECT encrypted FROM app WHERE name = 'a'").fetchall()
        decrypt(encrypted, "a", self.world.secrets.master_key(), present())
