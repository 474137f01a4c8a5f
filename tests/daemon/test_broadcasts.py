"""Tests for :mod:`txapns.daemon.broadcasts`, and of how the intake takes broadcasts."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.test_intake import PAYLOAD, TOKENS, IntakeCase
from txapns.credentials import Certificate, Credential, ProviderToken
from txapns.daemon.broadcasts import broadcast_draft, check_broadcast, check_gateway, side_of
from txapns.daemon.errors import Malformed, NotSupported, RequestRefused
from txapns.daemon.intake import MAX_HEADER
from txapns.daemon.values import App, Draft, Environment, Side
from txapns.gateway import Gateway
from txapns.simulator import Authority

__all__ = ["CheckTests", "DraftTests", "IntakeTests"]

AUTHORITY = Authority()
CHANNEL = "dHN0LXNyY2gtY2hubA=="
ID = "0f0e0d0c-0b0a-4909-8807-060504030201"


def app(gateway: str = "sandbox", topic: str | None = None, credential: Credential | None = None) -> App:
    """Make an app, by default with a signing key."""
    token = ProviderToken.from_p8(AUTHORITY.p8, AUTHORITY.key_id, AUTHORITY.team_id)
    return App("chess", Gateway.parse(gateway), credential or token, topic)


class DraftTests(SynchronousTestCase):
    """Making drafts."""

    def test_draft(self) -> None:
        """It has the channel among its header fields, no token, and the caller's id if there is one."""
        draft = broadcast_draft(PAYLOAD, {"apns-priority": "5"}, CHANNEL)
        self.assertEqual(draft, Draft(PAYLOAD, {"apns-priority": "5", "apns-channel-id": CHANNEL}, [b""]))
        self.assertEqual(broadcast_draft(PAYLOAD, {}, CHANNEL, ID).apns_ids, (ID,))


class CheckTests(SynchronousTestCase):
    """What a broadcast must have."""

    def refusal(self, app: App, draft: Draft) -> RequestRefused:
        """Check a broadcast that is refused."""
        return self.assertRaises(RequestRefused, check_broadcast, app, draft, "broadcasts[0]")  # type: ignore[return-value]

    def test_gateway(self) -> None:
        """The binary protocol has no broadcasts."""
        binary = app("binary:host=localhost", "com.example.app")
        self.assertRaises(NotSupported, check_gateway, binary)
        self.assertIsInstance(self.refusal(binary, broadcast_draft(PAYLOAD, {}, CHANNEL)), NotSupported)
        check_gateway(app())

    def test_bundle_id(self) -> None:
        """It is the topic that the broadcast names, that of the app or that of the certificate; one there must be."""
        draft = broadcast_draft(PAYLOAD, {}, CHANNEL)
        refusal = self.refusal(app(), draft)
        self.assertEqual((type(refusal), refusal.path), (Malformed, "broadcasts[0].headers.apns-topic"))
        certificate = Certificate.from_pem(AUTHORITY.client_pem("com.example.app"))
        check_broadcast(app(topic="com.example.app"), draft, "broadcasts[0]")
        check_broadcast(app(credential=certificate), draft, "broadcasts[0]")
        named = broadcast_draft(PAYLOAD, {"apns-topic": "com.example.app"}, CHANNEL)
        check_broadcast(app(), named, "broadcasts[0]")

    def test_channel(self) -> None:
        """A channel is printable ASCII; whether it is base64 is for Apple to say."""
        check_broadcast(app(topic="com.example.app"), broadcast_draft(PAYLOAD, {}, "~"), "broadcasts[0]")
        for channel in ("", "a b", "ä", "a\n"):
            refusal = self.refusal(app(topic="com.example.app"), broadcast_draft(PAYLOAD, {}, channel))
            self.assertEqual((type(refusal), refusal.path), (Malformed, "broadcasts[0].channel"))

    def test_side(self) -> None:
        """A broadcast of an app with two sides goes to production, unless it names the other."""
        both = attrs.evolve(app(topic="com.example.app"), sandbox=Side(app().gateway, app().credential))
        for environment, expected in ((None, Environment.PRODUCTION), *zip(Environment, Environment, strict=True)):
            draft = broadcast_draft(PAYLOAD, {}, CHANNEL, environment=environment)
            check_broadcast(both, draft, "broadcasts[0]")
            self.assertEqual(side_of(both, draft.environment), both.sides[expected])


class IntakeTests(IntakeCase):
    """Broadcasts that the intake takes and refuses."""

    def test_accepted(self) -> None:
        """A broadcast is one notification, which waits for the sender like any other."""
        [receipt] = self.result(self.intake.accept("chess", [broadcast_draft(PAYLOAD, {}, CHANNEL, ID.upper())]))
        self.assertEqual(list(receipt.apns_ids), [ID])
        [leased] = self.result(self.world.queue.lease("chess", 10, self.clock.seconds() + 60))
        self.assertEqual((leased.token, leased.content.channel), (b"", CHANNEL))
        self.assertEqual((leased.payload, self.woken), (PAYLOAD, ["chess"]))

    def test_faults(self) -> None:
        """What is wrong is named, with its place among the broadcasts of the request."""
        cases: list[tuple[str, dict[str, Any]]] = [
            ("broadcasts[1].payload", {"payload": b"[]"}),
            ("broadcasts[1].headers.apns-priority", {"headers": {"apns-priority": "high", "apns-channel-id": CHANNEL}}),
            ("broadcasts[1].headers.apns-channel-id", {"headers": {"apns-channel-id": "a" * (MAX_HEADER + 1)}}),
            ("broadcasts[1].channel", {"headers": {"apns-channel-id": "a b"}}),
            (
                "broadcasts[1].headers.apns-collapse-id",
                {"headers": {"apns-channel-id": CHANNEL, "apns-collapse-id": "x"}},
            ),
            ("broadcasts[1].headers.apns-request-id", {"apns_ids": ["no-uuid"]}),
            ("broadcasts[1]", {"tokens": [b"", b""]}),
            ("notifications[1]", {"tokens": TOKENS[:1]}),
            ("notifications[1].tokens[0]", {"headers": {}}),
        ]
        good = {"payload": PAYLOAD, "headers": {"apns-channel-id": CHANNEL}, "tokens": [b""]}
        for path, changes in cases:
            refusal = self.refusal(Draft(**good), Draft(**{**good, **changes}))  # type: ignore[arg-type]
            self.assertEqual((type(refusal), refusal.path), (Malformed, path), changes)
            self.assertIn(path, str(refusal))
