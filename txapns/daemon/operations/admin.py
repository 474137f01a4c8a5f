"""
What an operator and his programs ask, on an endpoint apart from that of the callers.

::

    GET /            the status page
    GET /events      the same for the page's script, as server-sent events
    GET /metrics     for Prometheus
    GET /readyz      200 if the daemon can do its work, 503 if not, with the reasons
    GET /healthz     200 as long as it answers at all

Nothing can be changed here. Where keys are asked for, it has to be one that may read what becomes of the notifications
of all apps, as ``Authorization: Bearer …``, or as the password where a browser asks for one. ``/healthz`` and
``/readyz`` answer everybody, since those who ask often cannot show a key; whoever shows none is not told the reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files

import attrs
import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from txapns.daemon.errors import NotAllowed, NotAuthenticated, RequestRefused
from txapns.daemon.interfaces import IKeys
from txapns.daemon.operations.health import HealthCheck, Readiness
from txapns.daemon.operations.metrics import CONTENT_TYPE, DaemonMetrics
from txapns.daemon.operations.status_page import StatusPage
from txapns.daemon.serving.authorization import basic_password, bearer_token
from txapns.daemon.serving.connections import ConnectionLimits
from txapns.daemon.serving.http import Answer, IApplication, Request

__all__ = ["LIMITS", "Admin"]

#: What a caller may have of the admin endpoint. There is no request with a body.
LIMITS = ConnectionLimits(body=1_024, head=16_384, clients=200, unauthenticated=100, idle=60.0, request=10.0, last=True)

_HTML = b"text/html; charset=utf-8"
_EVENTS = b"text/event-stream"
_STATIC = files("txapns.daemon.operations") / "static"
_FILES = {
    b"/status.css": ("status.css", b"text/css; charset=utf-8"),
    b"/status.js": ("status.js", b"text/javascript; charset=utf-8"),
    b"/icon.svg": ("icon.svg", b"image/svg+xml"),
}
_METHODS = (b"GET", b"HEAD")

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
# What every answer says to browsers: all that the page needs is here, and nobody else may make anything of it.
_SECURITY = (
    (b"Content-Security-Policy", _POLICY),
    (b"Cache-Control", b"no-store"),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-Frame-Options", b"DENY"),
)


def _answer(status: int, body: bytes, kind: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    return Answer(status, body, (*_SECURITY, *headers), kind)


def _json(status: int, value: object, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    return _answer(status, msgspec.json.encode(value), b"application/json", headers)


@implementer(IApplication)
class Admin:
    """
    Answers an operator.

    :param survey: looks how the daemon fares.
    :param metrics: what was counted.
    :param status: the status page.
    :param keys: the keys that callers show; ``None`` where everybody may look.
    """

    def __init__(
        self, survey: HealthCheck, metrics: DaemonMetrics, status: StatusPage, keys: IKeys | None = None
    ) -> None:
        self._survey = survey
        self._metrics = metrics
        self._status = status
        self._keys = keys
        self._files = {path: _answer(200, (_STATIC / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
        self._routes: dict[bytes, Callable[[Request], Answer | Deferred[Answer]]] = {
            b"/": self._page,
            b"/events": self._events,
            b"/metrics": self._measure,
            b"/readyz": self._ready,
            b"/healthz": self._alive,
        }

    # IApplication

    def begun(self, request: Request) -> Answer | None:
        """Find out who calls; where that is not enough is decided with the path."""
        try:
            request.context = self._refusal(request)
        except RequestRefused as refusal:
            request.context = refusal
        return None

    def received(self, request: Request) -> Answer | Deferred[Answer]:
        """Find what is asked for."""
        if request.context is None:
            request.mark_authenticated()
        route = self._routes.get(request.path)
        if route is None and request.path not in self._files:
            return self.fault(404, "there is nothing at this path")
        if request.method not in _METHODS:
            return attrs.evolve(
                self.fault(405, "allowed here: GET, HEAD"), headers=(*_SECURITY, (b"Allow", b"GET, HEAD"))
            )
        refusal = request.context
        if refusal is not None and request.path not in (b"/healthz", b"/readyz"):
            return _refused(refusal)
        return self._files[request.path] if route is None else route(request)

    def fault(self, status: int, message: str) -> Answer:
        """See :meth:`IApplication.fault`."""
        return _json(status, {"error": message})

    # What can be asked for.

    def _page(self, request: Request) -> Deferred[Answer]:
        return self._status.html().addCallback(lambda page: _answer(200, page, _HTML))

    def _events(self, request: Request) -> Answer | Deferred[Answer]:
        if request.method == b"HEAD":
            return _answer(200, b"", _EVENTS)
        if self._status.subscribers.full:
            busy = self.fault(503, "as many as may are looking at the page")
            return attrs.evolve(busy, headers=(*busy.headers, (b"Retry-After", b"30")))
        for name, value in (*_SECURITY, (b"Content-Type", _EVENTS)):
            request.responseHeaders.addRawHeader(name, value)
        self._status.subscribers.add(request)
        return Deferred()  # events are the answer, as long as somebody listens

    def _measure(self, request: Request) -> Deferred[Answer]:
        return self._survey.take().addCallback(
            lambda overview: _answer(200, self._metrics.render(overview), CONTENT_TYPE)
        )

    def _ready(self, request: Request) -> Deferred[Answer]:
        def told(found: Readiness) -> Answer:
            reasons = {"reasons": [*found.faults, *found.concerns]} if request.context is None else {}
            return _json(200 if found.ready else 503, {"ready": found.ready, **reasons})

        return self._survey.ready().addCallback(told)

    def _alive(self, request: Request) -> Answer:
        return _json(200, {"alive": True})

    # Who may ask.

    def _refusal(self, request: Request) -> RequestRefused | None:
        """Tell why somebody may not look; ``None`` for who may."""
        if self._keys is None:
            return None
        caller = self._keys.check(_key(request))
        if caller.feedback is None or caller.manage:
            return None
        return NotAllowed("the key is not for reading what becomes of the notifications of all apps")


def _key(request: Request) -> str:
    """Find the key: a bearer token, or the password that a browser sends."""
    key = bearer_token(request.authorization) or basic_password(request.authorization)
    if not key:
        raise NotAuthenticated("a key is required")
    return key


def _refused(refusal: RequestRefused) -> Answer:
    challenge = (b"WWW-Authenticate", b'Basic realm="txapns", charset="UTF-8"')
    headers = (challenge,) if isinstance(refusal, NotAuthenticated) else ()
    return _json(refusal.status, {"error": str(refusal)}, headers)
