"""
The client against a server that is not ours, over real sockets: each outcome is held against that server's own record.

Nothing here depends on how fast this machine is. Where a connection ends, or the server speaks, before anything is to
settle, the settle time is far longer than any test; where something has to settle, the server says nothing meanwhile.
"""

from __future__ import annotations

import json
import sys
import unittest
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from random import Random

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase

from tests.checks import check_answers
from tests.stdlib_server import Script, StdlibServer, feedback
from txapns import APNSClient, Batch, Certificate, Gateway, Notification, errors
from txapns.reasons import status_name
from txapns.simulator import Authority

__all__ = [
    "AcceptTests",
    "CampaignTests",
    "FeedbackTests",
    "LateTests",
    "NotToldTests",
    "StallTests",
    "ToldTests",
]

AUTHORITY = Authority()
CERTIFICATE = Certificate.from_pem(AUTHORITY.client_pem())
ALERT = Notification(alert="Grüße", badge=1, priority=5, expiration=1_900_000_000)
LONG = Notification(alert="x" * 1_500)

#: Settle times in seconds: longer than any test, and for where nothing but time has to pass.
NEVER, SOON = 600.0, 0.2
#: How many notifications there are, and the one at which something happens, counted from 1.
COUNT, HERE = 12, 5
COMMANDS = (0, 1, 2)
#: How acceptance is confirmed, by a barrier or by the settle time, and the command.
MODES = [(barrier, command) for barrier in (False, True) for command in COMMANDS]


def some(count: int, start: int = 0) -> dict[int, str]:
    """Make that many tokens with identifiers."""
    return {number: f"{number + 1:064x}" for number in range(start, start + count)}


@pytest.mark.loopback
class ForeignCase(TestCase):
    """A client, and a server made of the standard library."""

    timeout = 300

    def setUp(self) -> None:
        """Write the server's certificates."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        (self.directory / "ca.pem").write_bytes(AUTHORITY.ca_pem)
        (self.directory / "server.pem").write_bytes(AUTHORITY.server_certificate())

    def serve(self, *scripts: Script, **options: object) -> None:
        """Start the server."""
        self.server = StdlibServer(self.directory, scripts, **options)
        self.addCleanup(self.server.close)

    def connect(
        self,
        server: StdlibServer | None = None,
        *,
        command: int = 2,
        barrier: bool = False,
        settle_time: float = NEVER,
        **options: object,
    ) -> APNSClient:
        """Make a client of the server."""
        port, trust_root = (server or self.server).port, AUTHORITY.ca_pem
        gateway = Gateway.binary(
            "127.0.0.1",
            port,
            trust_root=trust_root,
            feedback_port=port,
            command=command,
            barrier=barrier,
            settle_time=settle_time,
        )
        self.client = APNSClient(reactor, CERTIFICATE, gateway, **options)
        self.addCleanup(self.client.close)
        return self.client

    def answers(self, server: StdlibServer | None = None) -> Iterator[tuple[bytes, str | None]]:
        """Return what the server did with each token; a barrier has none."""
        for entry in (server or self.server).record:
            if entry.token:
                yield entry.token, None if entry.status is None else status_name(entry.status)

    def taken(self) -> list[int]:
        """Return the tokens that the server accepted, in its order."""
        return [int.from_bytes(token, "big") - 1 for token, reason in self.answers() if reason is None]

    def check(self, batch: Batch, tokens: Mapping[int, str], server: StdlibServer | None = None) -> Batch:
        """Hold a batch against the server's record."""
        check_answers(self, batch, tokens, self.answers(server))
        return batch

    async def send(self, *scripts: Script, count: int = COUNT, waits: int = 0, **options: object) -> Batch:
        """
        Send a batch to a server that follows scripts.

        If the scripts wait for :meth:`StdlibServer.go`, this process is busy while the server acts: so the system has
        received everything, to the last packet, before the client can read or write.
        """
        self.serve(*scripts)
        tokens = some(count)
        sending = self.connect(**options).send(ALERT, tokens)
        for _ in range(waits):
            await deferToThread(self.server.reached)
            self.server.go()
        return await self.over(sending, tokens)

    async def over(self, sending: Deferred[Batch], tokens: Mapping[int, str]) -> Batch:
        """Wait for the batch, and for the server to have read all that came; then compare."""
        batch = await sending
        await self.client.close()
        await deferToThread(self.server.close)
        return self.check(batch, tokens)


