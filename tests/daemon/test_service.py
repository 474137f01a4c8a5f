"""The daemon as a whole, in a process of its own."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest
from cryptography.fernet import Fernet
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.daemon.daemon_case import AUTHORITY, DEAD, DaemonCase, Withheld, submission
from tests.daemon.daemon_process import DaemonProcess
from tests.processes import started
from txapns.simulator import ProviderAPIServer, Response
from txapns.wire.requests import Request

__all__ = [
    "ClockTests",
    "LifeTests",
    "SecretTests",
    "StartTests",
    "StoreTests",
    "TroubleTests",
]


@pytest.mark.loopback
@pytest.mark.campaign
class LifeTests(DaemonCase):
    """Starting, working and stopping."""

    async def test_life(self) -> None:
        """It accepts, sends, reports, remembers across a restart, and exits with status 0."""
        await self.daemon.start()
        posted = submission("aa" * 32, DEAD, wait=True)
        status, answer = await self.daemon.ask("POST", "/v1/apps/chess/notifications", posted)
        self.assertEqual(status, 200)
        [notification] = answer["notifications"]
        self.assertEqual([each["state"] for each in notification["outcomes"]], ["accepted", "rejected"])
        self.assertEqual(notification["outcomes"][1]["reason"], "Unregistered")
        self.assertEqual(await self.daemon.end(), 0)
        await self.daemon.start()
        status, answer = await self.daemon.ask("GET", f"/v1/notifications/{notification['ids'][0]}")
        self.assertEqual((status, answer["state"]), (200, "accepted"))
        status, answer = await self.daemon.ask("GET", "/v1/apps/chess/feedback")
        self.assertEqual([each["token"] for each in answer["tokens"]], [DEAD])
        status, answer = await self.daemon.ask("GET", "/v1/apps/chess/outcomes")
        recorded = [(each["cursor"], each["token"], each["id"]) for each in answer["outcomes"]]
        first, second = notification["ids"]
        self.assertEqual(recorded, [(1, "aa" * 32, first), (2, DEAD, second)])
        self.assertEqual(await self.daemon.end(signal.SIGINT), 0)
        log = self.daemon.log.read_text()
        self.assertNotIn("Traceback", log)
        self.assertNotIn(DEAD, log)
        self.assertTrue(all("message" in json.loads(line) for line in log.splitlines()))

    async def test_watched(self) -> None:
        """The admin endpoint reports its health; while it stops it is alive, but not ready."""
        withheld = Withheld(self.simulator)
        await self.daemon.start()
        ready = (200, {"ready": True, "reasons": []})
        self.assertEqual(await self.look("/readyz"), ready)
        await self.daemon.ask("POST", "/v1/apps/chess/notifications", submission("aa" * 32))
        await withheld.come(1)
        ending = Deferred.fromCoroutine(self.daemon.end())
        while (found := await self.look("/readyz")) == ready:
            pass  # the signal is on its way
        self.assertEqual(found, (503, {"ready": False, "reasons": ["the daemon is shutting down"]}))
        self.assertEqual(await self.look("/healthz"), (200, {"alive": True}))
        withheld.give()
        self.assertEqual(await ending, 0)

    async def look(self, path: str) -> tuple[int, object]:
        """Send a request to the admin endpoint."""
        return await self.daemon.ask("GET", path, listener="admin")

    async def test_stopped_while_apple_is_slow(self) -> None:
        """Notifications in flight when it stops are answered; nothing is sent twice after the next start."""
        withheld = Withheld(self.simulator)
        await self.daemon.start()
        tokens = [f"{number:064x}" for number in range(500)]
        status, _ = await self.daemon.ask("POST", "/v1/apps/chess/notifications", submission(*tokens))
        self.assertEqual(status, 202)
        await withheld.come(1)
        ending = Deferred.fromCoroutine(self.daemon.end())
        while (await self.look("/readyz"))[0] == 200:
            pass  # the signal is on its way
        withheld.give()
        self.assertEqual(await ending, 0)
        received = Counter(reception.token.hex() for reception in self.simulator.inbox.received)
        await self.daemon.start()
        while len(received) < 500:
            await deferLater(reactor, 0.1)
            received = Counter(reception.token.hex() for reception in self.simulator.inbox.received)
        self.assertEqual(await self.daemon.end(), 0)
        self.assertEqual(set(received.values()), {1})

    async def test_signals_again(self) -> None:
        """Signals sent again and again, as by a supervisor and its process group, stop it in order, once."""
        self.simulator.delay = 1.0
        for number in (signal.SIGTERM, signal.SIGINT):
            await self.daemon.start()
            status, _ = await self.daemon.ask("POST", "/v1/apps/chess/notifications", submission("aa" * 32))
            self.assertEqual(status, 202)
            for _ in range(5):
                os.kill(self.daemon.pid, number)
                await deferLater(reactor, 0.05)
            self.assertEqual(await self.daemon.end(number), 0)
            levels = [json.loads(line)["level"] for line in self.daemon.log.read_text().splitlines()]
            self.assertNotIn("critical", levels)

    async def test_signals_at_the_start(self) -> None:
        """A signal while it starts stops it in order, too."""
        command = [sys.executable, "-m", "txapns", "serve", "--config", str(self.config)]
        process = started(self, command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while not (self.directory / "apns.db").exists() and process.poll() is None:
            await deferLater(reactor, 0.005)
        for _ in range(3):
            process.send_signal(signal.SIGTERM)
        _, said = await deferToThread(process.communicate, timeout=120)
        self.assertEqual(process.returncode, 0, said)
        self.assertNotIn("Traceback", said)
        self.assertNotIn('"critical"', said)


@pytest.mark.loopback
@pytest.mark.campaign
class StartTests(DaemonCase):
    """What keeps it from starting is reported in a sentence, with status 2."""

    async def refused(self, *arguments: str) -> str:
        """Try to start it; returns what it said."""
        command = [sys.executable, "-m", "txapns", "serve", "--config", str(self.config), *arguments]
        done = await deferToThread(subprocess.run, command, capture_output=True, text=True, timeout=120)
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        return done.stderr

    async def test_address_in_use(self) -> None:
        """Another program listens at the address."""
        text = self.config.read_text()
        self.config.write_text(text.replace("port=0", f"port={self.port.getHost().port}", 1))
        said = await self.refused()
        self.assertIn("intake.native.listen", said)
        self.assertIn("in use", said)

    async def test_database_in_use(self) -> None:
        """Another daemon uses the database."""
        await self.daemon.start()
        said = await self.refused()
        self.assertIn("apns.db", said)

    async def test_database_exposed(self) -> None:
        """Others can read the database."""
        await self.daemon.start()
        await self.daemon.end()
        (self.directory / "apns.db").chmod(0o644)
        self.assertIn("apns.db", await self.refused())

    async def test_configuration(self) -> None:
        """The configuration has a mistake or is missing."""
        self.config.write_text("[limits]\nbody = '4k'\ntokens = 0\n")
        lines = [json.loads(line) for line in (await self.refused()).splitlines()]
        self.assertEqual([line["level"] for line in lines], ["critical"] * 2)
        self.assertIn('cannot start: apns.toml: limits.body: found "4k"', " ".join(line["message"] for line in lines))
        self.config.unlink()
        self.assertIn("apns.toml", await self.refused())


class TroubleTests(DaemonCase):
    """The disk, or another program, keeps it from storing anything."""

    async def post(self, number: int) -> int:
        """Post a hundred notifications; returns the status."""
        tokens = [f"{100 * number + place:064x}" for place in range(100)]
        status, answer = await self.daemon.ask("POST", "/v1/apps/chess/notifications", submission(*tokens))
        if status == 503:
            self.assertEqual(answer["error"]["code"], "unavailable")
        else:
            self.assertEqual(status, 202, answer)
            self.accepted.update(tokens)
        return status

    async def check(self, first: int) -> None:
        """It recovers; everything accepted arrives, and the database is intact."""
        number = first
        while await self.post(number) != 202:
            number += 1
            await deferLater(reactor, 0.2)
        while len({each.token for each in self.simulator.inbox.received}) < len(self.accepted):
            await deferLater(reactor, 0.1)
        self.assertEqual({each.token.hex() for each in self.simulator.inbox.received}, self.accepted)
        self.assertEqual(await self.daemon.end(), 0)
        with closing(sqlite3.connect(self.directory / "apns.db")) as database:
            self.assertEqual(database.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        self.assertNotIn("Traceback", self.daemon.log.read_text())

    def setUp(self) -> None:
        """Nothing is accepted yet."""
        super().setUp()
        self.accepted: set[str] = set()

    async def test_disk_full(self) -> None:
        """If the disk is full it answers 503, and continues when there is room again."""
        await self.daemon.start()
        self.assertEqual(await self.post(0), 202)
        size = max(path.stat().st_size for path in self.directory.glob("apns.db*"))
        no_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(self.daemon.pid, resource.RLIMIT_FSIZE, (size + 65_536, no_limit[1]))
        number = 1
        while await self.post(number) == 202:
            number += 1
        resource.prlimit(self.daemon.pid, resource.RLIMIT_FSIZE, no_limit)
        await self.check(number + 1)

    async def test_locked(self) -> None:
        """If another program locks the database it answers 503, and continues when it is unlocked."""
        await self.daemon.start()
        self.assertEqual(await self.post(0), 202)
        with closing(sqlite3.connect(self.directory / "apns.db", timeout=120, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            self.assertEqual(await self.post(1), 503)
            other.execute("ROLLBACK")
        await self.check(2)


@pytest.mark.campaign
class StoreTests(DaemonCase):
    """A database that is removed, replaced or damaged, or used by another daemon."""

    @property
    def database(self) -> Path:
        """The file."""
        return self.directory / "apns.db"

    async def post(self, number: int) -> tuple[int, str]:
        """Post a hundred notifications; returns the status, and why they were refused."""
        tokens = [f"{100 * number + place:064x}" for place in range(100)]
        status, answer = await self.daemon.ask("POST", "/v1/apps/chess/notifications", submission(*tokens))
        return status, answer["error"]["message"] if status == 503 else ""

    async def ready(self) -> tuple[int, str]:
        """Check readiness; returns the status and the reasons."""
        status, answer = await self.daemon.ask("GET", "/readyz", listener="admin")
        return status, "; ".join(answer["reasons"])

    async def refused(self, number: int, words: str) -> None:
        """Nothing is accepted, and the reason is in the answer, at ``/readyz``, on the page and in the log."""
        status, why = await self.post(number)
        self.assertEqual(status, 503)
        self.assertIn(words, why)
        status, why = await self.ready()
        self.assertEqual(status, 503)
        self.assertIn(words, why)
        self.assertIn(words, await self.daemon.read("/"))
        self.assertIn(words, self.daemon.log.read_text())

    async def taken(self, number: int) -> None:
        """Requests are accepted and arrive; it is ready."""
        self.assertEqual(await self.post(number), (202, ""))
        self.assertEqual(await self.ready(), (200, ""))
        await self.arrived(number)

    async def arrived(self, number: int) -> None:
        """Wait until what was posted under a number has arrived."""
        tokens = {(100 * number + place).to_bytes(32, "big") for place in range(100)}
        while not tokens <= {each.token for each in self.simulator.inbox.received}:
            await deferLater(reactor, 0.05)

    async def test_removed(self) -> None:
        """While a file is missing nothing is accepted, but what was accepted is sent; once it is back, all is well."""
        await self.daemon.start()
        await self.taken(0)
        self.simulator.delay = 1.0
        self.assertEqual(await self.post(1), (202, ""))
        for name in ("apns.db", "apns.db-wal", "apns.db-shm"):
            away = (self.directory / name).rename(self.directory / "away")
            await self.refused(2, f"{name} was removed")
            away.rename(self.directory / name)
        await self.arrived(1)
        self.simulator.delay = 0.0
        await self.taken(3)
        self.assertEqual(await self.daemon.end(), 0)
        self.assertNotIn("Traceback", self.daemon.log.read_text())

    async def test_replaced(self) -> None:
        """Another file in its place is not written to; after the next start that is the database."""
        await self.daemon.start()
        await self.taken(0)
        await self.daemon.end()
        copy = self.database.read_bytes()
        await self.daemon.start()
        await self.taken(1)
        away = self.database.rename(self.directory / "away")
        self.database.touch(0o600)
        self.database.write_bytes(copy)
        await self.refused(2, "apns.db was replaced")
        self.assertEqual(self.database.read_bytes(), copy)
        await self.daemon.end(signal.SIGKILL)
        for suffix in ("-wal", "-shm"):
            Path(f"{self.database}{suffix}").unlink()
        away.unlink()
        await self.daemon.start()
        await self.taken(3)

    async def test_damaged(self) -> None:
        """Damage is detected when it happens and at each start, and reported until there is another file."""
        await self.daemon.start()
        for number in range(5):
            await self.taken(number)
        with closing(sqlite3.connect(self.database)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = self.database.read_bytes().index((250).to_bytes(32, "big")) // 4096 * 4096
        with self.database.open("r+b") as file:
            file.seek(page)
            file.write(b"\xa5" * 4096)
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            began = monotonic()
            while await self.ready() == (200, ""):  # what was tried last is good for a second or two
                self.assertLess(monotonic() - began, 120)
            await self.refused(5, "the database is damaged")
            await self.daemon.end(number)
            await self.daemon.start()
        await self.daemon.end()
        for path in self.directory.glob("apns.db*"):
            path.unlink()
        await self.daemon.start()
        await self.taken(6)

    async def test_lock_removed(self) -> None:
        """Even without the lock file another daemon does not start, and commands work."""
        await self.daemon.start()
        (self.directory / "apns.db.lock").unlink()
        for _ in range(2):
            status, _, said = await self.command("serve")
            self.assertEqual(status, 2)
            self.assertIn("apns.db is in use by another process", said)
        for arguments in (("keys", "list"), ("apps", "list")):
            self.assertEqual((await self.command(*arguments))[::2], (0, ""))
        _, _, said = await self.command("queue", "list", "chess")
        self.assertIn("give --url", said)  # the queue is the running daemon's, whose port the system chose
        await self.taken(0)
        await self.daemon.end(signal.SIGKILL)
        await self.daemon.start()
        await self.taken(1)


# A process whose clock is an hour ahead, until a signal corrects it, or another sets it a day ahead.
LATER = """
import signal, sys, time

