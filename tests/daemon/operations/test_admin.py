"""Tests for :mod:`txapns.daemon.operations.admin`."""

from __future__ import annotations

import base64

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.daemon.admin_world import AdminWorld, Nodes
from tests.daemon.fakes import Keys, Response, key_of
from txapns._serving.http import IApplication
from txapns.daemon.values import Caller

__all__ = ["AdminTests", "KeysTests"]

PATHS = ("/", "/status.css", "/status.js", "/icon.svg", "/metrics", "/readyz", "/healthz")


class AdminTests(SynchronousTestCase):
    """The endpoint without keys."""

    def setUp(self) -> None:
        """There is a daemon with one app."""
        self.world = AdminWorld(limit=2)
        self.addCleanup(self.world.close)

    def ask(self, method: str, path: str) -> Response:
        """Send a request."""
        return self.world.connect().request(method, path, key=None)

    def test_interface(self) -> None:
        """It is an application that a server can serve."""
        verifyObject(IApplication, self.world.admin)

    def test_kinds(self) -> None:
        """Each answer has a content type."""
        kinds = [self.ask("GET", path).headers["content-type"].partition(";")[0] for path in PATHS]
        text = ["text/html", "text/css", "text/javascript", "image/svg+xml", "text/plain"]
        self.assertEqual(kinds, [*text, "application/json", "application/json"])

    def test_security(self) -> None:
        """Every answer, an error too, forbids browsers to fetch, run, frame or store anything else."""
        for method, path in (*(("GET", path) for path in PATHS), ("GET", "/nothing"), ("POST", "/metrics")):
            headers = self.ask(method, path).headers
            self.assertIn("default-src 'none'", headers["content-security-policy"])
            self.assertIn("frame-ancestors 'none'", headers["content-security-policy"])
            self.assertNotIn("unsafe", headers["content-security-policy"])
            self.assertEqual((headers["x-content-type-options"], headers["cache-control"]), ("nosniff", "no-store"))
            self.assertEqual(headers["cross-origin-resource-policy"], "same-origin")

    def test_events_security(self) -> None:
        """So does the event stream."""
        connection = self.world.connect()
        connection.write(b"GET /events HTTP/1.1\r\nHost: daemon\r\n\r\n")
        head = connection.transport.value().partition(b"\r\n\r\n")[0].lower()
        self.assertIn(b"content-security-policy: default-src 'none'", head)
        self.assertIn(b"cache-control: no-store", head)

    def test_methods(self) -> None:
        """The endpoint is read-only: methods other than GET and HEAD are refused. HEAD has no body."""
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            answer = self.ask(method, "/")
            self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD"))
        for path in (*PATHS, "/events"):
            answer = self.ask("HEAD", path)
            self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(self.ask("GET", "/nothing").status, 404)
        self.assertEqual(self.ask("GET", "/../secrets").status, 404)

    def test_ready(self) -> None:
        """``/readyz`` says whether the daemon is ready, and if not, why."""
        answer = self.ask("GET", "/readyz")
        self.assertEqual((answer.status, answer.json), (200, {"ready": True, "reasons": []}))
        self.world.health.stopping = True
        answer = self.ask("GET", "/readyz")
        self.assertEqual((answer.status, answer.json["ready"]), (503, False))
        self.assertEqual(answer.json["reasons"], ["the daemon is shutting down"])
        self.assertEqual(self.ask("GET", "/healthz").status, 200)

    def test_one_app(self) -> None:
        """A problem of one app is reported, but the daemon stays ready."""
        self.world.problems["go"] = "go.pem: No such file or directory"
        self.world.advance(2.0)
        answer = self.ask("GET", "/readyz")
        self.assertEqual((answer.status, answer.json["ready"]), (200, True))
        [reason] = answer.json["reasons"]
        self.assertEqual(reason, "app go cannot be used: go.pem: No such file or directory")

    def test_not_writable(self) -> None:
        """The daemon is not ready if the database cannot be written to."""
        self.world.result(self.world.database.stop())
        answer = self.ask("GET", "/readyz")
        self.assertEqual(answer.status, 503)
        self.assertIn("notifications cannot be stored", answer.json["reasons"][0])

    def test_metrics(self) -> None:
        """Metrics are in Prometheus' format."""
        answer = self.ask("GET", "/metrics")
        self.assertIn("version=0.0.4", answer.headers["content-type"])
        self.assertIn(b'apns_daemon_queue{app="chess"} 0.0', answer.body)

    def test_node(self) -> None:
        """A node among others says which it is, and whether it sends; only one exports what is the same on all."""
        self.world = AdminWorld(cluster=Nodes)
        self.addCleanup(self.world.close)
        self.assertEqual(self.ask("GET", "/readyz").json, {"ready": True, "reasons": [], "node": "push-1"})
        self.assertIn(b'apns_daemon_queue{app="chess"} 0.0', self.ask("GET", "/metrics").body)
        self.world.store.cluster.duties = set()
        self.assertNotIn(b"apns_daemon_queue", self.ask("GET", "/metrics").body)
        self.world.store.cluster.trouble = "the database is away"
        answer = self.ask("GET", "/readyz")
        self.assertEqual((answer.status, answer.json["ready"]), (503, False))
        self.assertEqual(self.ask("GET", "/healthz").status, 200)

    def test_full(self) -> None:
        """The number of event streams is limited; when one ends there is room again."""
        connections = [self.world.connect() for _ in range(2)]
        for each in connections:
            each.write(b"GET /events HTTP/1.1\r\nHost: daemon\r\n\r\n")
        answer = self.ask("GET", "/events")
        self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "30"))
        connections[0].lose()
        again = self.world.connect()
        again.write(b"GET /events HTTP/1.1\r\nHost: daemon\r\n\r\n")
        self.assertIn(b"200 OK", again.transport.value())


