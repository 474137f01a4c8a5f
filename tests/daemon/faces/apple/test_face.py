"""Tests for the face in :mod:`txapns.daemon.faces.apple`, as a client sees it."""

from __future__ import annotations

import gzip
import json
import uuid
import zlib
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.daemon.faces.apple.face_case import ANN, BOB, PAYLOAD, PORT, TOPIC, AppleCase, Said
from tests.daemon.faces_world import HOST
from txapns import APNSClient, Gateway, Notification, ProviderToken
from txapns._serving.limits import MemoryBudget
from txapns.credentials import Certificate
from txapns.daemon.errors import Unavailable
from txapns.daemon.faces.apple.connection import CONCURRENCY
from txapns.daemon.faces.apple.requests import MAX_BODY
from txapns.daemon.values import Lane, Limits, Outcome, State

__all__ = [
    "ClientTests",
    "LaneTests",
    "OpenTests",
    "QueueTests",
    "RefusalTests",
    "RelayTests",
    "ScheduleTests",
]


class LaneTests(AppleCase):
    """The lane, for which there is a field that Apple does not have."""

    mode = "queue"

    def test_lane(self) -> None:
        """It is what the caller chooses, or by the size of what came."""
        for given in ({"txapns-lane": "bulk"}, {}, {"txapns-lane": "normal"}):
            self.assertEqual(self.ask(given).brief, (200, ""))
        self.assertEqual([each.content.lane for each in self.world.lease()], [Lane.BULK, Lane.URGENT, Lane.NORMAL])
        self.assertEqual(self.ask({"txapns-lane": "Bulk"}).brief, (400, "BadLane"))


class ScheduleTests(AppleCase):
    """Notifications that are not sent before a date, for which there is a field that Apple does not have."""

    mode = "relay"

    def test_not_before(self) -> None:
        """The answer is 200 when it is on the disk, without waiting for Apple's, and it is sent at its date."""
        date = int(self.world.reactor.seconds()) + 100
        self.assertEqual(self.ask({"txapns-not-before": str(date)}).brief, (200, ""))
        self.assertEqual((self.world.lease(), self.world.queue.waiting("chess").count), ([], 1))
        self.world.reactor.advance(100)
        self.assertEqual(len(self.world.lease()), 1)

    def test_refused(self) -> None:
        """What is no date, or further ahead than 30 days, or after the expiration, is refused."""
        now = int(self.world.reactor.seconds())
        for given in ("soon", "-5", "1e9", "", str(now + 31 * 86_400)):
            self.assertEqual(self.ask({"txapns-not-before": given}).brief, (400, "BadNotBefore"))
        expiring = {"txapns-not-before": str(now + 50), "apns-expiration": str(now + 50)}
        self.assertEqual(self.ask(expiring).brief, (400, "BadNotBefore"))
        self.assertEqual(self.world.queue.waiting("chess").count, 0)


