"""Tests for :mod:`txapns.channels` and of broadcasts: what a program sees, over the whole stack, in memory."""

from __future__ import annotations

import json
import uuid
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txapns import Accepted, APNSClient, Channel, Gateway, Notification, Rejection, Session, StoragePolicy
from txapns._session.channels import _Asking
from txapns.channels import ChannelRequest, broadcast_request
from txapns.delivery import DeliveryListener
from txapns.errors import (
    APNSError,
    ClientClosed,
    ConnectFailed,
    InvalidChannel,
    InvalidGateway,
    InvalidNotification,
    OutcomeUnknown,
    QueueFull,
    RequestRejected,
    WireError,
)
from txapns.reasons import Action
from txapns.simulator import Authority, Response
from txapns.testing import MemorySimulator

__all__ = ["BroadcastTests", "ChannelsTests", "EndTests", "RequestTests"]

AUTHORITY = Authority()
APP = "com.example.app"
UPDATE = Notification.live_activity_update(APP, {"score": 1}, timestamp=0)
ID = "123e4567-e89b-12d3-a456-426655440000"
UNKNOWN = "dW5rbm93bg=="


class ChannelsCase(SynchronousTestCase):
    """A simulator, and a client of it."""

    def setUp(self) -> None:
        """Make them."""
        self.simulator = MemorySimulator(authority=AUTHORITY)
        self.client = self.simulator.client()
        self.channels = self.client.channels

    def answer(self, response: Response | None) -> None:
        """Have the server that manages channels give this answer, or none, on connections made from now on."""
        self.simulator.channels_fault = lambda server, request, _: response

    def error(self, kind: type[APNSError], deferred: Deferred[Any]) -> Any:
        """Have it fail with an error of a kind; gives the error."""
        return self.assertRaises(kind, self.simulator.result, deferred)


