"""Tests for :mod:`txapns.daemon.sending.settling`."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.sending.settling import MAX_RETRY_AFTER, Attempt, BatchSettlement, Retries
from txapns.daemon.values import Content, Leased, Settlement, State
from txapns.errors import (
    AnswerTimeout,
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    CredentialRefused,
    InvalidNotification,
    PeerNotVerified,
    StreamRefused,
)
from txapns.notification import Notification
from txapns.result import Batch, Rejection, Uncertain, Unsent

__all__ = ["RetriesTests", "SettlementTests", "TroubleTests"]

NOW, DATE = 1_000.0, 1_700_000_000.0
RETRIES = Retries(first=2.0, longest=900.0, jitter=0.5, random=lambda: 0.0)
NOTIFICATION = Notification(payload={})


def leased(number: int = 1, attempts: int = 0, **headers: str) -> Leased:
    """Make a notification; header fields are named without ``apns-``."""
    content = Content("chess", {f"apns-{name}": value for name, value in headers.items()})
    return Leased(number, content, b"{}", b"\x01" * 32, f"id{number}", attempts, DATE, NOW)


def rejection(each: Leased, status: int, reason: str, **fields: Any) -> Rejection:
    """Reject one."""
    return Rejection(each, each.token, status, reason, **fields)


def unsent(each: Leased, error: Exception) -> Unsent:
    """Leave one unsent."""
    return Unsent(each, each.token, error, NOTIFICATION)


def uncertain(each: Leased, error: Exception) -> Uncertain:
    """Leave one without an answer."""
    return Uncertain(each, each.token, error, NOTIFICATION)


def settle(sent: list[Leased], *outcomes: Any, most: int = 5) -> BatchSettlement:
    """Settle some; those without an outcome were accepted."""

    def resend(again: object) -> Deferred[Batch]:
        raise AssertionError("nothing is sent again here")

    return Attempt(NOW, DATE, RETRIES, most).settle(sent, Batch(len(sent) - len(outcomes), outcomes, resend=resend))


def settlement(each: Leased, outcome: Any, most: int = 5) -> Settlement:
    """Settle one."""
    [found] = settle([each], outcome, most=most).settlements
    return found


class SettlementTests(SynchronousTestCase):
    """What becomes of one notification."""

    def test_accepted(self) -> None:
        """A notification without an outcome was accepted."""
        first, second, third = leased(1), leased(2), leased(3)
        found = settle([first, second, third], rejection(second, 400, "BadTopic"))
        rejected = Settlement(2, State.REJECTED, 400, "BadTopic")
        self.assertEqual((found.accepted, found.settlements), ([1, 3], [rejected]))
        found = settle([first])
        self.assertEqual((found.accepted, found.settlements), ([1], []))

    def test_others(self) -> None:
        """A batch of another size raises: what is missing must not count as accepted."""
        batch = Batch(1, [], resend=lambda again: Deferred())
        self.assertRaises(ValueError, Attempt(NOW, DATE, RETRIES, 5).settle, [leased(1), leased(2)], batch)

    def test_unique_id(self) -> None:
        """The ids that Apple gave accepted notifications are kept, up to a length."""
        first, second = leased(1), leased(2)
        batch = Batch(2, [], {second: "X" * 300}, resend=lambda again: Deferred())
        found = Attempt(NOW, DATE, RETRIES, 5).settle([first, second], batch)
        kept = Settlement(2, State.ACCEPTED, 200, unique_id="X" * 255)
        self.assertEqual((found.accepted, found.settlements), ([1], [kept]))

    def test_dead_token(self) -> None:
        """A dead token has the time of its death."""
        each = leased()
        died = datetime.fromtimestamp(DATE - 60, timezone.utc)
        found = settlement(each, rejection(each, 410, "Unregistered", timestamp=died))
        self.assertEqual(found, Settlement(1, State.REJECTED, 410, "Unregistered", DATE - 60))
        self.assertTrue(found.dead)

    def test_unheard_of(self) -> None:
        """An unknown reason is passed on."""
        each = leased()
        self.assertEqual(settlement(each, rejection(each, 418, "Teapot")), Settlement(1, State.REJECTED, 418, "Teapot"))

    def test_later(self) -> None:
        """Each pause is twice the one before."""
        for attempts, delay in (0, 2.0), (1, 4.0), (3, 16.0):
            each = leased(attempts=attempts)
            for status, reason in (503, "ServiceUnavailable"), (429, "TooManyRequests"), (500, "Whatever"):
                self.assertEqual(
                    settlement(each, rejection(each, status, reason)),
                    Settlement(1, State.WAITING, status, reason, due=NOW + delay),
                )

    def test_retry_after(self) -> None:
        """A longer pause that Apple asks for counts."""
        each = leased()
        for said, delay in (1.0, 2.0), (60.0, 60.0), (1e9, MAX_RETRY_AFTER):
            found = settlement(each, rejection(each, 503, "ServiceUnavailable", retry_after=said))
            self.assertEqual(found.due, NOW + delay)

    def test_credential(self) -> None:
        """A rejection that blames the credential counts; the notification goes to the back of the queue."""
        each = leased()
        for reason in "InvalidProviderToken", "ExpiredProviderToken", "BadCertificateEnvironment":
            found = settlement(each, rejection(each, 403, reason))
            self.assertEqual(found, Settlement(1, State.WAITING, 403, reason, due=NOW + 2.0))

    def test_given_up(self) -> None:
        """After the last attempt a notification is dead, with the last reason."""
        each = leased(attempts=4)
        found = settlement(each, rejection(each, 503, "ServiceUnavailable"))
        self.assertEqual(found, Settlement(1, State.DEAD, 503, "ServiceUnavailable"))
        found = settlement(each, uncertain(each, ConnectionLost("gone")))
        self.assertEqual(found, Settlement(1, State.DEAD, 0, "ConnectionLost"))

    def test_expires(self) -> None:
        """A notification that expires before the next attempt is not tried again; 0 does not mean a time."""
        for seconds, state in (1, State.EXPIRED), (2, State.EXPIRED), (3, State.WAITING):
            each = leased(expiration=str(int(DATE) + seconds))
            self.assertEqual(settlement(each, rejection(each, 503, "ServiceUnavailable")).state, state)
        each = leased(expiration="0")
        self.assertEqual(settlement(each, rejection(each, 503, "ServiceUnavailable")).state, State.WAITING)

    def test_own_fault(self) -> None:
        """A notification that no request can carry is rejected, with the name of our exception."""
        each = leased()
        found = settlement(each, unsent(each, InvalidNotification("too long")))
        self.assertEqual(found, Settlement(1, State.REJECTED, 0, "InvalidNotification"))

    def test_no_connection(self) -> None:
        """Without a connection the attempt does not count."""
        each = leased(attempts=4)
        for error in ConnectFailed("down"), CredentialRefused("no"), ClientClosed("closed"), AnswerTimeout("silent"):
            self.assertEqual(settlement(each, unsent(each, error)), Settlement(1, State.WAITING))

    def test_uncertain(self) -> None:
        """A notification that may have been sent is sent again."""
        each = leased()
        for outcome in uncertain(each, ConnectionLost("gone")), unsent(each, StreamRefused("no")):
            self.assertEqual(
                settlement(each, outcome),
                Settlement(1, State.WAITING, 0, type(outcome.error).__name__, due=NOW + 2.0),
            )


class TroubleTests(SynchronousTestCase):
    """What a batch tells about the gateway and the credential."""

    def test_works(self) -> None:
        """One answer about a notification shows that they work."""
        first, second = leased(1), leased(2)
        for outcome in rejection(first, 400, "BadTopic"), rejection(first, 429, "TooManyRequests"):
            found = settle([first, second], outcome, unsent(second, CredentialRefused("no")))
            self.assertEqual((found.works, found.trouble), (True, None))

    def test_trips(self) -> None:
        """A refused credential and an unverified server trip the circuit."""
        first, second = leased(1), leased(2)
        for outcome in (
            rejection(first, 403, "InvalidProviderToken"),
            unsent(first, CredentialRefused("no")),
            unsent(first, PeerNotVerified("who")),
        ):
            found = settle([first, second], outcome, unsent(second, ConnectFailed("down")))
            assert found.trouble is not None
            self.assertEqual((found.works, found.trouble.trips), (False, True))

    def test_pauses(self) -> None:
        """A gateway that is down, silent or in trouble does not."""
        each = leased()
        for outcome in (
            rejection(each, 503, "ServiceUnavailable"),
            unsent(each, ConnectFailed("down")),
            uncertain(each, AnswerTimeout("silent")),
        ):
            found = settle([each], outcome)
            assert found.trouble is not None
            self.assertEqual((found.works, found.trouble.trips), (False, False))
            self.assertTrue(found.trouble.reason)

    def test_closed(self) -> None:
        """A client that we closed ourselves tells nothing."""
        each = leased()
        found = settle([each], unsent(each, ClientClosed("closed")))
        self.assertEqual((found.works, found.trouble), (False, None))


class RetriesTests(SynchronousTestCase):
    """How long to wait."""

    def test_bounds(self) -> None:
        """Pauses have a maximum, and chance shortens them by the jitter at most."""
        shortened = Retries(first=2.0, longest=900.0, jitter=0.5, random=lambda: 1.0)
        self.assertEqual([RETRIES.delay(n) for n in (0, 1, 8, 9, 100)], [2.0, 4.0, 512.0, 900.0, 900.0])
        self.assertEqual([shortened.delay(n) for n in (0, 9)], [1.0, 450.0])
