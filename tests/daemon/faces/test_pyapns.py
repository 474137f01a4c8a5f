"""Tests for :mod:`txapns.daemon.faces.pyapns`."""

from __future__ import annotations

import base64
import xmlrpc.client
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from tests.daemon.fakes import Connection, Keys, Response, Waiting, key_of
from tests.daemon.world import world_of
from txapns._network.clocks import wall_clock
from txapns._serving.http import HTTPServer, IApplication
from txapns._serving.limits import ConnectionLimits
from txapns.credentials import Certificate
from txapns.daemon.apps import Apps
from txapns.daemon.config.sections import PyapnsSection
from txapns.daemon.errors import Unavailable
from txapns.daemon.faces.pyapns import READER, Pyapns
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.intake import Intake
from txapns.daemon.secrets.credentials import read_certificate
from txapns.daemon.store.apps import AppSettings, add_app
from txapns.daemon.store.sqlite.apps import AppTable, SQLiteAppStore
from txapns.daemon.values import Caller, Draft, Leased, Settlement, State
from txapns.simulator import Authority

__all__ = ["CallTests", "FeedbackTests", "HostileTests", "NotifyTests", "ProvisionTests", "ServerProxyTests"]

ANN, BOB = "aa" * 32, "bb" * 32
PAYLOAD = {"aps": {"alert": "Grüße", "badge": 3}}
AUTHORITY = Authority()
CHESS, OTHER = (AUTHORITY.client_pem("com.example.chess").decode() for _ in range(2))


class PyapnsCase(SynchronousTestCase):
    """A face with the real intake, apps and queue, and one connection to it."""

    keys: Keys | None = Keys(
        Caller("manager", None, None, manage=True),
        Caller("sender", frozenset({"chess"}), frozenset()),
        Caller("reader", frozenset(), frozenset({"chess"})),
    )
    options = PyapnsSection()

    def setUp(self) -> None:
        """Start it."""
        self.world = world_of(self, self.text())
        self.addCleanup(lambda: self.world.result(self.world.database.stop()))
        self.clock = self.world.clock
        self.queue, self.log = self.world.store.queue, self.world.store.feedback
        self.start()

    def text(self) -> str:
        """Write the configuration."""
        return ""

    def start(self) -> None:
        """Start everything that a restart starts again."""
        self.apps = Apps(
            self.clock,
            self.world.configuration,
            SQLiteAppStore(self.world.database),
            self.world.secrets,
            self.world.database.worker,
        )
        self.result(self.apps.start())
        self.addCleanup(lambda apps: self.result(apps.stop()), self.apps)
        identifiers = Identifiers(wall_clock(self.clock))
        self.intake = Intake(self.apps, self.queue, identifiers, Waiting(self.clock), lambda name: None)
        self.face = Pyapns(wall_clock(self.clock), self.intake, self.apps, self.keys, self.log, self.options)
        self.server = HTTPServer(self.clock, self.face, ConnectionLimits(body=100_000))
        self.connection = Connection(self.server, self.clock)
        self.addCleanup(self.connection.lose)

    def result(self, deferred: Deferred[Any]) -> Any:
        """Let time pass until there is a result."""
        return self.world.result(deferred)

    def post(self, body: bytes, key: str | None = "manager", path: str = "/", **more: Any) -> Response:
        """Post to the face."""
        headers: dict[str, str] = {"Content-Type": "text/xml"}
        if key is not None:
            shown = base64.b64encode(f"any:{key_of(key)}".encode()).decode()
            headers["Authorization"] = f"Basic {shown}"
        return self.connection.request("POST", path, body, key=None, headers=headers, **more)

    def call(self, method: str, *arguments: Any, key: str | None = "manager") -> Any:
        """Make a call."""
        body = xmlrpc.client.dumps(arguments, method, allow_none=True).encode()
        response = self.post(body, key)
        self.assertEqual(response.status, 200)
        self.assertEqual(response.headers["content-type"], "text/xml; charset=utf-8")
        [found], _ = xmlrpc.client.loads(response.body)
        return found

    def fault(self, method: str, *arguments: Any, key: str | None = "manager") -> int:
        """Make a call that is refused; returns the fault's number."""
        with self.assertRaises(xmlrpc.client.Fault) as caught:
            self.call(method, *arguments, key=key)
        return int(caught.exception.faultCode)

    def provision(self, certificate: str = CHESS, environment: str = "sandbox") -> None:
        """Add the app."""
        self.assertIsNone(self.call("provision", "chess", certificate, environment))

    def lease(self) -> list[Leased]:
        """Lease everything that waits."""
        found: list[Leased] = []
        while some := self.result(self.queue.lease("chess", 100, self.clock.seconds() + 60)):
            found += some
        return sorted(found, key=lambda each: each.number)

    def kill(self, *tokens: str) -> None:
        """Add tokens to the feedback log."""
        self.result(self.intake.accept("chess", [Draft(b"{}", {}, [bytes.fromhex(token) for token in tokens])]))
        dead = [
            Settlement(leased.number, State.REJECTED, 410, "Unregistered", 1_699_999_000.5) for leased in self.lease()
        ]
        self.result(self.queue.settle(dead))


