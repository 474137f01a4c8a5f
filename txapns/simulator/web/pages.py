"""
The files of the page.

One of them, ``facts.js``, is written here: what the page has to know of push types and sizes, from the rules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files

from txapns._serving.http import Answer
from txapns._serving.pages import SECURITY
from txapns.devices.push import SUFFIXES
from txapns.devices.rules.request import MAX_BROADCAST, MAX_PAYLOAD, MAX_VOIP_PAYLOAD
from txapns.notification import PushType

__all__ = ["pages"]

_STATIC = files("txapns.simulator.web") / "static"
_INDEX = "index.html"
_KINDS = {
    "css": b"text/css; charset=utf-8",
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}


def pages() -> Mapping[bytes, Answer]:
    """
    Read the files of the page.

    :returns: an answer for each path.
    """
    found = {b"/facts.js": Answer(200, _facts(), SECURITY, _KINDS["js"])}
    for file in _STATIC.iterdir():
        kind = _KINDS.get(file.name.rpartition(".")[2])
        if kind is not None:
            path = "/" if file.name == _INDEX else f"/{file.name}"
            found[path.encode()] = Answer(200, file.read_bytes(), SECURITY, kind)
    return found


def _facts() -> bytes:
    facts = {
        "TYPES": [each.value for each in PushType],
        "SUFFIXES": SUFFIXES,
        # The longest payloads, of push types and of broadcasts, in bytes.
        "LIMITS": {"": MAX_PAYLOAD, "voip": MAX_VOIP_PAYLOAD, "broadcast": MAX_BROADCAST},
    }
    return "".join(f"export const {name} = {json.dumps(value)};\n" for name, value in facts.items()).encode()