class AcceptTests(ForeignCase):
    """Servers that accept everything."""

    async def test_accepted(self) -> None:
        """Everything is accepted once, in order, over one connection, with a settle time and with a barrier."""
        for barrier, command in MODES:
            batch = await self.send(command=command, barrier=barrier, settle_time=SOON)
            self.assertEqual(batch.accepted, COUNT)
            self.assertEqual(self.taken(), list(range(COUNT)))
            self.assertEqual(self.server.connections, 1)

    async def test_content(self) -> None:
        """Each command carries what it can carry."""
        expected = {0: (None, None), 1: (1_900_000_000, None), 2: (1_900_000_000, 5)}
        for command in COMMANDS:
            await self.send(command=command, settle_time=SOON, count=3)
            for count, entry in enumerate(self.server.record, 1):
                self.assertEqual((entry.command, entry.identifier), (command, count if command else None))
                self.assertEqual((entry.expiration, entry.priority), expected[command])
                self.assertEqual(json.loads(entry.payload), {"aps": {"alert": "Grüße", "badge": 1}})

    async def test_tls(self) -> None:
        """Old TLS, or no tickets, make no difference."""
        for tls12 in (False, True):
            for tickets in (False, True):
                self.serve(tls12=tls12, tickets=tickets)
                batch = await self.over(self.connect(barrier=True).send(ALERT, some(COUNT)), some(COUNT))
                self.assertEqual(batch.accepted, COUNT)

    async def test_many(self) -> None:
        """Thousands arrive once, in order."""
        for barrier in (False, True):
            batch = await self.send(barrier=barrier, settle_time=SOON, count=10_000)
            self.assertEqual((batch.accepted, self.taken()), (10_000, list(range(10_000))))

    async def test_dead_tokens(self) -> None:
        """Each dead token costs a connection, and what follows it is resent."""
        tokens = some(200)
        dead = [0, 1, 7, 100, 198, 199]
        for command in (1, 2):
            self.serve(dead=[bytes.fromhex(tokens[number]) for number in dead])
            batch = await self.over(self.connect(command=command, barrier=True).send(ALERT, tokens), tokens)
            self.assertEqual(list(batch.failed), dead)
            self.assertEqual(self.taken(), [number for number in tokens if number not in dead])

    async def test_several_connections(self) -> None:
        """With several connections everything is accepted once, too."""
        tokens = some(10_000)
        self.serve(receive_buffer=8_192)
        batch = await self.over(self.connect(barrier=True, max_connections=3).send(ALERT, tokens), tokens)
        self.assertEqual(batch.accepted, 10_000)


class ToldTests(ForeignCase):
    """Servers that name what they refuse."""

    async def named(self, script: Script, *, count: int = COUNT, waits: int = 0) -> None:
        """One failed, the others arrive; without an identifier to name it, all are uncertain."""
        # Where nothing else would confirm what goes over the second connection, that ends with status 10.
        scripts = {True: [script], False: [script, Script(count - script.at, status=10)]}
        failed = {} if script.status == 10 else {script.at - 1: script.status}
        for barrier, command in MODES:
            if command > 0:
                batch = await self.send(
                    *scripts[barrier], command=command, barrier=barrier, count=count, waits=waits, retries=0
                )
                self.assertEqual({number: rejection.status for number, rejection in batch.failed.items()}, failed)
                self.assertEqual(batch.accepted, count - len(failed))
                self.assertEqual(self.taken(), [number for number in range(count) if number not in failed])

    async def test_ends(self) -> None:
        """The packet counts however the connection ends, or if it does not."""
        for end in ("close", "fin", "notify", "discard", "stall"):
            await self.named(Script(HERE, 8, end=end))

    async def test_reset(self) -> None:
        """It also counts if the connection was reset before the client read the packet."""
        await self.named(Script(HERE, 8, waits=True, end="reset"), waits=1)

    async def test_reset_while_writing(self) -> None:
        """It counts if the client has much more to write."""
        await self.named(Script(100, 8, waits=True, end="reset"), waits=1, count=5_000)

    async def test_reset_at_any_time(self) -> None:
        """It counts if the client writes just when the reset arrives."""
        for _ in range(10):
            batch = await self.send(Script(100, 8, end="reset"), count=5_000, barrier=True)
            self.assertEqual((batch.accepted, list(batch.failed)), (4_999, [99]))

    async def test_while_writing(self) -> None:
        """A server that answers late, and reads nothing until then, is understood the same."""
        for end in ("close", "fin", "notify"):
            await self.named(Script(100, 8, waits=True, end=end), waits=1, count=5_000)

    async def test_pieces(self) -> None:
        """A packet that arrives in pieces, at once or one by one, is one packet."""
        for cuts in ((3,), (1,), (5,), (1, 2, 3, 4, 5)):
            await self.named(Script(HERE, 8, cuts=cuts))
            await self.named(Script(HERE, 8, cuts=cuts, waits=True, end="reset"), waits=len(cuts) + 1)

    async def test_statuses(self) -> None:
        """Whatever the status, known or not, one failed with it and the others arrive."""
        for status in (1, 2, 4, 5, 7, 8, 9, 77, 128, 255):
            await self.named(Script(HERE, status))

    async def test_places(self) -> None:
        """The first may be refused, and the last."""
        await self.named(Script(1, 8))
        await self.named(Script(COUNT, 8))

    async def test_shutdown(self) -> None:
        """Status 10 names a notification that was accepted; it is not resent."""
        await self.named(Script(HERE, 10))
        await self.named(Script(100, 10, waits=True, end="reset"), waits=1, count=5_000)

    async def test_more_follows(self) -> None:
        """What follows the packet is ignored."""
        await self.named(Script(HERE, 8, data=b"\x08\x08\x00\x00\x00\x01" * 2))


