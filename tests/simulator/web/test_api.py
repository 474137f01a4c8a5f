"""Tests for :mod:`txapns.simulator.web.api`."""

from __future__ import annotations

from base64 import b64decode
from itertools import pairwise

from zope.interface.verify import verifyObject

from tests.simulator.peers import AUTHORITY
from tests.simulator.web.web_case import WebCase
from txapns import ProviderToken
from txapns._serving.http import IApplication
from txapns.simulator.web.api import MAX_WAITING, ControlAPI

__all__ = ["GuardTests", "ReceivedTests", "WaitTests"]

A, B, C = "aa" * 32, "bb" * 32, "cc" * 32


class ReceivedTests(WebCase):
    """``/v1/received``."""

    def test_entry(self) -> None:
        """An entry tells what came, how it came, and what was answered."""
        self.send(A, apns_id="3fa85f64-5717-4562-b3fc-2c963f66afa6", collapse_id="score")
        listed = self.get("/v1/received")
        [entry] = listed["received"]
        self.assertEqual(listed["after"], 1)
        headers = entry.pop("headers")
        self.assertEqual((headers["apns-id"], headers["apns-collapse-id"]), (headers["apns-id"], "score"))
        self.assertEqual(b64decode(entry.pop("payload_base64")), b'{"aps":{"alert":"Hi"}}')
        client = entry.pop("client")
        self.assertEqual(
            (client["address"], client["tls"], client["certificate"]), (None, "TLSv1.3", None)
        )  # in memory
        self.assertTrue(100_000 <= entry.pop("at") <= 100_010)
        age = entry["provider_token"].pop("age")
        self.assertTrue(0 <= age <= 3_600, age)  # clients share it
        expected = {
            "id": 1,
            "protocol": "http2",
            "token": A,
            "topic": "com.example.app",
            "push_type": "alert",
            "payload": {"aps": {"alert": "Hi"}},
            "connection": 1,
            "provider_token": {"key_id": "ABC123DEFG", "team_id": "DEF123GHIJ"},
            "answer": {"status": 200, "reason": None},
        }
        self.assertEqual({name: entry[name] for name in expected}, expected)

    def test_no_signature(self) -> None:
        """Nothing that is kept of a provider token can be used again."""
        self.send(A)
        [reception] = self.inbox.received
        scheme, _, kept = reception.headers["authorization"].partition(" ")
        self.assertEqual((scheme, kept.count("."), kept[-1:]), ("bearer", 2, "."))

    def test_binary(self) -> None:
        """Over the binary protocol there is a certificate, a number in place of the id, and the app's only topic."""
        client = self.simulator.client("binary")
        self.clients.append(client)
        self.inbox.dead[bytes.fromhex(B)] = 5.0
        self.send(A, B, client=client)
        first, second = self.get("/v1/received")["received"]
        self.assertEqual((first["protocol"], first["topic"], first["push_type"]), ("binary", "com.example.app", ""))
        self.assertEqual(first["client"]["certificate"]["topics"], ["com.example.app"])
        self.assertIn("identifier", first["headers"])
        self.assertEqual((first["answer"], first["provider_token"]), ({"status": 0, "reason": None}, None))
        self.assertEqual((second["token"], second["answer"]), (B, {"status": 8, "reason": "InvalidToken"}))

    def test_filters(self) -> None:
        """Entries can be chosen by token, topic and push type, and by what was read before."""
        self.send(A, B)
        self.send(A, topic="com.example.app.voip", push_type="voip")
        everything = [entry["id"] for entry in self.get("/v1/received")["received"]]
        self.assertEqual(everything, [1, 2, 3])
        for query, expected in (
            (f"token={A}", [1, 3]),
            (f"token={A.upper()}&push_type=alert", [1]),
            ("topic=com.example.app.voip", [3]),
            ("push_type=background", []),
            ("after=1", [2, 3]),
            ("after=1&limit=1", [2]),
            ("limit=1", [3]),
            ("limit=0", []),
            ("after=99", []),
        ):
            found = self.get(f"/v1/received?{query}")["received"]
            self.assertEqual([entry["id"] for entry in found], expected, query)

    def test_paging(self) -> None:
        """``after`` of an answer goes on where it ended, whether there was more or not."""
        self.send(A, B, C)
        first = self.get("/v1/received?after=0&limit=2")
        second = self.get(f"/v1/received?after={first['after']}&limit=2")
        self.assertEqual([first["after"], [entry["id"] for entry in second["received"]]], [2, [3]])
        self.send(A)
        third = self.get(f"/v1/received?after={second['after']}")
        self.assertEqual([entry["id"] for entry in third["received"]], [4])

    def test_delete(self) -> None:
        """What is deleted is gone, and the numbers go on."""
        self.send(A, B)
        self.assertEqual(self.ask("DELETE", "/v1/received").json, {"deleted": 2})
        self.assertEqual(self.get("/v1/received"), {"received": [], "after": 2, "more": False})
        self.send(C)
        self.assertEqual([entry["id"] for entry in self.get("/v1/received?after=2")["received"]], [3])
        self.assertEqual(self.simulator.counters()["received"], 3)

    def test_payloads(self) -> None:
        """A payload that is no JSON, or that only Python reads, has no parsed form."""
        for payload in (b"\xff", b"[1]", b'{"a":NaN}', b'{"a":1e999}', b'{"a":"\\ud800"}'):
            self.inbox.note("http2", bytes.fromhex(A), payload, {":path": f"/3/device/{A}"}, None)
        found = self.get("/v1/received")["received"]
        self.assertEqual([entry["payload"] for entry in found], [None] * 4 + [{"a": "\ud800"}])
        self.assertEqual(b64decode(found[0]["payload_base64"]), b"\xff")

    def test_bounded(self) -> None:
        """An answer has not much over 8 MB, however much is kept, and says that there is more."""
        for number in range(1_000):
            path = f"/3/device/{number:064x}"
            self.inbox.note("http2", b"", b'"%s"' % (b"x" * 16_000), {":path": path}, "PayloadTooLarge", 413)
        latest = self.ask("GET", "/v1/received?limit=1000")
        self.assertLess(len(latest.body), 8_500_000)
        found = [entry["id"] for entry in latest.json["received"]]
        self.assertTrue(100 < len(found) < 1_000, len(found))
        self.assertEqual((found, latest.json["more"]), ([*range(found[0], 1_001)], False))
        ids, page = [], {"after": 0, "more": True}
        while page["more"]:
            page = self.get(f"/v1/received?limit=1000&after={page['after']}")
            ids += [entry["id"] for entry in page["received"]]
        self.assertEqual(ids, [*range(1, 1_001)])
        self.assertEqual(
            self.get("/v1/received?after=999&limit=0&wait=60"), {"received": [], "after": 999, "more": True}
        )

    def test_bad_query(self) -> None:
        """A query that is not understood is refused, and the message says what is allowed."""
        for query, word in (
            ("tokens=aa", "allowed: token"),
            ("after=1&after=2", "repeated"),
            ("after=-1", "after"),
            ("limit=x", "limit"),
            ("wait=61", "60"),
            ("wait=nan", "wait"),
            ("wait=1_0", "wait"),
            ("wait=%D9%A3", "wait"),
            ("wait=+1", "wait"),
            ("wait=1.", "wait"),
            ("limit=1.0", "limit"),
            ("limit=1_0", "limit"),
            ("after=%D9%A3", "after"),
            (f"after={'9' * 5_000}", "after"),
            ("&&", "query"),
        ):
            response = self.ask("GET", f"/v1/received?{query}")
            self.assertEqual((response.status, response.code), (400, "malformed"), query)
            self.assertIn(word, response.json["error"]["message"])

    def test_simulator(self) -> None:
        """The simulator says what is needed to send to it."""
        about = self.get("/v1/simulator")
        gateway = self.simulator.gateway()
        self.assertEqual((about["ports"]["http2"], about["ports"]["web"]), (gateway.port, 8025))
        self.assertEqual((about["ca"], about["topic"]), (gateway.trust_root, "com.example.app"))
        self.assertEqual((about["environment"], about["names"]), ("production", ["localhost"]))
        token = ProviderToken.from_p8(AUTHORITY.p8, about["key_id"], about["team_id"])
        self.assertEqual(token, self.simulator.provider_token())


