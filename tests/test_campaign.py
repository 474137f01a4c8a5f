"""The client of the provider API against a server that does wrong by chance: the books always balance."""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from random import Random

import ngh2
import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.checks import check_batch
from txapns import Accepted, Batch, Notification, Rejection
from txapns._session.batch import Sending, SingleSending
from txapns._session.http2 import ProviderAPIProtocol
from txapns.delivery import Delivery
from txapns.errors import APNSError, OutcomeUnknown
from txapns.simulator import Authority, RandomFaults, RequestServer, Response
from txapns.testing import MemorySimulator
from txapns.wire.requests import Request

AUTHORITY = Authority()
ALERT = Notification(alert="Hi")
BIG = Notification(payload={"aps": {"alert": "x" * 4_000}})
#: What there may be none of when all is over.
KINDS = (Delivery, Sending, SingleSending, ProviderAPIProtocol, ngh2.Connection)


class Stingy(RandomFaults):
    """It may also delay its updates of the window."""

    def __init__(self, chance: Random, rate: float, simulator: MemorySimulator) -> None:
        super().__init__(chance, rate, drastic=0.5)
        self._simulator = simulator

    def __call__(self, server: RequestServer, request: Request, response: Response) -> Response | None:
        """Give them back now, or a little later."""
        if not self._simulator.window_updates:
            delay = self._random.choice([0.0, 0.0, 0.02])
            self._simulator.reactor.callLater(delay, self._give_back, server, request)
        return super().__call__(server, request, response)

    def _give_back(self, server: RequestServer, request: Request) -> None:
        server.requests.acknowledge(request.stream, len(request.body))
        server.write()


class Campaign:
    """
    What happens with one seed.

    :param seed: the seed.
    """

    def __init__(self, case: SynchronousTestCase, seed: int) -> None:
        self.case = case
        self.chance = chance = Random(seed)
        self.simulator = MemorySimulator(
            authority=AUTHORITY,
            delay=chance.choice([0.0, 0.0, 0.05, 2.0]),
            concurrency=chance.choice([1, 7, 100, 1_000]),
        )
        self.simulator.window_updates = chance.random() < 0.7
        self.simulator.http2_fault = Stingy(chance, chance.choice([0.0, 0.01, 0.05]), self.simulator)
        most = chance.choice([1, 1, 3])
        self.client = self.simulator.client(
            credential=self.simulator.provider_token() if chance.random() < 0.5 else None,
            max_connections=most,
            min_connections=chance.choice([0, 0, most]),
            retries=chance.choice([0, 3, 3]),
            ping_interval=chance.choice([5.0, 60.0, None]),
            timeout=chance.choice([30.0, 30.0, 8.0]),
        )
        self.tokens = (f"{number:064x}" for number in range(1, 100_000))
        self.ends: Counter[str] = Counter()

    def run(self) -> Counter[str]:
        """Send batches and single notifications, cancel some, close perhaps; returns how many came to which end."""
        chance = self.chance
        batches: list[tuple[Deferred[Batch], dict[int, str], bool]] = []
        singles: list[tuple[Deferred[Accepted | Rejection], str]] = []
        for _ in range(chance.randint(1, 4)):
            tokens = dict(enumerate(next(self.tokens) for _ in range(chance.choice([0, 1, 10, 300]))))
            self.kill(tokens)
            deadline = chance.choice([None, None, None, 1.0])
            sending = self.client.send(chance.choice([ALERT, BIG]), tokens, deadline=deadline)
            singles += [(self.client.send_one(ALERT, token), token) for token in [next(self.tokens) for _ in range(5)]]
            self.simulator.advance(chance.choice([0, 0, 0.01, 3]))
            cancelled = chance.random() < 0.1 and not sending.called
            if cancelled:
                sending.cancel()
            batches.append((sending, tokens, cancelled))
        closing = self.client.close() if chance.random() < 0.2 else None
        for sending, tokens, cancelled in batches:
            self.check_batch(sending, tokens, cancelled)
        for single, token in singles:
            self.check_single(single, token)
        self.simulator.advance(200)  # for what was cancelled, and is settled without a listener
        if closing is not None:
            self.simulator.result(closing)
        self.end()
        return self.ends

    def kill(self, tokens: dict[int, str]) -> None:
        """Have a few of the devices gone."""
        dead = (bytes.fromhex(token) for token in tokens.values() if self.chance.random() < 0.05)
        self.simulator.inbox.dead.update((token, 0.0) for token in dead)

    def said(self) -> dict[bytes, list[str | None]]:
        """What the server says that it answered, or did, for each token."""
        said: defaultdict[bytes, list[str | None]] = defaultdict(list)
        for reception in self.simulator.inbox.received:
            said[reception.token].append(reception.reason)
        return said

    def check_batch(self, sending: Deferred[Batch], tokens: dict[int, str], cancelled: bool) -> None:
        """Hold a batch against the server's record."""
        if cancelled:
            self.case.failureResultOf(sending, CancelledError)
            return
        batch = self.simulator.result(sending, 5_000)
        check_batch(self.case, batch, tokens, self.simulator)
        self.ends.update(accepted=batch.accepted, failed=len(batch.failed))
        self.ends.update(unsent=len(batch.unsent), uncertain=len(batch.uncertain))

    def check_single(self, sending: Deferred[Accepted | Rejection], token: str) -> None:
        """Hold a single notification against the server's record."""
        try:
            outcome = self.simulator.result(sending, 5_000)
        except OutcomeUnknown:
            end, taken = "uncertain", (0, 1)
        except APNSError:
            end, taken = "unsent", (0,)
        else:
            end, taken = ("accepted", (1,)) if isinstance(outcome, Accepted) else ("failed", (0,))
        self.ends[end] += 1
        self.case.assertIn(self.said()[bytes.fromhex(token)].count(None), taken, end)

    def end(self) -> None:
        """Nothing is left: no request, nothing that waits, no timer; and only uncertain ones came twice."""
        status = self.client.status()
        self.case.assertEqual((status.in_flight, status.queued), (0, 0))
        self.simulator.result(self.client.close())
        self.case.assertEqual(set(self.client.status().connections), {"stopped"})
        self.case.assertEqual(self.simulator.reactor.getDelayedCalls(), [])
        for token, answers in self.said().items():
            self.case.assertLessEqual(answers.count(None), 1, f"{token.hex()} was taken twice: {answers}")


class CampaignTests(SynchronousTestCase):
    """Everything at once, by chance, and the same each time."""

    def left(self) -> dict[str, int]:
        """Count what there still is of what a notification or a connection needs."""
        gc.collect()
        kinds = Counter(type(found) for found in gc.get_objects())
        return {kind.__name__: kinds[kind] for kind in KINDS}

    def test_few(self) -> None:
        """Whatever goes wrong, all is accounted for as the server has it, and nothing is left behind."""
        self.run_seeds(20)

    @pytest.mark.campaign
    def test_many(self) -> None:
        """The same, for longer."""
        self.run_seeds(200)

    def run_seeds(self, count: int) -> None:
        """Run so many campaigns."""
        ends: Counter[str] = Counter()
        before = self.left()
        for seed in range(count):
            try:
                ends += Campaign(self, seed).run()
            except Exception as error:
                raise AssertionError(f"seed {seed}: {error!r}") from error
            if seed % 20 == 19:
                more = {kind: count for kind, count in self.left().items() if count > before[kind]}
                self.assertEqual(more, {}, f"seeds {seed - 19} to {seed}")
        self.assertEqual(set(ends), {"accepted", "failed", "unsent", "uncertain"})
        self.assertGreater(ends["accepted"], sum(ends.values()) / 2)
