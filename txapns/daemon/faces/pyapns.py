"""
The face of pyapns: XML-RPC over HTTP/1.1, ``POST /``, with the three calls of pyapns 0.4.

::

    provision(app, certificate, environment, timeout=15)    add the app, or replace its certificate
    notify(app, token, dictionary)                          accept a notification
    notify(app, [token, …], [dictionary, …])                accept several: all, or none
    feedback(app)                                           [[time, token], …], each once

``notify`` answers when the notifications are on the disk, ``provision`` when the app is; so the app survives a restart.
pyapns ignored a second certificate; this face accepts it. The certificate is the text of a PEM with its key. The name
of a file on this machine is refused, unless the configuration allows it. Times are in UTC.

Faults have the numbers of pyapns: 404 if the app is not provisioned, which makes its client provision it and try again;
401 for an unknown environment; 500 for what cannot be done now; 8001 for an unknown method; 8002 for everything else
that is wrong with a call. 403 is new: the key does not allow it.

A caller shows a key of the daemon as the password of HTTP's Basic authentication. Clients that know nothing but a host,
a port and a path, as pyapns' own, give it as the first part of the path, ``/txapns_…/``; it is removed from the path
before anything else sees it. To add an app, the key must allow ``manage``; to call ``provision`` with the certificate
that the app has already, it must allow sending for the app.

A request must declare itself as XML, which no web page can make a browser do without asking the server first. The XML
is not trusted: a document type is refused, and with it everything that expands or refers to other places.
"""

from __future__ import annotations

import inspect
import re
import xmlrpc.client
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.parsers import expat

from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns import payload as payloads
from txapns._network.clocks import IWallClock
from txapns._serving.authorization import basic_password
from txapns._serving.http import Answer, IApplication, Request
from txapns.credentials import Credential
from txapns.daemon.apps import Apps
from txapns.daemon.config.sections import PyapnsSection
from txapns.daemon.errors import (
    AppQueueFull,
    ConfigurationError,
    DaemonError,
    NotAllowed,
    NotAuthenticated,
    RequestRefused,
    Unavailable,
    UnknownApp,
)
from txapns.daemon.faces.callers import default_headers, take_key
from txapns.daemon.interfaces import IFeedbackLog, IIntake, IKeys
from txapns.daemon.secrets.credentials import read_certificate
from txapns.daemon.secrets.master_key import read_private
from txapns.daemon.secrets.opening import opened
from txapns.daemon.store.apps import AppSettings
from txapns.daemon.values import ANYBODY, App, Draft, Environment, FeedbackEntry
from txapns.errors import APNSError, CredentialError, InvalidPayload

__all__ = ["LIMIT", "READER", "Pyapns"]

#: The name under which ``feedback`` reads the feedback log.
READER = "pyapns"
#: The largest number of dead tokens that one call of it lists; the next call lists more.
LIMIT = 10_000

_ENVIRONMENTS = ("sandbox", "production")
_READERS = 10  # callers that may wait for the dead tokens of an app
_NO_SUCH_METHOD, _WRONG = 8001, 8002  # the numbers of Twisted's XML-RPC server, with which pyapns was made
# The elements of a call in XML-RPC; and the greatest depth of a payload, far more than Apple accepts.
_STRUCTURE = {"methodCall", "methodName", "params", "param", "value", "array", "data", "struct", "member", "name"}
_SCALARS = {"nil", "boolean", "int", "i4", "i8", "double", "string", "dateTime.iso8601", "base64"}
_ELEMENTS = frozenset(_STRUCTURE | _SCALARS)
_MAX_DEPTH = 256
_TEXT = b"text/xml; charset=utf-8"
_KINDS = (b"text/xml", b"application/xml")
_UNSEEN = re.compile(r"\s+")

_log = Logger()