clock, ahead = time.time, 3600

def set_to(seconds):
    global ahead
    ahead = seconds

signal.signal(signal.SIGALRM, lambda *_: set_to(0))
signal.signal(signal.SIGUSR2, lambda *_: set_to(86400))
time.time = lambda: clock() + ahead

from txapns.command.main import main
main()
"""


@pytest.mark.loopback
@pytest.mark.campaign
class ClockTests(DaemonCase):
    """Its clock is an hour ahead, and is corrected and set wrong again under load."""

    def setUp(self) -> None:
        """Apple rejects each tenth notification the first time."""
        super().setUp()
        self.daemon = DaemonProcess(self.config, ["-c", LATER])
        self.headers: dict[str, str] = {}
        self.number = 0
        refused: set[bytes] = set()

        def once(server: ProviderAPIServer, request: Request, response: Response) -> Response:
            path = dict(request.headers)[b":path"]
            if int(path[-64:], 16) % 10 or path in refused:
                return response
            refused.add(path)
            return Response(503, "ServiceUnavailable")

        self.simulator.http2_fault = once

    def tokens(self, count: int) -> list[str]:
        """Make new device tokens."""
        self.number += count
        return [f"{number:064x}" for number in range(self.number - count, self.number)]

    async def post(self) -> int:
        """Post some notifications, and wait until Apple has accepted them; returns the status."""
        posted = submission(*self.tokens(20), wait=True)
        status, answer = await self.daemon.ask("POST", "/v1/apps/chess/notifications", posted, self.headers)
        if status == 200:
            [notification] = answer["notifications"]
            self.assertEqual({each["state"] for each in notification["outcomes"]}, {"accepted"})
        return status

    async def load(self, seconds: float) -> float:
        """Post for some time, four requests at once; returns how long the slowest took, in seconds."""
        waits: list[float] = []

        async def caller(end: float) -> None:
            while monotonic() < end:
                began = monotonic()
                self.assertEqual(await self.post(), 200)
                waits.append(monotonic() - began)

        await gatherResults([Deferred.fromCoroutine(caller(monotonic() + seconds)) for _ in range(4)])
        return max(waits)

    async def test_under_load(self) -> None:
        """No notification waits longer, neither for its first attempt nor for the next."""
        await self.daemon.start()
        before = await self.load(1.0)
        for number in (signal.SIGALRM, signal.SIGUSR2, signal.SIGALRM):
            loading = Deferred.fromCoroutine(self.load(1.0))
            await deferLater(reactor, 0.5)
            os.kill(self.daemon.pid, number)
            self.assertLess(await loading, before + 60)  # and not an hour
        self.assertEqual(await self.daemon.end(), 0)
        self.assertEqual(len({each.token for each in self.simulator.inbox.received}), self.number)

    async def test_key_removed(self) -> None:
        """A removed key is refused within moments."""
        self.simulator.http2_fault = None
        self.config.write_text(self.config.read_text().replace("keys = false", "keys = true"))
        key = await self.told("keys", "add", "ours", "--all-apps")
        self.headers["Authorization"] = f"Bearer {key}"
        await self.daemon.start()
        self.assertEqual(await self.post(), 200)
        os.kill(self.daemon.pid, signal.SIGALRM)
        self.assertEqual(await self.post(), 200)
        await self.told("keys", "remove", "ours")
        began = monotonic()
        while await self.post() != 401:
            self.assertLess(monotonic() - began, 60)

    async def test_restart(self) -> None:
        """What was accepted with a date an hour ahead is sent after a restart, tried before or not."""
        self.simulator.http2_fault = lambda server, request, response: Response(503, "ServiceUnavailable")
        await self.daemon.start()
        await self.daemon.ask("POST", "/v1/apps/chess/notifications", submission(*self.tokens(20)))
        await deferLater(reactor, 0.5)
        number = self.port.getHost().port
        await self.port.stopListening()
        self.hang_up()
        await self.daemon.ask("POST", "/v1/apps/chess/notifications", submission(*self.tokens(20)))
        await deferLater(reactor, 0.5)
        await self.daemon.end(signal.SIGKILL)
        self.simulator.http2_fault = None
        factory = self.simulator.tls_factory("http2")
        again = reactor.listenTCP(number, factory, interface="127.0.0.1")
        self.addCleanup(again.stopListening)
        self.daemon = DaemonProcess(self.config)
        await self.daemon.start()
        began = monotonic()
        while len({each.token for each in self.simulator.inbox.received}) < 40:
            self.assertLess(monotonic() - began, 60)
            await deferLater(reactor, 0.1)


@pytest.mark.loopback
@pytest.mark.campaign
class SecretTests(DaemonCase):
    """Nothing that it writes contains secrets."""

    async def test_nothing_told(self) -> None:
        """No key, provider token, passphrase or device token is in the log, on a page or in the metrics."""
        self.config.write_text(self.config.read_text().replace("keys = false", "keys = true"))
        key = await self.told("keys", "add", "ours", "--app", "chess")
        await self.daemon.start()
        bearer = {"Authorization": f"Bearer {key}"}
        posted = submission("aa" * 32, DEAD, wait=True)
        self.assertEqual((await self.daemon.ask("POST", "/v1/apps/chess/notifications", posted, bearer))[0], 200)
        guess = {"Authorization": f"Bearer {key[:-1]}{'0' if key[-1] != '0' else '1'}"}
        self.assertEqual((await self.daemon.ask("POST", "/v1/apps/chess/notifications", posted, guess))[0], 401)
        self.assertEqual((await self.daemon.ask("POST", "/v1/apps/go/notifications", posted, bearer))[0], 403)
        wrong = submission("aa" * 32 + "zz")
        self.assertEqual((await self.daemon.ask("POST", "/v1/apps/chess/notifications", wrong, bearer))[0], 400)
        told = [await self.daemon.read(path) for path in ("/", "/metrics", "/readyz")]
        self.assertEqual(await self.daemon.end(), 0)
        told.append(self.daemon.log.read_text())
        p8 = AUTHORITY.p8.decode().splitlines()[1]
        for secret in (key, key.rpartition("_")[2][:16], "eyJ", p8, "PRIVATE KEY", "aa" * 32, DEAD):
            for text in told:
                self.assertNotIn(secret, text)

    async def test_provisioned(self) -> None:
        """An app added over the HTTP API works at once, and its credential is never shown."""
        text = self.config.read_text()
        self.config.write_text(text.replace("keys = false", "keys = true"))
        master = self.directory / "master.key"
        master.touch(0o600)
        master.write_bytes(Fernet.generate_key())
        keys = [
            await self.told("keys", "add", *arguments)
            for arguments in (("operator", "--may", "manage"), ("ours", "--all-apps"))
        ]
        operator, ours = ({"Authorization": f"Bearer {key}"} for key in keys)
        await self.daemon.start()
        pem = AUTHORITY.client_pem(self.simulator.topic, passphrase=b"correct horse").decode()
        app = {
            "gateway": f"http2:host=127.0.0.1:port={self.port.getHost().port}",
            "trust_root": AUTHORITY.ca_pem.decode(),
            "credential": {"certificate": pem, "passphrase": "correct horse"},
        }
        status, _ = await self.daemon.ask("PUT", "/v1/apps/go", app, ours)
        self.assertEqual(status, 403)
        status, put = await self.daemon.ask("PUT", "/v1/apps/go", app, operator)
        self.assertEqual((status, put["credential"]), (201, "certificate"))
        posted = submission("aa" * 32, wait=True)
        status, answer = await self.daemon.ask("POST", "/v1/apps/go/notifications", posted, ours)
        self.assertEqual((status, answer["notifications"][0]["outcomes"][0]["state"]), (200, "accepted"))
        self.assertEqual(await self.daemon.end(), 0)
        stored = b"".join(path.read_bytes() for path in self.directory.glob("apns.db*")).decode("latin-1")
        for told in (self.daemon.log.read_text(), json.dumps(put), stored):
            for secret in ("correct horse", "PRIVATE KEY", pem.splitlines()[1]):
                self.assertNotIn(secret, told)