class WaitTests(WebCase):
    """Waiting for what comes."""

    def begin(self, path: str) -> None:
        """Send a request that waits."""
        connection = self.connect()
        connection.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.assertEqual(connection.read(), [])

    def test_comes(self) -> None:
        """The answer is given at once when something comes that was asked for."""
        self.begin(f"/v1/received?token={B}&wait=60")
        self.send(A)
        self.assertEqual(self.connections[0].read(), [])
        self.send(B, C)
        [response] = self.connections[0].read()
        self.assertEqual([entry["token"] for entry in response.json["received"]], [B])

    def test_there(self) -> None:
        """Nobody waits for what is there."""
        self.send(A)
        self.assertEqual(len(self.get("/v1/received?wait=60")["received"]), 1)

    def test_deleted(self) -> None:
        """Who waits while what came is forgotten waits on, and gets what comes then."""
        self.send(A)
        self.begin("/v1/received?after=1&wait=60")
        self.assertEqual(self.ask("DELETE", "/v1/received").json, {"deleted": 1})
        self.assertEqual(self.connections[0].read(), [])
        self.send(B)
        [response] = self.connections[0].read()
        self.assertEqual([entry["id"] for entry in response.json["received"]], [2])

    def test_clock(self) -> None:
        """Nothing depends on the wall clock: set back, what comes is told at once and in order, and waits end."""
        client = self.simulator.client()  # with a certificate: provider tokens do depend on it
        self.clients.append(client)
        for step in (0.0, -7_200.0, 86_400.0, -90_000.0):
            self.simulator.wall.step(step)
            self.send(A, client=client)
        dates = [entry["at"] for entry in self.get("/v1/received")["received"]]
        self.assertEqual([later < earlier for earlier, later in pairwise(dates)], [True, False, True])
        self.begin("/v1/received?after=4&wait=5")
        self.simulator.wall.step(-50_000.0)
        self.simulator.advance(5.1)
        [response] = self.connections[-1].read()
        self.assertEqual(response.json["received"], [])

    def test_in_vain(self) -> None:
        """After the time asked for the answer is that nothing came."""
        self.begin("/v1/received?wait=5")
        self.simulator.advance(4.9)
        self.assertEqual(self.connections[0].read(), [])
        self.simulator.advance(0.2)
        [response] = self.connections[0].read()
        self.assertEqual(response.json, {"received": [], "after": 0, "more": False})

    def test_leaves(self) -> None:
        """Whoever disconnects waits no longer."""
        self.begin("/v1/received?wait=60")
        self.connections[0].lose()
        self.assertEqual(self.inbox.listeners, [])

    def test_fractions(self) -> None:
        """The time is a number as JSON writes it."""
        for text in ("0.5", "5e-1", "05E-01"):
            self.begin(f"/v1/received?wait={text}")
            self.simulator.advance(0.6)
            [response] = self.connections[-1].read()
            self.assertEqual(response.status, 200, text)

    def test_limit(self) -> None:
        """Only so many may wait."""
        for _ in range(MAX_WAITING):
            self.begin("/v1/received?wait=60")
        self.assertEqual(self.ask("GET", "/v1/received?wait=1").status, 503)
        self.send(A)
        self.assertEqual({connection.read()[0].status for connection in self.connections[:MAX_WAITING]}, {200})


