"""Tests for the face in :mod:`txapns.daemon.faces.apple`, as a client sees it."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import uuid
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import attrs
import jwt
import ngh2
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate as TrustedCertificate
from twisted.internet.ssl import trustRootFromCertificates
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, FileBodyProducer

from tests.credentials.test_bearer import der_signed
from tests.daemon.faces_world import HOST, FacesWorld
from tests.daemon.fakes import key_of
from txapns import APNSClient, Gateway, Notification, ProviderToken
from txapns.credentials import Certificate
from txapns.daemon.config.sections import AppleSection
from txapns.daemon.faces.apple.connection import CONCURRENCY
from txapns.daemon.faces.apple.face import Apple
from txapns.daemon.faces.apple.requests import MAX_BODY
from txapns.daemon.serving.limits import MemoryBudget
from txapns.daemon.values import Limits, Outcome, State
from txapns.simulator import Authority

__all__ = [
    "ClientTests",
    "CredentialTests",
    "HTTP1Tests",
    "HostileTests",
    "QueueTests",
    "RefusalTests",
    "RelayTests",
    "StopTests",
]

ANN, BOB = "aa" * 32, "bb" * 32
PORT = 8443
PAYLOAD = b'{"aps":{"alert":"Hello"}}'
TOPIC = "com.example.chess"


@attrs.frozen
class Said:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def reason(self) -> str:
        """Apple's reason."""
        return str(json.loads(self.body)["reason"]) if self.body else ""

    @property
    def brief(self) -> tuple[int, str]:
        """Status and reason."""
        return self.status, self.reason


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    """Write a frame (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class Caller:
    """A client over plain HTTP/2 that can break every rule."""

    def __init__(self, face: Apple) -> None:
        self.transport = StringTransport()
        self.transport.abortConnection = self.transport.loseWriteConnection = self.transport.loseConnection
        self.h2 = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration(auto_window_update=True))
        self.h2.initiate_connection({})
        self.server: Any = face.factory().buildProtocol(None)
        self.server.makeConnection(self.transport)
        self.answers: dict[int, list[Any]] = {}
        self.limits: list[int] = []
        self.goaway: Any = None
        self.whole_before_goaway: set[int] = set()
        self.closed: dict[int, int] = {}
        self.held = False
        self.pump()

    @property
    def gone(self) -> bool:
        """Whether the face has closed the connection."""
        return bool(self.transport.disconnecting)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Send the requests that are begun in the meantime at once."""
        self.held = True
        yield
        self.held = False
        self.pump()

    def pump(self) -> None:
        """Carry bytes."""
        while not self.held:
            out = self.h2.data_to_send()
            if out and not self.gone:
                self.server.dataReceived(out)
            back = self.transport.value()
            self.transport.clear()
            if back:
                self.h2.receive_data(back)
                for event in self.h2.events():
                    self._note(event)
            if not out and not back:
                return

    def _note(self, event: Any) -> None:
        if isinstance(event, ngh2.ResponseReceived):
            self.answers[event.stream_id] = [event.headers, b""]
        elif isinstance(event, ngh2.DataReceived):
            self.answers[event.stream_id][1] += event.data
        elif isinstance(event, ngh2.SettingsReceived):
            self.limits.append(event.settings.get(ngh2.Setting.MAX_CONCURRENT_STREAMS, -1))
        elif isinstance(event, ngh2.GoAwayReceived):
            self.goaway = event
            self.whole_before_goaway = {stream for stream, (_, body) in self.answers.items() if body}
        elif isinstance(event, ngh2.StreamClosed):
            self.closed[event.stream_id] = event.error_code

    def begin(
        self,
        headers: Mapping[str, str] | None = None,
        *,
        path: str = f"/3/device/{ANN}",
        method: str = "POST",
        body: bytes = PAYLOAD,
        key: str | None = "chess",
        end: bool = True,
        more: tuple[tuple[bytes, bytes], ...] = (),
    ) -> int:
        """Begin a request; returns its stream."""
        fields = {":method": method, ":scheme": "https", ":path": path, ":authority": "api.push.apple.com"}
        if key is not None:
            fields["authorization"] = f"bearer {key_of(key)}"
        fields["apns-topic"] = TOPIC
        fields.update(headers or {})
        head = [(name.encode(), value.encode()) for name, value in fields.items() if value != "-"]
        stream = self.h2.send_request([*head, *more], end_stream=end and not body)
        if body:
            self.h2.send_data(stream, body, end_stream=end)
        self.pump()
        return stream

    def said(self, stream: int) -> Said | None:
        """Read the answer; ``None`` if there is none."""
        self.pump()
        if stream not in self.answers:
            return None
        headers, body = self.answers[stream]
        fields = {name.decode(): value.decode() for name, value in headers}
        return Said(int(fields.pop(":status")), fields, body)

    def ask(self, headers: Mapping[str, str] | None = None, **more: Any) -> Said:
        """Send a request, and read the answer, which must come at once."""
        said = self.said(self.begin(headers, **more))
        assert said is not None, "there is no answer"
        return said


