"""
The seams of the daemon: who may be put in whose place.

::

    faces ──► IIntake ──► IQueue ◄── dispatcher ──► APNSClient
       │                    │
       ├──► IKeys, IApps    └──► IFeedbackLog ◄── faces, webhooks

Where a method returns a ``Deferred``, what it raises comes through it as a failure, and it fires sooner or later
whatever happens, at :meth:`IQueue.stop` at the latest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from txapns.daemon.values import (
    App,
    Caller,
    Depth,
    Draft,
    Entry,
    FeedbackEntry,
    Idempotency,
    Leased,
    Message,
    Outcome,
    Receipt,
    Settlement,
    State,
)

__all__ = ["IApps", "IFeedbackLog", "IIntake", "IKeys", "IQueue"]


class IQueue(Interface):
    """
    What was accepted and is not yet settled, and for some time what became of it. It survives everything but the disk.

    A notification is *accepted* once, *leased* to whoever sends it, and *settled*. A lease has an end: what was not
    settled by then is free to be leased again, so nothing is stuck, and what is settled later counts all the same.
    Between the answer of Apple and the settlement a crash makes a second attempt of the same notification, with the
    same id. That is the only way in which one is sent twice.

    When something is due, and when a lease ends, is told by the reactor's clock: nothing waits longer because somebody
    sets the clock on the wall. What is dated is dated by that one.

    Each has a number. No other ever gets the same, not even when the notification is forgotten.
    """

    def start() -> Deferred[None]:
        """
        Open it. Leases of a process that is no more are free.

        :raises DatabaseError: it cannot be used; the message says why.
        """

    def stop() -> Deferred[None]:
        """Do all that was asked for before, and close. What is asked for later fails with :class:`Unavailable`."""

    def accept(messages: Sequence[Message], idempotency: Idempotency | None = None) -> Deferred[list[Receipt]]:
        """
        Store notifications: all, or none. When the ``Deferred`` fires they are on the disk.

        :param messages: the notifications.
        :param idempotency: what makes the request known. One that was accepted before with the same digest is not
            stored again.
        :returns: for each message, in order, its receipt; that of the first time, if there was one.
        :raises KeyConflict: the key was used with another digest.
        :raises Unavailable: they cannot be stored now; nothing was.
        """

    def lease(app: str, count: int, until: float) -> Deferred[list[Leased]]:
        """
        Lend what is due, the longest due first, and of equals those accepted first.

        :param app: the app's name.
        :param count: how many at the most.
        :param until: when the lease ends, by the reactor's clock.
        :returns: notifications that nobody else has a lease of; fewer, or none, where no more are due.
        """

    def settle(settlements: Sequence[Settlement]) -> Deferred[None]:
        """
        Store what came of attempts, and note dead tokens in the feedback log together with it: all, or nothing.

        The first final state of a notification stays; what is settled already, or is not there, is passed over.

        :param settlements: the outcomes. The leases end.
        :raises Unavailable: they cannot be stored now. The leases stay; try again.
        """

    def release(numbers: Iterable[int]) -> Deferred[None]:
        """
        Give leases back. No attempt is counted.

        :param numbers: the notifications; the ones without a lease are passed over.
        """

    def renew(numbers: Iterable[int], until: float) -> Deferred[None]:
        """
        Keep leases for longer.

        :param numbers: the notifications; the ones without a lease are passed over.
        :param until: when they end now.
        """

    def reclaim() -> Deferred[None]:
        """Give back all leases, of whoever has them. Only for who knows that nobody is sending any more."""

    def outcomes(numbers: Iterable[int]) -> Deferred[list[Outcome]]:
        """
        Tell what is known of notifications.

        :param numbers: the notifications.
        :returns: those that were accepted and are not forgotten.
        """

    def outcome(apns_id: str, apps: Iterable[str] | None = None) -> Deferred[Outcome | None]:
        """
        Tell what is known of the latest notification with an id.

        :param apns_id: its id, in lower case.
        :param apps: the names of the apps among whose notifications to look; ``None`` for all. It makes no difference,
            nor takes another time, whether other apps have one.
        :returns: ``None`` where there is none, or it is forgotten.
        """

    def depth(app: str) -> int:
        """
        Tell at once how many notifications of an app wait, those under way and those being stored among them.

        :param app: the app's name.
        """

    def depths() -> Deferred[list[Depth]]:
        """Tell what waits, for each app that has ever been seen, by name."""

    def next_due(app: str) -> Deferred[float | None]:
        """
        Tell when there will be something to lease.

        :param app: the app's name.
        :returns: the time by the reactor's clock, which may be over already; ``None`` where nothing waits that is not
            leased.
        """

    def listed(app: str | None, state: State, limit: int, after: int = 0) -> Deferred[list[Entry]]:
        """
        List notifications, in the order in which they were accepted.

        :param app: the app's name; ``None`` for all.
        :param state: in which state they are.
        :param limit: how many at the most.
        :param after: the number of the last one listed before.
        """

    def retry(app: str | None, limit: int) -> Deferred[int]:
        """
        Make dead letters wait anew, due now and with no attempts counted.

        :param app: the app's name; ``None`` for all.
        :param limit: how many at the most, those accepted first.
        :returns: how many there were.
        """

    def purge(app: str | None, state: State, limit: int) -> Deferred[int]:
        """
        Delete notifications, waiting ones too, but for those under way.

        :param app: the app's name; ``None`` for all.
        :param state: in which state they are.
        :param limit: how many at the most, those accepted first.
        :returns: how many there were.
        """

    def prune(before: float, limit: int = 1000) -> Deferred[int]:
        """
        Forget a few of the notifications, idempotency keys and dead tokens that have been kept long enough.

        To be called until it returns 0, with pauses.

        :param before: what became final before this time is forgotten.
        :param limit: about how many to look at.
        :returns: how many notifications were looked at; 0 at the end.
        """


class IFeedbackLog(Interface):
    """
    The dead tokens, in the order in which they became known.

    A token is noted once for each time at which it died. The settlement of the notification that told of it, and the
    note, are one: there is none without the other.
    """

    def start() -> Deferred[None]:
        """
        Make it ready to be used.

        :raises DatabaseError: it cannot be; the message says why.
        """

    def after(app: str | None, cursor: int, limit: int) -> Deferred[list[FeedbackEntry]]:
        """
        Read on from a position that the reader keeps.

        :param app: the app's name; ``None`` for all.
        :param cursor: the cursor of the last one read; 0 to begin.
        :param limit: how many at the most.
        """

    def take(app: str | None, reader: str, limit: int) -> Deferred[list[FeedbackEntry]]:
        """
        Read on from a position that the log keeps. Until it is confirmed, the same come again.

        :param app: the app's name; ``None`` for all. Each has a position of its own.
        :param reader: who reads.
        :param limit: how many at the most.
        """

    def confirm(app: str | None, reader: str, cursor: int) -> Deferred[None]:
        """
        Move a reader's position on. It never moves back.

        :param app: as for :meth:`take`.
        :param reader: who reads.
        :param cursor: the cursor of the last one that need not come again.
        :raises Unavailable: it cannot be stored now.
        """

    def behind(app: str | None, reader: str, most: int) -> Deferred[int]:
        """
        Count what a reader has not confirmed yet.

        :param app: as for :meth:`take`.
        :param reader: who reads.
        :param most: where counting ends.
        """

    def known(app: str, tokens: Sequence[bytes]) -> Deferred[Mapping[bytes, FeedbackEntry]]:
        """
        Look tokens up.

        :param app: the app's name.
        :param tokens: the tokens.
        :returns: those that the log has, with what it says of each last. The token may have come to life since.
        """


class IApps(Interface):
    """The apps there are. It changes while the daemon runs."""

    revision = Attribute("Grows with every change: an ``int``.")

    def get(name: str) -> App:
        """
        Find an app, at once.

        :param name: its name.
        :raises UnknownApp: there is none.
        :raises Unavailable: there is one, but its credential cannot be used.
        """

    def names() -> list[str]:
        """List the names of those that :meth:`get` gives, sorted."""

    def changed(listener: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        """
        Ask to be told of changes.

        :param listener: called, in the reactor's thread, with the names of the apps that came, went or are not as they
            were.
        :returns: what to call to be told no longer.
        """


class IKeys(Interface):
    """The keys that callers show."""

    def check(key: str) -> Caller:
        """
        Find out who the caller is, at once and in a time that says nothing of the keys there are.

        :param key: what was shown.
        :raises NotAuthenticated: nobody has this key.
        """


class IIntake(Interface):
    """The one way in, for all faces: limits, ids, and one call of the queue for each request."""

    def check(app: str, drafts: Sequence[Draft]) -> None:
        """
        Find out, at once, whether notifications would be accepted now.

        :param app: the app's name.
        :param drafts: the notifications.
        :raises RequestRefused: why not.
        """

    def accept(app: str, drafts: Sequence[Draft], idempotency: Idempotency | None = None) -> Deferred[list[Receipt]]:
        """
        Accept notifications: all, or none. When the ``Deferred`` fires nothing can lose them any more.

        :param app: the app's name.
        :param drafts: the notifications.
        :param idempotency: what makes the request known when it comes a second time.
        :returns: for each draft, in order, its receipt.
        :raises RequestRefused: why not; nothing was stored.
        """

    def wait(receipts: Sequence[Receipt], timeout: float) -> Deferred[Mapping[int, Outcome]]:
        """
        Wait until notifications have a final state.

        :param receipts: what :meth:`accept` gave, and at once: when its ``Deferred`` fires.
        :param timeout: for how many seconds at the most.
        :returns: the outcomes of those that have one by then, by number.
        """
