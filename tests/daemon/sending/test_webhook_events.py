"""Tests for :mod:`txapns.daemon.sending.webhook_events`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.daemon.store.contract import ID, PAYLOAD, START, StoreContract
from tests.daemon.store.sqlite.world import SQLiteWorld
from txapns.daemon.faces.native.json_api import encode
from txapns.daemon.faces.native.submissions import outcome_body
from txapns.daemon.sending.webhook_events import DeadTokens, IEvents, Outcomes, Report
from txapns.daemon.values import CHANNEL, Environment, Message, Settlement, State

__all__ = ["DeadTokensTests", "OutcomesTests"]


class EventsCase(StoreContract, SynchronousTestCase):
    """A store, and what of it is reported."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))

    def take(self, events: IEvents) -> Report | None:
        """Make the next report."""
        found: Report | None = self.result(Deferred.fromCoroutine(events.take()))
        return found

    def entries(self, events: IEvents) -> list[dict[str, Any]]:
        """Make the next report, and read it."""
        report = self.take(events)
        assert report is not None
        [entries] = json.loads(report.body).values()
        self.assertEqual(len(entries), report.count)
        return list(entries)

    def rest(self, events: IEvents) -> list[list[tuple[str, int]]]:
        """Confirm all reports; returns the apps and the cursors of each."""
        found = []
        while (report := self.take(events)) is not None:
            [entries] = json.loads(report.body).values()
            found.append([(each["app"], each["cursor"]) for each in entries])
            self.result(report.confirm())
        return found

    def behind(self, events: IEvents) -> int:
        """Count what is not confirmed."""
        return int(self.result(Deferred.fromCoroutine(events.behind())))

    def live(self, count: int, app: str = "chess", state: State = State.REJECTED) -> None:
        """Let Apple accept notifications, or find that their tokens are dead."""
        self.accept(count, app)
        answer = (200,) if state is State.ACCEPTED else (410, "Unregistered", self.date)
        self.settle(self.lease(app=app), state, *answer)
        self.world.clock.advance(1)


class DeadTokensTests(EventsCase):
    """Dead tokens."""

    def events(self, *apps: str, batch: int = 2) -> DeadTokens:
        """Report those of some apps, or of all."""
        return DeadTokens(self.world.log, "webhook:crm", apps, batch)

    def test_interface(self) -> None:
        """They are events."""
        verifyObject(IEvents, self.events())

    def test_all(self) -> None:
        """Those of all apps are in one order."""
        self.live(1)
        self.live(1, "news")
        self.live(1)
        events = self.events()
        self.assertEqual((self.behind(events), self.rest(events)), (3, [[("chess", 1), ("news", 2)], [("chess", 3)]]))
        self.assertEqual(self.behind(events), 0)

    def test_turns(self) -> None:
        """Of several apps each has its turn, however many the others have."""
        self.live(4)
        self.live(1, "news")
        events = self.events("chess", "news", "go")
        self.assertEqual(self.behind(events), 5)
        self.assertEqual(self.rest(events), [[("chess", 1), ("chess", 2)], [("news", 5)], [("chess", 3), ("chess", 4)]])


class OutcomesTests(EventsCase):
    """Outcomes."""

    def setUp(self) -> None:
        """Record those of two apps."""
        super().setUp()
        self.world.feed.keep(["chess", "news"])

    def events(self, *apps: str, batch: int = 4) -> Outcomes:
        """Report those of some apps, or of all."""
        return Outcomes(self.world.feed, "webhook:crm", apps, batch)

    def test_interface(self) -> None:
        """They are events."""
        verifyObject(IEvents, self.events())

    def test_entry(self) -> None:
        """An outcome is told as the HTTP API tells it, with its token and cursor, and what is unknown is left out."""
        ids = self.accept(3)
        self.do("accept", [Message("chess", PAYLOAD, {CHANNEL: "AbCd"}, [b""], [ID])])
        first, second, third, broadcast = self.lease()
        settlements = [
            Settlement(first.number, State.ACCEPTED, 200, unique_id="E77A", environment=Environment.SANDBOX),
            Settlement(second.number, State.REJECTED, 410, "Unregistered", START - 5),
            Settlement(third.number, State.EXPIRED),
            Settlement(broadcast.number, State.ACCEPTED, 200),
        ]
        self.do("settle", settlements)
        found = self.entries(self.events())
        more = [(each.pop("cursor"), each.pop("token")) for each in found]
        self.assertEqual(more, [*((n + 1, n.to_bytes(32, "big").hex()) for n in range(3)), (4, "")])
        self.assertEqual(found, [json.loads(encode(outcome_body(self.outcome(each)))) for each in (*ids, ID)])
        self.assertEqual([each.get("channel") for each in found], [None, None, None, "AbCd"])

    def test_shares(self) -> None:
        """Several apps share a report; the positions of all move on when it is confirmed."""
        self.live(5, state=State.ACCEPTED)
        self.live(2, "news")
        self.live(3, "go")
        events = self.events()
        self.assertEqual((self.behind(events), self.entries(events)), (7, self.entries(events)))
        first: Sequence[tuple[str, int]] = [("chess", 1), ("chess", 2), ("news", 1), ("news", 2)]
        self.assertEqual(self.rest(events), [first, [("chess", 3), ("chess", 4), ("chess", 5)]])
        self.assertEqual((self.behind(events), self.take(events)), (0, None))

    def test_apps(self) -> None:
        """Those of other apps are not reported."""
        self.live(1)
        self.live(1, "news")
        self.assertEqual(self.rest(self.events("news", "go")), [[("news", 1)]])
        self.assertEqual(self.behind(self.events()), 1)
