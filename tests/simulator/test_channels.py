"""Tests for :mod:`txapns.simulator.channels`, with a peer that writes any request."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping

from tests.simulator.peers import AUTHORITY, ID, TOPIC, Field, HTTP2Case, HTTP2Peer
from txapns.credentials import Certificate
from txapns.devices.rules.broadcast import MAX_CHANNEL
from txapns.simulator.channels import MAX_CHANNELS
from txapns.simulator.requests import TOKEN_LIFE

__all__ = ["BroadcastTests", "ChannelCase", "ManagementTests"]

CHANNELS = f"/1/apps/{TOPIC}/channels"
ALL = f"/1/apps/{TOPIC}/all-channels"
BROADCAST = f"/4/broadcasts/apps/{TOPIC}"
UNKNOWN = "dW5rbm93bg=="
CREATE = '{"message-storage-policy":1,"push-type":"LiveActivity"}'


class ChannelCase(HTTP2Case):
    """A connection that authenticates with a provider token, and a valid request over it."""

    #: The server's port.
    PORT = 2198
    #: The good request.
    GOOD: Mapping[str, Field] = {":method": "GET", ":path": ALL}

    def setUp(self) -> None:
        """Make two channels, one of which stores nothing."""
        super().setUp()
        self.channels = self.simulator.channels
        self.plain, self.storing = (self.channels.make(TOPIC, policy) for policy in (0, 1))
        self.peer = self.connect(port=self.PORT)
        self.authorization = self.bearer()

    def answer(self, fields: Mapping[str, Field], peer: HTTP2Peer | None = None) -> tuple[dict[str, str], bytes]:
        """Send the valid request with these fields changed; returns the response's header fields and body."""
        peer = peer or self.peer
        common = {":method": "GET", ":scheme": "https", ":authority": "localhost"}
        stream = peer.send({**common, **self.GOOD, "authorization": self.authorization, **fields})
        self.simulator.flush()
        return peer.answers[stream], peer.bodies.get(stream, b"")

    def ask(self, peer: HTTP2Peer, fields: Mapping[str, Field]) -> tuple[int, str]:
        """Do so; returns status and reason."""
        headers, body = self.answer(fields, peer)
        status = int(headers[":status"])
        return status, json.loads(body)["reason"] if status >= 400 else ""

    def in_order(self, faults: list[tuple[dict[str, Field], int, str]]) -> None:
        """Check that each fault has its response, and that the first fault determines it."""
        together: dict[str, Field] = {}
        for fields, status, reason in reversed(faults):
            self.check(self.peer, fields, status, reason)
            together = {**together, **fields}
            self.check(self.peer, together, status, reason)


