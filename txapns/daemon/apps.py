"""
The apps there are: those of the configuration, and those in the database.

An app in the database has its private key encrypted with the master key; the rest of it can be read. The functions here
that take a connection are for the command, which works on the database while the daemon runs, and for the daemon
itself. :class:`Apps` is what the daemon knows; it looks for changes once a second: of the table, and of the files that
the configuration names, so that a renewed certificate only has to be put in the place of the old one.

What cannot be used does not stop the daemon. An app that could be used before stays as it was; one that could not is
refused; the log says why, once. Of a certificate's expiry it warns 30, 7 and 1 days before.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import partial
from typing import Literal, TypeAlias, TypeVar

import attrs
import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._network.clocks import wall_clock
from txapns._network.trust import trust_pem
from txapns.credentials import Certificate, Credential
from txapns.daemon.config import NAME, AppDescription, AppSection, Configuration, plain_fingerprint
from txapns.daemon.errors import AppExists, ConfigurationError, Malformed, Unavailable, UnknownApp, in_words
from txapns.daemon.interfaces import IApps
from txapns.daemon.secrets.credentials import decrypt, encrypt, reencrypt, section_credential
from txapns.daemon.secrets.master_key import MasterKey, Secrets, Stamp, stamp
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.polling import ChangePoller, Instant, changes, counted
from txapns.daemon.store.sqlite.schema import Schema, lenient
from txapns.daemon.store.sqlite.workers import IWorker
from txapns.daemon.values import App
from txapns.errors import APNSError, CredentialError, InvalidGateway
from txapns.gateway import Gateway
from txapns.notification import Notification

__all__ = [
    "PART",
    "WARNINGS",
    "AppSettings",
    "Apps",
    "StoredApp",
    "add_app",
    "app_of",
    "app_rows",
    "expiry",
    "list_apps",
    "rekey_apps",
    "remove_app",
    "rotate_app",
    "row_app",
    "section_app",
]

_log = Logger()

_T = TypeVar("_T")

#: So many days before a certificate expires, the log says so.
WARNINGS = (30, 7, 1)

#: After how many seconds it is tried again to make an app of what it could not be made of. It may take long.
AGAIN = 30.0
#: How many credentials of callers may wait to be read.
MOST_READ = 20

_NAMES = "the name of an app has 1 to 100 letters, digits, dots, hyphens and underscores"

#: Its table in the database.
PART = Schema(
    "apps",
    (
        ";\n".join(
            (
                """
                CREATE TABLE app (
                    name TEXT PRIMARY KEY,
                    settings BLOB NOT NULL,      -- JSON
                    encrypted BLOB NOT NULL,        -- the credential, encrypted with the master key
                    kind TEXT NOT NULL,          -- certificate or key
                    fingerprint TEXT NOT NULL,   -- of the credential
                    expires REAL,                -- when its certificate does; NULL for a key
                    created_at REAL NOT NULL,
                    changed_at REAL NOT NULL
                )
                """,
                *counted("app"),
            )
        ),
    ),
)


class AppSettings(AppDescription, frozen=True, kw_only=True):
    """
    What the database keeps of an app besides its credential.

    :ivar trust_root: PEM of the authorities to trust at the gateway; ``None`` for the platform's.
    """

    trust_root: str | None = None


@attrs.frozen
class StoredApp:
    """
    An app in the database, as far as it can be read without the master key.

    :ivar name: its name.
    :ivar settings: what is set.
    :ivar kind: ``"certificate"`` or ``"key"``.
    :ivar fingerprint: the credential's.
    :ivar expires: when its certificate does, in UNIX seconds; ``None`` for a key.
    :ivar created_at: when it was added.
    :ivar changed_at: when its credential came.
    :ivar problem: why the rest cannot be read; empty if it can.
    """

    name: str
    settings: AppSettings
    kind: str
    fingerprint: str
    expires: float | None
    created_at: float
    changed_at: float
    problem: str = ""


_Rest: TypeAlias = tuple[Literal["certificate", "key"], str, Instant | None, Instant, Instant]


# On a connection to the database


def add_app(
    connection: sqlite3.Connection,
    secrets: Secrets,
    name: str,
    settings: AppSettings,
    credential: Credential,
    *,
    now: datetime,
    replace: bool = False,
) -> bool:
    """
    Put an app into the database.

    :param connection: to the database, in a transaction.
    :param secrets: where the master key is.
    :param name: what to call it.
    :param settings: what is set.
    :param credential: its credential.
    :param now: the time.
    :param replace: whether one of the same name is replaced.
    :returns: whether one was.
    :raises Malformed: the name cannot be one, or the daemon is none.
    :raises AppExists: there is one already, and it is not to be replaced.
    :raises DaemonError: the master key cannot be used.
    """
    if not NAME.fullmatch(name):
        raise Malformed(_NAMES)
    try:
        Gateway.parse(settings.gateway)
    except InvalidGateway as error:
        raise Malformed(str(error)) from None
    created = connection.execute("SELECT created_at FROM app WHERE name = ?", [name]).fetchone()
    if created and not replace:
        raise AppExists(f"there is an app {name} already")
    # The master key is read in the transaction: one that is being changed is either not yet or already the new one.
    row = name, msgspec.json.encode(settings), *_columns(name, credential, secrets)
    began = created[0] if created else now.timestamp()
    connection.execute("INSERT OR REPLACE INTO app VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [*row, began, now.timestamp()])
    return created is not None


def rotate_app(
    connection: sqlite3.Connection, secrets: Secrets, name: str, credential: Credential, *, now: datetime
) -> None:
    """
    Give an app another credential.

    :param connection: to the database, in a transaction.
    :param secrets: where the master key is.
    :param name: the app's name.
    :param credential: the credential.
    :param now: the time.
    :raises UnknownApp: it is not in the database.
    :raises DaemonError: the master key cannot be used.
    """
    changed = connection.execute(
        "UPDATE app SET encrypted = ?, kind = ?, fingerprint = ?, expires = ?, changed_at = ? WHERE name = ?",
        [*_columns(name, credential, secrets), now.timestamp(), name],
    )
    if not changed.rowcount:
        raise _unknown(name)


def remove_app(connection: sqlite3.Connection, name: str) -> None:
    """
    Forget an app and its credential. What waits for it stays in the queue.

    :param connection: to the database, in a transaction.
    :param name: the app's name.
    :raises UnknownApp: it is not in the database.
    """
    if not connection.execute("DELETE FROM app WHERE name = ?", [name]).rowcount:
        raise _unknown(name)


def list_apps(connection: sqlite3.Connection) -> list[StoredApp]:
    """
    List the apps in the database, by name.

    :param connection: to the database.
    """
    with lenient(connection):
        rows = connection.execute(
            "SELECT CAST(name AS TEXT), CAST(settings AS BLOB), kind, fingerprint, expires, created_at, changed_at"
            " FROM app ORDER BY name"
        ).fetchall()
    return [_stored(*row) for row in rows]


def _stored(name: object, settings: bytes, *rest: object) -> StoredApp:
    try:
        return StoredApp(_printable(name), _settings(settings), *msgspec.convert(rest, _Rest))
    except (ConfigurationError, msgspec.MsgspecError) as error:
        return StoredApp(_printable(name), AppSettings(gateway=""), "", "", None, 0.0, 0.0, str(error))


def rekey_apps(connection: sqlite3.Connection, key: MasterKey) -> int:
    """
    Encrypt all credentials anew.

    :param connection: to the database, in a transaction.
    :param key: the master key, which opens what there is and encrypts from now on.
    :returns: how many there are.
    :raises SecretError: it does not open one of them; the message names the app.
    """
    rows = connection.execute("SELECT name, encrypted FROM app").fetchall()
    for name, encrypted in rows:
        connection.execute("UPDATE app SET encrypted = ? WHERE name = ?", [reencrypt(encrypted, name, key), name])
    return len(rows)


def _columns(name: str, credential: Credential, secrets: Secrets) -> tuple[bytes, str, str, float | None]:
    """Make what the database keeps of a credential."""
    expires = credential.expires.timestamp() if isinstance(credential, Certificate) else None
    kind = "key" if expires is None else "certificate"
    return encrypt(credential, name, secrets.master_key()), kind, credential.fingerprint, expires


def _settings(text: bytes) -> AppSettings:
    try:
        return msgspec.json.decode(text, type=AppSettings)
    except msgspec.MsgspecError as error:
        raise ConfigurationError(f"its settings in the database cannot be read: {error}") from None


def _unknown(name: str) -> UnknownApp:
    return UnknownApp(f"there is no app {name} in the database")


# What the daemon knows


def expiry(app: App) -> datetime | None:
    """
    Tell when an app's certificate expires.

    :param app: the app.
    :returns: the time, UTC; ``None`` for a signing key, which does not expire.
    """
    return app.credential.expires if isinstance(app.credential, Certificate) else None


def app_of(
    name: str,
    settings: AppSettings,
    credential: Credential,
    configuration: Configuration,
    source: Literal["file", "database"],
) -> App:
    """
    Make an app from what is set and its credential, and see whether it could connect.

    :param name: its name.
    :param settings: what is set.
    :param credential: its credential.
    :param configuration: has the limits of all apps.
    :param source: where it is kept.
    :raises APNSError: it cannot be used.
    """
    if not NAME.fullmatch(name):
        raise ConfigurationError(_NAMES)
    gateway = Gateway.parse(settings.gateway, trust_root=settings.trust_root)
    gateway.context(credential)
    Notification(payload={}, topic=settings.topic, push_type=settings.push_type)
    return App(
        name=name,
        gateway=gateway,
        credential=credential,
        topic=settings.topic,
        push_type=settings.push_type,
        callers=frozenset(map(plain_fingerprint, settings.callers)),
        limits=configuration.limits_of(settings.limits),
        source=source,
    )


def section_app(name: str, section: AppSection, configuration: Configuration, now: datetime) -> App:
    """
    Make an app of the configuration.

    :param name: its name.
    :param section: its section.
    :param configuration: has the limits of all apps.
    :param now: the time.
    :raises APNSError: it cannot be used.
    """
    try:
        trust_root = None if section.trust_root is None else trust_pem(section.trust_root.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"trust_root: {section.trust_root}: {error.strerror}") from None
    except CredentialError as error:
        raise CredentialError(f"{section.trust_root}: {error}") from None
    common = {name: getattr(section, name) for name in AppDescription.__struct_fields__}
    settings = AppSettings(trust_root=trust_root, **common)
    return app_of(name, settings, section_credential(section, now), configuration, "file")


def row_app(
    name: str, settings: bytes, encrypted: bytes, secrets: Secrets, configuration: Configuration, now: datetime
) -> App:
    """
    Make an app of a row of the database.

    :param name: its name.
    :param settings: what is set, in JSON.
    :param encrypted: its credential, encrypted.
    :param secrets: where the master key is.
    :param configuration: has the limits of all apps.
    :param now: the time.
    :raises APNSError: it cannot be used.
    """
    credential = decrypt(encrypted, name, secrets.master_key(), now)
    return app_of(name, _settings(settings), credential, configuration, "database")


def app_rows(connection: sqlite3.Connection) -> list[tuple[str, bytes, bytes]]:
    """
    Read what :func:`row_app` takes of each app in the database: name, settings and credential.

    :param connection: to the database.
    """
    with lenient(connection):
        rows = connection.execute(
            "SELECT CAST(name AS TEXT), CAST(settings AS BLOB), CAST(encrypted AS BLOB) FROM app ORDER BY name"
        ).fetchall()
    return [(_printable(name), settings, encrypted) for name, settings, encrypted in rows]


def _printable(name: object) -> str:
    """Show a name that somebody wrote into the database by other means than ours."""
    return text if (text := str(name)).isprintable() else ascii(text)[1:-1]


@attrs.frozen
class _Known:
    """
    One app, and what it was made from.

    :ivar origin: as long as this is the same, it need not be made again.
    :ivar app: the last that could be made; ``None`` if there was none.
    :ivar problem: why it could not be made from what there is now; empty if it could.
    :ivar failure: the same, where it is a fault of the daemon's own.
    :ivar master_key: the state of the master key then.
    :ivar again: when it is tried again though nothing has changed, by the monotonic clock.
    """

    origin: object = attrs.field(repr=False)
    app: App | None
    problem: str = ""
    failure: Failure | None = None
    master_key: Stamp | None = None
    again: float = math.inf

    def is_over(self, master_key: Stamp | None, now: float) -> bool:
        """Whether there is nothing to be made again, as long as the origin is the same."""
        return not self.problem or (self.master_key == master_key and now < self.again)


@attrs.frozen
class _Found:
    """
    What a look found.

    :ivar number: how often the table has changed.
    :ivar apps: the apps by name.
    """

    number: int = -1
    apps: Mapping[str, _Known] = attrs.Factory(dict)


@implementer(IApps)
class Apps:
    """
    The apps, never older than a second or so.

    :param clock: tells when to look for changes, and what time it is.
    :param configuration: has apps, and the limits of all.
    :param database: the database, open.
    :param secrets: where the master key is.
    """

    def __init__(self, clock: IReactorTime, configuration: Configuration, database: Database, secrets: Secrets) -> None:
        self.revision = 0
        self._clock = clock
        self._wall = wall_clock(clock)
        self._configuration = configuration
        self._database = database
        self._secrets = secrets
        self._state = _Found()
        self._listeners: list[Callable[[frozenset[str]], None]] = []
        self._warned: dict[tuple[str, str], int] = {}
        self._watch = ChangePoller(clock, database, self._look, self._found)
        self._reader: IWorker | None = None
        self._reading = 0

    def start(self) -> Deferred[None]:
        """
        Make the table if need be, find the apps, and watch them.

        :raises DaemonError: the database cannot be used. That an app cannot be used is no reason.
        """
        return self._database.prepare(PART).addCallback(lambda _: self._watch.start())

    def stop(self) -> Deferred[None]:
        """ChangePoller no more, and read no more credentials."""
        reader, self._reader = self._reader, None
        if reader is None:
            return self._watch.stop()
        # What is being read is read to its end, for which the reactor is not to wait.
        last = reader.run(lambda: None).addCallback(lambda _: reader.stop())
        return last.addCallback(lambda _: self._watch.stop())

    # IApps

    def get(self, name: str) -> App:
        """See :meth:`IApps.get`."""
        known = self._state.apps.get(name)
        if known is None:
            raise UnknownApp(f"there is no app {name}")
        if known.app is None:
            # Callers need not know of our files; the log has it all.
            raise Unavailable(f"the app {name} cannot be used now; the daemon's log says why", retry_after=60)
        return known.app

    def names(self) -> list[str]:
        """See :meth:`IApps.names`."""
        return sorted(name for name, known in self._state.apps.items() if known.app is not None)

    def changed(self, listener: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        """See :meth:`IApps.changed`."""
        self._listeners.append(listener)
        return partial(self._listeners.remove, listener)

    # What others may know and do

    def problems(self) -> dict[str, str]:
        """
        Tell what cannot be used, and why.

        :returns: by the app's name. It may be an app that works as it was before.
        """
        return {name: known.problem for name, known in self._state.apps.items() if known.problem}

    def source(self, name: str) -> Literal["file", "database"]:
        """
        Tell where an app is kept, whether it can be used or not.

        :param name: its name.
        """
        return "file" if name in self._configuration.apps else "database"

    def now(self) -> datetime:
        """Tell at what time a certificate has to be valid."""
        return datetime.fromtimestamp(self._wall.now(), timezone.utc)

    def read(self, make: Callable[[], _T]) -> Deferred[_T]:
        """
        Read a credential that somebody sent, which may take seconds: in a thread, one after the other.

        :param make: reads it.
        :returns: a ``Deferred`` of what that returns.
        :raises Unavailable: too many wait for the same.
        """
        if self._reading >= MOST_READ:
            return fail(Unavailable("too many credentials are being read at the moment", retry_after=5))
        if self._reader is None:
            self._reader = self._database.worker("txapns-credentials")
        self._reading += 1

        def over(result: object) -> object:
            self._reading -= 1
            return result

        return self._reader.run(make).addBoth(over)

    def put(self, name: str, settings: AppSettings, credential: Credential) -> Deferred[bool]:
        """
        Add an app to the database, or replace the one there.

        :param name: its name.
        :param settings: what is set.
        :param credential: its credential.
        :returns: a ``Deferred`` that fires when it is on the disk, and known: with whether there was one.
        :raises AppExists: the configuration has an app of this name.
        :raises Malformed: the name or the daemon cannot be one.
        :raises DaemonError: the master key or the database cannot be used.
        """
        return self._change(
            name,
            lambda connection: add_app(
                connection, self._secrets, name, settings, credential, now=self.now(), replace=True
            ),
        )

    def rotate(self, name: str, credential: Credential) -> Deferred[None]:
        """
        Give an app in the database another credential.

        :param name: its name.
        :param credential: the credential.
        :returns: a ``Deferred`` that fires when it is on the disk, and known.
        :raises UnknownApp: it is not there.
        :raises AppExists: it is the configuration's.
        :raises DaemonError: the master key or the database cannot be used.
        """
        return self._change(
            name, lambda connection: rotate_app(connection, self._secrets, name, credential, now=self.now())
        )

    def remove(self, name: str) -> Deferred[None]:
        """
        Remove an app from the database.

        :param name: its name.
        :returns: a ``Deferred`` that fires when it is gone.
        :raises UnknownApp: it is not there.
        :raises AppExists: it is the configuration's.
        """
        return self._change(name, lambda connection: remove_app(connection, name))

    def _change(self, name: str, change: Callable[[sqlite3.Connection], _T]) -> Deferred[_T]:
        if name in self._configuration.apps:
            return fail(AppExists(f"the app {name} is in the configuration, and can only be changed there"))

        def known(result: _T) -> Deferred[_T]:
            return self._watch.look().addCallback(lambda _: result)

        return self._database.write(change, 1).addCallback(known)

    # Looking, in the thread that reads

    def _look(self, connection: sqlite3.Connection) -> _Found:
        before, configuration, master_key = self._state, self._configuration, self._secrets.stamp()
        number = changes(connection, "app")
        known = {}
        for name, section in configuration.apps.items():
            of_section = partial(section_app, name, section, configuration)
            known[name] = self._renewed(before.apps.get(name), _origin(section), None, of_section)
        stored = {name: each for name, each in before.apps.items() if name not in known}
        now = self._clock.seconds()
        if number != before.number or not all(each.is_over(master_key, now) for each in stored.values()):
            rows = {row[0]: row for row in app_rows(connection) if row[0] not in known}
            stored = {
                name: self._renewed(
                    stored.get(name), row, master_key, partial(row_app, *row, self._secrets, configuration)
                )
                for name, row in rows.items()
            }
        return _Found(number, {**stored, **known})

    def _renewed(
        self, before: _Known | None, origin: object, master_key: Stamp | None, make: Callable[[datetime], App]
    ) -> _Known:
        """Make an app if it is not as it was, or could not be made; whatever goes wrong with it concerns no other."""
        now = self._clock.seconds()
        if before is not None and before.origin == origin and before.is_over(master_key, now):
            return before
        try:
            return _Known(origin, make(self.now()))
        except Exception as error:
            app = None if before is None else before.app
            failure = None if isinstance(error, APNSError) else Failure()
            return _Known(origin, app, in_words(error), failure, master_key, now + AGAIN)

    # What was found, in the reactor's thread

    def _found(self, found: _Found) -> None:
        before, self._state = self._state.apps, found
        for name, known in found.apps.items():
            if known.problem and known.problem != _problem(before.get(name)):
                _tell_problem(name, known)
        names = before.keys() | found.apps.keys()
        differing = frozenset(name for name in names if _app(before.get(name)) != _app(found.apps.get(name)))
        if differing:
            self._tell(differing)
        self._warn()

    def _tell(self, names: frozenset[str]) -> None:
        self.revision += 1
        _log.info("apps changed: {names}", names=", ".join(sorted(names)))
        for listener in list(self._listeners):
            try:
                listener(names)
            except Exception:
                _log.failure("an app's change was not taken up")

    def _warn(self) -> None:
        """Warn of certificates that will expire, once for each of the days, and once when they have."""
        now = self.now()
        warned = {}
        for name, app in ((name, known.app) for name, known in self._state.apps.items()):
            expires = None if app is None else expiry(app)
            if app is None or expires is None:
                continue
            left = (expires - now).total_seconds() / 86_400
            reached = min((days for days in (*WARNINGS, 0) if left <= days), default=None)
            if reached is None:
                continue
            certificate = name, app.credential.fingerprint
            if reached < self._warned.get(certificate, math.inf):
                _warn_of(name, expires, reached)
            warned[certificate] = reached
        self._warned = warned


def _tell_problem(name: str, known: _Known) -> None:
    text = "the app {app} cannot be used" if known.app is None else "the app {app} goes on as it was"
    _log.error(f"{text}: {{problem}}", app=name, problem=known.problem)
    if known.failure is not None:
        _log.failure("what is wrong with the app {app}", known.failure, app=name)


def _warn_of(name: str, expires: datetime, days: int) -> None:
    facts = {"app": name, "expires": f"{expires:%Y-%m-%d %H:%M}"}
    if days == 0:
        _log.error("the certificate of the app {app} expired on {expires} UTC", **facts)
    else:
        left = "1 day" if days == 1 else f"{days} days"
        _log.warn("the certificate of the app {app} expires within {left}, on {expires} UTC", left=left, **facts)


def _app(known: _Known | None) -> App | None:
    return None if known is None else known.app


def _problem(known: _Known | None) -> str:
    return "" if known is None else known.problem


def _origin(section: AppSection) -> tuple[Stamp | None, ...]:
    """Tell the state of the files that an app is made from."""
    return tuple(
        stamp(path)
        for path in (section.certificate, section.key, section.passphrase_file, section.trust_root)
        if path is not None
    )
