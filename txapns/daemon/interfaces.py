"""
The seams of the daemon: the interfaces between its parts.

::

    faces ──► IIntake ──► IQueue ◄── dispatcher ──► APNSClient
      │                     │
      ├──► IKeys, IApps     │ settle
      │                     ▼
      └──► IOutcomeLog, IOutcomeFeed, IFeedbackLog ◄── webhooks

A method that returns a ``Deferred`` raises nothing itself: the ``Deferred`` fails. It always fires, at the latest when
:meth:`~txapns.daemon.store.store.IStore.stop` is called. Where an app's name may be ``None``, that stands for all apps.
Durations are in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from txapns.daemon.values import (
    ANYBODY,
    App,
    Caller,
    Depth,
    Draft,
    Entry,
    Estimate,
    FeedbackEntry,
    Idempotency,
    Lane,
    Lease,
    Message,
    Outcome,
    Receipt,
    RecordedOutcome,
    Settlement,
    State,
    TokenEnvironment,
)

__all__ = [
    "IApps",
    "IFeedbackLog",
    "IIntake",
    "IKeys",
    "IOutcomeFeed",
    "IOutcomeLog",
    "IQueue",
    "ITokenEnvironments",
]


class IQueue(Interface):
    """
    Accepted notifications that are not settled. They survive everything but the loss of the disk.

    A notification is *accepted* once, *leased* by whoever sends it, and *settled*. A lease has an end: a notification
    that was not settled by then can be leased again, so none is ever stuck, and a late settlement still counts. If the
    process dies between Apple's answer and the settlement, the same notification is sent again, with the same id; and
    so it is if a power cut undoes the settlement in the moment that the disk takes. These are the only cases in which
    one is sent twice.

    Due times and the ends of leases are times of the reactor's clock, so setting the wall clock delays nothing. Dates
    are times of the wall clock; only what is not sent before a date depends on how it is set.

    Each notification has a number. No number is used twice, even if its notification is forgotten.
    """

    def accept(
        messages: Sequence[Message], idempotency: Idempotency | None = None, *, durable: bool = True
    ) -> Deferred[list[Receipt]]:
        """
        Store notifications: all or none. When the ``Deferred`` fires, they are on the disk.

        What waits for the same devices of the same app with the same collapse id becomes final as superseded, in the
        same transaction, whenever it is due; what is leased does so when it comes back into the queue.

        :param idempotency: identifies the request. If a request with the same key and digest was accepted before, this
            one is not stored.
        :param durable: false if the caller need not wait for the disk, since nobody learns of them before they are
            settled, or :meth:`on_disk` has fired: then they only survive the end of the process when this fires.
            Nothing is settled before they are on the disk.
        :returns: a receipt for each message, in order; if the request repeats an earlier one, its receipts, marked as
            ``earlier``.
        :raises KeyConflict: the key was used with another digest.
        :raises Unavailable: they cannot be stored now; nothing was stored.
        """

    def on_disk() -> Deferred[None]:
        """
        Wait until everything is on the disk that was accepted and settled before.

        :raises Unavailable: it cannot be brought there now.
        """

    def subscribe(listener: Callable[[Mapping[str, int], Sequence[int]], None]) -> Callable[[], None]:
        """
        Call a function whenever notifications are superseded here.

        :param listener: called in the reactor's thread with how many of which apps they are, and with their numbers,
            when that is stored.
        :returns: a function that ends the subscription.
        """

    def lease(
        app: str,
        count: int,
        until: float,
        most: int | None = None,
        only: Lane | None = None,
        rate: int | None = None,
    ) -> Deferred[Lease]:
        """
        Lease notifications of one lane that are due: of all callers that have some, each an equal part.

        :mod:`txapns.daemon.store.turns` says which lane. Those of one caller are leased in the order of their due
        times, then of their acceptance.

        :param until: when the lease ends, by the reactor's clock.
        :param most: how many of the app's notifications may be leased at a time, whoever has leased them.
        :param only: the lane to lease from; ``None`` for that whose turn it is.
        :param rate: how many of the app's notifications may be leased a second, whoever leases them; see
            :mod:`txapns.daemon.store.pace`.
        :returns: notifications that nobody else has leased; none if none are due. If more are due, it says so, even if
            these are fewer than ``count``; and if there is no room for more within ``most``.
        """

    def settle(settlements: Sequence[Settlement], accepted: Sequence[int] = ()) -> Deferred[None]:
        """
        Store the results of attempts, and note dead tokens in the feedback log, in one transaction. When the
        ``Deferred`` fires, they survive the end of the process; the disk may take a moment more.

        The first final state of a notification stays: settlements of settled or unknown notifications are ignored.

        :param accepted: the numbers of those that Apple accepted with status 200, with nothing else to say of them.
            Nearly all are, so there need not be a settlement for each.
        :raises Unavailable: they cannot be stored now. The leases stay; try again.
        """

    def release(numbers: Iterable[int]) -> Deferred[None]:
        """Give leases back; notifications without one are ignored. No attempt is counted."""

    def renew(numbers: Iterable[int], until: float) -> Deferred[None]:
        """Move the end of leases; notifications without one are ignored."""

    def next_due(app: str) -> Deferred[float | None]:
        """
        Tell when the next notification can be leased.

        :returns: its due time by the reactor's clock, which may have passed; ``None`` if nothing waits that is not
            leased.
        """

    def due_apps() -> Deferred[list[str]]:
        """
        List the apps of which something is due, by name.

        It is one quick look, whatever the number of apps and of notifications. So an app whose due notifications are
        all leased may be among them.
        """

    def clock_set() -> Deferred[bool]:
        """
        Find out whether the wall clock was set, and if so, when what has a date is due now.

        Nothing is leased too early anyway; without this, it would be leased too late after the clock was set forward.

        :returns: whether due times have changed.
        """

    def waiting(app: str) -> Estimate:
        """
        Estimate at once how many notifications of an app wait, including those under way and those being stored.

        The store keeps the count. What this process does is in it at once; what others do may be missing for as long
        as the estimate's age, which is a few seconds at most while the store is healthy.
        """

    def depths() -> Deferred[list[Depth]]:
        """Count what waits, for each app that was ever seen, by name."""


class IOutcomeLog(Interface):
    """What became of notifications, from their acceptance until they are forgotten."""

    def outcomes(numbers: Iterable[int]) -> Deferred[list[Outcome]]:
        """
        Look up notifications.

        :returns: the outcomes of those that were accepted and are not forgotten.
        """

    def latest(apns_id: str, apps: Iterable[str] | None = None) -> Deferred[Outcome | None]:
        """
        Look up the latest notification with an id.

        :param apps: the names of the apps to search; ``None`` for all. Notifications of other apps with the same id
            change neither the result nor the time that the search takes.
        :returns: ``None`` if there is none, or it is forgotten.
        """

    def seen(app: str) -> Deferred[bool]:
        """Tell whether anything was ever accepted for an app."""

    def listed(app: str, state: State, limit: int, after: int = 0) -> Deferred[list[Entry]]:
        """
        List notifications of an app in the order of their acceptance.

        :param after: the number of the last one listed before.
        """

    def failures(app: str | None, limit: int) -> Deferred[list[Entry]]:
        """List what was rejected, expired or given up last, of an app or of all, the latest first."""

    def of_device(app: str, token: bytes, limit: int) -> Deferred[list[Entry]]:
        """
        List notifications for a device, those accepted last first.

        Those that were rejected, expired or given up are all found. The others are found only if they are among the
        latest :data:`~txapns.daemon.store.queue.SCANNED` of all apps: to find them all would take an index of all
        tokens, and accepting a notification would take half as long again.
        """

    def dead_letters() -> Deferred[Mapping[str, int]]:
        """
        Count the dead letters of each app that has some.

        Of all apps together, at most :data:`~txapns.daemon.store.queue.MOST_COUNTED` are counted.
        """

    def retry(app: str, limit: int) -> Deferred[int]:
        """Put an app's dead letters back into the queue, those accepted first, due now and with no attempts counted."""

    def purge(app: str, state: State, limit: int) -> Deferred[int]:
        """Delete an app's notifications, those accepted first, including waiting ones that are not under way."""

    def prune(before: float, limit: int = 1000) -> Deferred[int]:
        """
        Forget some of the notifications, idempotency keys and dead tokens that were kept long enough, and of the
        callers of whom nothing waits and nothing is a dead letter.

        Call it until it returns 0, with pauses.

        :param before: what became final before this date is forgotten.
        :param limit: about how many notifications to look at.
        :returns: how many notifications were looked at; 0 at the end.
        """


