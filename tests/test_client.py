"""Tests for :mod:`txapns.client`: what a program sees, over the whole stack, in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred

from tests.client_case import AUTHORITY, DEAD, HELLO, ClientCase, tokens
from txapns import (
    Accepted,
    APNSClient,
    Batch,
    Certificate,
    Gateway,
    Notification,
    ProviderToken,
    Rejection,
    SendCancelled,
    Session,
)
from txapns.errors import (
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    CredentialError,
    DeadlinePassed,
    InvalidGateway,
    InvalidNotification,
    InvalidToken,
    OutcomeUnknown,
    PeerNotVerified,
)
from txapns.simulator import Authority


class CredentialTests(ClientCase):
    """The client's credential and topic."""

    def test_topic(self) -> None:
        """The client's topic is for those notifications that name none."""
        self.simulator.result(self.client.send_one(HELLO, "aa" * 32))
        voip = Notification(payload={"x": 1}, topic="com.example.app.voip", push_type="voip")
        self.simulator.result(self.client.send_one(voip, "aa" * 32))
        topics = [reception.headers["apns-topic"] for reception in self.simulator.inbox.received]
        self.assertEqual(topics, ["com.example.app", "com.example.app.voip"])

    def test_not_in_outcomes(self) -> None:
        """They have the notification that was given, so that another client adds a topic of its own."""
        notification = Notification(alert="x")
        self.simulator.http2_fault = lambda server, request, response: server.abort()
        batch = self.simulator.result(self.client.send_many([("a", notification, "aa" * 32)]))
        self.assertIs(batch.uncertain["a"].notification, notification)
        batch = self.simulator.result(self.client.send(notification, ["zz"]))
        self.assertIs(batch.unsent[0].notification, notification)

    def test_certificate_for_several_topics(self) -> None:
        """With such a certificate the topic must be named; the first is the default."""
        pem = AUTHORITY.client_pem(topics=["com.example.app", "com.example.app.voip"])
        client = self.simulator.client(credential=Certificate.from_pem(pem), topic=None)
        self.assertIsInstance(self.simulator.result(client.send_one(HELLO, "aa" * 32)), Accepted)
        self.assertEqual(self.simulator.inbox.received[0].headers["apns-topic"], "com.example.app")

    def test_provider_token(self) -> None:
        """A provider token authenticates as well as a certificate."""
        client = self.simulator.client(credential=self.simulator.provider_token())
        batch = self.simulator.result(client.send(HELLO, tokens(2_500)))
        self.assertEqual(batch.accepted, 2_500)


class SendManyTests(ClientCase):
    """A notification of its own for each."""

    def test_payloads(self) -> None:
        """Each device gets its own payload and header fields."""
        triples = [(n, Notification(badge=n, collapse_id=f"c{n}"), token) for n, token in enumerate(tokens(50))]
        self.assertEqual(self.simulator.result(self.client.send_many(triples)).accepted, 50)
        received = self.simulator.inbox.received
        got = [(reception.payload, reception.headers["apns-collapse-id"]) for reception in received]
        self.assertEqual(got, [(b'{"aps":{"badge":%d}}' % n, f"c{n}") for n in range(50)])