class ChannelsTests(ChannelsCase):
    """``client.channels``."""

    def test_life(self) -> None:
        """A channel is made, found, listed and deleted, with either credential."""
        for credential in (None, self.simulator.provider_token()):
            channels = self.simulator.client(credential=credential).channels
            made = self.simulator.result(channels.create())
            self.assertEqual(made, Channel(made.channel_id, StoragePolicy.NO_MESSAGE_STORED, "LiveActivity"))
            other = self.simulator.result(channels.create(StoragePolicy.MOST_RECENT_MESSAGE_STORED))
            self.assertEqual(self.simulator.result(channels.read(other.channel_id)), other)
            self.assertEqual(other.storage_policy, 1)
            self.assertEqual(self.simulator.result(channels.list()), [made.channel_id, other.channel_id])
            for channel in (made, other):
                self.assertIsNone(self.simulator.result(channels.delete(channel.channel_id)))
            self.assertEqual(self.simulator.result(channels.list()), [])

    def test_all_that_an_app_may_have(self) -> None:
        """Ten thousand channels are listed whole."""
        made = [self.simulator.channels.make(APP, 0) for _ in range(10_000)]
        self.assertEqual(self.simulator.result(self.channels.list()), made)
        error = self.error(RequestRejected, self.channels.create())
        self.assertEqual(error.reason, "CannotCreateChannelConfig")

    def test_refused(self) -> None:
        """A rejection is an exception with status, reason and identifier, and a sentence that says what to do."""
        for asking in (self.channels.read(UNKNOWN), self.channels.delete(UNKNOWN)):
            error = self.error(RequestRejected, asking)
            self.assertEqual((error.status, error.reason), (400, "ChannelNotRegistered"))
            self.assertEqual(str(error), "ChannelNotRegistered: The channel no longer exists; delete it.")
            self.assertEqual(str(uuid.UUID(error.request_id)), error.request_id)

    def test_each_refusal(self) -> None:
        """What is not looked at here is refused there, in its own words."""
        self.simulator.channels.limit = 0
        refusals: list[tuple[str, Deferred[Any]]] = [
            ("MissingChannelQueueSize", self.channels.create(7)),
            ("InvalidPushType", self.channels.create(push_type="Alert")),
            ("CannotCreateChannelConfig", self.channels.create()),
            ("BadChannelId", self.channels.read("=")),
            ("TopicMismatch", self.channels.list(bundle_id="com.example.other")),
            ("TopicMismatch", self.channels.list(bundle_id="../ä")),
            ("TopicDisallowed", self.channels.list(bundle_id=f"{APP}.voip")),
        ]
        for reason, asking in refusals:
            self.assertEqual(self.error(RequestRejected, asking).reason, reason)
        self.simulator.channels.enabled = False
        self.assertEqual(self.error(RequestRejected, self.channels.list()).reason, "FeatureNotEnabled")

    def test_unlisted_reason(self) -> None:
        """An undocumented reason, or none at all, is passed on unchanged."""
        self.answer(Response(418, "Teapot"))
        error = self.error(RequestRejected, self.channels.list())
        self.assertEqual((error.status, error.reason), (418, "Teapot"))
        self.assertIn("'Teapot'", str(error))

    def test_temporary_trouble(self) -> None:
        """Nothing is asked again by itself: whether that is wise is for the program to say."""
        asked = []
        self.simulator.channels_fault = lambda *arguments: asked.append(1) or Response(503, "ServiceUnavailable")
        error = self.error(RequestRejected, self.channels.create())
        self.assertEqual((error.status, len(asked)), (503, 1))

    def test_another_connection(self) -> None:
        """Where it is the connection that was refused, another is asked."""
        responses = [Response(503, "Shutdown")]
        self.simulator.channels_fault = lambda server, request, response: responses.pop() if responses else response
        self.assertIsInstance(self.simulator.result(self.channels.create()), Channel)
        self.assertEqual(responses, [])

    def test_not_processed(self) -> None:
        """What the server provably did not process is asked again."""
        refused = []

        def refuse(server: Any, request: Any, response: Response) -> Response | None:
            if refused:
                return response
            refused.append(request)
            server.requests.reset(request.stream, 7)
            return None

        self.simulator.channels_fault = refuse
        self.assertEqual(self.simulator.result(self.channels.list()), [])
        self.assertEqual(len(refused), 1)

    def test_answers_that_are_none(self) -> None:
        """An answer without its content is the server's fault, and reported as such."""
        for content in (b"", b"[]", b"{", b'{"channels":{}}', b'{"channels":[1]}', b'{"push-type":"LiveActivity"}'):
            self.setUp()
            self.answer(Response(200, content=content))
            self.error(WireError, self.channels.list())
            self.error(WireError, self.channels.read(UNKNOWN))
        self.setUp()
        self.answer(Response(201))
        self.error(WireError, self.channels.create())

    def test_list_without_end(self) -> None:
        """A list that is longer than any is cut off, and no answer."""
        self.answer(Response(200, content=json.dumps({"channels": ["x" * 100] * 50_000}).encode()))
        self.error(WireError, self.channels.list())

    def test_bundle_id(self) -> None:
        """It is the client's topic, without the suffix for Live Activities, or the certificate's, or given."""
        made = self.simulator.channels.make(APP, 0)
        token = self.simulator.provider_token()
        for client in (
            self.simulator.client(topic=f"{APP}.push-type.liveactivity"),
            self.simulator.client(topic=None),
            APNSClient(self.simulator.reactor, token, self.simulator.gateway(), topic=APP),
        ):
            self.assertEqual(self.simulator.result(client.channels.list()), [made])
        client = self.simulator.client(credential=token, topic=None)
        self.assertEqual(self.simulator.result(client.channels.list(bundle_id=APP)), [made])
        self.failureResultOf(client.channels.list(), InvalidChannel)

    def test_invalid(self) -> None:
        """What no request can carry fails at once, and opens no connection."""
        unfit: list[Any] = ["", " ", "a b", "ä", "a\n", None, 7]
        for channel_id in unfit:
            self.failureResultOf(self.channels.read(channel_id), InvalidChannel)
            self.failureResultOf(self.channels.delete(channel_id), InvalidChannel)
            self.failureResultOf(self.client.broadcast(UPDATE, channel_id), InvalidChannel)
        bundle: Any
        for bundle in ("\ud800", 7):
            self.failureResultOf(self.channels.list(bundle_id=bundle), InvalidChannel)
        policy: Any = "1"
        self.failureResultOf(self.channels.create(policy), InvalidNotification)
        self.assertEqual(self.simulator.reactor.attempts, 0)

    def test_no_management(self) -> None:
        """A gateway without a server that manages channels says so when it is asked, and can do all else."""
        trust_root = AUTHORITY.ca_pem
        gateway = Gateway.http2("127.0.0.1", 2197, trust_root=trust_root)
        client = self.simulator.client(gateway)
        for asking in (client.channels.create(), client.channels.list(), client.channels.read(UNKNOWN)):
            self.failureResultOf(asking, InvalidGateway)
        channel_id = self.simulator.channels.make(APP, 0)
        self.assertIsInstance(self.simulator.result(client.broadcast(UPDATE, channel_id)), Accepted)
        self.failureResultOf(self.simulator.client("binary").channels.list(), InvalidGateway)