@implementer(IApplication)
class Pyapns:
    """
    Answers requests of the pyapns face.

    :param keys: the daemon's keys; ``None`` if none are required.
    """

    def __init__(
        self,
        wall: IWallClock,
        intake: IIntake,
        apps: Apps,
        keys: IKeys | None,
        feedback: IFeedbackLog,
        options: PyapnsSection,
    ) -> None:
        self._wall = wall
        self._intake = intake
        self._apps = apps
        self._keys = keys
        self._feedback = feedback
        self._options = options
        self._reading: dict[str, DeferredLock] = {}
        self._calls: Mapping[str, Callable[..., Any]] = {
            "provision": self._provision,
            "notify": self._notify,
            "feedback": self._list,
        }

    # IApplication

    def begun(self, request: Request) -> Answer | None:
        """Authenticate the caller."""
        shown = take_key(request) or basic_password(request.authorization) or ""
        if self._keys is None:
            request.context = ANYBODY
            return None
        try:
            request.context = self._keys.check(shown)
        except NotAuthenticated as refusal:
            return Answer(401, str(refusal).encode(), [(b"WWW-Authenticate", b'Basic realm="txapns"')], b"text/plain")
        request.mark_authenticated()
        return None

    def received(self, request: Request) -> Answer | Deferred[Answer]:
        """Call the method that the request names."""
        request.mark_authenticated()
        if request.path not in (b"/", b"/RPC2", b"/RPC2/"):  # the default paths of common clients
            return self.fault(404, "XML-RPC is at /")
        if request.method != b"POST":
            return Answer(405, b"XML-RPC requests are POST requests\n", [(b"Allow", b"POST")], b"text/plain")
        if (request.single(b"Content-Type") or b"").partition(b";")[0].strip().lower() not in _KINDS:
            return self.fault(415, "the Content-Type of XML-RPC is text/xml")
        try:
            name, arguments = _call_of(request.body)
        except xmlrpc.client.Fault as fault:
            return _answer(fault)
        call = self._calls.get(name)
        if call is None:
            return _answer(xmlrpc.client.Fault(_NO_SUCH_METHOD, "there is no such method"))
        try:
            inspect.signature(call).bind(request, *arguments)
        except TypeError:
            return _answer(_wrong("the method has other parameters"))
        return maybeDeferred(call, request, *arguments).addErrback(_fault).addCallback(_answer)

    def fault(self, status: int, message: str, request: Request | None = None) -> Answer:
        """See :meth:`IApplication.fault`."""
        return Answer(status, f"{message}\n".encode(), kind=b"text/plain")

    # Methods

    def _provision(
        self, request: Request, app_id: str, certificate: str, environment: str, timeout: int = 15
    ) -> Deferred[None]:
        _check_texts(app_id, certificate)
        if environment not in _ENVIRONMENTS:
            raise xmlrpc.client.Fault(401, "the environment must be sandbox or production")
        caller = request.context
        if not (caller.manage or caller.may_send(app_id)):
            raise NotAllowed("the key does not allow sending for this app")

        def provision(credential: Credential) -> Deferred[Any] | None:
            known = self._known(app_id)
            change = self._change(app_id, environment, credential, known, caller.name)
            if change is None:
                return None
            if not (caller.manage or caller is ANYBODY):
                raise NotAllowed("to add an app or replace its certificate, the key must allow manage")
            if known is not None and known.source == "file":
                raise NotAllowed("the app is in the configuration, and can be changed only there")
            return change()

        return self._apps.read(lambda: self._credential(certificate)).addCallback(provision).addCallback(lambda _: None)

    def _credential(self, certificate: str) -> Credential:
        data = certificate.encode()
        if "BEGIN CERTIFICATE" not in certificate:
            if not self._options.allow_paths:
                raise _wrong("send the text of the certificate: file names are not allowed here")
            data = read_private(Path(certificate))
        return read_certificate(opened(data, None), None, self._now())

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall.now(), timezone.utc)

    def _known(self, app_id: str) -> App | None:
        try:
            return self._apps.get(app_id)
        except RequestRefused:
            return None  # it does not exist or cannot be used: it is added

    def _change(
        self, app_id: str, environment: str, credential: Credential, known: App | None, caller: str
    ) -> Callable[[], Deferred[Any]] | None:
        """Choose what to do; ``None`` for nothing."""
        if known is not None and known.sandbox is not None:
            side = Environment[environment.upper()]
            if known.sides[side].credential == credential:
                return None
            return lambda: self._apps.rotate(app_id, credential, side, caller=caller)
        if known is None or known.gateway.host in _others(environment):
            return lambda: self._apps.put(app_id, _settings(environment, known), credential, caller=caller)
        # An app with a gateway of its own keeps it, as it keeps everything else that the operator has set.
        if known.credential == credential:
            return None
        return lambda: self._apps.rotate(app_id, credential, caller=caller)

    def _notify(self, request: Request, app_id: str, tokens: object, notifications: object) -> Deferred[None]:
        _check_texts(app_id)
        if not request.context.may_send(app_id):
            raise NotAllowed("the key does not allow sending for this app")
        app = self._apps.get(app_id)
        drafts = _drafts(_pairs(tokens, notifications), default_headers(app))
        if not drafts:
            return maybeDeferred(lambda: None)
        return self._intake.accept(app_id, drafts, caller=request.context).addCallback(lambda _: None)

    def _list(self, request: Request, app_id: str) -> Deferred[list[Any]]:
        _check_texts(app_id)
        if not request.context.may_read(app_id):
            raise NotAllowed("the key does not allow reading the dead tokens of this app")
        self._apps.get(app_id)
        # One reader after the other: otherwise two would get the same tokens.
        lock = self._reading.setdefault(app_id, DeferredLock())
        if len(lock.waiting) >= _READERS:
            raise Unavailable("too many callers are reading the dead tokens of this app", 1)
        return lock.acquire().addCallback(lambda _: self._read(app_id, lock, request))

    def _read(self, app_id: str, lock: DeferredLock, request: Request) -> Deferred[list[Any]]:
        if request.gone:
            lock.release()
            return succeed([])
        answered: Deferred[Any] = request.ended()
        read = self._feedback.take(app_id, READER, LIMIT)

        def listed(dead: Sequence[FeedbackEntry]) -> list[Any]:
            if dead:
                answered.addCallback(lambda _: self._feedback.confirm(app_id, READER, dead[-1].cursor))
            answered.addErrback(_listed_again, app_id).addBoth(lambda _: lock.release())
            return [[_time(each.timestamp), each.token.hex()] for each in dead]

        def failed(reason: Failure) -> Failure:
            answered.addErrback(lambda _: None)
            lock.release()
            return reason

        return read.addCallbacks(listed, failed)


