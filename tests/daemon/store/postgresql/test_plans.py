"""
The plans of the statements on the tables of the queue, with few rows, thousands and a million.

The server makes a plan once for each connection, and it must serve from the first row to the millionth, whatever the
statistics say. So each statement is executed with the rows in place, before and after they were counted, and what it
touches must not depend on how many there are.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import START, message, result
from tests.daemon.store.postgresql.explaining import Explained, RecordingSettings
from tests.daemon.store.postgresql.plans import plan
from tests.daemon.store.postgresql.world import DAY, PostgreSQLWorld
from tests.postgresql import Schema, schema
from txapns.daemon.store.postgresql.settings import Settings
from txapns.daemon.store.queue import SCANNED
from txapns.daemon.store.superseding import hash_of
from txapns.daemon.values import Idempotency, Lane, Settlement, State, TokenEnvironment, TokenKind

__all__ = ["PlanTests"]

#: The most pages that a statement may touch, and the most rows that may come to a node of its plan.
PAGES, ROWS = 2_000, 500
#: Tables of which there is a row for each node, each app, each flow, each reader, or each chunk that is in flight: few.
SMALL = {
    "duty",
    "feedback_head",
    "feedback_reader",
    "flow",
    "lease",
    "node",
    "outcome_head",
    "outcome_reader",
    "outcome_tail",
    "queue_app",
    "queue_count",
    "schema_version",
}

_LOAD = """
INSERT INTO queue_app (name) VALUES ('chess'), ('news');
INSERT INTO flow (app, lane, caller) SELECT 1 + n % 2, n / 2 % 3, 'caller ' || n / 6 FROM generate_series(0, 11) AS n;
INSERT INTO message SELECT n * 10, {start}, {start}, '{{}}', '{{}}' FROM generate_series(0, {count} / 10) AS n;
INSERT INTO queue (number, message, due, accepted_at, app, collapse, apns_id, token, flow)
SELECT n, n / 10 * 10, {start} - n % 2000, {start}, 1 + n / 10 % 2, CASE n % 2 WHEN 0 THEN {collapse} END,
    md5(n::text)::uuid, sha256(n::text::bytea), 1 + n / 10 % 12
FROM generate_series(1, {count}) AS n;
INSERT INTO outcome (
    number, message, due, accepted_at, settled_at, app, attempts, status, collapse, state, apns_id, token, reason
)
SELECT -n, -(n / 10 * 10), {start}, {start}, {start} + n % 3 * {day}, 1 + n / 10 % 2, 1, 200,
    CASE n % 2 WHEN 0 THEN {collapse} END,
    CASE n % 50 WHEN 0 THEN 2 WHEN 1 THEN 3 WHEN 2 THEN 4 ELSE 1 END, md5((-n)::text)::uuid, sha256(n::text::bytea), ''