class BroadcastTests(ChannelsCase):
    """``client.broadcast``."""

    def setUp(self) -> None:
        """There are two channels, of which one stores what it gets."""
        super().setUp()
        self.plain = self.simulator.channels.make(APP, 0)
        self.storing = self.simulator.channels.make(APP, 1)

    def test_accepted(self) -> None:
        """It arrives with the fields that Apple requires, by default."""
        outcome = self.simulator.result(self.client.broadcast(UPDATE, self.plain))
        assert isinstance(outcome, Accepted)
        self.assertEqual((outcome.identifier, outcome.token, outcome.unique_id), (self.plain, "", None))
        [reception] = self.simulator.inbox.received
        self.assertEqual((reception.protocol, reception.payload, reception.reason), ("broadcast", UPDATE.body, None))
        headers = {name: value for name, value in reception.headers.items() if not name.startswith(":")}
        expected = {"apns-channel-id": self.plain, "apns-push-type": "liveactivity"}
        self.assertEqual(headers, {**expected, "apns-priority": "10", "apns-expiration": "0"})
        self.assertEqual(reception.headers[":path"], f"/4/broadcasts/apps/{APP}")

    def test_fields(self) -> None:
        """Those of the notification go along."""
        update = Notification.live_activity_end(
            APP, priority=5, expiration=9_999_999_999, apns_id=ID, collapse_id="x", dismissal_date=0
        )
        outcome = self.simulator.result(self.client.broadcast(update, self.storing))
        assert isinstance(outcome, Accepted)
        self.assertEqual(outcome.apns_id, ID)
        [reception] = self.simulator.inbox.received
        found = {name: reception.headers.get(f"apns-{name}") for name in ("priority", "expiration", "request-id")}
        self.assertEqual(found, {"priority": "5", "expiration": "9999999999", "request-id": ID})
        self.assertTrue({"apns-collapse-id", "apns-id", "apns-topic"}.isdisjoint(reception.headers))

    def test_rejected(self) -> None:
        """A rejection is a value, as it is for a device."""
        outcome = self.simulator.result(self.client.broadcast(UPDATE, UNKNOWN))
        assert isinstance(outcome, Rejection)
        self.assertEqual((outcome.identifier, outcome.status, outcome.reason), (UNKNOWN, 400, "ChannelNotRegistered"))
        self.assertEqual((outcome.action, outcome.dead), (Action.DROP, False))
        self.assertIsNotNone(outcome.apns_id)

    def test_each_refusal(self) -> None:
        """What is not looked at here is refused there, in its own words."""
        long = Notification.live_activity_update(APP, {"text": "x" * 5_120})
        for channel_id, notification, reason in (
            ("=", UPDATE, "BadChannelId"),
            (self.plain, Notification(alert="Hi"), "InvalidPushType"),
            (self.plain, Notification.live_activity_update(APP, {}, expiration=1), "BadExpirationDate"),
            (self.plain, Notification.live_activity_update(APP, {}, priority=7), "BadPriority"),
            (self.plain, Notification.live_activity_update("com.example.other", {}), "TopicMismatch"),
            (self.plain, Notification.live_activity_update(f"{APP}.voip", {}), "TopicDisallowed"),
            (self.plain, long, "PayloadTooLarge"),
        ):
            outcome = self.simulator.result(self.client.broadcast(notification, channel_id))
            assert isinstance(outcome, Rejection)
            self.assertEqual(outcome.reason, reason)

    def test_beside_notifications(self) -> None:
        """It goes over the connection of the notifications, and does them no harm."""
        sending = self.client.send(Notification(alert="Hi"), ["aa" * 32] * 3)
        outcome = self.client.broadcast(UPDATE, self.plain)
        self.assertEqual(self.simulator.result(sending).accepted, 3)
        self.assertIsInstance(self.simulator.result(outcome), Accepted)
        self.assertEqual(self.simulator.reactor.attempts, 1)

    def test_topics(self) -> None:
        """A notification that tells no app is for the client's, or the certificate's."""
        update = Notification(payload={"aps": {"event": "update"}})
        for client in (self.client, self.simulator.client(topic=None)):
            self.assertIsInstance(self.simulator.result(client.broadcast(update, self.plain)), Accepted)
        client = self.simulator.client(credential=self.simulator.provider_token(), topic=None)
        self.failureResultOf(client.broadcast(update, self.plain), InvalidChannel)

    def test_temporary_trouble(self) -> None:
        """It is sent again after an answer that asks to wait, like a notification."""
        answers = [Response(503, "ServiceUnavailable"), Response(429, "TooManyRequests")]
        self.simulator.http2_fault = lambda server, request, response: answers.pop() if answers else response
        self.assertIsInstance(self.simulator.result(self.client.broadcast(UPDATE, self.plain)), Accepted)
        self.assertEqual(len(self.simulator.inbox.received), 3)

    def test_too_many(self) -> None:
        """Those that wait are bounded, as notifications are, and so are those that ask about channels."""
        client = self.simulator.client(max_queued=1)
        first = client.broadcast(UPDATE, self.plain)
        self.failureResultOf(client.broadcast(UPDATE, self.plain), QueueFull)
        asking = client.channels.list()
        self.failureResultOf(client.channels.list(), QueueFull)
        self.assertIsInstance(self.simulator.result(first), Accepted)
        self.assertEqual(len(self.simulator.result(asking)), 2)

    def test_no_answer(self) -> None:
        """One that went out and got no answer is neither yes nor no."""
        self.simulator.http2_fault = lambda server, request, response: server.abort()
        self.error(OutcomeUnknown, self.client.broadcast(UPDATE, self.plain))

    def test_not_asked(self) -> None:
        """One that was never asked is an exception."""
        self.failureResultOf(self.simulator.client("binary").broadcast(UPDATE, self.plain), InvalidGateway)
        wrong: Any = "Hello"
        self.failureResultOf(self.client.broadcast(wrong, self.plain), TypeError)
        self.simulator.result(self.client.close())
        self.failureResultOf(self.client.broadcast(UPDATE, self.plain), ClientClosed)