class BroadcastTests(ChannelCase):
    """Broadcasts, at the server of the provider API."""

    PORT = 2197
    GOOD: Mapping[str, Field] = {
        ":method": "POST",
        ":path": BROADCAST,
        "apns-push-type": "liveactivity",
        "apns-priority": "10",
        "apns-expiration": "0",
        "body": '{"aps":{"event":"update"}}',
    }

    def setUp(self) -> None:
        """The valid request is for the channel that stores nothing."""
        super().setUp()
        self.GOOD = {**self.GOOD, "apns-channel-id": self.plain}

    def test_order(self) -> None:
        """Each fault has its response; the earlier one wins."""
        self.in_order(
            [
                ({"apns-priority": ("5", "10")}, 400, "DuplicateHeaders"),
                ({"apns-request-id": ID[1:]}, 400, "BadMessageId"),
                ({":method": "GET"}, 405, "MethodNotAllowed"),
                ({"authorization": None}, 403, "MissingProviderToken"),
                ({"authorization": "bearer a.b.c"}, 403, "InvalidProviderToken"),
                ({"authorization": self.bearer(TOKEN_LIFE + 1)}, 403, "ExpiredProviderToken"),
                ({"apns-channel-id": None}, 400, "MissingChannelId"),
                ({"apns-channel-id": "no base64"}, 400, "BadChannelId"),
                ({"apns-channel-id": "A" * (MAX_CHANNEL + 4)}, 400, "BadChannelId"),
                ({"apns-push-type": None}, 400, "MissingPushType"),
                ({"apns-push-type": "alert"}, 400, "InvalidPushType"),
                ({":path": BROADCAST, "apns-channel-id": self.plain, "apns-expiration": "1"}, 400, "BadExpirationDate"),
                ({"apns-channel-id": self.storing, "apns-expiration": "1.5"}, 400, "BadExpirationDate"),
                ({"apns-expiration": None}, 400, "BadExpirationDate"),
                ({"apns-expiration": "0", "apns-priority": "7"}, 400, "BadPriority"),
                ({"apns-priority": None}, 400, "BadPriority"),
                ({":path": "/4/broadcasts/apps/com.other", "apns-priority": "1"}, 403, "TopicMismatch"),
                ({":path": f"{BROADCAST}.push-type.liveactivity"}, 400, "TopicDisallowed"),
                ({":path": BROADCAST, "apns-channel-id": UNKNOWN}, 400, "ChannelNotRegistered"),
                ({"apns-channel-id": self.storing, "body": ""}, 400, "PayloadEmpty"),
                ({"body": "x" * 5_121}, 413, "PayloadTooLarge"),
                ({"body": "[]"}, 400, "PayloadEmpty"),
            ]
        )

    def test_path(self) -> None:
        """Another path gets the response to a notification with a bad path."""
        self.check(self.peer, {":path": "/4/broadcasts/"}, 404, "BadPath")

    def test_far_expiration(self) -> None:
        """A number of any length is not 0."""
        self.check(self.peer, {"apns-expiration": "9" * 5_000}, 400, "BadExpirationDate")

    def test_not_enabled(self) -> None:
        """An app for which broadcasts are disabled has no channels."""
        self.channels.enabled = False
        self.check(self.peer, {"apns-channel-id": UNKNOWN}, 400, "FeatureNotEnabled")

    def test_accepted(self) -> None:
        """A broadcast without faults is accepted, up to 5,120 bytes, with an expiration if the channel stores it."""
        self.check(self.peer, {"body": '{"aps":"%s"}' % ("x" * 5_110), "apns-push-type": "Liveactivity"}, 200)
        self.check(self.peer, {"apns-channel-id": self.storing, "apns-expiration": "9999999999"}, 200)
        self.assertEqual(self.simulator.counters()["accepted"], 2)
        self.assertEqual({reception.protocol for reception in self.simulator.inbox.received}, {"broadcast"})

    def test_identifier(self) -> None:
        """The response has the identifier of the request, or a new one; never an ``apns-id``."""
        for fields in ({"apns-request-id": ID}, {}, {"apns-channel-id": UNKNOWN}):
            headers, _ = self.answer(fields)
            identifier = headers["apns-request-id"]
            self.assertEqual(identifier if "apns-request-id" not in fields else ID, str(uuid.UUID(identifier)))
            self.assertNotIn("apns-id", headers)
            self.assertNotIn("apns-unique-id", headers)

    def test_certificate(self) -> None:
        """A certificate is sufficient for its own app; so is one for several topics."""
        for topics in (None, [TOPIC, f"{TOPIC}.voip"]):
            peer = self.connect(Certificate.from_pem(AUTHORITY.client_pem(TOPIC, topics=topics)))
            self.check(peer, {"authorization": None}, 200)
            self.check(peer, {"authorization": None, ":path": "/4/broadcasts/apps/com.other"}, 403, "TopicMismatch")


