"""Tests for :mod:`txapns.daemon.operations.forms`; those of the admin endpoint submit what pages have."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis.strategies import binary, dictionaries, sampled_from
from msgspec import UNSET
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from txapns.daemon.errors import Malformed, RequestRefused, UnsupportedMediaType
from txapns.daemon.operations.forms import read_credential, read_form, text

__all__ = ["CredentialTests", "FormTests", "multipart"]

NAMES = sampled_from(["action", "file", "pasted", "key_id", "team_id", "passphrase"])


def multipart(form: Mapping[str, bytes]) -> tuple[str, bytes]:
    """Write a form with a file as a browser does; returns the content type and the body."""
    boundary = "----WebKitFormBoundaryYEAbWJpVp8xcsO4Z"
    parts = []
    for name, value in form.items():
        more = '; filename="AuthKey.p8"\r\nContent-Type: application/octet-stream' if name == "file" else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
        parts.append(head.encode() + value + b"\r\n")
    return f"multipart/form-data; boundary={boundary}", b"".join([*parts, f"--{boundary}--\r\n".encode()])


class _Submitted:
    """As much of a request as is read."""

    def __init__(self, kind: str, body: bytes) -> None:
        self.body = body
        self._headers = Headers({"Origin": ["http://daemon"], "Content-Type": [kind]})

    def texts(self, name: bytes) -> list[str]:
        """Find header fields."""
        return [value.decode() for value in self._headers.getRawHeaders(name, ())]

    def single(self, name: bytes) -> bytes | None:
        """Find a header field."""
        [value] = self._headers.getRawHeaders(name, [None])
        return value


def read(kind: str, body: bytes, *, uploads: bool = True) -> Mapping[str, bytes]:
    """Read a form."""
    request: Any = _Submitted(kind, body)
    return read_form(request, uploads=uploads)


class FormTests(SynchronousTestCase):
    """The forms."""

    @given(dictionaries(NAMES, binary(max_size=200)))
    def test_file(self, form: dict[str, bytes]) -> None:
        """What is in a file arrives as it is, octet for octet."""
        self.assertEqual(read(*multipart(form)), form)

    @given(binary(max_size=300), sampled_from(["multipart/form-data; boundary=x", "application/x-www-form-urlencoded"]))
    def test_nonsense(self, body: bytes, kind: str) -> None:
        """What is not a form is refused, or has no fields that matter."""
        with contextlib.suppress(RequestRefused):
            read(kind, body)

    def test_nested(self) -> None:
        """A form whose parts are in parts a thousand deep is refused."""
        parts = [f"Content-Type: multipart/mixed; boundary={n}\r\n\r\n--{n}\r\n".encode() for n in range(1_500)]
        with self.assertRaises(Malformed):
            read("multipart/form-data; boundary=x", b"--x\r\n" + b"".join(parts))

    def test_kinds(self) -> None:
        """A file is read only where one may be sent, and only a form is a form."""
        kind, body = multipart({"action": b"rotate"})
        self.assertEqual(text(read("application/x-www-form-urlencoded", b"action=look&what=%20d"), "what"), "d")
        with self.assertRaises(UnsupportedMediaType):
            read(kind, body, uploads=False)
        for wrong in ("multipart/form-data", "multipart/form-data; boundary=-"):
            with self.assertRaises(Malformed):
                read(wrong, 20 * b"---\r\n" + body)


class CredentialTests(SynchronousTestCase):
    """The fields of a credential."""

    def test_kinds(self) -> None:
        """With identifiers it is a signing key, without a certificate; what is not text is in base64."""
        found = read_credential({"pasted": b"pem", "file": b"", "key_id": b" ", "passphrase": b""})
        self.assertEqual((found.certificate, found.key, found.passphrase), ("pem", UNSET, UNSET))
        found = read_credential({"pasted": b"", "file": b"p8", "key_id": b"K", "team_id": b"T", "passphrase": b" x "})
        self.assertEqual((found.certificate, found.key, found.key_id, found.team_id), (UNSET, "p8", "K", "T"))
        self.assertEqual(found.passphrase, " x ")
        found = read_credential({"file": b"\x30\x82\xff"})
        self.assertEqual(found.certificate, base64.b64encode(b"\x30\x82\xff").decode())

    def test_wrong(self) -> None:
        """There must be one, and not a longer one than any is."""
        for form in ({}, {"file": b"", "pasted": b"\r\n"}, {"file": 70_000 * b"x"}, {"file": 60_000 * b"\xff"}):
            with self.assertRaises(Malformed):
                read_credential(form)
