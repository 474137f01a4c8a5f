"""Tests for :mod:`txapns.daemon.loading`."""

from __future__ import annotations

from datetime import datetime, timezone

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.world import world_of
from txapns.credentials import Certificate, ProviderToken
from txapns.daemon.errors import ConfigurationError, SecretError
from txapns.daemon.loading import app_of, row_app, section_app
from txapns.daemon.secrets.master_key import Secrets
from txapns.daemon.store.apps import AppSettings, SandboxSettings, add_app
from txapns.daemon.store.sqlite.apps import AppTable
from txapns.daemon.values import App, Environment, Limits
from txapns.errors import APNSError, CredentialError, InvalidGateway
from txapns.simulator import Authority

__all__ = ["RowTests", "SectionTests", "SettingsTests"]

AUTHORITY = Authority()
NOW = datetime.now(timezone.utc)


def signing_key() -> ProviderToken:
    """Make a signing key."""
    return ProviderToken.from_p8(AUTHORITY.p8, "KEY", "TEAM")


class SectionTests(SynchronousTestCase):
    """Apps of the configuration."""

    def setUp(self) -> None:
        """Write credentials."""
        self.world = world_of(self)
        self.world.write("a.pem", AUTHORITY.client_pem())
        self.world.write("a.p8", AUTHORITY.p8)
        self.world.write("ca.pem", AUTHORITY.ca_pem).chmod(0o644)

    def load(self, text: str) -> App:
        """Make the app ``a`` of a configuration."""
        self.world.configure(text)
        return section_app("a", self.world.configuration.apps["a"], self.world.configuration, NOW)

    def test_app(self) -> None:
        """An app is as the configuration says."""
        app = self.load(
            "limits.queue = 9\n[apps.a]\nkey = 'a.p8'\nkey_id = 'K'\nteam_id = 'T'\ntopic = 't'\n"
            "trust_root = 'ca.pem'\n"
            f"gateway = 'http2:host=localhost:port=1'\ncallers = 'sha256 Fingerprint={'AB:' * 31}AB'\n"
            "limits.connections = 2"
        )
        self.assertEqual(str(app.gateway), "http2:host=localhost:port=1")
        self.assertEqual((app.gateway.trust_root, app.topic), (AUTHORITY.ca_pem.decode(), "t"))
        self.assertEqual((app.callers, app.source), ({"ab" * 32}, "file"))
        self.assertEqual(app.limits, Limits(queue=9, connections=2))
        self.assertEqual(app.credential, ProviderToken.from_p8(AUTHORITY.p8, "K", "T"))
        self.assertEqual((app.sides, app.expires), ({}, None))

    def test_passphrase(self) -> None:
        """The first line of the passphrase file decrypts it."""
        self.world.write("a.p12", AUTHORITY.client_pkcs12())
        self.world.write("words", b"txapns\nmore\n")
        app = self.load("[apps.a]\ncertificate = 'a.p12'\npassphrase_file = 'words'")
        self.assertIsInstance(app.credential, Certificate)

    def test_sides(self) -> None:
        """The sandbox side has what its table says, and otherwise the same as production."""
        key = "[apps.a]\nkey = 'a.p8'\nkey_id = 'K'\nteam_id = 'T'\ntopic = 't'\nenvironment = 'auto'\n"
        app = self.load(key)
        self.assertIs(app.sides[Environment.SANDBOX].credential, app.credential)
        app = self.load(f"{key}[apps.a.sandbox]\ncertificate = 'a.pem'\ngateway = 'http2:host=localhost:port=1'")
        sandbox = app.sides[Environment.SANDBOX]
        self.assertEqual((app.gateway.host, sandbox.gateway.host), ("api.push.apple.com", "localhost"))
        assert isinstance(sandbox.credential, Certificate)
        self.assertEqual(app.expires, sandbox.credential.expires)

    def test_wrong(self) -> None:
        """What cannot be read is named, also on the sandbox side."""
        auto = "[apps.a]\ncertificate = 'a.pem'\nenvironment = 'auto'\n[apps.a.sandbox]\ncertificate = 'b.pem'"
        self.world.write("b.pem", b"nonsense")
        for text, kind, words in (
            ("[apps.a]\ncertificate = 'c.pem'", ConfigurationError, "c.pem"),
            ("[apps.a]\ncertificate = 'b.pem'", CredentialError, "b.pem"),
            ("[apps.a]\ncertificate = 'a.pem'\ntrust_root = 'c.pem'", ConfigurationError, "trust_root: .*c.pem"),
            (auto, CredentialError, "^sandbox: .*b.pem"),
        ):
            with self.assertRaisesRegex(kind, words):
                self.load(text)


class RowTests(SynchronousTestCase):
    """Apps of the store."""

    def test_row(self) -> None:
        """An app is made of its row with the master key that encrypted it, and with no other."""
        world = world_of(self)
        settings = AppSettings(topic="t", environment="auto", sandbox=SandboxSettings(gateway="sandbox"))
        with world.visiting() as connection:
            table, own = AppTable(connection), signing_key()
            add_app(table, world.secrets, "a", settings, signing_key(), now=NOW, sandbox=own)
            [row] = table.rows()
        app = row_app(row, world.secrets, world.configuration, NOW)
        self.assertEqual((app.name, app.topic, app.source), ("a", "t", "database"))
        self.assertEqual(app.sides[Environment.SANDBOX].credential, own)
        other = Secrets(world.directory / "other.key", {})
        other.create()
        with self.assertRaises(SecretError):
            row_app(row, other, world.configuration, NOW)


class SettingsTests(SynchronousTestCase):
    """What cannot be an app."""

    def test_wrong(self) -> None:
        """A name that is not allowed, or a gateway that cannot be used, is refused."""
        world, certificate = world_of(self), Certificate.from_pem(AUTHORITY.client_pem())
        binary = AppSettings(gateway="binary:host=localhost:port=1", environment="auto")
        wrong: tuple[tuple[str, AppSettings, type[APNSError]], ...] = (
            ("a/b", AppSettings(), ConfigurationError),
            ("a", AppSettings(gateway="moon"), InvalidGateway),
            ("a", binary, InvalidGateway),
        )
        for name, settings, kind in wrong:
            with self.assertRaises(kind):
                app_of(name, settings, certificate, world.configuration, "database")