class EndTests(ChannelsCase):
    """Connections, and how they end."""

    def test_no_connection_before_it_is_needed(self) -> None:
        """A client that never asks about channels has no connection for them, and nothing to close."""
        self.simulator.result(self.client.send(Notification(alert="Hi"), ["aa" * 32]))
        self.assertEqual(self.simulator.reactor.attempts, 1)
        self.simulator.result(self.client.close())
        self.failureResultOf(self.channels.list(), ClientClosed)

    def test_idle(self) -> None:
        """The connection is shared by what is asked in time, and closed afterwards, even where others never are."""
        for idle_timeout in (600.0, None):
            self.setUp()
            client = self.simulator.client(idle_timeout=idle_timeout)
            for _ in range(3):
                self.simulator.result(client.channels.list())
            self.assertEqual(self.simulator.reactor.attempts, 1)
            self.assertFalse(client.channels.busy)
            self.simulator.advance(700)
            [server] = self.simulator.sessions
            assert server.transport is not None
            self.assertTrue(server.transport.disconnected)
            self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])
            self.simulator.result(client.channels.list())
            self.assertEqual(self.simulator.reactor.attempts, 2)

    def test_close_while_answer_is_awaited(self) -> None:
        """Closing lets what was asked be answered, and leaves nothing behind."""
        self.simulator.delay = 5.0
        asking = self.channels.create()
        self.simulator.advance(1)
        self.assertTrue(self.channels.busy)
        closing = self.client.close()
        self.assertNoResult(closing)
        self.simulator.result(closing)
        self.assertIsInstance(self.successResultOf(asking), Channel)
        self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])

    def test_close_while_waiting(self) -> None:
        """Closing tells what was not asked yet."""
        asking = self.channels.create()
        self.simulator.result(self.client.close())
        self.failureResultOf(asking, ClientClosed)
        self.assertEqual((self.simulator.channels.of(APP), self.simulator.reactor.getDelayedCalls()), ([], []))

    def test_close_of_a_silent_server(self) -> None:
        """A server that never answers holds up nothing for longer than the timeout and a few seconds."""
        self.answer(None)
        asking = self.channels.create()
        self.simulator.flush()
        closing = self.client.close()
        self.simulator.advance(30 + 10)
        self.successResultOf(closing)
        self.failureResultOf(asking, OutcomeUnknown)

    def test_aborted(self) -> None:
        """Nor does aborting the client wait for the answer."""
        self.answer(None)
        asking = self.channels.create()
        self.simulator.flush()
        aborting = self.client.abort()
        self.simulator.flush()
        self.successResultOf(aborting)
        self.failureResultOf(asking, OutcomeUnknown)

    def test_cut(self) -> None:
        """When the connection breaks, the outcome of a request is unknown."""
        self.simulator.channels_fault = lambda server, request, response: server.abort()
        error = self.error(OutcomeUnknown, self.channels.create())
        self.assertIsNotNone(error.__cause__)

    def test_unreachable(self) -> None:
        """A server that is not there was not asked; notifications do not mind."""
        del self.simulator.reactor.servers[2198]
        self.error(ConnectFailed, self.channels.create())
        batch = self.simulator.result(self.client.send(Notification(alert="Hi"), ["aa" * 32]))
        self.assertEqual((batch.accepted, self.client.status().last_error), (1, None))

    def test_refused_credential(self) -> None:
        """A credential that is not accepted is reported, and tried again the next time."""
        self.answer(Response(403, "InvalidProviderToken"))
        error = self.error(RequestRejected, self.channels.list())
        self.assertEqual(error.status, 403)

    def test_cancel(self) -> None:
        """Cancelling what waits asks nothing; cancelling what was asked hears nothing."""
        asking = self.channels.create()
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.simulator.advance(5)
        self.assertEqual(self.simulator.channels.of(APP), [])
        self.simulator.delay = 5.0
        channels = self.simulator.client().channels
        asking = channels.create()
        self.simulator.advance(1)
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.simulator.advance(20)
        self.assertEqual((channels.busy, len(self.simulator.channels.of(APP))), (False, 1))

    def test_session(self) -> None:
        """A session does not close a client that is asking, or has just asked."""
        session = Session(self.simulator.reactor, idle_timeout=60.0)
        client = session.client(self.simulator.certificate(), self.simulator.gateway(), topic=APP)
        self.simulator.advance(50)
        self.simulator.result(client.channels.list())
        self.assertEqual(client.last_used, self.simulator.reactor.seconds())
        self.simulator.advance(30)
        self.assertEqual(self.simulator.result(client.channels.list()), [])
        self.simulator.advance(200)
        self.failureResultOf(client.channels.list(), ClientClosed)
        self.simulator.result(session.close())


class RequestTests(SynchronousTestCase):
    """Requests as values."""

    def test_interface(self) -> None:
        """The caller receives the outcome."""
        simulator = MemorySimulator(authority=AUTHORITY)
        request = ChannelRequest(b"GET", b"/1/apps/com.example.chess/all-channels", (), b"")
        verifyObject(DeliveryListener, _Asking(simulator.client()._pool, None, "", b"", request))

    def test_repr(self) -> None:
        """A payload is for the user only, so its length is all that is shown."""
        request = broadcast_request(UPDATE, UNKNOWN, None)
        self.assertNotIn("score", repr(request))
        self.assertEqual(request, ChannelRequest(b"POST", request.path, request.headers(), UPDATE.body))

    @given(st.text(min_size=1, max_size=40))
    def test_any_bundle_id(self, bundle_id: str) -> None:
        """Whatever it is, it is one segment of the path, or cannot stand there at all."""
        try:
            request = broadcast_request(Notification(payload={}), UNKNOWN, bundle_id)
        except InvalidChannel:
            return
        segment = request.path.removeprefix(b"/4/broadcasts/apps/")
        self.assertRegex(segment.decode("ascii"), r"\A[A-Za-z0-9._~%-]*\Z")
