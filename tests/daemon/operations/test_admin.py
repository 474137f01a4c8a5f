"""Tests for :mod:`txapns.daemon.operations.admin`."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

from twisted.internet.defer import fail
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.daemon.admin_world import AdminWorld, Nodes
from tests.daemon.fakes import Keys, Response, key_of
from tests.daemon.operations.test_forms import multipart
from txapns._serving.http import IApplication
from txapns.daemon.values import Caller, Limits, State
from txapns.simulator import Response as Answered

__all__ = ["AdminTests", "FormTests", "KeysTests"]

PATHS = ("/", "/apps/chess", "/status.css", "/status.js", "/icon.svg", "/metrics", "/readyz", "/healthz")


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
        text = ["text/html", "text/html", "text/css", "text/javascript", "image/svg+xml", "text/plain"]
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
        """Methods other than GET and HEAD are refused, but for POST to the page of an app. HEAD has no body."""
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            answer = self.ask(method, "/")
            self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD"))
            if method != "POST":
                answer = self.ask(method, "/apps/chess")
                self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD, POST"))
        for path in (*PATHS, "/events"):
            answer = self.ask("HEAD", path)
            self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(self.ask("GET", "/nothing").status, 404)
        for path in ("/../secrets", "/apps/", "/apps/nobody", "/apps/a/b", "/apps/%2e%2e", "/apps/chess%00"):
            self.assertEqual(self.ask("GET", path).status, 404, path)

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
        for path in ("/", "/apps/chess", "/events", "/metrics", "/status.css", "/status.js", "/icon.svg"):
            self.assertEqual(self.ask(path).status, 401, path)
        self.assertEqual((self.ask("/healthz").status, self.ask("/readyz").json), (200, {"ready": True}))
        self.world.apps.remove("chess")
        self.world.advance(2.0)
        self.assertEqual((self.ask("/readyz").status, self.ask("/readyz").json), (503, {"ready": False}))
        told = self.ask("/readyz", f"Bearer {key_of('cleaner')}")
        self.assertEqual(told.json, {"ready": False, "reasons": ["there are no apps"]})


class FormTests(SynchronousTestCase):
    """The forms on the page of an app."""

    def setUp(self) -> None:
        """There are a caller who may look, and one who may manage."""
        keys = Keys(Caller("cleaner", frozenset(), None), Caller("boss", frozenset(), frozenset(), manage=True))
        self.world = AdminWorld(keys=keys)
        self.addCleanup(self.world.close)

    def submit(self, form: str, key: str | None = "boss", *, app: str = "chess", **headers: str) -> Response:
        """Submit a form, as a browser does."""
        fields = {"Origin": "http://gateway", "Content-Type": "application/x-www-form-urlencoded"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        given = {name: value for name, value in fields.items() if value}
        return self.world.connect().request("POST", f"/apps/{app}", form.encode("latin-1"), key=key, headers=given)

    def test_pause(self) -> None:
        """Who may manage pauses and resumes, and the page then shows it at once."""
        answer = self.submit("action=pause")
        self.assertEqual((answer.status, answer.headers["location"]), (303, "chess"))
        page = self.world.connect().request("GET", "/apps/chess", key="boss").body.decode()
        self.assertIn("Paused: by boss since", page)
        self.assertIn("Resume", page)
        self.assertEqual(self.submit("action=resume").status, 303)
        self.assertIsNone(self.world.apps.get("chess").pause)

    def test_dead_letters(self) -> None:
        """Dead letters are retried, or purged by who is sure."""
        lines = capture_events(self)
        self.world.add_app("chess", limits=Limits(attempts=1))
        self.world.simulator.http2_fault = lambda server, request, response: Answered(503, "ServiceUnavailable")
        [first, second] = self.world.accept(2)
        self.world.drain()
        page = self.world.connect().request("GET", "/apps/chess", key="boss").body.decode()
        for word in ("Retry dead letters", "Purge dead letters", "ServiceUnavailable", "send again after 15 minutes"):
            self.assertIn(word, page)
        self.assertEqual([self.submit(form).status for form in ("action=purge", "action=retry")], [400, 303])
        self.world.drain()
        self.assertEqual(self.world.outcome(first).state, State.DEAD)
        self.assertEqual(self.submit("action=purge&sure=yes").status, 303)
        self.assertIsNone(self.world.result(self.world.outcome_log.latest(second)))
        text = "boss {} of chess{}"
        expected = [text.format("retried 2 dead letters", ""), text.format("purged 2 notifications", ": dead")]
        self.assertEqual(lines(), expected)

    def test_refused(self) -> None:
        """Nothing changes without such a key, from another site, or with anything but a form."""
        for status, key, form, headers in (
            (401, None, "action=pause", {}),
            (403, "cleaner", "action=pause", {}),
            (403, "boss", "action=pause", {"Origin": ""}),
            (403, "boss", "action=pause", {"Origin": "http://evil.invalid"}),
            (403, "boss", "action=pause", {"Origin": "null"}),
            (403, "boss", "action=pause", {"Sec_Fetch_Site": "cross-site"}),
            (421, "boss", "action=pause", {"Host": "evil.invalid"}),
            (415, "boss", "action=pause", {"Content_Type": "text/plain"}),
            (400, "boss", "action", {}),
            (400, "boss", "action=explode", {}),
            (413, "boss", "action=pause&x=" + 2000 * "x", {}),
            (413, "boss", 140_000 * "x", {}),
            (413, "cleaner", 2000 * "x", {}),
            (401, None, 2000 * "x", {}),
        ):
            self.assertEqual(self.submit(form, key, **headers).status, status, (form, headers))
        self.assertEqual(self.submit("action=pause", app="nobody").status, 404)
        self.assertIsNone(self.world.apps.get("chess").pause)
        self.world = AdminWorld()
        self.addCleanup(self.world.close)
        self.assertEqual(self.submit("action=pause", None).status, 403)

    def test_unannounced(self) -> None:
        """Who may not manage announces the length of a form."""
        for key, status in (("cleaner", b"413"), ("boss", b"303")):
            connection = self.world.connect()
            head = f"POST /apps/chess HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {key_of(key)}\r\n"
            head += "Origin: http://gateway\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            connection.write(f"{head}Transfer-Encoding: chunked\r\n\r\nc\r\naction=pause\r\n0\r\n\r\n".encode())
            self.world.advance(1.0)
            self.assertEqual(connection.transport.value().split()[1], status)

    def test_refused_to_people(self) -> None:
        """A browser is told on a page what was wrong, and led back; nothing that was sent is in it."""
        for status, key, form, app, texts in (
            (400, "boss", "action=purge", "chess", ("sure: say that you are sure", 'href="chess"')),
            (403, "cleaner", "action=pause", "chess", ("a key that may manage apps", 'href="chess"')),
            (404, "boss", "action=pause&x=hush", "nobody", ("there is no app nobody", 'href="../"')),
            (401, None, "action=pause", "chess", ("a key is required",)),
        ):
            answer = self.submit(form, key, app=app, Accept="text/html,*/*;q=0.8")
            self.assertEqual((answer.status, answer.headers["content-type"]), (status, "text/html; charset=utf-8"))
            self.assertIn("default-src 'none'", answer.headers["content-security-policy"])
            for text in ("The daemon refused this, and changed nothing", *texts):
                self.assertIn(text, answer.body.decode())
            self.assertNotIn(b"hush", answer.body)
            self.assertEqual("www-authenticate" in answer.headers, status == 401)

    def test_errors_to_people(self) -> None:
        """So is one whose request the server refuses, whatever it asked for; a program gets JSON."""
        form = "Content-Type: application/x-www-form-urlencoded\r\n"
        for status, request, texts in (
            (400, f"POST /apps/chess HTTP/1.1\r\n{form}Transfer-Encoding: chunked\r\n\r\nodd\r\n", ('href="chess"',)),
            (413, f"POST /apps/chess HTTP/1.1\r\n{form}Content-Length: 999999\r\n\r\n", ("is longer than",)),
            (415, "GET / HTTP/1.1\r\nContent-Encoding: br\r\n\r\n", ('href="./"', "Content-Encoding")),
            (403, "GET /apps/chess HTTP/1.1\r\nSec-Fetch-Site: cross-site\r\n\r\n", ("another site",)),
            (404, "GET /a/b/c HTTP/1.1\r\n\r\n", ('href="../../"', 'href="../../status.css"')),
            (405, "PUT / HTTP/1.1\r\n\r\n", ("allowed here: GET, HEAD",)),
        ):
            page, error = (self.sent(request, accepted) for accepted in ("text/html,*/*;q=0.8", "*/*"))
            self.assertEqual((page.status, page.headers["content-type"]), (status, "text/html; charset=utf-8"), request)
            self.assertIn("default-src 'none'", page.headers["content-security-policy"])
            for text in ("The daemon refused this, and changed nothing", *texts):
                self.assertIn(text, page.body.decode())
            self.assertEqual((error.status, list(error.json)), (status, ["error"]))

    def test_failed(self) -> None:
        """What goes wrong in the server is not called a refusal."""
        self.patch(self.world.status, "html", lambda query: fail(ValueError("unlucky")))
        page = self.sent("GET / HTTP/1.1\r\n\r\n", "text/html").body.decode()
        self.assertIn("The daemon failed", page)
        self.assertNotIn("unlucky", page)

    def sent(self, request: str, accepted: str) -> Response:
        """Send a request as it is, but for what all have in common; returns the answer."""
        first, _, rest = request.partition("\r\n")
        common = f"Host: gateway\r\nAuthorization: Bearer {key_of('boss')}\r\nAccept: {accepted}\r\n"
        connection = self.world.connect()
        connection.write(f"{first}\r\n{common}{rest}".encode())
        self.world.advance(1.0)
        [answer] = connection.read()
        return answer

    def test_rotate(self) -> None:
        """Who may manage gives the app another credential, pasted or in a file; that is shown."""
        pem, p8 = self.world.simulator.authority.client_pem(), self.world.simulator.authority.p8
        key = {"action": b"rotate", "file": b"", "pasted": p8.replace(b"\n", b"\r\n"), "key_id": b"ABC123DEFG"}
        forms = ({"action": b"rotate", "file": pem}, {**key, "team_id": b"DEF123GHIJ"})
        for form, shown in zip(forms, (b"certificate", b"ABC123DEFG (key)"), strict=True):
            self.assertEqual(self.upload(form).status, 303)
            page = self.world.connect().request("GET", "/apps/chess", key="boss").body
            self.assertIn(shown, page)
            self.assertNotIn(b"PRIVATE", page)

    def test_not_rotated(self) -> None:
        """Others cannot, nor can anybody with a credential that is none, or where the configuration has the app."""
        before = self.world.apps.get("chess").credential
        pem = self.world.simulator.authority.client_pem()
        for status, key, form in (
            (415, "cleaner", {"action": b"rotate", "file": b"x"}),
            (413, "cleaner", {"action": b"rotate", "file": pem}),
            (401, None, {"action": b"rotate", "file": pem}),
            (400, "boss", {"action": b"rotate", "file": b"", "pasted": b" "}),
            (400, "boss", {"action": b"rotate", "file": b"nonsense"}),
            (400, "boss", {"action": b"rotate", "file": 70_000 * b"x"}),
            (400, "boss", {f"field{number}": b"" for number in range(20)}),
        ):
            self.assertEqual(self.upload(form, key).status, status, form)
        self.assertIs(self.world.apps.get("chess").credential, before)
        self.world.add_app("chess", source="file")
        page = self.world.connect().request("GET", "/apps/chess", key="boss").body
        self.assertIn(b"is in the configuration: replace the file", page)
        self.assertNotIn(b"Another credential", page)

    def upload(self, form: Mapping[str, bytes], key: str | None = "boss") -> Response:
        """Submit a form with a file, as a browser does."""
        kind, body = multipart(form)
        return self.submit(body.decode("latin-1"), key, Content_Type=kind, Accept="text/html")

    def test_buttons(self) -> None:
        """Only who may manage has buttons; who may look looks up."""
        for key, buttons in (("cleaner", False), ("boss", True)):
            page = self.world.connect().request("GET", "/apps/chess", key=key).body
            self.assertEqual(b"Pause" in page, buttons)
        answer = self.submit("action=look&what=dddd", "cleaner", Origin="", Sec_Fetch_Site="same-origin")
        self.assertIn(b"not among the dead tokens", answer.body)


def capture_events(case: SynchronousTestCase) -> Callable[[], list[str]]:
    """Return what tells the lines that management has logged since."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_namespace"] == "txapns.daemon.operations.management":
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    case.addCleanup(globalLogPublisher.removeObserver, observe)
    return lambda: lines
