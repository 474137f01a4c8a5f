"""Tests of the window of notifications not yet known to be accepted."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from txapns.wire import unconfirmed
from txapns.wire.unconfirmed import ErrorResult, Unconfirmed

LAST = 2**32 - 1


def retaining(items: str, first_identifier: int = 1) -> Unconfirmed[str]:
    """Make one that retains each character of a text."""
    made: Unconfirmed[str] = Unconfirmed(first_identifier=first_identifier)
    for item in items:
        made.push(item)
    return made


class IdentifierTests(SynchronousTestCase):
    """How items are numbered."""

    def test_from_one(self) -> None:
        """Identifiers count from 1, since servers say 0 when they do not know."""
        made: Unconfirmed[str] = Unconfirmed()
        self.assertEqual([made.push(item) for item in "abc"], [1, 2, 3])

    def test_next(self) -> None:
        """The next identifier can be known before it is given out."""
        made = retaining("ab")
        self.assertEqual(made.next_identifier, 3)
        self.assertEqual(made.push("c"), 3)

    def test_wrap(self) -> None:
        """After the largest identifier comes 1, not 0."""
        made: Unconfirmed[str] = Unconfirmed(first_identifier=LAST - 1)
        self.assertEqual([made.push(item) for item in "abcd"], [LAST - 1, LAST, 1, 2])

    def test_not_reset(self) -> None:
        """Settling does not give an identifier out again."""
        made = retaining("ab")
        made.settle_through(2)
        self.assertEqual(made.push("c"), 3)

    def test_all(self) -> None:
        """The public names are the window and its result."""
        self.assertEqual(unconfirmed.__all__, ["ErrorResult", "Unconfirmed"])


class SettleTests(SynchronousTestCase):
    """Time went by: what was written is taken as accepted."""

    def test_through(self) -> None:
        """Everything up to and including the identifier is returned in order, and the rest is retained."""
        made = retaining("abcd")
        self.assertEqual(made.settle_through(3), ["a", "b", "c"])
        self.assertEqual(len(made), 1)
        self.assertEqual(made.settle_through(4), ["d"])

    def test_through_the_wrap(self) -> None:
        """Items on both sides of the wrap settle in the order they were written."""
        made = retaining("abcd", LAST - 1)
        self.assertEqual(made.settle_through(1), ["a", "b", "c"])
        self.assertEqual(made.abandon(), ["d"])

    def test_again(self) -> None:
        """Settling through an item that is settled already does nothing."""
        made = retaining("abc")
        made.settle_through(2)
        self.assertEqual(made.settle_through(2), [])
        self.assertEqual(made.settle_through(1), [])
        self.assertEqual(len(made), 1)

    def test_never_given_out(self) -> None:
        """Settling through an identifier that was never given out does nothing."""
        made = retaining("abc")
        for identifier in (0, 4, LAST):
            self.assertEqual(made.settle_through(identifier), [])
        self.assertEqual(len(made), 3)


class AbandonTests(SynchronousTestCase):
    """The connection ended without an answer."""

    def test_abandon(self) -> None:
        """Everything retained is returned in order, and the window is empty."""
        made = retaining("abcd")
        made.settle_through(1)
        self.assertEqual(made.abandon(), ["b", "c", "d"])
        self.assertEqual(len(made), 0)


class RefuseTests(SynchronousTestCase):
    """The server sent an error packet."""

    def test_rejected(self) -> None:
        """What was before the rejected item was accepted, and what was after it was discarded."""
        self.assertEqual(
            retaining("abcde").apply(8, 3), ErrorResult(accepted=["a", "b"], rejected="c", resend=["d", "e"])
        )

    def test_first_and_last(self) -> None:
        """The oldest and the newest item can be rejected as well as those between them."""
        self.assertEqual(retaining("abc").apply(8, 1), ErrorResult(rejected="a", resend=["b", "c"]))
        self.assertEqual(retaining("abc").apply(8, 3), ErrorResult(accepted=["a", "b"], rejected="c"))

    def test_unknown_status(self) -> None:
        """A status that is not documented rejects the item that it names, like any other."""
        self.assertEqual(retaining("abc").apply(77, 2), ErrorResult(accepted=["a"], rejected="b", resend=["c"]))

    def test_shutdown(self) -> None:
        """Status 10 names the last item accepted; nothing was rejected."""
        self.assertEqual(retaining("abc").apply(10, 2), ErrorResult(accepted=["a", "b"], resend=["c"]))
        self.assertEqual(retaining("abc").apply(10, 3), ErrorResult(accepted=["a", "b", "c"]))

    def test_no_error(self) -> None:
        """Status 0 cannot be a refusal, so it is read like a shutdown."""
        self.assertEqual(retaining("abc").apply(0, 2), ErrorResult(accepted=["a", "b"], resend=["c"]))

    def test_across_the_wrap(self) -> None:
        """Items on both sides of the wrap are sorted in the order they were written."""
        for identifier, result in (
            (LAST, ErrorResult(accepted=["a"], rejected="b", resend=["c", "d"])),
            (1, ErrorResult(accepted=["a", "b"], rejected="c", resend=["d"])),
        ):
            self.assertEqual(retaining("abcd", LAST - 1).apply(8, identifier), result)

    def test_late(self) -> None:
        """If the rejected item was settled already, all that is retained was discarded."""
        made = retaining("abcd")
        made.settle_through(2)
        self.assertEqual(made.apply(8, 2), ErrorResult(resend=["c", "d"], late=True))

    def test_late_across_the_wrap(self) -> None:
        """An item settled before the wrap is still known as one of this connection's after it."""
        made = retaining("abcd", LAST - 1)
        made.settle_through(1)
        self.assertEqual(made.apply(8, LAST), ErrorResult(resend=["d"], late=True))

    def test_shutdown_at_the_last_settled(self) -> None:
        """If the last item settled is the last one accepted, all was settled rightly and nothing is late."""
        made = retaining("abcd")
        made.settle_through(2)
        self.assertEqual(made.apply(10, 2), ErrorResult(resend=["c", "d"]))

    def test_shutdown_before_the_last_settled(self) -> None:
        """If an earlier one is the last accepted, something settled was discarded after all."""
        made = retaining("abcd")
        made.settle_through(2)
        self.assertEqual(made.apply(10, 1), ErrorResult(resend=["c", "d"], late=True))

    def test_uncertain(self) -> None:
        """Identifier 0, or one never given out on this connection, says nothing about any item."""
        for identifier in (0, 4, 17, LAST):
            self.assertEqual(retaining("abc").apply(8, identifier), ErrorResult(uncertain=["a", "b", "c"]))

    def test_uncertain_before_the_wrap(self) -> None:
        """Neither 0 nor what lies before the first identifier is taken for one given out, where the counter wraps."""
        for identifier in (0, LAST - 2, 3):
            self.assertEqual(
                retaining("abcd", LAST - 1).apply(8, identifier), ErrorResult(uncertain=["a", "b", "c", "d"])
            )

    def test_emptied(self) -> None:
        """An error packet ends the connection: nothing is retained after it."""
        made = retaining("abc")
        made.apply(8, 2)
        self.assertEqual(len(made), 0)
        self.assertEqual(made.abandon(), [])