FROM generate_series(1, {count}) AS n;
INSERT INTO idempotency
SELECT 'caller', n::text, '', '{{1}}', '', {start}, n FROM generate_series(1, {count} / 10) AS n;
INSERT INTO feedback_token
SELECT n, 'chess', sha256(n::text::bytea), 'Unregistered', n, 0 FROM generate_series(1, {count} / 10) AS n;
UPDATE feedback_head SET cursor = {count};
INSERT INTO outcome_head VALUES (1, {count}), (2, 1);
INSERT INTO outcome_entry
SELECT n, n, {start}, {start} + n, NULL, 1, 1, 200, 1, md5(n::text)::uuid, sha256(n::text::bytea), '', NULL
FROM generate_series(1, {count}) AS n;
INSERT INTO token_environment (app, token, kind, until)
SELECT CASE n % 10 WHEN 0 THEN 'app-' || n % 1000 ELSE 'chess' END, sha256(n::text::bytea), 1 + n % 3, {start} + n
FROM generate_series(1, {count}) AS n;
INSERT INTO outcome_entry SELECT 1, n, accepted_at, settled_at, NULL, 2, 1, 200, 1, apns_id, token, '', NULL
FROM outcome_entry AS entry (cursor, n) WHERE n = 1;
SELECT setval('queue_number', {count} + 1);
"""


class RecordingWorld(PostgreSQLWorld):
    """A world that records what it executes."""

    def __init__(self, place: Schema) -> None:
        self.found: list[Explained] = []
        self.count = 0
        super().__init__(place)

    def settings(self) -> Settings:
        """Record it."""
        return RecordingSettings(self.place.url, schema=self.place.name, found=self.found.append)


class PlanTests(SynchronousTestCase):
    """What the statements touch."""

    def setUp(self) -> None:
        """Make a store."""
        self.world = RecordingWorld(schema(self))
        self.addCleanup(lambda: self.world.stop())
        self.key = 0

    def do(self, name: str, *arguments: Any) -> Any:
        """Call a method of the queue, and wait for the result."""
        return result(self.world.clock, getattr(self.world.queue, name)(*arguments))

    def ask(self, name: str, *arguments: Any) -> Any:
        """Call a method of the outcome log, and wait for the result."""
        return result(self.world.clock, getattr(self.world.outcome_log, name)(*arguments))

    def live(self) -> None:
        """Use every method."""
        self.key += 1
        accepted = message(self.world, 6)
        [receipt] = self.do("accept", [accepted], Idempotency("caller/chess", str(self.key), b"digest"))
        self.do("accept", [accepted], Idempotency("caller/chess", str(self.key), b"digest"))
        self.world.feed.keep(["chess"])
        until = self.world.clock.seconds() + 60
        self.do("lease", "chess", 6, until, None, Lane.URGENT)
        numbers: list[int] = []
        while len(numbers) < 6:
            found = self.do("lease", "chess", 6, until)
            self.assertTrue(found)
            numbers += [each.number for each in found]
        settlements = [
            Settlement(numbers[0], State.ACCEPTED, 200),
            Settlement(numbers[1], State.REJECTED, 410, "Unregistered"),
            Settlement(numbers[2], State.DEAD, 503, "Shutdown"),
            Settlement(numbers[3], State.WAITING, 503, "Shutdown", due=self.world.clock.seconds()),
        ]
        self.do("renew", numbers, until)
        self.do("renew", numbers[:2], until)
        self.do("settle", settlements)
        self.do("settle", settlements)
        self.do("release", numbers[4:5])
        self.do("depths")
        self.do("next_due", "chess")
        self.do("due_apps")
        self.do("look")
        self.do("lease", "chess", 1, until, 5)
        self.ask("outcomes", [*receipt.numbers, *numbers])
        for apps in (None, [], ["chess", "news"]):
            self.ask("latest", accepted.apns_ids[0], apps)
        self.ask("seen", "chess")
        for app in ("chess", "news", "go"):
            self.ask("failures", app, 12)
            self.ask("of_device", app, sha256(b"50").digest(), 12)
        for app in (None, "chess"):
            for state in State:
                self.ask("listed", app, state, 10)
                self.ask("purge", app, state, 2)
            self.ask("retry", app, 2)
        self.ask("prune", START - 1, 10)
        self.supersede()
        self.follow()
        self.know()

    def know(self) -> None:
        """Look up what is known of tokens, take note of something, and forget."""
        tokens = [sha256(str(n).encode()).digest() for n in range(20)]
        kept = TokenEnvironment(TokenKind.SANDBOX, START + 60)
        calls: list[tuple[Any, ...]] = [("known", app, tokens) for app in ("chess", "nobody")]
        calls += [("note", "chess", {tokens[1]: kept, tokens[2]: None}), ("prune", START - 1, 200, 10)]
        calls += [("prune", START + 0.005, 200, 10), ("prune", START - 1, 50, 10)]
        for name, *arguments in calls:
            result(self.world.clock, getattr(self.world.tokens, name)(*arguments))

    def supersede(self) -> None:
        """Accept what supersedes something that waits, and marks dead letters and something leased."""
        tokens = [sha256(str(n).encode()).digest() for n in range(20)]
        sent = msgspec.structs.replace(message(self.world, len(tokens)), tokens=tokens, collapse_id="score")
        leased = []
        for _ in range(2):
            self.do("accept", [sent])
            leased += self.do("lease", "chess", 5, self.world.clock.seconds() + 60, None, None, 1_000)
        self.do("settle", [Settlement(each.number, State.ACCEPTED, 200) for each in leased])

    def follow(self) -> None:
        """Use every method of the outcome feed."""
        calls: list[tuple[Any, ...]] = [("after", "chess", self.world.count // 2, 10), ("after", "news", 0, 10)]
        for apps in (None, ["chess"], []):
            calls += [("take", apps, "web", 10), ("behind", apps, "web")]
        calls += [("confirm", "web", {"chess": 5}), ("prune", START + 0.005, 10**7, 10), ("prune", 0.0, 10, 10)]
        for name, *arguments in calls:
            result(self.world.clock, getattr(self.world.feed, name)(*arguments))

    def check(self, count: int) -> None:
        """Use every method with so many rows, before and after they are counted."""
        self.world.count = count
        self.world.execute_all(_LOAD.format(count=count, start=int(START * 1000), day=DAY, collapse=hash_of("score")))
        for _ in range(2):
            self.world.restart()
            self.world.found.clear()
            self.live()
            self.world.execute_all("ANALYZE")
            self.assertGreater(len({each.statement for each in self.world.found}), 30)
            for each in self.world.found:
                if f"LIMIT {SCANNED}" in each.statement:  # it looks at so many, and tells whoever asks
                    self.assertLessEqual(each.rows, SCANNED, str(each))
                    continue
                self.assertLessEqual(each.scanned, SMALL, str(each))
                self.assertLess(each.pages, PAGES, str(each))
                self.assertLess(each.rows, ROWS, str(each))

    def test_dead_letters(self) -> None:
        """Dead letters are counted with an index of what failed."""
        self.world.execute_all(
            _LOAD.format(count=10_000, start=int(START * 1000), day=DAY, collapse=hash_of("score")) + "; ANALYZE"
        )
        self.assertEqual(sum(self.ask("dead_letters").values()), 200)
        with self.world.connect() as connection:
            found = plan(connection, "SELECT app FROM outcome WHERE state = 4 LIMIT %s", [100_000])
        self.assertEqual(len(re.findall(r"Index.* Scan (?:using|on) outcome_\d+_\d+_app_flow_idx", found)), 3, found)

    def test_failures(self) -> None:
        """The latest failures of an app, and those of a device, are found in indexes of their own."""
        self.world.execute_all(
            _LOAD.format(count=10_000, start=int(START * 1000), day=DAY, collapse=hash_of("score")) + "; ANALYZE"
        )
        failed = "SELECT number FROM outcome WHERE app = 1 AND state > 1 AND state < 5"
        with self.world.connect() as connection:
            found = plan(connection, f"{failed} ORDER BY settled_at DESC LIMIT 12", [])
            self.assertRegex(found, r"Index Scan Backward using outcome_\w*app_settled_at_idx")
            found = plan(connection, f"{failed} AND token = %s ORDER BY number DESC LIMIT 12", [b"50"])
            self.assertRegex(found, r"Index.* Scan Backward using outcome_\w*app_token_number_idx")
        [latest, *others] = self.ask("failures", "chess", 12)
        self.assertEqual((latest.outcome.app, len(others)), ("chess", 11))

    def test_few(self) -> None:
        """With ten rows."""
        self.check(10)

    def test_thousands(self) -> None:
        """With ten thousand rows."""
        self.check(10_000)

    @pytest.mark.campaign
    def test_million(self) -> None:
        """With a million rows."""
        self.check(1_000_000)
