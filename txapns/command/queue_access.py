"""
How ``txapns queue`` reaches the queue: in the database, unless that is SQLite's and a daemon has it open.

With SQLite the running daemon keeps the leases in memory, so only it can change its queue. With PostgreSQL the leases
are in the database.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Awaitable, Container
from io import BytesIO
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, FileBodyProducer, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IResponse
from zope.interface import Interface, implementer

from txapns._network.http_client import http_agent
from txapns._network.tls import explain
from txapns._network.trust import given_trust, platform_trust
from txapns.daemon.config.sections import NativeSection
from txapns.daemon.errors import ConfigurationError, NotAnswered, UnknownApp
from txapns.daemon.faces.native.json_api import ErrorBody
from txapns.daemon.faces.native.queue import LISTED, Queued, queued
from txapns.daemon.store.store import IVisitedStore

__all__ = ["IQueueAccess", "RemoteQueue", "StoredQueue", "address", "agent"]

_CONNECT = 10.0  # seconds to wait for a connection
_TIMEOUT = 60.0  # seconds to wait for an answer, which takes a transaction of many rows at most


_S = TypeVar("_S", bound=Struct)


class IQueueAccess(Interface):
    """A daemon's queue."""

    def listed(app: str, state: str, limit: int, after: int) -> Awaitable[list[Queued]]:
        """List at most ``limit`` notifications of an app in a state, after that with the cursor ``after``."""

    def retry(app: str, limit: int) -> Awaitable[int]:
        """Try at most ``limit`` dead letters again; returns how many there were."""

    def purge(app: str, state: str, limit: int) -> Awaitable[int]:
        """Delete at most ``limit`` notifications in a state; returns how many there were."""


@implementer(IQueueAccess)
class StoredQueue:
    """
    The queue in a database that is open.

    :param configured: the names of the apps in the configuration.
    """

    def __init__(self, store: IVisitedStore, configured: Container[str]) -> None:
        self._outcomes = store.outcomes
        self._apps = store.apps
        self._configured = configured

    async def listed(self, app: str, state: str, limit: int, after: int) -> list[Queued]:
        """See :meth:`IQueueAccess.listed`."""
        await self._check(app)
        return [queued(entry) for entry in await self._outcomes.listed(app, LISTED[state], limit, after)]

    async def retry(self, app: str, limit: int) -> int:
        """See :meth:`IQueueAccess.retry`."""
        await self._check(app)
        return await self._outcomes.retry(app, limit)

    async def purge(self, app: str, state: str, limit: int) -> int:
        """See :meth:`IQueueAccess.purge`."""
        await self._check(app)
        return await self._outcomes.purge(app, LISTED[state], limit)

    async def _check(self, app: str) -> None:
        """Refuse a name that no app ever had, as the daemon does."""
        if app in self._configured or await self._outcomes.seen(app):
            return
        await self._apps.start()
        if await self._apps.read(lambda table: table.created_at(app)) is None:
            raise UnknownApp(f"there is no app {app}")


class _Queue(Struct):
    """The answer to a request to list."""

    notifications: list[Queued]


class _Count(Struct):
    """The answer to a request to change something."""

    count: int


class _Body(Protocol):
    """Collects an answer. Twisted's own ``readBody`` works only with TCP."""

    def __init__(self) -> None:
        self.complete: Deferred[bytes] = Deferred()
        self._pieces: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self._pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.complete.called:
            return
        if reason.check(ResponseDone):
            self.complete.callback(b"".join(self._pieces))
        else:
            self.complete.errback(reason)