class AppleCase(SynchronousTestCase):
    """A face with everything that it needs."""

    mode = "queue"
    keys = True

    def setUp(self) -> None:
        """Start it."""
        self.world = FacesWorld(Path(self.mktemp()))
        self.reactor = self.world.reactor
        self.addCleanup(self.world.stop)
        options = AppleSection(mode=self.mode, wait=20.0, keys=self.keys)
        world = self.world
        self.face = Apple(world.reactor, world.intake, world.apps, world.keys, world.log, options, world.limits)

    def caller(self) -> Caller:
        """Connect in plain text."""
        return Caller(self.face)

    def after(self, caller: Caller, stream: int, seconds: float = 0.02) -> Said:
        """Let time pass, and read the answer."""
        self.reactor.advance(seconds)
        said = caller.said(stream)
        assert said is not None, "there is no answer"
        return said

    def ask(self, headers: Mapping[str, str] | None = None, **more: Any) -> Said:
        """Send a request on a new connection."""
        caller = self.caller()
        return self.after(caller, caller.begin(headers, **more))


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
        self.assertEqual((leased.token.hex(), leased.apns_id, leased.content.payload), (ANN, given, PAYLOAD))
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
            ((404, "BadPath"), {"path": "/4/broadcasts/apps/x"}),
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
        self.assertEqual({leased.content.payload for leased in self.world.lease()}, {PAYLOAD})
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