class QueueTests(AppleCase):
    """Queue mode: the answer comes when the notification is on the disk."""

    def test_stored(self) -> None:
        """The answer is 200 with the given id, and the notification waits unchanged."""
        given = str(uuid.uuid4())
        headers = {
            "apns-id": given.upper(),
            "apns-push-type": "alert",
            "apns-priority": "7",
            "apns-expiration": "1700000100",
            "apns-collapse-id": "Grüße",
            "user-agent": "whatever",
        }
        said = self.ask(headers)
        self.assertEqual((said.status, said.body, said.headers["apns-id"]), (200, b"", given))
        [leased] = self.world.lease()
        self.assertEqual((leased.token.hex(), leased.apns_id, leased.payload), (ANN, given, PAYLOAD))
        expected = {name: value for name, value in headers.items() if name.startswith("apns-") and name != "apns-id"}
        self.assertEqual(dict(leased.content.headers), {**expected, "apns-topic": TOPIC})
        self.assertEqual(self.world.woken, ["chess"])

    def test_id_made(self) -> None:
        """If the caller gives no id, the answer has a new one."""
        said = self.ask()
        [leased] = self.world.lease()
        self.assertEqual(said.headers["apns-id"], leased.apns_id)

    def test_not_before_the_commit(self) -> None:
        """There is no answer before the notification is on the disk."""
        caller = self.caller()
        stream = caller.begin()
        self.assertIsNone(caller.said(stream))
        self.assertEqual(self.after(caller, stream).status, 200)

    def test_dead(self) -> None:
        """For a token that is known to be dead the answer is Apple's, and nothing is stored."""
        self.world.kill(bytes.fromhex(ANN), since=1_699_999_000.5)
        said = self.ask()
        self.assertEqual(said.brief, (410, "Unregistered"))
        self.assertEqual(json.loads(said.body)["timestamp"], 1_699_999_000_500)
        self.assertEqual(self.ask(path=f"/3/device/{BOB}").status, 200)
        self.assertEqual(len(self.world.lease()), 1)

    def test_many(self) -> None:
        """Hundreds of requests at once on one connection are all answered, though the window is small."""
        caller = self.caller()
        self.after(caller, caller.begin())
        streams = [caller.begin(body=b'{"aps":"' + b"x" * 3_000 + b'"}') for _ in range(300)]
        for _ in range(100):
            self.reactor.advance(0.01)
            caller.pump()
        self.assertEqual([caller.said(stream).status for stream in streams], [200] * 300)
        self.assertEqual(len(self.world.lease()), 301)

    def test_together(self) -> None:
        """Requests that arrive together each get their own answer; the valid ones are stored."""
        self.world.kill(bytes.fromhex(BOB))
        self.world.add("chess", self.world.certificate, limits=Limits(queue=3))
        self.world.woken.clear()
        caller = self.caller()
        self.after(caller, caller.begin())
        with caller.together():
            streams = [
                caller.begin(),
                caller.begin(body=b"["),
                caller.begin(path=f"/3/device/{BOB}"),
                caller.begin(),
                caller.begin(),
            ]
        self.reactor.advance(0.05)
        statuses = [caller.said(stream).status for stream in streams]
        self.assertEqual(statuses, [200, 400, 410, 200, 429])
        self.assertEqual(len(self.world.lease()), 3)

    def test_one_commit(self) -> None:
        """Requests that arrive together are one request to the intake."""
        caller = self.caller()
        self.after(caller, caller.begin())
        self.world.woken.clear()
        with caller.together():
            streams = [caller.begin() for _ in range(50)]
        self.reactor.advance(0.05)
        self.assertEqual([caller.said(stream).status for stream in streams], [200] * 50)
        self.assertEqual(self.world.woken, ["chess"])

    def test_superseded(self) -> None:
        """Of requests for one device that arrive together with a collapse id, the last one is sent."""
        caller = self.caller()
        self.after(caller, caller.begin())
        self.world.lease()
        ids = [str(uuid.uuid4()) for _ in range(4)]
        with caller.together():
            for number, apns_id in enumerate(ids):
                body = b'{"aps":{"badge":%d}}' % (number // 2 % 2)
                caller.begin({"apns-collapse-id": "game", "apns-id": apns_id}, body=body)
        self.reactor.advance(0.05)
        self.assertEqual([each.apns_id for each in self.world.lease()], ids[-1:])

    def test_queue_full(self) -> None:
        """If the queue is full, a request is refused before it is accepted, with the time to wait."""
        self.world.add("chess", self.world.certificate, limits=Limits(queue=1))
        self.assertEqual(self.ask().status, 200)
        said = self.ask()
        self.assertEqual((said.brief, said.headers["retry-after"]), ((429, "TooManyRequests"), "5"))

    def test_stopping(self) -> None:
        """While the daemon shuts down, requests are refused."""
        self.world.intake.stop()
        said = self.ask()
        self.assertEqual((said.brief, said.headers["retry-after"]), ((503, "ServiceUnavailable"), "10"))


class RelayTests(AppleCase):
    """Relay mode: the answer comes when Apple has answered."""

    mode = "relay"

    def relayed(self, state: State, status: int = 0, reason: str = "", since: float | None = None) -> Said:
        """Send a request, and let Apple answer."""
        caller = self.caller()
        stream = caller.begin()
        self.reactor.advance(0.02)
        self.assertIsNone(caller.said(stream))
        [leased] = self.world.lease()
        self.world.settle(leased, state, status, reason, since)
        said = caller.said(stream)
        assert said is not None
        self.assertEqual(said.headers["apns-id"], leased.apns_id)
        return said

    def test_accepted(self) -> None:
        """The answer is 200 if Apple accepts it."""
        self.assertEqual(self.relayed(State.ACCEPTED, 200).brief, (200, ""))

    def test_unique_id(self) -> None:
        """The id in Apple's delivery log, which it gives in the sandbox, is passed on."""
        caller = self.caller()
        stream = caller.begin()
        self.reactor.advance(0.02)
        [leased] = self.world.lease()
        outcome = Outcome(leased.number, leased.apns_id, "chess", State.ACCEPTED, 200, "", None, 1, 1.0, 2.0, "X-7")
        self.world.outcomes.tell([outcome])
        said = caller.said(stream)
        assert said is not None
        self.assertEqual((said.status, said.headers["apns-unique-id"]), (200, "X-7"))

    def test_rejected(self) -> None:
        """Apple's reason is passed on."""
        self.assertEqual(self.relayed(State.REJECTED, 400, "BadDeviceToken").brief, (400, "BadDeviceToken"))

    def test_dead(self) -> None:
        """Apple's timestamp is passed on."""
        said = self.relayed(State.REJECTED, 410, "Unregistered", 1_699_999_000.25)
        self.assertEqual((said.brief, json.loads(said.body)["timestamp"]), ((410, "Unregistered"), 1_699_999_000_250))

    def test_others(self) -> None:
        """Without an answer of Apple's, it is the nearest one that Apple has."""
        self.assertEqual(self.relayed(State.EXPIRED).brief, (400, "BadExpirationDate"))
        self.assertEqual(self.relayed(State.DEAD, 500, "InternalServerError").brief, (500, "InternalServerError"))
        self.assertEqual(self.relayed(State.DEAD).brief, (503, "ServiceUnavailable"))
        self.assertEqual(self.relayed(State.REJECTED).brief, (400, "PayloadEmpty"))

    def test_late(self) -> None:
        """If Apple does not answer in time, the answer is 503, and the notification stays in the queue."""
        caller = self.caller()
        stream = caller.begin()
        self.reactor.advance(19.9)
        self.assertIsNone(caller.said(stream))
        said = self.after(caller, stream, 0.2)
        self.assertEqual((said.brief, said.headers["retry-after"]), ((503, "ServiceUnavailable"), "5"))
        self.assertEqual(len(self.world.lease()), 1)

    def test_disk_fails(self) -> None:
        """So it is if it is unknown whether the notification is on the disk."""
        self.patch(self.world.queue, "on_disk", lambda: fail(Unavailable("the disk is broken", 7.0)))
        caller = self.caller()
        said = self.after(caller, caller.begin(), 20.1)
        self.assertEqual((said.brief, said.headers["retry-after"]), ((503, "ServiceUnavailable"), "7"))

    def test_one_id(self) -> None:
        """Notifications with the same id, on one connection or two, each get Apple's answer for their own device."""
        given = str(uuid.uuid4())
        first, second = self.caller(), self.caller()
        tokens = ["aa", "bb", "cc", "dd"]
        with first.together():
            asked = [(first, first.begin({"apns-id": given}, path=f"/3/device/{token}")) for token in tokens[:2]]
        asked += [(second, second.begin({"apns-id": given}, path=f"/3/device/{token}")) for token in tokens[2:]]
        self.reactor.advance(0.02)
        leased = {each.token.hex(): each for each in self.world.lease()}
        self.world.settle(leased["bb"], State.REJECTED, 410, "Unregistered", 1_699_999_000.25)
        self.assertEqual([caller.said(stream) is None for caller, stream in asked], [True, False, True, True])
        for token in ("aa", "cc"):
            self.world.settle(leased[token], State.ACCEPTED, 200)
        self.world.settle(leased["dd"], State.REJECTED, 400, "BadDeviceToken")
        answers = [self.after(caller, stream) for caller, stream in asked]
        self.assertEqual([each.status for each in answers], [200, 410, 200, 400])
        self.assertEqual({each.headers["apns-id"] for each in answers}, {given})

    def test_gone(self) -> None:
        """A notification is accepted even if its caller disconnects before the answer."""
        caller = self.caller()
        caller.begin()
        caller.server.connectionLost()
        self.reactor.advance(0.02)
        self.assertEqual(len(self.world.lease()), 1)
        self.assertEqual(len(self.world.outcomes), 0)


class RefusalTests(AppleCase):
    """Requests that are refused before they are accepted, in Apple's words."""

    def test_words(self) -> None:
        """Each error has its reason, and nothing is stored."""
        long = "ab" * 513
        cases: list[tuple[tuple[int, str], dict[str, Any]]] = [
            ((405, "MethodNotAllowed"), {"method": "GET", "body": b""}),
            ((404, "BadPath"), {"path": "/3/devices/aa"}),
            ((404, "BadPath"), {"path": "/4/broadcast/apps/x"}),
            ((400, "MissingDeviceToken"), {"path": "/3/device/"}),
            ((400, "BadDeviceToken"), {"path": "/3/device/xyz"}),
            ((400, "BadDeviceToken"), {"path": "/3/device/abc"}),
            ((400, "BadDeviceToken"), {"path": f"/3/device/{long}"}),
            ((400, "PayloadEmpty"), {"body": b""}),
            ((400, "PayloadEmpty"), {"body": b"[]"}),
            ((400, "PayloadEmpty"), {"body": b"{"}),
            ((400, "PayloadEmpty"), {"body": b'{"aps":{"alert":"Lunch \\ud83c"}}'}),
            ((413, "PayloadTooLarge"), {"body": b'{"a":"' + b"x" * MAX_BODY + b'"}'}),
            ((400, "BadMessageId"), {"headers": {"apns-id": "7"}}),
            ((400, "BadPriority"), {"headers": {"apns-priority": "high"}}),
            ((400, "BadExpirationDate"), {"headers": {"apns-expiration": "tomorrow"}}),
            ((400, "BadExpirationDate"), {"headers": {"apns-expiration": "1" * 19}}),
            ((400, "BadCollapseId"), {"headers": {"apns-collapse-id": "x" * 1_025}}),
            ((400, "InvalidPushType"), {"more": ((b"apns-push-type", b"\xff"),)}),
            ((400, "DuplicateHeaders"), {"more": ((b"apns-topic", b"x"),)}),
            ((400, "TopicDisallowed"), {"headers": {"apns-topic": "com.example.other"}}),
        ]
        for brief, options in cases:
            said = self.ask(**options)
            self.assertEqual(said.brief, brief, options)
            self.assertTrue(uuid.UUID(said.headers["apns-id"]))
        self.assertEqual(self.world.lease(), [])

    def test_compressed(self) -> None:
        """A compressed payload is decompressed for Apple; one that cannot be is refused."""
        for coding, packed in (
            ("gzip", gzip.compress(PAYLOAD)),
            ("deflate", zlib.compress(PAYLOAD)),
            ("identity", PAYLOAD),
        ):
            self.assertEqual(self.ask({"content-encoding": coding}, body=packed).status, 200)
        self.assertEqual({leased.payload for leased in self.world.lease()}, {PAYLOAD})
        said = self.ask({"content-encoding": "br"})
        self.assertEqual(
            (said.brief, said.headers["accept-encoding"]), ((415, "UnsupportedMediaType"), "gzip, deflate")
        )
        bomb = gzip.compress(b'{"a":"' + b"x" * 1_000_000 + b'"}')
        self.assertEqual(self.ask({"content-encoding": "gzip"}, body=bomb).brief, (413, "PayloadTooLarge"))
        self.assertEqual(self.ask({"content-encoding": "gzip"}).brief, (400, "PayloadEmpty"))

    def test_what_apple_refuses(self) -> None:
        """Everything that can be sent to Apple is for Apple to reject."""
        for options in (
            {"body": b'{"aps":"' + b"x" * 4_096 + b'"}'},
            {"path": "/3/device/ab"},
            {"headers": {"apns-priority": "-3", "apns-push-type": "unheard-of", "apns-collapse-id": "x" * 65}},
        ):
            self.assertEqual(self.ask(**options).status, 200)

    def test_too_large_in_one_piece(self) -> None:
        """A body that is too long is not read to its end; the connection stays open."""
        caller = self.caller()
        self.after(caller, caller.begin())
        stream = caller.begin(body=b"x" * 60_000, end=False)
        self.assertEqual(caller.said(stream).brief, (413, "PayloadTooLarge"))
        for _ in range(20):
            self.assertEqual(caller.ask(body=b"x" * 60_000, end=False).status, 413)
        self.reactor.advance(1)
        caller.pump()
        self.assertEqual(caller.closed[stream], 0)
        self.assertEqual(self.after(caller, caller.begin()).status, 200)


class OpenTests(AppleCase):
    """A face that requires no credentials."""

    keys = False

    def test_anybody(self) -> None:
        """Every caller may send for every app."""
        caller = self.caller()
        self.assertEqual(caller.limits, [CONCURRENCY])
        self.assertEqual(self.after(caller, caller.begin(key=None)).status, 200)
        self.assertEqual(self.ask({"apns-topic": "com.example.news"}, key=None).status, 200)

    def test_page(self) -> None:
        """Web pages are refused: a browser tells for which site it sends a request."""
        for origin in ("https://evil.example", "null", "https://api.push.apple.com"):
            self.assertEqual(self.ask({"origin": origin}, key=None).brief, (403, "Forbidden"))

    def test_unfinished(self) -> None:
        """The memory for unfinished requests is limited for all callers together, header fields included."""
        limits = self.world.limits
        self.face.server.limits = attrs.evolve(limits, unfinished=MemoryBudget(40_000))
        callers = [self.caller() for _ in range(3)]
        for caller in callers:
            self.assertEqual(self.after(caller, caller.begin(key=None)).status, 200)
            for _ in range(4):
                stream = caller.begin({"x-long": "x" * 4_000}, key=None, body=b"{", end=False)
        self.assertEqual([caller.gone for caller in callers], [True, False, False])
        callers[1].h2.send_data(stream, b"}", end_stream=True)
        callers[1].pump()
        self.assertEqual(self.after(callers[1], stream).status, 200)
        callers[2].h2.reset_stream(stream, 8)
        callers[2].pump()
        for caller in callers:
            caller.server.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.face.server.limits.unfinished._sum, 0)