class ProvisionTests(PyapnsCase):
    """How apps are added."""

    def test_new(self) -> None:
        """A new app exists at once, with the certificate's topic, and after a restart."""
        self.assertEqual(self.fault("notify", "chess", ANN, PAYLOAD), 404)
        self.provision()
        for _ in range(2):
            app = self.apps.get("chess")
            self.assertEqual(app.credential, Certificate.from_pem(CHESS))
            self.assertEqual((app.source, app.gateway.host), ("database", "api.sandbox.push.apple.com"))
            self.start()
        self.assertIsNone(self.call("notify", "chess", ANN, PAYLOAD))

    def test_again(self) -> None:
        """The same certificate changes nothing; another one replaces it. The log says who did what."""
        with capturedLogs() as events:
            self.provision()
            revision = self.apps.revision
            self.provision()
            self.assertEqual(self.apps.revision, revision)
            self.provision(OTHER)
        self.assertEqual(self.apps.get("chess").credential, Certificate.from_pem(OTHER))
        said = [f"{event['caller']} {event['did']}" for event in events if "did" in event]
        self.assertEqual(said, ["manager put", "manager replaced the credential of"])

    def test_operators(self) -> None:
        """The operator's settings stay."""
        server = "http2:host=localhost:port=2197"
        settings = AppSettings(gateway=server, topic="com.example.x", push_type="voip", outcomes=True)
        credential = read_certificate(CHESS.encode(), None, self.face._now())
        with self.world.visiting() as database:
            add_app(AppTable(database), self.world.secrets, "chess", settings, credential, now=self.face._now())
        self.clock.advance(2)
        self.provision(OTHER)
        app = self.apps.get("chess")
        self.assertEqual(app.credential, Certificate.from_pem(OTHER))
        self.assertEqual((app.gateway.host, app.topic, app.push_type), ("localhost", "com.example.x", "voip"))
        self.provision(OTHER, environment="production")
        app = self.apps.get("chess")
        self.assertEqual((app.topic, app.push_type, app.outcomes), ("com.example.x", "voip", True))

    def test_two_sides(self) -> None:
        """Of an app with two sides, the certificate of the side that is named is replaced, and nothing else."""
        settings = AppSettings(environment="auto", topic="com.example.x")
        credential = read_certificate(CHESS.encode(), None, self.face._now())
        with self.world.visiting() as database:
            add_app(AppTable(database), self.world.secrets, "chess", settings, credential, now=self.face._now())
        self.clock.advance(2)
        revision = self.apps.revision
        self.provision()
        self.assertEqual(self.apps.revision, revision)
        first, second = Certificate.from_pem(CHESS), Certificate.from_pem(OTHER)
        self.provision(OTHER)
        self.assertEqual(self.apps.get("chess").credentials, {"production": first, "sandbox": second})
        self.provision(OTHER, environment="production")
        self.assertEqual(self.apps.get("chess").credentials, {"production": second, "sandbox": second})

    def test_environment(self) -> None:
        """Another environment replaces the first one; an unknown one is refused."""
        self.provision()
        self.provision(environment="production")
        self.assertEqual(self.apps.get("chess").gateway.host, "api.push.apple.com")
        self.assertEqual(self.fault("provision", "chess", CHESS, "development"), 401)

    def test_wrong(self) -> None:
        """Anything but a certificate with a key, or an invalid name, is refused; so is the name of a file."""
        body = CHESS.partition("-----BEGIN PRIVATE KEY")[0] or CHESS.partition("-----BEGIN EC")[0]
        for certificate in (body, "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n", "/etc/passwd", 7):
            self.assertEqual(self.fault("provision", "chess", certificate, "sandbox"), 8002)
        self.assertEqual(self.fault("provision", "a/b", CHESS, "sandbox"), 8002)

    def test_permission(self) -> None:
        """A key without ``manage`` can provision only without changes."""
        self.assertEqual(self.fault("provision", "chess", CHESS, "sandbox", key="sender"), 403)
        self.provision()
        self.assertIsNone(self.call("provision", "chess", CHESS, "sandbox", 15, key="sender"))
        self.assertEqual(self.fault("provision", "chess", OTHER, "sandbox", key="sender"), 403)
        self.assertEqual(self.fault("provision", "chess", CHESS, "sandbox", key="reader"), 403)
        self.assertEqual(self.apps.get("chess").credential, Certificate.from_pem(CHESS))