class NotToldTests(ForeignCase):
    """Servers that end a connection and name no notification."""

    async def not_named(self, script: Script, commands: Iterable[int] = COMMANDS) -> None:
        """All are uncertain, and the server accepted those before."""
        for barrier, command in MODES:
            if command in commands:
                batch = await self.send(script, command=command, barrier=barrier)
                self.assertEqual((batch.accepted, len(batch.uncertain)), (0, COUNT))
                taken = script.at if script.outcome() is None else script.at - 1
                self.assertEqual(self.taken(), list(range(taken)))

    async def test_no_packet(self) -> None:
        """The connection just ends."""
        for end in ("close", "fin", "notify", "reset"):
            await self.not_named(Script(HERE, end=end))

    async def test_at_once(self) -> None:
        """It ends before the server has read anything."""
        for end in ("close", "fin", "notify", "reset"):
            await self.not_named(Script(0, end=end))

    async def test_command_0(self) -> None:
        """What has no identifier cannot be named."""
        await self.not_named(Script(HERE, 8), commands=[0])

    async def test_truncated(self) -> None:
        """A part of a packet names nothing, however it ends."""
        for length in range(1, 6):
            for end in ("close", "fin", "notify", "reset"):
                await self.not_named(Script(HERE, 8, length=length, end=end))

    async def test_garbage(self) -> None:
        """Data that is not a packet names nothing."""
        for data in (b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(6), b"\x02"):
            for end in ("close", "reset", "discard", "stall"):
                await self.not_named(Script(HERE, data=data, end=end))

    async def test_unnamed(self) -> None:
        """A packet that names 0, or one that was never sent, names nothing."""
        for identifier in (0, 999, 2**32 - 1):
            for status in (7, 10):
                await self.not_named(Script(HERE, status, identifier), commands=[1, 2])

    async def test_retry(self) -> None:
        """With duplicates allowed, the uncertain ones are resent, and the server gets some twice."""
        self.serve(Script(HERE, end="reset"))
        batch = await self.connect(barrier=True).send(ALERT, some(COUNT))
        again = await batch.retry(uncertain=True)
        self.assertEqual(again.accepted, COUNT)
        self.assertEqual(self.taken(), [*range(HERE - 1), *range(COUNT)])


