"""The client against a server whose HTTP/2 is not ours: each outcome is compared with the server's own record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from datetime import datetime, timezone
from random import Random
from unittest import TestCase

from twisted.protocols.tls import TLSMemoryBIOFactory

from tests.checks import check_answers
from tests.h2_server import H2Server, Script
from txapns import Batch, Notification
from txapns.simulator import Authority
from txapns.testing import MemorySimulator

__all__ = ["BatchTests", "CampaignTests", "GoAwayTests", "LimitTests", "RefusalTests"]

AUTHORITY = Authority()
COUNT = 1_000
TOKENS = {number: f"{number + 1:064x}" for number in range(COUNT)}
#: Every tenth device is gone, each since another second.
DEAD = {TOKENS[number]: 1_700_000_000_000 + 1_000 * number for number in range(0, COUNT, 10)}
SHORT = Notification(alert="Grüße", badge=1, push_type="alert", priority=5, expiration=1_900_000_000)
LONG = Notification(alert="x" * 4_000)


class H2Case(TestCase):
    """A client, and a server with ``h2``, in memory."""

    def serve(self, *scripts: Script, seed: int = 0) -> H2Server:
        """Start a server."""
        self.memory = MemorySimulator(authority=AUTHORITY)  # for its network; its servers are not asked
        reactor = self.memory.reactor
        self.server = H2Server(reactor, scripts or (Script(),), dead=DEAD, seed=seed)
        options = AUTHORITY.server_options((b"h2",))
        reactor.servers = {2197: TLSMemoryBIOFactory(options, False, self.server, reactor)}
        return self.server

    def send(
        self,
        notification: Notification = SHORT,
        tokens: Mapping[Hashable, str] = TOKENS,
        *,
        bearer: bool = False,
        **options: int,
    ) -> Batch:
        """Send a batch, close the client, and compare what it says with what the server did."""
        client = self.memory.client(credential=self.memory.provider_token() if bearer else None, **options)
        batch = self.memory.result(client.send(notification, tokens))
        self.memory.result(client.close())
        self.memory.flush()
        for session in self.server.sessions:
            self.assertIsNone(session.error)
            self.assertTrue(session.lost)
        check_answers(self, batch, tokens, self.server.answers())
        return batch

    def check_exact(self, batch: Batch, tokens: Mapping[Hashable, str] = TOKENS) -> None:
        """Each token was processed exactly once, and each has the outcome of its device."""
        self.assertEqual(Counter(entry.token for entry in self.server.record), Counter(tokens.values()))
        dead = {number: DEAD[token] for number, token in tokens.items() if token in DEAD}
        self.assertEqual((batch.accepted, len(batch.unsent), len(batch.uncertain)), (len(tokens) - len(dead), 0, 0))
        for number, rejection in batch.failed.items():
            since = datetime.fromtimestamp(dead[number] / 1_000, timezone.utc)
            found = (rejection.token, rejection.status, rejection.reason, rejection.timestamp)
            self.assertEqual(found, (tokens[number], 410, "Unregistered", since))
        self.assertEqual(batch.failed.keys(), dead.keys())


class BatchTests(H2Case):
    """Nothing goes wrong except dead and bad tokens."""

    def test_dead_tokens(self) -> None:
        """Of 1,000 tokens the dead ones are named, each with its time."""
        for bearer in (False, True):
            self.serve()
            self.check_exact(self.send(bearer=bearer))
            self.assertEqual(len(self.server.sessions), 1)

    def test_bad_token(self) -> None:
        """A token that the server rejects is named with the reason."""
        self.serve()
        batch = self.send(tokens={"short": "ab" * 20, "whole": "ab" * 32})
        self.assertEqual(batch.accepted, 1)
        self.assertEqual((batch.failed["short"].status, batch.failed["short"].reason), (400, "BadDeviceToken"))

    def test_requests(self) -> None:
        """The header fields and the payload arrive as they were given."""
        self.serve()
        self.send()
        expected = {
            ":method": "POST",
            ":scheme": "https",
            ":authority": "127.0.0.1",
            "apns-topic": "com.example.app",
            "apns-push-type": "alert",
            "apns-priority": "5",
            "apns-expiration": "1900000000",
        }
        for entry in self.server.record:
            self.assertEqual(entry.headers, {**expected, ":path": f"/3/device/{entry.token}"})
            self.assertEqual(entry.payload.decode(), '{"aps":{"alert":"Grüße","badge":1}}')


class GoAwayTests(H2Case):
    """The server leaves in the middle of a batch."""

    def test_mid_batch(self) -> None:
        """What the server does not process goes over another connection, and nothing else does."""
        for beyond in (0, 1, 100, 299):
            self.serve(Script(goaway=300, beyond=beyond, concurrency=400), Script())
            self.check_exact(self.send())
            self.assertEqual(len(self.server.sessions), 2)

    def test_again_and_again(self) -> None:
        """A server that leaves after every hundredth request still gets the whole batch, once."""
        self.serve(Script(goaway=120, beyond=20))
        self.check_exact(self.send(bearer=True))
        self.assertEqual(len(self.server.sessions), 10)


class RefusalTests(H2Case):
    """The server refuses requests unprocessed."""

    def test_refused(self) -> None:
        """What is refused is resent, and nothing else is."""
        refused = frozenset(range(2, COUNT, 3))
        self.serve(Script(refused=refused))
        self.check_exact(self.send())
        self.assertEqual(len(self.server.sessions), 1)


class LimitTests(H2Case):
    """The server's limits."""

    def test_settings(self) -> None:
        """The limit of requests under way is kept and used fully, when it falls and when it rises again."""
        self.serve(Script(concurrency=100, limits={300: 1, 500: 200}))
        self.check_exact(self.send())
        self.assertEqual(self.server.sessions[0].most, {100: 100, 1: 1, 200: 200})

    def test_provider_token(self) -> None:
        """A single request goes first if the server wants to see a provider token."""
        self.serve(Script(concurrency=1, limits={1: 1_000, 500: 1, 600: 1_000}, delay=0.02))
        self.check_exact(self.send(bearer=True))
        most = self.server.sessions[0].most
        self.assertEqual(most[1], 1)
        self.assertGreater(most[1_000], 300)

    def test_small_window(self) -> None:
        """A payload that is longer than the window is sent as the server asks for it."""
        for window, notification in ((1_000, LONG), (10, SHORT)):
            self.serve(Script(window=window))
            self.check_exact(self.send(notification))

    def test_connection_window(self) -> None:
        """Payloads that together are longer than the connection's window wait for it."""
        self.serve(Script(delay=0.1))
        self.check_exact(self.send(LONG))
        self.assertLess(self.server.sessions[0].most[1_000], 2 * 65_535 / 4_000)