class PathTests(PyapnsCase):
    """File names, if they are allowed."""

    options = PyapnsSection(allow_paths=True)

    def test_path(self) -> None:
        """The file is read, if nobody else can read it."""
        path = self.world.write("chess.pem", CHESS.encode())
        self.provision(str(path))
        self.assertEqual(self.apps.get("chess").credential, Certificate.from_pem(CHESS))
        path.chmod(0o644)
        self.assertEqual(self.fault("provision", "chess", str(path), "sandbox"), 8002)
        self.assertEqual(self.fault("provision", "chess", "/nowhere", "sandbox"), 8002)


class FileTests(PyapnsCase):
    """An app of the configuration."""

    def text(self) -> str:
        """Write the configuration."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(mode=0o700)
        path = directory / "chess.pem"
        path.touch(0o600)
        path.write_text(CHESS)
        return f'[apps.chess]\ngateway = "http2:host=localhost:port=2197"\ncertificate = "{path}"\n'

    def test_provision(self) -> None:
        """It can be provisioned as it is, and not otherwise."""
        self.provision()
        self.assertIsNone(self.call("notify", "chess", ANN, PAYLOAD))
        self.assertEqual(self.fault("provision", "chess", OTHER, "sandbox"), 403)


class NotifyTests(PyapnsCase):
    """How notifications are accepted."""

    def setUp(self) -> None:
        """Provision the app."""
        super().setUp()
        self.provision()

    def test_one(self) -> None:
        """One token with one dictionary; spaces in the token do not matter."""
        spaced = " ".join(ANN[n : n + 8] for n in range(0, 64, 8))
        self.assertIsNone(self.call("notify", "chess", f"  {spaced}\n", PAYLOAD, key="sender"))
        [leased] = self.lease()
        self.assertEqual((leased.token.hex(), dict(leased.content.headers)), (ANN, {"apns-push-type": "alert"}))
        self.assertEqual(leased.payload, '{"aps":{"alert":"Grüße","badge":3}}'.encode())

    def test_several(self) -> None:
        """Two lists, in pairs; equal dictionaries that follow each other are one."""
        other = {"aps": {"alert": "Other"}}
        self.assertIsNone(self.call("notify", "chess", [ANN, BOB, ANN], [PAYLOAD, PAYLOAD, other]))
        leased = self.lease()
        self.assertEqual([each.token.hex() for each in leased], [ANN, BOB, ANN])
        self.assertIs(leased[0].payload, leased[1].payload)
        self.assertEqual(leased[2].payload, b'{"aps":{"alert":"Other"}}')
        self.assertIsNone(self.call("notify", "chess", [], []))

    def test_wrong(self) -> None:
        """All or none: one error keeps everything from being stored."""
        for tokens, notifications in (
            ("xyz", PAYLOAD),
            ("", PAYLOAD),
            ([ANN, "x"], [PAYLOAD, PAYLOAD]),
            ([ANN, BOB], [PAYLOAD]),
            ([ANN, BOB], PAYLOAD),
            (ANN, [PAYLOAD]),
            (ANN, "text"),
            ([ANN], ["text"]),
            ([ANN, 7], [PAYLOAD, PAYLOAD]),
            (ANN, {"when": xmlrpc.client.DateTime(0)}),
            (ANN, {"data": xmlrpc.client.Binary(b"x")}),
            (ANN, {"number": float("nan")}),
            ("ab" * 600, PAYLOAD),
        ):
            self.assertEqual(self.fault("notify", "chess", tokens, notifications), 8002, (tokens, notifications))
        self.assertEqual(self.lease(), [])

    def test_permission(self) -> None:
        """The key must allow sending for the app."""
        self.assertEqual(self.fault("notify", "chess", ANN, PAYLOAD, key="reader"), 403)
        self.assertEqual(self.fault("notify", "news", ANN, PAYLOAD, key="sender"), 403)
        self.assertEqual(self.fault("notify", "news", ANN, PAYLOAD), 404)

    def test_not_now(self) -> None:
        """If it cannot be stored now, the fault says so."""
        self.intake.stop()
        self.assertEqual(self.fault("notify", "chess", ANN, PAYLOAD), 500)

    def test_push_type(self) -> None:
        """The push type is the app's."""
        with self.world.visiting() as database:
            settings = AppSettings(gateway="sandbox", push_type="voip")
            credential = read_certificate(CHESS.encode(), None, self.face._now())
            add_app(
                AppTable(database),
                self.world.secrets,
                "chess",
                settings,
                credential,
                now=self.face._now(),
                replace=True,
            )
        self.clock.advance(2)
        self.call("notify", "chess", ANN, PAYLOAD)
        [leased] = self.lease()
        self.assertEqual(dict(leased.content.headers), {"apns-push-type": "voip"})


