"""Tests for :mod:`txapns._session.retained`."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from txapns._session.retained import RetainedDeliveries
from txapns.delivery import Delivery, DeliveryListener
from txapns.notification import Notification
from txapns.reasons import Status
from txapns.wire.unconfirmed import Unconfirmed


@implementer(DeliveryListener)
class Nobody:
    """Receives nothing here."""

    ended = None


#: Whose it may be, and what: all are compared by identity.
OUTCOMES = [Nobody(), Nobody()]
NOTIFICATIONS = [Notification(alert="Hi"), Notification(alert="Hi")]
BODIES = [b"{}", b"[]"]
TOKENS = ["AA" * 32, "bb" * 32, bytes(32)]

deliveries = st.builds(
    lambda outcomes, identifier, token, notification, body, returns: Delivery(
        outcomes,
        identifier,
        token,
        token if isinstance(token, bytes) else bytes.fromhex(token),
        notification,
        body,
        returns,
    ),
    st.sampled_from(OUTCOMES),
    st.integers(0, 3),
    st.sampled_from(TOKENS),
    st.sampled_from(NOTIFICATIONS),
    st.sampled_from(BODIES),
    st.integers(0, 1),
)
written = st.lists(deliveries, max_size=30)


def fields(delivery: Delivery) -> tuple[object, ...]:
    """Tell what a delivery is made of; two that are equal in all of it are as good as one."""
    return (
        id(delivery.outcomes),
        delivery.identifier,
        delivery.token,
        delivery.device,
        id(delivery.notification),
        id(delivery.body),
        delivery.returns,
    )


class RetainedTests(SynchronousTestCase):
    """It does what a queue of the deliveries themselves does."""

    def expect(self, found: list[Delivery], expected: list[Delivery]) -> None:
        """Compare what came out."""
        self.assertEqual([fields(each) for each in found], [fields(each) for each in expected])

    @given(written, st.integers(0, 40), written)
    def test_like_a_queue(self, before: list[Delivery], count: int, after: list[Delivery]) -> None:
        """What is taken comes out as it went in, and what is retained can be seen meanwhile."""
        retained = RetainedDeliveries()
        for delivery in before:
            retained.append(delivery)
        taken = [retained.popleft() for _ in before[:count]]
        for delivery in after:
            retained.append(delivery)
        self.expect(taken, before[:count])
        left = before[count:] + after
        self.assertEqual(len(retained), len(left))
        for outcomes in OUTCOMES:
            self.expect(retained.of(outcomes), [each for each in left if each.outcomes is outcomes])
        self.expect([retained.popleft() for _ in left], left)
        self.assertEqual(len(retained), 0)

    @given(written, st.integers(0, 40), st.sampled_from([8, Status.SHUTDOWN]), st.integers(0, 40))
    def test_unconfirmed(self, written: list[Delivery], settled: int, status: int, identifier: int) -> None:
        """What is settled, and what an error packet sorts, is the same as with a plain queue."""
        retained, plain = Unconfirmed(RetainedDeliveries()), Unconfirmed(deque[Delivery]())
        for delivery in written:
            self.assertEqual(retained.push(delivery), plain.push(delivery))
        self.expect(retained.settle_through(settled), plain.settle_through(settled))
        self.assertEqual(len(retained), len(plain))
        found, expected = retained.apply(status, identifier), plain.apply(status, identifier)
        self.expect(found.accepted, expected.accepted)
        self.assertEqual(found.rejected is None, expected.rejected is None)
        if found.rejected is not None and expected.rejected is not None:
            self.expect([found.rejected], [expected.rejected])
        self.expect(found.resend, expected.resend)
        self.expect(found.uncertain, expected.uncertain)
        self.assertEqual((found.late, retained.abandon()), (expected.late, []))
