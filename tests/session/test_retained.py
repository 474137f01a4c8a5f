"""Tests for :mod:`txapns._session.retained`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from txapns._session.retained import CompactUnconfirmed
from txapns.delivery import Delivery, DeliveryListener
from txapns.notification import Notification
from txapns.reasons import Status
from txapns.wire.unconfirmed import Unconfirmed


@implementer(DeliveryListener)
class Nobody:
    """Receives nothing here."""

    ended = None


#: Whose it may be, and what: both are compared by identity.
OUTCOMES = [Nobody(), Nobody()]
NOTIFICATIONS = [Notification(alert="Hi"), Notification(alert="Hi")]
TOKENS = ["AA" * 32, "bb" * 32, bytes(32)]

deliveries = st.builds(
    lambda outcomes, identifier, token, notification, returns: Delivery(
        outcomes,
        identifier,
        token,
        token if isinstance(token, bytes) else bytes.fromhex(token),
        notification,
        returns,
    ),
    st.sampled_from(OUTCOMES),
    st.integers(0, 3),
    st.sampled_from(TOKENS),
    st.sampled_from(NOTIFICATIONS),
    st.integers(0, 1),
)
#: What is written; sometimes a barrier.
written = st.lists(st.one_of(deliveries, deliveries, deliveries, st.none()), max_size=30)


def fields(delivery: Delivery) -> tuple[object, ...]:
    """Tell what a delivery is made of; two that are equal in all of it are as good as one."""
    return (
        id(delivery.outcomes),
        delivery.identifier,
        delivery.token,
        delivery.device,
        id(delivery.notification),
        delivery.returns,
    )


class RetainedTests(SynchronousTestCase):
    """It does what a window of the deliveries themselves does."""

    def expect(self, found: list[Delivery], expected: list[Delivery | None]) -> None:
        """Compare what came out, without barriers."""
        self.assertEqual([fields(each) for each in found], [fields(each) for each in expected if each is not None])

    def fill(self, written: list[Delivery | None]) -> tuple[CompactUnconfirmed, Unconfirmed[Delivery | None]]:
        """Retain these in both."""
        retained: CompactUnconfirmed = CompactUnconfirmed()
        window: Unconfirmed[Delivery | None] = Unconfirmed()
        for each in written:
            self.assertEqual(retained.next_identifier, window.next_identifier)
            identifier = retained.push_barrier() if each is None else retained.push(each)
            self.assertEqual((identifier, len(retained) - 1), (window.push(each), len(window) - 1))
        return retained, window

    @given(written, st.lists(st.integers(0, 40), max_size=5))
    def test_settled_and_abandoned(self, written: list[Delivery | None], settled: list[int]) -> None:
        """What is settled comes out as it went in, and so does what is left at the end."""
        retained, window = self.fill(written)
        for identifier in settled:
            self.expect(retained.settle_through(identifier), window.settle_through(identifier))
            self.assertEqual(len(retained), len(window))
        self.expect(retained.abandon(), window.abandon())
        self.assertEqual(len(retained), 0)

    @given(written, st.integers(0, 40), st.sampled_from([8, Status.SHUTDOWN]), st.integers(0, 40))
    def test_rejected(self, written: list[Delivery | None], settled: int, status: int, identifier: int) -> None:
        """An error packet sorts them alike."""
        retained, window = self.fill(written)
        self.expect(retained.settle_through(settled), window.settle_through(settled))
        found, expected = retained.apply(status, identifier), window.apply(status, identifier)
        self.expect(found.accepted, expected.accepted)
        self.expect([] if found.rejected is None else [found.rejected], [expected.rejected])
        self.expect(found.resend, expected.resend)
        self.expect(found.uncertain, expected.uncertain)
        self.assertEqual((found.late, len(retained)), (expected.late, 0))
        self.expect(retained.abandon(), [])

    @given(written, written)
    def test_filled_again(self, before: list[Delivery | None], after: list[Delivery | None]) -> None:
        """What is pushed after some was settled comes out as it went in, too."""
        retained, _ = self.fill(before)
        retained.settle_through(len(before))
        for each in after:
            if each is not None:
                retained.push(each)
        self.expect(retained.abandon(), after)
