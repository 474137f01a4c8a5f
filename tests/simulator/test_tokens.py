"""Tests for :mod:`txapns.simulator.tokens`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txapns.simulator.tokens import TOKEN_CHANGE, TOKEN_LIFE, TokenUpdates

__all__ = ["TokenUpdatesTests"]


class TokenUpdatesTests(SynchronousTestCase):
    """What a provider presents."""

    def setUp(self) -> None:
        """Nothing was presented yet."""
        self.updates = TokenUpdates()

    def admit(self, token: str, now: float, issued_at: float = 0.0, team_id: str = "T", key_id: str = "K") -> bool:
        """Present a token."""
        return self.updates.admit(team_id, key_id, token, issued_at, now)

    def test_updates(self) -> None:
        """The first token is no update; then there may be one in 20 minutes, and those in use may be used."""
        self.assertTrue(self.admit("a", 0.0))
        self.assertTrue(self.admit("b", 1.0))
        self.assertFalse(self.admit("c", 2.0))
        self.assertTrue(self.admit("a", 3.0))
        self.assertFalse(self.admit("c", 1.0 + TOKEN_CHANGE - 0.1))
        self.assertTrue(self.admit("c", 1.0 + TOKEN_CHANGE))
        self.assertFalse(self.admit("d", 2.0 + TOKEN_CHANGE))

    def test_keys(self) -> None:
        """Each key of each team counts for itself."""
        for team_id, key_id in ("T", "K"), ("T", "L"), ("U", "K"):
            self.assertTrue(self.admit("a", 0.0, team_id=team_id, key_id=key_id))
            self.assertTrue(self.admit("b", 0.0, team_id=team_id, key_id=key_id))
            self.assertFalse(self.admit("c", 0.0, team_id=team_id, key_id=key_id))

    def test_forgotten(self) -> None:
        """A token that has expired when another comes is forgotten, and would be an update."""
        for number in range(10):
            now = number * (TOKEN_LIFE + 1.0)
            self.assertTrue(self.admit(str(number), now, issued_at=now))
        self.assertFalse(self.admit("0", now, issued_at=0.0))
        self.assertTrue(self.admit("9", now, issued_at=now))
