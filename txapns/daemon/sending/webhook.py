"""
Dead tokens, told to another program as they become known.

::

    POST /the/path HTTP/1.1
    Content-Type: application/json
    Txapns-Timestamp: 1700000000
    Txapns-Signature: v1=0d7c…

    {"dead_tokens": [{"cursor": 17, "app": "chess", "token": "0a1b…", "reason": "Unregistered",
                      "timestamp": 1699990000.0, "noted_at": 1700000000.0}]}

The signature is the HMAC-SHA256, in hexadecimal, of the timestamp, a full stop and the body, with the secret that both
sides know. The receiver makes the same, compares the two in constant time, and refuses what is older than some minutes;
so nobody else can tell it anything, and what somebody recorded is soon worth nothing.

Any status from 200 to 299 says that the receiver has stored them. Only then does the position in the feedback log move
on, which is in the database: whatever else happens, the same come again, after growing pauses, and also after a
restart. So the receiver may see a token twice, with the same cursor, and never misses one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, FirstError, gatherResults, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    ResponseFailed,
    _HTTP11ClientFactory,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from txapns._network.alarm import Alarm
from txapns._network.backoff import Backoff
from txapns._network.clocks import wall_clock
from txapns._network.trust import platform_trust
from txapns._texts import first_line
from txapns.daemon.errors import ConfigurationError, DaemonError
from txapns.daemon.interfaces import IFeedbackLog
from txapns.daemon.secrets.master_key import read_private
from txapns.daemon.values import FeedbackEntry

__all__ = ["Webhook", "WebhookConfig", "WebhookState", "read_secret", "sign"]

_log = Logger()

#: The first and the longest pause after what did not go well, in seconds.
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 900.0
#: How far the dead tokens of an app are counted that are still to be told.
COUNTED = 100_000


@attrs.frozen
class WebhookConfig:
    """
    Where dead tokens are told.

    :ivar name: what it is called. How far it has been told is kept under the name.
    :ivar url: receives the POST. It may have a secret in it, and is not logged.
    :ivar secret: reads the secret of the signature, each time that there may be something to tell.
    :ivar apps: the names of the apps whose tokens are told; empty for those of all.
    :ivar batch: the most tokens in one POST.
    :ivar timeout: how long an answer may take, in seconds.
    :ivar give_up: after how many seconds without success it is not tried any more, until the next start.
    """

    name: str
    url: str = attrs.field(repr=False)
    secret: Callable[[], bytes] = attrs.field(repr=False)
    apps: tuple[str, ...] = ()
    batch: int = 500
    timeout: float = 10.0
    give_up: float = 259_200.0


@attrs.frozen
class WebhookState:
    """
    How a webhook fares.

    :ivar name: its name.
    :ivar told: how many tokens it was told since the start.
    :ivar failing_since: since when it cannot be told, by the reactor's clock; ``None`` where it can.
    :ivar reason: why, for a person.
    :ivar gave_up: whether it is not tried any more.
    """

    name: str
    told: int = 0
    failing_since: float | None = None
    reason: str = ""
    gave_up: bool = False


def read_secret(path: Path) -> bytes:
    """
    Read the secret of a signature.

    :param path: the file, whose first line it is.
    :raises ConfigurationError: it cannot be read, or others can read it, or it is empty.
    """
    secret = first_line(read_private(path))
    if not secret.strip():
        raise ConfigurationError(f"{path} is empty")
    return secret


def sign(secret: bytes, timestamp: int, body: bytes) -> str:
    """
    Make a signature.

    :param secret: the secret.
    :param timestamp: the time, in UNIX seconds.
    :param body: the body of the POST.
    :returns: what stands in ``Txapns-Signature``.
    """
    return "v1=" + hmac.new(secret, b"%d." % timestamp + body, hashlib.sha256).hexdigest()


class _Refused(Exception):
    """The receiver answered, and it was not yes."""


@implementer(IBodyProducer)
class _Body:
    """A body that is there already."""

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write it."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """All is written already."""

    def resumeProducing(self) -> None:
        """All is written already."""

    def stopProducing(self) -> None:
        """All is written already."""


class _Discarded(Protocol):
    """A body that nobody reads."""

    def connectionMade(self) -> None:
        """Whatever it says, and however long, the status was the answer."""
        assert self.transport is not None
        self.transport.loseConnection()


class _QuietFactory(_HTTP11ClientFactory):
    """Two lines in the log for each POST, to say that it began and that it is over, would help nobody."""

    noisy = False


def _pool(reactor: Any) -> HTTPConnectionPool:
    pool = HTTPConnectionPool(reactor, persistent=False)
    pool._factory = _QuietFactory
    return pool


class Webhook:
    """
    Tells dead tokens to one receiver.

    :param reactor: the reactor.
    :param log: the feedback log.
    :param hook: the receiver.
    :param agent: what makes the request; left out, one that verifies the receiver's certificate and follows no
        redirect.
    :param random: where the chance in the pauses comes from.
    """

    def __init__(
        self,
        reactor: Any,
        log: IFeedbackLog,
        hook: WebhookConfig,
        agent: IAgent | None = None,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._reactor = reactor
        self._wall = wall_clock(reactor)
        self._log = log
        self._hook = hook
        self._agent = agent or Agent(
            reactor,
            BrowserLikePolicyForHTTPS(platform_trust().root()),
            connectTimeout=hook.timeout,
            pool=_pool(reactor),
        )
        self._pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE, random=random)
        self._retry = Alarm(reactor, self.wake)
        self._running: Deferred[None] | None = None
        self._again = False
        self._stopped = True
        self._state = WebhookState(hook.name)

    @property
    def _reader(self) -> str:
        return f"webhook:{self._hook.name}"

    @property
    def state(self) -> WebhookState:
        """How it fares."""
        return self._state

    def backlog(self) -> Deferred[int]:
        """
        Count the dead tokens that it has still to be told.

        :returns: a ``Deferred`` of their number; for each app not more than :data:`COUNTED`.
        :raises Unavailable: the database cannot be read now.
        """
        counts = [self._log.behind(app, self._reader, COUNTED) for app in self._hook.apps or (None,)]
        return gatherResults(counts, consumeErrors=True).addErrback(_first).addCallback(sum)

    def start(self) -> None:
        """Begin with what it was not told before."""
        self._stopped = False
        self.wake()

    def wake(self, app: str | None = None) -> None:
        """
        Look for something to tell, unless that is put off since it did not go well.

        :param app: whose tokens became known; ``None`` for any.
        """
        if app is not None and self._hook.apps and app not in self._hook.apps:
            return
        self._again = True
        if self._running is None and not self._retry.is_set and not self._stopped and not self._state.gave_up:
            self._running = Deferred.fromCoroutine(self._tell_all())
            self._running.addErrback(self._failed).addBoth(self._ended)

    def stop(self) -> None:
        """Tell no more. What is under way is broken off, and told again after the next start."""
        self._stopped = True
        self._retry.cancel()
        if self._running is not None:
            self._running.cancel()

    async def _tell_all(self) -> None:
        while self._again:
            self._again = False
            secret = self._hook.secret()
            for app in self._hook.apps or (None,):
                await self._tell(app, secret)

    async def _tell(self, app: str | None, secret: bytes) -> None:
        while dead := await self._log.take(app, self._reader, self._hook.batch):
            await self._post(dead, secret)
            await self._log.confirm(app, self._reader, dead[-1].cursor)
            self._succeeded(len(dead))

    async def _post(self, dead: Sequence[FeedbackEntry], secret: bytes) -> None:
        """
        Tell these.

        :raises Exception: they are not known to be stored.
        """
        body = _body(dead)
        timestamp = int(self._wall.now())
        headers = Headers(
            {
                "Content-Type": ["application/json"],
                "User-Agent": ["txapns"],
                "Txapns-Timestamp": [str(timestamp)],
                "Txapns-Signature": [sign(secret, timestamp, body)],
            }
        )
        posting: Deferred[IResponse] = self._agent.request(b"POST", self._hook.url.encode(), headers, _Body(body))
        response = await posting.addTimeout(self._hook.timeout, self._reactor, _too_late)
        response.deliverBody(_Discarded())
        if 300 <= response.code < 400:
            raise _Refused(f"the receiver answered {response.code}; redirects are not followed")
        if not 200 <= response.code < 300:
            raise _Refused(f"the receiver answered {response.code}")

    def _succeeded(self, count: int) -> None:
        if self._state.failing_since is not None:
            _log.info("Webhook {name} can be told again", name=self._hook.name)
        self._state = WebhookState(self._hook.name, self._state.told + count)
        self._pauses.reset()

    def _failed(self, failure: Failure) -> None:
        if self._stopped:
            return
        reason, now = _reason(failure), self._reactor.seconds()
        since = self._state.failing_since
        if since is None:
            since = now
            _log.warn("Webhook {name} cannot be told: {reason}", name=self._hook.name, reason=reason)
        gave_up = now - since >= self._hook.give_up
        self._state = attrs.evolve(self._state, failing_since=since, reason=reason, gave_up=gave_up)
        if gave_up:
            _log.error("Webhook {name} is given up until the next start: {reason}", name=self._hook.name, reason=reason)
        else:
            self._retry.set(self._pauses.next_delay())

    def _ended(self, result: None) -> None:
        self._running = None
        if self._again:
            self.wake()


def _first(failure: Failure) -> Failure:
    """Take the failure out of what ``gatherResults`` puts around it."""
    return failure.value.subFailure if isinstance(failure.value, FirstError) else failure


def _too_late(result: object, timeout: float) -> Failure:
    """Say that the time is over, whatever the agent makes of being cancelled."""
    return Failure(_Refused(f"the receiver did not answer within {timeout:g} s"))


def _body(dead: Sequence[FeedbackEntry]) -> bytes:
    tokens = [
        {
            "cursor": each.cursor,
            "app": each.app,
            "token": each.token.hex(),
            "reason": each.reason,
            "timestamp": each.timestamp,
            "noted_at": each.noted_at,
        }
        for each in dead
    ]
    return json.dumps({"dead_tokens": tokens}, separators=(",", ":")).encode()


def _reason(failure: Failure) -> str:
    """Say what went wrong, without what may have the address in it."""
    error = failure.value
    if isinstance(error, _Refused | DaemonError):
        return str(error)
    if isinstance(error, ResponseFailed) and error.reasons:
        return f"the connection broke off ({error.reasons[0].type.__name__})"
    return f"the receiver cannot be reached ({type(error).__name__})"
