"""Tests for :mod:`txapns._fields`, by way of :class:`Notification`."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txapns import _fields
from txapns.errors import InvalidNotification
from txapns.notification import Notification


class ExpirationTests(SynchronousTestCase):
    """The forms of an expiration."""

    def setUp(self) -> None:
        """Stop the clock."""
        self.patch(_fields, "_now", lambda: 1_700_000_000.75)

    def test_forms(self) -> None:
        """A time from now, a point in time and UNIX seconds all become whole UNIX seconds; 0 stays 0."""
        forms: list[tuple[Any, int | None]] = [
            (None, None),
            (0, 0),
            (1_700_000_060, 1_700_000_060),
            (1_700_000_060.9, 1_700_000_060),
            (True, 1),
            (-5, -5),
            (timedelta(minutes=1), 1_700_000_060),
            (timedelta(minutes=-1), 1_699_999_940),
            (timedelta(seconds=0.25), 1_700_000_001),
            (datetime(2023, 11, 14, 22, 13, 20, 999_999, tzinfo=timezone.utc), 1_700_000_000),
            (datetime(2023, 11, 14, 23, 13, 20, tzinfo=timezone(timedelta(hours=1))), 1_700_000_000),
        ]
        self.assertEqual([(form, Notification(expiration=form).expiration) for form, _ in forms], forms)

    def test_from_now_is_from_the_making(self) -> None:
        """The clock is read once: time in a queue does not prolong the notification's life."""
        made = Notification(expiration=timedelta(hours=1))
        self.patch(_fields, "_now", lambda: 2_000_000_000.0)
        self.assertEqual(Notification.from_dict(made.to_dict()).expiration, 1_700_003_600)

    def test_naive(self) -> None:
        """A datetime without a time zone is refused."""
        error = self.assertRaises(InvalidNotification, Notification, expiration=datetime(2030, 1, 1))  # noqa: DTZ001
        self.assertEqual(str(error), "expiration is a datetime without a time zone; it must have one")


class ValidationTests(SynchronousTestCase):
    """Values that no request can carry."""

    def test_forbidden_text(self) -> None:
        """A value that would make the request malformed is refused, and the message names the field."""
        forbidden = [*map(chr, range(32)), "\x7f", "a\r\nb", "a\n", "\ud800", " a", "a ", " "]
        for field in ("topic", "push_type", "collapse_id", "apns_id"):
            for value in forbidden:
                error = self.assertRaises(InvalidNotification, Notification, **{field: value})
                self.assertEqual(
                    str(error),
                    f"{field} has a control character, a space at either end or half of a surrogate pair, "
                    "which header fields cannot have",
                )

    def test_wrong_types(self) -> None:
        """A value of the wrong type is refused, and the message names the field and the type."""
        cases = [
            ("topic", b"a", "topic must be text, not bytes"),
            ("push_type", 1, "push_type must be text, not int"),
            ("collapse_id", 1.5, "collapse_id must be text, not float"),
            ("apns_id", b"a", "apns_id must be text, not bytes"),
            ("priority", "10", "priority must be an integer, not str"),
            ("priority", 5.5, "priority must be an integer, not float"),
            ("expiration", "0", "expiration must be an integer, not str"),
            ("expiration", float("nan"), "expiration must be a time, not nan"),
            ("expiration", float("inf"), "expiration must be a time, not inf"),
            ("expiration", 1e300, "expiration does not fit in 64 bits"),
            ("priority", 10**5000, "priority does not fit in 64 bits"),
        ]
        for field, value, message in cases:
            error = self.assertRaises(InvalidNotification, Notification, **{field: value})
            self.assertEqual(str(error), message)
