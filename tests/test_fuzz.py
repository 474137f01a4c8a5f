"""Tests that the parsers hold against what fuzzing found, and that each harness is fit to find something."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import fuzz

__all__ = ["CorpusTests"]


class CorpusTests(SynchronousTestCase):
    """Each harness of ``fuzz``."""

    def test_found(self) -> None:
        """The seeds of each harness, and all that was ever found with it, are held against."""
        for name in fuzz.NAMES:
            harness = fuzz.load(name)
            found = [path.read_bytes() for path in sorted((fuzz.CORPUS / name).glob("*"))]
            for data in [b"", *harness.SEEDS, *found]:
                with self.subTest(name, data=data[:40]):
                    harness.check(data)

    @settings(max_examples=10, deadline=None)
    @given(st.data())
    def test_changed(self, data: st.DataObject) -> None:
        """Some octets are put into the midst of each seed."""
        for name in fuzz.NAMES:
            harness = fuzz.load(name)
            seed = data.draw(st.sampled_from(harness.SEEDS))
            start = data.draw(st.integers(0, len(seed)))
            stop = data.draw(st.integers(start, min(start + 4, len(seed))))
            harness.check(seed[:start] + data.draw(st.binary(max_size=8)) + seed[stop:])