class ClientTests(AppleCase):
    """Our own client, over TLS."""

    mode = "relay"

    def setUp(self) -> None:
        """Listen."""
        super().setUp()
        self.reactor.servers[PORT] = self.face.factory(self.world.server_certificate)

    def client(self, credential: Certificate | ProviderToken, topic: str) -> APNSClient:
        """Make one."""
        gateway = Gateway.http2(HOST, PORT, trust_root=self.world.authority.ca_pem)
        client = APNSClient(self.reactor, credential, gateway, topic=topic)
        self.addCleanup(lambda: self.world.result(client.close()))
        return client

    def send(self, client: APNSClient, app: str) -> Any:
        """Send to two devices, of which the first is gone."""
        sending: Deferred[Any] = client.send(Notification(alert="Hello"), [ANN, BOB])
        for _ in range(30):
            self.reactor.advance(0.01)
            for leased in self.world.lease(app):  # with a provider token, the second comes after the first
                if leased.token.hex() == ANN:
                    self.world.settle(leased, State.REJECTED, 410, "Unregistered", 1_699_999_000.0)
                else:
                    self.world.settle(leased, State.ACCEPTED, 200)
        return self.world.result(sending)

    def test_certificate(self) -> None:
        """The app's own certificate authenticates it."""
        batch = self.send(self.client(self.world.certificate, TOPIC), "chess")
        self.assertEqual((batch.accepted, [each.reason for each in batch.failed.values()]), (1, ["Unregistered"]))
        self.assertEqual([token for token, _ in batch.dead_tokens], [ANN])

    def test_caller(self) -> None:
        """Another certificate does if the operator has listed it, even an expired one."""
        other = self.world.authority.client_pem("com.example.anything", expired=True)
        certificate = Certificate.from_pem(other, now=datetime.now(timezone.utc) - timedelta(days=10))
        self.world.add("chess", self.world.certificate, callers=frozenset({certificate.fingerprint}))
        self.assertEqual(self.send(self.client(certificate, TOPIC), "chess").accepted, 1)

    def test_unknown_certificate(self) -> None:
        """An unknown one is refused in the handshake, and nothing is stored."""
        unknown = Certificate.from_pem(self.world.authority.client_pem(TOPIC))
        batch = self.world.result(self.client(unknown, TOPIC).send(Notification(alert="Hello"), [ANN]))
        self.assertEqual((batch.accepted, len(batch.unsent)), (0, 1))
        self.assertEqual(self.world.lease(), [])

    def test_provider_token(self) -> None:
        """Its provider token authenticates it."""
        batch = self.send(self.client(self.world.provider_token, "com.example.news"), "news")
        self.assertEqual((batch.accepted, len(batch.failed)), (1, 1))

    def test_certificate_removed(self) -> None:
        """When the certificate is no longer the app's, existing connections with it are refused."""
        client = self.client(self.world.certificate, TOPIC)
        self.send(client, "chess")
        self.world.add("chess", Certificate.from_pem(self.world.authority.client_pem(TOPIC)))
        batch = self.world.result(client.send(Notification(alert="Hello"), [BOB]))
        self.assertEqual(batch.accepted, 0)
        self.assertEqual(self.world.lease(), [])

    def test_handshake(self) -> None:
        """A connection whose handshake stalls is cut."""
        transport = StringTransport()
        transport.abortConnection = transport.loseConnection
        server = self.face.factory(self.world.server_certificate).buildProtocol(None)
        server.makeConnection(transport)
        self.reactor.advance(29)
        self.assertFalse(transport.disconnecting)
        self.reactor.advance(2)
        self.assertTrue(transport.disconnecting)