class FeedbackTests(PyapnsCase):
    """How dead tokens are listed."""

    def setUp(self) -> None:
        """Provision the app, and let tokens die."""
        super().setUp()
        self.provision()
        self.kill(ANN, BOB)

    def test_once(self) -> None:
        """Each is listed once, with its time in UTC."""
        when = xmlrpc.client.DateTime("20231114T21:56:40")
        self.assertEqual(self.call("feedback", "chess", key="reader"), [[when, ANN], [when, BOB]])
        self.assertEqual(self.call("feedback", "chess", key="reader"), [])
        self.kill("cc" * 32)
        self.assertEqual([token for _, token in self.call("feedback", "chess")], ["cc" * 32])

    def test_not_told(self) -> None:
        """If the caller disconnects before the answer, they are listed again."""
        body = xmlrpc.client.dumps(("chess",), "feedback").encode()
        shown = base64.b64encode(f"any:{key_of('reader')}".encode()).decode()
        head = f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {shown}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.log.take, take = (lambda *arguments: Deferred()), self.log.take
        waiting: Deferred[Any] = Deferred()
        self.log.take = lambda *arguments: waiting
        self.connection.write(head.encode() + body)
        self.connection.lose()
        self.log.take = take
        self.result(take("chess", READER, 10)).copy()
        waiting.callback(self.result(take("chess", READER, 10)))
        self.clock.advance(0.01)
        self.connection = Connection(self.server, self.clock)
        self.assertEqual(len(self.call("feedback", "chess")), 2)

    def test_many(self) -> None:
        """The number of waiting callers is limited, and those that disconnect are skipped."""
        body = xmlrpc.client.dumps(("chess",), "feedback").encode()
        shown = base64.b64encode(f"any:{key_of('reader')}".encode()).decode()
        head = f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {shown}\r\nContent-Type: text/xml\r\n"
        self.log.take, take = (lambda *arguments: Deferred()), self.log.take
        waiting: Deferred[Any] = Deferred()
        self.log.take = lambda *arguments: waiting
        callers = [Connection(self.server, self.clock) for _ in range(14)]
        for caller in callers:
            caller.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self.assertEqual([len(caller.read()) for caller in callers], [0] * 11 + [1] * 3)
        for caller in callers[1:10]:
            caller.lose()
        self.log.take = take
        waiting.callback([])
        self.clock.advance(0.01)
        for caller in (callers[0], callers[10]):
            self.assertEqual(caller.answer().status, 200)
        for caller in (callers[0], *callers[10:]):
            caller.lose()

    def test_refused(self) -> None:
        """It needs permission, an app that exists, and a log that can be read."""
        self.assertEqual(self.fault("feedback", "chess", key="sender"), 403)
        self.assertEqual(self.fault("feedback", "news"), 404)
        self.assertEqual(self.fault("feedback", 7), 8002)
        self.log.take, take = (lambda *arguments: fail(Unavailable("locked", 1))), self.log.take
        self.assertEqual(self.fault("feedback", "chess"), 500)
        self.log.take = take
        self.assertEqual(len(self.call("feedback", "chess")), 2)


