"""What the tests of the faces have in common: a daemon in memory, without a dispatcher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.daemon.fakes import InlineWorker, Keys
from tests.daemon.store.contract import START
from txapns._network.clocks import wall_clock
from txapns._serving.limits import ConnectionLimits
from txapns.credentials import Certificate, ProviderToken
from txapns.daemon.errors import UnknownApp
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.intake import Intake
from txapns.daemon.interfaces import IApps
from txapns.daemon.sending.waiting import OutcomeWaiters
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.store import SQLiteStore
from txapns.daemon.values import App, Caller, Draft, Leased, Limits, Settlement, State
from txapns.gateway import Gateway
from txapns.simulator import Authority
from txapns.testing import MemoryReactor

__all__ = ["HOST", "AppShelf", "FacesWorld"]

HOST = "127.0.0.1"


@implementer(IApps)
class AppShelf:
    """Apps that can be added and removed."""

    def __init__(self) -> None:
        self.revision = 0
        self._apps: dict[str, App] = {}

    def set(self, app: App) -> None:
        """Add an app, or change one."""
        self.revision += 1
        self._apps[app.name] = app

    def drop(self, name: str) -> None:
        """Remove an app."""
        self.revision += 1
        del self._apps[name]

    def get(self, name: str) -> App:
        """See :meth:`IApps.get`."""
        if name not in self._apps:
            raise UnknownApp("there is no such app")
        return self._apps[name]

    def names(self) -> list[str]:
        """See :meth:`IApps.names`."""
        return sorted(self._apps)

    def changed(self, listener: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        """See :meth:`IApps.changed`; nobody is called."""
        return lambda: None


class FacesWorld:
    """
    Everything that a face needs: apps, keys, an intake, a queue with its feedback log, and a reactor in memory.

    The app ``chess`` has a certificate, ``news`` a signing key; the topic of both is ``com.example.`` and the name.

    :param directory: the directory to make for the database.
    """

    authority = Authority()  # for all tests: keys take time to make

    def __init__(self, directory: Path) -> None:
        self.reactor = MemoryReactor()
        self.reactor.rightNow = START
        directory.mkdir(mode=0o700)
        self.database = Database(directory / "apns.db", self.reactor, lambda name: InlineWorker())
        store = SQLiteStore(self.database)
        self.queue, self.outcome_log, self.log = store.queue, store.outcomes, store.feedback
        self.feed = store.outcome_feed
        self.result(store.start())
        self.certificate = Certificate.from_pem(self.authority.client_pem("com.example.chess"))
        self.provider_token = ProviderToken.from_p8(self.authority.p8, self.authority.key_id, self.authority.team_id)
        self.apps = AppShelf()
        self.add("chess", self.certificate)
        self.add("news", self.provider_token)
        self.keys = Keys(
            Caller("all", None, None),
            Caller("chess", frozenset({"chess"}), frozenset({"chess"})),
            Caller("manager", frozenset(), frozenset(), manage=True),
        )
        self.outcomes = OutcomeWaiters(self.reactor, self.outcome_log)
        self.woken: list[str] = []
        self.intake = Intake(
            self.apps, self.queue, Identifiers(wall_clock(self.reactor)), self.outcomes, self.woken.append
        )
        self.limits = ConnectionLimits(clients=5, idle=60.0, request=30.0)
        self.server_certificate = Certificate.from_pem(self.authority.server_certificate())

    def add(self, name: str, credential: Certificate | ProviderToken, **more: Any) -> None:
        """Add an app, whose topic goes with its name."""
        more.setdefault("topic", f"com.example.{name}")
        more.setdefault("limits", Limits(queue=2_000, tokens=500))
        more.setdefault("gateway", Gateway.parse("production"))
        self.apps.set(App(name=name, credential=credential, **more))

    def result(self, deferred: Deferred[Any], within: float = 60.0) -> Any:
        """Carry bytes and let time pass until there is a result; an exception is raised."""
        found: list[Any] = []
        deferred.addBoth(found.append)
        end = self.reactor.seconds() + within
        self.reactor.flush()
        while not found and self.reactor.seconds() < end:
            self.reactor.advance(0.01)
        assert found, "nothing came of it"
        if isinstance(found[0], Failure):
            found[0].raiseException()
        return found[0]

    def lease(self, app: str = "chess") -> list[Leased]:
        """Lease everything that waits."""
        found: list[Leased] = []
        while some := self.result(self.queue.lease(app, 10_000, self.reactor.seconds() + 60)):
            found += some
        return sorted(found, key=lambda each: each.number)

    def settle(
        self, leased: Leased, state: State, status: int = 0, reason: str = "", since: float | None = None
    ) -> None:
        """Settle a notification as if Apple had answered."""
        self.result(self.queue.settle([Settlement(leased.number, state, status, reason, since)]))
        self.outcomes.tell(self.result(self.outcome_log.outcomes([leased.number])))

    def kill(self, token: bytes, app: str = "chess", since: float = START - 100) -> None:
        """Add a token to the feedback log."""
        self.result(self.intake.accept(app, [Draft(b"{}", {}, [token])]))
        [leased] = self.lease(app)
        self.settle(leased, State.REJECTED, 410, "Unregistered", since)

    def stop(self) -> None:
        """Close it."""
        self.outcomes.stop()
        self.result(self.database.stop())
