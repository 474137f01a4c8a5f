"""Tests for :mod:`txapns.daemon.store.acceptance`; those of the stores test the rest of it."""

from __future__ import annotations

import uuid

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.store.acceptance import uuid_texts

__all__ = ["IdTests"]


class IdTests(SynchronousTestCase):
    """Ids as text."""

    def test_texts(self) -> None:
        """Ids are written in the form of :class:`uuid.UUID`, however many there are."""
        for count in (0, 1, 31, 32, 33, 500):
            ids = [uuid.uuid5(uuid.NAMESPACE_OID, f"{count} {n}") for n in range(count)]
            self.assertEqual(uuid_texts(b"".join([each.bytes for each in ids])), list(map(str, ids)))