class SendOneTests(ClientCase):
    """One notification, one device."""

    def test_accepted(self) -> None:
        """The answer's ids are in the result."""
        self.simulator.environment = "sandbox"
        identifier = "123e4567-e89b-12d3-a456-426655440000"
        notification = Notification(alert="x", apns_id=identifier)
        accepted = self.simulator.result(self.client.send_one(notification, "aa" * 32))
        assert isinstance(accepted, Accepted)
        self.assertEqual((accepted.apns_id, accepted.token), (identifier, "aa" * 32))
        self.assertIsNotNone(accepted.unique_id)

    def test_rejected(self) -> None:
        """A rejection is a value, not an exception."""
        rejection = self.simulator.result(self.client.send_one(HELLO, DEAD))
        assert isinstance(rejection, Rejection)
        self.assertEqual((rejection.status, rejection.reason, rejection.dead), (410, "Unregistered", True))
        self.assertIsNotNone(rejection.apns_id)

    def test_malformed_token(self) -> None:
        """A token that no request can carry is an error, and nothing is opened."""
        self.failureResultOf(self.client.send_one(HELLO, "abc"), InvalidToken)
        self.assertEqual(self.simulator.reactor.attempts, 0)

    def test_unknown(self) -> None:
        """What was sent and not answered is distinguished from what was not sent."""
        self.simulator.http2_fault = lambda server, request, response: server.abort()
        error = self.assertRaises(OutcomeUnknown, self.simulator.result, self.client.send_one(HELLO, "aa" * 32))
        self.assertIsInstance(error.__cause__, ConnectionLost)
        del self.simulator.reactor.servers[2197]
        self.assertRaises(ConnectFailed, self.simulator.result, self.client.send_one(HELLO, "aa" * 32))

    def test_cancelled_in_the_queue(self) -> None:
        """What was not yet asked is not asked."""
        sending = self.client.send_one(HELLO, "aa" * 32)
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.simulator.advance(5)
        self.assertEqual(self.simulator.counters()["received"], 0)

    def test_cancelled_under_way(self) -> None:
        """What was sent already is settled without a listener."""
        self.simulator.delay = 1.0
        sending = self.client.send_one(HELLO, "aa" * 32)
        self.simulator.flush()
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.simulator.advance(5)
        self.assertEqual((self.simulator.counters()["received"], self.client.status().in_flight), (1, 0))


