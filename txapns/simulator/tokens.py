"""How often the teams make new provider tokens, whichever connections they use them on."""

from __future__ import annotations

import math

import attrs

__all__ = ["TOKEN_CHANGE", "TOKEN_LIFE", "TokenUpdates"]

#: How long a provider token is valid, in seconds.
TOKEN_LIFE = 3_600
#: How often it may be replaced: once in this many seconds.
TOKEN_CHANGE = 1_200


@attrs.define(eq=False)
class _Key:
    """A signing key: the tokens in use, each with the date when it was issued, and when the last one was new."""

    tokens: dict[str, float] = attrs.Factory(dict)
    updated: float = -math.inf


class TokenUpdates:
    """
    The provider tokens in use.

    Apple documents the limit for one connection, but counts by team: a provider with several connections or hosts has
    to use the same token on all of them. So a token that was used before is not an update, and may be used on any
    number of connections, beside another.
    """

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], _Key] = {}

    def admit(self, team_id: str, key_id: str, token: str, issued_at: float, now: float) -> bool:
        """
        Take note that a valid token is used.

        :param issued_at: when it was issued, in UNIX seconds.
        :param now: the time, by a clock that is not set.
        :returns: whether it may be; not if it is new, and so was another less than :data:`TOKEN_CHANGE` seconds ago.
        """
        key = self._keys.setdefault((team_id, key_id), _Key())
        if token in key.tokens:
            return True
        if key.tokens:
            if now - key.updated < TOKEN_CHANGE:
                return False
            key.updated = now
        latest = max([issued_at, *key.tokens.values()])
        key.tokens = {each: issued for each, issued in key.tokens.items() if latest - issued <= TOKEN_LIFE}
        key.tokens[token] = issued_at
        return True