class ManagementTests(ChannelCase):
    """The server that manages channels."""

    def test_order(self) -> None:
        """Each fault of a new channel has its response; the earlier one wins."""
        self.channels.limit = 2
        self.GOOD = {":method": "POST", ":path": CHANNELS, "body": CREATE}
        self.in_order(
            [
                ({"apns-request-id": (ID, ID)}, 400, "DuplicateHeaders"),
                ({"apns-request-id": ID[1:]}, 400, "BadMessageId"),
                ({":method": "PUT"}, 405, "MethodNotAllowed"),
                ({":path": "/1/apps"}, 404, "BadPath"),
                ({":method": "POST", ":path": ALL}, 404, "BadPath"),
                ({":path": CHANNELS, "authorization": None}, 403, "MissingProviderToken"),
                ({"authorization": "bearer a.b.c"}, 403, "InvalidProviderToken"),
                ({"authorization": self.bearer(TOKEN_LIFE + 1)}, 403, "ExpiredProviderToken"),
                ({":path": "/1/apps/com.other/channels", "authorization": self.authorization}, 403, "TopicMismatch"),
                ({":path": f"/1/apps/{TOPIC}.voip/channels"}, 400, "TopicDisallowed"),
                ({":path": CHANNELS, "body": ""}, 400, "PayloadEmpty"),
                ({"body": "{"}, 400, "BadRequestPayload"),
                ({"body": "[]"}, 400, "BadRequestPayload"),
                ({"body": '{"name":"x"}'}, 400, "BadRequestParams"),
                ({"body": '{"push-type":"LiveActivity"}'}, 400, "MissingChannelQueueSize"),
                ({"body": '{"message-storage-policy":2}'}, 400, "MissingChannelQueueSize"),
                ({"body": '{"message-storage-policy":true}'}, 400, "MissingChannelQueueSize"),
                ({"body": '{"message-storage-policy":1}'}, 400, "MissingPushType"),
                ({"body": '{"message-storage-policy":1,"push-type":"liveactivity"}'}, 400, "InvalidPushType"),
                ({"body": CREATE}, 400, "CannotCreateChannelConfig"),
            ]
        )

    def test_not_enabled(self) -> None:
        """If broadcasts are disabled for the app, that is the response, before any further check."""
        self.channels.enabled = False
        self.check(self.peer, {":method": "POST", ":path": CHANNELS, "body": "{"}, 400, "FeatureNotEnabled")
        self.check(self.peer, {":path": f"/1/apps/{TOPIC}.voip/channels"}, 400, "TopicDisallowed")
        self.check(self.peer, {}, 400, "FeatureNotEnabled")

    def test_create(self) -> None:
        """The response to a new channel is 201, with its identifier in a header field and no body."""
        headers, body = self.answer({":method": "POST", ":path": CHANNELS, "body": CREATE, "apns-request-id": ID})
        made = headers["apns-channel-id"]
        self.assertEqual(headers, {":status": "201", "apns-request-id": ID, "apns-channel-id": made})
        self.assertEqual((body, self.channels.policy(TOPIC, made)), (b"", 1))

    def test_read(self) -> None:
        """The response to a request about a channel is what it was made with."""
        for channel_id, policy in ((self.plain, 0), (self.storing, 1)):
            headers, body = self.answer({":path": CHANNELS, "apns-channel-id": channel_id})
            self.assertEqual((headers[":status"], headers["content-type"]), ("200", "application/json"))
            self.assertEqual(json.loads(body), {"message-storage-policy": policy, "push-type": "LiveActivity"})

    def test_delete(self) -> None:
        """The response to a deletion is 204, and then the channel is gone."""
        headers, body = self.answer({":method": "DELETE", ":path": CHANNELS, "apns-channel-id": self.plain})
        self.assertEqual((headers[":status"], body, set(headers)), ("204", b"", {":status", "apns-request-id"}))
        self.assertEqual(self.channels.of(TOPIC), [self.storing])

    def test_list(self) -> None:
        """The list has the identifiers of the app's channels only, and may be empty."""
        self.channels.make(f"{TOPIC}.other", 0)
        _, body = self.answer({})
        self.assertEqual(json.loads(body), {"channels": [self.plain, self.storing]})
        _, body = self.answer({":path": f"/1/apps/{TOPIC}.new/all-channels"})
        self.assertEqual(json.loads(body), {"channels": []})

    def test_unknown(self) -> None:
        """A channel that is read or deleted must be named correctly, and must exist."""
        for method in ("GET", "DELETE"):
            for channel_id, reason in (
                (None, "MissingChannelId"),
                ("=", "BadChannelId"),
                (UNKNOWN, "ChannelNotRegistered"),
            ):
                fields: dict[str, Field] = {":method": method, ":path": CHANNELS, "apns-channel-id": channel_id}
                self.check(self.peer, fields, 400, reason)

    def test_nothing_recorded(self) -> None:
        """A notification's path is a bad path here."""
        self.answer({})
        self.assertEqual((self.simulator.inbox.received, self.simulator.counters()["received"]), ([], 0))

    def test_limit(self) -> None:
        """An app may have 10,000 channels."""
        self.assertEqual(self.channels.limit, MAX_CHANNELS)
        self.assertEqual(MAX_CHANNELS, 10_000)

    def test_certificate(self) -> None:
        """A certificate is sufficient, and one of the other environment is refused."""
        peer = self.connect(Certificate.from_pem(AUTHORITY.client_pem(TOPIC)), port=self.PORT)
        self.check(peer, {"authorization": None}, 200)
        wrong = self.connect(Certificate.from_pem(AUTHORITY.client_pem(environments=["sandbox"])), port=self.PORT)
        self.assertEqual(wrong.goaways, [b'{"reason":"BadCertificateEnvironment"}'])