class CallTests(PyapnsCase):
    """XML-RPC and HTTP themselves."""

    def test_interface(self) -> None:
        """The face implements IApplication."""
        verifyObject(IApplication, self.face)

    def test_strangers(self) -> None:
        """Without a known key the request is refused, and its body is not read."""
        for key in (None, "nobody"):
            self.connection = Connection(self.server, self.clock)
            response = self.post(b"x" * 50_000, key)
            self.assertEqual((response.status, response.headers["www-authenticate"]), (401, 'Basic realm="txapns"'))
            self.assertTrue(self.connection.closed)

    def test_paths(self) -> None:
        """It is at the root and at the default paths of clients, nowhere else, and only for POST."""
        body = xmlrpc.client.dumps(("chess", CHESS, "sandbox"), "provision").encode()
        self.assertEqual([self.post(body, path=path).status for path in ("/", "/RPC2", "/x")], [200, 200, 404])
        shown = base64.b64encode(f":{key_of('manager')}".encode()).decode()
        response = self.connection.request("GET", "/", key=None, headers={"Authorization": f"basic {shown}"})
        self.assertEqual((response.status, response.headers["allow"]), (405, "POST"))

    def test_key_in_path(self) -> None:
        """The key can be the first part of the path, from which it is removed."""
        body = xmlrpc.client.dumps(("chess", CHESS, "sandbox"), "provision").encode()
        seen: list[str] = []
        self.face.received = lambda request, received=self.face.received: (
            seen.append(repr(request)) or received(request)
        )
        key = key_of("manager")
        for path, status in ((f"/{key}", 200), (f"/{key}/", 200), (f"/{key}/RPC2", 200), (f"http://h/{key}", 200)):
            self.assertEqual(self.post(body, None, path).status, status, path)
        self.assertEqual(self.post(body, "nobody", f"/{key}/").status, 200)
        self.assertEqual(self.post(body, None, f"/{key}/x").status, 404)
        for path in (f"/{key_of('nobody')}/", f"/{key}0/", f"/RPC2/{key}", "/txapns_/"):
            self.connection = Connection(self.server, self.clock)
            self.assertEqual(self.post(body, None, path).status, 401, path)
        self.assertEqual([key in each for each in seen], [False] * 6)

    def test_not_xml(self) -> None:
        """Only bodies declared as XML are read: a web page could make a browser send others."""
        body = xmlrpc.client.dumps(("chess", CHESS, "sandbox"), "provision").encode()
        for kind, status in (
            *(("text/xml", 200), ("TEXT/XML; charset=utf-8", 200), ("application/xml", 200), ("", 415)),
            *(("text/plain", 415), ("application/x-www-form-urlencoded", 415), ("multipart/form-data", 415)),
        ):
            shown = base64.b64encode(f":{key_of('manager')}".encode()).decode()
            headers = {"Content-Type": kind, "Authorization": f"Basic {shown}"}
            response = self.connection.request("POST", "/", body, key=None, headers=headers)
            self.assertEqual(response.status, status, kind)

    def test_calls(self) -> None:
        """An unknown method, and one with other parameters."""
        self.assertEqual(self.fault("system.listMethods"), 8001)
        self.assertEqual(self.fault("notify", "chess"), 8002)
        self.assertEqual(self.fault("feedback"), 8002)


