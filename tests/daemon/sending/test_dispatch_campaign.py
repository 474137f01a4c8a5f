"""A campaign against the dispatcher: faults, changes of apps, and crashes, made from a seed."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.dispatch_world import DEAD, DispatchWorld, token
from txapns.daemon.sending.settling import Retries
from txapns.daemon.values import Limits, State
from txapns.simulator.http2 import ProviderAPIServer, Response
from txapns.wire.requests import Request

__all__ = ["CampaignTests"]

APPS = ("chess", "go", "shogi")
STEPS = 60


class Campaign:
    """
    One run.

    :param seed: of its random numbers.

    :ivar accepted: the token of each accepted id; empty for a broadcast.
    :ivar arrived: how often each id came to the simulator, whether or not it was answered.
    :ivar crashed: how many notifications were under way when a dispatcher crashed, or stopped before they were settled.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.accepted: dict[str, bytes] = {}
        self.arrived: Counter[str] = Counter()
        self.crashed = 0
        self._gone: dict[ProviderAPIServer, int] = {}
        self.calm = False
        self.world = DispatchWorld(delay=self.random.choice([0.0, 0.02, 0.3]), concurrency=self.random.choice([3, 50]))
        self.options: dict[str, Any] = {
            "retries": Retries(first=0.5, longest=4.0, jitter=0.5, random=self.random.random),
            "most": self.random.choice([20, 10_000]),
            "lease": 9.0,
            "timeout": 5.0,
        }
        self.world.simulator.http2_fault = self.fault
        self.channel = self.world.simulator.channels.make(self.world.simulator.topic, 0)
        for name in APPS:
            self.change(name)
        self.world.start(**self.options)

    def fault(self, server: ProviderAPIServer, request: Request, response: Response) -> Response | None:
        """Fail now and then."""
        if request.stream > self._gone.get(server, request.stream):
            return None  # what comes after a GOAWAY is not looked at
        fields = dict(request.headers)
        apns_id = fields.get(b"apns-id", fields.get(b"apns-request-id", b"")).decode()
        kind = self.random.choice(["cut", "mute", "later", "goaway"]) if self.random.random() < 0.06 else ""
        if kind == "later" and not self.calm:
            return Response(*self.random.choice([(429, "TooManyRequests"), (503, "ServiceUnavailable")]))
        self.arrived[apns_id] += 1
        if self.calm or not kind:
            return response
        if kind == "goaway":
            server.requests.goaway(last_stream=request.stream)
            self._gone[server] = request.stream
            return response
        if kind == "cut":
            server.abort()
        return None  # the notification is taken without an answer

    def change(self, name: str) -> None:
        """Give an app another credential or other limits, or remove it for a while."""
        if name in self.world.apps.names() and self.random.random() < 0.2:
            self.world.apps.remove(name)
            return
        credential = self.random.choice([self.world.simulator.certificate, self.world.simulator.provider_token])()
        limits = Limits(in_flight=self.random.choice([1, 10, 500]), attempts=self.random.choice([3, 50]))
        self.world.add_app(name, credential=credential, limits=limits)

    def accept(self) -> None:
        """Accept a few, one of them perhaps for a dead device, or a broadcast."""
        app = self.random.choice(APPS)
        if self.random.random() < 0.2:
            fields = {"push_type": "liveactivity", "expiration": "0", "channel_id": self.channel}
            [apns_id] = self.world.accept(app=app, tokens=[b""], **fields)
            self.accepted[apns_id] = b""
            return
        tokens = [token(self.random.getrandbits(200)) for _ in range(self.random.choice([1, 5, 60]))]
        if self.random.random() < 0.2:
            tokens.append(DEAD)
        ids = self.world.accept(app=app, tokens=tokens)
        self.accepted.update(zip(ids, tokens, strict=True))

    def under_way(self) -> int:
        """Count the notifications that are under way."""
        return self.world.dispatcher.under_way()

    def crash(self) -> None:
        """Lose the dispatcher. What is under way may arrive a second time."""
        self.crashed += self.under_way()
        self.world.crash(**self.options)

    def stop(self) -> None:
        """Stop the dispatcher with some deadline, and start another."""
        deadline = self.random.choice([0.1, 20.0])
        end, under_way = self.world.clock.seconds() + deadline, self.under_way()
        self.world.result(self.world.dispatcher.stop(deadline), 0.2)
        if self.world.clock.seconds() >= end:
            self.crashed += under_way
        self.world.result(self.world.queue.reclaim())
        self.world.start(**self.options)

    def run(self) -> None:
        """Do what the seed says, then send what is left."""
        doing = [self.accept] * 8 + [self.crash, self.stop, lambda: self.change(self.random.choice(APPS))]
        for _ in range(STEPS):
            self.random.choice(doing)()
            self.world.advance(self.random.choice([0.0, 0.01, 0.1, 1.0, 4.0]))
        self.calm = True
        for name in APPS:
            self.world.add_app(name)
        for name in APPS:
            self.world.drain(1_200.0, name)


class CampaignTests(SynchronousTestCase):
    """Random campaigns."""

    def check(self, seed: int) -> None:
        """Run one, and compare what the queue has with what arrived."""
        campaign = Campaign(seed)
        world = campaign.world
        try:
            campaign.run()
            outcomes = {apns_id: world.outcome(apns_id) for apns_id in campaign.accepted}
        finally:
            world.close()
        for apns_id, outcome in outcomes.items():
            times = campaign.arrived[apns_id]
            if campaign.accepted[apns_id] == DEAD:
                self.assertIn(outcome.state, (State.REJECTED, State.DEAD), f"seed {seed}")
            else:
                self.assertIn(outcome.state, (State.ACCEPTED, State.DEAD), f"seed {seed}")
            if outcome.state is not State.DEAD:
                self.assertGreaterEqual(times, 1, f"seed {seed}: {apns_id} never arrived")
        self.assertLessEqual(set(campaign.arrived), set(campaign.accepted), f"seed {seed}: an id that was not accepted")
        for each in world.simulator.inbox.received:
            apns_id = each.headers["apns-request-id" if each.protocol == "broadcast" else "apns-id"]
            device = each.token
            self.assertEqual(campaign.accepted[apns_id], device, f"seed {seed}: an id for another device")
        again = campaign.arrived - world.queue.uncertain - Counter(campaign.accepted.keys())
        twice = sum(again.values())
        self.assertLessEqual(twice, campaign.crashed, f"seed {seed}: sent twice without need")

    def test_few(self) -> None:
        """Every accepted notification arrives at least once, and has one final state."""
        for seed in range(2):
            self.check(seed)

    @pytest.mark.campaign
    def test_many(self) -> None:
        """The same, for longer."""
        for seed in range(100, 104):
            self.check(seed)
