"""
The daemon is killed again and again while several callers use all that decides what is sent, and when: lanes, dates,
rates, collapse ids and broadcasts.

Nothing that it accepted is lost, nothing is sent before its date, and nothing superseded is sent.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, defaultdict
from random import Random
from typing import Any

import attrs
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.daemon.killed_case import KilledCase
from tests.postgresql import schema
from txapns.command.installation import Installation
from txapns.daemon.keys import add_key
from txapns.daemon.values import Lane

__all__ = ["PostgreSQLTests", "SQLiteTests"]

#: How many requests each caller makes, of how many devices or broadcasts each, and how often the daemon is killed.
REQUESTS, SIZE, BROADCASTS, KILLS = 40, 20, 5, 5
#: How many devices all of them are for, and how many notifications are sent a second.
DEVICES, RATE = 120, 400
#: The callers, and the lanes to which their keys are bound.
CALLERS: dict[str, Lane | None] = {"calls": None, "news": None, "campaign": Lane.BULK}
LANES = ("urgent", "normal", "bulk", None)


@attrs.define
class _Request:
    """
    A request that was accepted.

    :ivar asked: its place among all questions and answers, and that of its answer.
    :ivar life: in which life of the daemon it was answered.
    """

    asked: int
    answered: int = 0
    life: int = 0


@attrs.frozen
class _Accepted:
    """
    A notification that was accepted.

    :ivar place: its device and its collapse id, as many as one can wait for; ``None`` if it cannot be superseded.
    """

    request: _Request
    not_before: float
    place: tuple[str, str] | None = None

    def follows(self, other: _Accepted, later: bool) -> bool:
        """Tell whether it may be the newer one of two; within one request that is the later one."""
        return later if self.request is other.request else self.request.answered > other.request.asked


@attrs.frozen
class _Arrival:
    """When a notification arrived, and in which life of the daemon it was sent."""

    at: float
    life: int


@attrs.frozen
class _Caller:
    """One that makes one request after the other."""

    key: str
    chance: Random


class CampaignCase(KilledCase):
    """Three callers, one daemon."""

    delay = 0.05
    keys = True

    def setUp(self) -> None:
        """Nothing is accepted yet."""
        super().setUp()
        self.moments = itertools.count()
        self.accepted: dict[str, _Accepted] = {}

    def tables(self) -> str:
        """Bound the rate, so that there is always something that waits."""
        return f"[limits]\nrate = {RATE}\n"

    def callers(self) -> list[_Caller]:
        """Make the keys."""
        with Installation.from_file(self.config).visiting() as tables:
            return [
                _Caller(
                    add_key(tables.keys, name, send=None, feedback=None, manage=True, lane=lane, now=time.time()),
                    Random(self.chance.random()),
                )
                for name, lane in CALLERS.items()
            ]

    async def ask(self, caller: _Caller, path: str, body: object, number: object) -> Any:
        """Have a caller send a request until it is answered; returns the answer."""
        fields = {"Authorization": f"Bearer {caller.key}", "Idempotency-Key": f"request-{number}"}
        return await self.insist("POST", f"/v1/apps/chess/{path}", body, fields)

    async def submit(self, caller: _Caller, number: int, channel: str) -> None:
        """Submit a request, and note what was accepted."""
        chance, lane, not_before = caller.chance, caller.chance.choice(LANES), 0.0
        body: dict[str, Any] = {} if lane is None else {"lane": lane}
        if chance.random() < 0.5:
            not_before = body["not_before"] = time.time() + chance.uniform(0.0, 3.0)
        request = _Request(next(self.moments))
        places: list[tuple[str, str] | None] = [None] * BROADCASTS
        if chance.random() < 0.3:
            update = {"aps": {"event": "update", "timestamp": int(time.time()), "content-state": {"number": number}}}
            body["broadcasts"] = [{"channel": channel, "payload": update}] * BROADCASTS
            answer = await self.ask(caller, "broadcasts", body, number)
            ids = [each["id"] for each in answer["broadcasts"]]
        else:
            tokens = [f"{chance.randrange(DEVICES):064x}" for _ in range(SIZE)]
            collapse_id = chance.choice(("score", "score", "news", ""))
            headers = {"apns-collapse-id": collapse_id} if collapse_id else {}
            if chance.random() < 0.3:
                body["rate"] = 50
            body["notifications"] = [{"tokens": tokens, "payload": {"n": number}, "headers": headers}]
            answer = await self.ask(caller, "notifications", body, number)
            [ids] = [each["ids"] for each in answer["notifications"]]
            places = [(token, collapse_id) if collapse_id else None for token in tokens]
        request.answered, request.life = next(self.moments), len(self.killed)
        for apns_id, place in zip(ids, places, strict=True):
            self.accepted[apns_id] = _Accepted(request, not_before, place)

    async def submit_all(self, caller: _Caller, channel: str) -> None:
        """Submit one request after the other."""
        for number in range(REQUESTS):
            await self.submit(caller, number, channel)
            await deferLater(reactor, 0.05)

    async def states(self, caller: _Caller) -> dict[str, str]:
        """Read the outcome feed until it has an outcome of each; it has one of each."""
        fields = {"Authorization": f"Bearer {caller.key}"}
        found: list[dict[str, Any]] = []
        while len(found) < len(self.accepted):
            path = f"/v1/apps/chess/outcomes?after={len(found)}&limit=10000"
            status, page = await self.daemon.ask("GET", path, headers=fields)
            self.assertEqual(status, 200, page)
            found += page["outcomes"]
            await deferLater(reactor, 0.05)
        self.assertEqual([each["cursor"] for each in found], list(range(1, len(found) + 1)))
        states = {each["id"]: each["state"] for each in found}
        self.assertEqual(states.keys(), self.accepted.keys())
        return states

    def arrivals(self) -> dict[str, list[_Arrival]]:
        """List what the simulator received, by id."""
        found: defaultdict[str, list[_Arrival]] = defaultdict(list)
        lives: dict[int, int] = {}  # of connections: what one life has sent may be read in the next
        for each in self.simulator.inbox.received:
            self.assertIsNone(each.reason)
            field = "apns-request-id" if each.protocol == "broadcast" else "apns-id"
            life = sum(killed < each.at for killed in self.killed)
            found[each.headers[field]].append(_Arrival(each.at, lives.setdefault(id(each.connection), life)))
        return found

    def newer(self) -> dict[str, list[_Accepted]]:
        """Find for each that can be superseded what may have done it; what two callers ask at a time has no order."""
        places: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for apns_id, accepted in self.accepted.items():
            if accepted.place is not None:
                places[accepted.place].append(apns_id)
        return {
            ids[position]: [each for other, each in enumerate(found) if each.follows(accepted, other > position)]
            for ids in places.values()
            for found in [[self.accepted[apns_id] for apns_id in ids]]
            for position, accepted in enumerate(found)
        }

    def check(self, states: dict[str, str]) -> None:
        """Each that is not superseded arrived, none before its date; what is superseded, only if it was in flight."""
        arrivals, newer = self.arrivals(), self.newer()
        self.assertEqual(set(arrivals) - set(self.accepted), set())
        for apns_id, accepted in self.accepted.items():
            arrived, rivals = arrivals.get(apns_id, []), newer.get(apns_id, [])
            sure = [each.request.life for each in rivals if each.request.asked > accepted.request.answered]
            for each in arrived:
                self.assertGreaterEqual(each.at, accepted.not_before - 0.001)
                self.assertLessEqual(each.life, min(sure, default=len(self.killed)), "sent after it was superseded")
            if states[apns_id] == "superseded":
                self.assertTrue(rivals, "superseded by nothing")
                last = min(max(each.request.life for each in rivals), len(self.killed) - 1)
                for each in arrived:
                    self.assertLessEqual(each.life, last, "it was not in flight when the daemon was killed")
            else:
                self.assertEqual(states[apns_id], "accepted")
                self.assertTrue(arrived, "lost")
        counts = Counter(states.values())
        self.assertGreater(counts["superseded"], 0)
        twice = sum(len(found) - 1 for found in arrivals.values())
        self.say(f"{counts['accepted']} sent, {counts['superseded']} superseded, {twice} arrived twice")

    async def be_killed(self) -> None:
        """What becomes of each is what must."""
        callers = self.callers()
        await self.daemon.start()
        made = await self.ask(callers[0], "channels", {"storage_policy": 1}, "channel")
        submitting = gatherResults(
            [Deferred.fromCoroutine(self.submit_all(each, made["channel"])) for each in callers], consumeErrors=True
        )
        for _ in range(KILLS):
            await deferLater(reactor, self.chance.uniform(0.2, 1.0))
            await self.kill()
        await submitting
        self.check(await self.states(callers[0]))
        self.assertEqual(await self.daemon.end(), 0)


@pytest.mark.campaign
@pytest.mark.loopback
class SQLiteTests(CampaignCase):
    """One daemon with a database of its own."""

    async def test_killed(self) -> None:
        """It is killed again and again."""
        await self.be_killed()


@pytest.mark.campaign
@pytest.mark.loopback
class PostgreSQLTests(CampaignCase):
    """One node of a cluster."""

    async def test_killed(self) -> None:
        """It is killed again and again."""
        await self.be_killed()

    def tables(self) -> str:
        """Store in PostgreSQL."""
        place = schema(self)
        return f'{super().tables()}\n[database]\nurl = "{place.url}"\nschema = "{place.name}"\n[node]\nname = "one"\n'
