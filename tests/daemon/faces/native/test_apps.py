"""Tests for :mod:`txapns.daemon.faces.native.apps`."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

import txapns.daemon.apps
import txapns.daemon.faces.native.apps
import txapns.daemon.secrets.submitted
from tests.daemon.fakes import Connection, Keys, Response, Waiting, key_of
from tests.daemon.world import world_of
from txapns._network.clocks import wall_clock
from txapns._serving.http import HTTPServer
from txapns.credentials import ProviderToken
from txapns.daemon.apps import Apps
from txapns.daemon.faces.native.face import Native
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.intake import Intake
from txapns.daemon.store.apps import AppSettings, add_app
from txapns.daemon.store.sqlite.apps import AppTable, SQLiteAppStore
from txapns.daemon.values import Caller, Limits
from txapns.simulator import Authority

__all__ = ["ChangeTests", "FaultTests", "ListTests", "PermissionTests"]

AUTHORITY = Authority()
PEM = AUTHORITY.client_pem("com.example.chess").decode()
KEY = {"key": AUTHORITY.p8.decode(), "key_id": "KEY", "team_id": "TEAM"}
PASSPHRASE = "correct horse"


def secrets_of(pem: str) -> list[str]:
    """Give the lines of the private keys in PEM."""
    blocks = pem.split("PRIVATE KEY-----")[1::2]
    return [line for block in blocks for line in block.splitlines() if len(line) > 20 and not line.startswith("-")]


class ProvisioningCase(SynchronousTestCase):
    """A face with real apps, database and master key; ``old`` is an app of the configuration."""

    keys: Keys | None = Keys(Caller("operator", manage=True), Caller("all", None, None))

    def setUp(self) -> None:
        """Start it."""
        self.world = world_of(self, "[apps.old]\ncertificate = 'old.pem'")
        self.world.write("old.pem", AUTHORITY.client_pem("com.example.old"))
        database, clock = self.world.database, self.world.clock
        self.addCleanup(lambda: self.world.result(database.stop()))
        self.apps = Apps(clock, self.world.configuration, SQLiteAppStore(database), self.world.secrets, database.worker)
        self.world.result(self.apps.start())
        self.connection = self.connect(self.keys)

    def connect(self, keys: Keys | None) -> Connection:
        """Connect to a face."""
        waiting = Waiting(self.world.clock)
        store = self.world.store
        intake = Intake(self.apps, store.queue, Identifiers(wall_clock(self.world.clock)), waiting, lambda name: None)
        native = Native(intake, store.outcomes, store.feedback, store.outcome_feed, self.apps, keys, stored=self.apps)
        connection = Connection(HTTPServer(self.world.clock, native), self.world.clock)
        self.addCleanup(connection.lose)
        return connection

    def ask(self, method: str, path: str = "", body: object | None = None, **more: Any) -> Response:
        """Send a request as an operator."""
        more.setdefault("key", "operator")
        encoded = None if body is None else json.dumps(body).encode()
        return self.connection.request(method, f"/v1/apps{path}", encoded, **more)

    def put(self, name: str = "chess", credential: object = KEY, **more: object) -> Response:
        """Put an app."""
        return self.ask("PUT", f"/{name}", {"credential": credential, **more})

    def stored(self) -> list[str]:
        """List the apps in the database."""
        with self.world.visiting() as connection:
            return [each.name for each in AppTable(connection).listed()]


class ListTests(ProvisioningCase):
    """``GET /v1/apps``."""

    def test_listed(self) -> None:
        """All apps are listed with what is known of them, and nothing secret."""
        self.put("chess", topic="com.example.chess", gateway="sandbox")
        response = self.ask("GET")
        chess, old = response.json["apps"]
        self.assertEqual(
            chess,
            {
                "name": "chess",
                "source": "database",
                "gateway": "http2:host=api.sandbox.push.apple.com:port=443",
                "topic": "com.example.chess",
                "credential": "key",
                "fingerprint": self.apps.get("chess").credential.fingerprint,
            },
        )
        self.assertEqual((old["source"], old["credential"], "topic" in old), ("file", "certificate", False))
        expires = self.apps.get("old").expires
        assert expires is not None
        self.assertEqual(old["expires"], expires.timestamp())
        self.assertNotIn(b"PRIVATE", response.body)

    def test_slices(self) -> None:
        """Many apps are listed over several turns of the reactor; what is removed meanwhile is left out."""
        for name in ("chess", "draughts", "go"):
            self.put(name)
        self.patch(txapns.daemon.faces.native.apps, "APPS", 1)
        listing = self.connect(self.keys)
        listing.write(
            f"GET /v1/apps HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {key_of('operator')}\r\n\r\n".encode()
        )
        self.assertEqual(listing.read(), [])
        self.patch(txapns.daemon.faces.native.apps, "APPS", 1_000)
        self.assertEqual(self.ask("DELETE", "/go").status, 204)
        self.assertEqual([each["name"] for each in listing.answer().json["apps"]], ["chess", "draughts", "old"])

    def test_two_sides(self) -> None:
        """An app may have two sides, with one credential or two, and either may be replaced."""
        added = self.put("chess", topic="com.example.chess", environment="auto")
        app = self.apps.get("chess")
        expected = {"gateway": "http2:host=api.sandbox.push.apple.com:port=443", "credential": "key"}
        expected["fingerprint"] = app.credential.fingerprint
        self.assertEqual((added.json["environment"], added.json["sandbox"]), ("auto", expected))
        assert app.sandbox is not None
        self.assertIs(app.sandbox.credential, app.credential)
        rotated = self.ask("POST", "/chess/sandbox/credential", {"certificate": PEM})
        self.assertEqual((rotated.status, rotated.json["credential"]), (200, "key"))
        self.assertEqual(rotated.json["sandbox"]["credential"], "certificate")
        self.ask("POST", "/chess/credential", {"certificate": PEM})
        app = self.apps.get("chess")
        self.assertEqual({each.fingerprint for each in app.credentials.values()}, {app.credential.fingerprint})
        sandbox = {"credential": KEY, "gateway": "http2:host=localhost:port=5"}
        again = self.put("chess", credential={"certificate": PEM}, environment="auto", sandbox=sandbox)
        self.assertEqual((again.json["credential"], again.json["sandbox"]["credential"]), ("certificate", "key"))
        self.assertIn("localhost", again.json["sandbox"]["gateway"])
        self.assertNotIn("sandbox", self.put("chess").json)
        self.assertEqual(self.ask("POST", "/chess/sandbox/credential", KEY).status, 409)

    def test_wrong_sides(self) -> None:
        """What is wrong with one of two sides is named."""
        binary = "binary:host=localhost:port=1"
        for path, settings in {
            "environment": {"environment": "both"},
            "sandbox": {"sandbox": {}},
            "gateway": {"environment": "auto", "gateway": binary, "credential": {"certificate": PEM}},
            "sandbox.gateway": {"environment": "auto", "sandbox": {"gateway": "prod"}},
            "sandbox.trust_root": {"environment": "auto", "sandbox": {"trust_root": "nothing"}},
            "sandbox.credential.key": {"environment": "auto", "sandbox": {"credential": {**KEY, "key": "none"}}},
        }.items():
            response = self.put("chess", **settings)
            self.assertEqual((response.status, response.json["error"]["path"]), (400, path))

    def test_recorded(self) -> None:
        """An app whose outcomes are recorded says so."""
        self.assertEqual(self.put("chess", topic="com.example.chess", outcomes=True).json["outcomes"], True)
        self.assertTrue(self.apps.get("chess").outcomes)
        self.assertNotIn("outcomes", self.put("chess", topic="com.example.chess").json)
        self.assertFalse(self.apps.get("chess").outcomes)
        self.assertEqual(self.put("chess", outcomes="yes").json["error"]["path"], "outcomes")

    def test_supersede(self) -> None:
        """An app may have it off that newer notifications supersede what waits."""
        self.put("chess", topic="com.example.chess")
        self.assertTrue(self.apps.get("chess").supersede)
        self.put("chess", topic="com.example.chess", supersede=False)
        self.assertFalse(self.apps.get("chess").supersede)

    def test_problem(self) -> None:
        """An app that cannot be used has the reason, and so has one that still works with its old credential."""
        self.put()
        with self.world.visiting() as connection:
            credential = ProviderToken.from_p8(AUTHORITY.p8, "KEY", "TEAM")
            add_app(AppTable(connection), self.world.secrets, "bad", AppSettings(), credential, now=self.apps.now())
            connection.execute("UPDATE app SET encrypted = x'00'")
        self.world.clock.advance(1.0)
        bad, chess, _ = self.ask("GET").json["apps"]
        problem = "the master key does not decrypt it: it was encrypted with another"
        self.assertEqual(bad, {"name": "bad", "source": "database", "problem": problem})
        self.assertEqual((chess["credential"], chess["problem"]), ("key", problem))

    def test_parameters(self) -> None:
        """Without apps the list is empty."""
        self.assertEqual(self.ask("GET", "?limit=1").status, 400)


class ChangeTests(ProvisioningCase):
    """``PUT``, ``POST`` and ``DELETE``."""

    def test_put(self) -> None:
        """When it is answered, the app is on the disk and in use; the second time it is replaced."""
        fingerprint = "ab" * 32
        first = self.put(
            topic="com.example.chess", push_type="alert", callers=[fingerprint], limits={"queue": 5.0, "tokens": None}
        )
        app = self.apps.get("chess")
        self.assertEqual((first.status, first.json["fingerprint"]), (201, app.credential.fingerprint))
        self.assertEqual((app.topic, app.push_type, app.callers), ("com.example.chess", "alert", {fingerprint}))
        self.assertEqual((app.limits, self.stored()), (Limits(queue=5), ["chess"]))
        self.put(callers=[f"SHA256 Fingerprint={'AB:' * 31}AB", f"{'Cd ' * 31}Cd"])
        self.assertEqual(self.apps.get("chess").callers, {fingerprint, "cd" * 32})
        second = self.put(credential={"certificate": PEM})
        self.assertEqual((second.status, second.json["credential"]), (200, "certificate"))
        self.assertEqual((self.apps.get("chess").topic, self.stored()), (None, ["chess"]))

    def test_not_before(self) -> None:
        """It is not answered before that."""
        told: list[bytes] = []
        self.apps.changed(lambda names: told.append(self.connection.transport.value()))
        self.assertEqual(self.put().status, 201)
        self.assertEqual(told, [b""])

    def test_forms(self) -> None:
        """Every form of a credential is accepted: PKCS#12 in base64 of one line or many, encrypted PEM or key."""
        p12 = AUTHORITY.client_pkcs12("com.example.chess", passphrase=PASSPHRASE.encode())
        encrypted = AUTHORITY.client_pem("com.example.chess", passphrase=PASSPHRASE.encode()).decode()
        for text in (base64.b64encode(p12).decode(), base64.encodebytes(p12).decode(), encrypted):
            response = self.put(credential={"certificate": text, "passphrase": PASSPHRASE})
            self.assertEqual(response.json.get("credential"), "certificate", response.body)

    def test_rotated(self) -> None:
        """Another credential changes nothing else."""
        self.put(topic="t", limits={"queue": 7})
        response = self.ask("POST", "/chess/credential", {"certificate": PEM})
        app = self.apps.get("chess")
        self.assertEqual((response.status, response.json["fingerprint"]), (200, app.credential.fingerprint))
        self.assertEqual((app.topic, app.limits.queue, response.json["credential"]), ("t", 7, "certificate"))

    def test_paused(self) -> None:
        """An app is paused and resumed, wherever it is kept; who did it and when can be read."""
        for name in ("chess", "old"):
            self.put()
            first, again = (self.ask("POST", f"/{name}/pause") for _ in range(2))
            pause = self.apps.get(name).pause
            assert pause is not None
            self.assertEqual((first.status, first.json["paused_by"]), (200, pause.caller))
            self.assertEqual((first.json["paused_since"], again.json), (pause.since, first.json))
            resumed = self.ask("POST", f"/{name}/resume")
            self.assertEqual((resumed.status, "paused_by" in resumed.json), (200, False))
            self.assertIsNone(self.apps.get(name).pause)
        for path in ("/none/pause", "/none/resume"):
            self.assertEqual(self.ask("POST", path).code, "unknown_app")

    def test_removed(self) -> None:
        """A removed app is neither known nor stored any more, and cannot be removed again."""
        self.put()
        response = self.ask("DELETE", "/chess")
        self.assertEqual((response.status, response.body), (204, b""))
        self.assertEqual((self.apps.names(), self.stored()), (["old"], []))
        response = self.ask("DELETE", "/chess")
        self.assertEqual((response.status, response.code), (404, "unknown_app"))

    def test_store_lost(self) -> None:
        """While the database file is missing, nothing is changed: the next start would not know of it."""
        self.put()
        away = self.world.database.path.rename(self.world.database.path.with_name("away"))
        changes = [self.put("new"), self.put(topic="com.example.other"), self.ask("DELETE", "/chess")]
        self.assertEqual([each.status for each in changes], [503] * 3)
        self.assertIn("was removed", changes[0].json["error"]["message"])
        away.rename(self.world.database.path)
        self.assertEqual((self.put("new").status, self.stored()), (201, ["chess", "new"]))

    def test_unknown(self) -> None:
        """The credential of an app that does not exist cannot be replaced."""
        response = self.ask("POST", "/chess/credential", KEY)
        self.assertEqual((response.status, response.code, self.stored()), (404, "unknown_app", []))

    def test_configuration(self) -> None:
        """Apps in the configuration can be changed only there."""
        for method, path, body in (
            ("PUT", "/old", {"credential": KEY}),
            ("POST", "/old/credential", KEY),
            ("DELETE", "/old", None),
        ):
            response = self.ask(method, path, body)
            self.assertEqual((response.status, response.code), (409, "app_exists"))
        self.assertEqual((self.apps.names(), self.stored()), (["old"], []))

    def test_methods(self) -> None:
        """``Allow`` lists the methods."""
        for path, methods in (("", "GET, HEAD, OPTIONS"), ("/chess", "PUT, DELETE, OPTIONS")):
            response = self.ask("PATCH", path)
            self.assertEqual((response.status, response.headers["allow"]), (405, methods))


