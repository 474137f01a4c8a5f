"""Tests for :mod:`txapns.result`."""

from __future__ import annotations

import pickle
from datetime import datetime, timezone

from tests.client_case import DEAD, HELLO, ClientCase, tokens
from txapns import Notification


class BatchTests(ClientCase):
    """What came of a batch."""

    def test_dead_tokens(self) -> None:
        """The tokens to delete come with the time since when they are dead; other rejections are not among them."""
        batch = self.simulator.result(self.client.send(HELLO, [DEAD, "aa" * 3]))
        self.assertEqual(batch.dead_tokens, [(DEAD, datetime(1970, 1, 1, tzinfo=timezone.utc))])
        self.assertEqual({rejection.reason for rejection in batch.failed.values()}, {"Unregistered", "BadDeviceToken"})

    def test_shared_identifiers(self) -> None:
        """Two notifications under one identifier are two: nothing of either is lost."""
        other = "ee" * 32
        self.simulator.devices.dead[bytes.fromhex(other)] = 0.0
        rows = [("anna", DEAD), ("anna", other), ("anna", "zz"), ("ben", "aa" * 32)]
        batch = self.simulator.result(self.client.send(HELLO, rows))
        self.assertEqual((batch.accepted, batch.total, len(batch.outcomes)), (1, 4, 3))
        self.assertEqual([token for token, _ in batch.dead_tokens], [DEAD, other])
        self.assertEqual((batch.failed["anna"].token, batch.unsent["anna"].token), (other, "zz"))

    def test_unique_ids(self) -> None:
        """In the sandbox each notification that was accepted has an id in Apple's delivery log; elsewhere none."""
        notification = Notification(alert="x")
        triples = [(n, notification, token) for n, token in enumerate(("aa" * 32, "bb" * 32))]
        self.assertEqual(self.simulator.result(self.client.send_many(triples)).unique_ids, {})
        self.simulator.environment = "sandbox"
        client = self.simulator.client()
        batch = self.simulator.result(client.send_many(triples))
        self.assertEqual((set(batch.unique_ids), len(set(batch.unique_ids.values()))), ({0, 1}, 2))

    def test_retry(self) -> None:
        """retry() sends the unsent again, each with its own notification, and not the others."""
        del self.simulator.reactor.servers[2197]
        triples = [(n, Notification(badge=n), token) for n, token in enumerate(tokens(20))]
        batch = self.simulator.result(self.client.send_many(triples))
        self.assertEqual(len(batch.unsent), 20)
        self.simulator.advance(70)  # beyond the longest back-off
        self.simulator.reactor.servers[2197] = self.simulator.tls_factory("http2")
        again = self.simulator.result(batch.retry())
        self.assertEqual((again.accepted, again.total), (20, 20))
        payloads = {reception.payload for reception in self.simulator.devices.received}
        self.assertEqual(payloads, {notification.body for _, notification, _ in triples})

    def test_retry_uncertain(self) -> None:
        """What is uncertain is sent again only if asked for."""
        self.simulator.http2_fault = lambda server, request, response: server.abort()
        batch = self.simulator.result(self.client.send(HELLO, tokens(2)))
        self.assertEqual(sorted(batch.uncertain), [0, 1])  # type: ignore[type-var]
        self.simulator.http2_fault = None
        self.assertEqual(self.simulator.result(batch.retry()).total, 0)
        self.assertEqual(self.simulator.result(batch.retry(uncertain=True)).accepted, 2)

    def test_results_hide_tokens(self) -> None:
        """Outcomes shorten the token where they are shown."""
        batch = self.simulator.result(self.client.send(HELLO, [DEAD]))
        self.assertNotIn(DEAD, repr(batch) + repr(batch.failed) + str(batch.failed[0]))
        self.assertIn("dddd…dddd", repr(batch.failed))

    def test_outcomes_pickle(self) -> None:
        """Outcomes travel through task queues."""
        batch = self.simulator.result(self.client.send(HELLO, [DEAD, "abc"]))
        for outcome in (batch.failed[0], batch.unsent[1]):
            self.assertEqual(pickle.loads(pickle.dumps(outcome)).token, outcome.token)
