"""
The answers of the admin endpoint, and how an error is written: for a browser as a page, for programs in JSON.

Whatever refuses a request, the page says why and leads back: to the page of the app if that is what was asked for, or
else to the list of all apps.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from urllib.parse import quote, unquote

import msgspec
from twisted.web.iweb import IRequest
from twisted.web.template import Element, Tag, XMLString, flattenString, renderer, tags

from txapns._serving.http import Answer, Request
from txapns._serving.pages import FORMS
from txapns.daemon.config.sections import NAME
from txapns.daemon.errors import NotAuthenticated, RequestRefused, UnknownApp

__all__ = ["HTML", "app_of", "make_answer", "make_error", "make_json", "refused"]

#: The content type of pages.
HTML = b"text/html; charset=utf-8"

_APPS = b"/apps/"
_CHALLENGE = (b"WWW-Authenticate", b'Basic realm="txapns", charset="UTF-8"')
_STATIC = files("txapns.daemon.operations") / "static"

_Headers = Sequence[tuple[bytes, bytes]]


def make_answer(status: int, body: bytes, kind: bytes, headers: _Headers = ()) -> Answer:
    """Make an answer with the header fields that every page needs."""
    return Answer(status, body, (*FORMS, *headers), kind)


def make_json(status: int, value: object, headers: _Headers = ()) -> Answer:
    """Make an answer for programs."""
    return make_answer(status, msgspec.json.encode(value), b"application/json", headers)


def make_error(request: Request | None, status: int, message: str, headers: _Headers = ()) -> Answer:
    """
    Make an answer that says what is wrong.

    :param request: what is answered; ``None`` if its head could not be read.
    """
    if _is_for_people(request):
        assert request is not None
        return make_answer(status, _page(status, [message], request.path, app_of(request.path)), HTML, headers)
    return make_json(status, {"error": message}, headers)


def refused(request: Request, refusal: RequestRefused) -> Answer:
    """Make the answer to a request that the daemon refuses."""
    headers = (_CHALLENGE,) if isinstance(refusal, NotAuthenticated) else ()
    if not _is_for_people(request):
        return make_json(refusal.status, {"error": str(refusal)}, headers)
    said = [f"{refusal.path}: {refusal}" if refusal.path else f"{refusal}"]
    if refusal.retry_after is not None:
        said.append(f"Try again in {refusal.retry_after:.0f} seconds.")
    app = app_of(request.path)
    page = _page(refusal.status, said, request.path, app, back=app is not None and not isinstance(refusal, UnknownApp))
    return make_answer(refusal.status, page, HTML, headers)


def app_of(path: bytes) -> str | None:
    """Return the app whose page has a path; ``None`` if it is another page."""
    name = unquote(path[len(_APPS) :].decode("latin-1")) if path.startswith(_APPS) else ""
    return name if NAME.fullmatch(name) else None


def _is_for_people(request: Request | None) -> bool:
    """Tell whether a browser shows the answer to somebody."""
    return request is not None and b"text/html" in (request.single(b"Accept") or b"")


def _page(status: int, said: Sequence[str], path: bytes, app: str | None, *, back: bool = True) -> bytes:
    """
    Make the page that says what is wrong.

    :param app: the app that it is about; ``None`` for none.
    :param back: whether there is a page of the app to lead back to.
    """
    made: list[bytes] = []
    above = "../" * (path.count(b"/") - 1) or "./"
    flattenString(None, _Error(status, said, above, app, back=back)).addCallback(made.append)
    [page] = made  # nothing in it has to be waited for
    return b"<!DOCTYPE html>\n" + page


class _Error(Element):
    """The template ``static/error.xml``."""

    loader = XMLString((_STATIC / "error.xml").read_bytes())

    def __init__(self, status: int, said: Sequence[str], above: str, app: str | None, *, back: bool) -> None:
        super().__init__()
        self._status = status
        self._said = said
        self._above = above
        self._app = app
        self._back = back

    @renderer
    def page(self, request: IRequest | None, tag: Tag) -> Tag:
        """Fill the slots."""
        if self._app is not None and self._back:
            back = tags.a(f"Back to {self._app}", href=quote(self._app), id="back")
        else:
            back = tags.a("Back to all apps", href=self._above, id="back")
        return tag.fillSlots(
            name=self._app or "Push daemon",
            word="Failed" if self._status == 500 else "Refused",
            happened="The daemon failed" if self._status == 500 else "The daemon refused this, and changed nothing",
            icon=tags.link(rel="icon", href=f"{self._above}icon.svg", type="image/svg+xml"),
            style=tags.link(rel="stylesheet", href=f"{self._above}status.css"),
            said=[tags.li(each) for each in self._said],
            back=back,
        )
