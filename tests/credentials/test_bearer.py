"""Tests for :mod:`txapns._credentials.bearer`."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns._credentials.bearer import BearerToken
from txapns.credentials import ProviderToken
from txapns.simulator import Authority

__all__ = ["ParseTests", "SignatureTests", "der_signed"]

AUTHORITY = Authority()
TOKEN = ProviderToken.from_p8(AUTHORITY.p8, AUTHORITY.key_id, AUTHORITY.team_id)


def part(content: object) -> str:
    """Write a part of a token."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def der_signed(authority: Authority, issued_at: int, **more: Any) -> str:
    """Sign a provider token as pushy does: with the DER signature that cryptographic libraries return."""
    key = load_pem_private_key(authority.p8, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    claims = {"iss": authority.team_id, "iat": issued_at, **more}
    signed = f"{part({'alg': 'ES256', 'typ': 'JWT', 'kid': authority.key_id})}.{part(claims)}"
    return f"{signed}.{part(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))}"


class ParseTests(SynchronousTestCase):
    """The claims of a provider token."""

    def test_parts(self) -> None:
        """The key, the team and the time are found."""
        token = BearerToken.parse(TOKEN.sign(1_700_000_000))
        assert token is not None
        self.assertEqual((token.key_id, token.team_id), (AUTHORITY.key_id, AUTHORITY.team_id))
        self.assertEqual(token.issued_at, 1_700_000_000.0)

    def test_times(self) -> None:
        """A time is a finite number within bounds, in any notation."""

        def issued(text: str) -> float | None:
            claims = part(f'{{"iss": "T", "iat": {text}}}'.encode())
            token = BearerToken.parse(f"{part({'alg': 'ES256', 'kid': 'K'})}.{claims}.AAAA")
            return None if token is None else token.issued_at

        for text, expected in (("5", 5.0), ("5.5", 5.5), ("5e3", 5_000.0)):
            self.assertEqual(issued(text), expected)
        for text in ("NaN", "Infinity", "-Infinity", "1e400", "-1", "1" + "0" * 400, "1" + "0" * 5_000, "true", '"5"'):
            self.assertIsNone(issued(text), text)
        for text in ("null", "[5]", "{}", ""):
            self.assertIsNone(issued(text), text)

    def test_other_things(self) -> None:
        """A token with another algorithm or form is not a provider token."""
        head, claims, signature = TOKEN.sign(5).split(".")
        for text in (
            "",
            "a.b.c",
            "\ud800.é.\x00",
            f"{head}.{claims}",
            f"{part({'alg': 'none', 'kid': 'K'})}.{claims}.",
            f"{part({'alg': 'HS256', 'kid': 'K'})}.{claims}.{signature}",
            f"{part({'alg': 'ES256', 'kid': [1]})}.{claims}.{signature}",
            f"{part({'alg': 'ES256'})}.{claims}.{signature}",
            f"{head}.{part({'iat': 5})}.{signature}",
            f"{head}.{part({'iss': 7, 'iat': 5})}.{signature}",
            f"{head}.{part(['iss', 'iat'])}.{signature}",
            f"{head}.{part(b'[' * 100_000)}.{signature}",
        ):
            self.assertIsNone(BearerToken.parse(text), text[:80])

    @given(st.text() | st.binary().map(part))
    def test_anything(self, noise: str) -> None:
        """Any text is parsed without an exception, and verifies with no key."""
        head, claims, signature = TOKEN.sign(5).split(".")
        for text in (noise, f"{noise}.{claims}.{signature}", f"{head}.{noise}.{signature}", f"{head}.{claims}.{noise}"):
            token = BearerToken.parse(text)
            self.assertFalse(token is not None and token.is_signed_by(AUTHORITY.public_key))


class SignatureTests(SynchronousTestCase):
    """Verification of the signature."""

    def test_both_forms(self) -> None:
        """The standard's two numbers are accepted, and so is pushy's DER."""
        for text in (TOKEN.sign(5), der_signed(AUTHORITY, 5)):
            token = BearerToken.parse(text)
            assert token is not None
            self.assertTrue(token.is_signed_by(AUTHORITY.public_key))
            self.assertFalse(token.is_signed_by(Authority().public_key))

    def test_changed(self) -> None:
        """The signature verifies only the signed text, and only when complete and unchanged."""
        for text in (TOKEN.sign(5), der_signed(AUTHORITY, 5)):
            head, claims, signature = text.split(".")
            written = base64.urlsafe_b64decode(signature + "==")
            for changed in (b"", written[:-1], written + b"\0", written[::-1], bytes(64), b"\xff" * 64):
                token = BearerToken.parse(f"{head}.{claims}.{part(changed)}")
                self.assertFalse(token is not None and token.is_signed_by(AUTHORITY.public_key))
            token = BearerToken.parse(f"{head}.{part({'iss': AUTHORITY.team_id, 'iat': 6})}.{signature}")
            assert token is not None
            self.assertFalse(token.is_signed_by(AUTHORITY.public_key))