class FaultTests(ProvisioningCase):
    """An invalid request changes nothing; its answer names the field, and its content is not repeated or logged."""

    def check(self, response: Response, path: str, message: str = "") -> None:
        """Check that the request was refused for this field, and nothing was stored."""
        error = response.json["error"]
        self.assertEqual((response.status, error["code"], error.get("path", "")), (400, "malformed", path))
        self.assertIn(message, error["message"])
        self.assertEqual(self.stored(), [])

    def test_credential(self) -> None:
        """A credential that cannot be used."""
        encrypted = AUTHORITY.client_pem(passphrase=PASSPHRASE.encode()).decode()
        p12 = base64.b64encode(AUTHORITY.client_pkcs12()).decode()
        mixed = KEY["key"] + "".join(re.findall(r"-----BEGIN CERT.*?-----END CERTIFICATE-----\n", PEM, re.DOTALL))
        expired = AUTHORITY.client_pem(expired=True).decode()
        for credential, field, message in (
            ({"certificate": encrypted}, "passphrase", "passphrase"),
            ({"certificate": encrypted, "passphrase": "wrong"}, "passphrase", "passphrase"),
            ({"certificate": p12, "passphrase": "wrong"}, "passphrase", "does not open the PKCS#12"),
            ({"certificate": mixed}, "certificate", "belongs to none"),
            ({"certificate": expired}, "certificate", "is valid from"),
            ({"certificate": "no/such/file.pem"}, "certificate", "contains no PEM"),
            ({"certificate": "bm9uc2Vuc2U="}, "certificate", "is not DER, PKCS#12"),
            ({"certificate": "x" * 70_000}, "certificate", "length"),
            ({**KEY, "key": "nonsense"}, "key", ""),
            ({**KEY, "team_id": "a b"}, "key", "team_id"),
        ):
            with self.subTest(field=field, message=message):
                self.check(self.put(credential=credential), f"credential.{field}", message)
                self.check(self.ask("POST", "/chess/credential", credential), field, message)

    def test_unknown_version(self) -> None:
        """A certificate that cannot be parsed is an error of the caller, not of the daemon."""
        certificate = x509.load_pem_x509_certificate(PEM[PEM.index("-----BEGIN CERT") :].encode())
        der = certificate.public_bytes(Encoding.DER).replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x04", 1)
        odd = f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"
        self.check(
            self.put(credential={"certificate": PEM.partition("-----BEGIN CERT")[0] + odd}), "credential.certificate"
        )
        self.check(self.put(trust_root=odd), "trust_root")
        self.flushLoggedErrors(x509.InvalidVersion)

    def test_fault_of_our_own(self) -> None:
        """Every exception of the credential's parser is answered with 400, and logged."""

        class Odd(ProviderToken):
            @classmethod
            def from_p8(cls, *arguments: object, **options: object) -> ProviderToken:
                raise RuntimeError(PASSPHRASE)

        # Not the method: patch() would put back the one bound to ProviderToken, which all subclasses then inherit.
        self.patch(txapns.daemon.secrets.submitted, "ProviderToken", Odd)
        response = self.put()
        self.check(response, "credential.key", "cannot be read")
        self.assertNotIn(PASSPHRASE.encode(), response.body)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_busy(self) -> None:
        """While too many credentials are being read, callers may retry later."""
        self.patch(txapns.daemon.apps, "MOST_READ", 0)
        for response in (self.put(), self.ask("POST", "/chess/credential", KEY)):
            self.assertEqual((response.status, response.headers["retry-after"]), (503, "5"))

    def test_which_credential(self) -> None:
        """A request with no credential, two, or half of one is refused."""
        for credential in ({}, {"certificate": PEM, **KEY}, {"key": KEY["key"]}, {"certificate": PEM, "key_id": "x"}):
            self.check(self.put(credential=credential), "credential", "either")
            self.check(self.ask("POST", "/chess/credential", credential), "", "either")

    def test_settings(self) -> None:
        """Other invalid requests are refused."""
        wrong: list[tuple[dict[str, object], str]] = [
            ({"gateway": "Apple"}, "gateway"),
            ({"gateway": "http2:host=a b"}, "gateway"),
            ({"gateway": "binary:host=localhost"}, "gateway"),
            ({"trust_root": "nonsense"}, "trust_root"),
            ({"topic": "a b"}, "topic"),
            ({"topic": "a\n"}, "topic"),
            ({"push_type": "x" * 1_025}, "push_type"),
            ({"callers": ["AB" * 20]}, "callers[0]"),
            ({"callers": [f"sha1 Fingerprint={'AB' * 32}"]}, "callers[0]"),
            ({"limits": {"queue": 0}}, "limits.queue"),
            ({"limits": {"queue": 1.5}}, "limits.queue"),
            ({"limits": {"queue": 10**30}}, "limits.queue"),
            ({"limits": {"queues": 1}}, "limits"),
            ({"topics": "a"}, ""),
        ]
        for settings, path in wrong:
            with self.subTest(settings=settings):
                self.check(self.put(**settings), path)
        self.check(self.ask("PUT", "/chess", {}), "")
        self.check(self.ask("PUT", "/-chess", {"credential": KEY}), "", "the name of an app")

    def test_content_type(self) -> None:
        """Only bodies declared as JSON are read."""
        headers = {"Content-Type": "text/plain"}
        for method, path, body in (("PUT", "/chess", {"credential": KEY}), ("POST", "/chess/credential", KEY)):
            self.assertEqual(self.ask(method, path, body, headers=headers).status, 415)
        self.assertEqual(self.stored(), [])

    def test_no_master_key(self) -> None:
        """Without a master key nothing is stored, and the operator learns why."""
        self.world.configuration.secrets.master_key_file.unlink()
        response = self.put()
        self.assertEqual((response.status, response.code, self.stored()), (503, "unavailable", []))
        self.assertIn("master.key", response.json["error"]["message"])
        self.world.write("master.key", b"nonsense")
        self.assertIn("32 bytes", self.put().json["error"]["message"])

    def test_secrets(self) -> None:
        """No secret is in any answer or in the log, whether the request was accepted or refused."""
        encrypted = AUTHORITY.client_pem(passphrase=PASSPHRASE.encode()).decode()
        credentials: list[dict[str, object]] = [
            {"certificate": encrypted, "passphrase": PASSPHRASE},
            {"certificate": encrypted, "passphrase": PASSPHRASE + "."},
            {"certificate": PEM + PEM[:-200], "key_id": PASSPHRASE},
            {"key": PASSPHRASE, "key_id": KEY["key"], "team_id": PEM},
            {"certificate": [PEM]},
            {PASSPHRASE: PEM},
            KEY,
        ]
        with capturedLogs() as events:
            answers = [self.put(credential=each) for each in credentials]
            answers += [self.ask("POST", "/chess/credential", each) for each in credentials]
            answers += [
                self.put(gateway=PEM),
                self.put(trust_root=encrypted),
                self.ask("GET"),
                self.ask("DELETE", "/chess"),
            ]
        said = "".join(answer.body.decode() for answer in answers)
        said += "".join(f"{formatEvent(event)} {event!r}" for event in events)
        for line in (*secrets_of(PEM), *secrets_of(encrypted), *secrets_of(KEY["key"])):
            self.assertNotIn(line, said)
        self.assertNotIn(f"{PASSPHRASE}.", said)
        self.assertIn("operator replaced the credential of the app chess", said)


