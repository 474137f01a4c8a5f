"""
One signing key on several nodes, for two hours: none of them knows of the others, and any of them may be restarted.

Each node has a wall clock of its own, which is right to within seconds, and in place of a process a client and a class
of provider tokens of its own: the tokens are kept in the class.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from txapns import APNSClient, Notification, ProviderToken
from txapns._credentials.bearer import BearerToken
from txapns._network.clocks import IWallClock
from txapns.credentials import MAXIMUM_AGE, MINIMUM_AGE, SignedToken
from txapns.result import Batch
from txapns.simulator import Authority
from txapns.simulator.http2 import ProviderAPIServer, Response
from txapns.simulator.tokens import TOKEN_LIFE
from txapns.testing import MemorySimulator
from txapns.wire.requests import Request

__all__ = ["CampaignTests"]

AUTHORITY = Authority()
START = 1_700_000_000.0
HOURS = 2
HELLO = Notification(alert="Hello")


@implementer(IWallClock)
class NodeReactor:
    """
    A node's reactor, with a wall clock of its own.

    :param ahead: by how many seconds the wall clock is ahead.
    """

    def __init__(self, beneath: Any, ahead: float) -> None:
        self._beneath = beneath
        self._ahead = ahead

    def now(self) -> float:
        """Return the date."""
        return float(self._beneath.wall.now()) + self._ahead

    def __getattr__(self, name: str) -> Any:
        return getattr(self._beneath, name)


class OwnToken(ProviderToken):
    """A provider token as a program signs it that thinks only of itself: dated to the moment."""

    _signed: ClassVar[dict[str, SignedToken]] = {}

    def current(self, now: float) -> SignedToken:
        """Return the token to send with."""
        kept = self._signed.get(self.fingerprint)
        if kept is None or now - kept.issued_at >= MAXIMUM_AGE:
            kept = self._signed[self.fingerprint] = SignedToken(b"bearer " + self.sign(int(now)).encode(), int(now))
        return kept


class Node:
    """A process on a machine of its own."""

    def __init__(self, simulator: MemorySimulator, ahead: float, kind: type[ProviderToken]) -> None:
        self._simulator = simulator
        self._reactor: Any = NodeReactor(simulator.reactor, ahead)
        self._kind = kind
        self.start()

    def start(self) -> None:
        """Start it, with nothing of what it had before."""
        kind = type("Kind", (self._kind,), {"_signed": {}})
        token = kind.from_p8(AUTHORITY.p8, AUTHORITY.key_id, AUTHORITY.team_id)
        self.client = APNSClient(
            self._reactor, token, self._simulator.gateway(), topic=self._simulator.topic, retries=0, max_connections=2
        )

    def restart(self) -> None:
        """Stop it at any moment, and start it again."""
        self.client.abort()
        self.start()

    def send(self, number: int) -> Batch:
        """Send two notifications."""
        return self._simulator.result(self.client.send(HELLO, [f"{number:064x}", f"{number + 1:064x}"], deadline=30.0))


class CampaignTests(SynchronousTestCase):
    """Three nodes that send from time to time."""

    def run_nodes(self, seed: int, ahead: Iterable[float], kind: type[ProviderToken] = ProviderToken) -> float:
        """Let nodes send for two hours; returns the share of notifications that were accepted."""
        chance = random.Random(seed)
        self.simulator = MemorySimulator(authority=AUTHORITY)
        self.simulator.reactor.rightNow = START + chance.random() * MAXIMUM_AGE
        self.ages: list[float] = []
        self.issued: dict[int, float] = {}
        self.simulator.http2_fault = self.note
        nodes = [Node(self.simulator, seconds, kind) for seconds in ahead]
        self.reasons: Counter[str] = Counter()
        accepted = sent = 0
        end = self.simulator.reactor.seconds() + HOURS * 3_600
        while self.simulator.reactor.seconds() < end:
            self.simulator.advance(chance.uniform(1.0, 60.0))
            node = chance.choice(nodes)
            if chance.random() < 0.05:
                node.restart()
            batch = node.send(chance.randrange(2**64))
            accepted += batch.accepted
            sent += batch.total
        for node in nodes:
            self.simulator.result(node.client.abort())
        return accepted / sent

    def note(self, server: ProviderAPIServer, request: Request, response: Response) -> Response:
        """Note the token of a request."""
        [field] = [value for name, value in request.headers if name == b"authorization"]
        token = BearerToken.parse(field.decode().removeprefix("bearer "))
        assert token is not None
        now = self.simulator.wall.now()
        self.ages.append(now - token.issued_at)
        self.reasons[response.reason] += 1
        self.issued.setdefault(int(token.issued_at), now)
        return response

    def test_together(self) -> None:
        """No token is rejected: there is never a new one within 20 minutes, and none is older than an hour."""
        for seed in range(3):
            self.assertEqual(self.run_nodes(seed, (-3.0, 0.0, 4.0)), 1.0)
            self.assertEqual(list(self.reasons), [""])
            self.assertLess(max(self.ages), TOKEN_LIFE)
            firsts = sorted(self.issued.values())
            pauses = [later - earlier for earlier, later in pairwise(firsts[1:])]  # the first was in use before
            self.assertGreaterEqual(min(pauses), MINIMUM_AGE)
            self.assertGreaterEqual(len(firsts), HOURS * 3_600 // MAXIMUM_AGE)

    def test_apart(self) -> None:
        """Nodes that sign for themselves are rejected: the test would tell."""
        self.run_nodes(0, (-3.0, 0.0, 4.0), OwnToken)
        self.assertIn("TooManyProviderTokenUpdates", self.reasons)
