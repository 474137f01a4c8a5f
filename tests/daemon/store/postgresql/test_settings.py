"""Tests for :mod:`txapns.daemon.store.postgresql.settings`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import psycopg
import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.postgresql import started
from tests.tls_front import TLSFront
from txapns.daemon.errors import ConfigurationError
from txapns.daemon.store.postgresql.errors import in_words
from txapns.daemon.store.postgresql.settings import Settings
from txapns.simulator import Authority

__all__ = ["PasswordTests", "SettingsTests", "TLSTests"]

HBA = b"""
local all postgres trust
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
"""


class SettingsTests(SynchronousTestCase):
    """What a url says, and what it does not say."""

    def verified(self, url: str) -> dict[str, Any]:
        """Tell how the server is verified."""
        names = "sslmode", "sslrootcert", "gssencmode"
        return {name: value for name, value in Settings(url).parameters().items() if name in names}

    def test_local(self) -> None:
        """A server on this machine need not prove who it is."""
        for host in ("", "localhost", "127.0.0.1", "127.0.1.1", "[::1]", "%2Frun%2Fpostgresql"):
            self.assertEqual(self.verified(f"postgresql://push@{host}/push"), {}, host)

    def test_remote(self) -> None:
        """A server on another machine must, by default."""
        for url in (
            "postgresql://push@db.example.com/push",
            "postgresql://push@localhost,db.example.com/push",
            "postgresql://push@localhost/push?hostaddr=192.0.2.1",
            "postgresql:///?service=push",
            "host=db.example.com",
        ):
            found = self.verified(url)
            self.assertEqual((found["sslmode"], found["gssencmode"]), ("verify-full", "disable"), url)
            self.assertTrue(Path(found["sslrootcert"]).is_file())

    def test_environment(self) -> None:
        """What the url leaves out may be in the environment, as for any program that uses libpq."""
        self.assertEqual(self.verified("postgresql:///push"), {})
        for name, value in (("PGHOST", "db.example.com"), ("PGHOSTADDR", "192.0.2.1"), ("PGSERVICE", "push")):
            with patch.dict(os.environ, {name: value}):
                self.assertEqual(self.verified("postgresql:///push")["sslmode"], "verify-full", name)
        with patch.dict(os.environ, {"PGSSLROOTCERT": "/ca.pem"}):
            self.assertNotIn("sslrootcert", self.verified("postgresql://db.example.com/push"))

    def test_said(self) -> None:
        """What the url says holds, but there is a warning if that does not verify the server."""
        settings = Settings("postgresql://db.example.com/push?sslmode=require&connect_timeout=9")
        self.assertEqual(settings.parameters()["sslmode"], "require")
        self.assertEqual(settings.parameters()["connect_timeout"], "9")
        self.assertIn("sslmode=require", settings.warnings[0])
        self.assertEqual(Settings("postgresql://localhost/push?sslmode=disable").warnings, [])
        self.assertEqual(Settings("postgresql://db.example.com/push").warnings, [])

    def test_defaults(self) -> None:
        """There are limits to how long a silent server is waited for, and of several the primary is used."""
        found = Settings("postgresql://localhost/push").parameters()
        self.assertEqual(found["target_session_attrs"], "read-write")
        for name in ("connect_timeout", "keepalives_idle", "tcp_user_timeout"):
            self.assertGreater(int(found[name]), 0)

    def test_password(self) -> None:
        """A password in the url is refused, in each form, and not repeated."""
        for url in (
            "postgresql://push:geheim@localhost/push",
            "postgresql://localhost/push?password=geheim",
            "host=localhost password=geheim",
            "postgresql://localhost/push?sslpassword=geheim",
        ):
            error = self.assertRaises(ConfigurationError, Settings, url)
            self.assertIn("must not contain a password", str(error))
            self.assertNotIn("geheim", str(error))

    def test_no_url(self) -> None:
        """What is not a url is refused, and not repeated, since it may be a password."""
        for url in ("geheim", "postgresql://localhost/?geheim=1"):
            error = self.assertRaises(ConfigurationError, Settings, url)
            self.assertIn("is not a url of PostgreSQL's", str(error))
            self.assertNotIn("geheim", str(error))
            self.assertIsNone(error.__cause__)

    def test_schema(self) -> None:
        """The name of a schema needs no quotes, and is none of PostgreSQL's own."""
        for name in ("", "Push", "a b", 'a"b', "pg_push", "1a", "a" * 64):
            error = self.assertRaises(ConfigurationError, Settings, "postgresql://localhost/", None, name)
            self.assertIn("database.schema", str(error))
        self.assertEqual(Settings("postgresql://localhost/", None, "push_2").schema, "push_2")

    def test_where(self) -> None:
        """The place of the database is told without a user or a file."""
        for url, expected in (
            ("postgresql://push@db.example.com/push?sslkey=/x", "postgresql://db.example.com/push"),
            ("postgresql://push@a,b:5433/push", "postgresql://a,b:,5433/push"),
            ("postgresql:///push?host=/run/postgresql", "postgresql:///run/postgresql/push"),
            ("postgresql:///?service=push", "postgresql:///push"),
        ):
            self.assertEqual(Settings(url).where, expected)