class EndTests(ClientCase):
    """Deadlines, cancelling, closing, retrying."""

    def test_deadline(self) -> None:
        """At the batch's deadline the rest is unsent; what was asked is still answered."""
        self.simulator.delay = 1.0
        batch = self.simulator.result(self.client.send(HELLO, tokens(20_000), deadline=2.5))
        self.assertEqual(batch.total, 20_000)
        self.assertEqual(len(self.received()), batch.accepted)
        self.assertEqual({type(unsent.error) for unsent in batch.unsent.values()}, {DeadlinePassed})
        self.assertEqual(self.client.status().in_flight, 0)

    def test_cancel(self) -> None:
        """Cancelling stops the batch, and what is in flight is settled."""
        self.simulator.delay = 1.0
        sending = self.client.send(HELLO, tokens(20_000))
        self.simulator.flush()
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.simulator.advance(30)
        self.assertEqual((len(self.received()), self.client.status().in_flight), (1_000, 0))

    def cancelled(self, client: APNSClient) -> Batch:
        """Cancel a batch of 5,000 in the middle; returns what was known of it."""
        sending = client.send(HELLO, tokens(5_000))
        self.simulator.flush()
        sending.cancel()
        error = self.failureResultOf(sending, SendCancelled).value
        self.assertEqual(str(error), "the batch was cancelled")
        known = error.batch.total
        self.simulator.advance(60)
        self.assertEqual((client.status().in_flight, client.status().queued, error.batch.total), (0, 0, known))
        self.assertEqual({str(each.error) for each in error.batch.uncertain.values()}, {str(error)})
        return error.batch

    def test_cancelled_batch(self) -> None:
        """The error of a cancelled batch has what was known by then: what is in flight is uncertain."""
        self.simulator.delay = 1.0
        batch = self.cancelled(self.client)
        self.assertEqual((batch.total, len(batch.uncertain), len(self.received())), (1_000, 1_000, 1_000))
        again = self.simulator.result(self.client.send_many(batch.resendable(uncertain=True)))
        self.assertEqual((again.accepted, batch.resendable()), (1_000, []))

    def test_cancelled_binary_batch(self) -> None:
        """So has that of a batch over the binary protocol, where nothing is certain before the settle time is over."""
        batch = self.cancelled(self.simulator.client("binary"))
        self.assertEqual((batch.total, len(batch.uncertain)), (5_000, 5_000))
        self.assertEqual(list(batch.uncertain), list(range(5_000)))

    def test_not_sent_again_after_the_end(self) -> None:
        """What the server gives back after the deadline, or after cancelling, is not sent to another connection."""
        for deadline in (0.2, None):
            self.simulator.delay = 0.5
            client = self.simulator.client("binary")
            before = self.simulator.counters()["accepted"]
            sending = client.send(HELLO, [DEAD, *tokens(7)], deadline=deadline)
            self.simulator.flush()
            if deadline is None:
                sending.cancel()
                self.failureResultOf(sending, CancelledError)
            else:
                batch = self.simulator.result(sending)
                self.assertEqual((len(batch.failed), len(batch.unsent)), (1, 7))
            self.simulator.advance(10)
            self.assertEqual((self.simulator.counters()["accepted"], client.status().queued), (before, 0))

    def test_add_timeout(self) -> None:
        """Deferred.addTimeout works as on any Deferred."""
        self.simulator.delay = 5.0
        sending = self.client.send(HELLO, tokens(3)).addTimeout(1, self.simulator.reactor)
        self.assertRaises(defer.TimeoutError, self.simulator.result, sending)

    def test_close(self) -> None:
        """Closing reports what waits as unsent, waits for the answers to what is in flight, and closes."""
        self.simulator.delay = 1.0
        sending = self.client.send(HELLO, tokens(3_000))
        self.simulator.flush()
        closing = self.client.close()
        self.assertNoResult(closing)
        batch = self.simulator.result(sending)
        self.assertEqual((batch.accepted, len(batch.unsent)), (1_000, 2_000))
        self.assertEqual({type(unsent.error) for unsent in batch.unsent.values()}, {ClientClosed})
        self.simulator.result(closing)
        self.assertEqual(
            (self.client.status().connections[0], self.simulator.reactor.getDelayedCalls()), ("stopped", [])
        )

    def test_abort(self) -> None:
        """Aborting waits for no answer: what is in flight is uncertain, and the server receives nothing more."""
        self.simulator.delay = 1.0
        sending = self.client.send(HELLO, tokens(3_000))
        self.simulator.flush()
        aborting = self.client.abort()
        batch = self.simulator.result(sending)
        self.assertEqual((batch.accepted, len(batch.uncertain), len(batch.unsent)), (0, 1_000, 2_000))
        self.assertEqual({type(uncertain.error) for uncertain in batch.uncertain.values()}, {ConnectionLost})
        self.simulator.result(aborting)
        self.assertEqual(
            (self.client.status().connections[0], self.simulator.reactor.getDelayedCalls()), ("stopped", [])
        )
        self.assertEqual(self.received(), [])

    def test_abort_early_or_late(self) -> None:
        """A client without a connection can be aborted, and one that is closing or closed."""
        self.simulator.result(self.simulator.client().abort())
        self.simulator.delay = 1.0
        sending = self.client.send(HELLO, tokens(10))
        self.simulator.flush()
        closing = self.client.close()
        for end in self.client.abort(), closing, self.client.abort():
            self.simulator.result(end)
        self.assertEqual(len(self.simulator.result(sending).uncertain), 10)

    def test_send_while_closing(self) -> None:
        """Sending from a callback of what close() gave up fails at once: the client is closed."""
        del self.simulator.reactor.servers[2197]
        again: list[Deferred[Any]] = []
        first = self.client.send_one(HELLO, "aa" * 32)
        first.addErrback(lambda _: again.append(self.client.send_one(HELLO, "bb" * 32)))
        self.simulator.result(self.client.close())
        self.failureResultOf(again[0], ClientClosed)
        self.assertEqual(self.client.status().queued, 0)
        self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])

    def test_closed(self) -> None:
        """A closed client says so; closing again is no error."""
        self.simulator.result(self.client.close())
        self.simulator.result(self.client.close())
        self.failureResultOf(self.client.send(HELLO, ["aa" * 32]), ClientClosed)
        self.failureResultOf(self.client.send_one(HELLO, "aa" * 32), ClientClosed)
        self.failureResultOf(self.client.send_many([]), ClientClosed)


