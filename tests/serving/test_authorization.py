"""Tests for :mod:`txapns._serving.authorization`."""

from __future__ import annotations

from base64 import b64encode

from twisted.trial.unittest import SynchronousTestCase

from txapns._serving.authorization import basic_password, bearer_token

__all__ = ["AuthorizationTests"]


class AuthorizationTests(SynchronousTestCase):
    """What is read from the header field."""

    def test_bearer(self) -> None:
        """The scheme is compared without case, and spaces around the token do not count."""
        for value in ("Bearer key", "bearer key", "BEARER   key "):
            self.assertEqual(bearer_token(value), "key")
        self.assertEqual((bearer_token("Bearer"), bearer_token("Bearer ")), ("", ""))
        for value in ("", "key", "Basic YTpi", "Bearerkey"):
            self.assertIsNone(bearer_token(value))

    def test_basic(self) -> None:
        """The password is what follows the first colon, octet by octet."""
        for password in ("", "b", "b:c", "\xe4"):
            encoded = b64encode(b"user:" + password.encode("latin-1")).decode()
            self.assertEqual(basic_password(f"basic {encoded}"), password)
        for value in ("Basic", "Basic YTpi?", "Basic YTp", "Basic \xe4", "Basic YTpi YTpi", "Basic YWI="):
            self.assertEqual(basic_password(value), "")
        for value in ("", "YTpi", "Bearer YTpi"):
            self.assertIsNone(basic_password(value))