class CredentialTests(AppleCase):
    """Credentials and topics."""

    def bearer(self, token: ProviderToken, issued: float) -> dict[str, str]:
        """Show a provider token."""
        return {"authorization": f"bearer {token.sign(int(issued))}", "apns-topic": "com.example.news"}

    def test_key(self) -> None:
        """A key is for its apps; it is not told whether another app exists."""
        self.assertEqual(self.ask(key="chess").status, 200)
        self.assertEqual(self.ask({"apns-topic": "com.example.news"}, key="all").status, 200)
        for topic in ("com.example.news", "com.example.unknown"):
            self.assertEqual(self.ask({"apns-topic": topic}, key="chess").brief, (400, "TopicDisallowed"))

    def test_unknown(self) -> None:
        """Without credentials, or with wrong ones, nothing is stored."""
        self.assertEqual(self.ask(key=None).brief, (403, "MissingProviderToken"))
        self.assertEqual(self.ask({"authorization": "basic eDp5"}, key=None).brief, (403, "MissingProviderToken"))
        self.assertEqual(self.ask(key="nobody").brief, (403, "InvalidProviderToken"))
        self.assertEqual(self.ask({"authorization": "bearer a.b.c"}, key=None).brief, (403, "InvalidProviderToken"))
        self.assertEqual(self.world.lease(), [])

    def test_provider_token(self) -> None:
        """A provider token of the app's own key is valid for that app, and only for that one."""
        now = self.reactor.seconds()
        fields = self.bearer(self.world.provider_token, now)
        self.assertEqual(self.ask(fields, key=None).status, 200)
        self.assertEqual(self.ask({**fields, "apns-topic": TOPIC}, key=None).brief, (400, "TopicDisallowed"))
        [leased] = self.world.lease("news")
        self.assertEqual(dict(leased.content.headers), {"apns-topic": "com.example.news"})

    def test_age(self) -> None:
        """A token may be an hour old, or signed by a clock slightly ahead."""
        now, token = self.reactor.seconds(), self.world.provider_token
        self.assertEqual(self.ask(self.bearer(token, now - 3_599), key=None).status, 200)
        self.assertEqual(self.ask(self.bearer(token, now + 300), key=None).status, 200)
        self.assertEqual(self.ask(self.bearer(token, now - 3_602), key=None).brief, (403, "ExpiredProviderToken"))
        self.assertEqual(self.ask(self.bearer(token, now + 302), key=None).brief, (403, "InvalidProviderToken"))

    def test_grows_old(self) -> None:
        """A token that was valid when the connection was made expires."""
        caller = self.caller()
        fields = self.bearer(self.world.provider_token, self.reactor.seconds())
        self.assertEqual(self.after(caller, caller.begin(fields, key=None)).status, 200)
        self.reactor.advance(3_500)
        self.assertEqual(self.after(caller, caller.begin(fields, key=None)).status, 200)
        self.reactor.advance(101)
        self.assertEqual(caller.ask(fields, key=None).brief, (403, "ExpiredProviderToken"))

    def test_clock_set(self) -> None:
        """When the wall clock is set, it is what counts."""
        caller = self.caller()
        fields = self.bearer(self.world.provider_token, self.reactor.wall.now())
        self.reactor.wall.step(3_500)
        self.assertEqual(self.after(caller, caller.begin(fields, key=None)).status, 200)
        self.reactor.wall.step(101)
        self.assertEqual(self.after(caller, caller.begin(fields, key=None)).brief, (403, "ExpiredProviderToken"))
        self.reactor.wall.step(-3_601)
        self.assertEqual(self.ask(fields, key=None).status, 200)

    def test_forged(self) -> None:
        """A token that names the right key but is signed with another one, or not at all, is invalid."""
        now = self.reactor.seconds()
        ours = self.world.provider_token
        forged = ProviderToken.from_p8(Authority().p8, ours.key_id, ours.team_id)
        self.assertEqual(self.ask(self.bearer(forged, now), key=None).brief, (403, "InvalidProviderToken"))
        head, claims, _ = ours.sign(int(now)).split(".")
        for text in (f"{head}.{claims}.", f"eyJhbGciOiJub25lIiwia2lkIjoiQUJDMTIzREVGRyJ9.{claims}."):
            fields = {"authorization": f"bearer {text}", "apns-topic": "com.example.news"}
            self.assertEqual(self.ask(fields, key=None).brief, (403, "InvalidProviderToken"))

    def test_der(self) -> None:
        """A token whose signature is in DER, as pushy's are, is valid."""
        now = int(self.reactor.seconds())
        fields = {"authorization": f"bearer {der_signed(self.world.authority, now)}", "apns-topic": "com.example.news"}
        self.assertEqual(self.ask(fields, key=None).status, 200)

    def test_key_replaced(self) -> None:
        """When the app gets another key, a token of the old one is invalid from the next request on."""
        caller = self.caller()
        fields = self.bearer(self.world.provider_token, self.reactor.seconds())
        self.assertEqual(self.after(caller, caller.begin(fields, key=None)).status, 200)
        self.world.add("news", ProviderToken.from_p8(Authority().p8, "OTHER", "TEAM"))
        self.assertEqual(caller.ask(fields, key=None).brief, (403, "InvalidProviderToken"))

    def test_limit(self) -> None:
        """The limit is the full one from the beginning: some clients never notice a later one."""
        self.assertEqual(self.caller().limits, [CONCURRENCY])

    def test_too_often(self) -> None:
        """After repeated requests without authentication the connection is closed."""
        caller = self.caller()
        for _ in range(20):
            self.assertEqual(caller.ask(key=None).status, 403)
        self.assertTrue(caller.goaway)
        self.assertTrue(caller.gone)

    def test_too_many(self) -> None:
        """Of many requests at once each gets its reason before the GOAWAY; authenticated ones are stored."""
        caller = self.caller()
        with caller.together():
            known = caller.begin()
            streams = [caller.begin(key="nobody") for _ in range(500)]
        self.reactor.advance(0.02)
        self.assertEqual(caller.said(known).status, 200)
        self.assertEqual({caller.said(stream).brief for stream in streams}, {(403, "InvalidProviderToken")})
        self.assertTrue(caller.goaway)
        self.assertEqual(caller.whole_before_goaway, set(streams))

    def test_too_many_other(self) -> None:
        """After too many refusals nothing more is read: a request with another credential may be sent elsewhere."""
        caller = self.caller()
        with caller.together():
            streams = [caller.begin(key=f"nobody {number}") for number in range(25)]
        self.assertEqual({caller.said(stream).brief for stream in streams[:20]}, {(403, "InvalidProviderToken")})
        self.assertEqual({caller.closed[stream] for stream in streams[20:]}, {ngh2.ErrorCode.REFUSED_STREAM})
        self.assertTrue(caller.goaway)

    def test_topics(self) -> None:
        """The suffix of a push type does not matter; without a topic, the only app is meant."""
        self.assertEqual(self.ask({"apns-topic": f"{TOPIC}.voip"}).status, 200)
        self.assertEqual(self.ask({"apns-topic": f"{TOPIC}.push-type.liveactivity"}).status, 200)
        self.assertEqual(self.ask({"apns-topic": f"{TOPIC}.beta"}).brief, (400, "TopicDisallowed"))
        self.assertEqual(self.ask({"apns-topic": "-"}).status, 200)
        self.assertEqual(self.ask({"apns-topic": "-"}, key="all").brief, (400, "MissingTopic"))

    def test_environments(self) -> None:
        """If two apps have the same topic, the host name tells which one is meant."""
        sandbox = Gateway.parse("sandbox")
        self.world.add("test", self.world.certificate, topic=TOPIC, gateway=sandbox)
        self.assertEqual(self.ask(key="all").status, 200)
        self.assertEqual((len(self.world.lease()), len(self.world.lease("test"))), (1, 0))
        self.assertEqual(self.ask({":authority": "api.sandbox.push.apple.com"}, key="all").status, 200)
        self.assertEqual((len(self.world.lease()), len(self.world.lease("test"))), (0, 1))
        self.world.add("third", self.world.certificate, topic=TOPIC, gateway=sandbox)
        self.assertEqual(self.ask({":authority": "api.sandbox.push.apple.com"}, key="all").brief, (400, "BadTopic"))


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


