"""
The forms that browsers send from the page of an app.

Most forms are a few short fields. One has a file, the credential that replaces another; only that of a caller who may
manage apps is read.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from email import message_from_bytes
from urllib.parse import parse_qsl

from msgspec import UNSET

from txapns._serving.http import Request
from txapns.daemon.errors import Malformed, NotAllowed, TooLarge, UnsupportedMediaType
from txapns.daemon.secrets.submitted import MAX_PEM, SubmittedCredential

__all__ = ["MOST", "MOST_UPLOADED", "read_credential", "read_form", "text"]

#: The longest form without a file, in octets, and the longest with one.
MOST, MOST_UPLOADED = 1_024, 2 * MAX_PEM

_FIELDS = 10


def read_form(request: Request, *, uploads: bool) -> Mapping[str, bytes]:
    """
    Read the form that our own page has sent.

    :param uploads: whether it may have a file.
    :raises RequestRefused: it cannot be read, or comes from elsewhere.
    """
    # Browsers send at least one of these with a form. The server has refused those that are for another site.
    if not request.texts(b"Origin") and not request.texts(b"Sec-Fetch-Site"):
        raise NotAllowed("a form must come from a page of this daemon")
    given = request.single(b"Content-Type") or b""
    kind = given.partition(b";")[0].strip().lower()
    if kind == b"multipart/form-data" and uploads:
        return _parts(given, request.body)
    if kind != b"application/x-www-form-urlencoded":
        raise UnsupportedMediaType("send a form: application/x-www-form-urlencoded")
    if len(request.body) > MOST:
        raise TooLarge(f"the form is longer than {MOST} bytes")
    try:
        fields = parse_qsl(request.body.decode("ascii"), strict_parsing=True, max_num_fields=_FIELDS)
    except ValueError:
        raise Malformed("the form cannot be read") from None
    return {name: value.encode() for name, value in fields}


def _parts(kind: bytes, body: bytes) -> Mapping[str, bytes]:
    """Read a form with a file."""
    head = b"Content-Type: " + kind + b"\r\n\r\n"
    boundary = (message_from_bytes(head).get_boundary() or "").encode("ascii", "replace")
    if not boundary or body.count(b"--" + boundary) > _FIELDS + 1:
        raise Malformed("the form cannot be read")
    form = {}
    try:
        message = message_from_bytes(head + body)
    except RecursionError:  # parts within parts
        raise Malformed("the form cannot be read") from None
    for part in message.walk():
        name, value = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(value, bytes):
            form[name] = value
    return form


def text(form: Mapping[str, bytes], name: str) -> str:
    """Read a field of a form, without the space around it; empty if it is missing."""
    return form.get(name, b"").decode("utf-8", "replace").strip()


def read_credential(form: Mapping[str, bytes]) -> SubmittedCredential:
    """
    Read the fields with a credential: a file or its pasted text, a signing key's identifiers, and a passphrase.

    :raises Malformed: there is none, or it is too long.
    """
    data = form.get("file") or form.get("pasted", b"")
    if not data.strip():
        raise Malformed("choose a file, or paste what is in it")
    try:
        content = data.decode()
    except UnicodeDecodeError:  # PKCS#12
        content = base64.b64encode(data).decode()
    if len(content) > MAX_PEM:
        raise Malformed(f"it is longer than {MAX_PEM} characters")
    key_id, team_id = text(form, "key_id"), text(form, "team_id")
    passphrase = form.get("passphrase", b"").decode("utf-8", "replace") or UNSET
    if not key_id and not team_id:
        return SubmittedCredential(certificate=content, passphrase=passphrase)
    return SubmittedCredential(key=content, key_id=key_id, team_id=team_id, passphrase=passphrase)
