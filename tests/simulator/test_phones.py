"""Tests for :mod:`txapns.simulator.phones`."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.simulator.peers import AUTHORITY
from txapns import Notification
from txapns.credentials import Certificate
from txapns.devices import Outcome, Severity
from txapns.simulator.phones import MAX_DEVICES
from txapns.testing import MemorySimulator

__all__ = ["PhonesTests"]

A, B = "aa" * 32, "bb" * 32


class PhonesTests(SynchronousTestCase):
    """The devices of a simulator in memory."""

    def setUp(self) -> None:
        """Make it, and a client."""
        self.simulator = MemorySimulator(authority=AUTHORITY)
        self.phones, self.inbox = self.simulator.phones, self.simulator.inbox
        self.client = self.simulator.client()

    def tearDown(self) -> None:
        """Close the client."""
        self.simulator.result(self.client.close())

    def send(self, *tokens: str, badge: int = 1) -> None:
        """Send a notification."""
        self.simulator.result(self.client.send(Notification(alert="Hi", badge=badge), tokens))

    def test_lazy(self) -> None:
        """Nothing is judged before somebody asks; then everything is, in the order of arrival."""
        for badge in (1, 2, 3):
            self.send(A, badge=badge)
        self.assertEqual([each.verdict for each in self.inbox.received], [None] * 3)
        device = self.phones.device(A)
        self.assertEqual((device.badge, len(device.shown)), (3, 3))
        self.assertEqual([each.verdict and each.verdict.outcome for each in self.inbox.received], [Outcome.BANNER] * 3)

    def test_refused(self) -> None:
        """Of every push that is refused for what is asked for, the reason is found, with all that the server knows."""
        self.inbox.environments[bytes.fromhex(B)] = "sandbox"
        self.inbox.dead[bytes.fromhex("cc" * 32)] = 5.0
        topics = [self.simulator.topic, "com.example.chess"]
        listed = self.simulator.client(credential=Certificate.from_pem(AUTHORITY.client_pem(topics=topics)))
        self.addCleanup(lambda: self.simulator.result(listed.close()))
        for client, token, topic, code in (
            (self.client, A, "com.example", "TOPIC_NOT_SERVED"),
            (listed, A, "com.example", "TOPIC_NOT_LISTED"),
            (self.client, B, None, "ENVIRONMENT"),
            (self.client, "cc" * 32, None, "REMOVED"),
        ):
            self.simulator.result(client.send(Notification(alert="Hi", topic=topic), [token]))
            self.phones.judge()
            verdict = self.inbox.received[-1].verdict
            assert verdict is not None
            errors = [each for each in verdict.findings if each.severity is Severity.ERROR]
            self.assertEqual([each.code for each in errors], [code])
            self.assertEqual(verdict.answer.reason, self.inbox.received[-1].reason)
            self.assertTrue(verdict.why.endswith(errors[0].message), verdict.why)

    def test_order(self) -> None:
        """What came before a device was changed is judged as it was then."""
        self.send(A)
        device = self.phones.device(A)
        self.send(A)
        self.phones.set(A, attrs.evolve(device, online=False))
        self.send(A)
        self.phones.judge()
        outcomes = [each.verdict and each.verdict.outcome for each in self.inbox.received]
        self.assertEqual(outcomes[:2], [Outcome.BANNER, Outcome.BANNER])
        self.assertNotEqual(outcomes[2], Outcome.BANNER)

    def test_dead(self) -> None:
        """A token that a test calls dead is dead for the device, and one that is brought back is not."""
        self.inbox.dead[bytes.fromhex(A)] = 5.0
        device = self.phones.device(A)
        self.assertEqual(device.removed_since, 5.0)
        self.phones.set(A, attrs.evolve(device, removed_since=None))
        self.assertEqual((self.inbox.dead, self.phones.device(A).removed_since), ({}, None))

    def test_bounded(self) -> None:
        """Only so many devices are remembered, and those that were changed by hand as well."""
        self.phones.set(A, attrs.evolve(self.phones.device(A), badge=9))
        tokens = [f"{number:064x}" for number in range(MAX_DEVICES + 50)]
        for token in tokens:
            path = {":path": f"/3/device/{token}", "apns-push-type": "alert", "apns-topic": "com.example.app"}
            self.inbox.note("http2", bytes.fromhex(token), b'{"aps":{"alert":"Hi"}}', path, None)
        self.phones.judge()
        self.assertEqual(len(self.inbox.devices), MAX_DEVICES + 1)
        self.assertEqual(self.phones.device(A).badge, 9)
        self.assertEqual(len(self.phones.device(tokens[-1]).shown), 1)
