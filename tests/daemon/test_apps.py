"""Tests for :mod:`txapns.daemon.apps`."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet import reactor
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

import txapns.daemon.apps
import txapns.daemon.loading
from tests.daemon.world import world_of
from txapns.credentials import Certificate, Credential, ProviderToken
from txapns.daemon.apps import Apps
from txapns.daemon.config.sections import AppLimitsSection
from txapns.daemon.errors import AppExists, Unavailable, UnknownApp
from txapns.daemon.interfaces import IApps
from txapns.daemon.secrets.credentials import decrypt
from txapns.daemon.store.apps import AppSettings, add_app, rekey_apps, remove_app
from txapns.daemon.store.polling import INTERVAL
from txapns.daemon.store.sqlite.apps import AppTable, SQLiteAppStore
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.values import Environment, Limits, Pause
from txapns.errors import CredentialError
from txapns.simulator import Authority

__all__ = [
    "AppsTests",
    "ExpiryTests",
    "FileTests",
    "ThreadTests",
]

AUTHORITY = Authority()
DAY = 86_400.0


def present() -> datetime:
    """Tell the time."""
    return datetime.now(timezone.utc)


def certificate(topic: str = "com.example.app") -> Certificate:
    """Make a certificate."""
    return Certificate.from_pem(AUTHORITY.client_pem(topic))


def signing_key(key_id: str = "KEY") -> ProviderToken:
    """Make a signing key."""
    return ProviderToken.from_p8(AUTHORITY.p8, key_id, "TEAM")


class AppsTests(SynchronousTestCase):
    """Apps in the database."""

    def setUp(self) -> None:
        """Add an app, and listen for changes."""
        self.world = world_of(self)
        self.add("a", AppSettings(topic="t", push_type="alert", limits=AppLimitsSection(queue=5)))
        self.apps = self.start()
        self.told: list[Sequence[str]] = []
        self.silence = self.apps.changed(lambda names: self.told.append(sorted(names)))

    def start(self) -> Apps:
        """Start another registry."""
        apps = self.world.apps()
        self.world.result(apps.start())
        return apps

    def add(self, name: str, settings: AppSettings | None = None, credential: Credential | None = None) -> None:
        """Add an app, or replace it, as another process does."""
        with self.world.visiting() as connection:
            add_app(
                AppTable(connection),
                self.world.secrets,
                name,
                settings or AppSettings(),
                credential or signing_key(),
                now=present(),
                replace=True,
            )

    def test_interface(self) -> None:
        """The registry provides its interface."""
        verifyObject(IApps, self.apps)

    def test_app(self) -> None:
        """An app is as it was stored."""
        app = self.apps.get("a")
        self.assertEqual((app.name, app.topic, app.push_type, app.source), ("a", "t", "alert", "database"))
        self.assertEqual((app.gateway.host, app.limits), ("api.push.apple.com", Limits(queue=5)))
        self.assertEqual(app.credential, ProviderToken.from_p8(AUTHORITY.p8, "KEY", "TEAM"))
        self.assertEqual(self.apps.names(), ["a"])

    def test_two_sides(self) -> None:
        """An app with two sides has one credential for both, until the sandbox gets its own."""
        self.add("b", AppSettings(topic="t", environment="auto"))
        self.world.clock.advance(1.0)
        app = self.apps.get("b")
        assert app.sandbox is not None
        self.assertIs(app.sandbox.credential, app.credential)
        hosts = app.gateway.host, app.sandbox.gateway.host
        self.assertEqual(hosts, ("api.push.apple.com", "api.sandbox.push.apple.com"))
        own = certificate()
        self.world.result(self.apps.rotate("b", own, Environment.SANDBOX, caller="ann"))
        app = self.apps.get("b")
        self.assertEqual(app.credentials, {"production": app.credential, "sandbox": own})
        self.assertEqual((app.expires, self.apps.get("a").sides), (own.expires, {}))

    def test_unknown(self) -> None:
        """An unknown name raises UnknownApp."""
        self.assertRaises(UnknownApp, self.apps.get, "b")

    def test_changes(self) -> None:
        """Changes by another process are seen within the interval, and reported once."""
        revision = self.apps.revision
        self.add("b")
        self.add("a", credential=signing_key("OTHER"))
        with capturedLogs() as events:
            self.world.clock.advance(INTERVAL)
        self.assertEqual([event["names"] for event in events], ["a, b"])
        self.assertEqual((self.told, self.apps.names()), ([["a", "b"]], ["a", "b"]))
        self.assertEqual(self.apps.get("a").credential, signing_key("OTHER"))
        with self.world.visiting() as connection:
            remove_app(AppTable(connection), "a")
        self.world.clock.pump([INTERVAL] * 3)
        self.assertEqual((self.told[1:], self.apps.names()), ([["a"]], ["b"]))
        self.assertEqual(self.apps.revision, revision + 2)

    def test_start(self) -> None:
        """What is there at the start is no change, and the log does not say that it is."""
        with capturedLogs() as events:
            self.assertEqual(self.start().names(), ["a"])
        self.assertEqual(events, [])

    def test_unchanged(self) -> None:
        """While nothing changes, each poll reads one row, and listeners are not called."""
        statements: list[str] = []
        self.world.result(self.world.database.read(lambda connection: connection.set_trace_callback(statements.append)))
        self.world.clock.pump([INTERVAL] * 3)
        self.assertEqual((statements, self.told), (["SELECT number FROM app_changes"] * 3, []))

    def test_paused(self) -> None:
        """A pause is in effect when it is answered, within the interval for others, and after a restart."""
        other = self.start()
        since = self.world.clock.seconds()
        with capturedLogs() as events:
            self.assertEqual(self.world.result(self.apps.pause("a", "ann")), True)
        self.assertEqual([formatEvent(event) for event in events], ["ann paused the app a"])
        self.assertEqual((self.apps.get("a").pause, self.told), (Pause(since, "ann"), [["a"]]))
        self.assertEqual((self.world.result(self.apps.pause("a", "bob")), self.told), (False, [["a"]]))
        self.world.clock.advance(INTERVAL)
        for apps in (other, self.start()):
            self.assertEqual(apps.get("a").pause, Pause(since, "ann"))
        self.assertEqual(self.world.result(other.resume("a", "bob")), True)
        self.world.clock.advance(INTERVAL)
        self.assertEqual((self.apps.get("a").pause, self.told), (None, [["a"], ["a"]]))
        self.assertEqual(self.world.result(self.apps.resume("a", "bob")), False)

    def test_paused_unknown(self) -> None:
        """An app that does not exist can be neither paused nor resumed."""
        for asked in (self.apps.pause("b", "ann"), self.apps.resume("b", "bob")):
            self.failureResultOf(asked, UnknownApp)

    def test_the_same_again(self) -> None:
        """Storing an app again unchanged is not a change."""
        self.add("a", AppSettings(topic="t", push_type="alert", limits=AppLimitsSection(queue=5)))
        self.world.clock.advance(INTERVAL)
        self.assertEqual(self.told, [])

    def test_rekeyed(self) -> None:
        """A new master key is not a change of the apps, and apps added with it can be used."""
        with self.world.secrets.rekeying() as key, self.world.visiting() as connection:
            rekey_apps(AppTable(connection), key)
        self.world.clock.advance(INTERVAL)
        self.assertEqual((self.told, self.apps.problems()), ([], {}))
        self.add("b")
        self.world.clock.advance(INTERVAL)
        self.assertEqual(self.apps.names(), ["a", "b"])

    def test_no_longer_told(self) -> None:
        """A listener that was removed is not called."""
        self.silence()
        self.add("b")
        self.world.clock.advance(INTERVAL)
        self.assertEqual(self.told, [])

    def test_listener_fails(self) -> None:
        """A listener that fails does not keep the others from being called."""
        self.silence()
        self.apps.changed(lambda names: 1 / 0)  # type: ignore[arg-type, return-value]
        self.apps.changed(lambda names: self.told.append(sorted(names)))
        self.add("b")
        self.world.clock.advance(INTERVAL)
        self.assertEqual(self.told, [["b"]])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_put(self) -> None:
        """An app that the daemon stores is in use once it is on the disk."""
        self.world.result(self.apps.put("b", AppSettings(topic="u"), certificate(), caller="ann"))
        self.assertEqual((self.apps.get("b").topic, self.told), ("u", [["b"]]))
        self.world.result(self.apps.put("b", AppSettings(topic="v"), certificate(), caller="ann"))
        self.assertEqual(self.start().get("b").topic, "v")
        self.world.result(self.apps.remove("b", caller="ann"))
        self.assertRaises(UnknownApp, self.apps.get, "b")
        with self.assertRaises(UnknownApp):
            self.world.result(self.apps.remove("b", caller="ann"))

    def test_rotate(self) -> None:
        """Rotation replaces the credential and nothing else, and the log says who wanted it."""
        with capturedLogs() as events:
            self.world.result(self.apps.put("b", AppSettings(topic="u"), certificate(), caller="ann"))
            before = self.apps.get("b").credential
            self.world.result(self.apps.rotate("b", certificate(), caller="bob"))
        said = [formatEvent(event) for event in events]
        self.assertEqual(said, ["ann put the app b", "bob replaced the credential of the app b"])
        self.assertNotEqual(self.apps.get("b").credential, before)
        self.assertEqual(self.start().get("b").topic, "u")
        with self.assertRaises(UnknownApp):
            self.world.result(self.apps.rotate("c", certificate(), caller="ann"))

    def test_other_master_key(self) -> None:
        """
        If the master key does not decrypt an app, a known one stays as it was, and an unknown one is unavailable.

        That is logged once, and ends when the right key is back.
        """
        path = self.world.configuration.secrets.master_key_file
        right = path.read_bytes()
        self.world.write(path.name, Fernet.generate_key())
        with self.world.visiting() as connection:
            connection.execute("UPDATE app SET changed_at = 0")
        with capturedLogs() as events:
            self.world.clock.pump([INTERVAL] * 3)
        self.assertEqual(events, [])  # the row is as it was, so it need not be opened
        apps = self.start()
        with capturedLogs() as events:
            self.world.clock.pump([INTERVAL] * 3)
        self.assertEqual(events, [])  # it was said at the start
        self.assertEqual(list(apps.problems()), ["a"])
        self.assertEqual((apps.names(), self.apps.names()), ([], ["a"]))
        self.assertIn("the master key does not decrypt it", apps.problems()["a"])
        self.assertRaises(Unavailable, apps.get, "a")
        self.world.write(path.name, right)
        self.world.clock.advance(INTERVAL)
        self.assertEqual((apps.names(), apps.problems()), (["a"], {}))

    def test_problem_is_logged(self) -> None:
        """The log says why an app cannot be used, without any key."""
        self.add("b", credential=certificate())
        with self.world.visiting() as connection:
            connection.execute(
                "UPDATE app SET encrypted = (SELECT encrypted FROM app WHERE name = 'b') WHERE name = 'a'"
            )
        with capturedLogs() as events:
            self.world.clock.pump([INTERVAL] * 3)
        errors = [formatEvent(event) for event in events if event["log_level"] is LogLevel.error]
        said = "the app a goes on as it was: the credential stored for a is that of b: somebody moved it"
        self.assertEqual(errors, [said])
        self.assertEqual(self.apps.get("a").topic, "t")
        self.assertNotIn("PRIVATE", repr(events))

    def test_damaged(self) -> None:
        """An invalid row affects only its own app."""
        self.add("b")
        with self.world.visiting() as connection:
            connection.execute("UPDATE app SET settings = ? WHERE name = 'a'", [b'{"topic": 3}'])
        apps = self.start()
        self.assertEqual(apps.names(), ["b"])
        self.assertIn("$.topic", apps.problems()["a"])

    def test_damaged_in_any_way(self) -> None:
        """Whatever a damaged row contains, its app has a problem, and the other apps and their changes are served."""
        for number, change in enumerate(
            (
                "name = CAST(x'6fff' AS TEXT)",
                "name = 'a b'",
                "name = x'00ff'",
                "settings = x'ff'",
                "settings = 5",
                """settings = '{"gateway": "nowhere"}'""",
                """settings = '{"gateway": "http2:host=:port=1"}'""",
                """settings = '{"gateway": "binary:host=localhost:port=1"}'""",
                """settings = '{"trust_root": "-----BEGIN CERTIFICATE-----"}'""",
                """settings = '{"trust_root": "0\u0082", "topic": "t"}'""",
                """settings = '{"topic": "a\\nb"}'""",
                """settings = '{"push_type": "a\\nb"}'""",
                """settings = '{"limits": {"queue": 0}}'""",
                "encrypted = 'nonsense'",
                "encrypted = 7",
                "kind = CAST(x'ff' AS TEXT), fingerprint = x'ff', expires = 'soon', changed_at = 1e9, encrypted = x''",
            )
        ):
            self.add("bad")
            with self.world.visiting() as connection:
                connection.execute(f"UPDATE app SET {change} WHERE name = 'bad'")
                AppTable(connection).listed()
            other = f"other{number}"
            self.add(other)
            self.world.clock.advance(INTERVAL)
            fresh = self.start()
            for apps in (self.apps, fresh):
                self.assertIn(other, apps.names(), change)
                self.assertNotIn("bad", apps.names(), change)
                (problem,) = apps.problems().values()
                self.assertTrue(problem.isprintable(), problem)
            self.world.result(fresh.stop())
            with self.world.visiting() as connection:
                connection.execute("DELETE FROM app WHERE name NOT LIKE 'other%' AND name != 'a'")
            self.world.clock.advance(INTERVAL)
        self.assertEqual(self.apps.problems(), {})

    def test_fault_of_our_own(self) -> None:
        """An unexpected error affects one app. The log has it once, in full, and the status page its type."""

        def odd(encrypted: bytes, app: str, *more: Any) -> Credential:
            if app == "b":
                raise RuntimeError("hunter2")
            return decrypt(encrypted, app, *more)

        self.patch(txapns.daemon.loading, "decrypt", odd)
        self.add("b")
        self.add("c")
        self.world.clock.pump([INTERVAL] * 3)
        self.assertEqual((self.apps.names(), list(self.apps.problems())), (["a", "c"], ["b"]))
        self.assertEqual(self.apps.problems()["b"], "RuntimeError; the daemon's log has more of it")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertRaises(Unavailable, self.apps.get, "b")

    def test_tried_again(self) -> None:
        """An app that cannot be used is tried again at long intervals, not with each poll: it may take long."""
        tried: list[str] = []

        def refuse(encrypted: bytes, app: str, *more: Any) -> Credential:
            tried.append(app)
            raise CredentialError("no")

        self.patch(txapns.daemon.loading, "decrypt", refuse)
        self.add("b")
        self.world.clock.pump([INTERVAL] * 20)
        self.assertEqual(tried, ["b"])
        self.world.clock.pump([INTERVAL] * 20)
        self.assertEqual(tried, ["b", "b"])

    def test_read(self) -> None:
        """Credentials are read one after the other; if too many wait, the next is refused for a while."""
        self.assertEqual(self.world.result(self.apps.read(lambda: 5)), 5)
        with self.assertRaises(ZeroDivisionError):
            self.world.result(self.apps.read(lambda: 1 // 0))
        self.patch(txapns.daemon.apps, "MOST_READ", 0)
        refused = self.failureResultOf(self.apps.read(lambda: 5), Unavailable)
        self.assertEqual(refused.value.retry_after, 5)

    def test_stopped(self) -> None:
        """After it is stopped, no timer is left."""
        self.world.result(self.apps.read(lambda: None))
        self.world.result(self.apps.stop())
        self.assertEqual(self.world.clock.getDelayedCalls(), [])


@pytest.mark.loopback
class ThreadTests(TestCase):
    """Where credentials from callers are read."""

    async def test_thread(self) -> None:
        """They are read in a thread of their own, so the reactor and the database go on."""
        world = world_of(self)
        database = Database(world.directory / "other.db", reactor)
        await database.start()
        apps = Apps(reactor, world.configuration, SQLiteAppStore(database), world.secrets, database.worker)
        await apps.start()
        goes_on = threading.Event()
        reading = apps.read(lambda: goes_on.wait(120))
        await apps.put("a", AppSettings(), signing_key(), caller="ann")
        self.assertEqual((apps.names(), reading.called), (["a"], False))
        goes_on.set()
        self.assertTrue(await reading)
        await apps.stop()
        await database.stop()


class FileTests(SynchronousTestCase):
    """Apps in the configuration."""

    def setUp(self) -> None:
        """Write a certificate."""
        self.world = world_of(self)
        self.pem = AUTHORITY.client_pem()
        self.world.write("a.pem", self.pem)
        self.world.write("ca.pem", AUTHORITY.ca_pem).chmod(0o644)

    def start(self, text: str = "[apps.a]\ncertificate = 'a.pem'") -> Apps:
        """Start with a configuration."""
        self.world.configure(text)
        apps = self.world.apps()
        self.world.result(apps.start())
        return apps

    def replace(self, content: bytes) -> None:
        """Replace the certificate."""
        self.world.write("new.pem", content).replace(self.world.directory / "a.pem")

    def test_renewed(self) -> None:
        """A new certificate is in use within the interval."""
        apps = self.start()
        told: list[frozenset[str]] = []
        apps.changed(told.append)
        pem = AUTHORITY.client_pem()
        self.replace(pem)
        self.world.clock.pump([INTERVAL] * 3)
        self.assertEqual((apps.get("a").credential, told), (Certificate.from_pem(pem), [frozenset("a")]))

    def test_half_written(self) -> None:
        """While a file cannot be used the app stays as it was, which is logged once, until the file is complete."""
        apps = self.start()
        path = self.world.directory / "a.pem"
        with capturedLogs() as events:
            self.replace(b"half")
            self.world.clock.pump([INTERVAL] * 3)
            path.unlink()
            self.world.clock.pump([INTERVAL] * 3)
        self.assertEqual(apps.get("a").credential, Certificate.from_pem(self.pem))
        said = [formatEvent(event) for event in events]
        self.assertEqual(said[1:], [f"the app a goes on as it was: {path}: No such file or directory"])
        self.assertRegex(said[0], "^the app a goes on as it was: .*a.pem: ")
        self.replace(AUTHORITY.client_pem())
        self.world.clock.advance(INTERVAL)
        self.assertNotEqual(apps.get("a").credential, Certificate.from_pem(self.pem))
        self.assertEqual(apps.problems(), {})

    def test_exposed(self) -> None:
        """A key that other users can read is not used, and the app is refused until its mode is corrected."""
        path = self.world.directory / "a.pem"
        path.chmod(0o644)
        apps = self.start()
        error = self.assertRaises(Unavailable, apps.get, "a")
        self.assertEqual(str(error), "the app a cannot be used now; the daemon's log says why")
        self.assertRegex(apps.problems()["a"], r"a\.pem holds a secret.*mode 0644.*chmod")
        self.assertEqual((apps.names(), error.retry_after), ([], 60))
        path.chmod(0o600)
        self.world.clock.advance(INTERVAL)
        self.assertEqual(apps.names(), ["a"])

    def test_one_does_not_stop_others(self) -> None:
        """An app that cannot be used does not affect the others."""
        text = "[apps.a]\ncertificate = 'a.pem'\n[apps.b]\ncertificate = 'none.pem'\n[apps.c]\ncertificate = 'a.pem'\n"
        apps = self.start(text + "trust_root = 'none.pem'")
        self.assertEqual((apps.names(), sorted(apps.problems())), (["a"], ["b", "c"]))

    def test_trust_root(self) -> None:
        """Authorities in another form are reported, and the app is refused before anything is accepted for it."""
        der = x509.load_pem_x509_certificate(AUTHORITY.ca_pem).public_bytes(Encoding.DER)
        for content, words in ((der, "DER, as Windows"), (b"", "not the PEM of"), (der[:50], "DER, as Windows")):
            self.world.write("ca.cer", content)
            apps = self.start("[apps.a]\ncertificate = 'a.pem'\ntrust_root = 'ca.cer'")
            self.assertRegex(apps.problems()["a"], f"ca.cer: trust_root is {words}")
            self.assertRaises(Unavailable, apps.get, "a")

    def test_paused(self) -> None:
        """An app of the configuration can be paused, too, and stays so when its files change."""
        apps = self.start()
        self.world.result(apps.pause("a", "ann"))
        self.assertIsNotNone(apps.get("a").pause)
        pem = AUTHORITY.client_pem()
        self.replace(pem)
        self.world.clock.advance(INTERVAL)
        app = apps.get("a")
        self.assertEqual((app.credential, app.pause is None), (Certificate.from_pem(pem), False))

    def test_reconfigured(self) -> None:
        """Another configuration changes the apps in it, and the limits of all; those it lacks are gone."""
        apps = self.start()
        self.world.result(apps.put("c", AppSettings(), signing_key(), caller="ann"))
        for queue, name in ((7, "b"), (8, "b"), (9, "c"), (10, "a")):
            section = f"[limits]\nqueue = {queue}\n[apps.{name}]\ncertificate = 'a.pem'\ngateway = 'sandbox'"
            self.world.configure(section)
            self.world.result(apps.reconfigure(self.world.configuration))
            self.assertEqual(apps.names(), sorted({name, "c"}))
            self.assertEqual({apps.get(each).limits.queue for each in apps.names()}, {queue})
            self.assertEqual(apps.source("c"), "file" if name == "c" else "database")
            self.assertEqual(isinstance(apps.get("c").credential, Certificate), name == "c")

    def test_before_the_database(self) -> None:
        """It takes precedence over one of the same name in the database, which cannot be changed."""
        with self.world.visiting() as connection:
            add_app(AppTable(connection), self.world.secrets, "a", AppSettings(topic="t"), signing_key(), now=present())
        apps = self.start()
        self.assertEqual((apps.get("a").source, apps.names()), ("file", ["a"]))
        for refused in (apps.put("a", AppSettings(), signing_key(), caller="ann"), apps.remove("a", caller="ann")):
            self.failureResultOf(refused, AppExists)


class ExpiryTests(SynchronousTestCase):
    """Certificates that expire."""

    def setUp(self) -> None:
        """Start with one that lasts for a year."""
        self.world = world_of(self, "[apps.a]\ncertificate = 'a.pem'")
        self.world.write("a.pem", AUTHORITY.client_pem())
        self.apps = self.start()
        expires = self.apps.get("a").expires
        assert expires is not None
        self.expires = expires

    def start(self) -> Apps:
        """Start another registry."""
        apps = self.world.apps()
        self.world.result(apps.start())
        return apps

    def warned(self, days: float) -> list[str]:
        """Let time pass until a number of days are left; return what was logged."""
        then = self.expires - timedelta(days=days)
        with capturedLogs() as events:
            self.world.clock.advance(then.timestamp() - self.world.clock.seconds())
            self.world.clock.pump([INTERVAL] * 3)
        return [formatEvent(event) for event in events]

    def test_warnings(self) -> None:
        """The log warns 30 days, 7 days and one day before, and when it has expired, once each."""
        on = f"{self.expires:%Y-%m-%d %H:%M} UTC"
        for days, said in (
            (31, []),
            (29.9, [f"the certificate of the app a expires within 30 days, on {on}"]),
            (8, []),
            (6.9, [f"the certificate of the app a expires within 7 days, on {on}"]),
            (1.1, []),
            (0.9, [f"the certificate of the app a expires within 1 day, on {on}"]),
            (0.1, []),
            (-0.1, [f"the certificate of the app a expired on {on}"]),
            (-9, []),
        ):
            self.assertEqual(self.warned(days), said, days)

    def test_late(self) -> None:
        """Of several warnings that are due at once, only the last is logged."""
        self.assertEqual(len(self.warned(0.5)), 1)

    def test_at_the_start(self) -> None:
        """A daemon that starts late warns at once."""
        self.world.result(self.apps.stop())
        self.assertEqual(self.warned(5), [])
        with capturedLogs() as events:
            self.start()
        said = [formatEvent(event) for event in events if event["log_level"] is LogLevel.warn]
        self.assertEqual(len(said), 1)
        self.assertIn("within 7 days", said[0])

    def test_renewed(self) -> None:
        """A new certificate gets warnings of its own."""
        self.warned(5)
        self.world.write("a.pem", AUTHORITY.client_pem())
        os.utime(self.world.directory / "a.pem", (1, 1))
        said = self.warned(4)
        self.assertEqual([line for line in said if "expires" in line], [said[-1]])

    def test_key(self) -> None:
        """A signing key does not expire."""
        self.world.result(self.apps.put("b", AppSettings(), signing_key(), caller="ann"))
        self.assertIsNone(self.apps.get("b").expires)