class GuardTests(WebCase):
    """What the server refuses."""

    def test_interface(self) -> None:
        """It is an application of the HTTP server."""
        verifyObject(IApplication, ControlAPI(self.simulator.reactor, self.simulator))

    def test_other_sites(self) -> None:
        """A page of another site can neither read what came nor delete it, whatever its name resolves to."""
        for headers, status in (
            ({"Host": "evil.example"}, 421),
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Origin": "http://localhost:8025", "Sec-Fetch-Site": "same-origin"}, 200),
        ):
            for method, path in (("GET", "/v1/received"), ("DELETE", "/v1/received"), ("GET", "/")):
                self.assertEqual(self.ask(method, path, headers=headers).status, status, (method, path, headers))

    def test_unknown(self) -> None:
        """There is nothing at other paths, and a method that is not allowed is answered with those that are."""
        self.assertEqual(self.ask("GET", "/v1/nothing").code, "not_found")
        response = self.ask("PATCH", "/v1/received")
        self.assertEqual((response.status, response.headers["allow"]), (405, "GET, DELETE, HEAD, OPTIONS"))
        self.assertEqual(self.ask("OPTIONS", "/v1/received").status, 204)

    def test_policy(self) -> None:
        """Every answer forbids browsers what the page does not need."""
        for path in ("/", "/v1/received", "/nothing"):
            headers = self.ask("GET", path).headers
            self.assertIn("default-src 'none'", headers["content-security-policy"])
            self.assertEqual(headers["cross-origin-resource-policy"], "same-origin")