class IFeedbackLog(Interface):
    """
    The dead tokens, in the order in which they became known.

    A token is noted once for each time at which it died. A note and the settlement that causes it are stored in one
    transaction: neither exists without the other. A reader has a position of its own for each app, and for all.
    """

    def subscribe(listener: Callable[[str], None]) -> Callable[[], None]:
        """
        Call a function whenever tokens are noted.

        :param listener: called in the reactor's thread with an app's name, when new dead tokens of it are on the disk.
        :returns: a function that ends the subscription.
        """

    def after(app: str | None, cursor: int, limit: int) -> Deferred[list[FeedbackEntry]]:
        """Read on from a position that the reader keeps: the cursor of the last entry read, or 0 to begin."""

    def take(app: str | None, reader: str, limit: int) -> Deferred[list[FeedbackEntry]]:
        """Read on from a position that the log keeps. Until they are confirmed, the same entries come again."""

    def confirm(app: str | None, reader: str, cursor: int) -> Deferred[None]:
        """
        Move a reader's position forward. It never moves back.

        :param cursor: the cursor of the last entry that need not come again.
        :raises Unavailable: the position cannot be stored now.
        """

    def behind(app: str | None, reader: str, most: int) -> Deferred[int]:
        """Count the entries that a reader has not confirmed."""

    def known(app: str, tokens: Sequence[bytes]) -> Deferred[Mapping[bytes, FeedbackEntry]]:
        """
        Look tokens up.

        :returns: the latest entry of each token that the log has. The token may have become valid again since.
        """