class PermissionTests(ProvisioningCase):
    """Permissions."""

    REQUESTS = (
        ("GET", "", None),
        ("PUT", "/chess", {"credential": KEY}),
        ("POST", "/chess/credential", KEY),
        ("DELETE", "/chess", None),
    )

    def test_not_allowed(self) -> None:
        """A key without ``manage`` is refused, before anything of the request is checked."""
        for method, path, body in self.REQUESTS:
            for given in (body, None if body is None else {"credential": 5}):
                response = self.ask(method, path, given, key="all")
                self.assertEqual((response.status, response.code), (403, "not_allowed"))
        self.assertEqual(self.stored(), [])

    def test_no_key(self) -> None:
        """A request without a key is refused."""
        for method, path, body in self.REQUESTS:
            self.connection = self.connect(self.keys)
            self.assertEqual(self.ask(method, path, body, key=None).status, 401)

    def test_nothing_asked_for(self) -> None:
        """Where no keys are required, apps cannot be managed, though everything else is allowed."""
        self.connection = self.connect(None)
        for method, path, body in self.REQUESTS:
            response = self.ask(method, path, body, key=None)
            self.assertEqual((response.status, response.code), (403, "not_allowed"))
        self.assertEqual(self.ask("GET", "/old/queue", key=None).status, 200)
        self.assertEqual(self.stored(), [])