class WindowMachine(RuleBasedStateMachine):
    """
    A window beside a model of it: a dictionary from identifier to item in the order of writing, and a list of what was
    settled. The first identifier is near the end of the numbers as often as at their beginning.
    """

    @initialize(first=st.integers(1, 5) | st.integers(LAST - 5, LAST))
    def open(self, first: int) -> None:
        """Begin with an empty window."""
        self.window: Unconfirmed[object] = Unconfirmed(first_identifier=first)
        self.next = first
        self.retained: dict[int, object] = {}
        self.forgotten: list[int] = []

    def forget(self, count: int) -> list[object]:
        """Move the oldest items of the model to what is forgotten."""
        identifiers = list(self.retained)[:count]
        self.forgotten += identifiers
        return [self.retained.pop(identifier) for identifier in identifiers]

    def identifiers(self) -> st.SearchStrategy[int]:
        """Identifiers of all kinds: retained, forgotten, about to be given out, 0, and any."""
        known = [*self.retained, *self.forgotten, self.next, 0]
        return st.sampled_from(known) | st.integers(0, LAST)

    @rule(count=st.integers(1, 5))
    def push(self, count: int) -> None:
        """Each item gets the next number, with 1 after the last."""
        for _ in range(count):
            item = object()
            assert self.window.push(item) == self.next
            self.retained[self.next] = item
            self.next = 1 if self.next == LAST else self.next + 1

    @rule(data=st.data())
    def settle_through(self, data: st.DataObject) -> None:
        """Settling takes from the left end through the identifier, if it is retained."""
        identifier = data.draw(self.identifiers())
        count = list(self.retained).index(identifier) + 1 if identifier in self.retained else 0
        assert self.window.settle_through(identifier) == self.forget(count)

    @rule()
    def abandon(self) -> None:
        """Abandoning leaves nothing."""
        assert self.window.abandon() == self.forget(len(self.retained))

    @rule(data=st.data(), status=st.sampled_from([0, 1, 8, 10, 77, 128, 255]))
    def apply(self, data: st.DataObject, status: int) -> None:
        """An error packet sorts the items by where its identifier is."""
        identifier = data.draw(self.identifiers())
        expected = self.expected_verdict(status in (0, 10), identifier)
        assert self.window.apply(status, identifier) == expected
        self.forget(len(self.retained))

    def expected_verdict(self, names_accepted: bool, identifier: int) -> ErrorResult[object]:
        """Sort the model's items one by one."""
        order = list(self.retained.items())
        if identifier in self.forgotten:
            wrongly_settled = self.forgotten[self.forgotten.index(identifier) + names_accepted :]
            return ErrorResult(resend=[item for _, item in order], late=bool(wrongly_settled))
        if identifier not in self.retained:
            return ErrorResult(uncertain=[item for _, item in order])
        result: ErrorResult[object] = ErrorResult(rejected=None if names_accepted else self.retained[identifier])
        place = result.accepted
        for number, item in order:
            if number != identifier:
                place.append(item)
                continue
            if names_accepted:
                place.append(item)
            place = result.resend
        return result

    @invariant()
    def same_length_and_next(self) -> None:
        """The window and its model retain as much, and count as far."""
        if hasattr(self, "window"):
            assert len(self.window) == len(self.retained)
            assert self.window.next_identifier == self.next


class ModelTests(SynchronousTestCase):
    """Whatever is done to a window, it does as the model does."""

    def test_model(self) -> None:
        """Random pushes, settlings and error packets give the same with both."""
        run_state_machine_as_test(WindowMachine)