@implementer(IQueueAccess)
class RemoteQueue:
    """
    The queue of a running daemon.

    :param url: the URL of its HTTP API, or ``unix:PATH`` for a socket.
    :param key: an API key; ``None`` for none.
    """

    def __init__(self, reactor: IReactorTime, agent: IAgent, url: str, key: str | None) -> None:
        self._reactor = reactor
        self._agent = agent
        self._given = url
        self._keyless = key is None
        self._url = "http://localhost" if url.startswith(_UNIX) else url.rstrip("/")
        self._headers = {"Content-Type": ["application/json"], "User-Agent": ["txapns"]}
        if key is not None:
            self._headers["Authorization"] = [f"Bearer {key}"]

    async def listed(self, app: str, state: str, limit: int, after: int) -> list[Queued]:
        """See :meth:`IQueueAccess.listed`."""
        path = f"queue?state={state}&limit={limit}&after={after}"
        return (await self._ask(_Queue, b"GET", app, path)).notifications

    async def retry(self, app: str, limit: int) -> int:
        """See :meth:`IQueueAccess.retry`."""
        return (await self._ask(_Count, b"POST", app, "queue/retry", {"limit": limit})).count

    async def purge(self, app: str, state: str, limit: int) -> int:
        """See :meth:`IQueueAccess.purge`."""
        return (await self._ask(_Count, b"POST", app, "queue/purge", {"state": state, "limit": limit})).count

    async def _ask(self, kind: type[_S], method: bytes, app: str, path: str, question: object = None) -> _S:
        url = f"{self._url}/v1/apps/{quote(app, safe='')}/{path}"
        producer = None if question is None else FileBodyProducer(BytesIO(msgspec.json.encode(question)))
        try:
            asking: Deferred[IResponse] = self._agent.request(method, url.encode(), Headers(self._headers), producer)
            response = await asking.addTimeout(_TIMEOUT, self._reactor)
            body = _Body()
            response.deliverBody(body)
            answer = await body.complete.addTimeout(_TIMEOUT, self._reactor)
            if response.code == 200:
                return msgspec.json.decode(answer, type=kind)
            error = msgspec.json.decode(answer, type=ErrorBody).error
        except msgspec.DecodeError:
            raise NotAnswered(f"what answers at {self._given} is not a txapns daemon") from None
        except Exception as failure:
            raise NotAnswered(_words(self._given, failure)) from failure
        advice = "; give --key-file, or set TXAPNS_KEY" if response.code == 401 and self._keyless else ""
        raise NotAnswered(f"the daemon refused it with {response.code}: {error.message}{advice}")


def _words(url: str, failure: Exception) -> str:
    """Say what went wrong: the agent wraps some errors."""
    if isinstance(failure, defer.TimeoutError):
        return f"the daemon at {url} cannot be asked: there was no answer within {_TIMEOUT:g} s"
    reasons = getattr(failure, "reasons", None)
    error = reasons[0].value if reasons else failure
    if isinstance(error, ConnectError):
        words = os.strerror(error.osError) if error.osError else str(error)
        return f"no connection to the daemon at {url}: {words}; is it running?"
    if isinstance(error, SSL.Error | VerificationError | CertificateError):
        return f"no connection to the daemon at {url}: {explain(error)}"
    return f"the daemon at {url} cannot be asked: {error}"


_UNIX = "unix:"


@implementer(IAgentEndpointFactory)
class _Socket:
    """Sends every request to one socket."""

    def __init__(self, reactor: Any, path: str) -> None:
        self._reactor = reactor
        self._path = path

    def endpointForURI(self, uri: URI) -> UNIXClientEndpoint:
        return UNIXClientEndpoint(self._reactor, self._path)


def agent(reactor: Any, url: str, trust_root: bytes | None = None) -> IAgent:
    """
    Make an agent that sends requests to a daemon.

    :param url: the URL of its HTTP API.
    :param trust_root: PEM of the authorities to trust; ``None`` for the platform's.
    :raises CredentialError: they cannot be read.
    :raises ConfigurationError: the URL is of another kind.
    """
    if url.startswith(_UNIX):
        found: IAgent = Agent.usingEndpointFactory(reactor, _Socket(reactor, url.removeprefix(_UNIX)))
        return found
    if not url.lower().startswith(("http://", "https://")):
        raise ConfigurationError("--url must begin with http://, https:// or unix:")
    trust = platform_trust() if trust_root is None else given_trust(trust_root)
    return http_agent(reactor, trust, _CONNECT)


def address(section: NativeSection) -> str:
    """
    Find the URL of a daemon's HTTP API.

    :returns: its URL, or a socket as ``unix:PATH``.
    :raises ConfigurationError: the configuration does not say.
    """
    for endpoint in section.listen:
        kind, *arguments = (part.replace("\\", "") for part in re.split(r"(?<!\\):", endpoint))
        given = {"interface": "", "port": "0", "address": ""}
        first = "address" if kind == "unix" else "port"
        for argument in arguments:
            name, equals, value = argument.partition("=")
            given.update({name: value} if equals else {first: argument})
        if section.tls is None and kind == "unix":
            return f"{_UNIX}{given['address']}"
        if section.tls is None and kind in ("tcp", "tcp6") and given["port"] != "0":
            return f"http://{_host(given['interface'])}:{given['port']}"
    raise ConfigurationError("the configuration does not say at which address intake.native can be asked: give --url")


def _host(interface: str) -> str:
    """Find the host at which an interface can be reached from this machine."""
    if not interface:
        return "127.0.0.1"
    every = ipaddress.ip_address(interface)
    host = every if not every.is_unspecified else "127.0.0.1" if every.version == 4 else "::1"
    return f"[{host}]" if ":" in str(host) else str(host)