class HostileTests(PyapnsCase):
    """Malicious XML."""

    def number(self, body: bytes) -> int:
        """Post something; returns the number of the fault."""
        with self.assertRaises(xmlrpc.client.Fault) as caught:
            xmlrpc.client.loads(self.post(body).body)
        return int(caught.exception.faultCode)

    def test_entities(self) -> None:
        """Nothing is expanded, and nothing is read from elsewhere, in any encoding."""
        call = "<methodCall><methodName>feedback</methodName><params><param><value>&a;</value></param></params>"
        call += "</methodCall>"
        laughs = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("bcdefghi", "abcdefgh", strict=True))
        for declared in ('<!ENTITY a SYSTEM "file:///etc/passwd">', f'<!ENTITY i "ha">{laughs}', ""):
            text = f"<!DOCTYPE x [{declared}]>{call}"
            for encoding in ("utf-8", "utf-16"):
                head = f"<?xml version='1.0' encoding='{encoding}'?>"
                self.assertEqual(self.number((head + text).encode(encoding)), 8002)

    def test_deep(self) -> None:
        """Any excessive depth is a fault."""
        deep = b"<array><data><value>" * 2_000 + b"</value></data></array>" * 2_000
        call = (
            b"<methodCall><methodName>notify</methodName><params><param><value>%s</value></param></params></methodCall>"
        )
        self.assertEqual(self.number(call % deep), 8002)
        nested = b"<struct><member><name>a</name><value>" * 1_500 + b"</value></member></struct>" * 1_500
        self.provision()
        arguments = b"</value></param><param><value>".join((b"chess", ANN.encode(), nested))
        self.assertEqual(self.number(call % arguments), 8002)

    def test_long(self) -> None:
        """A body that is too long is not read."""
        self.assertEqual(self.post(b"x" * 100_001).status, 413)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 40))
    def test_anything(self, noise: bytes, at: int, cut: int) -> None:
        """Any body is answered with a fault or a result."""
        body = xmlrpc.client.dumps(("chess", ANN, PAYLOAD), "notify").encode()
        response = self.post(body[:at] + noise + body[at + cut :])
        self.assertEqual(response.status, 200)
        try:
            xmlrpc.client.loads(response.body)
        except xmlrpc.client.Fault as fault:
            self.assertIn(fault.faultCode, (404, 8001, 8002))


class OpenTests(PyapnsCase):
    """A face that requires no keys."""

    keys = None

    def test_anybody(self) -> None:
        """Every caller may do everything, as with pyapns."""
        self.assertIsNone(self.call("provision", "chess", CHESS, "sandbox", key=None))
        self.assertIsNone(self.call("provision", "chess", OTHER, "sandbox", key=None))
        self.assertIsNone(self.call("notify", "chess", ANN, PAYLOAD, key=None))
        self.assertEqual(self.call("feedback", "chess", key=None), [])


@pytest.mark.loopback
class ServerProxyTests(TestCase):
    """The standard library's client, over a socket."""

    timeout = 300

    async def test_calls(self) -> None:
        """It does what pyapns' own client does with it."""
        case = OpenTests("test_anybody")
        case.setUp()
        self.addCleanup(case.doCleanups)
        server = HTTPServer(reactor, case.face, ConnectionLimits())
        port = reactor.listenTCP(0, server, interface="127.0.0.1")
        self.addCleanup(server.close)
        self.addCleanup(port.stopListening)
        from twisted.internet.task import LoopingCall

        # The database's clock is turned by hand, here as fast as the true one.
        turning = LoopingCall(case.clock.advance, 0.005)
        turning.start(0.005)
        self.addCleanup(turning.stop)

        def work() -> Mapping[str, Any]:
            with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{port.getHost().port}/", allow_none=True) as proxy:
                provisioned = proxy.provision("chess", CHESS, "sandbox", 15)
                notified = proxy.notify("chess", [ANN, BOB], [PAYLOAD, PAYLOAD])
                return {"provisioned": provisioned, "notified": notified, "feedback": proxy.feedback("chess")}

        found = await deferToThread(work)
        self.assertEqual(found, {"provisioned": None, "notified": None, "feedback": []})
