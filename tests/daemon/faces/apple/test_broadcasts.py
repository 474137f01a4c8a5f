"""Tests for :mod:`txapns.daemon.faces.apple.broadcasts`."""

from __future__ import annotations

from tests.daemon.channels_world import APP, UPDATE
from tests.daemon.faces.apple.channels_case import BROADCAST, FIELDS, ChannelsCase
from tests.daemon.faces.apple.face_case import ANN
from txapns.daemon.intake import MAX_HEADER
from txapns.daemon.values import Environment, Side, State

__all__ = ["QueueTests", "RelayTests"]

ID = "0f0e0d0c-0b0a-4909-8807-060504030201"


class QueueTests(ChannelsCase):
    """Broadcasts that are answered when they are on the disk."""

    def test_accepted(self) -> None:
        """The answer has the id in Apple's field for it, and the broadcast is stored as it was sent."""
        said = self.cast({"apns-request-id": ID.upper(), "apns-collapse-id": "x", "apns-id": "any"})
        self.assertEqual((said.status, said.body, said.headers), (200, b"", {"apns-request-id": ID}))
        other = self.cast({"apns-push-type": "LiveActivity", "apns-channel-id": "////"})
        leased = self.world.lease()
        self.assertEqual([each.apns_id for each in leased], [ID, other.headers["apns-request-id"]])
        self.assertEqual([each.content.channel for each in leased], ["AbCd", "////"])
        self.assertEqual((leased[0].token, leased[0].payload), (b"", UPDATE))
        fields = {**FIELDS, "apns-topic": APP, "apns-channel-id": "AbCd"}
        self.assertEqual(dict(leased[0].content.headers), fields)

    def test_among_others(self) -> None:
        """One that comes together with notifications for devices, with the same header fields, is no such."""
        fields = {**FIELDS, "apns-topic": APP, "apns-channel-id": "AbCd"}
        with self.caller.together():
            streams = [
                self.caller.begin(fields, path=path, body=UPDATE)
                for path in (f"/3/device/{ANN}", BROADCAST, f"/3/device/{ANN}", f"/1/apps/{APP}")
            ]
        statuses = [self.answer(stream).status for stream in streams]
        self.assertEqual(statuses, [200, 200, 200, 404])
        self.assertEqual(sorted(len(each.token) for each in self.world.lease()), [0, 32, 32])

    def test_side(self) -> None:
        """A broadcast of an app with two sides is for that whose host name the caller connected to."""
        app = self.world.apps.get("chess")
        side = Side(app.gateway, app.credential)
        self.world.add("chess", app.credential, gateway=app.gateway, topic=app.topic, sandbox=side)
        for authority in ("api.push.apple.com", "api.sandbox.push.apple.com"):
            self.assertEqual(self.cast({":authority": authority}).status, 200)
        self.assertEqual([each.content.environment for each in self.world.lease()], list(Environment))

    def test_refused(self) -> None:
        """What cannot be sent, or what Apple requires, is refused in Apple's words and in its order."""
        cases = [
            ((400, "MissingChannelId"), {"apns-channel-id": "-", "apns-push-type": "-"}, BROADCAST, UPDATE),
            ((400, "BadChannelId"), {"apns-channel-id": "a b"}, BROADCAST, UPDATE),
            ((400, "BadChannelId"), {"apns-channel-id": "a" * (MAX_HEADER + 1)}, BROADCAST, UPDATE),
            ((400, "MissingPushType"), {"apns-push-type": "-", "apns-expiration": "-"}, BROADCAST, UPDATE),
            ((400, "BadExpirationDate"), {"apns-expiration": "-"}, BROADCAST, UPDATE),
            ((400, "BadExpirationDate"), {"apns-expiration": "soon"}, BROADCAST, UPDATE),
            ((400, "BadPriority"), {"apns-priority": "-"}, BROADCAST, UPDATE),
            ((403, "TopicMismatch"), {}, "/4/broadcasts/apps/com.example.news", UPDATE),
            ((403, "TopicMismatch"), {}, "/4/broadcasts/apps/", b""),
            ((400, "TopicDisallowed"), {}, f"{BROADCAST}.push-type.liveactivity", b""),
            ((400, "PayloadEmpty"), {}, BROADCAST, b""),
            ((400, "PayloadEmpty"), {}, BROADCAST, b"[]"),
            ((400, "BadMessageId"), {"apns-request-id": "1"}, BROADCAST, UPDATE),
        ]
        for expected, headers, path, body in cases:
            said = self.cast(headers, path, body=body)
            self.assertEqual(said.brief, expected, headers)
            self.assertEqual((len(said.headers["apns-request-id"]), "apns-id" in said.headers), (36, False))
        self.assertEqual(self.cast({}, method="GET", body=b"").brief, (405, "MethodNotAllowed"))
        self.assertEqual(self.cast({}, body=b"x" * 20_000).brief, (413, "PayloadTooLarge"))
        self.assertEqual(self.world.lease(), [])

    def test_not_authenticated(self) -> None:
        """Who shows no credential is told so under the id of the broadcast."""
        said = self.cast({"apns-request-id": ID}, key=None)
        self.assertEqual((said.brief, said.headers["apns-request-id"]), ((403, "MissingProviderToken"), ID))

    def test_gateway(self) -> None:
        """An app whose gateway speaks the binary protocol has no broadcasts."""
        said = self.cast({}, f"{BROADCAST}.old", key="all")
        self.assertEqual(said.brief, (400, "FeatureNotEnabled"))

    def test_together(self) -> None:
        """Broadcasts and notifications that arrive together are stored together, and each gets its own answer."""
        with self.caller.together():
            device = self.caller.begin()
            good = self.begin(BROADCAST, {**FIELDS, "apns-channel-id": "AbCd"}, body=UPDATE)
            bad = self.begin(BROADCAST, {**FIELDS, "apns-channel-id": "AbCd"}, body=b"[]")
        self.world.reactor.advance(0.1)
        self.assertEqual([self.answer(each).status for each in (device, good, bad)], [200, 200, 400])
        self.assertEqual(len(self.world.lease()), 2)