class ConnectionTests(ClientCase):
    """The connection is opened on demand, kept, closed when idle, and opened again."""

    def test_kept(self) -> None:
        """Batches share the connection."""
        for _ in range(3):
            self.simulator.result(self.client.send(HELLO, tokens(10)))
        self.assertEqual(self.simulator.inbox.connections, 1)

    def test_idle(self) -> None:
        """After idle_timeout it is closed; the next batch opens another."""
        self.simulator.result(self.client.send_one(HELLO, "aa" * 32))
        self.simulator.advance(599)
        self.assertEqual(self.client.status().connections[0], "ready")
        self.simulator.advance(10)
        self.assertEqual(self.client.status().connections[0], "idle")
        self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])
        self.assertIsInstance(self.simulator.result(self.client.send_one(HELLO, "aa" * 32)), Accepted)
        self.assertEqual(self.simulator.inbox.connections, 2)

    def test_idle_at_any_moment(self) -> None:
        """However the moments of use and the timeout add up in floating point, the check comes to an end."""
        for moment in (1.001, 0.1, 2.3, 7.7):
            client = self.simulator.client(idle_timeout=3)
            self.simulator.advance(moment)
            self.simulator.result(client.send_one(HELLO, "aa" * 32))
            self.simulator.advance(3.5)
            self.assertEqual(client.status().connections[0], "idle")

    def test_never_idle(self) -> None:
        """With idle_timeout=None it is kept, and opened again when the server closes it."""
        client = self.simulator.client(idle_timeout=None)
        self.simulator.result(client.send_one(HELLO, "aa" * 32))
        self.simulator.advance(100_000)
        self.assertEqual((client.status().connections[0], self.simulator.inbox.connections), ("ready", 1))
        self.simulator.sessions[-1].abort()  # type: ignore[attr-defined]
        self.simulator.advance(5)
        self.assertEqual((client.status().connections[0], self.simulator.inbox.connections), ("ready", 2))

    def test_unreachable(self) -> None:
        """Nothing listens: after the timeout all is unsent with the reason, and the attempts were few."""
        client = self.simulator.client(Gateway.http2("127.0.0.1", 9, trust_root=AUTHORITY.ca_pem))
        batch = self.simulator.result(client.send(HELLO, tokens(2_500)))
        self.assertEqual(len(batch.unsent), 2_500)
        error = batch.unsent[0].error
        self.assertIsInstance(error, ConnectFailed)
        self.assertIn("nothing listens at 127.0.0.1:9", str(error))
        self.assertLessEqual(self.simulator.reactor.attempts, 6)
        self.simulator.result(client.close())
        self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])

    def test_comes_back(self) -> None:
        """A batch outlives a server that is away for a while."""
        server = self.simulator.reactor.servers.pop(2197)
        sending = self.client.send(HELLO, tokens(10))
        self.simulator.advance(5)
        self.assertEqual(self.client.status().connections[0], "waiting")
        self.simulator.reactor.servers[2197] = server
        self.assertEqual(self.simulator.result(sending).accepted, 10)

    def test_wrong_authority(self) -> None:
        """A server that we do not trust ends the batch at once, with the reason."""
        gateway = Gateway.http2("127.0.0.1", 2197, trust_root=Authority().ca_pem)
        self.unverified(gateway, "not trusted")

    def test_wrong_host_name(self) -> None:
        """A server's certificate for another name ends the batch at once, with the reason."""
        self.simulator.reactor.servers[2197] = self.simulator.tls_factory("http2")
        gateway = Gateway.http2("127.0.0.9", 2197, trust_root=AUTHORITY.ca_pem)
        self.unverified(gateway, "127.0.0.9")

    def unverified(self, gateway: Gateway, words: str) -> None:
        """Send to an impostor."""
        client = self.simulator.client(gateway)
        sending = client.send(HELLO, tokens(10))
        self.simulator.flush()
        batch = self.simulator.result(sending, within=0.1)
        self.assertEqual(len(batch.unsent), 10)
        self.assertIsInstance(batch.unsent[0].error, PeerNotVerified)
        self.assertIn(words, str(batch.unsent[0].error))
        self.assertEqual((self.simulator.reactor.attempts, self.simulator.counters()["received"]), (1, 0))

    def test_dead_connection(self) -> None:
        """A connection that died unnoticed is detected before anything is sent over it."""
        for timeout in (30.0, 3.0):
            client = self.simulator.client(timeout=timeout)
            self.simulator.result(client.send_one(HELLO, "aa" * 32))
            self.simulator.sessions[-1].dataReceived = lambda data: None  # type: ignore[method-assign]
            before = self.simulator.inbox.connections
            self.simulator.advance(120)
            batch = self.simulator.result(client.send(HELLO, tokens(3_000)))
            self.assertEqual(batch.accepted, 3_000)
            self.assertEqual(self.simulator.inbox.connections, before + 1)

    def test_live_connection(self) -> None:
        """A connection that was silent for long and answers the PING is used on."""
        self.simulator.result(self.client.send_one(HELLO, "aa" * 32))
        self.simulator.advance(120)
        self.assertEqual(self.simulator.result(self.client.send(HELLO, tokens(3_000)), within=1).accepted, 3_000)
        self.assertEqual(self.simulator.inbox.connections, 1)

    def test_closed_by_a_callback_of_its_end(self) -> None:
        """A callback at the connection's end may close the client, and nothing is left."""
        for protocol in ("http2", "binary"):
            self.simulator.delay = 1.0
            client = self.simulator.client(protocol)
            sending = client.send(HELLO, tokens(3))
            sending.addCallback(lambda _, client=client: client.close())
            self.simulator.flush()
            self.simulator.sessions[-1].abort()  # type: ignore[attr-defined]
            self.simulator.advance(30)
            self.successResultOf(sending)
            self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])

    def test_status(self) -> None:
        """The status tells where things stand, and no secret."""
        self.simulator.delay = 1.0
        self.client.send(HELLO, tokens(30))
        self.assertEqual(self.client.status().connections[0], "connecting")
        self.simulator.flush()
        status = self.client.status()
        self.assertEqual((status.connections[0], status.in_flight, status.last_error), ("ready", 30, None))
        self.assertEqual(Gateway.parse(status.gateway).port, 2197)
        self.simulator.advance(5)
        self.assertEqual(self.client.status().in_flight, 0)