class IOutcomeFeed(Interface):
    """
    What became of the notifications of some apps, in the order in which that was stored.

    A final state and the settlement that causes it are stored in one transaction, so each is in the feed once, and none
    is missing. A dead letter that is retried has a second one. Nothing is recorded of an app that does not ask for it.

    Each app has cursors of its own, from 1 on and without gaps: a reader that finds cursor 9 after cursor 5 knows that
    three entries were forgotten before it came. Readers, too, have a position for each app.
    """

    def keep(apps: Iterable[str]) -> None:
        """Record the outcomes of these apps from now on, and of no others."""

    def subscribe(listener: Callable[[str], None]) -> Callable[[], None]:
        """
        Call a function whenever outcomes are recorded.

        :param listener: called in the reactor's thread with an app's name, when new outcomes of it may be on the disk.
        :returns: a function that ends the subscription.
        """

    def after(app: str, cursor: int, limit: int) -> Deferred[list[RecordedOutcome]]:
        """Read on from a position that the reader keeps: the cursor of the last entry read, or 0 to begin."""

    def take(apps: Collection[str] | None, reader: str, limit: int) -> Deferred[list[RecordedOutcome]]:
        """
        Read on from the positions that the feed keeps, some of each app. Until they are confirmed, entries come again.

        :param apps: the apps; ``None`` for all.
        :returns: entries by app, and of each app by cursor; none only if there are none.
        """

    def confirm(reader: str, cursors: Mapping[str, int]) -> Deferred[None]:
        """
        Move a reader's positions forward. They never move back.

        :param cursors: by app, the cursor of the last entry that need not come again.
        :raises Unavailable: the positions cannot be stored now.
        """

    def behind(apps: Collection[str] | None, reader: str) -> Deferred[int]:
        """Count the entries that a reader has not confirmed."""

    def prune(before: float, most: int, limit: int = 5_000) -> Deferred[int]:
        """
        Forget some of the entries that were kept long enough, or are too many.

        Call it until it returns 0, with pauses.

        :param before: outcomes that were settled before this date are forgotten.
        :param most: how many entries of an app are kept at most.
        :param limit: about how many to forget.
        :returns: how many were forgotten; 0 at the end.
        """