class RelayTests(ChannelsCase):
    """Broadcasts that are answered when Apple has answered."""

    mode = "relay"

    def test_answers(self) -> None:
        """The answer is Apple's own, under the id of the broadcast."""
        for state, status, reason in (
            (State.ACCEPTED, 200, ""),
            (State.REJECTED, 400, "ChannelNotRegistered"),
            (State.REJECTED, 400, "BadExpirationDate"),
        ):
            stream = self.begin(BROADCAST, {**FIELDS, "apns-channel-id": "AbCd", "apns-request-id": ID}, body=UPDATE)
            self.world.reactor.advance(0.05)
            self.assertIsNone(self.caller.said(stream))
            [leased] = self.world.lease()
            self.world.settle(leased, state, status, reason)
            said = self.answer(stream)
            self.assertEqual((said.brief, said.headers["apns-request-id"]), ((status, reason), ID))

    def test_later(self) -> None:
        """What is for later is answered when it is on the disk, and kept until then."""
        date = self.world.reactor.wall.now()
        self.assertEqual(self.cast({"txapns-not-before": f"{date + 60:.0f}"}).status, 200)
        self.assertEqual(self.world.lease(), [])
        self.world.reactor.advance(62.0)
        self.assertEqual(len(self.world.lease()), 1)
        self.assertEqual(self.cast({"txapns-not-before": "soon"}).brief, (400, "BadNotBefore"))

    def test_too_slow(self) -> None:
        """If Apple does not answer in time, it is 503, and the broadcast stays in the queue."""
        stream = self.begin(BROADCAST, {**FIELDS, "apns-channel-id": "AbCd"}, body=UPDATE)
        said = self.answer(stream, 21.0)
        self.assertEqual((said.brief, "retry-after" in said.headers), ((503, "ServiceUnavailable"), True))
        self.assertEqual(len(self.world.lease()), 1)