@unittest.skipUnless(sys.platform.startswith("linux"), "only Linux tells what has not arrived")
class StallTests(ForeignCase):
    """Servers that do not read, for a while or for ever."""

    def stalled(self, script: Script) -> None:
        """Start a server with a small receive buffer."""
        self.serve(script, receive_buffer=8_192)

    async def test_never_reads(self) -> None:
        """More than all buffers hold: after the timeout what was sent is uncertain, and the rest is unsent."""
        tokens = some(30_000)
        self.stalled(Script(1, end="stall"))
        batch = await self.over(self.connect(settle_time=SOON, timeout=3.0).send(ALERT, tokens), tokens)
        self.assertEqual(batch.accepted, 0)
        self.assertGreater(len(batch.uncertain), 0)
        self.assertGreater(len(batch.unsent), 0)
        self.assertIsInstance(batch.uncertain[0].error, errors.AnswerTimeout)

    async def test_never_reads_little(self) -> None:
        """What our own system still holds has not arrived: it does not settle."""
        tokens = some(1_000)
        for barrier in (False, True):
            self.stalled(Script(1, end="stall"))
            sending = self.connect(barrier=barrier, settle_time=SOON, timeout=3.0).send(ALERT, tokens)
            batch = await self.over(sending, tokens)
            self.assertEqual(len(batch.uncertain), 1_000)
            self.assertIsInstance(batch.uncertain[0].error, errors.AnswerTimeout)

    async def test_reads_later(self) -> None:
        """If the server reads again, nothing is lost, and nothing settles before."""
        tokens = some(10_000)
        for barrier in (False, True):
            self.stalled(Script(1, waits=True, end="go on"))
            sending = self.connect(barrier=barrier, settle_time=SOON).send(ALERT, tokens)
            await deferToThread(self.server.reached)
            await deferLater(reactor, 2 * SOON)
            self.assertFalse(sending.called)
            self.server.go()
            batch = await self.over(sending, tokens)
            self.assertEqual((batch.accepted, self.taken()), (10_000, list(range(10_000))))

    async def test_half_close_while_full(self) -> None:
        """
        A server that closes its own direction while our buffers are full, and then reads on and discards what comes.

        What was written is in doubt, and the rest goes over another connection.
        """
        count = 5_000
        for end, barrier in (("notify", False), ("close", False), ("close", True)):
            self.stalled(Script(1, waits=True, end=end))
            pulled: list[int] = []
            sending = self.connect(barrier=barrier, settle_time=SOON).send(LONG, self.watched(some(count), pulled))
            await deferToThread(self.server.reached)
            await self.until_full(pulled)
            self.server.go()
            batch = await self.over(sending, some(count))
            left = len(batch.uncertain)
            self.assertEqual((batch.accepted, self.taken()), (count - left, list(range(left, count))))
            self.assertEqual(self.server.connections, 2)

    def watched(self, tokens: Mapping[int, str], pulled: list[int]) -> Iterator[tuple[int, str]]:
        """Yield tokens one by one, and record those that were taken."""
        for pair in tokens.items():
            pulled.append(pair[0])
            yield pair

    async def until_full(self, pulled: list[int]) -> None:
        """Wait until the client takes no more."""
        before = -1
        while len(pulled) > before:
            before = len(pulled)
            for _ in range(20):
                await deferLater(reactor, 0)


class LateTests(ForeignCase):
    """Servers that speak after everything has settled."""

    async def test_late(self) -> None:
        """A late packet blames no other notification; what was written since is resent, once."""
        before, after = some(COUNT), some(COUNT, start=COUNT)
        for command in (1, 2):
            self.serve(Script(HERE, 8, waits=True))
            client = self.connect(command=command, settle_time=SOON)
            self.assertEqual((await client.send(ALERT, before)).accepted, COUNT)
            with capturedLogs() as events:
                self.server.go()  # so the answer is there before any of these can settle
                batch = await self.over(client.send(ALERT, after), after)
            self.assertEqual(batch.accepted, COUNT)
            self.assertEqual(self.taken(), [*range(HERE - 1), *after])
            self.assertEqual([event["identifier"] for event in events if "settle_time" in event], [HERE])

    async def test_ends_while_idle(self) -> None:
        """A connection that ended while it was idle costs no notification, once that is known."""
        for end in ("close", "reset"):
            await self.idle(end, known=True)

    async def test_ends_unnoticed(self) -> None:
        """What is written to a connection that has already ended is uncertain: it may have been read."""
        for end in ("close", "fin", "notify", "reset"):
            await self.idle(end, known=False)

    async def idle(self, end: str, *, known: bool) -> None:
        """Send a batch, have the server end the connection, and send another, before or after the end was read."""
        before, after = some(COUNT), some(COUNT, start=COUNT)
        self.serve(Script(COUNT, accept=True, waits=True, end=end))
        client = self.connect(settle_time=SOON)
        self.assertEqual((await client.send(ALERT, before)).accepted, COUNT)
        self.server.go()
        while known and client.status().connections == ("ready",):
            await deferLater(reactor, 0)
        batch = await self.over(client.send(ALERT, after), after)
        self.assertEqual((batch.accepted, len(batch.uncertain)), (COUNT, 0) if known else (0, COUNT), end)