def _wrong(message: str) -> xmlrpc.client.Fault:
    return xmlrpc.client.Fault(_WRONG, message)


def _check_texts(*texts: object) -> None:
    if not all(isinstance(text, str) for text in texts):
        raise _wrong("the app and the certificate must be strings")


def _settings(environment: str, known: App | None) -> AppSettings:
    if known is None:
        return AppSettings(gateway=environment)
    return AppSettings(
        gateway=environment,
        topic=known.topic,
        push_type=known.push_type,
        callers=tuple(sorted(known.callers)),
        outcomes=known.outcomes,
    )


def _others(environment: str) -> tuple[str, ...]:
    """List the hosts of Apple's other environment."""
    hosts = {"sandbox": "api.sandbox.push.apple.com", "production": "api.push.apple.com"}
    return tuple(host for name, host in hosts.items() if name != environment)


def _pairs(tokens: object, notifications: object) -> list[tuple[object, object]]:
    if isinstance(tokens, str) and isinstance(notifications, dict):
        return [(tokens, notifications)]
    if not isinstance(tokens, list) or not isinstance(notifications, list):
        raise _wrong("give a token and a dictionary, or a list of tokens and a list of dictionaries")
    if len(tokens) != len(notifications):
        raise _wrong(f"there are {len(tokens)} tokens and {len(notifications)} dictionaries")
    return list(zip(tokens, notifications, strict=True))


