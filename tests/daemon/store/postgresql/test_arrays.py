"""Tests for :mod:`txapns.daemon.store.postgresql.arrays`."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.postgresql.opened import OpenedDatabase
from txapns.daemon.store.postgresql.arrays import Array, bigints, byteas, text, texts

__all__ = ["ArrayTests"]


class ArrayTests(SynchronousTestCase):
    """What the server makes of arrays."""

    def setUp(self) -> None:
        """Connect."""
        self.opened = OpenedDatabase(self)

    def sent(self, array: Array, prepare: bool = False) -> Any:
        """Send an array to the server, and return what it sends back."""

        def send(connection: Any) -> Any:
            return connection.execute("SELECT %s, pg_typeof(%s)::text", [array, array], prepare=prepare).fetchone()

        return self.opened.result(self.opened.database.read(send))

    def test_bigints(self) -> None:
        """Numbers arrive as they are."""

        @given(st.lists(st.integers(min_value=-(2**63), max_value=2**63 - 1), max_size=50), st.booleans())
        def check(values: list[int], prepare: bool) -> None:
            self.assertEqual(self.sent(bigints(values), prepare), (values, "bigint[]"))

        check()

    def test_texts(self) -> None:
        """Texts arrive without what PostgreSQL has no way to store."""

        @given(st.lists(st.text(alphabet=st.characters() | st.sampled_from("\0\ud800")), max_size=20))
        def check(values: list[str]) -> None:
            self.assertEqual(self.sent(texts(values)), ([text(value) for value in values], "text[]"))

        check()
        self.assertEqual((text("a\0b"), text("\ud800é")), ("ab", "?é"))

    def test_byteas(self) -> None:
        """Octets arrive as they are."""

        @given(st.lists(st.binary(max_size=40), max_size=20))
        def check(values: list[bytes]) -> None:
            self.assertEqual(self.sent(byteas(values)), (values, "bytea[]"))

        check()