class KeysTests(SynchronousTestCase):
    """The endpoint with keys."""

    def setUp(self) -> None:
        """There are three callers with keys."""
        keys = Keys(
            Caller("cleaner", frozenset(), None),
            Caller("boss", frozenset(), frozenset(), manage=True),
            Caller("web", None, frozenset({"chess"})),
        )
        self.world = AdminWorld(keys=keys)
        self.addCleanup(self.world.close)

    def ask(self, path: str, authorization: str | None = None) -> Response:
        """Send a request."""
        headers = None if authorization is None else {"Authorization": authorization}
        return self.world.connect().request("GET", path, key=None, headers=headers)

    def test_bearer(self) -> None:
        """Keys that may read the outcomes of all apps, or manage apps, are accepted."""
        found = [self.ask("/metrics", f"Bearer {key_of(name)}").status for name in ("cleaner", "boss", "web", "nobody")]
        self.assertEqual(found, [200, 200, 403, 401])

    def test_basic(self) -> None:
        """A browser sends the key as a password."""
        answer = self.ask("/")
        self.assertEqual((answer.status, answer.headers["www-authenticate"].split()[0]), (401, "Basic"))
        password = base64.b64encode(f"any:{key_of('cleaner')}".encode()).decode()
        self.assertEqual(self.ask("/", f"Basic {password}").status, 200)

    def test_nonsense(self) -> None:
        """Anything else in ``Authorization`` is refused."""
        for value in ("", "Bearer", "Bearer ", "Basic", "Basic !", "Basic YQ==", "Digest abc", key_of("cleaner")):
            self.assertEqual(self.ask("/metrics", value).status, 401, value)

    def test_everything(self) -> None:
        """Without a key only ``/healthz`` and ``/readyz`` answer, and give no reasons."""
        for path in ("/", "/events", "/metrics", "/status.css", "/status.js", "/icon.svg"):
            self.assertEqual(self.ask(path).status, 401, path)
        self.assertEqual((self.ask("/healthz").status, self.ask("/readyz").json), (200, {"ready": True}))
        self.world.apps.remove("chess")
        self.world.advance(2.0)
        self.assertEqual((self.ask("/readyz").status, self.ask("/readyz").json), (503, {"ready": False}))
        told = self.ask("/readyz", f"Bearer {key_of('cleaner')}")
        self.assertEqual(told.json, {"ready": False, "reasons": ["there are no apps"]})