def _drafts(pairs: Sequence[tuple[object, object]], headers: Mapping[str, str]) -> list[Draft]:
    """Combine consecutive notifications that are equal."""
    encoded = [(_payload(notification, n), _token(token, n)) for n, (token, notification) in enumerate(pairs)]
    return [
        Draft(payload, headers, [token for _, token in equal])
        for payload, equal in groupby(encoded, lambda each: each[0])
    ]


def _token(text: object, position: int) -> bytes:
    try:
        token = bytes.fromhex(_UNSEEN.sub("", text)) if isinstance(text, str) else b""
    except ValueError:
        token = b""
    if not token:
        raise _wrong(f"token {position} is not hexadecimal")
    return token


def _payload(notification: object, position: int) -> bytes:
    if not isinstance(notification, dict):
        raise _wrong(f"notification {position} is not a dictionary")
    try:
        return payloads.encode(notification)
    except InvalidPayload as error:
        raise _wrong(f"notification {position}: {error}") from None


def _time(timestamp: float) -> xmlrpc.client.DateTime:
    return xmlrpc.client.DateTime(datetime.fromtimestamp(timestamp, timezone.utc).replace(tzinfo=None))


# XML-RPC


def _call_of(body: bytes) -> tuple[str, tuple[Any, ...]]:
    """Decode a call: the method's name and its arguments."""
    target = xmlrpc.client.Unmarshaller()
    target.xml("", None)  # it is given text, which needs no encoding
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if tag not in _ELEMENTS or depth > _MAX_DEPTH:
            raise _wrong(f"the call has an unknown element, or more than {_MAX_DEPTH} levels")
        target.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        target.end(tag)

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = target.data
    parser.StartDoctypeDeclHandler = _refuse_type
    try:
        parser.Parse(body, True)
        arguments: Any = target.close()
        name = target.getmethodname()
    except xmlrpc.client.Fault:
        raise
    except Exception:
        # The standard library raises many kinds of exceptions for a malformed call. All mean the same to the caller.
        raise _wrong("this is not an XML-RPC call") from None
    if not isinstance(name, str) or not isinstance(arguments, tuple):
        raise _wrong("this is not an XML-RPC call")
    return name, arguments


def _refuse_type(*arguments: object) -> None:
    raise _wrong("a call cannot have a document type")


def _answer(result: Any) -> Answer:
    value = result if isinstance(result, xmlrpc.client.Fault) else (result,)
    text = xmlrpc.client.dumps(value, methodresponse=True, allow_none=True)
    return Answer(200, text.encode(), kind=_TEXT)


_NUMBERS: Sequence[tuple[type[BaseException], int]] = (
    (UnknownApp, 404),
    (NotAllowed, 403),
    (AppQueueFull, 500),
    (Unavailable, 500),
    (RequestRefused, _WRONG),
    (CredentialError, _WRONG),
    (ConfigurationError, _WRONG),
    (DaemonError, 500),
    (APNSError, _WRONG),
)


def _fault(reason: Failure) -> xmlrpc.client.Fault:
    error = reason.value
    if isinstance(error, xmlrpc.client.Fault):
        return error
    number = next((number for kind, number in _NUMBERS if isinstance(error, kind)), None)
    if number is None:
        _log.failure("a call could not be answered", reason)
        return xmlrpc.client.Fault(500, "something went wrong in the daemon; its log says more")
    return xmlrpc.client.Fault(number, str(error))


def _listed_again(reason: Failure, app: str) -> None:
    _log.info("dead tokens of {app} will be listed again: {reason}", app=app, reason=reason.getErrorMessage())
