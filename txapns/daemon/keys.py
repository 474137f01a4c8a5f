"""
The keys that callers present: ``txapns_<id>_<secret>``.

::

    txapns_3f9a01c7_6d1f…0be4
           └─ id ─┘ └ secret: 256 random bits in hexadecimal

The id is not secret: logs and lists show it. The store has only the SHA-256 of the whole key, which is enough for what
cannot be guessed, so a key is shown once, when it is made. Keys are compared in constant time, even if the id is
unknown.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from txapns.daemon.config.sections import NAME
from txapns.daemon.errors import Malformed, NotAuthenticated
from txapns.daemon.interfaces import IKeys
from txapns.daemon.store.keys import IKeyStore, IKeyTable, StoredKey
from txapns.daemon.store.polling import ChangePoller
from txapns.daemon.values import Caller, Lane

__all__ = ["Keys", "add_key", "remove_key"]

_log = Logger()

_KEY = re.compile(r"txapns_([0-9a-f]{8})_[0-9a-f]{64}")
_UNKNOWN = bytes(32)


def add_key(
    table: IKeyTable,
    label: str,
    *,
    send: Iterable[str] | None = (),
    feedback: Iterable[str] | None = (),
    manage: bool = False,
    lane: Lane | None = None,
    now: float,
) -> str:
    """
    Make a key.

    :param label: the operator's name for it, which must be unique.
    :param send: as in :class:`Caller`, like ``feedback``, ``manage`` and ``lane``.
    :param now: UNIX seconds.
    :returns: the key. It cannot be shown again.
    :raises Malformed: the label is not valid, or there is a key with this label already.
    """
    if not NAME.fullmatch(label):
        raise Malformed("a key's label has 1 to 100 letters, digits, dots, hyphens and underscores")
    identifier = secrets.token_hex(4)
    key = f"txapns_{identifier}_{secrets.token_hex(32)}"
    send, feedback = (None if names is None else frozenset(names) for names in (send, feedback))
    table.add(StoredKey(Caller(identifier, send, feedback, manage, lane), label, now, _digest(key)))
    return key


def remove_key(table: IKeyTable, key: str) -> None:
    """
    Remove a key, given its id or its label. Callers that present it are refused within about a second.

    :raises Malformed: there is no such key.
    """
    if not table.remove(key):
        raise Malformed("there is no key of this id or label")


@implementer(IKeys)
class Keys:
    """The keys in memory, at most about a second old."""

    def __init__(self, clock: IReactorTime, store: IKeyStore) -> None:
        self._store = store
        self._keys: dict[str, StoredKey] = {}
        self._presented: dict[str, Caller] = {}  # by the whole key
        self._changes = -1
        self._poller = ChangePoller(clock, lambda: store.read(self._read), self._found)

    def start(self) -> Deferred[None]:
        """Create the table if necessary, read the keys, and poll for changes."""
        return self._store.start().addCallback(lambda _: self._poller.start())

    def stop(self) -> Deferred[None]:
        """Stop polling."""
        return self._poller.stop()

    def refresh(self) -> Deferred[None]:
        """Poll now."""
        return self._poller.poll()

    def check(self, key: str) -> Caller:
        """See :meth:`IKeys.check`."""
        if (caller := self._presented.get(key)) is not None:
            return caller
        match = _KEY.fullmatch(key)
        stored = self._keys.get(match[1]) if match else None
        if hmac.compare_digest(_digest(key), stored.digest if stored else _UNKNOWN) and stored:
            self._presented[key] = stored.caller
            return stored.caller
        raise NotAuthenticated("the key is not known")

    def _read(self, table: IKeyTable) -> tuple[int, list[StoredKey] | None]:
        number = table.changes()
        return number, None if number == self._changes else list(table.listed())

    def _found(self, found: tuple[int, list[StoredKey] | None]) -> None:
        number, keys = found
        if keys is not None:
            before, first = self._keys, self._changes == -1
            self._changes = number
            self._keys = {stored.caller.name: stored for stored in keys if not stored.problem}
            self._presented.clear()
            if not first:
                _log_changes(before, self._keys)
            for stored in keys:
                if stored.problem:
                    _log.error("the key {label} cannot be used: {reason}", label=stored.label, reason=stored.problem)


def _log_changes(before: Mapping[str, StoredKey], after: Mapping[str, StoredKey]) -> None:
    for action, one, other in (("added", after, before), ("removed", before, after)):
        for name in sorted(one.keys() - other.keys()):
            label = one[name].label
            _log.info("a command {action} the key {key}, {label}", action=action, key=name, label=label)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