class ITokenEnvironments(Interface):
    """Which environment device tokens are of, for apps with two sides, as far as it is not plainly production."""

    def known(app: str, tokens: Sequence[bytes]) -> Deferred[Mapping[bytes, TokenEnvironment]]:
        """
        Look tokens up.

        :returns: what is known of those of which something is known now.
        :raises Unavailable: the database cannot be read now.
        """

    def note(app: str, found: Mapping[bytes, TokenEnvironment | None]) -> Deferred[None]:
        """
        Take note of what was found out about tokens, in place of what was known; ``None`` is for nothing any more.

        :raises Unavailable: it cannot be stored now.
        """

    def prune(before: float, most: int = 100_000, limit: int = 500) -> Deferred[int]:
        """
        Forget some of what does not count any more, and what is too much.

        Call it until it returns 0, with pauses.

        :param before: what counts until a date before this one is forgotten.
        :param most: of how many tokens of an app something is known at most. What counts longest stays.
        :param limit: about how many tokens of an app to forget.
        :returns: how many were forgotten, or apps looked at; 0 at the end.
        """


class IApps(Interface):
    """The apps. They may change while the daemon runs."""

    revision = Attribute("Grows with every change: an ``int``.")

    def get(name: str) -> App:
        """
        Find an app, at once.

        :raises UnknownApp: there is no such app.
        :raises Unavailable: its credential cannot be used.
        """

    def names() -> list[str]:
        """List the names of the apps that :meth:`get` returns, sorted."""

    def changed(listener: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        """
        Call a function whenever apps change.

        :param listener: called in the reactor's thread with the names of the apps that were added, removed or changed.
        :returns: a function that ends the subscription.
        """


class IKeys(Interface):
    """The API keys that callers present."""

    def check(key: str) -> Caller:
        """
        Identify a caller, at once, and in a time that reveals nothing about the existing keys.

        :raises NotAuthenticated: there is no such key.
        """


class IIntake(Interface):
    """The only way in, for all faces: limits, ids, and one call of the queue per request."""

    def check(app: str, drafts: Sequence[Draft]) -> None:
        """
        Check at once whether notifications would be accepted now.

        :raises RequestRefused: they would not.
        """

    def accept(
        app: str,
        drafts: Sequence[Draft],
        idempotency: Idempotency | None = None,
        caller: Caller = ANYBODY,
        *,
        awaited: bool = False,
    ) -> Deferred[list[Receipt]]:
        """
        Accept notifications: all or none. When the ``Deferred`` fires, they are on the disk.

        :param idempotency: identifies the request if it is repeated.
        :param caller: who sends it.
        :param awaited: whether the sender gets no answer before :meth:`wait` has fired. Then this fires when they are
            stored so that they survive the end of the process, and the disk may take a moment more.
        :returns: a receipt for each draft, in order.
        :raises RequestRefused: they are not accepted; nothing was stored.
        """

    def wait(receipts: Sequence[Receipt], timeout: float) -> Deferred[Mapping[int, Outcome]]:
        """
        Wait until notifications have a final state.

        :param receipts: the result of :meth:`accept`. Call this as soon as its ``Deferred`` fires.
        :returns: the outcomes of those that are settled by then, by number. All are on the disk.
        :raises Unavailable: the disk may not have them; those without an outcome may be lost with a power cut.
        """
