"""Tests for :mod:`txapns.daemon.store.postgresql.acceptance`."""

from __future__ import annotations

import threading
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.acceptance_contract import AcceptanceContract
from tests.daemon.store.contract import message
from tests.daemon.store.postgresql.opened import until
from tests.daemon.store.postgresql.world import PostgreSQLWorld
from tests.postgresql import schema
from txapns.daemon.errors import KeyConflict
from txapns.daemon.store.acceptance import Acceptance, flow_of, packed
from txapns.daemon.store.postgresql.acceptance import BLOCK, BLOCK_LIFE, Numbers, add, find_apps, recognize
from txapns.daemon.store.postgresql.flows import find_flows
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.values import Idempotency, Receipt

__all__ = ["KeyTests", "NumberTests", "PostgreSQLAcceptanceTests"]

# The first time that somebody stores a key, it is as if another node had stored it before, and it was forgotten since.
_FORGETFUL = """
CREATE SEQUENCE stored;
CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN IF nextval(''stored'') = 1 THEN RETURN NULL; END IF; RETURN NEW; END';
CREATE TRIGGER forget BEFORE INSERT ON idempotency FOR EACH ROW EXECUTE FUNCTION forget();
"""


class PostgreSQLAcceptanceTests(AcceptanceContract, SynchronousTestCase):
    """The contract."""

    seeds = 2

    def make_world(self) -> PostgreSQLWorld:
        """Make one in a schema of its own."""
        return PostgreSQLWorld(schema(self))


class AcceptanceCase(SynchronousTestCase):
    """Transactions on a store's tables."""

    def setUp(self) -> None:
        """Make them."""
        self.world = PostgreSQLWorld(schema(self))
        self.addCleanup(lambda: self.world.stop())

    def connect(self) -> Connection:
        """Connect."""
        connection = self.world.connect()
        self.addCleanup(connection.close)
        return connection

    def accept(self, connection: Connection, *idempotencies: Idempotency) -> list[list[Receipt] | KeyConflict | None]:
        """Accept requests together, in a transaction that is not committed."""
        acceptances = [Acceptance([message(self.world, 2)], key, 1, 1) for key in idempotencies]
        apps = find_apps(connection, {"chess"})
        flows = find_flows(connection, {flow_of(acceptances[0].messages[0])}, apps)
        results, new = recognize(connection, acceptances, Numbers(), 0.0)
        requests = packed(new)
        for each in requests:
            each.apps, each.flows = apps, flows
        add(connection, requests, self.world.incarnation)
        return results


class KeyTests(AcceptanceCase):
    """Idempotency keys that two nodes use at the same time."""

    def race(self, first: list[Idempotency], second: list[Idempotency]) -> tuple[list[Any], list[Any]]:
        """Let one node accept requests while another one's transaction with the same keys is not committed yet."""
        one, other = self.connect(), self.connect()
        find_apps(one, {"chess"})
        one.commit()
        results = self.accept(one, *first)
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(self.accept(other, *second)))
        thread.start()
        until(lambda: self.world.waits(other.info.backend_pid))
        one.commit()
        thread.join()
        other.commit()
        return results, found[0]

    def test_same_request(self) -> None:
        """One is stored; the other gets its receipts."""
        key = Idempotency("caller", "key", b"digest")
        first, [second] = self.race([key], [key])
        self.assertEqual((first, second[0].earlier, len(second[0].numbers)), ([None], True, 2))
        self.assertEqual(self.world.execute("SELECT count(*), min(number) FROM queue"), [(2, second[0].numbers[0])])

    def test_other_request(self) -> None:
        """One is stored; the other is a conflict. What came with it is stored."""
        digests = [Idempotency("caller", "key", digest) for digest in (b"digest", b"other")]
        first, second = self.race(digests[:1], [digests[1], Idempotency("caller", "another", b"digest")])
        self.assertEqual((first, second[1]), ([None], None))
        self.assertIsInstance(second[0], KeyConflict)
        self.assertEqual(self.world.execute("SELECT count(*) FROM queue"), [(4,)])
        self.assertEqual(self.world.execute("SELECT sum(waiting) FROM queue_count"), [(4,)])

    def test_no_deadlock(self) -> None:
        """Two nodes that use the same keys in another order do not wait for each other."""
        keys = [Idempotency("caller", name, b"digest") for name in "abc"]
        _, second = self.race(keys, keys[::-1])
        self.assertEqual([each[0].earlier for each in second], [True, True, True])

    def test_rolled_back(self) -> None:
        """If the first is rolled back, the other is stored."""
        key = Idempotency("caller", "key", b"digest")
        one, other = self.connect(), self.connect()
        find_apps(one, {"chess"})
        one.commit()
        self.accept(one, key)
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(self.accept(other, key)))
        thread.start()
        until(lambda: self.world.waits(other.info.backend_pid))
        one.rollback()
        thread.join()
        other.commit()
        self.assertEqual((found, self.world.execute("SELECT count(*) FROM queue")), ([[None]], [(2,)]))

    def test_forgotten_meanwhile(self) -> None:
        """A key that another node has stored, and that is forgotten before it is looked at, is stored."""
        connection = self.connect()
        self.accept(connection, Idempotency("caller", "other", b"digest"))
        connection.commit()
        self.world.execute_all(_FORGETFUL)
        [receipts] = self.accept(connection, Idempotency("caller", "key", b"digest"))
        connection.commit()
        self.assertIsNone(receipts)
        self.assertEqual(self.world.execute("SELECT count(*) FROM queue"), [(4,)])
        self.assertEqual(self.world.execute("SELECT key FROM idempotency ORDER BY key"), [("key",), ("other",)])


class NumberTests(AcceptanceCase):
    """The numbers of notifications."""

    def test_blocks(self) -> None:
        """Each node takes a block at a time, of which it uses one number after the other."""
        connection, first, second = self.connect(), Numbers(), Numbers()
        one = [first.take(connection, 10, 0.0) for _ in range(3)]
        other = [second.take(connection, 10, 0.0) for _ in range(3)]
        self.assertEqual(one, [one[0], one[0] + 10, one[0] + 20])
        self.assertEqual(other, [one[0] + BLOCK + 10 * n for n in range(3)])

    def test_many(self) -> None:
        """More numbers than a block follow one another, too, even if another node takes a block in between."""
        connection, numbers = self.connect(), Numbers()
        first = numbers.take(connection, 2 * BLOCK + 1, 0.0)
        self.assertEqual(numbers.take(connection, 1, 0.0), first + 2 * BLOCK + 1)
        self.assertEqual(Numbers().take(connection, 1, 0.0), first + 3 * BLOCK)

    def test_server_crashed(self) -> None:
        """A block of another connection is not used up: the server may have crashed, and given it to another node."""
        connection, numbers = self.connect(), Numbers()
        first = numbers.take(connection, 1, 0.0)
        self.assertEqual(numbers.take(self.connect(), 1, 0.0), first + BLOCK)

    def test_old_block(self) -> None:
        """A block that was begun long ago is not used up, so that numbers increase with time on all nodes."""
        connection, numbers = self.connect(), Numbers()
        first = numbers.take(connection, 1, 0.0)
        self.assertEqual(numbers.take(connection, 1, BLOCK_LIFE - 1), first + 1)
        self.assertEqual(numbers.take(connection, 1, BLOCK_LIFE + 1), first + BLOCK)
