"""
The apps: those of the configuration and those in the store.

:class:`Apps` is what the rest of the daemon asks. Once a second it polls for changes of the store and of the files that
the configuration names. So a renewed certificate only has to replace the old file.

An app that cannot be used does not stop the daemon. If it could be used before, it stays as it was; otherwise it is
refused. The log says why, once. It also warns 30, 7 and 1 days before a certificate expires.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Literal, TypeVar

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._network.clocks import wall_clock
from txapns.credentials import Certificate, Credential
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.config.sections import AppLimitsSection, AppSection, CredentialSection
from txapns.daemon.errors import AppExists, Unavailable, UnknownApp, in_words
from txapns.daemon.interfaces import IApps
from txapns.daemon.loading import row_app, section_app
from txapns.daemon.secrets.master_key import Secrets, Stamp, stamp
from txapns.daemon.secrets.submitted import SubmittedCredential, master_key_failed, read_submitted
from txapns.daemon.store.apps import (
    AppSettings,
    IAppStore,
    IAppTable,
    add_app,
    remove_app,
    rotate_app,
)
from txapns.daemon.store.listeners import Listeners
from txapns.daemon.store.polling import ChangePoller
from txapns.daemon.store.workers import IWorker
from txapns.daemon.values import App, Environment, Pause
from txapns.errors import APNSError

__all__ = ["WARNINGS", "Apps"]

_log = Logger()

_T = TypeVar("_T")

#: How many days before a certificate expires the log warns of it.
WARNINGS = (30, 7, 1)

#: After how many seconds an app that cannot be used is tried again. Trying may take long.
AGAIN = 30.0
#: How many credentials from callers may wait to be read.
MOST_READ = 20


@attrs.frozen
class _Known:
    """
    One app, and what it was made from.

    :ivar app: the last that could be made; ``None`` if there was none.
    :ivar problem: why it cannot be made from what there is now; empty if it can.
    :ivar failure: the same, if it is the daemon's own fault.
    :ivar again: when to try again even if nothing has changed, by the monotonic clock.
    """

    origin: object = attrs.field(repr=False)
    app: App | None
    problem: str = ""
    failure: Failure | None = None
    master_key: Stamp | None = None
    again: float = math.inf

    def is_current(self, master_key: Stamp | None, now: float) -> bool:
        """Whether it need not be made again, as long as the origin is the same."""
        return not self.problem or (self.master_key == master_key and now < self.again)

    def with_pause(self, pause: Pause | None) -> _Known:
        """Return the same, with the app paused or not."""
        if self.app is None or self.app.pause == pause:
            return self
        return attrs.evolve(self, app=attrs.evolve(self.app, pause=pause))


_MISSING = _Known(None, None)
_NEVER = datetime.max.replace(tzinfo=timezone.utc)


@attrs.frozen
class _Found:
    """What a poll found."""

    configuration: Configuration | None = None
    changes: int = -1
    apps: Mapping[str, _Known] = attrs.Factory(dict)
    pauses: Mapping[str, Pause] = attrs.Factory(dict)

    def is_current(self, configuration: Configuration, changes: int, master_key: Stamp | None, now: float) -> bool:
        """Whether the apps in the store are still the same, and none of them is to be tried again."""
        stored = (known for name, known in self.apps.items() if name not in configuration.apps)
        same = self.configuration is configuration and self.changes == changes
        return same and all(known.is_current(master_key, now) for known in stored)


@implementer(IApps)
class Apps:
    """
    The apps, at most about a second old.

    :ivar clock: the reactor, or a ``Clock``.
    """

    def __init__(
        self,
        clock: IReactorTime,
        configuration: Configuration,
        store: IAppStore,
        secrets: Secrets,
        worker: Callable[[str], IWorker],
    ) -> None:
        self.revision = 0
        self.clock = clock
        self._wall = wall_clock(clock)
        self._configuration = configuration
        self._store = store
        self._secrets = secrets
        self._worker = worker
        self._state = _Found()
        self._listeners: Listeners[frozenset[str]] = Listeners("changes of the apps")
        self._writing: Counter[str] = Counter()  # the apps that callers of this daemon change
        self._warned: dict[tuple[str, str], int] = {}
        self._next_warning = _NEVER
        self._poller = ChangePoller(clock, lambda: store.read(self._read), self._found)
        self._reader: IWorker | None = None
        self._reading = 0

    def start(self) -> Deferred[None]:
        """Create the table if necessary, read the apps, and poll for changes. An app that fails is not an error."""
        return self._store.start().addCallback(lambda _: self._poller.start())

    def stop(self) -> Deferred[None]:
        """Stop polling and reading credentials."""
        reader, self._reader = self._reader, None
        if reader is None:
            return self._poller.stop()
        # A credential that is being read is read to its end; the reactor must not block until then.
        last = reader.run(lambda: None).addCallback(lambda _: reader.stop())
        return last.addCallback(lambda _: self._poller.stop())

    # IApps

    def get(self, name: str) -> App:
        """See :meth:`IApps.get`."""
        known = self._state.apps.get(name)
        if known is None:
            raise UnknownApp(f"there is no app {name}")
        if known.app is None:
            # Callers need not know about our files; the log has the details.
            raise Unavailable(f"the app {name} cannot be used now; the daemon's log says why", retry_after=60)
        return known.app

    def names(self) -> list[str]:
        """See :meth:`IApps.names`."""
        return sorted(name for name, known in self._state.apps.items() if known.app is not None)

    def changed(self, listener: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        """See :meth:`IApps.changed`."""
        return self._listeners.subscribe(listener)

    # For operators

    def problems(self) -> dict[str, str]:
        """Tell by name which apps cannot be used, and why. One that goes on as it was before may be among them."""
        return {name: known.problem for name, known in self._state.apps.items() if known.problem}

    def source(self, name: str) -> Literal["file", "database"]:
        """Tell where an app is kept, whether it can be used or not."""
        return "file" if name in self._configuration.apps else "database"

    def now(self) -> datetime:
        """Tell at what time a certificate has to be valid."""
        return datetime.fromtimestamp(self._wall.now(), timezone.utc)

    def read(self, make: Callable[[], _T]) -> Deferred[_T]:
        """
        Read a credential from a caller in a thread, since it may take seconds. Credentials are read one at a time.

        :raises Unavailable: too many are waiting.
        """
        if self._reading >= MOST_READ:
            return fail(Unavailable("too many credentials are being read at the moment", retry_after=5))
        if self._reader is None:
            self._reader = self._worker("txapns-credentials")
        self._reading += 1

        def over(result: object) -> object:
            self._reading -= 1
            return result

        return self._reader.run(make).addBoth(over)

    # Changes for callers, whom the log names.

    def put(
        self,
        name: str,
        settings: AppSettings,
        credential: Credential,
        sandbox: Credential | None = None,
        *,
        caller: str,
    ) -> Deferred[bool]:
        """
        Add an app to the store, or replace the one of this name.

        :param sandbox: the credential of its sandbox side; ``None`` if that has none of its own.
        :param caller: the name of who wants it, for the log.
        :returns: a ``Deferred`` that fires when the app is on the disk and in use, with whether one was replaced.
        :raises AppExists: the configuration has an app of this name.
        :raises Malformed: the name or the gateway is not valid.
        :raises DaemonError: the master key or the store cannot be used.
        """
        secrets, now = self._secrets, self.now
        return self._change(
            name,
            lambda table: add_app(table, secrets, name, settings, credential, now=now(), replace=True, sandbox=sandbox),
            "put",
            caller,
        )

    def rotate(
        self, name: str, credential: Credential, environment: Environment = Environment.PRODUCTION, *, caller: str
    ) -> Deferred[None]:
        """
        Give an app in the store another credential.

        :param environment: the side that it is for, of an app with two.
        :param caller: the name of who wants it, for the log.
        :returns: a ``Deferred`` that fires when the credential is on the disk and in use.
        :raises UnknownApp: the app is not in the store.
        :raises AppExists: the app is in the configuration.
        :raises DaemonError: the master key or the store cannot be used.
        """
        rotate = partial(rotate_app, secrets=self._secrets, name=name, credential=credential, environment=environment)
        which = "sandbox credential" if environment is Environment.SANDBOX else "credential"
        return self._change(name, lambda table: rotate(table, now=self.now()), f"replaced the {which} of", caller)

    def rotate_submitted(
        self, name: str, given: SubmittedCredential, environment: Environment, *, caller: str
    ) -> Deferred[None]:
        """
        Give an app in the store the credential that an operator has submitted.

        :param environment: the side that it is for, of an app with two.
        :param caller: the name of who wants it, for the log.
        :returns: a ``Deferred`` that fires when the credential is on the disk and in use. It fails as those of
            :meth:`read` and :meth:`rotate` do, and tells what is wrong with the master key.
        :raises Malformed: (through the ``Deferred``) the credential cannot be used.
        """
        gateway = "sandbox" if environment is Environment.SANDBOX else None
        reading = self.read(lambda: read_submitted(given, self.now(), gateway=gateway))
        rotating = reading.addCallback(lambda credential: self.rotate(name, credential, environment, caller=caller))
        return rotating.addErrback(master_key_failed)

    def remove(self, name: str, *, caller: str) -> Deferred[None]:
        """
        Remove an app from the store.

        :param caller: the name of who wants it, for the log.
        :returns: a ``Deferred`` that fires when it is gone.
        :raises UnknownApp: the app is not in the store.
        :raises AppExists: the app is in the configuration.
        """
        return self._change(name, lambda table: remove_app(table, name), "removed", caller)

    def pause(self, name: str, caller: str) -> Deferred[bool]:
        """
        Send nothing more for an app, wherever it is kept, until it is resumed. It stays paused over a restart.

        :param caller: who wants it; see :class:`~txapns.daemon.values.Pause`.
        :returns: a ``Deferred`` that fires when that is on the disk, with whether the app was not paused before.
        :raises UnknownApp: there is no such app.
        """
        pause = Pause(self._wall.now(), caller)
        return self._mark(name, lambda table: table.pause(name, pause), "paused", caller)

    def resume(self, name: str, caller: str) -> Deferred[bool]:
        """
        End the pause of an app.

        :param caller: the name of who wants it, for the log.
        :returns: a ``Deferred`` that fires when that is on the disk, with whether the app was paused before.
        :raises UnknownApp: there is no such app.
        """
        return self._mark(name, lambda table: table.resume(name), "resumed", caller)

    def _mark(self, name: str, change: Callable[[IAppTable], bool], did: str, caller: str) -> Deferred[bool]:
        if name not in self._state.apps:
            return fail(UnknownApp(f"there is no app {name}"))

        def marked(changed: bool) -> bool:
            return _logged(changed, did, name, caller) if changed else False

        return self._write(name, change).addCallback(marked)

    def reconfigure(self, configuration: Configuration) -> Deferred[None]:
        """Use another configuration from now on. The ``Deferred`` fires when the apps are as it says."""
        self._configuration = configuration
        return self._poller.poll()

    def _change(self, name: str, change: Callable[[IAppTable], _T], did: str, caller: str) -> Deferred[_T]:
        if name in self._configuration.apps:
            return fail(AppExists(f"the app {name} is in the configuration, and can only be changed there"))
        return self._write(name, change).addCallback(_logged, did, name, caller)

    def _write(self, name: str, change: Callable[[IAppTable], _T]) -> Deferred[_T]:
        """Change an app for a caller, and take that up."""

        def written(result: _T) -> Deferred[_T]:
            return self._poller.poll().addCallback(lambda _: result)

        def over(result: object) -> object:
            self._writing[name] -= 1
            return result

        self._writing[name] += 1
        return self._store.write(change).addCallback(written).addBoth(over)

    # In the thread that reads

    def _read(self, table: IAppTable) -> _Found:
        before, configuration, master_key = self._state, self._configuration, self._secrets.stamp()
        number = table.changes()
        defaults, known = configuration.limits_of(AppLimitsSection()), {}
        for name, section in configuration.apps.items():
            make = partial(section_app, name, section, configuration)
            known[name] = self._renewed(before.apps.get(name), (section, defaults, *_stamps(section)), None, make)
        if before.is_current(configuration, number, master_key, self.clock.seconds()):
            return attrs.evolve(before, apps={**before.apps, **_with_pauses(known, before.pauses)})
        for row in table.rows():
            if row.name not in configuration.apps:
                make = partial(row_app, row, self._secrets, configuration)
                known[row.name] = self._renewed(before.apps.get(row.name), (row, defaults), master_key, make)
        pauses = table.pauses()
        return _Found(configuration, number, _with_pauses(known, pauses), pauses)

    def _renewed(
        self, before: _Known | None, origin: object, master_key: Stamp | None, make: Callable[[datetime], App]
    ) -> _Known:
        """Make an app if it has changed or could not be made before. What goes wrong with it affects no other app."""
        now = self.clock.seconds()
        if before is not None and before.origin == origin and before.is_current(master_key, now):
            return before
        try:
            return _Known(origin, make(self.now()))
        except Exception as error:
            app = None if before is None else before.app
            failure = None if isinstance(error, APNSError) else Failure()
            return _Known(origin, app, in_words(error), failure, master_key, now + AGAIN)

    # In the reactor's thread

    def _found(self, found: _Found) -> None:
        first = self._state.configuration is None
        before, self._state = self._state.apps, found
        # What is known of an app is the same object until something changes: so ten thousand are looked at in no time.
        new = {name: known for name, known in found.apps.items() if known is not before.get(name)}
        for name, known in new.items():
            if known.problem and known.problem != before.get(name, _MISSING).problem:
                _log_problem(name, known)
        removed = {name for name in before.keys() - found.apps.keys() if before[name].app is not None}
        changed = {name for name, known in new.items() if known.app != before.get(name, _MISSING).app}
        if names := frozenset(changed | removed):
            self._notify(names, first)
        self._warn(new)

    def _notify(self, names: frozenset[str], first: bool) -> None:
        self.revision += 1
        others = ", ".join(name for name in sorted(names) if not self._writing[name])
        if others and not first:
            _log.info("apps were changed by a command, in a file or by another node: {names}", names=others)
        self._listeners.tell(names)

    def _warn(self, new: Mapping[str, _Known]) -> None:
        """
        Warn of certificates that will expire, once for each of the days, and once when they have expired.

        :param new: the apps to look at now; at the next of those days, it is all of them.
        """
        now, before = self.now(), self._warned
        if now >= self._next_warning:
            new, self._warned, self._next_warning = self._state.apps, {}, _NEVER
        for name, known in new.items():
            for side, credential in () if known.app is None else known.app.credentials.items():
                if not isinstance(credential, Certificate):
                    continue
                left = (credential.expires - now).total_seconds() / 86_400
                ahead = [days for days in (*WARNINGS, 0) if left > days]
                if ahead:
                    self._next_warning = min(self._next_warning, credential.expires - timedelta(days=max(ahead)))
                reached = min((days for days in (*WARNINGS, 0) if left <= days), default=None)
                if reached is None:
                    continue
                certificate = name, credential.fingerprint
                if reached < self._warned.get(certificate, before.get(certificate, math.inf)):
                    _warn_of(name, side, credential.expires, reached)
                self._warned[certificate] = reached


def _logged(result: _T, did: str, app: str, caller: str) -> _T:
    """Log what a caller did with an app."""
    _log.info("{caller} {did} the app {app}", caller=caller, did=did, app=app)
    return result


def _log_problem(name: str, known: _Known) -> None:
    text = "the app {app} cannot be used" if known.app is None else "the app {app} goes on as it was"
    _log.error(f"{text}: {{reason}}", app=name, reason=known.problem)
    if known.failure is not None:
        _log.failure("what is wrong with the app {app}", known.failure, app=name)


def _warn_of(name: str, side: str, expires: datetime, days: int) -> None:
    which = f"{side} certificate" if side else "certificate"
    facts = {"app": name, "certificate": which, "expires": f"{expires:%Y-%m-%d %H:%M}"}
    if days == 0:
        _log.error("the {certificate} of the app {app} expired on {expires} UTC", **facts)
    else:
        left = "1 day" if days == 1 else f"{days} days"
        _log.warn("the {certificate} of the app {app} expires within {left}, on {expires} UTC", left=left, **facts)


def _with_pauses(apps: Mapping[str, _Known], pauses: Mapping[str, Pause]) -> dict[str, _Known]:
    return {name: known.with_pause(pauses.get(name)) for name, known in apps.items()}


def _stamps(section: AppSection) -> tuple[Stamp | None, ...]:
    """Tell the state of the files that an app is made from."""
    sections: list[CredentialSection | None] = [section, section.sandbox]
    files = [
        path
        for each in sections
        if each is not None
        for path in (each.certificate, each.key, each.passphrase_file, each.trust_root)
    ]
    return tuple(stamp(path) for path in files if path is not None)