class HostileTests(AppleCase):
    """Unauthenticated callers, and clients that break the rules."""

    def test_not_http2(self) -> None:
        """A connection with neither HTTP/2 nor a request of HTTP/1.1 is closed without an answer."""
        for raw in (
            b"\x16\x03\x01\x02\x00",
            b"get / HTTP/1.1\r\n\r\n",
            b"\0\0\0\4\0\0\0\0\0",
        ):
            transport = self.connect(raw)
            self.assertEqual((transport.value(), transport.disconnecting), (b"", True), raw)

    def connect(self, *pieces: bytes) -> Any:
        """Connect, and send something that is not HTTP/2; returns the transport."""
        transport: Any = StringTransport()
        transport.abortConnection = transport.loseWriteConnection = transport.loseConnection
        server: Any = self.face.factory().buildProtocol(None)
        server.makeConnection(transport)
        for piece in pieces:
            server.dataReceived(piece)
        return transport

    def test_http1(self) -> None:
        """A client of HTTP/1.1 gets an answer that it can read, once, and nothing before it."""
        for pieces in (
            [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
            [b"POST /3/device/%s HTTP/1.1\r\nContent-Length: 5\r\n\r\n" % ANN.encode(), b"hello"],
            [b"P", b"OST / HTTP/1.1\r\n"],
            [b"PRI", b"ME / HTTP/1.0\r\n"],
            [b"PUT / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n"],
        ):
            transport = self.connect(*pieces)
            head, _, body = transport.value().partition(b"\r\n\r\n")
            self.assertTrue(head.startswith(b"HTTP/1.1 505 HTTP Version Not Supported\r\n"), head)
            self.assertIn(b"Content-Length: %d" % len(body), head)
            self.assertIn(b"HTTP/2", body)
            self.assertTrue(transport.disconnecting)

    def test_http1_stays(self) -> None:
        """A client of HTTP/1.1 that does not close is cut."""
        transport = self.connect(b"GET / HTTP/1.1\r\n\r\n")
        cut: list[bool] = []
        transport.abortConnection = lambda: cut.append(True)
        self.reactor.advance(2)
        self.assertEqual(cut, [])
        self.reactor.pump([1, 1])
        self.assertTrue(cut)

    def test_silent(self) -> None:
        """An idle unauthenticated client is told to close after a minute, and cut if it does not."""
        caller = self.caller()
        self.reactor.advance(59)
        self.assertFalse(caller.goaway or caller.gone)
        self.reactor.advance(2)
        caller.pump()
        self.assertTrue(caller.goaway and caller.gone)

    def test_idle(self) -> None:
        """An authenticated client may be idle for an hour."""
        caller = self.caller()
        self.after(caller, caller.begin())
        self.reactor.advance(3_500)
        self.assertEqual(self.after(caller, caller.begin()).status, 200)
        self.reactor.advance(3_602)
        caller.pump()
        self.assertTrue(caller.goaway and caller.gone)

    def test_slow(self) -> None:
        """An unfinished request is answered and dropped in time; others on the connection are not affected."""
        caller = self.caller()
        self.after(caller, caller.begin())
        stream = caller.begin(end=False)
        for _ in range(31):
            self.reactor.advance(1)
            caller.h2.send_data(stream, b" ")
            caller.pump()
        self.assertEqual(caller.said(stream).brief, (400, "IdleTimeout"))
        self.assertEqual(self.after(caller, caller.begin()).status, 200)

    def test_silent_request(self) -> None:
        """An unfinished request is answered once, and its connection closed when it is idle."""
        caller = self.caller()
        stream = caller.begin(end=False)
        for _ in range(35):
            self.reactor.advance(1)
        caller.pump()
        self.assertEqual(caller.said(stream).brief, (400, "IdleTimeout"))
        for _ in range(61):
            self.reactor.advance(60)
        caller.pump()
        self.assertTrue(caller.gone or caller.goaway)

    def test_window(self) -> None:
        """However many requests are unfinished, together they hold at most one window."""
        caller = self.caller()
        self.after(caller, caller.begin())
        for _ in range(100):
            caller.begin(body=b"x" * 10_000, end=False)
        held = sum(len(body) for _, body in caller.server.protocol.requests._open.values())
        self.assertLessEqual(held, 65_535)

    def test_rapid_reset(self) -> None:
        """A client that keeps beginning and cancelling requests is cut."""
        caller = self.caller()
        self.after(caller, caller.begin())
        for _ in range(3_000):
            stream = caller.begin(body=b"", end=False)
            caller.h2.reset_stream(stream, 8)
            caller.pump()
            if caller.gone or caller.goaway:
                break
        self.assertTrue(caller.goaway or caller.gone)

    def test_streams(self) -> None:
        """An unauthenticated request is answered at its header fields, and holds its stream only for a moment."""
        caller = self.caller()
        streams = [caller.begin(key=key, body=b"", end=False) for key in (None, "nobody") for _ in range(9)]
        self.assertEqual({caller.said(stream).status for stream in streams}, {403})
        self.assertEqual(caller.closed, {})
        caller.h2.send_data(streams[0], b"the rest", end_stream=True)
        caller.pump()
        self.reactor.advance(1)
        caller.pump()
        self.assertEqual(caller.closed, dict.fromkeys(streams, 0))
        self.assertEqual(caller.server.protocol.requests.unfinished, [])
        self.assertEqual(self.after(caller, caller.begin()).status, 200)

    def test_floods(self) -> None:
        """A client that sends too many frames is cut at once, with a line in the log; others are not affected."""
        other = self.caller()
        self.after(other, other.begin())
        for known, most, flood in (
            (False, 3_000, frame(6, b"12345678")),
            (False, 3_000, frame(2, b"\0\0\0\0\x10", stream=1)),
            (False, 3_000, frame(8, b"\0\0\0\1")),
            (False, 3_000, frame(0, stream=1)),
            (False, 3_000, frame(99)),
            (True, 60_000, frame(6, b"12345678")),
            (True, 60_000, frame(8, b"\0\0\0\1")),
            (True, 30, frame(4, b"\0\4\0\0\0\0")),
            (False, 30, frame(4, b"\0\4\0\0\0\0") + frame(4, b"\0\4\0\0\xff\xff")),
        ):
            caller = self.caller()
            if known:
                self.after(caller, caller.begin())
            with capturedLogs() as events:
                for _ in range(most // 10):
                    if not caller.gone:
                        caller.server.dataReceived(flood * 10)
            self.assertTrue(caller.gone, flood)
            [line] = [formatEvent(event) for event in events]
            self.assertRegex(line, "^intake.apple: the connection of .* failed: ")
            self.assertEqual(self.after(other, other.begin()).status, 200)
            caller.server.connectionLost()
            self.reactor.advance(1)

    def test_no_window(self) -> None:
        """A client that gives no window for its answers is cut."""
        caller = self.caller()
        self.after(caller, caller.begin())
        caller.h2.update_settings({ngh2.Setting.INITIAL_WINDOW_SIZE: 0})
        caller.begin(body=b"x")
        self.reactor.advance(1)
        self.assertFalse(caller.gone)
        for _ in range(31):
            self.reactor.advance(1)
        self.assertTrue(caller.gone)

    def test_given_up(self) -> None:
        """A connection that libnghttp2 has given up is cut, and not read any more."""
        field = b"\0\x01x\x7f\x85\x06" + b"y" * 900  # as HPACK writes it (RFC 7541, section 6.2.2)
        for raw in (
            frame(4, flags=1) * 10,
            frame(7, b"\0" * 8) + frame(1, b"\xff" * 30, 4, 1),
            frame(9, b"", 0, 1),
            frame(1, b"\x83\x87\x84" + field * 17, 0, 1) + frame(9, field * 17, 4, 1),
            frame(1, b"\x83\x87\x84" + b"\0\x01x\x01y" * 200, 4, 1),
        ):
            caller = self.caller()
            with capturedLogs() as events:
                caller.server.dataReceived(raw)
            self.assertTrue(caller.gone, raw)
            self.assertEqual(len(events), 1)
            caller.server.dataReceived(frame(6, b"12345678"))

    def test_claims(self) -> None:
        """A well-signed provider token with an impossible time is invalid; other streams are not affected."""
        ours = self.world.provider_token
        caller = self.caller()
        waiting = caller.begin(end=False)
        for issued in ("1" + "0" * 400, "NaN", "Infinity", "-Infinity", "true", "-1", "null", '"1700000000"', "1e999"):
            claims = f'{{"iss": "{ours.team_id}", "iat": {issued}}}'.encode()
            text = jwt.api_jws.encode(claims, self.world.authority.p8, "ES256", headers={"kid": ours.key_id})
            fields = {"authorization": f"bearer {text}", "apns-topic": "com.example.news"}
            self.assertEqual(caller.ask(fields, key=None).brief, (403, "InvalidProviderToken"), issued)
        caller.h2.send_data(waiting, b" ", end_stream=True)
        caller.pump()
        self.assertEqual(self.after(caller, waiting).status, 200)

    def test_header_list(self) -> None:
        """Endless header fields are refused."""
        caller = self.caller()
        more = tuple((b"x-%d" % n, b"y" * 900) for n in range(60))
        stream = caller.begin(more=more)
        self.assertIsNone(caller.said(stream))
        self.assertTrue(caller.gone or caller.closed.get(stream))

    def test_reads_nothing(self) -> None:
        """From a client that reads no answers, nothing is read; in the end it is cut."""
        caller = self.caller()
        caller.transport.producer.pauseProducing()
        self.assertEqual(caller.transport.producerState, "paused")
        self.reactor.advance(29)
        self.assertFalse(caller.gone)
        self.reactor.advance(2)
        self.assertTrue(caller.gone)

    def test_reads_again(self) -> None:
        """A client that reads again gets its answers."""
        caller = self.caller()
        caller.transport.producer.pauseProducing()
        stream = caller.begin()
        self.reactor.advance(0.02)
        self.assertIsNone(caller.said(stream))
        caller.transport.producer.resumeProducing()
        self.assertEqual(caller.said(stream).status, 200)

    def test_connections(self) -> None:
        """The number of connections is limited; the one that has been idle the longest is dropped."""
        callers = []
        for _ in range(5):
            callers.append(self.caller())
            self.reactor.advance(0.5)
        self.caller()
        self.assertEqual([each.gone for each in callers], [True, False, False, False, False])


class StopTests(AppleCase):
    """Shutdown."""

    mode = "relay"

    def test_stop(self) -> None:
        """Requests under way are answered, new ones are not accepted, and then the connection is closed."""
        caller, idle = self.caller(), self.caller()
        stream = caller.begin()
        self.reactor.advance(0.02)
        stopped = self.face.close()
        caller.pump(), idle.pump()
        self.assertTrue(caller.goaway and idle.goaway and idle.gone)
        self.assertFalse(caller.gone)
        idle.server.connectionLost()
        [leased] = self.world.lease()
        self.world.settle(leased, State.ACCEPTED, 200)
        self.assertEqual(caller.said(stream).status, 200)
        self.assertTrue(caller.gone)
        self.assertNoResult(stopped)
        caller.server.connectionLost()
        self.successResultOf(stopped)
        self.assertTrue(self.caller().gone)

    def test_grace(self) -> None:
        """A connection that does not finish in time is cut."""
        caller = self.caller()
        caller.begin()
        self.reactor.advance(0.02)
        stopped = self.face.close(3.0)
        self.reactor.advance(2.9)
        self.assertFalse(caller.gone)
        self.reactor.advance(0.2)
        self.assertTrue(caller.gone)
        caller.server.connectionLost()
        self.successResultOf(stopped)


class Collector(Protocol):
    """Collects the body of an answer."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred()
        self._body = b""

    def dataReceived(self, data: bytes) -> None:
        """Keep a piece."""
        self._body += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Give the body."""
        self.done.callback(self._body)


class HTTP1Tests(TestCase):
    """A client of HTTP/1.1, on the loopback interface."""

    def setUp(self) -> None:
        """Make a face."""
        world = FacesWorld(Path(self.mktemp()))
        self.addCleanup(world.stop)
        self.authority = world.authority
        self.certificate = world.server_certificate
        options = AppleSection(mode="queue")
        self.face = Apple(world.reactor, world.intake, world.apps, world.keys, world.log, options, world.limits)

    async def ask(self, factory: Any, scheme: str) -> tuple[int, bytes]:
        """Send a face a request in HTTP/1.1."""
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        trusted = BrowserLikePolicyForHTTPS(
            trustRootFromCertificates([TrustedCertificate.loadPEM(self.authority.ca_pem)])
        )
        agent = Agent(reactor, trusted, connectTimeout=10)
        address = f"{scheme}://localhost:{port.getHost().port}/3/device/{ANN}".encode()
        try:
            body = FileBodyProducer(io.BytesIO(PAYLOAD * 1_000))
            response = await agent.request(b"POST", address, bodyProducer=body)
            collector = Collector()
            response.deliverBody(collector)
            return response.code, await collector.done
        finally:
            await port.stopListening()
            await self.face.close()

    def test_plain(self) -> Deferred[None]:
        """In plain text it gets the whole answer, though it has not sent its whole body."""

        async def check() -> None:
            status, body = await self.ask(self.face.factory(), "http")
            self.assertEqual((status, b"HTTP/2" in body), (505, True))

        return Deferred.fromCoroutine(check())

    def test_encrypted(self) -> Deferred[None]:
        """The same over TLS, with HTTP/1.1 in ALPN, or without ALPN."""

        async def check() -> None:
            status, body = await self.ask(self.face.factory(self.certificate), "https")
            self.assertEqual((status, b"HTTP/2" in body), (505, True))

        return Deferred.fromCoroutine(check())


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
