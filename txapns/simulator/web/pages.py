"""The files of the page."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from txapns._serving.http import Answer
from txapns._serving.pages import SECURITY

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
    found = {}
    for file in _STATIC.iterdir():
        kind = _KINDS.get(file.name.rpartition(".")[2])
        if kind is not None:
            path = "/" if file.name == _INDEX else f"/{file.name}"
            found[path.encode()] = Answer(200, file.read_bytes(), SECURITY, kind)
    return found
