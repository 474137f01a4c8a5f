"""
Which apps a caller of the Apple face may send for, and which one it means.

The caller shows a client certificate, its own provider token, or a key of the daemon in the token's place (see
:mod:`~txapns.daemon.faces.callers`). The topic tells which of its apps is meant.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from txapns._network.clocks import IWallClock
from txapns._serving.authorization import bearer_token
from txapns.daemon.errors import NotAuthenticated
from txapns.daemon.faces.apple.responses import ErrorResponse, NotAuthenticatedResponse
from txapns.daemon.faces.callers import LEEWAY, TOKEN_LIFE, Callers
from txapns.daemon.interfaces import IKeys
from txapns.daemon.values import Caller

__all__ = ["Authentication", "app_of", "is_sandbox"]

_KEY_PREFIX = "txapns_"  # of the keys of the daemon


@attrs.frozen
class _VerifiedToken:
    """
    A provider token that was verified.

    :ivar revision: the revision of the apps at that time.
    :ivar caller: its owner.
    """

    token: str = attrs.field(repr=False)
    revision: int
    issued: float
    caller: Caller


class Authentication:
    """
    Authenticates the requests of one connection.

    :param fingerprint: that of the connection's client certificate; ``None`` if there is none.
    """

    def __init__(self, callers: Callers, keys: IKeys, wall: IWallClock, fingerprint: str | None) -> None:
        self._callers = callers
        self._keys = keys
        self._wall = wall
        self._fingerprint = fingerprint
        self._verified: _VerifiedToken | None = None

    def caller(self, authorization: str) -> Caller:
        """
        Find out who makes a request, and for which apps it may send.

        :param authorization: its ``authorization`` header field; empty if there is none.
        :raises NotAuthenticatedResponse: the credential is unknown, or there is none.
        """
        if self._fingerprint is not None:
            apps = self._callers.by_certificate(self._fingerprint)
            if not apps:
                raise NotAuthenticatedResponse(403, "BadCertificate")  # it was known when the connection was made
            return Caller(f"certificate {self._fingerprint}", apps)
        shown = bearer_token(authorization)
        if not shown:
            raise NotAuthenticatedResponse(403, "MissingProviderToken")
        return self._by_key(shown) if shown.startswith(_KEY_PREFIX) else self._by_token(shown)

    def _by_key(self, key: str) -> Caller:
        try:
            return self._keys.check(key)
        except NotAuthenticated:
            raise NotAuthenticatedResponse(403, "InvalidProviderToken") from None

    def _by_token(self, token: str) -> Caller:
        verified, revision = self._verified, self._callers.revision
        if verified is None or verified.token != token or verified.revision != revision:
            claim = self._callers.by_token(token)
            if claim is None:
                raise NotAuthenticatedResponse(403, "InvalidProviderToken")
            self._verified = verified = _VerifiedToken(token, revision, claim.issued, Caller(claim.signer, claim.apps))
        now = self._wall.now()
        if verified.issued < now - TOKEN_LIFE:
            raise NotAuthenticatedResponse(403, "ExpiredProviderToken")
        if verified.issued > now + LEEWAY:
            raise NotAuthenticatedResponse(403, "InvalidProviderToken")
        return verified.caller


def is_sandbox(fields: Mapping[str, str]) -> bool:
    """Whether the host name that the caller connected to is that of Apple's sandbox, or like it."""
    host = fields.get(":authority", "")
    return "sandbox" in host or "development" in host


def app_of(callers: Callers, fields: Mapping[str, str], names: frozenset[str] | None) -> str:
    """Find the app that a request means, among those that the caller may send for (``None`` for all)."""
    topic = fields.get("apns-topic")
    found = callers.for_topic(topic, names, sandbox=is_sandbox(fields))
    if len(found) == 1:
        return found[0]
    if topic is None and found:
        raise ErrorResponse(400, "MissingTopic")
    # If two apps have the topic, neither is meant. If none has it, the answer does not tell whether the app exists.
    raise ErrorResponse(400, "BadTopic") if found else ErrorResponse(400, "TopicDisallowed")
