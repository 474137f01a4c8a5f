"""
The admin endpoint: what operators and their programs ask, separate from the callers' endpoints.

::

    GET /            the status page; ?search= and ?page= say which apps to show
    GET /events      updates of the page, as server-sent events, for the same query
    GET /apps/<app>  the page of an app; POST looks something up, and does what the page has buttons for
    GET /metrics     the metrics, for Prometheus
    GET /readyz      200 if the daemon can do its work, 503 if not, with the reasons
    GET /healthz     200 as long as it answers at all

If the endpoint asks for keys, it accepts those that may read the outcomes of all apps, or manage apps, as
``Authorization: Bearer …`` or as the password of a browser's login. Only a key that may manage apps changes something;
where no keys are asked for, nothing can be changed. A browser sends its password with every request, also with a form
that another site submits: the server in front of this application refuses what comes from other sites, and here a POST
must also say that it comes from our own page. ``/healthz`` and ``/readyz`` answer without a key, because load balancers
and supervisors often cannot send one; without a key they give no reasons.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from urllib.parse import quote

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from txapns._serving.authorization import basic_password, bearer_token
from txapns._serving.event_stream import KIND
from txapns._serving.http import Answer, IApplication, Request
from txapns._serving.limits import ConnectionLimits
from txapns.daemon.errors import NotAllowed, NotAuthenticated, RequestRefused, TooLarge
from txapns.daemon.interfaces import IKeys
from txapns.daemon.operations.answers import HTML, app_of, make_answer, make_error, make_json, refused
from txapns.daemon.operations.app_list import Query
from txapns.daemon.operations.app_page import AppPage
from txapns.daemon.operations.forms import MOST, MOST_UPLOADED, read_form, text
from txapns.daemon.operations.health import HealthCheck, Readiness
from txapns.daemon.operations.management import Management
from txapns.daemon.operations.metrics import CONTENT_TYPE, DaemonMetrics
from txapns.daemon.operations.status_page import StatusPage
from txapns.daemon.values import Caller

__all__ = ["LIMITS", "Admin"]

#: The limits of the admin endpoint, whose requests have no bodies but forms.
LIMITS = ConnectionLimits(
    body=MOST_UPLOADED, head=16_384, clients=200, unauthenticated=100, idle=60.0, request=10.0, last=True
)

_STATIC = files("txapns.daemon.operations") / "static"
_FILES = {
    b"/status.css": ("status.css", b"text/css; charset=utf-8"),
    b"/status.js": ("status.js", b"text/javascript; charset=utf-8"),
    b"/icon.svg": ("icon.svg", b"image/svg+xml"),
}
_METHODS = (b"GET", b"HEAD")


@attrs.frozen
class _Access:
    """Who sends a request, as far as keys are asked for, or why it is refused."""

    caller: Caller | None = None
    refusal: RequestRefused | None = None

    @property
    def manages(self) -> bool:
        """Whether it may change something."""
        return self.caller is not None and self.caller.manage


@implementer(IApplication)
class Admin:
    """
    The application behind the admin endpoint.

    :param pages: the pages of the apps.
    :param management: does what their buttons are for.
    :param keys: the keys that clients send; ``None`` if none is needed.
    """

    def __init__(
        self,
        health: HealthCheck,
        metrics: DaemonMetrics,
        status: StatusPage,
        pages: AppPage,
        management: Management,
        keys: IKeys | None = None,
    ) -> None:
        self._health = health
        self._metrics = metrics
        self._status = status
        self._pages = pages
        self._management = management
        self._keys = keys
        self._files = {
            path: make_answer(200, (_STATIC / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()
        }
        self._routes: dict[bytes, Callable[[Request], Answer | Deferred[Answer]]] = {
            b"/": self._page,
            b"/events": self._events,
            b"/metrics": self._get_metrics,
            b"/readyz": self._readyz,
            b"/healthz": self._healthz,
        }

    # IApplication

    def begun(self, request: Request) -> Answer | None:
        """
        Check the key; whether it is needed depends on the path, see :meth:`received`.

        Only who may manage apps sends more than a short form.
        """
        try:
            access = _Access(self._caller(request))
        except RequestRefused as refusal:
            access = _Access(refusal=refusal)
        request.context = access
        most = MOST_UPLOADED if access.manages else MOST
        if request.length is None:
            fault = "" if access.manages else "the form does not say how long it is"
        else:
            fault = f"the form is longer than {most} bytes" if request.length > most else ""
        return refused(request, access.refusal or TooLarge(fault)) if fault else None

    def received(self, request: Request) -> Answer | Deferred[Answer]:
        """Answer a request."""
        refusal = request.context.refusal
        if refusal is None:
            request.mark_authenticated()
        app = app_of(request.path)
        route = self._routes.get(request.path)
        if route is None and app is None and request.path not in self._files:
            return make_error(request, 404, "there is nothing at this path")
        allowed = _METHODS if app is None else (*_METHODS, b"POST")
        if request.method not in allowed:
            methods = b", ".join(allowed)
            return make_error(request, 405, f"allowed here: {methods.decode()}", ((b"Allow", methods),))
        if app is not None:
            return Deferred.fromCoroutine(self._app(request, app))
        if refusal is not None and request.path not in (b"/healthz", b"/readyz"):
            return refused(request, refusal)
        return self._files[request.path] if route is None else route(request)

    def fault(self, status: int, message: str, request: Request | None = None) -> Answer:
        """See :meth:`IApplication.fault`; people get a page."""
        return make_error(request, status, message)

    # Routes.

    def _page(self, request: Request) -> Deferred[Answer]:
        return self._status.html(_query(request)).addCallback(lambda page: make_answer(200, page, HTML))

    def _events(self, request: Request) -> Answer | Deferred[Answer]:
        if request.method == b"HEAD":
            return make_answer(200, b"", KIND)
        if self._status.subscribers.full:
            return make_error(request, 503, "too many browsers show the status page", ((b"Retry-After", b"30"),))
        self._status.subscribers.add(request, _query(request))
        return Deferred()  # never fires: the subscribers write the response

    async def _app(self, request: Request, app: str) -> Answer:
        """Answer with the page of an app, or do what its form asks for; people get a page, whatever comes of it."""
        try:
            return await self._asked(request, app)
        except RequestRefused as refusal:
            return refused(request, refusal)

    async def _asked(self, request: Request, app: str) -> Answer:
        access = request.context
        if access.refusal is not None:
            raise access.refusal
        form = read_form(request, uploads=access.manages) if request.method == b"POST" else {}
        action = text(form, "action") or "look"
        if action == "look":
            what = text(form, "what") if form else None
            return make_answer(200, await self._pages.html(app, manage=access.manages, what=what), HTML)
        if not access.manages:
            raise NotAllowed("this needs a key that may manage apps")
        await self._pages.check(app)
        await self._management.perform(action, app, access.caller, form)
        self._health.expire()
        return make_answer(303, b"", HTML, ((b"Location", quote(app).encode()),))

    def _get_metrics(self, request: Request) -> Deferred[Answer]:
        rendered = self._health.overview().addCallback(self._metrics.render, self._health.speaks_for_all())
        return rendered.addCallback(lambda text: make_answer(200, text, CONTENT_TYPE))

    def _readyz(self, request: Request) -> Deferred[Answer]:
        def answer(found: Readiness) -> Answer:
            told: dict[str, object] = {"ready": found.ready}
            if request.context.refusal is None:
                told["reasons"] = [*found.faults, *found.concerns]
                told |= {"node": found.node} if found.node else {}
            return make_json(200 if found.ready else 503, told)

        return self._health.readiness().addCallback(answer)

    def _healthz(self, request: Request) -> Answer:
        return make_json(200, {"alive": True})

    # Keys.

    def _caller(self, request: Request) -> Caller | None:
        """Identify the caller, ``None`` where no keys are asked for; raises :exc:`RequestRefused`."""
        if self._keys is None:
            return None
        caller = self._keys.check(_key(request))
        if caller.feedback is None or caller.manage:
            return caller
        raise NotAllowed("the key may not read the outcomes of all apps")


def _query(request: Request) -> Query:
    return Query.parse(request.uri.partition(b"?")[2])


def _key(request: Request) -> str:
    """Return the key: a bearer token, or the password of a browser's login."""
    key = bearer_token(request.authorization) or basic_password(request.authorization)
    if not key:
        raise NotAuthenticated("a key is required")
    return key
