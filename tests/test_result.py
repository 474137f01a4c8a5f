"""Tests for :mod:`txapns.result`."""

from __future__ import annotations

import copy
import json
import pickle
import uuid
from datetime import datetime, timezone
from typing import Any

from tests.client_case import DEAD, HELLO, ClientCase, tokens
from txapns import Batch, Notification, Unsent
from txapns.errors import APNSError, CredentialRefused, LocalError


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
        self.simulator.inbox.dead[bytes.fromhex(other)] = 0.0
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
        payloads = {reception.payload for reception in self.simulator.inbox.received}
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


class TravelTests(ClientCase):
    """Batches in task queues and logs."""

    def travelled(self, batch: Batch, **options: Any) -> Batch:
        """Convert to JSON and back."""
        return Batch.from_dict(json.loads(json.dumps(batch.to_dict(**options), allow_nan=False)))

    def batch(self) -> Batch:
        """Make a batch with an outcome of each kind."""
        self.simulator.inbox.dead[bytes.fromhex(DEAD)] = 1_790_000_000.0
        mute = b"/3/device/" + b"ee" * 32
        self.simulator.http2_fault = lambda server, request, response: (
            None if dict(request.headers)[b":path"] == mute else response
        )
        rows = [("ann", "aa" * 32), (("dora", 1), DEAD), (7, "not a token"), (None, b"\xee" * 32)]
        batch = self.simulator.result(self.client.send(HELLO, rows))
        self.assertEqual(sorted(map(len, (batch.failed, batch.unsent, batch.uncertain))), [1, 1, 1])
        return batch

    def test_json(self) -> None:
        """All that is known comes back, tokens in hexadecimal."""
        batch = self.batch()
        other = self.travelled(batch)
        self.assertEqual((other.accepted, other.total, repr(other)), (batch.accepted, batch.total, repr(batch)))
        self.assertEqual((other.failed, other.dead_tokens), (batch.failed, batch.dead_tokens))
        self.assertIsNotNone(other.dead_tokens[0][1])
        for one, two in zip(batch.outcomes, other.outcomes, strict=True):
            self.assertEqual((type(one), one.identifier), (type(two), two.identifier))
        self.assertEqual(other.uncertain[None].token, "ee" * 32)
        for one, two in ((batch.unsent[7], other.unsent[7]), (batch.uncertain[None], other.uncertain[None])):
            self.assertEqual((type(one.error), one.error.args), (type(two.error), two.error.args))
            self.assertEqual(one.notification, two.notification)

    def test_pickle(self) -> None:
        """So does a pickle, which keeps the tokens as they are."""
        batch = self.batch()
        for other in (pickle.loads(pickle.dumps(batch)), copy.copy(batch)):
            self.assertEqual((other.accepted, other.failed, list(other.unsent)), (1, batch.failed, list(batch.unsent)))
            self.assertEqual(other.uncertain[None].token, b"\xee" * 32)

    def test_sent_again(self) -> None:
        """Without its client it cannot send again by itself, but another client can."""
        self.simulator.http2_fault = lambda server, request, response: server.abort()
        batch = self.travelled(self.simulator.result(self.client.send(HELLO, {"ann": "aa" * 32})))
        self.simulator.http2_fault = None
        self.assertRaisesRegex(LocalError, "resendable", batch.retry)
        again = self.simulator.result(self.client.send_many(batch.resendable(uncertain=True)))
        self.assertEqual(again.accepted, 1)

    def test_shared_notification(self) -> None:
        """What many unsent ones share is written once."""
        del self.simulator.reactor.servers[2197]
        batch = self.simulator.result(self.client.send(HELLO, tokens(100)))
        values = batch.to_dict()
        self.assertEqual((len(values["notifications"]), len(values["outcomes"])), (1, 100))
        (notification,) = {id(unsent.notification) for unsent in self.travelled(batch).unsent.values()}
        self.assertTrue(notification)

    def test_unique_ids(self) -> None:
        """The ids of the sandbox come back, too."""
        self.simulator.environment = "sandbox"
        batch = self.simulator.result(self.simulator.client().send(HELLO, {("ann", 1): "aa" * 32}))
        self.assertEqual(self.travelled(batch).unique_ids, batch.unique_ids)

    def test_identifiers(self) -> None:
        """An identifier that JSON cannot hold is refused in words, unless it is converted."""
        for identifier in (uuid.UUID(int=1), b"ann", ("ann", uuid.UUID(int=1)), float("nan")):
            batch = self.simulator.result(self.client.send(HELLO, [(identifier, DEAD)]))
            self.assertRaisesRegex(TypeError, "identifier=str", batch.to_dict)
            self.assertEqual(list(self.travelled(batch, identifier=str).failed), [str(identifier)])

    def test_errors_of_any_kind(self) -> None:
        """Errors keep what they say; one that this version does not know is an APNSError."""
        refused = CredentialRefused("APNs says no", "InvalidProviderToken")
        kept = Batch(0, [Unsent(1, DEAD, refused, HELLO), Unsent(2, DEAD, OSError(2, "gone"), HELLO)])
        known, unknown = self.travelled(kept).outcomes
        assert isinstance(known, Unsent)
        assert isinstance(unknown, Unsent)
        assert isinstance(known.error, CredentialRefused)
        self.assertEqual((str(known.error), known.error.reason), ("APNs says no", "InvalidProviderToken"))
        self.assertEqual((type(unknown.error), unknown.error.args), (APNSError, (2, "gone")))

    def test_not_a_batch(self) -> None:
        """Anything else is refused."""
        good = Batch(0, [Unsent(1, DEAD, LocalError("x"), HELLO)]).to_dict()
        for name in good:
            for values in ({**good, name: None}, {key: value for key, value in good.items() if key != name}):
                self.assertRaises(ValueError, Batch.from_dict, values)
        self.assertRaises(ValueError, Batch.from_dict, [1])