class CampaignTests(H2Case):
    """Random scripts."""

    def script(self, random: Random) -> Script:
        """Make a random script."""
        limits = {random.randrange(1, 100): random.choice((1, 10, 1_000)) for _ in range(random.randrange(4))}
        goaway = random.choice((None, random.randrange(1, 150)))
        return Script(
            concurrency=random.choice((1, 20, 1_000)),
            limits=limits,
            window=random.choice((10, 1_000, 65_535)),
            delay=random.choice((0.0, 0.01, 0.1)),
            refused=frozenset(random.sample(range(1, 100), random.randrange(30))),
            goaway=goaway,
            beyond=random.randrange(goaway or 1),
        )

    def test_seeds(self) -> None:
        """Whatever the server does, except aborting, each token is processed exactly once."""
        for seed in range(20):
            with self.subTest(seed=seed):
                random = Random(seed)
                tokens = {number: TOKENS[number] for number in range(random.choice((1, 50, 200)))}
                self.serve(*[self.script(random) for _ in range(random.randrange(4))], Script(), seed=seed)
                connections = random.choice((1, 3))
                notification = random.choice((SHORT, LONG))
                batch = self.send(notification, tokens, bearer=random.random() < 0.5, max_connections=connections)
                self.check_exact(batch, tokens)