class CampaignTests(ForeignCase):
    """Random scripts."""

    async def test_seeds(self) -> None:
        """Whatever the server does, each token has one outcome, which the server's record confirms."""
        await gatherResults([Deferred.fromCoroutine(self.campaign(Random(seed))) for seed in range(40)])

    def script(self, random: Random) -> Script:
        """Make a random script: most have a packet that names the refused notification."""
        cuts = tuple(sorted(random.sample(range(1, 6), random.randrange(4))))
        end = random.choice(("close", "fin", "notify", "reset"))
        script = Script(random.randrange(1, 60), random.choice((1, 7, 8, 10, 77, 128, 255)), cuts=cuts, end=end)
        if random.random() < 0.3:
            changes = ({"status": None}, {"length": 4}, {"identifier": 0}, {"at": 0}, {"data": b"?", "status": None})
            script = replace(script, **random.choice(changes))
        return script

    async def campaign(self, random: Random) -> None:
        """Send to one server, with one connection or with several."""
        everything = some(random.choice((10, 60, 200)))
        dead = [token for token in everything.values() if random.random() < 0.05]
        server = StdlibServer(
            self.directory,
            [self.script(random) for _ in range(random.randrange(5))],
            dead=map(bytes.fromhex, dead),
            tls12=random.random() < 0.2,
            tickets=random.random() < 0.8,
        )
        self.addCleanup(server.close)
        command, connections = random.choice((0, 1, 2)), random.choice((1, 3))
        client = self.connect(server, command=command, barrier=True, max_connections=connections)
        parts = [{number: token for number, token in everything.items() if number % 2 == part} for part in range(2)]
        sending = [client.send(ALERT, part) for part in parts]
        batches = [await deferred for deferred in sending]
        await client.close()
        await deferToThread(server.close)
        for part, batch in zip(parts, batches, strict=True):
            self.check(batch, part, server)


class FeedbackTests(ForeignCase):
    """The feedback service."""

    #: Two tuples: when, and who.
    LISTED = ((1_700_000_000, bytes(range(32))), (1_700_003_600, bytes(range(100))))
    LIST = feedback(LISTED)
    DEAD = tuple((token.hex(), datetime.fromtimestamp(time, timezone.utc)) for time, token in LISTED)

    async def read(self, *scripts: Script, count: int = 1) -> list[object]:
        """Read the list, several times if asked to."""
        self.serve(*scripts)
        client = self.connect()
        found = [await client.feedback() for _ in range(count)]
        await client.close()
        return found

    async def test_list(self) -> None:
        """The list is read to its end, however it is cut, and however the connection ends."""
        for end in ("close", "fin", "notify"):
            for cuts in ((), (1,), (5, 6, 7, 38, 39, 50), tuple(range(1, len(self.LIST)))):
                found = await self.read(Script(0, data=self.LIST, cuts=cuts, end=end))
                self.assertEqual(found, [list(self.DEAD)])

    async def test_empty(self) -> None:
        """An empty list is a close."""
        for end in ("close", "fin", "notify"):
            self.assertEqual(await self.read(Script(0, end=end)), [[]])

    async def test_again(self) -> None:
        """Each reading is a connection, and lists what that one listed."""
        one, other = (feedback([entry]) for entry in self.LISTED)
        found = await self.read(Script(0, data=one), Script(0, data=other), Script(0), count=3)
        self.assertEqual(found, [[self.DEAD[0]], [self.DEAD[1]], []])

    async def test_truncated(self) -> None:
        """If the list breaks off, the tuples before that count."""
        for end in ("close", "fin", "notify", "reset"):
            self.serve(Script(0, data=self.LIST, length=50, waits=True, end=end))
            reading = self.connect().feedback()
            await deferToThread(self.server.reached)
            self.server.go()
            self.assertEqual(await reading, [self.DEAD[0]])
            await self.client.close()

    async def test_iterate(self) -> None:
        """A long list can be read one by one."""
        entries = [(number, number.to_bytes(32, "big")) for number in range(10_000)]
        self.serve(Script(0, data=feedback(entries)))
        client = self.connect()
        found = [token async for token, _ in client.iterate_feedback()]
        self.assertEqual(found, [token.hex() for _, token in entries])
        await client.close()