@pytest.mark.loopback
class PasswordTests(SynchronousTestCase):
    """A file with the password."""

    def setUp(self) -> None:
        """Start a server that asks for one."""
        self.server = started(self, {"pg_hba.conf": HBA})
        self.server.execute("CREATE ROLE push LOGIN PASSWORD 'geheim'")
        self.file = Path("password")
        self.settings = Settings(self.server.url.replace("postgres@", "push@"), self.file)

    def write(self, password: str, mode: int = 0o600) -> None:
        """Write the file."""
        self.file.touch()
        self.file.chmod(mode)
        self.file.write_text(password, encoding="utf-8")

    def test_password(self) -> None:
        """The password in the file is used, and read again for each connection."""
        self.write("geheim\n")
        for password in ("geheim", "neu"):
            self.server.execute(f"ALTER ROLE push PASSWORD '{password}'")
            self.write(f"{password}\n")
            with self.settings.connect() as connection:
                self.assertEqual(connection.info.user, "push")
        self.write("geheim")
        error = self.assertRaises(psycopg.OperationalError, self.settings.connect)
        self.assertIn("does not accept the user or the password", str(in_words(error, self.settings.where)))
        for text in (str(error), repr(error), repr(self.settings)):
            self.assertNotIn("geheim", text)

    def test_unusable(self) -> None:
        """A file that is missing, that others can read, or that is no text is refused."""
        self.assertIn("No such file", str(self.assertRaises(ConfigurationError, self.settings.connect)))
        self.write("geheim", 0o644)
        self.assertIn("other users have access", str(self.assertRaises(ConfigurationError, self.settings.connect)))
        self.file.chmod(0o600)
        self.file.write_bytes(b"\xc3")
        self.assertIn("not a password in UTF-8", str(self.assertRaises(ConfigurationError, self.settings.connect)))


@pytest.mark.loopback
class TLSTests(SynchronousTestCase):
    """A server that has to prove who it is."""

    def setUp(self) -> None:
        """Start a server that has a certificate."""
        authority = Authority()
        self.server = started(self)
        certificate = Path("server.pem")
        certificate.write_bytes(authority.server_certificate(["db.example.com"], []))
        self.port = TLSFront(self, certificate, self.server.port).port
        Path("ca.pem").write_bytes(authority.ca_pem)
        Path("other.pem").write_bytes(Authority().ca_pem)

    def settings(self, host: str, authority: str | None, query: str = "") -> Settings:
        """Tell how to connect to the server under a name."""
        root = f"&sslrootcert={quote(str(Path(authority).resolve()), safe='')}" if authority else ""
        return Settings(f"postgresql://postgres@{host}:{self.port}/postgres?hostaddr=127.0.0.1{root}{query}")

    def refused(self, settings: Settings) -> str:
        """Tell in what words the server is refused."""
        error = self.assertRaises(psycopg.OperationalError, settings.connect)
        return str(in_words(error, settings.where))

    def test_verified(self) -> None:
        """A server with the right name, and a certificate of an authority that we trust, is the right one."""
        with self.settings("db.example.com", "ca.pem").connect() as connection:
            self.assertTrue(connection.pgconn.ssl_in_use)

    def test_other_authority(self) -> None:
        """One with a certificate of another authority is not, nor one that the platform does not trust."""
        for authority in ("other.pem", None):
            said = self.refused(self.settings("db.example.com", authority))
            self.assertIn("the database's server cannot be verified: ", said)
            self.assertIn("certificate verify failed", said)

    def test_other_name(self) -> None:
        """One with another name is not."""
        said = self.refused(self.settings("other.example.com", "ca.pem"))
        self.assertIn("cannot be verified", said)
        self.assertIn('"other.example.com"', said)

    def test_no_authority(self) -> None:
        """A file of authorities that is missing is named."""
        said = self.refused(self.settings("db.example.com", "missing.pem"))
        self.assertIn("cannot be verified", said)
        self.assertIn("missing.pem", said)

    def test_no_tls(self) -> None:
        """A server without TLS is refused."""
        self.port = TLSFront(self, None, self.server.port).port
        said = self.refused(self.settings("db.example.com", "ca.pem"))
        self.assertIn("cannot be verified", said)
        self.assertIn("does not support SSL", said)