class ArgumentTests(ClientCase):
    """Bad arguments fail at once."""

    def test_gateway(self) -> None:
        """An unknown gateway."""
        self.assertRaises(InvalidGateway, APNSClient, self.simulator.reactor, self.simulator.certificate(), "prod")

    def test_credential(self) -> None:
        """What is no credential is refused at once, and not shown: it may be a key."""
        pem = AUTHORITY.client_pem().decode()
        for credential in (pem, pem.encode(), None):
            error = self.assertRaises(CredentialError, APNSClient, self.simulator.reactor, credential)
            self.assertNotIn("PRIVATE", str(error))
        error = self.assertRaises(InvalidGateway, APNSClient, self.simulator.reactor, self.simulator.certificate(), pem)
        self.assertNotIn("PRIVATE", str(error))

    def test_timeouts(self) -> None:
        """A timeout is a positive number of seconds, a deadline a non-negative one."""
        for options in ({"timeout": 0}, {"timeout": float("nan")}, {"idle_timeout": -1}):
            self.assertRaises(ValueError, self.simulator.client, **options)
        for deadline in (-0.5, float("nan"), float("inf")):
            self.failureResultOf(self.client.send(HELLO, [DEAD], deadline=deadline), ValueError)
        self.failureResultOf(self.client.send(HELLO, [DEAD], deadline="soon"), TypeError)  # type: ignore[arg-type]
        batch = self.simulator.result(self.client.send(HELLO, tokens(5), deadline=0))
        self.assertEqual(len(batch.unsent), 5)

    def test_wrong_kinds(self) -> None:
        """Arguments of the wrong type, or in the wrong order, are reported as such."""
        wrong: list[Any] = [("Hello", [DEAD]), (HELLO, None), (HELLO, 7)]
        for notification, many in wrong:
            self.failureResultOf(self.client.send(notification, many), TypeError)
        self.failureResultOf(self.client.send_many(None), TypeError)  # type: ignore[arg-type]
        self.failureResultOf(self.client.send_one(DEAD, HELLO), TypeError)  # type: ignore[arg-type]

    def test_impossible_topic(self) -> None:
        """A topic that no request can carry."""
        self.assertRaises(InvalidNotification, self.simulator.client, topic="com.example\n")

    def test_provider_token_for_the_binary_protocol(self) -> None:
        """The binary protocol knows no provider tokens."""
        credential = self.simulator.provider_token()
        error = self.assertRaises(CredentialError, self.simulator.client, "binary", credential)
        self.assertIn("certificate", str(error))


class SessionTests(ClientCase):
    """One client for an equal credential."""

    def setUp(self) -> None:
        """Make them."""
        super().setUp()
        self.session = Session(self.simulator.reactor)
        self.gateway = self.simulator.gateway()

    def token(self, key_id: str = AUTHORITY.key_id) -> ProviderToken:
        """Load the credential again."""
        return ProviderToken.from_p8(AUTHORITY.p8, key_id, AUTHORITY.team_id)

    def test_shared(self) -> None:
        """A credential loaded again is the same credential; another gateway, key or topic is another client."""
        client = self.session.client(self.token(), self.gateway)
        self.assertIs(self.session.client(self.token(), self.gateway), client)
        self.assertIsNot(self.session.client(self.token("OTHERKEY12"), self.gateway), client)
        self.assertIsNot(self.session.client(self.token(), "sandbox"), client)
        self.assertIsNot(self.session.client(self.token(), self.gateway, topic="com.example.app"), client)

    def test_asked_for_is_used(self) -> None:
        """A client that was just asked for is not closed."""
        client = self.session.client(self.token(), self.gateway, topic="com.example.app")
        self.simulator.advance(1_150)
        client = self.session.client(self.token(), self.gateway, topic="com.example.app")
        self.simulator.advance(300)
        self.assertIsInstance(self.simulator.result(client.send_one(HELLO, "aa" * 32)), Accepted)

    def test_waiting_for_its_source_is_used(self) -> None:
        """A client whose batch waits for its source is in use, however long that takes."""
        more: Deferred[None] = Deferred()

        async def rows() -> AsyncIterator[str]:
            yield "aa" * 32
            await more
            yield "bb" * 32

        sending = self.session.client(self.token(), self.gateway, topic="com.example.app").send(HELLO, rows())
        self.simulator.advance(5_000)
        more.callback(None)
        self.assertEqual(self.simulator.result(sending).accepted, 2)

    def test_unused_are_closed(self) -> None:
        """A client without use for idle_timeout is closed; a used one is not."""
        used = self.session.client(self.token(), self.gateway, topic="com.example.app")
        unused = self.session.client(self.token("OTHERKEY12"), self.gateway)
        for _ in range(13):
            self.simulator.advance(100)
            self.simulator.result(used.send_one(HELLO, "aa" * 32))
        self.assertEqual((used.status().connections[0], unused.status().connections[0]), ("ready", "stopped"))
        self.assertIs(self.session.client(self.token(), self.gateway, topic="com.example.app"), used)
        self.assertIsNot(self.session.client(self.token("OTHERKEY12"), self.gateway), unused)

    def test_close(self) -> None:
        """Closing the session closes its clients and leaves no timer."""
        client = self.session.client(self.token(), self.gateway, topic="com.example.app")
        self.simulator.result(client.send_one(HELLO, "aa" * 32))
        self.simulator.result(self.session.close())
        self.assertRaises(ClientClosed, self.session.client, self.token(), self.gateway)
        self.assertEqual((client.status().connections[0], self.simulator.reactor.getDelayedCalls()), ("stopped", []))
